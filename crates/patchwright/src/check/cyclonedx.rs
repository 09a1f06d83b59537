//! The report as a CycloneDX 1.5 document: the inventory as components, each CVE of a missing
//! patch as a vulnerability with its recommendation.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use cyclonedx_bom::external_models::date_time::DateTime;
use cyclonedx_bom::external_models::normalized_string::NormalizedString;
use cyclonedx_bom::external_models::uri::Purl;
use cyclonedx_bom::models::bom::{Bom, SpecVersion};
use cyclonedx_bom::models::component::{Classification, Component, Components};
use cyclonedx_bom::models::metadata::Metadata;
use cyclonedx_bom::models::property::{Properties, Property};
use cyclonedx_bom::models::tool::{Tool, Tools};
use cyclonedx_bom::models::vulnerability::{Vulnerabilities, Vulnerability};
use cyclonedx_bom::models::vulnerability_rating::{
    Severity, VulnerabilityRating, VulnerabilityRatings,
};
use cyclonedx_bom::models::vulnerability_target::{VulnerabilityTarget, VulnerabilityTargets};
use domain::check::{Finding, Report};
use domain::inventory::{InstalledPackage, Inventory, PackageFamily};
use domain::priority::Priority;
use packageurl::PackageUrl;

/// Writes the document as JSON.
pub(crate) fn write(report: &Report, inventory: &Inventory, out: impl std::io::Write) -> Result<()> {
    let mut metadata = Metadata {
        timestamp: Some(DateTime::try_from(report.checked_at.to_string())?),
        tools: Some(Tools::List(vec![Tool::new(
            "Patchwright",
            "patchwright",
            env!("CARGO_PKG_VERSION"),
        )])),
        ..Metadata::default()
    };
    metadata.component = Some(system(report));
    let components = inventory
        .packages
        .iter()
        .map(|package| component(package, inventory))
        .collect::<Result<Vec<Component>>>()?;
    let bom = Bom {
        version: 1,
        // A random serial number would make two equal reports differ.
        serial_number: None,
        metadata: Some(metadata),
        components: Some(Components(components)),
        vulnerabilities: Some(Vulnerabilities(vulnerabilities(report, inventory)?)),
        ..Bom::default()
    };
    bom.output_as_json(out, SpecVersion::V1_5).context("cannot write the CycloneDX document")
}

fn system(report: &Report) -> Component {
    let version = report.os.version_id.clone().unwrap_or_default();
    let mut system = Component::new(
        Classification::OperatingSystem,
        &report.os.id,
        &version,
        Some("target".to_owned()),
    );
    system.properties = Some(Properties(vec![
        Property::new("patchwright:target", &report.target),
        Property::new("patchwright:status", &word(&report.status)),
        Property::new("patchwright:unknown", &report.unknown.len().to_string()),
    ]));
    system
}

/// The serialised word of a unit variant.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

fn component(package: &InstalledPackage, inventory: &Inventory) -> Result<Component> {
    let purl = purl(&package.name, &package.version, &package.architecture, inventory)?;
    let mut component = Component::new(
        Classification::Library,
        &package.name,
        &package.version,
        Some(purl.clone()),
    );
    component.purl = Some(purl.parse::<Purl>().context("a package URL that we made ourselves")?);
    component.properties = Some(Properties(vec![
        Property::new("patchwright:source", &package.source.name),
        Property::new("patchwright:source-version", &package.source.version),
    ]));
    Ok(component)
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

fn vulnerabilities(report: &Report, inventory: &Inventory) -> Result<Vec<Vulnerability>> {
    let mut by_id: BTreeMap<&str, Vec<&Finding>> = BTreeMap::new();
    for finding in &report.findings {
        for cve in &finding.cves {
            by_id.entry(cve).or_default().push(finding);
        }
    }
    by_id
        .into_iter()
        .map(|(cve, findings)| {
            let mut vulnerability = Vulnerability::new(None);
            vulnerability.id = Some(NormalizedString::new(cve));
            vulnerability.recommendation = Some(recommendation(&findings));
            vulnerability.vulnerability_ratings = highest(&findings).map(|finding| {
                let mut rating = VulnerabilityRating::new(None, Some(severity(finding)), None);
                rating.justification = Some(format!(
                    "patch priority by policy {} {}: {}",
                    finding.decision.policy.name,
                    finding.decision.policy.version,
                    finding.decision.reason
                ));
                VulnerabilityRatings(vec![rating])
            });
            let targets = findings
                .iter()
                .map(|finding| {
                    purl(&finding.package, &finding.installed, &finding.architecture, inventory)
                        .map(VulnerabilityTarget::new)
                })
                .collect::<Result<Vec<_>>>()?;
            vulnerability.vulnerability_targets = Some(VulnerabilityTargets(targets));
            Ok(vulnerability)
        })
        .collect()
}

fn highest<'a>(findings: &[&'a Finding]) -> Option<&'a Finding> {
    findings.iter().copied().max_by_key(|finding| finding.decision.priority)
}

fn recommendation(findings: &[&Finding]) -> String {
    let upgrades: BTreeSet<String> = findings
        .iter()
        .map(|finding| format!("{} to {}", finding.package, finding.candidate))
        .collect();
    format!("upgrade {}", upgrades.into_iter().collect::<Vec<_>>().join(", "))
}

fn severity(finding: &Finding) -> Severity {
    match finding.decision.priority {
        Priority::Critical => Severity::Critical,
        Priority::High => Severity::High,
        Priority::Medium => Severity::Medium,
        Priority::Low => Severity::Low,
    }
}
