//! What people call tenants, items and each other; what a reader may not see has its id alone.

use std::collections::BTreeMap;

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
    for id in ids {
        if !names.contains_key(&id) {
            let found = app.store.tenant(by, id).await.map(|it| it.name.to_string());
            names.insert(id, or_id(found, id)?);
        }
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
    for id in ids {
        if !names.contains_key(&id) {
            let found = app.store.ci(by, id).await.map(|it| it.name.to_string());
            names.insert(id, or_id(found, id)?);
        }
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
    for id in ids {
        if let Ok(user) = id.parse::<UserId>()
            && !names.contains_key(id)
        {
            match app.store.user(by, user).await {
                Ok(found) => drop(names.insert(id.to_owned(), found.name.to_string())),
                Err(StoreError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(names)
}

/// What a thing is called; by its id where nobody told.
pub(super) fn of<I: Ord + ToString>(names: &Names<I>, id: &I) -> String {
    names.get(id).cloned().unwrap_or_else(|| id.to_string())
}

fn or_id(found: Result<String, StoreError>, id: impl ToString) -> Result<String, StoreError> {
    match found {
        Err(StoreError::NotFound { .. }) => Ok(id.to_string()),
        other => other,
    }
}
