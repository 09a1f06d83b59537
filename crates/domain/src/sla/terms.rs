//! What a policy says for one priority.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Approval, Silence, Wait};

/// The waits, the consent and the escalation of one priority (X.1642 8.7.2).
///
/// A wait of nothing (`0h`) is no wait of its own: its step shares the deadline of the one before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// From collected to installed and verified: the number of the SLA. The contract's own freezes
    /// pause it; regulations beside it never pause.
    pub deadline: Wait,
    /// From collected to evaluated.
    pub evaluate: Wait,
    /// From evaluated to tested.
    pub test: Wait,
    /// From tested to the notice.
    pub notify: Wait,
    /// From approved to installed on the last item.
    pub install: Wait,
    /// From installed to verified by an independent scan.
    pub verify: Wait,
    /// Least age since the vendor published it, before it is installed. It runs beside the rest.
    #[serde(default = "nothing")]
    pub soak: Wait,
    /// Notices and their lead times.
    pub notice: Notice,
    /// Whether the tenant has to agree.
    pub approval: Asked,
    /// What the tenant may put off.
    pub deferrals: Deferrals,
    /// At which shares of the time to the due date somebody is told, in percent, rising.
    pub escalate: Vec<u8>,
    /// What holds instead where the vulnerability is known to be exploited and the item exposed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emergency: Option<Emergency>,
}

fn nothing() -> Wait {
    Wait::NONE
}

/// When tenants are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WrittenNotice", into = "WrittenNotice")]
pub struct Notice {
    /// How long before the change they are told first.
    pub lead: Wait,
    /// How long before it they are told again; not at all where it is nothing.
    pub reminder: Wait,
    /// How soon after it they are told that it is done.
    pub done: Wait,
}

/// A notice as written: by its waits, or by the name of a preset.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenNotice {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    preset: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lead: Option<Wait>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reminder: Option<Wait>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    done: Option<Wait>,
}

impl Notice {
    /// FedRAMP SCN, transformative change: 30 business days before, again 10 before, done within 5
    /// after.
    pub const SCN_TRANSFORMATIVE: Self = Self {
        lead: Wait::BusinessDays(30),
        reminder: Wait::BusinessDays(10),
        done: Wait::BusinessDays(5),
    };
    /// FedRAMP SCN, adaptive change: no notice before, one within 10 business days after.
    pub const SCN_ADAPTIVE: Self =
        Self { lead: Wait::NONE, reminder: Wait::NONE, done: Wait::BusinessDays(10) };

    /// The presets by name.
    pub const PRESETS: [(&'static str, Self); 2] = [
        ("fedramp-scn-transformative", Self::SCN_TRANSFORMATIVE),
        ("fedramp-scn-adaptive", Self::SCN_ADAPTIVE),
    ];
}

impl TryFrom<WrittenNotice> for Notice {
    type Error = String;

    fn try_from(written: WrittenNotice) -> Result<Self, String> {
        let base = match &written.preset {
            None => None,
            Some(name) => {
                let found = Self::PRESETS.iter().find(|(preset, _)| preset == name);
                let names: Vec<&str> = Self::PRESETS.iter().map(|(name, _)| *name).collect();
                Some(found.map(|(_, notice)| *notice).ok_or_else(|| {
                    format!("there is no preset `{name}`; choose one of: {}", names.join(", "))
                })?)
            }
        };
        let lead = written.lead.or(base.map(|base| base.lead));
        Ok(Self {
            lead: lead.ok_or("`lead` is missing: how long before a change tenants are told")?,
            reminder: written.reminder.or(base.map(|base| base.reminder)).unwrap_or(Wait::NONE),
            done: written.done.or(base.map(|base| base.done)).unwrap_or(Wait::NONE),
        })
    }
}

impl From<Notice> for WrittenNotice {
    fn from(notice: Notice) -> Self {
        Self {
            preset: None,
            lead: Some(notice.lead),
            reminder: Some(notice.reminder),
            done: Some(notice.done),
        }
    }
}

/// What the tenant is asked, and how long it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case", deny_unknown_fields)]
pub enum Asked {
    /// To say yes.
    Required {
        /// From the notice until it is to have answered.
        answer: Wait,
        /// What its silence means then.
        silence: Silence,
    },
    /// Nothing: it is told before.
    Notice,
    /// Nothing: it is told as it happens.
    NotNeeded,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&match self {
            Self::Required { answer, silence: Silence::Approves } => {
                format!("asked; silence approves after {answer}")
            }
            Self::Required { answer, silence: Silence::Waits } => {
                format!("asked for {answer}; silence waits")
            }
            Self::Notice => "told before, not asked".to_owned(),
            Self::NotNeeded => "told as it happens".to_owned(),
        })
    }
}

impl Asked {
    /// Without the waits.
    pub fn approval(self) -> Approval {
        match self {
            Self::Required { silence, .. } => Approval::Required { silence },
            Self::Notice => Approval::Notice,
            Self::NotNeeded => Approval::NotNeeded,
        }
    }
}

/// How often and how long a tenant may put a change off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deferrals {
    /// How often.
    pub count: u8,
    /// How long each time.
    pub longest: Wait,
}

/// What holds instead in an emergency; what is not written holds as ever.
///
/// In an emergency the evidence is saved before the patch goes on, as a patch can wipe the traces
/// of whoever was there before it (BOD 26-04), and the patch is judged again afterwards (DORA RTS
/// 2024/1774 article 17).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Emergency {
    /// From collected to verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Wait>,
    /// From collected to evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluate: Option<Wait>,
    /// From evaluated to tested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<Wait>,
    /// How long before the change tenants are told.
    pub lead: Wait,
    /// From approved to installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub install: Option<Wait>,
    /// From installed to verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Wait>,
    /// What the tenant is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Asked>,
    /// What it may put off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deferrals: Option<Deferrals>,
    /// From collected or listed until volatile evidence is saved. A patch does not start before it is
    /// saved or this wait is over; what is missed then is escalated, and the patch goes on.
    pub evidence: Wait,
    /// From verified until it is judged again.
    pub re_evaluate: Wait,
}

/// Whether the ordinary terms hold, or those of an emergency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Path {
    /// The ordinary way.
    Ordinary,
    /// Known to be exploited, on an exposed item.
    Emergency,
}

impl Terms {
    /// The terms that hold on a path. Where a policy has none for an emergency, the ordinary ones.
    #[must_use]
    pub fn on(&self, path: Path) -> Self {
        let (Path::Emergency, Some(emergency)) = (path, &self.emergency) else {
            return self.clone();
        };
        Self {
            deadline: emergency.deadline.unwrap_or(self.deadline),
            evaluate: emergency.evaluate.unwrap_or(self.evaluate),
            test: emergency.test.unwrap_or(self.test),
            // Told at once.
            notify: Wait::NONE,
            install: emergency.install.unwrap_or(self.install),
            verify: emergency.verify.unwrap_or(self.verify),
            // What is exploited does not ripen.
            soak: Wait::NONE,
            notice: Notice { lead: emergency.lead, reminder: Wait::NONE, ..self.notice },
            approval: emergency.approval.unwrap_or(self.approval),
            deferrals: emergency.deferrals.unwrap_or(self.deferrals),
            escalate: self.escalate.clone(),
            emergency: self.emergency,
        }
    }
}
