//! What people call tenants, items and each other; what a reader may not see has its id alone.

use std::collections::{BTreeMap, BTreeSet};

use domain::cloud::{CiId, GroupId, TenantId, UserId};
use maud::{Markup, html};
use store::{Actor, Ci, CiFilter, PageRequest, StoreError};

use crate::App;
use crate::problem::{Kind, Problem};

/// Items that one field offers.
const OFFERED: u16 = 300;

/// Names by ids.
pub(super) type Names<I> = BTreeMap<I, String>;

/// The tenants' among these.
pub(super) async fn tenants(
    app: &App,
    by: &Actor,
    ids: impl Iterator<Item = TenantId>,
) -> Result<Names<TenantId>, StoreError> {
    named(ids, |id| async move { Ok(app.store.tenant(by, id).await?.name.to_string()) }).await
}

/// The items' among these.
pub(super) async fn items(
    app: &App,
    by: &Actor,
    ids: impl Iterator<Item = CiId>,
) -> Result<Names<CiId>, StoreError> {
    named(ids, |id| async move { Ok(app.store.ci(by, id).await?.name.to_string()) }).await
}

/// The groups' among these.
pub(super) async fn groups(
    app: &App,
    by: &Actor,
    ids: impl Iterator<Item = GroupId>,
) -> Result<Names<GroupId>, StoreError> {
    named(ids, |id| async move { Ok(app.store.group(by, id).await?.name.to_string()) }).await
}

/// The people's among these, as they stand in records.
pub(super) async fn people<'a>(
    app: &App,
    by: &Actor,
    ids: impl Iterator<Item = &'a str>,
) -> Result<Names<String>, StoreError> {
    let ids = ids.filter_map(|id| id.parse::<UserId>().ok());
    let name = |id| async move { Ok(app.store.user(by, id).await?.name.to_string()) };
    let names = named(ids, name).await?;
    Ok(names.into_iter().map(|(id, name)| (id.to_string(), name)).collect())
}

/// What each of these is called that the reader may see, asked once.
async fn named<I: Ord + Copy, F: Future<Output = Result<String, StoreError>>>(
    ids: impl Iterator<Item = I>,
    name: impl Fn(I) -> F,
) -> Result<Names<I>, StoreError> {
    let mut names = Names::new();
    for id in ids.collect::<BTreeSet<_>>() {
        match name(id).await {
            Ok(name) => drop(names.insert(id, name)),
            Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(names)
}

/// The item that somebody names, by its name or its id; among a tenant's, where one is given.
pub(super) async fn item(
    app: &App,
    by: &Actor,
    tenant: Option<TenantId>,
    text: &str,
) -> Result<Ci, Problem> {
    let text = text.trim();
    if let Ok(id) = text.parse::<CiId>() {
        return Ok(app.store.ci(by, id).await?);
    }
    let filter = CiFilter { tenant, name: Some(text.to_owned()), ..CiFilter::default() };
    let request = PageRequest { after: None, limit: store::LONGEST_PAGE };
    let mut found = app.store.cis(by, &filter, &request).await?.items;
    found.retain(|it| it.name.as_str() == text);
    match (found.pop(), found.is_empty()) {
        (Some(item), true) => Ok(item),
        (Some(_), false) => {
            Err(Problem::new(Kind::Invalid, format!("several items are called `{text}`"))
                .help("name its id; its page tells it"))
        }
        (None, _) => Err(Problem::new(Kind::NotFound, format!("there is no item `{text}`"))
            .help("Items lists them all")),
    }
}

/// Items that a field offers, under this name.
pub(super) async fn item_list(
    app: &App,
    by: &Actor,
    tenant: Option<TenantId>,
    name: &str,
) -> Result<Markup, StoreError> {
    let filter = CiFilter { tenant, ..CiFilter::default() };
    let request = PageRequest { after: None, limit: OFFERED };
    let items = app.store.cis(by, &filter, &request).await?.items;
    Ok(html! { datalist id=(name) { @for it in &items { option value=(it.name) {} } } })
}

/// What a thing is called; by its id where nobody told.
pub(super) fn of<I: Ord + ToString>(names: &Names<I>, id: &I) -> String {
    names.get(id).cloned().unwrap_or_else(|| id.to_string())
}

/// A sentence with names in the place of ids.
pub(super) fn in_words(sentence: &str, tenants: &Names<TenantId>, items: &Names<CiId>) -> String {
    let word = |word: &str| {
        let id = word.trim_end_matches([',', '.', ':', ';']);
        let tenant = id.parse().ok().and_then(|id| tenants.get(&id));
        let name = tenant.or_else(|| id.parse().ok().and_then(|id| items.get(&id)));
        name.map_or_else(|| word.to_owned(), |name| format!("{name}{}", &word[id.len()..]))
    };
    sentence.split(' ').map(word).collect::<Vec<_>>().join(" ")
}
