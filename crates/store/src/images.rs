//! Versions of images, and what is attested about them.
//!
//! A version is a configuration item of the class `image`: its packages are observed and its missing
//! patches found like any other item's. What stands here is the rest: which bytes it is, where it
//! came from, and whether VMs may be made from it.

use domain::cloud::{CiId, Class, EventKind, ImageId, Name, RelationKind, TenantId};
use domain::fleet::{PackageSet, SetDigest};
use domain::image::{Standing, Step};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AnyPool};

use crate::actor::Actor;
use crate::cis::{self, Labels, NewCi};
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::fleet::systems;
use crate::page::{Cursor, Page, PageRequest, range};
use crate::relations::{self, Relation};
use crate::retrieval;
use crate::sources;
use crate::tenants;
use crate::value::{get, hex, parsed, parsed_or_none, time, time_or_none};
use crate::writer::Tx;
use crate::{Once, Store, bakes, contents};

/// A version of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Its id.
    pub id: ImageId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The series that it belongs to.
    pub name: Name,
    /// Which version of the series, from 1.
    pub number: i64,
    /// Its configuration item.
    pub ci: CiId,
    /// What it was made from.
    pub parent: Option<ImageId>,
    /// Which bytes it is, and what is in them.
    pub content: ImageContent,
    /// How it stands.
    pub standing: Standing,
    /// Since when it is known.
    pub created_at: Timestamp,
    /// Raised by each alteration.
    pub version: i64,
}

/// Which bytes an image is, and what is in them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageContent {
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// `raw` or `qcow2`.
    pub format: String,
    /// Length of the file, in bytes.
    pub size: i64,
    /// Distribution release, such as `debian:12`.
    pub release: String,
    /// Architecture, as its packages name it.
    pub architecture: String,
}

/// A version that is to be.
#[derive(Debug, Clone)]
pub struct NewImage {
    /// Whose it will be.
    pub tenant: TenantId,
    /// Its series; begun where there is none of this name.
    pub name: Name,
    /// What it was made from.
    pub parent: Option<ImageId>,
    /// Which bytes it is.
    pub content: ImageContent,
}

/// A version that is to be, of bytes that its tenant brought.
#[derive(Debug, Clone)]
pub struct NewVersion {
    /// Whose it will be.
    pub tenant: TenantId,
    /// Its series; begun where there is none of this name.
    pub name: Name,
    /// What it was made from.
    pub parent: Option<ImageId>,
    /// SHA-256 of the bytes, in hexadecimal.
    pub sha256: String,
}

/// Which versions are asked for.
#[derive(Debug, Clone, Default)]
pub struct ImageFilter {
    /// Of one tenant.
    pub tenant: Option<TenantId>,
    /// Of one series.
    pub name: Option<String>,
}

/// Something attested, as it was signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attestation {
    /// The version that it is about.
    pub image: ImageId,
    /// What kind of statement it is.
    pub predicate_type: String,
    /// The DSSE envelope, in JSON.
    pub envelope: String,
    /// When it was kept.
    pub created_at: Timestamp,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, tenant_id, name, number, ci_id, parent_id, sha256, format, size, release,
                    architecture, state, state_at, created_at, version
             FROM images ",
            $rest
        )
    };
}

/// Versions of images.
impl Store {
    /// Takes up a version of an image, as the next of its series.
    pub async fn create_image(
        &self,
        by: &Actor,
        once: Option<Once>,
        new: NewImage,
    ) -> Result<Image, StoreError> {
        self.write_once(by, once, new, |tx, (by, new)| Box::pin(create(tx, by, new))).await
    }

    /// Takes up a version of bytes that its tenant brought, with the packages that are in them.
    ///
    /// # Errors
    /// If the tenant has no such bytes, whoever else may have them.
    pub async fn take_up_image(
        &self,
        by: &Actor,
        once: Option<Once>,
        new: NewVersion,
    ) -> Result<Image, StoreError> {
        self.write_once(by, once, new, |tx, (by, new)| Box::pin(take_up(tx, by, new))).await
    }

    /// Notes that what images hold is what it was: files do not change. Says of how many.
    pub async fn note_images_seen(&self) -> Result<u64, StoreError> {
        self.write((), |tx, ()| Box::pin(note_seen(tx))).await
    }

    /// One version, whose bytes are about to leave: that is recorded first, unless it was within
    /// the hour.
    pub async fn retrieve_image(&self, by: &Actor, id: ImageId) -> Result<Image, StoreError> {
        let image = self.image(by, id).await?;
        let since = self.environment.now() - retrieval::TOLD_ONCE;
        if !retrieval::is_content_told(&self.pool, by, id, since).await? {
            self.write((by.clone(), image.clone()), |tx, (by, image)| {
                Box::pin(async move {
                    tx.record(retrieval::content_told(by, image, tx.now));
                    Ok(())
                })
            })
            .await?;
        }
        Ok(image)
    }

    /// Takes a step with a version; what becomes current supersedes the one that was, which is
    /// refused for new VMs `grace` later.
    ///
    /// # Errors
    /// If the step may not be taken from where the version stands: see [`Standing::after`].
    pub async fn step_image(
        &self,
        by: &Actor,
        id: ImageId,
        expected: Option<i64>,
        taken: Step,
        grace: SignedDuration,
    ) -> Result<Image, StoreError> {
        self.write((by.clone(), id), move |tx, (by, id)| {
            Box::pin(step(tx, by, *id, expected, taken, grace))
        })
        .await
    }

    /// Keeps what was attested about a version.
    pub async fn attest_image(
        &self,
        by: &Actor,
        id: ImageId,
        predicate_type: String,
        envelope: String,
    ) -> Result<(), StoreError> {
        self.write((by.clone(), id, predicate_type, envelope), |tx, (by, id, kind, envelope)| {
            Box::pin(attest(tx, by, *id, kind, envelope))
        })
        .await
    }

    /// One version.
    pub async fn image(&self, by: &Actor, id: ImageId) -> Result<Image, StoreError> {
        find(&mut *self.pool.acquire().await?, by.scope(), id).await
    }

    /// The version that a configuration item is, for whoever looks at it for us.
    pub async fn image_of_ci(&self, ci: CiId) -> Result<Image, StoreError> {
        let row = sqlx::query(select!("WHERE ci_id = $1"))
            .bind(ci.to_string())
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map_or_else(|| Err(StoreError::not_found("image", &ci)), read)
    }

    /// The versions that the actor may see.
    pub async fn images(
        &self,
        by: &Actor,
        filter: &ImageFilter,
        page: &PageRequest,
    ) -> Result<Page<Image>, StoreError> {
        list(&self.pool, by.scope(), filter, page).await
    }

    /// What was attested about a version, oldest first.
    pub async fn attestations(
        &self,
        by: &Actor,
        id: ImageId,
    ) -> Result<Vec<Attestation>, StoreError> {
        attestations(&self.pool, by.scope(), id).await
    }
}

/// Takes up a version of a tenant's bytes, and notes its packages.
async fn take_up(tx: &mut Tx<'_>, by: &Actor, new: &NewVersion) -> Result<Image, StoreError> {
    tenants::must_exist(tx, by, new.tenant).await?;
    let (content, packages) = contents::find(&mut *tx.connection, new.tenant, &new.sha256).await?;
    let NewVersion { tenant, name, parent, .. } = new.clone();
    let new = NewImage { tenant, name, parent, content };
    let image = Box::pin(create(tx, by, &new)).await?;
    observe(tx, by, &image, packages).await?;
    Ok(image)
}

/// Takes up a version that was made from another, as the next of its series.
pub(crate) async fn succeed(
    tx: &mut Tx<'_>,
    by: &Actor,
    parent: &Image,
    content: &ImageContent,
    packages: &PackageSet,
) -> Result<Image, StoreError> {
    let digest = contents::keep(tx, by, parent.tenant, content, packages).await?;
    let new = NewImage {
        tenant: parent.tenant,
        name: parent.name.clone(),
        parent: Some(parent.id),
        content: content.clone(),
    };
    let image = Box::pin(create(tx, by, &new)).await?;
    observe(tx, by, &image, digest).await?;
    Ok(image)
}

async fn observe(
    tx: &mut Tx<'_>,
    by: &Actor,
    image: &Image,
    packages: SetDigest,
) -> Result<(), StoreError> {
    let now = tx.now;
    if systems::observe(tx, by, image.ci, packages, now).await? {
        return Ok(());
    }
    Err(StoreError::Corrupt { what: format!("the packages of {} are gone", image.id) })
}

async fn note_seen(tx: &mut Tx<'_>) -> Result<u64, StoreError> {
    let noted = sqlx::query(
        "UPDATE systems SET seen_at = $1 WHERE seen_at < $1 AND ci_id IN (
             SELECT ci_id FROM images WHERE state NOT IN ('retired', 'rejected'))",
    )
    .bind(tx.now.as_microsecond())
    .execute(&mut *tx.connection)
    .await?
    .rows_affected();
    Ok(noted)
}

/// Takes up a version: its item, its lineage, its place in the series.
async fn create(tx: &mut Tx<'_>, by: &Actor, new: &NewImage) -> Result<Image, StoreError> {
    tenants::must_exist(tx, by, new.tenant).await?;
    let parent = match new.parent {
        Some(parent) => Some(find(&mut *tx.connection, by.scope(), parent).await?),
        None => None,
    };
    let row = sqlx::query(
        "SELECT COALESCE(MAX(number), 0) AS last FROM images WHERE tenant_id = $1 AND name = $2",
    )
    .bind(new.tenant.to_string())
    .bind(new.name.as_str())
    .fetch_one(&mut *tx.connection)
    .await?;
    let number = get::<i64>(&row, "last")? + 1;
    let name = format!("{} v{number}", new.name).parse().map_err(|_| StoreError::Refused {
        reason: format!("the name `{}` leaves no room for a version", new.name),
        help: "use a shorter name",
    })?;
    let item = NewCi { tenant: new.tenant, class: Class::Image, name, labels: Labels::new() };
    let ci = cis::create(tx, by, &item).await?;
    sources::of_image(tx, ci.id, ci.tenant).await?;
    if let Some(parent) = &parent {
        let built = Relation { from: ci.id, kind: RelationKind::BuiltFrom, to: parent.ci };
        relations::relate(tx, by, &built).await?;
    }
    let image = Image {
        id: ImageId::new(tx.now, tx.random()),
        tenant: new.tenant,
        name: new.name.clone(),
        number,
        ci: ci.id,
        parent: new.parent,
        content: new.content.clone(),
        standing: Standing::Candidate,
        created_at: tx.now,
        version: 1,
    };
    let content = &image.content;
    sqlx::query(
        "INSERT INTO images (id, tenant_id, name, number, ci_id, parent_id, sha256, format, size,
                             release, architecture, state, state_at, created_at, version)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'candidate', NULL, $12, 1)",
    )
    .bind(image.id.to_string())
    .bind(image.tenant.to_string())
    .bind(image.name.as_str())
    .bind(number)
    .bind(image.ci.to_string())
    .bind(image.parent.map(|parent| parent.to_string()))
    .bind(content.sha256.as_str())
    .bind(content.format.as_str())
    .bind(content.size)
    .bind(content.release.as_str())
    .bind(content.architecture.as_str())
    .bind(tx.now.as_microsecond())
    .execute(&mut *tx.connection)
    .await
    .map_err(StoreError::exists("version", &number))?;
    record(tx, by, EventKind::ImageCreated, &image);
    Ok(image)
}

/// Takes a step with a version. With `expected` given, only if nobody else did since. What becomes
/// current supersedes the series' current version, which is refused for new VMs `grace` later.
pub(crate) async fn step(
    tx: &mut Tx<'_>,
    by: &Actor,
    id: ImageId,
    expected: Option<i64>,
    step: Step,
    grace: SignedDuration,
) -> Result<Image, StoreError> {
    let mut image = find(&mut *tx.connection, by.scope(), id).await?;
    if let Some(expected) = expected
        && expected != image.version
    {
        return Err(stale(&image, expected));
    }
    if step == Step::Publish && !matches!(image.standing, Standing::Current { .. }) {
        // Asked first: nothing is superseded by what may not be published.
        image.standing.after(step, tx.now).map_err(refused)?;
        supersede(tx, by, &image, tx.now + grace).await?;
    }
    advance(tx, by, &mut image, step).await?;
    if step == Step::Publish {
        bakes::begin_for(tx, image.ci).await?;
    }
    Ok(image)
}

async fn supersede(
    tx: &mut Tx<'_>,
    by: &Actor,
    next: &Image,
    refused_from: Timestamp,
) -> Result<(), StoreError> {
    let row = sqlx::query(select!("WHERE tenant_id = $1 AND name = $2 AND state = 'current'"))
        .bind(next.tenant.to_string())
        .bind(next.name.as_str())
        .fetch_optional(&mut *tx.connection)
        .await?;
    let Some(row) = row else { return Ok(()) };
    advance(tx, by, &mut read(&row)?, Step::Supersede { refused_from }).await
}

async fn advance(
    tx: &mut Tx<'_>,
    by: &Actor,
    image: &mut Image,
    step: Step,
) -> Result<(), StoreError> {
    let before = image.version;
    let standing = image.standing.after(step, tx.now).map_err(refused)?;
    if standing == image.standing {
        return Ok(());
    }
    image.standing = standing;
    image.version += 1;
    let altered = sqlx::query(
        "UPDATE images SET state = $1, state_at = $2, version = $3 WHERE id = $4 AND version = $5",
    )
    .bind(standing.as_str())
    .bind(moment(standing).map(Timestamp::as_microsecond))
    .bind(image.version)
    .bind(image.id.to_string())
    .bind(before)
    .execute(&mut *tx.connection)
    .await?
    .rows_affected();
    if altered == 0 {
        return Err(stale(image, before));
    }
    record(tx, by, EventKind::ImageAltered, image);
    if matches!(standing, Standing::Retired { .. } | Standing::Rejected { .. }) {
        cis::retire(tx, by, image.ci, None).await?;
    }
    Ok(())
}

/// Keeps what was attested about a version; the same envelope once.
pub(crate) async fn attest(
    tx: &mut Tx<'_>,
    by: &Actor,
    id: ImageId,
    predicate_type: &str,
    envelope: &str,
) -> Result<(), StoreError> {
    let image = find(&mut *tx.connection, by.scope(), id).await?;
    let digest = hex(&Sha256::digest(envelope.as_bytes()));
    let kept = sqlx::query(
        "INSERT INTO attestations (image_id, digest, tenant_id, predicate_type, envelope, created_at)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
    )
    .bind(id.to_string())
    .bind(digest.as_str())
    .bind(image.tenant.to_string())
    .bind(predicate_type)
    .bind(envelope)
    .bind(tx.now.as_microsecond())
    .execute(&mut *tx.connection)
    .await?
    .rows_affected();
    if kept > 0 {
        tx.record(NewEvent {
            tenant: image.tenant,
            kind: EventKind::ImageAttested,
            by: by.clone(),
            object: id.to_string(),
            version: image.version,
            payload: json!({ "predicate_type": predicate_type, "sha256": digest.as_str() }),
        });
    }
    Ok(())
}

/// What was attested about a version, oldest first.
async fn attestations(
    pool: &AnyPool,
    scope: Option<TenantId>,
    id: ImageId,
) -> Result<Vec<Attestation>, StoreError> {
    let mut connection = pool.acquire().await?;
    find(&mut connection, scope, id).await?;
    let rows = sqlx::query(
        "SELECT image_id, predicate_type, envelope, created_at FROM attestations
         WHERE image_id = $1 ORDER BY created_at, digest",
    )
    .bind(id.to_string())
    .fetch_all(&mut *connection)
    .await?;
    let read = |row: &AnyRow| {
        Ok(Attestation {
            image: parsed(row, "image_id")?,
            predicate_type: get(row, "predicate_type")?,
            envelope: get(row, "envelope")?,
            created_at: time(row, "created_at")?,
        })
    };
    rows.iter().map(read).collect()
}

/// Versions, by series and number.
async fn list(
    pool: &AnyPool,
    scope: Option<TenantId>,
    filter: &ImageFilter,
    request: &PageRequest,
) -> Result<Page<Image>, StoreError> {
    let (low, high) = match (scope, filter.tenant) {
        (Some(scope), Some(tenant)) if scope != tenant => {
            return Ok(Page { items: Vec::new(), next: None });
        }
        (scope, tenant) => range(scope.or(tenant)),
    };
    let (tenant, id) = request.place();
    let rows = sqlx::query(select!(
        "WHERE tenant_id BETWEEN $1 AND $2 AND (tenant_id, id) > ($3, $4)
           AND ($5 = '' OR name = $5)
         ORDER BY tenant_id, id LIMIT $6"
    ))
    .bind(low)
    .bind(high)
    .bind(tenant)
    .bind(id)
    .bind(filter.name.as_deref().unwrap_or(""))
    .bind(request.fetched())
    .fetch_all(pool)
    .await?;
    let images = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    Ok(request.cut(images, |image: &Image| Cursor::new(image.tenant, image.id)))
}

pub(crate) async fn find(
    connection: &mut AnyConnection,
    scope: Option<TenantId>,
    id: ImageId,
) -> Result<Image, StoreError> {
    let (low, high) = range(scope);
    let row = sqlx::query(select!("WHERE id = $1 AND tenant_id BETWEEN $2 AND $3"))
        .bind(id.to_string())
        .bind(low)
        .bind(high)
        .fetch_optional(connection)
        .await?;
    read(&row.ok_or_else(|| StoreError::not_found("image", &id))?)
}

fn stale(image: &Image, expected: i64) -> StoreError {
    StoreError::Stale { what: "image", id: image.id.to_string(), expected, found: image.version }
}

fn refused(refusal: domain::image::Refusal) -> StoreError {
    StoreError::Refused { reason: refusal.to_string(), help: refusal.help() }
}

/// The one instant that a standing has.
fn moment(standing: Standing) -> Option<Timestamp> {
    match standing {
        Standing::Candidate => None,
        Standing::Tested { at } | Standing::Retired { at } | Standing::Rejected { at } => Some(at),
        Standing::Current { since } => Some(since),
        Standing::Superseded { refused_from } => Some(refused_from),
    }
}

fn standing(state: &str, at: Option<Timestamp>) -> Option<Standing> {
    Some(match (state, at) {
        ("candidate", None) => Standing::Candidate,
        ("tested", Some(at)) => Standing::Tested { at },
        ("current", Some(since)) => Standing::Current { since },
        ("superseded", Some(refused_from)) => Standing::Superseded { refused_from },
        ("retired", Some(at)) => Standing::Retired { at },
        ("rejected", Some(at)) => Standing::Rejected { at },
        _ => return None,
    })
}

fn record(tx: &mut Tx<'_>, by: &Actor, kind: EventKind, image: &Image) {
    tx.record(NewEvent {
        tenant: image.tenant,
        kind,
        by: by.clone(),
        object: image.id.to_string(),
        version: image.version,
        payload: json!({
            "name": image.name, "number": image.number, "ci": image.ci, "parent": image.parent,
            "content": image.content, "standing": image.standing,
        }),
    });
}

fn read(row: &AnyRow) -> Result<Image, StoreError> {
    let (state, at) = (get::<String>(row, "state")?, time_or_none(row, "state_at")?);
    let standing = standing(&state, at)
        .ok_or_else(|| StoreError::Corrupt { what: format!("state of an image: {state}") })?;
    Ok(Image {
        id: parsed(row, "id")?,
        tenant: parsed(row, "tenant_id")?,
        name: parsed(row, "name")?,
        number: get(row, "number")?,
        ci: parsed(row, "ci_id")?,
        parent: parsed_or_none(row, "parent_id")?,
        content: ImageContent {
            sha256: get(row, "sha256")?,
            format: get(row, "format")?,
            size: get(row, "size")?,
            release: get(row, "release")?,
            architecture: get(row, "architecture")?,
        },
        standing,
        created_at: time(row, "created_at")?,
        version: get(row, "version")?,
    })
}
