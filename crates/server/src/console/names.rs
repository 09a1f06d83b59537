//! What people call tenants, items and each other; what a reader may not see has its id alone.

use std::collections::{BTreeMap, BTreeSet};

use domain::cloud::{CiId, TenantId, UserId};
use store::{Actor, StoreError};

use crate::App;

/// Names by ids.
pub(super) type Names<I> = BTreeMap<I, String>;

/// The tenants' among these.
pub(super) async fn tenants(
    app: &App,
    by: &Actor,
    ids: impl Iterator<Item = TenantId>,
) -> Result<Names<TenantId>, StoreError> {
    let mut names = Names::new();
    for id in ids.collect::<BTreeSet<_>>() {
        let found = app.store.tenant(by, id).await.map(|it| it.name.to_string());
        seen(&mut names, id, found)?;
    }
    Ok(names)
}

/// The items' among these.
pub(super) async fn items(
    app: &App,
    by: &Actor,
    ids: impl Iterator<Item = CiId>,
) -> Result<Names<CiId>, StoreError> {
    let mut names = Names::new();
    for id in ids.collect::<BTreeSet<_>>() {
        let found = app.store.ci(by, id).await.map(|it| it.name.to_string());
        seen(&mut names, id, found)?;
    }
    Ok(names)
}

/// The people's among these, as they stand in records.
pub(super) async fn people<'a>(
    app: &App,
    by: &Actor,
    ids: impl Iterator<Item = &'a str>,
) -> Result<Names<String>, StoreError> {
    let mut names = Names::new();
    for id in ids.collect::<BTreeSet<_>>() {
        if let Ok(user) = id.parse::<UserId>() {
            let found = app.store.user(by, user).await.map(|it| it.name.to_string());
            seen(&mut names, id.to_owned(), found)?;
        }
    }
    Ok(names)
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

/// Takes a name up that the reader may see.
fn seen<I: Ord>(
    names: &mut Names<I>,
    id: I,
    found: Result<String, StoreError>,
) -> Result<(), StoreError> {
    match found {
        Ok(name) => drop(names.insert(id, name)),
        Err(StoreError::NotFound { .. }) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}
