use super::*;
use crate::inventory::{InstalledPackage, PackageState, SourcePackage, StaleProcess};
use crate::proof::{
    Filesystem, Listener, ProbeOutcome, Protocol, SpecialPath, UnitEvent, UnitStep,
};

/// A web server before its patch.
fn before() -> Picture {
    let unit = |active: &str, kind: &str| Unit {
        active: active.to_owned(),
        sub: "running".to_owned(),
        kind: kind.to_owned(),
        ..Unit::default()
    };
    Picture {
        boot_id: "one".into(),
        kernel_release: "6.1.0-9-amd64".into(),
        kernel_version: "#1 SMP Debian 6.1.9-1 (2026-01-01)".into(),
        newest_kernel: Some("6.1.0-9-amd64".into()),
        packages: vec![package("libssl3", "openssl", "3.0-1"), package("nginx", "nginx", "1.22-1")],
        units: BTreeMap::from([
            ("nginx.service".to_owned(), unit("active", "forking")),
            ("setup.service".to_owned(), unit("active", "oneshot")),
        ]),
        listeners: [listener(80)].into(),
        package_files: files("libssl3:amd64", "old"),
        filesystems: BTreeMap::from([("/".to_owned(), filesystem(500))]),
        probes: vec![ProbeOutcome { name: "home page".into(), failure: None }],
        ..Picture::default()
    }
}

/// The same after openssl was patched.
fn after() -> Picture {
    let mut picture = before();
    picture.packages[0] = package("libssl3", "openssl", "3.0-2");
    picture.package_files = files("libssl3:amd64", "new");
    picture
}

fn package(name: &str, source: &str, version: &str) -> InstalledPackage {
    InstalledPackage {
        name: name.into(),
        architecture: "amd64".into(),
        version: version.into(),
        source: SourcePackage { name: source.into(), version: version.into() },
        state: PackageState::Installed,
        held: false,
    }
}

fn files(package: &str, digest: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let files = [
        ("/usr/lib/libssl.so.3".to_owned(), digest.to_owned()),
        ("/usr/share/doc/libssl3/changelog.gz".to_owned(), format!("{digest}-log")),
    ];
    BTreeMap::from([(package.to_owned(), BTreeMap::from(files))])
}

fn listener(port: u16) -> Listener {
    Listener { protocol: Protocol::Tcp, address: "0.0.0.0".into(), port }
}

fn filesystem(available: u64) -> Filesystem {
    Filesystem { total: 1000, available, free_inodes: 10, read_only: false }
}

fn expectation() -> Expectation {
    Expectation {
        patched: vec![Patched {
            package: "libssl3".into(),
            architecture: "amd64".into(),
            version: "3.0-2".into(),
            source: "openssl".into(),
        }],
        claims: vec![Claim {
            source: "openssl".into(),
            version: "3.0-2".into(),
            ids: vec!["CVE-2026-1".into()],
        }],
    }
}

fn installed() -> Installation {
    Installation {
        exit: Some(0),
        hung_after_seconds: None,
        output: String::new(),
        began_ms: 1_000,
        took_ms: 500,
    }
}

/// The verdict where these were the pictures after, and everything else went well.
fn verdict_of(after: &Picture, after_reboot: &Picture) -> (Verdict, Impact) {
    judge(&Evidence {
        expectation: &expectation(),
        before: &before(),
        installation: Some(&installed()),
        after: Some(after),
        after_reboot: Some(after_reboot),
        kernel_started_ms: Some(2_000),
        lost: Vec::new(),
        way_back: WayBackEvidence::Untried("not asked".into()),
    })
}

/// The only reason against a patch after which the system looks like this.
fn reason(alter: impl Fn(&mut Picture)) -> Reason {
    let mut picture = after();
    alter(&mut picture);
    let (verdict, _) = verdict_of(&picture, &picture);
    let reasons: Vec<&Reason> = verdict.reasons().collect();
    let [reason] = reasons[..] else { panic!("{reasons:#?}") };
    reason.clone()
}

#[test]
fn a_patch_that_only_patches_passes() {
    let (verdict, _) = verdict_of(&after(), &after());
    assert!(verdict.passes(), "{verdict:#?}");
}

#[test]
fn the_version_must_be_the_one_that_was_given() {
    let found = reason(|picture| picture.packages[0].version = "3.0-3".into());
    assert!(
        matches!(found, Reason::NotInstalled { found: Some(version), .. } if version == "3.0-3")
    );
}

#[test]
fn a_binary_of_the_same_source_left_behind_is_not_fixed() {
    let found = reason(|picture| picture.packages.push(package("openssl", "openssl", "3.0-1")));
    assert!(matches!(found, Reason::NotFixed { package, .. } if package == "openssl"));
}

#[test]
fn a_new_version_of_the_same_files_changes_nothing() {
    let found = reason(|picture| {
        let files = picture.package_files.get_mut("libssl3:amd64").unwrap();
        files.insert("/usr/lib/libssl.so.3".into(), "old".into());
    });
    assert!(matches!(found, Reason::ChangesNothing { source, .. } if source == "openssl"));
}

#[test]
fn nothing_may_go_back_or_away() {
    let downgraded = reason(|picture| picture.packages[1].version = "1.21-9".into());
    assert!(matches!(downgraded, Reason::Downgraded { package, .. } if package == "nginx"));

    let removed = reason(|picture| {
        picture.packages.pop();
    });
    assert!(matches!(removed, Reason::Removed { package, .. } if package == "nginx"));
}

#[test]
fn nothing_may_be_opened() {
    let found = reason(|picture| {
        picture.listeners.insert(listener(4444));
    });
    assert_eq!(found, Reason::NewListener { listener: listener(4444) });

    let path = SpecialPath {
        path: "/usr/bin/x".into(),
        why: SpecialWhy::SetId,
        rights: "4755 0:0".into(),
    };
    let found = reason(|picture| {
        picture.special_paths.insert(path.clone());
    });
    assert_eq!(found, Reason::NewSpecialPath { path });
}

#[test]
fn what_ran_must_run() {
    let stopped = reason(|picture| {
        picture.units.get_mut("nginx.service").unwrap().active = "inactive".into();
    });
    assert!(matches!(stopped, Reason::UnitStopped { .. }));

    let looping = reason(|picture| {
        picture.units.get_mut("nginx.service").unwrap().active = "activating".into();
    });
    assert!(matches!(looping, Reason::UnitStopped { .. }));

    let failed = reason(|picture| {
        picture.units.get_mut("nginx.service").unwrap().active = "failed".into();
    });
    assert!(matches!(failed, Reason::UnitFailed { .. }));

    let probe = reason(|picture| picture.probes[0].failure = Some("refused".into()));
    assert!(matches!(probe, Reason::ProbeFailed { .. }));
}

#[test]
fn what_does_its_work_once_may_rest() {
    let mut rebooted = after();
    rebooted.units.get_mut("setup.service").unwrap().active = "inactive".into();
    assert!(verdict_of(&after(), &rebooted).0.passes());

    rebooted.units.get_mut("setup.service").unwrap().active = "failed".into();
    assert!(!verdict_of(&after(), &rebooted).0.passes());
}

#[test]
fn old_code_may_run_until_the_restart_and_not_after() {
    let mut stale = after();
    stale.stale_processes.push(StaleProcess {
        pid: 1,
        command: "nginx".into(),
        unit: Some("nginx.service".into()),
        deleted_files: vec!["/usr/lib/libssl.so.3".into()],
        packages: std::collections::BTreeSet::new(),
    });

    let (verdict, impact) = verdict_of(&stale, &after());
    assert!(verdict.passes());
    assert_eq!(impact.reboot.causes.len(), 1);

    let (verdict, _) = verdict_of(&stale, &stale);
    assert!(matches!(verdict.security[..], [Reason::StaleCode { .. }]));
}

#[test]
fn the_new_kernel_must_run_and_not_only_be_there() {
    let mut expectation = expectation();
    expectation.patched.push(Patched {
        package: "linux-image-6.1.0-9-amd64".into(),
        architecture: "amd64".into(),
        version: "6.1.9-2".into(),
        source: "linux".into(),
    });
    let mut rebooted = after();
    rebooted.packages.push(package("linux-image-6.1.0-9-amd64", "linux", "6.1.9-2"));
    let judged = |rebooted: &Picture| {
        judge(&Evidence {
            expectation: &expectation,
            before: &before(),
            installation: Some(&installed()),
            after: Some(rebooted),
            after_reboot: Some(rebooted),
            kernel_started_ms: None,
            lost: Vec::new(),
            way_back: WayBackEvidence::Untried(String::new()),
        })
    };

    assert!(matches!(judged(&rebooted).0.security[..], [Reason::OldKernelRuns { .. }]));

    rebooted.kernel_version = "#1 SMP Debian 6.1.9-2 (2026-02-01)".into();
    let (verdict, impact) = judged(&rebooted);
    assert!(verdict.passes(), "{verdict:#?}");
    assert!(matches!(impact.reboot.causes[..], [super::super::RebootCause::Kernel { .. }]));
}

#[test]
fn a_kernel_kept_as_a_fallback_may_be_old() {
    let mut expectation = expectation();
    expectation.claims.push(Claim {
        source: "linux".into(),
        version: "6.1.9-2".into(),
        ids: vec![],
    });
    let mut picture = after();
    picture.packages.push(package("linux-image-6.1.0-9-amd64", "linux", "6.1.9-1"));
    picture.packages.push(package("linux-image-6.1.0-10-amd64", "linux", "6.1.9-2"));
    picture.newest_kernel = Some("6.1.0-10-amd64".into());
    let judged = |after_reboot: Option<&Picture>| {
        let (verdict, _) = judge(&Evidence {
            expectation: &expectation,
            before: &before(),
            installation: Some(&installed()),
            after: Some(&picture),
            after_reboot,
            kernel_started_ms: None,
            lost: Vec::new(),
            way_back: WayBackEvidence::Untried(String::new()),
        });
        verdict.reasons().any(|reason| matches!(reason, Reason::NotFixed { .. }))
    };
    let mut rebooted = picture.clone();
    rebooted.kernel_release = "6.1.0-10-amd64".into();

    assert!(!judged(None), "the old one still runs, as it must until the restart");
    assert!(!judged(Some(&rebooted)));
    assert!(judged(Some(&picture)), "the old one runs after the restart");
}

#[test]
fn a_disk_must_keep_some_space() {
    let found = reason(|picture| {
        picture.filesystems.insert("/".into(), filesystem(19));
    });
    assert!(matches!(found, Reason::SpaceShort { after: 19, needed: 20, .. }));
}

#[test]
fn what_was_not_seen_is_not_good() {
    let mut blind = after();
    blind.problems.push("no journal".into());

    let (verdict, _) = verdict_of(&blind, &after());

    assert!(matches!(&verdict.security[..], [Reason::Unseen { stage, .. }] if stage == "after"));
}

#[test]
fn without_a_picture_after_the_restart_nothing_passes() {
    let (verdict, _) = judge(&Evidence {
        expectation: &expectation(),
        before: &before(),
        installation: Some(&installed()),
        after: Some(&after()),
        after_reboot: None,
        kernel_started_ms: None,
        lost: Vec::new(),
        way_back: WayBackEvidence::Untried(String::new()),
    });
    assert!(
        matches!(&verdict.security[..], [Reason::Unseen { stage, .. }] if stage == "after-reboot")
    );
}

#[test]
fn downtime_runs_from_the_first_step_down_until_the_unit_is_up() {
    let event = |at_ms, step| UnitEvent { at_ms, unit: "nginx.service".into(), step };
    let mut picture = after();
    picture.unit_events = vec![
        event(900, UnitStep::Started),
        event(1_100, UnitStep::Stopping),
        event(1_150, UnitStep::Stopped),
        event(1_160, UnitStep::Starting),
        event(1_400, UnitStep::Started),
        event(1_450, UnitStep::Stopping),
    ];

    let (_, impact) = verdict_of(&picture, &after());

    let downtime = impact.restarted["nginx.service"];
    assert_eq!((downtime.times, downtime.milliseconds), (2, 300 + 50));
}

#[test]
fn the_way_back_is_held_to_what_was_before() {
    let judged = |restored: &Picture| {
        let (verdict, _) = judge(&Evidence {
            expectation: &expectation(),
            before: &before(),
            installation: Some(&installed()),
            after: Some(&after()),
            after_reboot: Some(&after()),
            kernel_started_ms: None,
            lost: Vec::new(),
            way_back: WayBackEvidence::Tried(restored),
        });
        verdict.way_back
    };
    assert_eq!(judged(&before()), WayBack::Restores);

    let WayBack::Differs { differences } = judged(&after()) else { panic!("it differs") };
    assert_eq!(differences[0].what, "package libssl3:amd64");
}
