//! What the simulation writes down: plain numbers and words, so that the oracle needs nothing of
//! what it judges.

/// A tenant, by its place.
pub(crate) type Who = usize;
/// The first eight bytes of a plan's hash.
pub(crate) type Hash = u64;
/// A key, by its number in the whole world.
pub(crate) type KeyNo = u8;

/// Something that happened, in the order of the list, at a true time in seconds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) at: i64,
    pub(crate) fact: Fact,
}

/// How the tenant is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Nothing,
    Notice,
    Required,
    RequiredOrSilence,
}

/// What a tenant says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    Yes,
    Later { until: i64 },
    No { until: i64 },
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fact {
    /// What both sides agreed to, in seconds.
    Contract { who: Who, mode: Mode, lead: i64, answer: i64, due: i64, above: usize, urgency: u8 },
    /// It is judged anew, and other terms follow; the date stays.
    Reassessed { who: Who, mode: Mode, lead: i64, answer: i64, urgency: u8 },
    /// The control plane has a plan for a tenant.
    Planned {
        who: Who,
        plan: Hash,
        author: u8,
        from: i64,
        until: i64,
        items: usize,
        disruption: u8,
    },
    /// The notice is in the tenant's mailbox.
    Mailed { who: Who, plan: Hash, written: i64 },
    /// The control plane knows that it is.
    Told { who: Who, plan: Hash },
    /// A tenant signed something, by its own account.
    Signed { who: Who, key: KeyNo, plan: Hash, word: Word, given_at: i64, nonce: u64 },
    /// The statement came in.
    Arrived { who: Who, nonce: u64, taken: bool },
    /// A tenant signed a rule.
    RuleSigned {
        who: Who,
        key: KeyNo,
        urgencies: u8,
        disruption: u8,
        begins: i64,
        length: i64,
        nonce: u64,
    },
    /// The rule came in.
    RuleArrived { who: Who, nonce: u64, taken: bool },
    /// The tenant took it back.
    RuleEnded { who: Who, nonce: u64 },
    /// A key counts.
    KeyIn { who: Who, key: KeyNo },
    /// A key counts no more.
    KeyOut { who: Who, key: KeyNo, revoked: bool },
    /// One of the provider's people agreed.
    Countersigned { who: Who, plan: Hash, by: u8 },
    /// A share was altered.
    Moved { who: Who, version: u64, from: &'static str, to: &'static str },
    /// The change was altered.
    ChangeMoved { version: u64, from: &'static str, to: &'static str },
    /// The control plane ordered a start.
    Started { who: Who, plan: Hash },
    /// An agent did it.
    Ran { who: Who, plan: Hash },
    /// A breach was told.
    Breached { who: Who, due: i64, by_tenant: bool },
    /// Something was refused.
    Refused { what: String },
    /// The process ended and came back.
    Restarted,
    /// The wall clock was set to something else.
    Jumped { by: i64 },
    /// How a share stands when all is over.
    Ended { who: Who, phase: &'static str },
}
