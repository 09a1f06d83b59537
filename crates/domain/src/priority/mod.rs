//! Priority: which patch first, decided by a versioned policy that can be replayed.
//!
//! A policy is data (`data/priority/*.toml`), not code. It reads what is known of a
//! vulnerability and of the asset, each input with its provenance, and answers with a
//! [`Decision`] that records all of them: [`Policy::replay`] gives the same decision from the
//! record alone. What is unknown about the asset is assumed at the cautious value; what is
//! unknown about the vulnerability leaves the patch *unscored*, which is medium and flagged,
//! never low.
//!
//! ```
//! use domain::priority::{AssetFacts, KevListing, Policy, Priority, PriorityInputs, Sourced};
//!
//! let policy = Policy::builtin("default").expect("built in");
//! let inputs = PriorityInputs {
//!     known_exploited: Some(Sourced::new(KevListing::Listed, "CISA KEV")),
//!     ..PriorityInputs::default()
//! };
//!
//! let decision = policy.decide(&inputs, &AssetFacts::default());
//!
//! assert_eq!(decision.priority, Priority::Critical);
//! assert_eq!(decision.reason, "KEV-listed");
//! assert_eq!(policy.replay(&decision), decision);
//! ```

mod decide;
mod facts;
mod pack;
mod resolve;
mod vector;

#[cfg(test)]
mod tests;

pub use facts::{
    AssetFacts, Automatable, CveFacts, Exploitation, Exposure, HumanImpact, InputProvenance,
    KevListing, LikelyExploitable, PotentialImpact, PriorityInputs, Sourced, SuiteKind,
    SystemImpact, TechnicalImpact,
};
pub use pack::PackError;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

/// How urgent a patch is; ordered, `Critical` is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Can wait for the next convenient update.
    Low,
    /// Ordinary; also the priority of whatever could not be scored.
    Medium,
    /// Soon.
    High,
    /// Now.
    Critical,
}

impl fmt::Display for Priority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        })
    }
}

/// By when a policy wants the patch applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Due {
    /// Within so many hours from the start that the policy's source defines.
    WithinHours(u32),
    /// With the next upgrade of the system.
    NextUpgrade,
}

impl fmt::Display for Due {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::WithinHours(24) => formatter.write_str("1 day"),
            Self::WithinHours(hours) if hours % 24 == 0 => write!(formatter, "{} days", hours / 24),
            Self::WithinHours(hours) => write!(formatter, "{hours} hours"),
            Self::NextUpgrade => formatter.write_str("next upgrade"),
        }
    }
}

/// Name and version of a policy, for the record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PolicyRef {
    /// Name of the pack.
    pub name: String,
    /// Version of the pack.
    pub version: String,
}

/// One recorded input of a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputValue {
    /// The value, as the policy spells it.
    pub value: String,
    /// Where it comes from.
    pub provenance: InputProvenance,
}

/// A priority with everything needed to understand and to replay it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The result.
    pub priority: Priority,
    /// The policy's own word for the result (`out-of-cycle`, `14 days`).
    pub outcome: String,
    /// By when the policy wants the patch applied, where it says.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub due: Option<Due>,
    /// Whether an input about the vulnerability was missing, so that `priority` is a floor
    /// (medium, or more where the known inputs alone demand more).
    pub unscored: bool,
    /// The policy that decided.
    pub policy: PolicyRef,
    /// Everything that was known, by input name.
    pub inputs: BTreeMap<String, InputValue>,
    /// Why, in one short phrase for people: `KEV-listed`, `CVSS 9.8`, `urgency high`.
    pub reason: String,
    /// The CVE that demands this priority, where the patch fixes several.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub decided_by: Option<String>,
}

/// A loaded and checked policy pack.
#[derive(Debug, Clone)]
pub struct Policy {
    pack: pack::Pack,
}

/// No built-in policy has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no priority policy `{name}`")]
pub struct UnknownPolicy {
    /// The name asked for.
    pub name: String,
    /// The names there are.
    pub known: Vec<&'static str>,
}

impl UnknownPolicy {
    /// The next step.
    pub fn help(&self) -> Option<String> {
        Some(format!("choose one of: {}", self.known.join(", ")))
    }
}

const BUILTIN: [&str; 4] = [
    include_str!("../../data/priority/default.toml"),
    include_str!("../../data/priority/bod-26-04.toml"),
    include_str!("../../data/priority/ssvc-deployer.toml"),
    include_str!("../../data/priority/fedramp-vdr.toml"),
];

static POLICIES: LazyLock<Vec<Policy>> = LazyLock::new(|| {
    BUILTIN
        .iter()
        .map(|text| Policy::from_toml(text).expect("the built-in packs are checked by tests"))
        .collect()
});

impl Policy {
    /// The built-in policy of this name.
    pub fn builtin(name: &str) -> Result<&'static Self, UnknownPolicy> {
        POLICIES
            .iter()
            .find(|policy| policy.pack.name == name)
            .ok_or_else(|| UnknownPolicy { name: name.to_owned(), known: Self::builtin_names() })
    }

    /// Names of the built-in policies, the default first.
    pub fn builtin_names() -> Vec<&'static str> {
        POLICIES.iter().map(|policy| policy.pack.name.as_str()).collect()
    }

    /// Loads a pack and checks that it decides every case.
    pub fn from_toml(text: &str) -> Result<Self, PackError> {
        Ok(Self { pack: pack::Pack::from_toml(text)? })
    }

    /// Name and version, for the record.
    pub fn reference(&self) -> PolicyRef {
        PolicyRef { name: self.pack.name.clone(), version: self.pack.version.clone() }
    }

    /// What the policy is called by people.
    pub fn title(&self) -> &str {
        &self.pack.title
    }

    /// Whose rules these are, and where they are published.
    pub fn source(&self) -> &str {
        &self.pack.source
    }

    /// Decides over one vulnerability, or over a patch of which no single CVE is known.
    pub fn decide(&self, inputs: &PriorityInputs, asset: &AssetFacts) -> Decision {
        self.decide_resolved(resolve::given(inputs, asset))
    }

    /// Decides over a patch: the most urgent decision over any of its CVEs, each with the facts
    /// of the whole patch where it has none of its own. Without CVEs, the facts of the patch
    /// decide alone.
    pub fn decide_patch(
        &self,
        patch: &PriorityInputs,
        cves: &[CveFacts],
        asset: &AssetFacts,
    ) -> Decision {
        cves.iter()
            .map(|facts| {
                let mut decision = self.decide(&facts.inputs.or(patch), asset);
                decision.decided_by = Some(facts.cve.clone());
                decision
            })
            .reduce(
                |best, next| if self.urgency(&next) > self.urgency(&best) { next } else { best },
            )
            .unwrap_or_else(|| self.decide(patch, asset))
    }

    /// Decides again from what a decision recorded as given. Equal to the decision exactly when
    /// the decision follows from its record under this version of the policy.
    #[must_use]
    pub fn replay(&self, decision: &Decision) -> Decision {
        let given = decision
            .inputs
            .iter()
            .filter(|(_, input)| matches!(input.provenance, InputProvenance::Given { .. }))
            .map(|(name, input)| (name.clone(), input.clone()))
            .collect();
        Decision { decided_by: decision.decided_by.clone(), ..self.decide_resolved(given) }
    }

    fn decide_resolved(&self, given: BTreeMap<String, InputValue>) -> Decision {
        decide::decide(&self.pack, resolve::complete(given, &self.pack))
    }

    /// Orders decisions of this policy; a scored one wins over an unscored one of like urgency.
    fn urgency(&self, decision: &Decision) -> impl Ord + use<> {
        let outcome = self.pack.outcomes.iter().position(|one| one.name == decision.outcome);
        let rank = outcome.map_or(0, |position| self.pack.outcomes.len() - position);
        (decision.priority, rank, !decision.unscored)
    }
}
