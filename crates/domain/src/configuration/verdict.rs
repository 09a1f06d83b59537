//! What an alteration of a file is held to be: authorised, the vendor's, unauthorised, or unknown.
//!
//! [`judge`] asks the rules in a fixed order ([`Rule`]); the first that holds decides, and what each one said is kept
//! as the trace, so that a verdict can be told to people and judged again.
//!
//! ```text
//! expected content, in the window, by the expected hand ─► authorised
//! expected content, but late, early or by another hand  ─► authorised, irregular
//! content that an installed package brought then        ─► vendor
//! break-glass was open for it                           ─► emergency, to be reviewed
//! back to the content that is in force                  ─► reverted
//! nothing differs but what alters by itself             ─► noise
//! evidence is missing                                   ─► unknown
//! otherwise                                             ─► unauthorised
//! ```
//!
//! Contents are compared by the hash of what may leave a host ([`redact`](super::secret::redact)): whoever approves a
//! file has it redacted with the item's key, and gets the same hash for the same file, its secrets included.

use jiff::{Timestamp, ToSpan as _};
use serde::{Deserialize, Serialize};

use crate::change::FileHash;
use crate::cloud::{BreakGlassId, ChangeId, DriftId, words};
use crate::order::PathPattern;

/// How much earlier or later than a clock says something may have happened.
pub const CLOCK_TOLERANCE_SECONDS: i64 = 60;

/// A file as it was or is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileState {
    /// Of what may leave its host of its content.
    pub content: FileHash,
    /// Of its kind, owner, permissions and attributes.
    pub access: FileHash,
}

/// One difference between two looks at a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alteration {
    /// Absolute path.
    pub path: String,
    /// `None` where it was not there.
    pub before: Option<FileState>,
    /// `None` where it is gone.
    pub after: Option<FileState>,
    /// When.
    pub when: Happened,
    /// By whom, as far as the host tells.
    pub actor: Actor,
    /// What differs.
    pub extent: Extent,
    /// Whether the host's reports before this one are all here.
    pub evidence: Evidence,
}

/// When something happened: after one look and not after another. Both are the same where it was watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happened {
    /// When the file was still seen as before.
    pub after: Timestamp,
    /// When it was seen as it is.
    pub by: Timestamp,
}

/// Who altered a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "who", rename_all = "snake_case")]
pub enum Actor {
    /// Nobody can tell.
    Unknown,
    /// The agent itself, with an order.
    Agent {
        /// Of which change.
        change: ChangeId,
    },
    /// A package manager.
    PackageManager,
    /// Somebody who had logged in, by whatever program.
    Person {
        /// Name of the account with which the session began.
        login: String,
    },
    /// A program that no session began.
    Program {
        /// Its executable.
        executable: String,
    },
}

words! {
    /// What differs between the two looks.
    Extent {
        /// What somebody sets.
        Matters = "matters",
        /// Only what alters by itself ([`Masks`](super::mask::Masks)).
        OnlyVolatile = "only_volatile",
    }
}

words! {
    /// Whether reports are missing.
    Evidence {
        /// All reports before this one came.
        Complete = "complete",
        /// There is a gap: something else may have happened in between.
        Gap = "gap",
    }
}

/// What is known where an alteration is judged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knowledge {
    /// What approved changes are to make of files of this item.
    pub expectations: Vec<Expectation>,
    /// What installed packages brought.
    pub shipped: Vec<Shipped>,
    /// Emergencies that were declared for this item.
    pub emergencies: Vec<Emergency>,
    /// What files were approved to be.
    pub approved: Vec<Approved>,
}

/// What an approved change makes of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expectation {
    /// Which change.
    pub change: ChangeId,
    /// Absolute path.
    pub path: String,
    /// What the file is to be; `None` where it is to go.
    pub after: Option<FileState>,
    /// From when on.
    pub not_before: Timestamp,
    /// Until before when.
    pub not_after: Timestamp,
    /// By whom; `None` where the plan names nobody.
    pub executor: Option<Executor>,
}

/// Who is to carry out a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "who", rename_all = "snake_case")]
pub enum Executor {
    /// The agent, with an order of this change.
    Agent,
    /// Somebody by hand.
    Person {
        /// Name of the account.
        login: String,
    },
}

/// A file as a package brought it, by itself or by its scripts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shipped {
    /// Of which package.
    pub package: String,
    /// In which version.
    pub version: String,
    /// Absolute path.
    pub path: String,
    /// What the file was then; `None` where the package took it away.
    pub after: Option<FileState>,
    /// When the package manager was at work on it.
    pub from: Timestamp,
    /// When it had ended.
    pub until: Timestamp,
    /// The change that had it installed; `None` where nobody approved it.
    pub change: Option<ChangeId>,
}

/// Leave to alter first and to explain afterwards ([`break_glass`](super::break_glass)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Emergency {
    /// Which.
    pub id: BreakGlassId,
    /// What it is called where it was declared.
    pub ticket: String,
    /// Accounts that may; anybody where none is named.
    pub logins: Vec<String>,
    /// Which files.
    pub files: Vec<PathPattern>,
    /// From when on.
    pub from: Timestamp,
    /// Until before when.
    pub until: Timestamp,
    /// Before when somebody else has to have looked at what was done.
    pub review_by: Timestamp,
}

/// What a file was approved to be, from when on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approved {
    /// Absolute path.
    pub path: String,
    /// What; `None` where it is not to be there.
    pub state: Option<FileState>,
    /// By what.
    pub by: Approval,
    /// What approved something else after it; `None` for what is in force.
    pub superseded_by: Option<Approval>,
}

/// By what a file came to be as it is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Approval {
    /// A change made it so.
    Change {
        /// Which.
        change: ChangeId,
    },
    /// Somebody said of a drift that it may stay.
    Adoption {
        /// Of which.
        drift: DriftId,
    },
    /// It was so before a drift that is open.
    Before {
        /// Which.
        drift: DriftId,
    },
    /// It was done under break-glass, and accepted.
    Review {
        /// Under which.
        break_glass: BreakGlassId,
    },
    /// It was so before something was done under break-glass that nobody has reviewed.
    BeforeReview {
        /// Under which.
        break_glass: BreakGlassId,
    },
}

impl std::fmt::Display for Approval {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Change { change } => write!(f, "{change}"),
            Self::Adoption { drift } => write!(f, "the adoption of {drift}"),
            Self::Before { drift } => write!(f, "what was so before {drift}"),
            Self::Review { break_glass } => write!(f, "the review of {break_glass}"),
            Self::BeforeReview { break_glass } => write!(f, "what was so before {break_glass}"),
        }
    }
}

words! {
    /// The rules, in the order in which they are asked.
    Rule {
        /// Expected content, in the window, by the expected hand.
        Expected = "expected",
        /// Expected content otherwise.
        Irregular = "irregular",
        /// What a package brought.
        Vendor = "vendor",
        /// Break-glass.
        Emergency = "emergency",
        /// Back to what is in force.
        Reverted = "reverted",
        /// Only what alters by itself.
        Noise = "noise",
        /// Reports are missing.
        Gap = "gap",
        /// None of these.
        Otherwise = "otherwise",
        /// What is derived of files, such as the policy in force, is held to be what they are: [`follow`] says so,
        /// and nobody asks this rule.
        Follows = "follows",
    }
}

words! {
    /// What an alteration is held to be, in one of four words.
    Standing {
        /// Somebody who may has agreed to it, or it is nothing that anybody has to agree to.
        Authorised = "authorised",
        /// It came with a package.
        Vendor = "vendor",
        /// Nobody agreed to it.
        Unauthorised = "unauthorised",
        /// What would tell is missing.
        Unknown = "unknown",
    }
}

words! {
    /// How sure a verdict is.
    Confidence {
        /// Only the contents speak for it.
        Low = "low",
        /// Hand or time are not certain.
        Medium = "medium",
        /// Content, hand and time are.
        High = "high",
    }
}

/// What is held of an alteration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// As approved.
    Authorised {
        /// By which change.
        change: ChangeId,
    },
    /// The content that was approved, but not as approved.
    AuthorisedIrregular {
        /// By which change.
        change: ChangeId,
        /// In what it differs.
        because: Vec<Irregularity>,
    },
    /// What a package brought.
    Vendor {
        /// Which.
        package: String,
        /// In which version.
        version: String,
        /// The change that had it installed; `None` where nobody approved it.
        change: Option<ChangeId>,
    },
    /// Done with leave to explain afterwards.
    Emergency {
        /// Under which.
        break_glass: BreakGlassId,
        /// Under which name.
        ticket: String,
        /// When somebody has to have looked at it.
        review_by: Timestamp,
        /// Whether that has come already.
        review: Review,
    },
    /// Back to what is in force.
    Reverted {
        /// What it follows from.
        to: Approval,
    },
    /// Nothing that anybody set.
    Noise,
    /// Nobody agreed to it.
    Unauthorised,
    /// Reports are missing that would tell.
    Unknown,
}

words! {
    /// Whether a review is late.
    Review {
        /// There is time.
        Due = "due",
        /// There is none left.
        Overdue = "overdue",
    }
}

words! {
    /// In what an alteration differs from the change that it follows.
    Irregularity {
        /// It was done before it might have been.
        Early = "early",
        /// It was done when its time was over.
        Late = "late",
        /// Somebody else did it.
        OtherHand = "other_hand",
    }
}

/// A verdict with all that it rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// What is held of it.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// By whom it was, as far as the host tells.
    pub actor: Actor,
    /// How sure that is.
    pub confidence: Confidence,
    /// What each rule said, up to the one that held.
    pub trace: Vec<Step>,
}

/// What one rule said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Which.
    pub rule: Rule,
    /// What it said; the last one holds.
    pub because: String,
}

impl Verdict {
    /// In one of four words.
    pub const fn standing(&self) -> Standing {
        match self {
            Self::Authorised { .. }
            | Self::AuthorisedIrregular { .. }
            | Self::Emergency { .. }
            | Self::Reverted { .. }
            | Self::Noise => Standing::Authorised,
            Self::Vendor { .. } => Standing::Vendor,
            Self::Unauthorised => Standing::Unauthorised,
            Self::Unknown => Standing::Unknown,
        }
    }
}

/// How a time lies to a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Before,
    After,
    Perhaps,
    Within,
}

impl Happened {
    /// Watched: it was then.
    pub const fn at(instant: Timestamp) -> Self {
        Self { after: instant, by: instant }
    }

    fn fits(self, from: Timestamp, until: Timestamp) -> Fit {
        let tolerance = CLOCK_TOLERANCE_SECONDS.seconds();
        let from = from.checked_sub(tolerance).unwrap_or(Timestamp::MIN);
        let until = until.checked_add(tolerance).unwrap_or(Timestamp::MAX);
        if self.by < from {
            Fit::Before
        } else if self.after >= until {
            Fit::After
        } else if from <= self.after && self.by < until {
            Fit::Within
        } else {
            Fit::Perhaps
        }
    }
}

/// What is held of something that is derived of files, where they altered at the same time: what is held of the worst
/// of them.
pub fn follow(path: &str, of: &Judgement) -> Judgement {
    let because = format!("it follows from {path}, which altered at the same time");
    Judgement { trace: vec![Step { rule: Rule::Follows, because }], ..of.clone() }
}

/// What is held of something that was done under break-glass where its review rejects it.
pub fn rejected(of: &Judgement) -> Judgement {
    let because = match &of.verdict {
        Verdict::Emergency { break_glass, ticket, .. } => {
            format!(
                "{ticket} ({break_glass}) was open for this file, and its review rejected what was done"
            )
        }
        _ => "the review of what was done rejected it".to_owned(),
    };
    let mut trace = of.trace.clone();
    trace.pop_if(|step| step.rule == Rule::Emergency);
    trace.push(Step { rule: Rule::Emergency, because });
    Judgement { verdict: Verdict::Unauthorised, trace, ..of.clone() }
}

/// How well an actor is the one who was to do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hand {
    Same,
    NotTold,
    Other,
}

fn hand(actor: &Actor, expectation: &Expectation) -> Hand {
    match (actor, &expectation.executor) {
        // Where nobody is named, nobody is another one.
        (Actor::Unknown, _) | (_, None) => Hand::NotTold,
        (Actor::Agent { change }, Some(Executor::Agent)) if *change == expectation.change => {
            Hand::Same
        }
        (Actor::Person { login }, Some(Executor::Person { login: expected }))
            if login == expected =>
        {
            Hand::Same
        }
        _ => Hand::Other,
    }
}

/// Judges an alteration.
pub fn judge(alteration: &Alteration, knowledge: &Knowledge, now: Timestamp) -> Judgement {
    let mut trace = Vec::new();
    let mut asked = |rule: Rule, found: Result<(Verdict, Confidence, String), String>| {
        let (held, because) = match found {
            Ok((verdict, confidence, because)) => (Some((verdict, confidence)), because),
            Err(because) => (None, because),
        };
        trace.push(Step { rule, because });
        held
    };
    let (verdict, confidence) = asked(Rule::Expected, expected(alteration, knowledge))
        .or_else(|| asked(Rule::Irregular, irregular(alteration, knowledge)))
        .or_else(|| asked(Rule::Vendor, vendor(alteration, knowledge)))
        .or_else(|| asked(Rule::Emergency, emergency(alteration, knowledge, now)))
        .or_else(|| asked(Rule::Reverted, reverted(alteration, knowledge)))
        .or_else(|| asked(Rule::Noise, noise(alteration)))
        .or_else(|| asked(Rule::Gap, gap(alteration)))
        .unwrap_or_else(|| {
            trace.push(Step {
                rule: Rule::Otherwise,
                because: "nothing that is known explains it".to_owned(),
            });
            let confidence = match alteration.actor {
                Actor::Unknown => Confidence::Medium,
                _ => Confidence::High,
            };
            (Verdict::Unauthorised, confidence)
        });
    // Whatever else happened in between, nobody can tell.
    let confidence = match alteration.evidence {
        Evidence::Complete => confidence,
        Evidence::Gap => Confidence::Low,
    };
    Judgement { verdict, actor: alteration.actor.clone(), confidence, trace }
}

type Asked = Result<(Verdict, Confidence, String), String>;

/// Expectations that have exactly what came out.
fn fulfilled<'k>(
    alteration: &'k Alteration,
    knowledge: &'k Knowledge,
) -> impl Iterator<Item = &'k Expectation> {
    let is_it = |it: &&Expectation| it.path == alteration.path && it.after == alteration.after;
    knowledge.expectations.iter().filter(is_it)
}

fn expected(alteration: &Alteration, knowledge: &Knowledge) -> Asked {
    let fitting = fulfilled(alteration, knowledge).filter_map(|it| {
        let fit = alteration.when.fits(it.not_before, it.not_after);
        let confidence = match (fit, hand(&alteration.actor, it)) {
            (Fit::Before | Fit::After, _) | (_, Hand::Other) => return None,
            (Fit::Within, Hand::Same) => Confidence::High,
            (Fit::Within, Hand::NotTold) | (Fit::Perhaps, Hand::Same) => Confidence::Medium,
            (Fit::Perhaps, Hand::NotTold) => Confidence::Low,
        };
        Some((confidence, it.not_before, it.change))
    });
    // Of several that fit as well it is the one whose turn came last: what it went back to, another one made before.
    let Some((confidence, _, change)) = fitting.max() else {
        return Err(if fulfilled(alteration, knowledge).next().is_some() {
            "an approved change has this content, at another time or by another hand".to_owned()
        } else {
            "no approved change has this content for this file".to_owned()
        });
    };
    let because = format!("{change} has this content for this file, now and by this hand");
    Ok((Verdict::Authorised { change }, confidence, because))
}

fn irregular(alteration: &Alteration, knowledge: &Knowledge) -> Asked {
    let differing = fulfilled(alteration, knowledge).map(|it| {
        let mut because = Vec::new();
        match alteration.when.fits(it.not_before, it.not_after) {
            Fit::Before => because.push(Irregularity::Early),
            Fit::After => because.push(Irregularity::Late),
            Fit::Perhaps | Fit::Within => {}
        }
        let hand = hand(&alteration.actor, it);
        if hand == Hand::Other {
            because.push(Irregularity::OtherHand);
        }
        (it.change, because, hand)
    });
    let Some((change, because, hand)) = differing.min_by_key(|(_, because, _)| because.len())
    else {
        return Err("no approved change has this content for this file".to_owned());
    };
    let words: Vec<_> = because.iter().map(|it| it.as_str()).collect();
    let text = format!("{change} has this content for this file, but: {}", words.join(", "));
    let confidence = if hand == Hand::NotTold { Confidence::Medium } else { Confidence::High };
    Ok((Verdict::AuthorisedIrregular { change, because }, confidence, text))
}

/// The vendor's content alone says nothing: going back to it may take a safeguard away. It counts while the
/// package manager was at work on that package.
fn vendor(alteration: &Alteration, knowledge: &Knowledge) -> Asked {
    let is_it = |it: &&Shipped| it.path == alteration.path && it.after == alteration.after;
    let mut same = knowledge.shipped.iter().filter(is_it).peekable();
    if same.peek().is_none() {
        return Err("no installed package brought this content".to_owned());
    }
    let by_package_manager = match alteration.actor {
        Actor::PackageManager | Actor::Agent { .. } => Hand::Same,
        Actor::Unknown => Hand::NotTold,
        Actor::Person { .. } | Actor::Program { .. } => Hand::Other,
    };
    if by_package_manager == Hand::Other {
        return Err("it is a package's content, but no package manager wrote it".to_owned());
    }
    let fitting = same.filter_map(|it| {
        let confidence = match (alteration.when.fits(it.from, it.until), by_package_manager) {
            (Fit::Before | Fit::After, _) => return None,
            (Fit::Within, Hand::Same) => Confidence::High,
            (Fit::Perhaps, Hand::NotTold) => Confidence::Low,
            _ => Confidence::Medium,
        };
        Some((it, confidence))
    });
    // Of two that explain it, the one that was approved.
    let best = fitting.max_by_key(|(it, confidence)| (it.change.is_some(), *confidence));
    let Some((it, confidence)) = best else {
        return Err(
            "it is a package's content, but the package was installed at another time".into()
        );
    };
    let because = format!("{} {} brought it then", it.package, it.version);
    let (package, version, change) = (it.package.clone(), it.version.clone(), it.change);
    Ok((Verdict::Vendor { package, version, change }, confidence, because))
}

fn emergency(alteration: &Alteration, knowledge: &Knowledge, now: Timestamp) -> Asked {
    let open = knowledge.emergencies.iter().filter_map(|it| {
        let by_hand = match &alteration.actor {
            _ if it.logins.is_empty() => Hand::Same,
            Actor::Unknown => Hand::NotTold,
            Actor::Person { login } if it.logins.contains(login) => Hand::Same,
            _ => Hand::Other,
        };
        let confidence = match (alteration.when.fits(it.from, it.until), by_hand) {
            (Fit::Before | Fit::After, _) | (_, Hand::Other) => return None,
            (Fit::Within, Hand::Same) => Confidence::High,
            (Fit::Perhaps, Hand::NotTold) => Confidence::Low,
            _ => Confidence::Medium,
        };
        let covers = it.files.iter().any(|pattern| pattern.has(&alteration.path));
        covers.then_some((it, confidence))
    });
    let Some((it, confidence)) = open.max_by_key(|(_, confidence)| *confidence) else {
        return Err("no break-glass was open for this file, then and for this hand".to_owned());
    };
    let (break_glass, review_by) = (it.id, it.review_by);
    let review = if now < review_by { Review::Due } else { Review::Overdue };
    let because = format!("{} was open for this file", it.ticket);
    let ticket = it.ticket.clone();
    Ok((Verdict::Emergency { break_glass, ticket, review_by, review }, confidence, because))
}

/// Only what is in force: an older version may be the weaker one.
fn reverted(alteration: &Alteration, knowledge: &Knowledge) -> Asked {
    let is_it = |it: &&Approved| it.path == alteration.path && it.state == alteration.after;
    let same = || knowledge.approved.iter().filter(is_it);
    if let Some(it) = same().find(|it| it.superseded_by.is_none()) {
        let because = format!("it is as it was by {}", it.by);
        return Ok((Verdict::Reverted { to: it.by }, Confidence::High, because));
    }
    Err(match same().find_map(|it| it.superseded_by.map(|next| (it.by, next))) {
        Some((by, next)) => {
            format!("it is as it was by {by}, which {next} took back")
        }
        None => "it was never approved to be so".to_owned(),
    })
}

fn noise(alteration: &Alteration) -> Asked {
    let access = |state: Option<FileState>| state.map(|state| state.access);
    let is_there = alteration.before.is_some() && alteration.after.is_some();
    if alteration.extent == Extent::Matters || !is_there {
        return Err("more differs than what alters by itself".to_owned());
    }
    if access(alteration.before) != access(alteration.after) {
        return Err("owner, permissions or attributes differ too".to_owned());
    }
    let because = "nothing differs but what alters by itself".to_owned();
    Ok((Verdict::Noise, Confidence::High, because))
}

fn gap(alteration: &Alteration) -> Asked {
    match alteration.evidence {
        Evidence::Complete => Err("all reports before it are here".to_owned()),
        Evidence::Gap => {
            let because = "reports before it are missing, and with them what would tell".to_owned();
            Ok((Verdict::Unknown, Confidence::Low, because))
        }
    }
}

#[cfg(test)]
mod tests;
