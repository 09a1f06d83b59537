//! Policies of one's own.

use super::*;

const PACK: &str = r#"
    name = "two"
    version = "1"
    title = "Two"
    source = "test"
    unscored_reason = "unknown"
    [[outcomes]]
    name = "now"
    priority = "high"
    [[outcomes]]
    name = "later"
    priority = "low"
    [table]
    rows = ["yes -> now", "no -> later"]
    [[table.columns]]
    input = "automatable"
    values = ["no", "yes"]
"#;

fn refused(from: &str, to: &str) -> String {
    assert!(PACK.contains(from), "{from}");
    Policy::from_toml(&PACK.replace(from, to))
        .map(|policy| policy.reference())
        .unwrap_err()
        .to_string()
}

#[test]
fn a_pack_of_ones_own_decides() {
    let inputs =
        PriorityInputs { automatable: Some(by(Automatable::Yes)), ..PriorityInputs::default() };

    let decision = Policy::from_toml(PACK).unwrap().decide(&inputs, &AssetFacts::default());

    assert_eq!((decision.outcome.as_str(), decision.reason.as_str()), ("now", "now"));
    assert_eq!(decision.inputs.len(), 1);
}

#[test]
fn a_flawed_pack_is_refused_with_the_flaw_named() {
    assert_eq!(refused(r#", "no -> later""#, ""), "policy `two` does not decide the case `no`");
    assert_eq!(
        refused(r#""no -> later""#, r#""* -> later""#),
        "row `* -> later` of policy `two` decides a case that an earlier row has decided"
    );
    assert_eq!(
        refused("no -> later", "no -> never"),
        "policy `two` names an outcome `never`, which it does not define"
    );
    assert_eq!(
        refused("no -> later", "nay -> later"),
        "row `nay -> later` of policy `two` does not fit its columns: `nay` is no value of \
         `automatable`"
    );
    assert_eq!(
        refused("no -> later", "no later"),
        "row `no later` of policy `two` does not fit its columns: `->` is missing"
    );
    assert_eq!(
        refused(r#""automatable""#, r#""mood""#),
        "policy `two` uses an input `mood`, which nobody provides"
    );
    assert_eq!(
        refused(r#"priority = "low""#, r#"priority = "critical""#),
        "outcome `later` of policy `two` stands twice or in the wrong place"
    );
    assert_eq!(
        refused(r#"values = ["no", "yes"]"#, "values = [\"no\", \"yes\"]\nassume = \"maybe\""),
        "policy `two`: `maybe` is no value of `automatable`"
    );
    assert!(refused("version", "verzion").starts_with("the policy pack cannot be read: "));
}

#[test]
fn a_table_beyond_the_limit_is_refused_before_it_is_built() {
    let mut pack = PACK.to_owned();
    for _ in 0..40 {
        pack.push_str("\n[[table.columns]]\ninput = \"suite\"\nvalues = [\"a\", \"b\"]\n");
    }

    let error = Policy::from_toml(&pack).map(|policy| policy.reference()).unwrap_err();

    assert_eq!(error.to_string(), "the table of policy `two` has more than 4096 cases");
}
