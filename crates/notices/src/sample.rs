//! A made-up notice of each kind: what templates are tried with when they are loaded, and what an
//! operator who writes templates can look at.

use std::collections::BTreeMap;

use domain::change::{Kind as Category, PlanHash, Reason, Shortfall, Window};
use domain::cloud::{BreakGlassId, ChangeId, CiId, DriftId, Name, NoticeId, TenantId};
use domain::configuration::verdict::{Confidence, Standing};
use domain::priority::Priority;
use domain::proof::{Downtime, Impact, Reboot, RebootCause};
use domain::sla::{Party, Silence, Stage, Zone};
use jiff::{SignedDuration, Timestamp};

use crate::content::{
    Ask, ClockCounts, ClockDraft, ClockNotice, Contact, Draft, DriftCounts, DriftDraft,
    DriftNotice, DriftStep, Happening, Item, ItemState, Kind, LateClock, Lateness, News, Notice,
    OpenBreakGlass, OpenDrift, Rollback, Tenant, WayBack,
};

/// How much a sample says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fullness {
    /// All that a notice can say.
    Full,
    /// Only what every notice says.
    Bare,
}

/// When the samples were published.
const PUBLISHED: i64 = 1_772_442_000; // 2 March 2026, 09:00 UTC

/// A notice of a kind, the same each time.
///
/// # Panics
/// Never: what it consists of is tried by the tests.
pub fn sample(kind: Kind, fullness: Fullness) -> Notice {
    let draft = match fullness {
        Fullness::Full => full(kind),
        Fullness::Bare => bare(kind),
    };
    Notice::new(draft).expect("the sample holds to the rules")
}

/// A notice of clocks, the same each time: in full to the provider, with a clock in every stage and with
/// every holder; else to a tenant, of one.
///
/// # Panics
/// Never: what it consists of is tried by the tests.
pub fn sample_clocks(fullness: Fullness) -> ClockNotice {
    let bare = bare(Kind::Planned);
    let warned = LateClock {
        change: bare.change,
        title: bare.title,
        of: bare.tenant.id,
        of_name: bare.tenant.name.clone(),
        priority: Priority::Medium,
        lateness: Lateness::Warned,
        share: Some(75),
        late_since: None,
        stage: Some(Stage::Answer),
        holder: Some(Party::Tenant),
        held_since: at(-30),
        stage_deadline: None,
        due: None,
    };
    let mut draft = ClockDraft {
        id: bare.id,
        tenant: bare.tenant,
        published_at: at(0),
        counts: ClockCounts { warned: 1, ..ClockCounts::default() },
        clocks: vec![warned.clone()],
        contact: bare.contact,
        link_base: bare.link_base,
    };
    if fullness == Fullness::Full {
        draft.tenant = provider(draft.tenant);
        draft.counts = ClockCounts { breached: 3, overdue: 5, warned: 991 };
        draft.clocks = clocks(&warned);
    }
    ClockNotice::new(draft).expect("the sample holds to the rules")
}

fn clocks(warned: &LateClock) -> Vec<LateClock> {
    let late = |place: i64, lateness, stage, holder| LateClock {
        change: ChangeId::new(at(-30 - place), [2; 10]),
        lateness,
        share: (lateness == Lateness::Warned).then_some(50),
        late_since: (lateness != Lateness::Warned).then(|| at(-place)),
        stage: Some(stage),
        holder: Some(holder),
        stage_deadline: Some(at(3 - place)),
        due: Some(at(48 - place)),
        ..warned.clone()
    };
    vec![
        late(1, Lateness::Warned, Stage::Evaluate, Party::Provider),
        late(2, Lateness::Overdue, Stage::Test, Party::Provider),
        late(3, Lateness::Overdue, Stage::Notify, Party::Vendor),
        late(4, Lateness::Warned, Stage::Lead, Party::ChangeFreeze),
        late(5, Lateness::Breached, Stage::Install, Party::Provider),
        late(6, Lateness::Breached, Stage::Verify, Party::HostUnreachable),
        LateClock { due: Some(at(9)), ..warned.clone() },
        LateClock {
            stage: None,
            holder: None,
            ..late(7, Lateness::Breached, Stage::Verify, Party::Provider)
        },
    ]
}

/// A notice of drift, the same each time: in full to the provider, with each verdict and whatever can
/// happen to a file; else to a tenant, of one.
///
/// # Panics
/// Never: what it consists of is tried by the tests.
pub fn sample_drift(fullness: Fullness) -> DriftNotice {
    let bare = bare(Kind::Planned);
    let opened = OpenDrift {
        id: DriftId::new(at(0), [3; 10]),
        ci: bare.items[0].ci,
        ci_name: bare.items[0].name.clone(),
        of: bare.tenant.id,
        of_name: bare.tenant.name.clone(),
        path: known("/etc/ssh/sshd_config"),
        step: DriftStep::Opened,
        what: Happening::Altered,
        verdict: Standing::Unauthorised,
        confidence: Confidence::High,
        by: None,
        happened_at: at(-1),
        opened_at: at(-1),
        alterations: 1,
    };
    let mut draft = DriftDraft {
        id: bare.id,
        tenant: bare.tenant,
        published_at: at(0),
        counts: DriftCounts { opened: 1, escalated: 0, items: 1 },
        drifts: vec![opened.clone()],
        break_glass: Vec::new(),
        contact: bare.contact,
        link_base: bare.link_base,
    };
    if fullness == Fullness::Full {
        draft.tenant = provider(draft.tenant);
        draft.counts = DriftCounts { opened: 997, escalated: 2, items: 40 };
        draft.drifts = drifts(&opened);
        draft.break_glass = break_glass(&opened);
    }
    DriftNotice::new(draft).expect("the sample holds to the rules")
}

fn break_glass(on: &OpenDrift) -> Vec<OpenBreakGlass> {
    let opened = OpenBreakGlass {
        id: BreakGlassId::new(at(0), [4; 10]),
        on: known("web servers"),
        of: on.of,
        of_name: on.of_name.clone(),
        step: DriftStep::Opened,
        ticket: known("INC-4711"),
        reason: known("the site is down since noon"),
        opened_by: known("anna"),
        opened_at: at(0),
        until: at(1),
        review_by: at(25),
        patterns: vec![known("/etc/nginx/**"), known("/etc/hosts")],
        altered: 0,
    };
    let late = OpenBreakGlass {
        id: BreakGlassId::new(at(-30), [4; 10]),
        step: DriftStep::Escalated,
        ticket: known("INC-4700"),
        opened_at: at(-30),
        until: at(-29),
        review_by: at(-5),
        altered: 3,
        ..opened.clone()
    };
    vec![opened, late]
}

fn drifts(opened: &OpenDrift) -> Vec<OpenDrift> {
    let (standings, happenings) = (Standing::ALL, Happening::ALL);
    let one = |place: usize, path: &str| {
        let hours = i64::try_from(place).unwrap_or(0);
        OpenDrift {
            id: DriftId::new(at(-hours), [3; 10]),
            path: known(path),
            what: happenings[place % happenings.len()],
            verdict: standings[standings.len() - 1 - place % standings.len()],
            confidence: Confidence::ALL[place % Confidence::ALL.len()],
            happened_at: at(-hours),
            opened_at: at(-hours),
            ..opened.clone()
        }
    };
    let still = |place, path| OpenDrift {
        step: DriftStep::Escalated,
        by: Some(known("anna (uid 1000), /usr/bin/vim")),
        happened_at: at(-2),
        opened_at: at(-30),
        alterations: 4,
        ..one(place, path)
    };
    vec![
        one(0, "/etc/sudoers.d/90-local"),
        one(1, "/etc/nginx/nginx.conf"),
        one(2, "/etc/cron.d/backup"),
        one(3, "/etc/login.defs"),
        OpenDrift {
            of: domain::cloud::PROVIDER,
            of_name: known("Example Cloud"),
            ..one(5, "/etc/frr/frr.conf")
        },
        still(4, "/etc/pam.d/common auth"),
        still(9, "/etc/ssh/sshd_config"),
    ]
}

/// In the place of a tenant.
fn provider(tenant: Tenant) -> Tenant {
    Tenant { id: domain::cloud::PROVIDER, name: known("Example Cloud"), zone: tenant.zone }
}

fn at(hours: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(PUBLISHED) + SignedDuration::from_hours(hours)
}

/// A text that is known to be right.
fn known<T: std::str::FromStr>(text: &str) -> T {
    let Ok(known) = text.parse() else { unreachable!("the sample's `{text}` is right") };
    known
}

fn reason(text: &str) -> Reason {
    known(text)
}

fn full(kind: Kind) -> Draft {
    Draft {
        plan: Some(PlanHash::from([0xa5; 32])),
        news: news(kind, Ask::Answer { by: at(7 * 24), silence: Silence::Approves }),
        advisories: ["DSA-6113-1", "CVE-2026-0711", "CVE-2026-0712"].map(known).to_vec(),
        impact: Some(impact()),
        due: Some(at(30 * 24)),
        items: items(kind),
        rollback: vec![
            WayBack { items: 3, by: Rollback::Packages },
            WayBack { items: 1, by: Rollback::Snapshot },
            WayBack {
                items: 1,
                by: Rollback::Impossible {
                    reason: reason("the appliance keeps no older version of its firmware"),
                },
            },
        ],
        ..bare(kind)
    }
}

fn bare(kind: Kind) -> Draft {
    let ask = if kind == Kind::Emergency { Ask::Told } else { Ask::Nothing };
    Draft {
        id: NoticeId::new(at(0), [7; 10]),
        tenant: Tenant {
            id: TenantId::new(at(-9000), [1; 10]),
            name: known("Sparkasse Süd"),
            zone: Zone::named("Europe/Berlin").unwrap_or_else(Zone::utc),
        },
        change: ChangeId::new(at(-30), [2; 10]),
        plan: None,
        sequence: place(kind),
        published_at: at(0),
        news: news(kind, ask),
        category: if kind == Kind::Cancelled { Category::Alteration } else { Category::Patch },
        priority: if kind == Kind::Emergency { Priority::Critical } else { Priority::Medium },
        title: known("openssl 3.0.17-1~deb12u2 for Debian 12"),
        description: known(
            "Two flaws in the handling of certificates are fixed: a malformed name could end the \
             process that reads it.\n\nServices that use the library restart by themselves.",
        ),
        advisories: Vec::new(),
        impact: None,
        due: None,
        items: vec![item(0, "web-1", ItemState::Pending)],
        rollback: Vec::new(),
        contact: Contact { name: known("Operations desk"), at: known("ops@cloud.example") },
        link_base: known("https://patch.cloud.example/"),
    }
}

/// Where a kind stands among the notices of a change.
fn place(kind: Kind) -> u32 {
    let before = Kind::ALL.iter().take_while(|&&other| other != kind);
    u32::try_from(before.count()).unwrap_or(u32::MAX)
}

fn news(kind: Kind, ask: Ask) -> News {
    // 10 March 2026, 23:00 to 01:00 in Berlin.
    let window = Window { from: at(8 * 24 + 13), until: at(8 * 24 + 15) };
    let later = Window { from: at(15 * 24 + 13), until: at(15 * 24 + 15) };
    match kind {
        Kind::Planned => News::Planned { window, ask },
        Kind::Reminder => News::Reminder { window, ask },
        Kind::Emergency => {
            News::Emergency { window: Window { from: at(4), until: at(6) }, ask: Ask::Told }
        }
        Kind::Lapsed => News::Lapsed { window, answer_by: at(-1) },
        Kind::Started => News::Started { window, at: at(8 * 24 + 13) },
        Kind::Completed => News::Completed {
            ran: Window {
                from: window.from,
                until: window.from + SignedDuration::from_secs(11 * 60 + 30),
            },
        },
        Kind::Delayed => News::Delayed {
            before: window,
            window: (ask != Ask::Nothing).then_some(later),
            reason: reason("The patch did not start in the lab on one of your images."),
            ask,
        },
        Kind::Cancelled => News::Cancelled {
            before: window,
            reason: reason("The vendor has withdrawn the update."),
        },
        Kind::Disputed => News::Disputed {
            window,
            reason: reason("web-3 refused an order: the tenant's side is missing."),
        },
        Kind::Failed => News::Failed {
            window,
            shortfall: Shortfall::RolledBack,
            reason: (ask != Ask::Nothing).then(|| {
                reason("nginx.service did not come up on web-3; what was before is back.")
            }),
        },
    }
}

fn item(number: u8, name: &str, state: ItemState) -> Item {
    let name: Name = known(name);
    Item { ci: CiId::new(at(-1000), [number; 10]), name, state }
}

fn items(kind: Kind) -> Vec<Item> {
    let (most, odd) = match kind {
        Kind::Completed => (ItemState::Done, ItemState::Accepted),
        Kind::Failed | Kind::Disputed => (ItemState::Done, ItemState::Failed),
        _ => (ItemState::Pending, ItemState::Skipped),
    };
    ["db-1", "fw-1", "web-1", "web-2", "web-3"]
        .into_iter()
        .enumerate()
        .map(|(place, name)| {
            let state = if name == "web-3" { odd } else { most };
            item(u8::try_from(place).unwrap_or(u8::MAX), name, state)
        })
        .collect()
}

fn impact() -> Impact {
    let down = |milliseconds| Downtime { times: 1, milliseconds };
    Impact {
        install_ms: 8_420,
        restarted: BTreeMap::from([
            ("nginx.service".to_owned(), down(1_240)),
            ("ssh.service".to_owned(), down(60)),
        ]),
        reboot: Reboot {
            causes: vec![RebootCause::Kernel {
                running: "6.1.0-31-amd64".to_owned(),
                installed: "6.1.0-32-amd64".to_owned(),
            }],
            downtime_ms: Some(23_700),
            units: BTreeMap::from([("nginx.service".to_owned(), 21_300)]),
        },
        files_touched: vec!["/usr/lib/x86_64-linux-gnu/libssl.so.3".to_owned()],
        configuration_changed: vec!["/etc/ssl/openssl.cnf".to_owned()],
        packages: BTreeMap::from([(
            "libssl3:amd64".to_owned(),
            (Some("3.0.15-1~deb12u1".to_owned()), Some("3.0.17-1~deb12u2".to_owned())),
        )]),
        disk_bytes: 1 << 20,
        new_errors: Vec::new(),
    }
}
