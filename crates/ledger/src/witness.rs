//! A witness: cosigns a log's checkpoint only if it continues all it cosigned before
//! (C2SP tlog-witness, `add-checkpoint`).
//!
//! A tenant that runs one sees at once when the provider shows it another history than others, or
//! takes one back.

use std::fmt;

use jiff::Timestamp;

use crate::checkpoint::{CheckpointError, MAX_NOTE, SignedCheckpoint};
use crate::receipt::decimal;
use crate::tree::verify_consistency;
use crate::{Hash, KeyKind, Policy, Signer};

/// A witness with its key and the logs that it watches.
#[derive(Debug)]
pub struct Witness {
    signer: Signer,
    logs: Policy,
}

/// What a witness remembers of each log, kept by the caller.
pub trait Memory {
    /// Why it cannot be read or kept.
    type Error;

    /// The checkpoint that was last cosigned for this origin, as it was given to
    /// [`advance`](Self::advance).
    fn latest(&self, origin: &str) -> Result<Option<SignedCheckpoint>, Self::Error>;

    /// Keeps `next` durably, if the latest checkpoint's size still is `from` (0 where there is
    /// none); otherwise keeps nothing and answers [`Advance::Raced`]. Both in one atomic step: two
    /// requests at once must not roll the witness back.
    fn advance(&mut self, from: u64, next: &SignedCheckpoint) -> Result<Advance, Self::Error>;
}

/// Whether a memory moved on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advance {
    /// The checkpoint is kept, durably.
    Kept,
    /// Another request was faster.
    Raced,
}

/// A body of `add-checkpoint`.
#[derive(Debug, Clone, PartialEq)]
pub struct AddCheckpoint {
    old_size: u64,
    proof: Vec<Hash>,
    checkpoint: SignedCheckpoint,
}

/// An answer to `add-checkpoint`, as it goes over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

/// Why a witness does not cosign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Not a request.
    #[error("the request is malformed: {reason}")]
    Malformed {
        /// What is wrong.
        reason: &'static str,
    },
    /// A log that is not watched.
    #[error("the log `{origin}` is not watched here")]
    UnknownLog {
        /// The log.
        origin: String,
    },
    /// No good signature by the log.
    #[error("the checkpoint is not signed by its log")]
    Signature(#[source] CheckpointError),
    /// An old size larger than the checkpoint's.
    #[error("the old size {old} is larger than the checkpoint's {new}")]
    Shrinking {
        /// The old size.
        old: u64,
        /// The checkpoint's size.
        new: u64,
    },
    /// An old size that is not the one last cosigned.
    #[error("the old size is {given}, last cosigned was {latest}")]
    Conflict {
        /// The old size given.
        given: u64,
        /// The size last cosigned.
        latest: u64,
    },
    /// The checkpoint does not continue the one last cosigned.
    #[error(
        "the checkpoint of size {new_size} and root {new_root} is not proven to continue the one \
         cosigned before, of size {old_size} and root {old_root}"
    )]
    Inconsistent {
        /// The size last cosigned.
        old_size: u64,
        /// The root last cosigned.
        old_root: Hash,
        /// The checkpoint's size.
        new_size: u64,
        /// The checkpoint's root.
        new_root: Hash,
    },
}

impl Refusal {
    /// The HTTP status that the specification gives it.
    pub fn status(&self) -> u16 {
        match self {
            Self::Malformed { .. } | Self::Shrinking { .. } => 400,
            Self::Signature(_) => 403,
            Self::UnknownLog { .. } => 404,
            Self::Conflict { .. } => 409,
            Self::Inconsistent { .. } => 422,
        }
    }
}

impl AddCheckpoint {
    /// What a log sends: the size that the witness knows, the proof from there, the checkpoint.
    pub fn new(old_size: u64, proof: Vec<Hash>, checkpoint: SignedCheckpoint) -> Self {
        Self { old_size, proof, checkpoint }
    }

    /// The request's body.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut body = format!("old {}\n", self.old_size).into_bytes();
        for hash in &self.proof {
            body.extend(format!("{hash}\n").as_bytes());
        }
        body.push(b'\n');
        body.extend(self.checkpoint.to_bytes());
        body
    }

    /// Reads a request's body.
    pub fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let malformed = |reason| Refusal::Malformed { reason };
        if body.len() > 2 * MAX_NOTE {
            return Err(malformed("too long"));
        }
        let text = std::str::from_utf8(body).map_err(|_| malformed("not UTF-8"))?;
        let (head, checkpoint) =
            text.split_once("\n\n").ok_or(malformed("no empty line before the checkpoint"))?;
        let mut lines = head.split('\n');
        let old_size = lines
            .next()
            .and_then(|line| line.strip_prefix("old "))
            .and_then(decimal)
            .ok_or(malformed("no old size"))?;
        let proof: Vec<Hash> = lines
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map_err(|_| malformed("a line of the proof that is not a hash"))?;
        if proof.len() > 63 {
            return Err(malformed("more than 63 lines of proof"));
        }
        let checkpoint = SignedCheckpoint::parse(checkpoint.as_bytes())
            .map_err(|_| malformed("not a checkpoint"))?;
        Ok(Self { old_size, proof, checkpoint })
    }
}

impl Witness {
    /// A witness that watches the logs of this policy; its witnesses and quorum are not asked for.
    ///
    /// # Panics
    ///
    /// With a key that is not a witness'.
    pub fn new(signer: Signer, logs: Policy) -> Self {
        assert_eq!(signer.verifier().kind(), KeyKind::Witness, "a witness signs as one");
        Self { signer, logs }
    }

    /// Answers one request. The cosignature leaves only after the memory has kept the checkpoint;
    /// where it cannot, the error is the memory's and the answer is for the caller to make.
    pub fn add_checkpoint<M: Memory>(
        &self,
        memory: &mut M,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Reply, M::Error> {
        let request = match AddCheckpoint::parse(body) {
            Ok(request) => request,
            Err(refusal) => return Ok(refusal.into()),
        };
        let origin = &request.checkpoint.claimed().origin;
        let latest = memory.latest(origin)?;
        let cosigned = match self.consider(&request, latest.as_ref(), now) {
            Ok(cosigned) => cosigned,
            Err(refusal) => return Ok(refusal.into()),
        };
        if memory.advance(request.old_size, &cosigned.kept)? == Advance::Raced {
            let latest = memory.latest(origin)?.map_or(0, |latest| latest.claimed().size);
            return Ok(Refusal::Conflict { given: request.old_size, latest }.into());
        }
        Ok(Reply { status: 200, content_type: "text/plain; charset=utf-8", body: cosigned.line })
    }

    /// Whether to cosign, given what was cosigned last. Decides only: nothing is kept.
    fn consider(
        &self,
        request: &AddCheckpoint,
        latest: Option<&SignedCheckpoint>,
        now: Timestamp,
    ) -> Result<Cosignature, Refusal> {
        let checkpoint = request.checkpoint.claimed();
        let keys = self
            .logs
            .logs_of(&checkpoint.origin)
            .map_err(|_| Refusal::UnknownLog { origin: checkpoint.origin.clone() })?;
        request.checkpoint.verify_log(&keys).map_err(Refusal::Signature)?;
        let (old, new) = (request.old_size, checkpoint.size);
        if old > new {
            return Err(Refusal::Shrinking { old, new });
        }
        let (old_size, old_root) = latest.map_or((0, Hash::EMPTY_TREE), |latest| {
            let latest = latest.claimed();
            (latest.size, latest.root)
        });
        if old != old_size {
            return Err(Refusal::Conflict { given: old, latest: old_size });
        }
        if !verify_consistency(old_size, old_root, new, checkpoint.root, &request.proof) {
            let new_root = checkpoint.root;
            return Err(Refusal::Inconsistent { old_size, old_root, new_size: new, new_root });
        }
        // A clock before 1970 is no clock; the time must not be zero (tlog-witness).
        let time = u64::try_from(now.as_second()).unwrap_or(0).max(1);
        let line = request.checkpoint.cosignature(&self.signer, time);
        let bytes = line.to_bytes();
        // Kept are the log's own signatures and ours: what a monitor may be shown.
        Ok(Cosignature { kept: request.checkpoint.only(&keys).cosigned(line), line: bytes })
    }
}

/// A decision to cosign.
struct Cosignature {
    kept: SignedCheckpoint,
    line: Vec<u8>,
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        let status = refusal.status();
        match refusal {
            Refusal::Conflict { latest, .. } => Self {
                status,
                content_type: "text/x.tlog.size",
                body: format!("{latest}\n").into_bytes(),
            },
            other => Self {
                status,
                content_type: "text/plain; charset=utf-8",
                body: format!("{other}\n").into_bytes(),
            },
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, String::from_utf8_lossy(&self.body).trim_end())
    }
}
