//! Images and the changes that install patches: what is proven is baked at once, beside being told
//! (X.1642, figure 1).
//!
//! ```text
//! proven ──────────────┐
//! missing on an image ─┼─► current versions that lack it ─► one open bake of each
//! published ───────────┘
//! ```
//!
//! A bake takes all that is open, not the one change's packages: a version passes its test only without
//! anything open (docs/lab.md).

use domain::cloud::{ChangeId, CiId, ImageId};
use domain::fleet::{FindingState, has_patch};
use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::AnyPool;

use crate::Store;
use crate::actor::Actor;
use crate::error::StoreError;
use crate::fleet::{findings, systems};
use crate::images::{self, Image};
use crate::jobs::{self, Job, JobKind, JobState, NewJob};
use crate::page::range;
use crate::value::{get, parsed, parsed_or_none, time};
use crate::writer::Tx;

/// Images of a change that are listed at most.
const MOST_LISTED: i64 = 500;

/// What a change means for a series of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baking {
    /// The version that lacks, or lacked, one of its patches.
    pub image: Image,
    /// The bake of the next one; `None` where none is asked for yet.
    pub job: Option<Job>,
    /// The version that the bake made.
    pub made: Option<Image>,
}

/// What a change means for the items that images are not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Machines {
    /// Those that lack one of its patches.
    pub lacking: u64,
    /// Those that lacked one and have it.
    pub fixed: u64,
}

/// Both sides of a change: what runs, and what is made anew.
impl Store {
    /// How many items, images aside, lack a patch of a change, and how many have it by now; of those that
    /// the actor may see.
    pub async fn machines_of(&self, by: &Actor, change: ChangeId) -> Result<Machines, StoreError> {
        machines(&self.pool, by, change).await
    }

    /// The versions of images that a change concerns, with the bakes it began: the newest bakes first.
    pub async fn bakes_of(&self, by: &Actor, change: ChangeId) -> Result<Vec<Baking>, StoreError> {
        bakes(&self.pool, by, change).await
    }
}

/// A version that lacks a patch.
struct Lacking {
    image: ImageId,
    source: String,
    candidate: String,
    /// Since when it lacks this very patch.
    since: Timestamp,
}

/// A change is proven: the current versions that lack one of its patches are baked.
pub(crate) async fn begin(tx: &mut Tx<'_>, change: ChangeId) -> Result<(), StoreError> {
    let mut lacking = lacking(tx, change, None).await?;
    // One for each version; by their ids, so that nobody waits for each other.
    lacking.dedup_by_key(|it| it.image);
    for it in lacking {
        bake(tx, change, &it).await?;
    }
    Ok(())
}

/// The same for the changes that are proven already, where a version becomes current, or is found to lack
/// something.
pub(crate) async fn begin_for(tx: &mut Tx<'_>, ci: CiId) -> Result<(), StoreError> {
    let rows = sqlx::query(
        "SELECT DISTINCT p.change_id AS change_id FROM images i
         JOIN findings f ON f.ci_id = i.ci_id AND f.state = 'open'
         JOIN change_patches p ON p.source = f.source AND p.release = f.release
         JOIN changes c ON c.id = p.change_id AND c.stage IN ('proven', 'closed')
         WHERE i.ci_id = $1 AND i.state = 'current' ORDER BY p.change_id",
    )
    .bind(ci.to_string())
    .fetch_all(&mut *tx.connection)
    .await?;
    for row in &rows {
        let change = parsed(row, "change_id")?;
        if let Some(it) = lacking(tx, change, Some(ci)).await?.into_iter().next() {
            bake(tx, change, &it).await?;
        }
    }
    Ok(())
}

/// The current versions that lack a patch of a change, by their ids; of one item alone, where it is named.
async fn lacking(
    tx: &mut Tx<'_>,
    change: ChangeId,
    of: Option<CiId>,
) -> Result<Vec<Lacking>, StoreError> {
    let rows = sqlx::query(
        "SELECT i.id, p.source, p.candidate, p.patch_id AS wanted, f.patch_id AS found, f.installed,
                f.family, f.patch_since
         FROM change_patches p
         JOIN findings f ON f.source = p.source AND f.release = p.release AND f.state = $2
         JOIN images i ON i.ci_id = f.ci_id AND i.state = 'current'
         WHERE p.change_id = $1 AND ($3 = '' OR i.ci_id = $3)
         ORDER BY i.id, p.source",
    )
    .bind(change.to_string())
    .bind(FindingState::Open.as_str())
    .bind(of.map(|ci| ci.to_string()).unwrap_or_default())
    .fetch_all(&mut *tx.connection)
    .await?;
    let mut lacking = Vec::new();
    for row in &rows {
        let text = |column| get::<String>(row, column);
        let (installed, candidate) = (text("installed")?, text("candidate")?);
        // Where it lacks a later patch, it may have this one.
        let is_in = text("found")? != text("wanted")?
            && findings::family(row)?.is_some_and(|family| {
                family.version_kind().compare(&installed, &candidate).is_ge()
            });
        if !is_in {
            let (image, since) = (parsed(row, "id")?, time(row, "patch_since")?);
            lacking.push(Lacking { image, source: text("source")?, candidate, since });
        }
    }
    Ok(lacking)
}

/// Asks for the next version of a series, unless one is on its way that will have the patch.
async fn bake(tx: &mut Tx<'_>, change: ChangeId, lacking: &Lacking) -> Result<(), StoreError> {
    // Two changes that are proven at once ask for one.
    tx.hold("images", "id", &lacking.image.to_string()).await?;
    let job = if let Some(job) = on_its_way(tx, lacking).await? {
        job
    } else {
        let new = NewJob { kind: JobKind::Bake, image: lacking.image, request: json!({}) };
        jobs::begin(tx, &Actor::System, &new).await?.id
    };
    sqlx::query(
        "INSERT INTO job_changes (change_id, job_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
    )
    .bind(change.to_string())
    .bind(job.to_string())
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

/// A bake of a version that takes the patch along, or took it: one that waits, one that began when the patch
/// was known to be missing, or one whose version is not judged yet.
async fn on_its_way(
    tx: &mut Tx<'_>,
    lacking: &Lacking,
) -> Result<Option<domain::cloud::JobId>, StoreError> {
    let all = jobs::of_image(&mut *tx.connection, lacking.image, JobKind::Bake).await?;
    for job in all.iter().filter(|job| takes_all(&job.request)) {
        let is_it = match job.state {
            JobState::Queued => true,
            JobState::Running => job.started_at.is_some_and(|at| at >= lacking.since),
            JobState::Done => match job.made {
                Some(made) => will_do(tx, made, lacking).await?,
                None => false,
            },
            JobState::Failed | JobState::Cancelled => false,
        };
        if is_it {
            return Ok(Some(job.id));
        }
    }
    Ok(None)
}

/// Whether somebody asked for all that is open, and not for a part of it.
fn takes_all(request: &Value) -> bool {
    let names = request.get("packages").and_then(Value::as_array).is_some_and(|it| !it.is_empty());
    !names && !request.get("security_only").and_then(Value::as_bool).unwrap_or(false)
}

/// Whether a version has the patch, and may still become current.
async fn will_do(tx: &mut Tx<'_>, made: ImageId, lacking: &Lacking) -> Result<bool, StoreError> {
    use domain::image::Standing;
    let image = images::find(&mut *tx.connection, None, made).await?;
    if !matches!(image.standing, Standing::Candidate | Standing::Tested { .. }) {
        return Ok(false);
    }
    let row = sqlx::query("SELECT digest FROM systems WHERE ci_id = $1")
        .bind(image.ci.to_string())
        .fetch_optional(&mut *tx.connection)
        .await?;
    let Some(row) = row else { return Ok(false) };
    let digest = parsed(&row, "digest")?;
    let set = systems::set(&mut *tx.connection, None, image.tenant, digest).await?;
    Ok(set.is_some_and(|set| has_patch(set.inventory(), &lacking.source, &lacking.candidate)))
}

async fn machines(pool: &AnyPool, by: &Actor, change: ChangeId) -> Result<Machines, StoreError> {
    let (low, high) = range(by.scope());
    let rows = sqlx::query(
        "SELECT f.state AS state, COUNT(DISTINCT f.ci_id) AS items FROM change_patches p
         JOIN findings f ON f.patch_id = p.patch_id
         JOIN cis c ON c.id = f.ci_id AND c.class <> 'image' AND c.retired_at IS NULL
         WHERE p.change_id = $1 AND f.tenant_id BETWEEN $2 AND $3 GROUP BY f.state",
    )
    .bind(change.to_string())
    .bind(low)
    .bind(high)
    .fetch_all(pool)
    .await?;
    let mut machines = Machines::default();
    for row in &rows {
        let items = get::<i64>(row, "items")?.unsigned_abs();
        match parsed(row, "state")? {
            FindingState::Open => machines.lacking = items,
            FindingState::Fixed => machines.fixed = items,
            FindingState::Withdrawn | FindingState::Retired => {}
        }
    }
    Ok(machines)
}

async fn bakes(pool: &AnyPool, by: &Actor, change: ChangeId) -> Result<Vec<Baking>, StoreError> {
    let (low, high) = range(by.scope());
    let mut connection = pool.acquire().await?;
    let rows = sqlx::query(
        "SELECT j.image_id AS image_id, j.id AS job_id, j.made_id AS made_id
         FROM job_changes b JOIN jobs j ON j.id = b.job_id
         WHERE b.change_id = $1 AND j.tenant_id BETWEEN $2 AND $3
         ORDER BY j.created_at DESC, j.id DESC LIMIT $4",
    )
    .bind(change.to_string())
    .bind(low.as_str())
    .bind(high.as_str())
    .bind(MOST_LISTED)
    .fetch_all(&mut *connection)
    .await?;
    let mut bakes = Vec::with_capacity(rows.len());
    for row in &rows {
        let made: Option<ImageId> = parsed_or_none(row, "made_id")?;
        let made = match made {
            Some(made) => Some(images::find(&mut connection, by.scope(), made).await?),
            None => None,
        };
        let image = images::find(&mut connection, by.scope(), parsed(row, "image_id")?).await?;
        let job = jobs::find(&mut connection, by.scope(), parsed(row, "job_id")?).await?;
        bakes.push(Baking { image, job: Some(job), made });
    }
    let rows = sqlx::query(
        "SELECT DISTINCT i.id AS id FROM change_patches p
         JOIN findings f ON f.patch_id = p.patch_id AND f.state = 'open'
         JOIN images i ON i.ci_id = f.ci_id AND i.state = 'current'
         WHERE p.change_id = $1 AND i.tenant_id BETWEEN $2 AND $3 ORDER BY i.id LIMIT $4",
    )
    .bind(change.to_string())
    .bind(low)
    .bind(high)
    .bind(MOST_LISTED)
    .fetch_all(&mut *connection)
    .await?;
    for row in &rows {
        let id: ImageId = parsed(row, "id")?;
        if !bakes.iter().any(|it| it.image.id == id) {
            let image = images::find(&mut connection, by.scope(), id).await?;
            bakes.push(Baking { image, job: None, made: None });
        }
    }
    Ok(bakes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bake_of_a_part_is_not_one_of_all() {
        for (request, all) in [
            (json!({}), true),
            (json!({ "packages": [], "security_only": false, "clock": null }), true),
            (json!({ "packages": ["nginx"] }), false),
            (json!({ "security_only": true }), false),
        ] {
            assert_eq!(takes_all(&request), all, "{request}");
        }
    }
}
