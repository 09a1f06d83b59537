//! What is claimed of images, in the predicates that other people's tools know.
//!
//! - a proof: [in-toto test result v0.1];
//! - a baked image: [SLSA provenance v1] and its components in [CycloneDX].
//!
//! [in-toto test result v0.1]: https://github.com/in-toto/attestation/blob/main/spec/predicates/test-result.md
//! [SLSA provenance v1]: https://slsa.dev/spec/v1.0/provenance
//! [CycloneDX]: https://cyclonedx.org/specification/overview/

use anyhow::{Context as _, Result};
use domain::check::Report;
use domain::inventory::Inventory;
use domain::proof::{Side, WayBack};
use jiff::Timestamp;
use lab::{Baked, EvidenceItem, PackageFile, Proof};
use ledger::attestation::{Digest, Statement};
use serde_json::{Value, json};

use super::trial::Trial;
use crate::check::{Patches, write_cyclonedx};

const TEST_RESULT: &str = "https://in-toto.io/attestation/test-result/v0.1";
const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
const COMPONENTS: &str = "https://cyclonedx.org/bom";

/// What the builder of an image is called, and how it builds: `docs/lab.md`, "Baking".
const BUILDER: &str = "urn:patchwright:lab";
const BUILD_TYPE: &str = "urn:patchwright:bake:v1";

/// Bytes that something is claimed of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) name: &'a str,
    pub(crate) sha256: &'a str,
}

/// That patches were proven on an image, and with which result.
pub(crate) fn test_result(
    subject: Subject<'_>,
    patches: &Patches,
    proof: &Proof,
) -> Result<Statement> {
    let verdict = &proof.verdict;
    let (mut passed, mut failed, mut warned) = (Vec::new(), Vec::new(), Vec::new());
    for (name, side) in [("security", Side::Security), ("adaptability", Side::Adaptability)] {
        let is_clear = verdict.reasons().all(|reason| reason.side() != side);
        if is_clear { passed.push(name) } else { failed.push(name) }
    }
    match &verdict.way_back {
        WayBack::Restores => passed.push("way back"),
        _ => warned.push("way back"),
    }
    let configuration: Vec<Value> =
        patches.files.iter().map(package).chain(proof.evidence.iter().map(evidence)).collect();
    let predicate = json!({
        "result": if verdict.passes() { "PASSED" } else { "FAILED" },
        "configuration": configuration,
        "passedTests": passed,
        "warnedTests": warned,
        "failedTests": failed,
    });
    statement(TEST_RESULT, &[subject], &predicate)
}

/// That a machine was made from an image, and what was seen of it.
pub(crate) fn effect(subject: Subject<'_>, trial: &Trial) -> Result<Statement> {
    let (passed, failed) =
        if trial.passes() { (vec!["effect"], vec![]) } else { (vec![], vec!["effect"]) };
    let predicate = json!({
        "result": if trial.passes() { "PASSED" } else { "FAILED" },
        "configuration": [{
            "name": "trial",
            "digest": { "sha256": Digest::of(&serde_json::to_vec(trial)?) },
            "annotations": { "trial": trial },
        }],
        "passedTests": passed,
        "warnedTests": [],
        "failedTests": failed,
    });
    statement(TEST_RESULT, &[subject], &predicate)
}

/// How a baked image came about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Made<'a> {
    pub(crate) patches: &'a Patches,
    pub(crate) baked: &'a Baked,
    /// Where the virtual machine's clock began.
    pub(crate) clock: Timestamp,
    /// When baking began.
    pub(crate) began: Timestamp,
}

/// What an image was made from, how, and by whom.
pub(crate) fn provenance(from: &str, made: &Made<'_>) -> Result<Statement> {
    let Made { patches, baked, clock, began } = made;
    let image = json!({ "name": from, "digest": { "sha256": baked.from_sha256 } });
    let materials: Vec<Value> =
        std::iter::once(image.clone()).chain(patches.files.iter().map(package)).collect();
    let byproducts: Vec<Value> = baked.evidence.iter().map(evidence).collect();
    let took = std::time::Duration::from_millis(baked.took_ms);
    let predicate = json!({
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "image": image,
                "packages": patches.files.iter().map(|it| &it.sha256).collect::<Vec<_>>(),
                "clock": clock,
            },
            "internalParameters": { "accelerator": baked.accelerator },
            "resolvedDependencies": materials,
        },
        "runDetails": {
            "builder": {
                "id": BUILDER,
                "version": { "patchwright": env!("CARGO_PKG_VERSION") },
            },
            "metadata": { "startedOn": began, "finishedOn": *began + took },
            "byproducts": byproducts,
        },
    });
    statement(PROVENANCE, &[subject(baked)], &predicate)
}

/// What is in a baked image.
pub(crate) fn components(baked: &Baked, checked: &(Report, Inventory)) -> Result<Statement> {
    let mut document = Vec::new();
    write_cyclonedx(&checked.0, &checked.1, &mut document)?;
    let document: Value = serde_json::from_slice(&document)?;
    statement(COMPONENTS, &[subject(baked)], &document)
}

fn subject(baked: &Baked) -> Subject<'_> {
    let name = baked.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    Subject { name, sha256: &baked.sha256 }
}

fn statement(kind: &str, subjects: &[Subject<'_>], predicate: &Value) -> Result<Statement> {
    let mut statement = Statement::new(kind);
    for Subject { name, sha256 } in subjects {
        let digest = Digest::try_from((*sha256).to_owned()).map_err(anyhow::Error::msg)?;
        statement = statement.about(name, digest);
    }
    statement.saying(predicate).context("cannot write the attestation")
}

/// A package as an in-toto resource descriptor.
fn package(file: &PackageFile) -> Value {
    json!({
        "name": file.package,
        "digest": { "sha256": file.sha256 },
        "annotations": { "version": file.version, "architecture": file.architecture },
    })
}

fn evidence(item: &EvidenceItem) -> Value {
    json!({
        "name": item.name,
        "digest": { "sha256": item.sha256 },
        "annotations": { "evidence": true, "bytes": item.bytes },
    })
}
