//! One command on another host, with what is said to it and what it says: for whoever speaks a protocol of their own
//! over SSH.

use domain::device::HostKeyFingerprint;
use russh::client::{Handle, Msg};
use russh::{Channel, Disconnect};
use tokio::time::timeout;

use crate::error::LookError;
use crate::look::{Came, Doorkeeper, Limits, connect, failed, next, sign_in};
use crate::session::said as shortened;
use crate::target::Target;

/// A command that runs on another host, whose key was proven.
pub struct Conversation {
    session: Handle<Doorkeeper>,
    channel: Channel<Msg>,
    host_key: HostKeyFingerprint,
    command: String,
    limits: Limits,
}

/// What the command says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A part of its answer.
    Data(Vec<u8>),
    /// Something beside it.
    Aside(Vec<u8>),
    /// Nothing more.
    End,
}

impl Conversation {
    /// Signs in and begins a command. `command` is what the other side's shell reads.
    ///
    /// # Errors
    /// [`LookError`]; nothing secret was sent before the host key was proven.
    pub async fn begin(target: &Target, limits: &Limits, command: &str) -> Result<Self, LookError> {
        let (mut session, host_key) = connect(target, limits).await?;
        match timeout(limits.sign_in, sign_in(target, &mut session)).await {
            Ok(outcome) => outcome?,
            Err(_) => return Err(LookError::TooSlow { limit: limits.sign_in }),
        }
        let protocol = |error: russh::Error| failed(&error);
        let channel = session.channel_open_session().await.map_err(protocol)?;
        channel.exec(true, command.as_bytes()).await.map_err(protocol)?;
        let command = command.to_owned();
        Ok(Self { session, channel, host_key, command, limits: *limits })
    }

    /// The host key that the other side proved to have.
    pub const fn host_key(&self) -> &HostKeyFingerprint {
        &self.host_key
    }

    /// What the command says next.
    ///
    /// # Errors
    /// [`LookError`] where it says nothing for too long, or was not let run.
    pub async fn hear(&mut self) -> Result<Heard, LookError> {
        loop {
            match next(&mut self.channel, self.limits.silence).await {
                Came::Data(bytes) => return Ok(Heard::Data(bytes)),
                Came::Aside(bytes) => return Ok(Heard::Aside(bytes)),
                Came::Status(_) | Came::Other => {}
                Came::Over | Came::End => return Ok(Heard::End),
                Came::Refusal => {
                    let said = shortened("it takes no commands");
                    return Err(LookError::Refused { command: self.command.clone(), said });
                }
                Came::Nothing => return Err(LookError::Silent { command: self.command.clone() }),
            }
        }
    }

    /// Says something to the command.
    ///
    /// # Errors
    /// [`LookError`] where it cannot be sent.
    pub async fn say(&mut self, bytes: Vec<u8>) -> Result<(), LookError> {
        self.channel.data_bytes(bytes).await.map_err(|error| failed(&error))
    }

    /// Leaves.
    pub async fn end(self) {
        // It is not needed any more, whatever the other side says to that.
        let _ = self.session.disconnect(Disconnect::ByApplication, "", "").await;
    }
}

/// Without the session.
impl std::fmt::Debug for Conversation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Conversation({})", self.command)
    }
}
