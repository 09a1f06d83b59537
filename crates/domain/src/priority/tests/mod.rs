//! Each case of each built-in policy, and what must hold for all of them.

mod default_policy;
mod laws;
mod packs;
mod patches;
mod tables;

use super::*;

fn policy(name: &str) -> &'static Policy {
    Policy::builtin(name).expect("built in")
}

fn by<T>(value: T) -> Sourced<T> {
    Sourced::new(value, "test")
}

fn words(values: &[&str]) -> Vec<Sourced<String>> {
    values.iter().map(|value| Sourced::new((*value).to_owned(), "test")).collect()
}

const HARMFUL: &str = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H";
const MILD: &str = "CVSS:3.1/AV:L/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N";

#[test]
fn an_unknown_policy_names_those_there_are() {
    let error = Policy::builtin("nist").map(Policy::reference).unwrap_err();

    assert_eq!(error.to_string(), "there is no priority policy `nist`");
    assert_eq!(
        error.help().as_deref(),
        Some("choose one of: default, bod-26-04, ssvc-deployer, fedramp-vdr")
    );
}
