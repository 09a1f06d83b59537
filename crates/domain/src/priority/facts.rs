//! What a decision may rest on: facts about a vulnerability, about its patch, about the asset.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where an input of a decision comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "is")]
pub enum InputProvenance {
    /// Stated by a source.
    Given {
        /// Name of the source (`CISA KEV 2025.08.25`, `ALSA-2024:1234`).
        by: String,
    },
    /// Concluded by a rule from other inputs of the same decision.
    Derived {
        /// Names of those inputs.
        from: String,
    },
    /// Nobody said; the policy takes the cautious value.
    Assumed,
}

/// A fact with the name of whoever stated it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sourced<T> {
    /// The fact.
    pub value: T,
    /// Who stated it.
    pub by: String,
}

impl<T> Sourced<T> {
    /// A fact stated by `by`.
    pub fn new(value: T, by: impl Into<String>) -> Self {
        Self { value, by: by.into() }
    }
}

/// Defines an enum whose values are spelled in policy packs exactly as here.
macro_rules! worded {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// The spelling used in policy packs and recorded inputs.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.pad(self.word())
            }
        }
    };
}

worded! {
    /// Whether CISA's catalogue of Known Exploited Vulnerabilities lists a vulnerability.
    KevListing {
        /// The catalogue was consulted and does not list it.
        NotListed = "no",
        /// Listed: exploitation in the wild is confirmed.
        Listed = "yes",
    }
}

worded! {
    /// SSVC Exploitation: evidence of exploitation at this time.
    Exploitation {
        /// Neither active exploitation nor a public proof of concept is known.
        None = "none",
        /// A public proof of concept, or a well-known method.
        PublicPoc = "public poc",
        /// Reliable evidence of exploitation in the wild.
        Active = "active",
    }
}

worded! {
    /// SSVC Automatable: can reconnaissance to exploitation be automated reliably?
    Automatable {
        /// No.
        No = "no",
        /// Yes.
        Yes = "yes",
    }
}

worded! {
    /// SSVC Technical Impact: what control of the vulnerable component does exploitation give?
    TechnicalImpact {
        /// Limited control or information, or denial of service.
        Partial = "partial",
        /// Total control, or total disclosure.
        Total = "total",
    }
}

worded! {
    /// VDR potential adverse impact, the N-rating.
    PotentialImpact {
        /// Negligible.
        N1 = "n1",
        /// Limited.
        N2 = "n2",
        /// Serious for one agency, limited for several.
        N3 = "n3",
        /// Catastrophic for one agency, serious for several.
        N4 = "n4",
        /// Catastrophic for several agencies.
        N5 = "n5",
    }
}

worded! {
    /// VDR: is a likely threat actor likely to exploit it?
    LikelyExploitable {
        /// Not likely.
        No = "no",
        /// Likely.
        Yes = "yes",
    }
}

worded! {
    /// Kind of suite that offers a patch.
    SuiteKind {
        /// An ordinary suite.
        Ordinary = "ordinary",
        /// A security suite.
        Security = "security",
    }
}

worded! {
    /// SSVC System Exposure: the accessible attack surface of the asset.
    Exposure {
        /// Local service or program, isolated network.
        Small = "small",
        /// Networked, with some access restriction or mitigation.
        Controlled = "controlled",
        /// The Internet, or another network where access cannot be controlled.
        Open = "open",
    }
}

impl Exposure {
    /// The label by which a configuration item says how exposed it is.
    pub const LABEL: &'static str = "exposure";

    /// What the value of that label says; `None` where it is no exposure.
    pub fn of_label(value: &str) -> Option<Self> {
        [Self::Small, Self::Controlled, Self::Open].into_iter().find(|it| it.word() == value)
    }
}

worded! {
    /// SSVC Human Impact: combined safety and mission impact of losing the asset.
    HumanImpact {
        /// Low.
        Low = "low",
        /// Medium.
        Medium = "medium",
        /// High.
        High = "high",
        /// Very high.
        VeryHigh = "very high",
    }
}

worded! {
    /// FIPS 199 impact level of the system that holds the asset.
    SystemImpact {
        /// Low.
        Low = "low",
        /// Moderate.
        Moderate = "moderate",
        /// High.
        High = "high",
    }
}

/// What is known of one vulnerability, or of a patch as a whole. Absent means unknown, never no.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PriorityInputs {
    /// What CISA's catalogue says; `None` where none was consulted.
    pub known_exploited: Option<Sourced<KevListing>>,
    /// CVSS vectors as published, any version. Those that cannot be read are recorded and
    /// otherwise ignored.
    pub cvss_vectors: Vec<Sourced<String>>,
    /// Severity or urgency words of vendors and trackers (`Important`, `high`, `unimportant`).
    pub vendor_severities: Vec<Sourced<String>>,
    /// `urgency=` of the Debian changelog entries that the patch brings.
    pub changelog_urgencies: Vec<Sourced<String>>,
    /// How many CVE ids those entries name; `None` where the changelog was not read.
    pub changelog_cves: Option<Sourced<usize>>,
    /// Which kind of suite offers the patch.
    pub suite: Option<Sourced<SuiteKind>>,
    /// SSVC Exploitation.
    pub exploitation: Option<Sourced<Exploitation>>,
    /// SSVC Automatable.
    pub automatable: Option<Sourced<Automatable>>,
    /// SSVC Technical Impact.
    pub technical_impact: Option<Sourced<TechnicalImpact>>,
    /// VDR N-rating.
    pub potential_impact: Option<Sourced<PotentialImpact>>,
    /// VDR likely exploitability.
    pub likely_exploitable: Option<Sourced<LikelyExploitable>>,
    /// EPSS probability, 0 to 1; other values are ignored. The source's name should hold model
    /// version and score date.
    pub epss: Option<Sourced<f64>>,
}

impl PriorityInputs {
    /// These facts about one vulnerability, completed by those of the whole patch where it has
    /// none of its own.
    #[must_use]
    pub fn or(&self, patch: &Self) -> Self {
        let list = |own: &[Sourced<String>], of_patch: &[Sourced<String>]| {
            if own.is_empty() { of_patch.to_vec() } else { own.to_vec() }
        };
        Self {
            known_exploited: self.known_exploited.clone().or(patch.known_exploited.clone()),
            cvss_vectors: list(&self.cvss_vectors, &patch.cvss_vectors),
            vendor_severities: list(&self.vendor_severities, &patch.vendor_severities),
            changelog_urgencies: list(&self.changelog_urgencies, &patch.changelog_urgencies),
            changelog_cves: self.changelog_cves.clone().or(patch.changelog_cves.clone()),
            suite: self.suite.clone().or(patch.suite.clone()),
            exploitation: self.exploitation.clone().or(patch.exploitation.clone()),
            automatable: self.automatable.clone().or(patch.automatable.clone()),
            technical_impact: self.technical_impact.clone().or(patch.technical_impact.clone()),
            potential_impact: self.potential_impact.clone().or(patch.potential_impact.clone()),
            likely_exploitable: self
                .likely_exploitable
                .clone()
                .or(patch.likely_exploitable.clone()),
            epss: self.epss.clone().or(patch.epss.clone()),
        }
    }
}

/// What is known of one CVE that a patch fixes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CveFacts {
    /// CVE id.
    pub cve: String,
    /// Facts about it.
    pub inputs: PriorityInputs,
}

/// What is known of the asset itself. Absent facts are assumed at the cautious value, and the
/// decision says so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssetFacts {
    /// Attack surface.
    pub exposure: Option<Sourced<Exposure>>,
    /// Safety and mission impact.
    pub human_impact: Option<Sourced<HumanImpact>>,
    /// Impact level of the system.
    pub system_impact: Option<Sourced<SystemImpact>>,
}
