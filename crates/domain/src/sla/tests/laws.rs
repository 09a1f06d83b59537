//! Laws that hold for whatever is recorded, in whatever order, whatever clocks show.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;

const EPOCH: i64 = 1_790_000_000;

fn minute(minute: i64) -> Timestamp {
    Timestamp::from_second(EPOCH + minute * 60).unwrap()
}

fn any_instants() -> impl Strategy<Value = Instants> {
    let moments = [
        Moment::VendorPublished,
        Moment::Evaluated,
        Moment::KevAdded,
        Moment::Tested,
        Moment::Notified,
        Moment::Approved,
        Moment::Installed,
        Moment::Verified,
        Moment::Regressed,
        Moment::Notified,
        Moment::Approved,
        Moment::Installed,
        Moment::Verified,
        Moment::Withdrawn,
    ];
    // Mostly in order, sometimes not: a clock that was set while the record was made.
    let gap = prop_oneof![9 => 0_i64..12_000, 1 => -9_000_i64..0];
    let steps = moments.map(|moment| (Just(moment), prop::bool::weighted(0.7), gap.clone()));
    (steps.to_vec(), 1_usize..14).prop_map(|(steps, length)| {
        let mut instants = Instants::new();
        let mut now = 0;
        instants.record(Moment::Collected, minute(0)).unwrap();
        for (moment, happens, gap) in steps.into_iter().take(length) {
            // A patch is rarely taken back, and then nothing follows.
            if happens {
                now += gap;
                let _ = instants.record(moment, minute(now));
            }
        }
        instants
    })
}

fn any_priority() -> impl Strategy<Value = Priority> {
    prop::sample::select(vec![Priority::Critical, Priority::High, Priority::Medium, Priority::Low])
}

fn any_world() -> impl Strategy<Value = World> {
    let spans = prop::collection::vec((0_i64..60_000, 1_i64..20_000), 0..4);
    let causes = [Cause::Vendor, Cause::HostUnreachable, Cause::ChangeFreeze];
    let interruptions = prop::collection::vec(
        (prop::sample::select(causes.to_vec()), 0_i64..60_000, prop::option::of(0_i64..20_000)),
        0..4,
    );
    (any_instants(), any_priority(), any::<bool>(), any::<bool>(), spans, interruptions).prop_map(
        |(instants, priority, listed, tenant, deferrals, interruptions)| {
            let policy = negotiated(
                "regulations = [\"bod-26-04\", \"fedramp-vdr-moderate\", \"pci-dss-4.0.1\"]\n\
                 calendar.zone = \"Europe/Berlin\"\n[[calendar.freezes]]\nfrom = \
                 \"2026-09-30T00:00:00\"\nuntil = \"2026-10-05T12:00:00\"\nreason = \"x\"\nexcept \
                 = [\"critical\"]",
            );
            let facts = if listed { exploited(priority) } else { facts(priority) };
            let mut world = World::new(&policy, facts, instants);
            world.duty = if tenant { Duty::Tenant } else { Duty::Provider };
            world.deferrals = deferrals
                .into_iter()
                .map(|(from, long)| Deferral {
                    at: minute(from),
                    until: minute(from + long),
                    again: false,
                })
                .collect();
            world.interruptions = interruptions
                .into_iter()
                .map(|(cause, from, long)| Interruption {
                    cause,
                    from: minute(from),
                    until: long.map(|long| minute(from + long)),
                })
                .collect();
            world
        },
    )
}

impl std::fmt::Debug for World {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "{} {:?} {:?} {:?} {:?}",
            self.facts.priority, self.duty, self.instants, self.deferrals, self.interruptions
        )
    }
}

/// When the clock of a world ends, told from the records alone.
fn elapsed(world: &World, now: Timestamp) -> SignedDuration {
    let records = world.instants.records();
    let round = records.iter().rposition(|it| it.moment == Moment::Regressed);
    let (start, mine) = match round {
        Some(position) => (records[position].at, &records[position + 1..]),
        None => (minute(0), records),
    };
    let latest = records.iter().map(|it| it.at).max().unwrap().max(now);
    let withdrawn = records.iter().find(|it| it.moment == Moment::Withdrawn).map(|it| it.at);
    let verified = mine.iter().any(|it| it.moment == Moment::Verified);
    let stages = [
        Moment::Evaluated,
        Moment::Tested,
        Moment::Notified,
        Moment::Approved,
        Moment::Installed,
        Moment::Verified,
    ];
    let end = if verified {
        // Time never runs backwards: an earlier stage that was recorded later carries the end.
        let known = if round.is_some() { mine } else { records };
        let reached = known.iter().filter(|it| stages.contains(&it.moment)).map(|it| it.at);
        reached.chain([start]).max().unwrap()
    } else {
        latest
    };
    let end = withdrawn.map_or(end, |withdrawn| withdrawn.min(end));
    end.duration_since(start).max(SignedDuration::ZERO)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn the_ledger_sums_to_the_elapsed_time_without_gap_or_overlap(
        world in any_world(), now in -1_000_i64..200_000,
    ) {
        let ledger = world.case().attribution(minute(now));
        for pair in ledger.windows(2) {
            prop_assert_eq!(pair[0].until, pair[1].from);
            prop_assert!((pair[0].party, pair[0].stage) != (pair[1].party, pair[1].stage));
        }
        prop_assert!(ledger.iter().all(|span| span.from < span.until));
        let sum = ledger.iter().fold(SignedDuration::ZERO, |sum, span| sum + span.length());
        // An approval that silence gave before a later one is no later than it; neither moves the
        // end, which other records carry.
        let approved_late = world.instants.at(Moment::Approved) > world.instants.at(Moment::Verified);
        if !approved_late {
            prop_assert_eq!(sum, elapsed(&world, minute(now)));
        }
        let by_party = world.case().attributed(minute(now));
        prop_assert_eq!(by_party.values().fold(SignedDuration::ZERO, |sum, it| sum + *it), sum);
    }

    #[test]
    fn nothing_changes_before_the_next_wake(
        world in any_world(), now in -1_000_i64..200_000, share in 0_i64..1000,
    ) {
        let view = world.case().clock(minute(now)).unwrap();
        let now = world.instants.latest().unwrap().max(minute(now));
        let until = view.next_wake.unwrap_or(now + SignedDuration::from_hours(24 * 3_650));
        prop_assert!(until > now);
        let seconds = until.duration_since(now).as_secs();
        let between = seconds / 1000 * share + seconds % 1000 * share / 1000;
        let later = now + SignedDuration::from_secs(between.min(seconds - 1).max(0));
        let at_later = world.case().clock(later).unwrap();
        // A breach's ledger ends at the due date, so that it stays as it was as well.
        prop_assert_eq!(at_later, view);
    }

    #[test]
    fn each_step_is_taken_once_however_clocks_jump(
        world in any_world(), nows in prop::collection::vec(-5_000_000_i64..5_000_000, 1..30),
    ) {
        let mut taken = BTreeSet::new();
        let mut count = 0;
        for now in nows.iter().copied().chain([5_000_000]) {
            let new = world.case().clock(minute(now)).unwrap().escalations(&taken);
            count += new.len();
            taken.extend(new);
        }
        prop_assert_eq!(count, taken.len());
        // In the end the same steps as if it had been looked at once.
        let once = world.case().clock(minute(5_000_000)).unwrap().escalations(&BTreeSet::new());
        let once: BTreeSet<Rung> = once.into_iter().collect();
        prop_assert!(once.is_subset(&taken));
    }

    #[test]
    fn no_evaluation_moves_a_date_later(
        first in any_priority(), others in prop::collection::vec((any_priority(), any::<bool>()), 0..6),
        world in any_world(),
    ) {
        let policy = &world.policy;
        let mut facts = facts(first);
        let instants = super::instants(&[
            (Moment::Collected, "2026-06-01T00:00:00Z"), (Moment::Evaluated, "2026-06-02T00:00:00Z"),
        ]);
        let mut dues = DueDates::new(policy.due_dates(&facts, &instants));
        for (priority, listed) in others {
            facts = if listed { exploited(priority) } else { super::facts(priority) };
            let fresh = policy.due_dates(&facts, &instants);
            let next = dues.reassess(fresh.clone());
            for old in dues.all() {
                let same = |date: &&DueDate| date.pack == old.pack && date.goal == old.goal;
                let new = next.all().iter().find(same).unwrap();
                prop_assert!(new.due <= old.due);
            }
            let earliest = fresh.iter().filter(|it| it.goal == Goal::Verified).map(|it| it.due).min();
            prop_assert!(next.binding().unwrap().due <= earliest.unwrap());
            dues = next;
        }
        let smallest = dues.all().iter().filter(|it| it.goal == Goal::Verified).map(|it| it.due).min();
        prop_assert_eq!(dues.binding().map(|it| it.due), smallest);
    }

    #[test]
    fn a_wait_that_begins_later_never_ends_earlier(
        start in 0_i64..600_000, gap in 0_i64..5_000, days in 0_u16..40, zone in prop::sample::select(
            vec!["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "UTC"],
        ),
    ) {
        let calendar = Calendar {
            zone: Zone::named(zone).unwrap(),
            holidays: ["2026-12-25", "2027-01-01"].map(|day| day.parse().unwrap()).into(),
            ..Calendar::plain()
        };
        let wait = Wait::BusinessDays(days);
        let (start, later) = (minute(start), minute(start + gap));
        let (first, second) = (calendar.end(start, wait), calendar.end(later, wait));
        prop_assert!(start <= first && first <= second);
        prop_assert!(first.duration_since(start) <= calendar.longest(wait) + SignedDuration::from_hours(1));
        let back = calendar.latest_start(first, wait);
        prop_assert!(calendar.end(back, wait) <= first);
    }

    #[test]
    fn a_pause_is_as_long_as_the_freeze_that_it_meets(start in 0_i64..60_000, days in 1_u32..60) {
        let calendar = Calendar {
            freezes: vec![Freeze {
                from: "2026-10-10T00:00:00".parse().unwrap(),
                until: "2026-10-15T00:00:00".parse().unwrap(),
                reason: "x".to_owned(),
                except: BTreeSet::new(),
            }],
            ..Calendar::plain()
        };
        let start = minute(start);
        let end = calendar.end_with_pauses(start, Wait::days(days), Priority::High);
        // Real time outside of the freeze, told minute by minute.
        let (from, until) = (at("2026-10-10T00:00:00Z"), at("2026-10-15T00:00:00Z"));
        let overlap = end.min(until).duration_since(start.max(from)).max(SignedDuration::ZERO);
        prop_assert_eq!(end.duration_since(start) - overlap, SignedDuration::from_hours(24 * i64::from(days)));
    }
}

/// A share of a wait in percent. A wait of nothing would share the deadline before it, which is
/// another rule; so none becomes nothing.
fn shorten(wait: &mut Wait, share: u32) {
    if let Wait::Minutes(minutes @ 1..) = wait {
        *minutes = (*minutes / 100 * share + *minutes % 100 * share / 100).max(1);
    }
}

fn shorten_all(terms: &mut Terms, shares: &[u32; 9]) {
    let Terms { deadline, evaluate, test, notify, install, verify, soak, .. } = terms;
    let waits = [deadline, evaluate, test, notify, install, verify, soak];
    for (wait, share) in waits.into_iter().zip(shares) {
        shorten(wait, *share);
    }
    shorten(&mut terms.notice.lead, shares[7]);
    if let Some(emergency) = &mut terms.emergency {
        // In an emergency nothing takes longer than otherwise.
        shorten(&mut emergency.lead, shares[7]);
    }
    if let Asked::Required { answer, .. } = &mut terms.approval {
        shorten(answer, shares[8]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_shorter_wait_never_makes_a_deadline_later(
        world in any_world(), now in -1_000_i64..200_000,
        shares in prop::array::uniform9(prop_oneof![1 => 1_u32..=100, 1 => Just(100_u32)]),
    ) {
        let shorter = |shares: &[u32; 9]| {
            let mut document = world.policy.document().clone();
            let terms = match world.facts.priority {
                Priority::Critical => &mut document.critical,
                Priority::High => &mut document.high,
                Priority::Medium => &mut document.medium,
                Priority::Low => &mut document.low,
            };
            shorten_all(terms, shares);
            Policy::new(document)
        };
        // A deadline that cannot be kept any more is refused, and stays.
        let [_, rest @ ..] = shares;
        let mut kept = [100; 9];
        kept[1..].copy_from_slice(&rest);
        let policy = shorter(&shares).or_else(|_| shorter(&kept)).unwrap();
        let mut other = World::new(&policy, world.facts.clone(), world.instants.clone());
        other.duty = world.duty;
        (other.deferrals, other.interruptions) = (world.deferrals.clone(), world.interruptions.clone());
        for old in world.dues.all() {
            let same = |date: &&DueDate| date.pack.name == old.pack.name && date.goal == old.goal;
            prop_assert!(other.dues.all().iter().find(same).unwrap().due <= old.due);
        }
        let (old, new) = (world.case().dates(minute(now)).unwrap(), other.case().dates(minute(now)).unwrap());
        prop_assert!(new.due <= old.due);
        prop_assert!(new.earliest_start <= old.earliest_start && new.answer_by <= old.answer_by);
        let after = other.case().phases(minute(now));
        for old in world.case().phases(minute(now)) {
            if let Some(new) = after.iter().find(|new| new.stage == old.stage) {
                prop_assert!(new.from <= old.from, "{:?}", old.stage);
                prop_assert!(new.deadline <= old.deadline && new.ends <= old.ends, "{:?}", old.stage);
            }
        }
    }

    #[test]
    fn a_jump_of_the_wall_clock_neither_breaches_nor_approves(
        world in any_world(),
        steps in prop::collection::vec(
            (1_i64..9_000, prop::sample::select(vec![0, 0, 60, -60, 5_256_000, -5_256_000_i64])), 1..12,
        ),
    ) {
        let latest = world.instants.latest();
        let reading = |wall: i64, counted: i64| Reading {
            wall: minute(wall),
            counted: SignedDuration::from_mins(counted),
        };
        let start = latest.unwrap().duration_since(minute(0)).as_mins();
        let mut steady = Steady::new(reading(start, 7), latest);
        let (mut passed, mut ahead) = (0, 0);
        for (minutes, jump) in steps {
            (passed, ahead) = (passed + minutes, ahead + jump);
            let really = minute(start + passed);
            let (told, jumped) = steady.tell(reading(start + passed + ahead, 7 + passed));
            prop_assert_eq!(jumped.is_some(), ahead != 0);
            let view = world.case().clock(told).unwrap();
            let is_breached = matches!(view.state, State::Breached(_));
            let is_due = world.dues.all().iter().any(|date| date.due <= really);
            prop_assert!(!is_breached || is_due, "nothing was due at {really}");
            let terms = world.case().terms();
            let is_deemed = world.case().deemed_at(&terms).is_some_and(|deemed| deemed <= really);
            let waits = world.instants.at(Moment::Notified).is_some()
                && [Moment::Approved, Moment::Installed, Moment::Verified, Moment::Withdrawn]
                    .iter().all(|moment| world.instants.at(*moment).is_none());
            if waits && !is_deemed && matches!(terms.approval, Asked::Required { .. }) {
                prop_assert_eq!(view.stage, Some(Stage::Answer), "nobody has approved at {}", really);
            }
        }
    }
}
