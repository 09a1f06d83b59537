//! What both tenants agreed on with the provider: two SLA policies whose waits are scaled, so that days pass in
//! minutes. Time itself is real.

use std::fmt::Write as _;

use serde::Serialize;

/// A tenant of the drill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Party {
    /// Signs each plan with its key.
    Acme,
    /// Puts the first plan off, then says nothing: its silence approves.
    Globex,
}

impl Party {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::Acme, Self::Globex];

    /// Its short name.
    pub(super) const fn slug(self) -> &'static str {
        match self {
            Self::Acme => "acme",
            Self::Globex => "globex",
        }
    }

    /// Its name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Acme => "Acme Corporation",
            Self::Globex => "Globex",
        }
    }

    /// Its owner's login.
    pub(super) const fn owner(self) -> &'static str {
        match self {
            Self::Acme => "olga",
            Self::Globex => "gregor",
        }
    }

    /// Its virtual machines.
    pub(super) const fn machines(self) -> [&'static str; 2] {
        match self {
            Self::Acme => ["web-1", "web-2"],
            Self::Globex => ["shop-1", "shop-2"],
        }
    }

    /// The service that they make up.
    pub(super) const fn service(self) -> &'static str {
        match self {
            Self::Acme => "web",
            Self::Globex => "shop",
        }
    }

    /// What its silence means.
    const fn silence(self) -> &'static str {
        match self {
            Self::Acme => "waits",
            Self::Globex => "approves",
        }
    }
}

const HOUR: u32 = 60;
const DAY: u32 = 24 * HOUR;

/// A wait of the contract.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Term {
    /// Whose.
    pub(super) tenant: &'static str,
    /// For which priority.
    pub(super) priority: &'static str,
    /// Which.
    pub(super) wait: &'static str,
    /// As it stands in a contract, in minutes.
    pub(super) contract_minutes: u32,
    /// As the drill has it, in minutes.
    pub(super) drill_minutes: u32,
}

/// For one priority, in minutes: deadline, evaluation, test, lead, answer, deferral, installation,
/// verification.
const WAITS: [(&str, [u32; 8]); 4] = [
    ("critical", [5 * DAY, 4 * HOUR, 12 * HOUR, 4 * HOUR, 12 * HOUR, 0, 12 * HOUR, 4 * HOUR]),
    ("high", [14 * DAY, DAY, 3 * DAY, 6 * HOUR, DAY, 12 * HOUR, 3 * DAY, DAY]),
    ("medium", [30 * DAY, DAY, 4 * DAY, 6 * HOUR, DAY, 12 * HOUR, 3 * DAY, DAY]),
    ("low", [90 * DAY, DAY, 5 * DAY, 6 * HOUR, DAY, 12 * HOUR, 3 * DAY, DAY]),
];
const NAMES: [&str; 8] = [
    "collected → verified",
    "collected → evaluated",
    "evaluated → tested",
    "notice → earliest start",
    "notice → answer",
    "longest deferral",
    "approved → installed",
    "installed → verified",
];

/// A wait of so many minutes as it is in a drill: no less than a minute, which is the least that a policy knows.
pub(super) const fn scaled(minutes: u32, scale: u32) -> u32 {
    minutes.div_ceil(scale)
}

/// A tenant's policy.
pub(super) fn policy(party: Party, scale: u32) -> String {
    let mut text = format!("version = \"{}-drill\"\n", party.slug());
    for (priority, waits) in WAITS {
        let [deadline, evaluate, proof, lead, answer, deferral, install, verify] =
            waits.map(|minutes| scaled(minutes, scale));
        let deferrals = u8::from(deferral > 0);
        let longest = deferral.max(1);
        let silence = party.silence();
        let _ = write!(
            text,
            "\n[{priority}]\ndeadline = \"{deadline}m\"\nevaluate = \"{evaluate}m\"\ntest = \"{proof}m\"\n\
             notify = \"0h\"\nsoak = \"0h\"\nnotice = {{ lead = \"{lead}m\" }}\n\
             approval = {{ mode = \"required\", answer = \"{answer}m\", silence = \"{silence}\" }}\n\
             install = \"{install}m\"\nverify = \"{verify}m\"\n\
             deferrals = {{ count = {deferrals}, longest = \"{longest}m\" }}\n"
        );
        if matches!(priority, "critical" | "high") {
            let _ = writeln!(
                text,
                "emergency = {{ lead = \"0h\", evidence = \"1m\", re_evaluate = \"{evaluate}m\" }}"
            );
        }
    }
    text
}

/// All waits of both contracts, for the report.
pub(super) fn table(scale: u32) -> Vec<Term> {
    let of = |party: Party| {
        WAITS.into_iter().flat_map(move |(priority, waits)| {
            NAMES.into_iter().zip(waits).map(move |(wait, contract_minutes)| Term {
                tenant: party.slug(),
                priority,
                wait,
                contract_minutes,
                drill_minutes: scaled(contract_minutes, scale),
            })
        })
    };
    Party::ALL.into_iter().flat_map(of).collect()
}

/// One machine ahead, then all that the limits allow.
pub(super) const WAVES: &str = r#"schema = "patchwright.waves/1"
name = "drill"
title = "A canary, then all"
source = "patchwright drill"
patience = "2m"
on_failure = "roll_back"

[canary]
labels = {}
soak = "0h"
max_failed = 0
max_silent = 0

[[waves]]
percent = 100
soak = "0h"
max_failed = 0
max_silent = 0
"#;

#[cfg(test)]
mod tests {
    use domain::sla::Policy;

    use super::*;

    #[test]
    fn scaled_policies_can_be_kept_and_differ_in_what_silence_means() {
        for scale in [1, 60, 720, 1440] {
            for party in Party::ALL {
                let text = policy(party, scale);
                let read = Policy::builtin("x1642-default").unwrap().negotiate(&text);
                assert!(read.is_ok(), "{scale} {party:?}: {}\n{text}", read.unwrap_err());
            }
        }
        assert_ne!(policy(Party::Acme, 1), policy(Party::Globex, 1));
    }

    #[test]
    fn no_wait_becomes_none() {
        assert_eq!((scaled(1, 720), scaled(DAY, 720), scaled(0, 720)), (1, 2, 0));
    }
}
