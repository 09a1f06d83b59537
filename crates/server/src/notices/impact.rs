//! What was measured of a change: the result of the job whose attestation is the change's proof.

use domain::change::{Change, ChangeStage, FileHash};
use domain::cloud::{ImageId, PROVIDER, TenantId};
use domain::proof::Impact;
use jiff::Timestamp;
use serde::Deserialize as _;
use sha2::{Digest as _, Sha256};
use store::{Actor, ImageFilter, JobKind, LONGEST_PAGE, PageRequest, Store, StoreError};

/// Images of each side among which the proof is looked for.
const LOOKED_AT: u16 = 200;

/// What will be noticed of a change, as it was measured on one of the tenant's images or the
/// provider's. `None` where no proof of it is kept, which says nothing about it.
pub(crate) async fn impact(
    store: &Store,
    tenant: TenantId,
    change: &Change,
) -> Result<Option<Impact>, StoreError> {
    let ChangeStage::Proven { evidence } = change.stage() else { return Ok(None) };
    for side in [tenant, PROVIDER] {
        let filter = ImageFilter { tenant: Some(side), name: None };
        let request = PageRequest { after: None, limit: LOOKED_AT };
        for image in store.images(&Actor::System, &filter, &request).await?.items {
            if let Some(at) = attested(store, image.id, *evidence).await? {
                return measured(store, image.id, at).await;
            }
        }
    }
    Ok(None)
}

/// When an attestation was kept about an image, if it is this one.
async fn attested(
    store: &Store,
    image: ImageId,
    evidence: FileHash,
) -> Result<Option<Timestamp>, StoreError> {
    let attestations = store.attestations(&Actor::System, image).await?;
    let is_it = |envelope: &str| {
        let hash: [u8; 32] = Sha256::digest(envelope.as_bytes()).into();
        FileHash::from(hash) == evidence
    };
    Ok(attestations.into_iter().find(|it| is_it(&it.envelope)).map(|it| it.created_at))
}

/// What the proof measured that ended with an attestation: both are kept in one commit.
async fn measured(
    store: &Store,
    image: ImageId,
    attested: Timestamp,
) -> Result<Option<Impact>, StoreError> {
    let request = PageRequest { after: None, limit: LONGEST_PAGE };
    let jobs = store.jobs(&Actor::System, Some(image), &request).await?.items;
    let job =
        jobs.into_iter().find(|job| job.kind == JobKind::Prove && job.ended_at == Some(attested));
    let impact = job.and_then(|job| job.result).and_then(|result| {
        let impact = result.get("proof")?.get("impact")?;
        Impact::deserialize(impact).ok()
    });
    Ok(impact)
}
