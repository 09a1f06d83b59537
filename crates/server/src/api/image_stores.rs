//! `/image-stores`: images that lie in the cloud's own stores, and which of them are items.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use domain::cloud::{CiId, Slug};
use domain::source::SourceSettings;
use serde::Serialize;
use tokio::sync::Semaphore;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Listed, Path, Problems};
use crate::App;
use crate::gate::{Action, By};
use crate::image_stores;
use crate::problem::{Kind, Problem};

/// Stores that are asked at a time; whoever wants more waits.
static ASKING: Semaphore = Semaphore::const_new(2);

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(images))
}

/// A store of images of the cloud's, as the operator names it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ImageStore {
    #[schema(example = "rack-1")]
    name: String,
    /// `libvirt` or `openstack`.
    #[schema(example = "libvirt")]
    kind: &'static str,
}

/// An image of a store, as that tells of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StoredImage {
    /// By what it is known there.
    #[schema(example = "images/web.qcow2")]
    image: String,
    /// What people call it.
    #[schema(example = "web.qcow2")]
    name: String,
    /// Length of its file, in bytes.
    size: Option<u64>,
    /// `raw` or `qcow2`; null where it is left out.
    format: Option<String>,
    /// What tells what it is from what it was: its digest, or when it altered.
    version: Option<String>,
    /// Why it is left out, as the rest of a sentence.
    unfit: Option<String>,
    /// The item that it is; null where nobody knows what it holds.
    #[schema(value_type = Option<String>)]
    ci: Option<CiId>,
    /// What the item calls it among its sources.
    #[schema(value_type = Option<String>)]
    source: Option<Slug>,
}

/// List the stores of images that this control plane reads.
#[utoipa::path(get, path = "/image-stores", tag = "configuration",
    responses((status = 200, body = Listed<ImageStore>), Problems))]
async fn list(
    State(app): State<App>,
    _by: By<{ Action::CiPlace as usize }>,
) -> Result<Json<Listed<ImageStore>>, Problem> {
    let names = app.image_stores.names();
    let items = names.into_iter().map(|(name, kind)| ImageStore { name, kind }).collect();
    Ok(Json(Listed { items, next: None }))
}

/// Ask a store what images it holds, which may take minutes, and tell which of them are items.
#[utoipa::path(get, path = "/image-stores/{name}/images", tag = "configuration",
    params(("name" = String, Path)),
    responses((status = 200, body = Listed<StoredImage>), Problems))]
async fn images(
    State(app): State<App>,
    By(by): By<{ Action::CiPlace as usize }>,
    Path(name): Path<String>,
) -> Result<Json<Listed<StoredImage>>, Problem> {
    if !app.image_stores.names().iter().any(|(known, _)| *known == name) {
        return Err(Problem::not_found("store of images of this name")
            .help("`patchwright source stores` lists those that `up --image-stores` names"));
    }
    let mut taken = BTreeMap::new();
    for source in app.store.stored_images(&by).await? {
        if let SourceSettings::ImageStore { store, image } = source.settings
            && store == name
        {
            taken.insert(image, (source.ci, source.name));
        }
    }
    let lost = || Problem::new(Kind::Internal, "the store was not asked to the end");
    let turn = ASKING.acquire().await.map_err(|_| lost())?;
    let stores = Arc::clone(&app.image_stores);
    let asked = tokio::task::spawn_blocking(move || {
        let listed = stores.list(&name);
        drop(turn);
        listed
    });
    let found = asked.await.map_err(|_| lost())?.map_err(|reason| {
        Problem::new(Kind::Refused, reason)
            .help("see whether the store answers its operator: docs/drivers.md")
    })?;
    let items = found.into_iter().map(|it| StoredImage::of(it, &mut taken)).collect();
    Ok(Json(Listed { items, next: None }))
}

impl StoredImage {
    fn of(it: image_stores::StoredImage, taken: &mut BTreeMap<String, (CiId, Slug)>) -> Self {
        let (ci, source) = taken.remove(&it.id).unzip();
        let (fit, unfit) = match it.fitness {
            Ok(fit) => (Some(fit), None),
            Err(because) => (None, Some(because)),
        };
        let (format, version) = fit.unzip();
        Self { image: it.id, name: it.name, size: it.size, format, version, unfit, ci, source }
    }
}
