//! Policies as documents: read, checked, negotiated, compared.

use proptest::prelude::*;

use super::*;
use crate::cloud::Class;

fn refused(text: &str) -> PolicyError {
    default_policy().negotiate(text).unwrap_err()
}

#[test]
fn the_default_says_what_the_standard_asks_for() {
    // Deadline, evaluate, test, lead, install, verify, soak, count and length of deferrals.
    let table = [
        (Priority::Critical, "3d 4h 12h 1d 3h 1h 0h", 0, "0h"),
        (Priority::High, "14d 1d 3d 3d 1d 1d 1d", 1, "3d"),
        (Priority::Medium, "30d 3d 7d 7d 6d 1d 3d", 1, "5d"),
        (Priority::Low, "90d 7d 14d 14d 6d 3d 7d", 2, "14d"),
    ];
    for (priority, waits, count, longest) in table {
        let terms = default_policy().terms(priority);
        let Terms { deadline, evaluate, test, notice, install, verify, soak, .. } = terms;
        let found = [deadline, evaluate, test, &notice.lead, install, verify, soak]
            .map(ToString::to_string);
        assert_eq!(found.join(" "), waits, "{priority}");
        assert_eq!(terms.deferrals.count, count);
        assert_eq!(terms.deferrals.longest, longest.parse().unwrap());
    }
    let approval = |priority| default_policy().terms(priority).approval;
    let asked = |days, silence| Asked::Required { answer: Wait::days(days), silence };
    assert_eq!(approval(Priority::Critical), Asked::Notice);
    assert_eq!(approval(Priority::High), asked(5, Silence::Approves));
    assert_eq!(approval(Priority::Medium), asked(7, Silence::Approves));
    assert_eq!(approval(Priority::Low), asked(24, Silence::Waits));
    let lead = |priority| default_policy().terms(priority).on(Path::Emergency).notice.lead;
    assert_eq!(lead(Priority::Critical), Wait::hours(4));
    assert_eq!(lead(Priority::High), Wait::hours(24));
    assert_eq!(lead(Priority::Medium), Wait::days(7));
}

#[test]
fn the_default_keeps_its_own_deadlines_in_the_worst_case() {
    // Hours: ordinary, and in an emergency.
    let table = [
        (Priority::Critical, 44, 24),
        (Priority::High, 14 * 24, 14 * 24),
        (Priority::Medium, 29 * 24, 29 * 24),
        (Priority::Low, 82 * 24, 82 * 24),
    ];
    for (priority, ordinary, emergency) in table {
        let policy = default_policy();
        for (path, hours) in [(Path::Ordinary, ordinary), (Path::Emergency, emergency)] {
            let worst = WorstPath::of(policy.terms(priority), path, policy.calendar());
            assert_eq!(worst.total().as_hours(), hours, "{priority} {path:?}");
            assert_eq!(worst.exceeds(worst.deadline), None);
        }
    }
}

#[test]
fn a_policy_that_cannot_be_kept_is_refused_with_the_wait_and_its_place() {
    let error = refused("version = \"2\"\n\n[high]\nverify = \"25h\"\n");
    assert_eq!(
        error.to_string(),
        "`high.verify` (line 4, column 1): the worst path takes 14d 1h, longer than the deadline \
         of 14d; it is passed while waiting for: verification"
    );
    assert_eq!(
        error.help().as_deref(),
        Some(
            "shorten a wait or raise the deadline: evaluation 1d + the test 3d + the tenant's \
             answer or the lead time 5d + deferrals 3d + installation 1d + verification 1d 1h"
        )
    );

    let key = |text: &str| match refused(&format!("version = \"2\"\n{text}")) {
        PolicyError::TooLong { key, .. } => key,
        other => panic!("{other}"),
    };
    assert_eq!(key("critical.evaluate = \"73h\""), "critical.evaluate");
    assert_eq!(key("critical.test = \"69h\""), "critical.test");
    assert_eq!(key("medium.notify = \"21d\""), "medium.notify");
    // The lead time runs within the time to answer, and counts where it is longer.
    assert_eq!(key("critical.notice.lead = \"3d\""), "critical.approval");
    assert_eq!(key("high.deferrals = { count = 3, longest = \"3d\" }"), "high.deferrals");
    assert_eq!(key("low.soak = \"88d\""), "low.install");
    assert_eq!(key("low.soak = \"91d\""), "low.soak");
    assert_eq!(key("high.deadline = \"13d\""), "high.verify");
    // Ten business days can take sixteen days.
    assert_eq!(key("high.notice.lead = \"10bd\""), "high.approval");
    // What is never kept in an emergency is no promise for one.
    assert_eq!(
        key(
            "critical.emergency = { deadline = \"23h\", lead = \"4h\", evidence = \"1h\", re_evaluate = \"1d\" }"
        ),
        "critical.verify"
    );
}

#[test]
fn a_mistake_in_writing_names_its_key_and_place() {
    let table = [
        ("version = \"2\"\nhigh.tset = \"1d\"", "`high.tset` (line 2, column 6): unknown field"),
        (
            "version = \"2\"\n[high]\ntest = \"4 days\"",
            "`high.test` (line 3, column 1): `4 days` is no wait",
        ),
        ("version = \"2\"\n[low.notice]\nlead = 3", "`low.notice"),
        (
            "version = \"2\"\ncalendar.zone = \"Berlin\"",
            "`calendar.zone` (line 2, column 10): there is no time zone `Berlin`",
        ),
        (
            "version = \"2\"\ncalendar.weekend = [\"monday\", \"tuesday\", \"wednesday\", \"thursday\", \"friday\", \"saturday\", \"sunday\"]",
            "`calendar.weekend` (line 2, column 10): a week needs",
        ),
        ("version = \"2\"\ncalendar.holidays = [\"2027-02-29\"]", "`calendar.holidays"),
        (
            "version = \"2\"\nhigh.escalate = [75, 50]",
            "`high.escalate` (line 2, column 6): shares of the time rise",
        ),
        ("version = \"2\"\nhigh.escalate = [0]", "`high.escalate`"),
        (
            "version = \"2\"\nhigh.notice = { preset = \"scn\" }",
            "`high.notice` (line 2, column 6): there is no preset `scn`",
        ),
        ("version = \"2\"\nhigh.approval = { mode = \"maybe\" }", "`high.approval"),
        (
            "version = \"2\"\nhigh.deferrals = { count = 1, longest = \"0h\" }",
            "`high.deferrals` (line 2, column 6): deferrals are allowed, and none may last",
        ),
        (
            "version = \"2\"\nhigh.approval = { answer = \"0h\" }",
            "`high.approval` (line 2, column 6): the tenant is asked",
        ),
        (
            "version = \"2\"\nhigh.emergency.lead = \"4d\"",
            "`high.emergency.lead` (line 2, column 16): an emergency takes 4d where the ordinary way takes 3d",
        ),
        (
            "version = \"2\"\n[[calendar.freezes]]\nfrom = \"2026-12-24T00:00:00\"\nuntil = \"2026-12-24T00:00:00\"\nreason = \"x\"",
            "`calendar.freezes` (line 2, column 12): freeze 1 begins",
        ),
        (
            "version = \"2\"\ncalendar.holidays = [\"1900-01-01\", \"2026-01-01\"]",
            "`calendar.holidays` (line 2, column 10): holidays from 1900-01-01 to 2026-01-01",
        ),
        ("version = \"2\"\nregulations = [\"sox\"]", "there is no regulation `sox`"),
        (
            "version = \"2\"\nschema = \"patchwright.sla/9\"",
            "the document is of the form `patchwright.sla/9`",
        ),
        ("high.test = \"1d\"", "`version` is missing"),
        ("version = \"2\"\nhigh.test = \n", "the policy is no TOML (line 2"),
    ];
    for (text, start) in table {
        let error = refused(text);
        assert!(error.to_string().starts_with(start), "{error}\n  wanted {start}");
        assert!(error.help().is_some_and(|help| !help.is_empty()));
    }
}

#[test]
fn a_key_that_a_whole_policy_lacks_is_named() {
    let text = default_policy().to_toml();
    let lacking: String =
        text.lines().filter(|line| !line.starts_with("install")).collect::<Vec<_>>().join("\n");
    let error = Policy::from_toml(&lacking).unwrap_err();
    let PolicyError::Key { key, place, .. } = &error else { panic!("{error}") };
    assert_eq!(key, "critical.install");
    assert!(place.is_some(), "the table that lacks it");
}

#[test]
fn what_is_negotiated_replaces_its_keys_and_keeps_the_rest() {
    let policy = negotiated(
        r#"
        title = "Acme"
        regulations = ["pci-dss-4.0.1"]
        calendar.zone = "Europe/Berlin"
        calendar.holidays = ["2026-12-25"]
        medium.approval = { mode = "notice" }
        medium.escalate = [10]
        low.notice = { preset = "fedramp-scn-transformative" }
        low.approval.answer = "40d"
        low.deferrals.count = 0
        [[exclusions]]
        what = "the laboratory"
        reason = "air gap"
        until = "2027-01-31"
        "#,
    );
    let document = policy.document();
    assert_eq!(document.negotiated_from, Some(default_policy().reference()));
    assert_eq!((document.name.as_str(), document.version.as_str()), ("x1642-default", "t"));
    assert_eq!(document.exclusions.len(), 1, "a list is replaced whole");
    assert_eq!(policy.terms(Priority::Medium).approval, Asked::Notice);
    assert_eq!(policy.terms(Priority::Medium).escalate, [10]);
    assert_eq!(policy.terms(Priority::Low).notice, Notice::SCN_TRANSFORMATIVE);
    assert_eq!(
        policy.terms(Priority::Low).approval,
        Asked::Required { answer: Wait::days(40), silence: Silence::Waits }
    );
    assert_eq!(policy.terms(Priority::High), default_policy().terms(Priority::High));

    let again = policy.negotiate("version = \"t2\"\nmedium.escalate = [20]").unwrap();
    assert_eq!(again.document().negotiated_from, Some(policy.reference()));
}

#[test]
fn an_exclusion_covers_what_fits_all_that_it_names_until_its_last_day_is_over() {
    let policy = negotiated(
        "calendar.zone = \"Europe/Berlin\"\n[[exclusions]]\nwhat = \"words\"\nreason = \"x\"\n\
         [[exclusions]]\nwhat = \"lab\"\nreason = \"air gap\"\nuntil = \"2026-06-30\"\nclass = \
         \"vm\"\nsources = [\"linux\", \"web\"]\nlabels = { network = \"lab\" }\n\
         [[exclusions]]\nwhat = \"images\"\nreason = \"rebuilt\"\nclass = \"image\"",
    );
    let labels = |value: &str| [("network".parse().unwrap(), value.to_owned())].into();
    let what = |class, network: &str, source: &str, now: &str| {
        let found = policy.excludes(class, &labels(network), source, at(now));
        found.map(|(it, end)| (it.what.clone(), end))
    };
    let lab = Some(("lab".to_owned(), Some(at("2026-06-30T22:00:00Z"))));

    assert_eq!(what(Class::Vm, "lab", "web", "2026-06-30T21:59:59Z"), lab);
    assert_eq!(what(Class::Vm, "lab", "web", "2026-06-30T22:00:00Z"), None, "it is over");
    assert_eq!(what(Class::Vm, "office", "web", "2026-06-01T00:00:00Z"), None);
    assert_eq!(what(Class::Vm, "lab", "nginx", "2026-06-01T00:00:00Z"), None);
    assert_eq!(what(Class::Host, "lab", "web", "2026-06-01T00:00:00Z"), None);
    let images = Some(("images".to_owned(), None));
    assert_eq!(what(Class::Image, "", "nginx", "2099-01-01T00:00:00Z"), images);
    assert_eq!(Policy::from_toml(&policy.to_toml()).unwrap(), policy, "and is written so");
    let shown = diff(default_policy(), &policy);
    assert!(shown.iter().any(|it| it.to_string().contains("network lab")), "{shown:?}");
}

#[test]
fn evidence_that_a_patch_cannot_wait_for_is_refused() {
    let refused = default_policy()
        .negotiate("version = \"2\"\ncritical.emergency.evidence = \"70h\"")
        .unwrap_err();
    assert!(refused.to_string().contains("`critical.emergency.evidence`"), "{refused}");
    assert!(refused.to_string().contains("longer than the deadline of 3d"), "{refused}");
}

#[test]
fn the_presets_of_scn_are_its_business_days() {
    let bd = Wait::BusinessDays;
    let days = |notice: Notice| (notice.lead, notice.reminder, notice.done);
    assert_eq!(days(Notice::SCN_TRANSFORMATIVE), (bd(30), bd(10), bd(5)));
    assert_eq!(days(Notice::SCN_ADAPTIVE), (Wait::NONE, Wait::NONE, bd(10)));
}

#[test]
fn a_policy_reads_as_it_was_written() {
    let policy = negotiated(
        "low.notice = { preset = \"fedramp-scn-adaptive\" }\n[[calendar.freezes]]\nfrom = \
         \"2026-12-20T00:00:00\"\nuntil = \"2027-01-03T00:00:00\"\nreason = \"x\"\nexcept = \
         [\"critical\"]",
    );
    for policy in [default_policy(), &policy] {
        assert_eq!(&Policy::from_toml(&policy.to_toml()).unwrap(), policy);
        let json = serde_json::to_string(policy.document()).unwrap();
        let document: Document = serde_json::from_str(&json).unwrap();
        assert_eq!(&document, policy.document());
    }
}

#[test]
fn a_difference_is_said_in_words() {
    let after = negotiated(
        "medium.deadline = \"29d\"\nhigh.approval = { mode = \"notice\" }\nlow.evaluate = \
         \"8d\"\nregulations = [\"bod-26-04\"]",
    );
    let words: Vec<String> =
        diff(default_policy(), &after).iter().map(ToString::to_string).collect();
    assert_eq!(
        words,
        [
            "`high.approval.answer` is removed; it was 5d",
            "`high.approval.mode` changes from required to notice",
            "`high.approval.silence` is removed; it was approves",
            "`low.evaluate` changes from 7d to 8d: longer",
            "`medium.deadline` changes from 30d to 29d: shorter",
            "`negotiated_from` is added: (name x1642-default; version 1.0.0)",
            "`regulations` changes from none to bod-26-04",
            "`version` changes from 1.0.0 to t",
        ]
    );
    assert_eq!(diff(&after, &after), []);
}

#[test]
fn the_version_in_force_at_the_collection_governs() {
    let versions: Vec<InForce> = [("2026-01-01T00:00:00Z", "1"), ("2026-07-01T00:00:00Z", "2")]
        .map(|(since, version)| InForce {
            since: at(since),
            policy: default_policy().negotiate(&format!("version = \"{version}\"")).unwrap(),
        })
        .into();
    let version = |collected: &str| {
        governing(&versions, at(collected)).map(|policy| policy.reference().version)
    };
    assert_eq!(version("2025-12-31T23:59:59Z"), None);
    assert_eq!(version("2026-06-30T23:59:59Z").as_deref(), Some("1"));
    assert_eq!(version("2026-07-01T00:00:00Z").as_deref(), Some("2"));
    assert_eq!(version("2030-01-01T00:00:00Z").as_deref(), Some("2"));
}

/// Every key that the schema knows, by path; `*` stands for an item of a list.
fn schema_keys(
    schema: &serde_json::Value,
    node: &serde_json::Value,
    path: &str,
    keys: &mut Vec<String>,
) {
    if let Some(reference) = node["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap();
        return schema_keys(schema, &schema["$defs"][name], path, keys);
    }
    for (name, inner) in node["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        keys.push(path.clone());
        schema_keys(schema, inner, &path, keys);
    }
    if node["items"].is_object() {
        schema_keys(schema, &node["items"], &format!("{path}.*"), keys);
    }
    for alternative in node["oneOf"].as_array().into_iter().flatten() {
        schema_keys(schema, alternative, path, keys);
    }
}

fn keys_of(value: &serde_json::Value, path: &str, keys: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(map) => {
            for (name, inner) in map {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                keys.push(path.clone());
                keys_of(inner, &path, keys);
            }
        }
        serde_json::Value::Array(items) => {
            for item in items {
                keys_of(item, &format!("{path}.*"), keys);
            }
        }
        _ => {}
    }
}

#[test]
fn the_schema_has_the_keys_of_the_document_and_no_others() {
    let schema: serde_json::Value =
        serde_json::from_str(include_str!("../../../../../docs/sla.schema.json")).unwrap();
    let mut known = Vec::new();
    schema_keys(&schema, &schema, "", &mut known);
    known.sort();
    known.dedup();

    // A document that has every key there is, for every priority.
    let emergency = "emergency = { deadline = \"3d\", evaluate = \"1h\", test = \"1h\", lead = \
                     \"1h\", install = \"1h\", verify = \"1h\", approval = { mode = \"required\", \
                     answer = \"1h\", silence = \"waits\" }, deferrals = { count = 0, longest = \
                     \"0h\" }, evidence = \"1h\", re_evaluate = \"1h\" }\n";
    let asked = "approval = { mode = \"required\", answer = \"24h\", silence = \"waits\" }\n";
    let mut text = "snapshots = true\ndrift_hours = 8\n[[exclusions]]\nwhat = \"a\"\nreason = \"b\"\nuntil = \"2027-01-01\"\nclass \
                    = \"vm\"\nsources = [\"linux\"]\nlabels = { network = \"lab\" }\n\
                    [[calendar.freezes]]\nfrom = \"2026-12-20T00:00:00\"\nuntil = \
                    \"2027-01-03T00:00:00\"\nreason = \"x\"\nexcept = [\"critical\"]\n"
        .to_owned();
    for priority in ["critical", "high", "medium", "low"] {
        text = format!("{text}[{priority}]\n{asked}{emergency}");
    }
    let full = negotiated(&text);
    let mut used = Vec::new();
    keys_of(&serde_json::to_value(full.document()).unwrap(), "", &mut used);
    used.extend(["critical", "high", "medium", "low"].map(|it| format!("{it}.notice.preset")));
    // Labels are the items' own.
    used.retain(|key| !key.starts_with("exclusions.*.labels."));
    used.sort();
    used.dedup();
    assert_eq!(known, used);
}

proptest! {
    #[test]
    fn any_wait_reads_as_it_was_written(minutes in 0_u32..5_270_400, days in 0_u16..=260) {
        for wait in [Wait::Minutes(minutes), Wait::BusinessDays(days)] {
            prop_assert_eq!(wait.to_string().parse::<Wait>(), Ok(wait));
        }
    }

    #[test]
    fn a_policy_is_accepted_exactly_if_its_worst_path_fits(
        evaluate in 1_u32..100, test in 1_u32..100, answer in 1_u32..200, defer in 1_u32..100,
        count in 0_u8..4, install in 1_u32..100, verify in 1_u32..50, deadline in 24_u32..800,
    ) {
        let text = format!(
            "version = \"p\"\n[medium]\nevaluate = \"{evaluate}h\"\ntest = \"{test}h\"\nnotice.lead \
             = \"0h\"\nsoak = \"0h\"\napproval.answer = \"{answer}h\"\ndeferrals = {{ count = \
             {count}, longest = \"{defer}h\" }}\ninstall = \"{install}h\"\nverify = \
             \"{verify}h\"\ndeadline = \"{deadline}h\"\n"
        );
        let fits = evaluate + test + answer + u32::from(count) * defer + install + verify <= deadline;
        let result = default_policy().negotiate(&text);
        prop_assert_eq!(result.is_ok(), fits, "{:?}", result.err());
        if let Ok(policy) = result {
            prop_assert_eq!(&Policy::from_toml(&policy.to_toml()).unwrap(), &policy);
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,200}") {
        let _ = Policy::from_toml(&text);
        let _ = default_policy().negotiate(&format!("version = \"1\"\n{text}"));
    }
}
