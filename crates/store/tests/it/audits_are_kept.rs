//! What audits came to is kept within the tenant, and due again after its time.

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::cloud::Class;
use domain::configuration::audit::{AuditReport, Audited};
use domain::configuration::baseline::{Observed, Standards, Subject};
use jiff::SignedDuration;
use store::{Actor, AuditFacts, Environment as _, FilesNoted, NewAudit};

use crate::support::{World, vm};

on_both_engines! {
    audits_are_kept_within_the_tenant
}

async fn audits_are_kept_within_the_tenant(world: World) {
    let (one, other) = (world.tenant("one").await, world.tenant("other").await);
    let ci = world.store.create_ci(&Actor::System, None, vm(one.id, "web-1")).await.unwrap().id;
    let now = world.environment.now();
    let digest = domain::fleet::SetDigest::from([7; 32]);
    let noted = FilesNoted { digest, observed_at: now, is_whole: true };
    world.store.note_files(&Actor::System, ci, noted).await.unwrap();
    let day = SignedDuration::from_hours(24);
    assert_eq!(world.store.due_audits(day, 10).await.unwrap(), [(ci, None)]);
    let facts = world.store.audit_facts(&Actor::System, ci).await.unwrap();
    assert_eq!(facts, AuditFacts { seen_at: None, said: Some(digest) });

    let subject = Subject { class: Class::Vm, labels: BTreeMap::new() };
    let audited = Audited {
        item: Arc::new(Observed::new(subject, [])),
        at: now,
        since: now - day,
        seen_at: facts.seen_at,
        said: facts.said,
        recorded: None,
        altered: Ok(Vec::new()),
        drifts: 0,
    };
    let report = AuditReport::of(&audited, &Standards::built_in(Class::Vm));
    let new = NewAudit { ci, facts, report: report.clone() };
    let kept = world.store.keep_audit(&Actor::System, None, new).await.unwrap();

    assert_eq!((kept.tenant, kept.hash.as_str()), (one.id, report.hash().as_str()));
    assert_eq!(kept.facts, facts);
    let (by, stranger) = (world.owner(&one).await, world.owner(&other).await);
    assert_eq!(world.store.audit(&by, kept.id).await.unwrap(), kept);
    assert_eq!(world.store.audits(&by, Some(ci), 10).await.unwrap(), std::slice::from_ref(&kept));
    assert!(world.store.audit(&stranger, kept.id).await.is_err());
    assert!(world.store.audits(&stranger, None, 10).await.unwrap().is_empty());
    assert!(world.store.audit_facts(&stranger, ci).await.is_err());

    // The last audit of each item is surveyed, and those that were never audited are told.
    let never = world.store.create_ci(&Actor::System, None, vm(one.id, "web-2")).await.unwrap().id;
    let surveyed = world.store.surveyed(&by, None, None).await.unwrap();
    let last: Vec<_> = surveyed.iter().map(|it| (it.ci, it.last.as_ref().map(|it| it.0))).collect();
    assert_eq!(last, [(ci, Some(now)), (never, None)]);
    assert_eq!(world.store.surveyed(&by, Some(one.id), None).await.unwrap().len(), 2);
    assert!(world.store.surveyed(&stranger, Some(one.id), None).await.unwrap().is_empty());
    assert!(world.store.surveyed(&stranger, None, None).await.unwrap().is_empty());

    assert!(world.store.due_audits(day, 10).await.unwrap().is_empty());
    world.environment.pass(day);
    assert_eq!(world.store.due_audits(day, 10).await.unwrap(), [(ci, Some(now))]);
}
