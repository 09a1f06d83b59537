//! What holds for every policy.

use proptest::prelude::*;

use super::*;

fn maybe<T: Clone + std::fmt::Debug + 'static>(
    values: &[T],
) -> impl Strategy<Value = Option<Sourced<T>>> + use<T> {
    prop::option::of(prop::sample::select(values.to_vec()).prop_map(|v| Sourced::new(v, "s")))
}

fn several(values: &[&str]) -> impl Strategy<Value = Vec<Sourced<String>>> + use<> {
    let values: Vec<String> = values.iter().map(|&value| value.to_owned()).collect();
    prop::collection::vec(
        prop::sample::select(values).prop_map(|value| Sourced::new(value, "s")),
        0..3,
    )
}

fn assets() -> impl Strategy<Value = AssetFacts> {
    (
        maybe(&[Exposure::Small, Exposure::Controlled, Exposure::Open]),
        maybe(&[HumanImpact::Low, HumanImpact::Medium, HumanImpact::High]),
        maybe(&[SystemImpact::Low, SystemImpact::Moderate, SystemImpact::High]),
    )
        .prop_map(|(exposure, human_impact, system_impact)| AssetFacts {
            exposure,
            human_impact,
            system_impact,
        })
}

fn inputs() -> impl Strategy<Value = PriorityInputs> {
    let published = (
        maybe(&[KevListing::NotListed, KevListing::Listed]),
        several(&[HARMFUL, MILD, "AV:N/AC:M/Au:N/C:P/I:P/A:P", "CVSS:3.1/AV:N", "\u{1b}[2J x"]),
        several(&["Critical", "moderate", "low**", "untriaged", "what, ever"]),
        several(&["high", "medium", "low", ""]),
        maybe(&[0_usize, 2]),
        maybe(&[SuiteKind::Ordinary, SuiteKind::Security]),
    );
    let assessed = (
        maybe(&[Exploitation::None, Exploitation::PublicPoc, Exploitation::Active]),
        maybe(&[Automatable::No, Automatable::Yes]),
        maybe(&[TechnicalImpact::Partial, TechnicalImpact::Total]),
        maybe(&[PotentialImpact::N1, PotentialImpact::N2, PotentialImpact::N5]),
        maybe(&[LikelyExploitable::No, LikelyExploitable::Yes]),
        maybe(&[0.0, 0.001, 0.5, f64::NAN, 7.0]),
    );
    (published, assessed).prop_map(|(published, assessed)| PriorityInputs {
        known_exploited: published.0,
        cvss_vectors: published.1,
        vendor_severities: published.2,
        changelog_urgencies: published.3,
        changelog_cves: published.4,
        suite: published.5,
        exploitation: assessed.0,
        automatable: assessed.1,
        technical_impact: assessed.2,
        potential_impact: assessed.3,
        likely_exploitable: assessed.4,
        epss: assessed.5,
    })
}

fn policies() -> impl Strategy<Value = &'static Policy> {
    prop::sample::select(Policy::builtin_names()).prop_map(policy)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_decision_replays_from_its_record(
        policy in policies(), inputs in inputs(), asset in assets(),
    ) {
        let decision = policy.decide(&inputs, &asset);
        let record = serde_json::to_string(&decision).unwrap();

        let read: Decision = serde_json::from_str(&record).unwrap();

        prop_assert_eq!(&read, &decision);
        prop_assert_eq!(policy.replay(&read), decision);
    }

    #[test]
    fn being_known_to_be_exploited_never_lowers_a_priority(
        policy in policies(), mut inputs in inputs(), asset in assets(),
    ) {
        let before = policy.decide(&inputs, &asset).priority;
        inputs.known_exploited = Some(by(KevListing::Listed));

        prop_assert!(policy.decide(&inputs, &asset).priority >= before);
    }

    #[test]
    fn unscored_is_never_low(
        policy in policies(), inputs in inputs(), asset in assets(),
    ) {
        let decision = policy.decide(&inputs, &asset);

        prop_assert!(!decision.unscored || decision.priority >= Priority::Medium);
    }

    #[test]
    fn knowing_the_asset_better_never_raises_what_was_assumed(
        policy in policies(), inputs in inputs(), asset in assets(),
    ) {
        let assumed = policy.decide(&inputs, &AssetFacts::default()).priority;

        prop_assert!(policy.decide(&inputs, &asset).priority <= assumed);
    }

    #[test]
    fn a_patch_is_as_urgent_as_its_most_urgent_cve(
        policy in policies(),
        patch in inputs(),
        cves in prop::collection::vec(inputs(), 1..4),
        asset in assets(),
    ) {
        let facts: Vec<CveFacts> = cves
            .into_iter()
            .enumerate()
            .map(|(number, inputs)| CveFacts { cve: format!("CVE-2026-{number}"), inputs })
            .collect();
        let highest = facts
            .iter()
            .map(|facts| policy.decide(&facts.inputs.or(&patch), &asset).priority)
            .max();

        let decision = policy.decide_patch(&patch, &facts, &asset);

        prop_assert_eq!(Some(decision.priority), highest);
        prop_assert_eq!(policy.replay(&decision), decision);
    }

    #[test]
    fn an_altered_record_does_not_replay(
        policy in policies(), inputs in inputs(), asset in assets(),
    ) {
        let mut decision = policy.decide(&inputs, &asset);
        let name = decision
            .inputs
            .iter()
            .find(|(_, input)| !matches!(input.provenance, InputProvenance::Given { .. }))
            .map(|(name, _)| name.clone());
        if let Some(input) = name.and_then(|name| decision.inputs.get_mut(&name)) {
            input.value.push('x');
            prop_assert_ne!(policy.replay(&decision), decision);
        }
    }
}
