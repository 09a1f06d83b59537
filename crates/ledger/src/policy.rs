//! Whom to trust: a log's keys, its witnesses, and how many of them (C2SP tlog-policy).

use std::collections::HashMap;

use crate::checkpoint::CheckpointError;
use crate::keys::KeyError;
use crate::{KeyKind, VerifierKey};

/// A trust policy.
///
/// ```
/// use ledger::{KeyKind, Policy, Signer};
///
/// let log = Signer::new(KeyKind::Log, "cloud.example/audit", &[1; 32])?;
/// let tenant = Signer::new(KeyKind::Witness, "tenant.example/witness", &[2; 32])?;
///
/// let policy = Policy::parse(
///     format!(
///         "# Nothing counts that our own witness has not seen.\n\
///          log {}\n\
///          witness ours {}\n\
///          quorum ours\n",
///         log.verifier(),
///         tenant.verifier(),
///     )
///     .as_bytes(),
/// )?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Policy {
    logs: Vec<VerifierKey>,
    witnesses: Vec<VerifierKey>,
    /// Where the witness at the same place is asked, if its line says.
    addresses: Vec<Option<String>>,
    /// Witnesses and groups in the order of their lines; members stand before their group.
    nodes: Vec<Node>,
    quorum: Quorum,
}

/// Whose cosignatures are asked for.
#[derive(Debug, Clone, Copy)]
enum Quorum {
    /// `quorum none`.
    None,
    /// The witness or group at this place.
    Node(usize),
}

#[derive(Debug, Clone)]
struct Node {
    name: String,
    rule: Rule,
}

#[derive(Debug, Clone)]
enum Rule {
    /// The witness at this place.
    Witness(usize),
    /// So many of these nodes.
    Group { threshold: usize, members: Vec<usize> },
}

/// Too few witnesses cosigned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the witnesses' quorum `{quorum}` is not met; cosigned by: {}; missing: {}",
    if cosigned.is_empty() { "nobody".to_owned() } else { cosigned.join(", ") },
    missing.join(", ")
)]
pub struct Shortfall {
    /// The rule's name in the policy.
    pub quorum: String,
    /// The witnesses that cosigned, by their names in the policy.
    pub cosigned: Vec<String>,
    /// The witnesses that did not.
    pub missing: Vec<String>,
}

/// Why a policy is refused, with its line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the policy: {problem}")]
pub struct PolicyError {
    /// The line, from 1; the last one for what the whole file lacks.
    pub line: usize,
    /// What is wrong with it.
    #[source]
    pub problem: PolicyProblem,
}

/// What is wrong with a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyProblem {
    /// A control character.
    #[error("control characters are not allowed")]
    Control,
    /// None of `log`, `witness`, `group`, `quorum`, or with too few or too many words.
    #[error("`{0}` is not a line of a policy")]
    Line(String),
    /// A key that is none.
    #[error("the key is not usable: {0}")]
    Key(#[from] KeyError),
    /// A log with a witness' key, or the reverse.
    #[error("the key of `{0}` is of the wrong kind for this line")]
    Kind(String),
    /// A name or a key that was there before.
    #[error("`{0}` is defined twice")]
    Twice(String),
    /// A name that no earlier line defines.
    #[error("`{0}` is not defined on an earlier line")]
    Unknown(String),
    /// A name that counts in two groups: one witness would have two votes.
    #[error("`{0}` is a member of two groups")]
    TwoVotes(String),
    /// A threshold that cannot be met, or that nothing is needed for.
    #[error("`{0}` is not a threshold from 1 to the number of members")]
    Threshold(String),
    /// No quorum line.
    #[error("there is no `quorum` line")]
    NoQuorum,
}

impl PolicyError {
    /// The way out.
    pub fn help(&self) -> Option<String> {
        match &self.problem {
            PolicyProblem::Key(error) => error.help(),
            PolicyProblem::Line(_) => Some(
                "lines are `log VKEY [URL]`, `witness NAME VKEY [URL]`, \
                 `group NAME all|any|N MEMBER...` and `quorum NAME`"
                    .to_owned(),
            ),
            PolicyProblem::NoQuorum => {
                Some("end it with `quorum NAME`, or `quorum none` to ask no witness".to_owned())
            }
            PolicyProblem::Kind(_) => {
                Some("a log's key is of kind 0x01, a witness' of kind 0x04".to_owned())
            }
            _ => None,
        }
    }
}

impl Policy {
    /// Trusts these keys of logs, and asks no witness.
    pub fn of_logs(logs: impl IntoIterator<Item = VerifierKey>) -> Self {
        let logs = logs.into_iter().collect();
        let (witnesses, addresses, nodes) = (Vec::new(), Vec::new(), Vec::new());
        Self { logs, witnesses, addresses, nodes, quorum: Quorum::None }
    }

    /// The same policy, trusting these keys of logs too.
    #[must_use]
    pub fn and_logs(mut self, logs: impl IntoIterator<Item = VerifierKey>) -> Self {
        for key in logs {
            if !self.logs.contains(&key) {
                self.logs.push(key);
            }
        }
        self
    }

    /// Reads a policy file.
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        let mut reading = Reading::default();
        let mut last = 1;
        for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            last = index + 1;
            reading.line(line).map_err(|problem| PolicyError { line: last, problem })?;
        }
        let Some(quorum) = reading.quorum else {
            return Err(PolicyError { line: last, problem: PolicyProblem::NoQuorum });
        };
        Ok(Self { quorum, ..reading.policy })
    }

    /// Whether it asks for witnesses.
    pub fn asks_witnesses(&self) -> bool {
        matches!(self.quorum, Quorum::Node(_))
    }

    /// The witnesses' keys.
    pub fn witnesses(&self) -> impl Iterator<Item = &VerifierKey> {
        self.witnesses.iter()
    }

    /// The witnesses whose lines say where they are asked: name in the policy, key, address.
    pub fn addresses(&self) -> impl Iterator<Item = (&str, &VerifierKey, &str)> {
        self.nodes.iter().filter_map(|node| match node.rule {
            Rule::Witness(witness) => {
                let address = self.addresses[witness].as_deref()?;
                Some((node.name.as_str(), &self.witnesses[witness], address))
            }
            Rule::Group { .. } => None,
        })
    }

    /// The keys that it trusts for this log.
    pub(crate) fn logs_of(&self, origin: &str) -> Result<Vec<&VerifierKey>, CheckpointError> {
        let keys: Vec<_> = self.logs.iter().filter(|key| key.name() == origin).collect();
        if keys.is_empty() {
            let mut known: Vec<_> = self.logs.iter().map(|key| key.name().to_owned()).collect();
            known.sort();
            known.dedup();
            return Err(CheckpointError::UnknownLog { origin: origin.to_owned(), known });
        }
        Ok(keys)
    }

    /// Whether these witnesses are enough.
    pub(crate) fn quorum<'k>(
        &self,
        cosigned: impl Iterator<Item = &'k VerifierKey>,
    ) -> Result<(), Shortfall> {
        let Quorum::Node(quorum) = self.quorum else { return Ok(()) };
        let cosigned: Vec<&VerifierKey> = cosigned.collect();
        let has_cosigned = |witness: usize| cosigned.contains(&&self.witnesses[witness]);
        // Members stand before their groups, so one pass decides all.
        let mut met = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            met.push(match &node.rule {
                Rule::Witness(witness) => has_cosigned(*witness),
                Rule::Group { threshold, members } => {
                    members.iter().filter(|member| met[**member]).count() >= *threshold
                }
            });
        }
        if met[quorum] {
            return Ok(());
        }
        let names = |wanted: bool| {
            let witnesses = self.nodes.iter().filter_map(move |node| match node.rule {
                Rule::Witness(witness) => (has_cosigned(witness) == wanted).then_some(&node.name),
                Rule::Group { .. } => None,
            });
            witnesses.cloned().collect()
        };
        Err(Shortfall {
            quorum: self.nodes[quorum].name.clone(),
            cosigned: names(true),
            missing: names(false),
        })
    }
}

/// A policy while its lines are read.
struct Reading {
    policy: Policy,
    quorum: Option<Quorum>,
    /// Names are opaque bytes (tlog-policy, "Character set").
    names: HashMap<Vec<u8>, usize>,
    /// Whether the node is a member of a group.
    taken: Vec<bool>,
}

impl Default for Reading {
    fn default() -> Self {
        let policy = Policy::of_logs([]);
        Self { policy, quorum: None, names: HashMap::new(), taken: Vec::new() }
    }
}

impl Reading {
    fn line(&mut self, line: &[u8]) -> Result<(), PolicyProblem> {
        if line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return Err(PolicyProblem::Control);
        }
        let words: Vec<&[u8]> = line
            .split(|byte| matches!(byte, b' ' | b'\t'))
            .filter(|word| !word.is_empty())
            .collect();
        match words.as_slice() {
            [] => Ok(()),
            [comment, ..] if comment.starts_with(b"#") => Ok(()),
            [b"log", key] | [b"log", key, _] => self.log(key),
            [b"witness", name, key] => self.witness(name, key, None),
            [b"witness", name, key, address] => self.witness(name, key, Some(text(address))),
            [b"group", name, threshold, members @ ..] if !members.is_empty() => {
                self.group(name, threshold, members)
            }
            [b"quorum", name] => self.take_quorum(name),
            _ => Err(PolicyProblem::Line(text(line))),
        }
    }

    fn log(&mut self, key: &[u8]) -> Result<(), PolicyProblem> {
        let key = key_of(key, KeyKind::Log)?;
        if self.policy.logs.iter().any(|have| have.same_point(&key)) {
            return Err(PolicyProblem::Twice(key.to_string()));
        }
        self.policy.logs.push(key);
        Ok(())
    }

    fn witness(
        &mut self,
        name: &[u8],
        key: &[u8],
        address: Option<String>,
    ) -> Result<(), PolicyProblem> {
        let key = key_of(key, KeyKind::Witness)?;
        if self.policy.witnesses.iter().any(|have| have.same_point(&key)) {
            return Err(PolicyProblem::Twice(key.to_string()));
        }
        self.define(name, Rule::Witness(self.policy.witnesses.len()))?;
        self.policy.witnesses.push(key);
        self.policy.addresses.push(address);
        Ok(())
    }

    fn group(
        &mut self,
        name: &[u8],
        threshold: &[u8],
        members: &[&[u8]],
    ) -> Result<(), PolicyProblem> {
        let threshold = match threshold {
            b"any" => 1,
            b"all" => members.len(),
            number => text(number)
                .parse()
                .ok()
                .filter(|wanted| (1..=members.len()).contains(wanted) && number[0].is_ascii_digit())
                .ok_or_else(|| PolicyProblem::Threshold(text(number)))?,
        };
        let mut places = Vec::with_capacity(members.len());
        for member in members {
            let place = self.find(member)?;
            if std::mem::replace(&mut self.taken[place], true) {
                return Err(PolicyProblem::TwoVotes(text(member)));
            }
            places.push(place);
        }
        self.define(name, Rule::Group { threshold, members: places })
    }

    fn take_quorum(&mut self, name: &[u8]) -> Result<(), PolicyProblem> {
        if self.quorum.is_some() {
            return Err(PolicyProblem::Twice("quorum".to_owned()));
        }
        self.quorum = Some(match name {
            b"none" => Quorum::None,
            name => Quorum::Node(self.find(name)?),
        });
        Ok(())
    }

    fn define(&mut self, name: &[u8], rule: Rule) -> Result<(), PolicyProblem> {
        let place = self.policy.nodes.len();
        if name == b"none" || self.names.insert(name.to_vec(), place).is_some() {
            return Err(PolicyProblem::Twice(text(name)));
        }
        self.policy.nodes.push(Node { name: text(name), rule });
        self.taken.push(false);
        Ok(())
    }

    fn find(&self, name: &[u8]) -> Result<usize, PolicyProblem> {
        self.names.get(name).copied().ok_or_else(|| PolicyProblem::Unknown(text(name)))
    }
}

fn key_of(key: &[u8], kind: KeyKind) -> Result<VerifierKey, PolicyProblem> {
    let key: VerifierKey = text(key).parse()?;
    if key.kind() != kind {
        return Err(PolicyProblem::Kind(key.name().to_owned()));
    }
    Ok(key)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Signer;

    fn witness(seed: u8) -> VerifierKey {
        let name = format!("w{seed}.example");
        Signer::new(KeyKind::Witness, &name, &[seed; 32]).unwrap().verifier().clone()
    }

    fn log() -> VerifierKey {
        Signer::new(KeyKind::Log, "log.example", &[9; 32]).unwrap().verifier().clone()
    }

    fn problem(policy: &str) -> PolicyProblem {
        Policy::parse(policy.as_bytes()).unwrap_err().problem
    }

    /// tlog-policy, "Example policy": two of X and one of Y.
    fn two_levels() -> Policy {
        let [x1, x2, x3, y1, y2, y3] = [1, 2, 3, 4, 5, 6].map(witness);
        let policy = format!(
            "log {}\n\
             witness X1 {x1}\n  witness\tX2 {x2} https://x2.example\n\nwitness X3 {x3}\n\
             # the second organisation\n\
             group X-witnesses 2 X1 X2 X3\n\
             witness Y1 {y1}\nwitness Y2 {y2}\nwitness Y3 {y3}\n\
             group Y-witnesses any Y1 Y2 Y3\n\
             group X-and-Y all X-witnesses Y-witnesses\n\
             quorum X-and-Y\n",
            log()
        );
        Policy::parse(policy.as_bytes()).unwrap()
    }

    #[test]
    fn two_of_one_group_and_one_of_the_other_are_enough() {
        let policy = two_levels();

        for (witnesses, enough) in [
            (&[1, 2, 4][..], true),
            (&[2, 3, 6], true),
            (&[1, 2, 3, 4, 5, 6], true),
            (&[1, 2, 3], false),
            (&[1, 4, 5, 6], false),
            (&[], false),
            (&[7, 8, 9], false),
        ] {
            let keys: Vec<_> = witnesses.iter().copied().map(witness).collect();
            assert_eq!(policy.quorum(keys.iter()).is_ok(), enough, "{witnesses:?}");
        }
    }

    #[test]
    fn a_shortfall_names_who_is_missing() {
        let shortfall = two_levels().quorum([witness(1), witness(4)].iter()).unwrap_err();

        let asked: Vec<_> =
            two_levels().addresses().map(|(name, _, at)| format!("{name} {at}")).collect();
        assert_eq!(asked, ["X2 https://x2.example"]);
        assert_eq!(shortfall.quorum, "X-and-Y");
        assert_eq!(shortfall.cosigned, ["X1", "Y1"]);
        assert_eq!(shortfall.missing, ["X2", "X3", "Y2", "Y3"]);
    }

    #[test]
    fn without_witnesses_nothing_is_asked() {
        let policy = Policy::parse(b"quorum none").unwrap().and_logs([log()]);

        assert!(!policy.asks_witnesses());
        assert!(policy.quorum([].iter()).is_ok());
        assert!(policy.logs_of("log.example").is_ok());
        assert!(policy.logs_of("other.example").is_err());
    }

    #[test]
    fn each_fault_has_its_line_and_name() {
        let (one, two) = (witness(1), witness(2));
        let twice = problem(&format!("witness a {one}\nwitness b {one}\nquorum a\n"));
        let two_votes = problem(&format!("witness a {one}\ngroup g 1 a\ngroup h 1 a\nquorum g\n"));

        assert!(matches!(twice, PolicyProblem::Twice(_)));
        assert!(matches!(two_votes, PolicyProblem::TwoVotes(_)));
        assert_eq!(
            problem("log x\n#\n"),
            PolicyProblem::Key(KeyError::Form { form: "NAME+ID+BASE64" })
        );
        assert_eq!(problem("# nothing\n"), PolicyProblem::NoQuorum);
        assert_eq!(problem("quorum a\n"), PolicyProblem::Unknown("a".into()));
        assert_eq!(problem("quorum none\r\n"), PolicyProblem::Control);
        assert_eq!(problem("trust me\n"), PolicyProblem::Line("trust me".into()));
        assert_eq!(problem("quorum none\nquorum none\n"), PolicyProblem::Twice("quorum".into()));
        for threshold in ["0", "3", "+1", "x"] {
            let group =
                format!("witness a {one}\nwitness b {two}\ngroup g {threshold} a b\nquorum g\n");
            assert_eq!(problem(&group), PolicyProblem::Threshold(threshold.into()));
        }
        assert!(matches!(problem(&format!("log {one}\n")), PolicyProblem::Kind(_)));
        assert!(matches!(problem(&format!("witness w {}\n", log())), PolicyProblem::Kind(_)));
        let error = Policy::parse(b"quorum none\n\nquorum none\n").unwrap_err();
        assert_eq!(error.line, 3);
    }
}
