//! What last quarter's patches would have done under another policy.

use super::*;

fn history(name: &str, priority: Priority, records: &[(Moment, &str)]) -> History {
    History {
        name: name.to_owned(),
        facts: facts(priority),
        duty: Duty::Provider,
        instants: instants(records),
        deferrals: Vec::new(),
        interruptions: Vec::new(),
    }
}

#[test]
fn a_quarter_is_judged_again_under_another_policy() {
    let collected = (Moment::Collected, "2026-06-01T00:00:00Z");
    let histories = [
        history(
            "openssl",
            Priority::Medium,
            &[
                collected,
                (Moment::Evaluated, "2026-06-02T00:00:00Z"),
                (Moment::Tested, "2026-06-05T00:00:00Z"),
                (Moment::Notified, "2026-06-05T00:00:00Z"),
                (Moment::Installed, "2026-06-14T00:00:00Z"),
                (Moment::Verified, "2026-06-14T12:00:00Z"),
            ],
        ),
        history("curl", Priority::Medium, &[collected]),
        history("zlib", Priority::Low, &[collected, (Moment::Withdrawn, "2026-06-02T00:00:00Z")]),
        history("bash", Priority::Low, &[]),
    ];
    let strict = negotiated(
        "[medium]\ndeadline = \"13d\"\nevaluate = \"1d\"\ntest = \"2d\"\nsoak = \"0h\"\n\
         notice.lead = \"3d\"\napproval.answer = \"3d\"\ndeferrals = { count = 0, longest = \
         \"0h\" }\n",
    );
    let now = at("2026-06-20T00:00:00Z");

    let today = simulate(default_policy(), &histories, now);
    assert_eq!(today[0].verdict, Verdict::Kept);
    assert_eq!(today[0].slow, []);
    assert_eq!(today[1].verdict, Verdict::Open);
    assert_eq!(today[1].slow, [Stage::Evaluate]);
    assert_eq!(today[2].verdict, Verdict::Withdrawn);
    assert_eq!(today[3].verdict, Verdict::NotStarted);
    let tallies = tally(&today);
    let expected = Tally { kept: 1, breached: 0, open: 1, without: 0 };
    assert_eq!(tallies[&Priority::Medium], expected);
    assert_eq!(tallies[&Priority::Low], Tally { without: 2, ..Tally::default() });

    let then = simulate(&strict, &histories, now);
    let Verdict::Breached(breach) = &then[0].verdict else { panic!("{:?}", then[0].verdict) };
    assert_eq!(breach.date.due, at("2026-06-14T00:00:00Z"));
    assert_eq!(breach.by, Party::Provider);
    // Evaluated and installed at the first instant that is too late; tested a day after it.
    assert_eq!(then[0].slow, [Stage::Evaluate, Stage::Test, Stage::Install]);
    assert_eq!(tally(&then)[&Priority::Medium].breached, 2);
}

#[test]
fn deferrals_that_the_policy_would_not_have_allowed_are_counted() {
    let mut curl = history(
        "curl",
        Priority::High,
        &[(Moment::Collected, "2026-06-01T00:00:00Z"), (Moment::Notified, "2026-06-02T00:00:00Z")],
    );
    curl.deferrals = vec![
        Deferral {
            at: at("2026-06-03T00:00:00Z"),
            until: at("2026-06-04T00:00:00Z"),
            again: false,
        },
        Deferral {
            at: at("2026-06-04T00:00:00Z"),
            until: at("2026-06-05T00:00:00Z"),
            again: false,
        },
    ];
    let judged = simulate(default_policy(), &[curl], at("2026-06-05T00:00:00Z"));
    assert_eq!(judged[0].deferrals_too_many, 1);
}
