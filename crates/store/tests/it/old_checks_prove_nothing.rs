//! What was checked counts only while it is fresh, and patches are counted once.

use crate::support::{World, package_set, vm};
use domain::check::{Report, Status};
use jiff::SignedDuration;

on_both_engines! {
    an_item_is_latest_by_its_own_fresh_check_alone
    a_patch_of_several_packages_counts_once
}

fn report(at: jiff::Timestamp, status: &str, findings: &serde_json::Value) -> Report {
    serde_json::from_value(serde_json::json!({
        "schema": "patchwright.check/1", "target": "web", "checked_at": at,
        "os": { "id": "debian", "id_like": [], "version_id": "12", "codename": "bookworm",
            "pretty_name": "Debian 12" },
        "architecture": "amd64", "packages": 2, "sources": [],
        "policy": { "name": "default", "version": "1.0.0" },
        "status": status, "findings": findings, "unfixed": [], "unknown": [],
    }))
    .unwrap()
}

fn finding(package: &str) -> serde_json::Value {
    serde_json::json!({
        "package": package, "architecture": "amd64", "source": "web",
        "installed": "1", "installed_source": "1", "candidate": "2", "candidate_source": "2",
        "offered_by": { "kind": "advisory" },
        "priority": "high", "outcome": "high", "unscored": false,
        "policy": { "name": "default", "version": "1.0.0" },
        "inputs": {}, "reason": "urgency high",
        "cves": [], "advisories": [], "security": true, "held": false,
    })
}

async fn an_item_is_latest_by_its_own_fresh_check_alone(world: World) {
    let a = world.tenant("a").await;
    let at = store::Environment::now(&*world.environment);
    let ci = world.store.create_ci(&world.admin, None, vm(a.id, "web")).await.unwrap();
    world.store.create_ci(&world.admin, None, vm(a.id, "db")).await.unwrap();
    let found = report(at, "latest", &serde_json::json!([]));
    world.observe(&ci, package_set(&[("web", "2")])).await;
    world.checked(&ci, found.clone()).await;

    let fresh = world.store.check_totals(&world.admin, at).await.unwrap();
    assert_eq!((fresh.latest, fresh.silent, fresh.unchecked), (1, 0, 1));
    let later = at + SignedDuration::from_hours(1);
    let stale = world.store.check_totals(&world.admin, later).await.unwrap();
    assert_eq!((stale.latest, stale.silent, stale.unchecked), (0, 1, 1));

    let check = world.store.check(&world.admin, ci.id).await.unwrap().unwrap();
    assert_eq!((check.report, check.counts.status), (found, Status::Latest));
    let other = world.tenant("b").await;
    let bert = world.owner(&other).await;
    assert!(world.store.check(&bert, ci.id).await.is_err());
    assert!(world.store.check_counts(&bert, &[ci.id]).await.unwrap().is_empty());
    assert_eq!(world.store.check_totals(&bert, at).await.unwrap(), store::CheckTotals::default());
}

async fn a_patch_of_several_packages_counts_once(world: World) {
    let a = world.tenant("a").await;
    let at = store::Environment::now(&*world.environment);
    let ci = world.store.create_ci(&world.admin, None, vm(a.id, "web")).await.unwrap();
    let findings = serde_json::json!([finding("web"), finding("web-doc")]);
    world.observe(&ci, package_set(&[("web", "1")])).await;
    world.checked(&ci, report(at, "outdated", &findings)).await;

    let totals = world.store.check_totals(&world.admin, at).await.unwrap();
    assert_eq!((totals.outdated, totals.findings), (1, [0, 1, 0, 0]));
}
