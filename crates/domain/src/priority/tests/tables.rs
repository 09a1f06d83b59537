//! Each case of each decision table, typed from the publications independently of the packs.

use super::*;

fn given(values: &[(&str, &str)]) -> Decision {
    let inputs = values
        .iter()
        .map(|(name, value)| {
            let provenance = InputProvenance::Given { by: "test".to_owned() };
            ((*name).to_owned(), InputValue { value: (*value).to_owned(), provenance })
        })
        .collect();
    Decision {
        priority: Priority::Medium,
        outcome: String::new(),
        due: None,
        unscored: true,
        policy: policy("default").reference(),
        inputs,
        reason: String::new(),
        decided_by: None,
    }
}

#[test]
fn bod_26_04_decides_its_16_cases_as_published() {
    // Columns: partial, total. Lines: exploited, exposed, automatable.
    let published = [
        ("no no no", "fix on system upgrade", "fix on system upgrade"),
        ("no no yes", "60 days", "60 days"),
        ("no yes no", "60 days", "14 days"),
        ("no yes yes", "14 days", "3 days"),
        ("yes no no", "14 days", "14 days"),
        ("yes no yes", "14 days", "3 days & forensic investigation"),
        ("yes yes no", "14 days", "3 days & forensic investigation"),
        ("yes yes yes", "3 days", "3 days & forensic investigation"),
    ];
    for (case, partial, total) in published {
        for (impact, outcome) in [("partial", partial), ("total", total)] {
            let values: Vec<&str> = case.split(' ').collect();
            let exposure = if values[1] == "yes" { "open" } else { "controlled" };

            let decision = policy("bod-26-04").replay(&given(&[
                ("known_exploited", values[0]),
                ("system_exposure", exposure),
                ("automatable", values[2]),
                ("technical_impact", impact),
            ]));

            let (priority, due) = match outcome {
                "fix on system upgrade" => (Priority::Low, Due::NextUpgrade),
                "60 days" => (Priority::Medium, Due::WithinHours(60 * 24)),
                "14 days" => (Priority::High, Due::WithinHours(14 * 24)),
                _ => (Priority::Critical, Due::WithinHours(3 * 24)),
            };
            assert_eq!(decision.outcome, outcome, "{case} {impact}");
            assert_eq!((decision.priority, decision.due), (priority, Some(due)));
            assert!(!decision.unscored);
        }
    }
}

#[test]
fn ssvc_deployer_decides_its_72_cases_as_published() {
    // One letter per human impact low, medium, high, very high.
    let published = [
        ("none small no", "ddss"),
        ("none small yes", "dsss"),
        ("none controlled no", "dsss"),
        ("none controlled yes", "ssss"),
        ("none open no", "dsss"),
        ("none open yes", "ssso"),
        ("public-poc small no", "dsss"),
        ("public-poc small yes", "ssss"),
        ("public-poc controlled no", "dsss"),
        ("public-poc controlled yes", "ssso"),
        ("public-poc open no", "ssso"),
        ("public-poc open yes", "ssoo"),
        ("active small no", "ssoo"),
        ("active small yes", "sooo"),
        ("active controlled no", "ssoo"),
        ("active controlled yes", "oooo"),
        ("active open no", "sooi"),
        ("active open yes", "ooii"),
    ];
    for (case, letters) in published {
        let impacts = ["low", "medium", "high", "very high"];
        for (impact, letter) in impacts.into_iter().zip(letters.chars()) {
            let values: Vec<&str> = case.split(' ').collect();

            let decision = policy("ssvc-deployer").replay(&given(&[
                ("exploitation", &values[0].replace('-', " ")),
                ("system_exposure", values[1]),
                ("automatable", values[2]),
                ("human_impact", impact),
            ]));

            let (outcome, priority) = match letter {
                'i' => ("immediate", Priority::Critical),
                'o' => ("out-of-cycle", Priority::High),
                's' => ("scheduled", Priority::Medium),
                _ => ("defer", Priority::Low),
            };
            assert_eq!(
                (decision.outcome.as_str(), decision.priority, decision.unscored),
                (outcome, priority, false),
                "{case} {impact}"
            );
        }
    }
}

#[test]
fn fedramp_vdr_decides_its_36_cases_as_published() {
    // Hours: likely exploitable and reachable, likely only, not likely; per system impact.
    let published: [(&str, [[u32; 3]; 3]); 4] = [
        ("n5", [[96, 192, 768], [48, 96, 384], [12, 24, 192]]),
        ("n4", [[192, 768, 1536], [96, 192, 1536], [48, 192, 768]]),
        ("n3", [[768, 1536, 4608], [384, 768, 3072], [192, 384, 1536]]),
        ("n2", [[2304, 3840, 4608], [1152, 3072, 4608], [576, 2304, 4608]]),
    ];
    let columns = [("yes", "open"), ("yes", "small"), ("no", "open"), ("no", "small")];
    for (impact, by_level) in published {
        for (level, hours) in ["low", "moderate", "high"].into_iter().zip(by_level) {
            let hours = [hours[0], hours[1], hours[2], hours[2]];
            for ((likely, exposure), hours) in columns.into_iter().zip(hours) {
                let decision = policy("fedramp-vdr").replay(&given(&[
                    ("potential_impact", impact),
                    ("likely_exploitable", likely),
                    ("system_exposure", exposure),
                    ("system_impact", level),
                ]));

                let priority = match hours {
                    ..=96 => Priority::Critical,
                    97..=384 => Priority::High,
                    385..=1536 => Priority::Medium,
                    _ => Priority::Low,
                };
                assert_eq!(
                    (decision.due, decision.priority, decision.unscored),
                    (Some(Due::WithinHours(hours)), priority, false),
                    "{impact} {likely} {exposure} {level}"
                );
            }
        }
    }
}

#[test]
fn vdr_sets_no_time_frame_for_negligible_impact() {
    let inputs =
        PriorityInputs { potential_impact: Some(by(PotentialImpact::N1)), ..scored_inputs() };

    let decision = policy("fedramp-vdr").decide(&inputs, &AssetFacts::default());

    assert_eq!((decision.outcome.as_str(), decision.due), ("no time frame", None));
    assert_eq!(decision.priority, Priority::Low);
}

fn scored_inputs() -> PriorityInputs {
    PriorityInputs {
        known_exploited: Some(by(KevListing::NotListed)),
        cvss_vectors: words(&[HARMFUL]),
        ..PriorityInputs::default()
    }
}

#[test]
fn what_nobody_says_of_the_asset_is_assumed_cautiously_and_marked() {
    let decision = policy("bod-26-04").decide(&scored_inputs(), &AssetFacts::default());

    assert_eq!(decision.outcome, "3 days");
    assert_eq!(decision.reason, "exposed (assumed), automatable, total impact");
    assert_eq!(decision.inputs["publicly_exposed"].provenance, InputProvenance::Assumed);
    assert_eq!(
        decision.inputs["automatable"].provenance,
        InputProvenance::Derived { from: "cvss".to_owned() }
    );
    assert!(!decision.unscored);
}

#[test]
fn without_an_assessment_a_table_scores_nothing() {
    for name in ["bod-26-04", "ssvc-deployer", "fedramp-vdr"] {
        let decision = policy(name).decide(&PriorityInputs::default(), &AssetFacts::default());

        assert_eq!(decision.priority, Priority::Medium, "{name}");
        assert!(decision.unscored, "{name}");
    }
}

#[test]
fn what_the_known_inputs_demand_alone_is_a_floor() {
    let inputs = PriorityInputs {
        known_exploited: Some(by(KevListing::Listed)),
        ..PriorityInputs::default()
    };

    let decision = policy("bod-26-04").decide(&inputs, &AssetFacts::default());

    assert_eq!((decision.priority, decision.unscored), (Priority::High, true));
    assert_eq!(decision.outcome, "14 days");
    assert_eq!(decision.reason, "KEV-listed, exposed (assumed), vulnerability not assessed");
}

#[test]
fn a_catalogue_entry_outdates_a_statement_that_nobody_exploits_it() {
    let inputs = PriorityInputs {
        known_exploited: Some(by(KevListing::Listed)),
        exploitation: Some(by(Exploitation::None)),
        automatable: Some(by(Automatable::Yes)),
        ..PriorityInputs::default()
    };

    let decision = policy("ssvc-deployer").decide(&inputs, &AssetFacts::default());

    assert_eq!(decision.inputs["exploitation"].value, "active");
    assert_eq!(decision.outcome, "immediate");
}
