//! Checkpoints: what a log says about itself, signed (C2SP tlog-checkpoint, signed-note,
//! tlog-cosignature).

use std::fmt;

use jiff::Timestamp;
use signed_note::{Note, Signature};

use crate::policy::{Policy, Shortfall};
use crate::{Hash, KeyKind, Signer, VerifierKey};

/// Largest note we look at. Sixteen signatures of the largest kind known fit (signed-note,
/// "Format").
pub(crate) const MAX_NOTE: usize = 128 * 1024;
/// Trees beyond this have no exact sequence number in JSON, and no log comes near.
const MAX_SIZE: u64 = 1 << 53;

/// A log's size and root: all that a checkpoint says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's identity, such as `cloud.example/audit`.
    pub origin: String,
    /// Number of entries.
    pub size: u64,
    /// Root of the tree over them.
    pub root: Hash,
}

/// A checkpoint with its signatures, not yet verified.
#[derive(Clone, PartialEq)]
pub struct SignedCheckpoint {
    /// With its final newline: what is signed. Extension lines stay in it, unread.
    text: String,
    checkpoint: Checkpoint,
    signatures: Vec<Signature>,
}

/// A checkpoint whose signatures satisfy a policy. Only verification makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedCheckpoint {
    checkpoint: Checkpoint,
    signed_by: Vec<VerifierKey>,
    cosigned: Vec<Cosigned>,
}

/// A witness' word that a checkpoint continues all it saw before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosigned {
    /// The witness.
    pub witness: VerifierKey,
    /// When it cosigned, by its own clock.
    pub at: Timestamp,
}

/// Why a checkpoint is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// Not a note with a checkpoint's lines.
    #[error("the checkpoint is malformed: {reason}")]
    Malformed {
        /// What is wrong.
        reason: &'static str,
    },
    /// Of a log that the policy does not know.
    #[error("the checkpoint is of `{origin}`; trusted are: {}", known.join(", "))]
    UnknownLog {
        /// Its origin.
        origin: String,
        /// The logs that the policy knows.
        known: Vec<String>,
    },
    /// A signature in the name of a known key that the key did not make.
    #[error("the signature of `{name}` ({id:08x}) is not by that key")]
    BadSignature {
        /// The key's name.
        name: String,
        /// The key's id.
        id: u32,
    },
    /// No signature by a key of the log that is trusted.
    #[error("the checkpoint of `{origin}` carries no signature by a trusted key; signed by: {}", signed_by.join(", "))]
    Unsigned {
        /// Its origin.
        origin: String,
        /// Names and ids of the keys that it says signed it.
        signed_by: Vec<String>,
    },
    /// Too few witnesses.
    #[error(transparent)]
    Quorum(#[from] Shortfall),
}

impl CheckpointError {
    /// The way out.
    pub fn help(&self) -> Option<String> {
        let help = match self {
            Self::Malformed { .. } => "fetch the log's `checkpoint` again, byte by byte",
            Self::UnknownLog { .. } => "name the key of this log, or look at the log you meant",
            Self::BadSignature { .. } => {
                "the checkpoint was altered, or someone without the key made it; compare with \
                 another copy"
            }
            Self::Unsigned { .. } => {
                "if the log changed its key, ask for the new one over a channel you trust"
            }
            Self::Quorum(_) => {
                "wait until the witnesses cosigned, or ask them whether they refused this log"
            }
        };
        Some(help.to_owned())
    }
}

impl Checkpoint {
    fn to_text(&self) -> String {
        let Self { origin, size, root } = self;
        format!("{origin}\n{size}\n{root}\n")
    }

    fn from_text(text: &str) -> Result<Self, CheckpointError> {
        let malformed = |reason| CheckpointError::Malformed { reason };
        let parsed = tlog_tiles::Checkpoint::from_bytes(text.as_bytes())
            .map_err(|_| malformed("not an origin, a size and a root hash"))?;
        if parsed.to_bytes() != text.as_bytes() {
            return Err(malformed("lines in more than one spelling"));
        }
        if parsed.size() > MAX_SIZE {
            return Err(malformed("a size that no log has"));
        }
        let checkpoint = Self {
            origin: parsed.origin().to_owned(),
            size: parsed.size(),
            root: (*parsed.hash()).into(),
        };
        // tlog-witness, "add-checkpoint"; RFC 6962 §2.1.
        if checkpoint.size == 0 && checkpoint.root != Hash::EMPTY_TREE {
            return Err(malformed("an empty tree with a root that is not the empty tree's"));
        }
        Ok(checkpoint)
    }
}

impl SignedCheckpoint {
    /// Reads a note; nothing in it is to be believed before [`verify`](Self::verify).
    pub fn parse(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let malformed = |reason| CheckpointError::Malformed { reason };
        if bytes.len() > MAX_NOTE {
            return Err(malformed("too long"));
        }
        let note = Note::from_bytes(bytes).map_err(|_| malformed("not a signed note"))?;
        let text = String::from_utf8(note.text().to_vec()).map_err(|_| malformed("not UTF-8"))?;
        let checkpoint = Checkpoint::from_text(&text)?;
        // `Note` holds that the text is followed by a newline and signature lines.
        let lines = bytes.get(text.len() + 1..).unwrap_or_default();
        let signatures = signature_lines(lines)?;
        Ok(Self { text, checkpoint, signatures })
    }

    /// Signs a checkpoint with each of a log's keys: two while one replaces the other.
    pub(crate) fn sign(checkpoint: Checkpoint, signers: &[Signer]) -> Self {
        let text = checkpoint.to_text();
        let signatures = signers
            .iter()
            .map(|signer| line(signer.verifier(), signer.sign(text.as_bytes())))
            .collect();
        Self { text, checkpoint, signatures }
    }

    /// What it claims.
    pub fn claimed(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The note.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.text.clone().into_bytes();
        bytes.push(b'\n');
        for signature in &self.signatures {
            bytes.extend(signature.to_bytes());
        }
        bytes
    }

    /// Checks the signatures against a policy: at least one by a trusted key of this log, and the
    /// witnesses' quorum. A false signature by a known key spoils the whole note
    /// (signed-note, "Signatures").
    pub fn verify(&self, policy: &Policy) -> Result<TrustedCheckpoint, CheckpointError> {
        let trusted = self.verify_log(&policy.logs_of(&self.checkpoint.origin)?)?;
        let cosigned = self.verify_witnesses(policy.witnesses())?;
        policy.quorum(cosigned.iter().map(|cosigned| &cosigned.witness))?;
        Ok(TrustedCheckpoint { checkpoint: self.checkpoint.clone(), signed_by: trusted, cosigned })
    }

    /// Which of these keys of its log signed it; at least one.
    pub(crate) fn verify_log(
        &self,
        keys: &[&VerifierKey],
    ) -> Result<Vec<VerifierKey>, CheckpointError> {
        let mut signed_by = Vec::new();
        for (key, signature) in self.by_keys(keys.iter().copied()) {
            if !key.verifies(self.text.as_bytes(), signature.signature()) {
                return Err(bad(signature));
            }
            if !signed_by.contains(key) {
                signed_by.push(key.clone());
            }
        }
        if signed_by.is_empty() {
            let signed_by = self
                .signatures
                .iter()
                .map(|signature| format!("{} ({:08x})", signature.name(), signature.id()))
                .collect();
            return Err(CheckpointError::Unsigned {
                origin: self.checkpoint.origin.clone(),
                signed_by,
            });
        }
        Ok(signed_by)
    }

    /// Whether a witness cosigned it.
    pub fn is_cosigned_by(&self, witness: &VerifierKey) -> bool {
        self.verify_witnesses([witness].into_iter()).is_ok_and(|cosigned| !cosigned.is_empty())
    }

    /// Which of these witnesses cosigned it, and when.
    fn verify_witnesses<'k>(
        &self,
        keys: impl Iterator<Item = &'k VerifierKey>,
    ) -> Result<Vec<Cosigned>, CheckpointError> {
        let mut cosigned: Vec<Cosigned> = Vec::new();
        for (key, signature) in self.by_keys(keys) {
            let Some(at) = key.cosigned_at(self.text.as_bytes(), signature.signature()) else {
                return Err(bad(signature));
            };
            if !cosigned.iter().any(|earlier| earlier.witness == *key) {
                cosigned.push(Cosigned { witness: key.clone(), at });
            }
        }
        Ok(cosigned)
    }

    /// Pairs each signature with the key it names; the others are unknown and say nothing.
    fn by_keys<'k>(
        &self,
        keys: impl Iterator<Item = &'k VerifierKey>,
    ) -> impl Iterator<Item = (&'k VerifierKey, &Signature)> {
        keys.flat_map(move |key| {
            let of_key =
                move |line: &&Signature| line.name() == key.name() && line.id() == key.id();
            self.signatures.iter().filter(of_key).map(move |line| (key, line))
        })
    }

    /// This checkpoint with the signatures by these keys only.
    pub(crate) fn only(&self, keys: &[&VerifierKey]) -> Self {
        let lines = self.by_keys(keys.iter().copied()).map(|(_, line)| line.clone());
        Self { signatures: lines.collect(), ..self.clone() }
    }

    /// This checkpoint with the signatures that another copy of it carries; those of another one say
    /// nothing about it.
    pub(crate) fn and_signatures_of(mut self, other: &Self) -> Self {
        if other.text == self.text {
            for line in &other.signatures {
                let is_new =
                    |have: &Signature| (have.name(), have.id()) != (line.name(), line.id());
                if self.signatures.iter().all(is_new) {
                    self.signatures.push(line.clone());
                }
            }
        }
        self
    }

    /// This checkpoint with a witness' cosignature beside its signatures.
    pub(crate) fn cosigned(mut self, line: Signature) -> Self {
        self.signatures.retain(|have| (have.name(), have.id()) != (line.name(), line.id()));
        self.signatures.push(line);
        self
    }

    /// This checkpoint with the cosignatures by known witnesses among these lines (the answer to
    /// `add-checkpoint`); lines by others are left out (tlog-witness, "add-checkpoint").
    pub(crate) fn with_answer(
        self,
        lines: &[u8],
        policy: &Policy,
    ) -> Result<Self, CheckpointError> {
        let mut kept = self.clone();
        for line in signature_lines(lines)? {
            let named = |key: &VerifierKey| key.name() == line.name() && key.id() == line.id();
            if let Some(key) = policy.witnesses().find(|key| named(key)) {
                if key.cosigned_at(self.text.as_bytes(), line.signature()).is_none() {
                    return Err(bad(&line));
                }
                kept = kept.cosigned(line);
            }
        }
        Ok(kept)
    }

    /// A witness' signature line for this checkpoint.
    pub(crate) fn cosignature(&self, witness: &Signer, time: u64) -> Signature {
        debug_assert_eq!(witness.verifier().kind(), KeyKind::Witness);
        line(witness.verifier(), witness.cosign(self.text.as_bytes(), time))
    }
}

fn bad(signature: &Signature) -> CheckpointError {
    CheckpointError::BadSignature { name: signature.name().to_owned(), id: signature.id() }
}

fn line(key: &VerifierKey, signature: Vec<u8>) -> Signature {
    Signature::new(key.name().to_owned(), key.id(), signature)
        .expect("a key's name was checked when the key was made")
}

fn signature_lines(lines: &[u8]) -> Result<Vec<Signature>, CheckpointError> {
    let malformed = CheckpointError::Malformed { reason: "not a signature line" };
    let Some(lines) = lines.strip_suffix(b"\n") else { return Err(malformed) };
    let parsed = lines.split(|byte| *byte == b'\n').map(Signature::from_bytes);
    parsed.collect::<Result<_, _>>().map_err(|_| malformed)
}

impl fmt::Debug for SignedCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(&self.to_bytes()), f)
    }
}

impl TrustedCheckpoint {
    /// The log's identity.
    pub fn origin(&self) -> &str {
        &self.checkpoint.origin
    }

    /// Number of entries.
    pub fn size(&self) -> u64 {
        self.checkpoint.size
    }

    /// Root of the tree.
    pub fn root(&self) -> Hash {
        self.checkpoint.root
    }

    /// The log's keys that signed it, at least one.
    pub fn signed_by(&self) -> &[VerifierKey] {
        &self.signed_by
    }

    /// The policy's witnesses that cosigned it.
    pub fn cosigned(&self) -> &[Cosigned] {
        &self.cosigned
    }
}
