//! Receipts that can be checked offline (C2SP tlog-proof).

use base64::prelude::{BASE64_STANDARD, Engine as _};

use crate::checkpoint::{CheckpointError, MAX_NOTE, SignedCheckpoint, TrustedCheckpoint};
use crate::tree::verify_inclusion;
use crate::{Hash, Policy};

const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// Proof that an entry is in a log: a `.tlog-proof` file.
///
/// Whoever has it, the entry and a policy needs neither the log nor us.
#[derive(Debug, Clone, PartialEq)]
pub struct Receipt {
    index: u64,
    proof: Vec<Hash>,
    checkpoint: SignedCheckpoint,
    /// Not authenticated; kept so that a receipt comes out as it came in.
    extra: Option<Vec<u8>>,
}

/// Why a receipt does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// Not a proof's lines.
    #[error("the receipt is malformed: {reason}")]
    Malformed {
        /// What is wrong.
        reason: &'static str,
    },
    /// Its checkpoint is not believed.
    #[error("the receipt's checkpoint is not believed")]
    Checkpoint(#[from] CheckpointError),
    /// The proof does not lead from this entry to the checkpoint's root.
    #[error(
        "the receipt does not hold for this entry: its hash {leaf} is not at index {index} \
         under the root {root}"
    )]
    NotIncluded {
        /// The index that the receipt claims.
        index: u64,
        /// The entry's leaf hash.
        leaf: Hash,
        /// The checkpoint's root.
        root: Hash,
    },
}

impl ReceiptError {
    /// The way out.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Malformed { .. } => Some("ask for the receipt again".to_owned()),
            Self::Checkpoint(error) => error.help(),
            Self::NotIncluded { .. } => Some(
                "give the entry's exact bytes, as the log holds them; if they are, this receipt \
                 is for another entry or forged"
                    .to_owned(),
            ),
        }
    }
}

impl Receipt {
    /// The receipt for the entry at `index`.
    pub fn new(index: u64, proof: Vec<Hash>, checkpoint: SignedCheckpoint) -> Self {
        Self { index, proof, checkpoint, extra: None }
    }

    /// The entry's index.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Its text.
    pub fn to_text(&self) -> String {
        use std::fmt::Write as _;
        let mut text = format!("{HEADER}\n");
        if let Some(extra) = &self.extra {
            let _ = writeln!(text, "extra {}", BASE64_STANDARD.encode(extra));
        }
        let _ = writeln!(text, "index {}", self.index);
        for hash in &self.proof {
            let _ = writeln!(text, "{hash}");
        }
        text.push('\n');
        text.push_str(&String::from_utf8_lossy(&self.checkpoint.to_bytes()));
        text
    }

    /// Reads a receipt; nothing in it is to be believed before [`verify`](Self::verify).
    pub fn parse(bytes: &[u8]) -> Result<Self, ReceiptError> {
        let malformed = |reason| ReceiptError::Malformed { reason };
        if bytes.len() > 2 * MAX_NOTE {
            return Err(malformed("too long"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| malformed("not UTF-8"))?;
        let (head, checkpoint) =
            text.split_once("\n\n").ok_or(malformed("no empty line before the checkpoint"))?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(HEADER) {
            return Err(malformed("not `c2sp.org/tlog-proof@v1`"));
        }
        let extra = lines
            .next_if(|line| line.starts_with("extra "))
            .map(|line| BASE64_STANDARD.decode(&line["extra ".len()..]))
            .transpose()
            .map_err(|_| malformed("extra data that is not base64"))?;
        let index = lines
            .next()
            .and_then(|line| line.strip_prefix("index "))
            .and_then(decimal)
            .ok_or(malformed("no index"))?;
        let proof: Vec<Hash> = lines
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map_err(|_| malformed("a line that is not a hash"))?;
        if proof.len() > 63 {
            return Err(malformed("more hashes than any tree is high"));
        }
        let checkpoint = SignedCheckpoint::parse(checkpoint.as_bytes())?;
        Ok(Self { index, proof, checkpoint, extra })
    }

    /// Checks that this very entry is in the log, by a checkpoint that the policy trusts.
    pub fn verify(&self, entry: &[u8], policy: &Policy) -> Result<TrustedCheckpoint, ReceiptError> {
        let trusted = self.checkpoint.verify(policy)?;
        let leaf = Hash::of_entry(entry);
        if !verify_inclusion(self.index, leaf, trusted.size(), trusted.root(), &self.proof) {
            let (index, root) = (self.index, trusted.root());
            return Err(ReceiptError::NotIncluded { index, leaf, root });
        }
        Ok(trusted)
    }
}

/// An ASCII decimal in its one spelling.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}
