//! Why a look at a device came to nothing.

use std::time::Duration;

use domain::device::HostKeyFingerprint;

use crate::target::InvalidCredential;

/// Why a look at a device came to nothing. Nothing of it is recorded then.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// Nobody answers there.
    #[error("cannot connect to {address} port {port}: {reason}")]
    Unreachable {
        /// Where.
        address: String,
        /// Where there.
        port: u16,
        /// Why.
        reason: String,
    },
    /// It is another device, or somebody in between.
    #[error("its host key is {offered}, and not {pinned}")]
    KeyDiffers {
        /// The one that is known.
        pinned: HostKeyFingerprint,
        /// The one that it shows.
        offered: HostKeyFingerprint,
    },
    /// What somebody would sign in with is none.
    #[error("nobody can sign in with what is kept for it")]
    Credential(#[source] InvalidCredential),
    /// It does not let us in.
    #[error("it does not let `{user}` in; it takes: {takes}")]
    NotLetIn {
        /// Who.
        user: String,
        /// What it would take.
        takes: String,
    },
    /// There is no prompt that the model knows.
    #[error("it shows no prompt of its model; its last line is {said:?}")]
    NoPrompt {
        /// Its last line.
        said: String,
    },
    /// It does not let us see everything.
    #[error("it does not let us see everything: `enable` is refused")]
    NotEnabled,
    /// It does not take a command.
    #[error("it refuses `{command}`: {said}")]
    Refused {
        /// Which.
        command: String,
        /// In its words.
        said: String,
    },
    /// It answers nothing.
    #[error("it answers nothing to `{command}`")]
    Empty {
        /// To which command.
        command: String,
    },
    /// The answer breaks off.
    #[error("its answer to `{command}` has no end")]
    Incomplete {
        /// To which command.
        command: String,
    },
    /// The answer never ends.
    #[error("its answer to `{command}` has more than {most} bytes")]
    TooLong {
        /// To which command.
        command: String,
        /// Most bytes.
        most: usize,
    },
    /// Nothing more came.
    #[error("it says nothing more, after `{command}`")]
    Silent {
        /// What was asked last.
        command: String,
    },
    /// All of it took too long.
    #[error("it was not done within {limit:?}")]
    TooSlow {
        /// How long it might take.
        limit: Duration,
    },
    /// The connection does not do what it should.
    #[error("the connection failed: {reason}")]
    Protocol {
        /// Why.
        reason: String,
    },
}

impl LookError {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "see whether it is up, and reached from the control plane",
            Self::KeyDiffers { .. } => {
                "find out at the device itself which key it has; only then set that one"
            }
            Self::Credential(_) => "set the device again, with what it takes",
            Self::NotLetIn { .. } => "set the password or key that it takes of this account",
            Self::NoPrompt { .. } => "see whether it is of another model",
            Self::NotEnabled => "set the password for it, or an account that needs none",
            Self::Refused { .. } => "let the account run this command",
            Self::Empty { .. } | Self::Incomplete { .. } => {
                "let the account see all of the configuration, or see whether it is of another model"
            }
            Self::TooLong { .. } => "see what the device says to it; more is not taken",
            Self::Silent { .. } | Self::TooSlow { .. } => "see what keeps the device",
            Self::Protocol { .. } => {
                "let it speak SSH 2 with a key exchange and cipher of docs/devices.md"
            }
        }
    }
}
