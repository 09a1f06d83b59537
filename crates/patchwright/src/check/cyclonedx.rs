//! The report as a CycloneDX 1.6 document: the inventory as components, each CVE of a missing
//! patch as a vulnerability with its recommendation.
//!
//! The few parts of the format that are used are written as plain JSON;
//! `docs/decisions/0007-libraries.md` says why no library does it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use anyhow::{Context as _, Result};
use domain::check::{Finding, Report};
use domain::inventory::{InstalledPackage, Inventory, PackageFamily};
use packageurl::PackageUrl;
use serde_json::{Value, json};

/// Writes the document as JSON.
pub(crate) fn write(report: &Report, inventory: &Inventory, out: impl io::Write) -> Result<()> {
    let components = inventory
        .packages
        .iter()
        .map(|package| component(package, inventory))
        .collect::<Result<Vec<Value>>>()?;
    // No serial number: a random one would make two equal reports differ.
    let document = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": report.checked_at,
            "tools": { "components": [{
                "type": "application",
                "name": "patchwright",
                "version": env!("CARGO_PKG_VERSION"),
            }] },
            "component": system(report),
        },
        "components": components,
        "vulnerabilities": vulnerabilities(report, inventory)?,
    });
    serde_json::to_writer_pretty(out, &document).context("cannot write the CycloneDX document")
}

fn system(report: &Report) -> Value {
    json!({
        "type": "operating-system",
        "bom-ref": "target",
        "name": report.os.id,
        "version": report.os.version_id.as_deref().unwrap_or_default(),
        "properties": [
            { "name": "patchwright:target", "value": report.target },
            { "name": "patchwright:status", "value": report.status },
            { "name": "patchwright:unknown", "value": report.unknown.len().to_string() },
        ],
    })
}

fn component(package: &InstalledPackage, inventory: &Inventory) -> Result<Value> {
    let purl = purl(&package.name, &package.version, &package.architecture, inventory)?;
    Ok(json!({
        "type": "library",
        "bom-ref": purl,
        "name": package.name,
        "version": package.version,
        "purl": purl,
        "properties": [
            { "name": "patchwright:source", "value": package.source.name },
            { "name": "patchwright:source-version", "value": package.source.version },
        ],
    }))
}

/// Package URL, which also identifies the component inside the document.
fn purl(name: &str, version: &str, architecture: &str, inventory: &Inventory) -> Result<String> {
    let kind = match inventory.family {
        PackageFamily::Dpkg => "deb",
        PackageFamily::Rpm => "rpm",
        PackageFamily::Apk => "apk",
    };
    let describe = || format!("cannot name the package `{name}` by a package URL");
    let mut purl = PackageUrl::new(kind, name).with_context(describe)?;
    purl.with_namespace(&inventory.os.id).with_context(describe)?;
    purl.with_version(version).with_context(describe)?;
    purl.add_qualifier("arch", architecture).with_context(describe)?;
    if let Some(version_id) = &inventory.os.version_id {
        let distribution = format!("{}-{version_id}", inventory.os.id);
        purl.add_qualifier("distro", distribution).with_context(describe)?;
    }
    Ok(purl.to_string())
}

fn vulnerabilities(report: &Report, inventory: &Inventory) -> Result<Vec<Value>> {
    let mut by_id: BTreeMap<&str, Vec<&Finding>> = BTreeMap::new();
    for finding in &report.findings {
        for cve in &finding.cves {
            by_id.entry(cve).or_default().push(finding);
        }
    }
    by_id
        .into_iter()
        .map(|(cve, findings)| {
            let affects = findings
                .iter()
                .map(|finding| {
                    purl(&finding.package, &finding.installed, &finding.architecture, inventory)
                })
                .collect::<Result<BTreeSet<String>>>()?;
            let affects: Vec<Value> =
                affects.into_iter().map(|purl| json!({ "ref": purl })).collect();
            Ok(json!({
                "id": cve,
                "ratings": ratings(&findings),
                "recommendation": recommendation(&findings),
                "affects": affects,
            }))
        })
        .collect()
}

/// The most urgent decision over any patch that fixes it.
fn ratings(findings: &[&Finding]) -> Vec<Value> {
    let highest = findings.iter().max_by_key(|finding| finding.decision.priority);
    highest
        .map(|finding| {
            let decision = &finding.decision;
            json!({
                "severity": decision.priority,
                "method": "other",
                "justification": format!(
                    "patch priority by policy {} {}: {}",
                    decision.policy.name, decision.policy.version, decision.reason
                ),
            })
        })
        .into_iter()
        .collect()
}

fn recommendation(findings: &[&Finding]) -> String {
    let upgrades: BTreeSet<String> = findings
        .iter()
        .map(|finding| format!("{} to {}", finding.package, finding.candidate))
        .collect();
    format!("upgrade {}", upgrades.into_iter().collect::<Vec<_>>().join(", "))
}
