//! One look at a device: connect, sign in, ask, go.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use domain::configuration::secret::FingerprintKey;
use domain::device::HostKeyFingerprint;
use russh::client::{self, AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::{Algorithm, HashAlg, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{AlgorithmKind, Channel, ChannelMsg, Disconnect, MethodKind, MethodSet, Preferred};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use crate::document::Document;
use crate::error::LookError;
use crate::model::{Model, Shell, Way};
use crate::session::{Answers, Next, Session, refuse, said as shortened, take_in};
use crate::target::{Credential, HostKey, Target, check_line};
use crate::terminal::Terminal;

/// How wide and high the terminal is that devices are told of: no line is broken, and pagers come seldom.
const COLUMNS: u32 = 512;
const ROWS: u32 = 200;

/// Questions that are answered while signing in.
const MOST_QUESTIONS: usize = 4;

/// Most bytes of what a command says beside its answer.
const MOST_ASIDE: usize = 4096;

/// What of a look is bounded.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Until somebody answers at the address.
    pub connect: Duration,
    /// Until keys are exchanged, and again until we are let in.
    pub sign_in: Duration,
    /// After so long without anything new, a prompt is one.
    pub quiet: Duration,
    /// After so long without anything new, nothing comes any more.
    pub silence: Duration,
    /// For everything.
    pub whole: Duration,
    /// Most bytes of one answer.
    pub answer: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            sign_in: Duration::from_secs(30),
            quiet: Duration::from_millis(250),
            silence: Duration::from_secs(60),
            whole: Duration::from_secs(300),
            answer: 16 << 20,
        }
    }
}

/// What a look came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The host key that the device proved to have.
    pub host_key: HostKeyFingerprint,
    /// What it is configured by.
    pub documents: Vec<Document>,
    /// What else the model would ask for, and this device does not tell.
    pub refused: Vec<Refused>,
}

/// A document that a device does not tell, and may refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Which.
    pub path: String,
    /// Why.
    pub because: String,
}

/// Looks at a device once. `key` is that of the item's fingerprints.
///
/// # Errors
/// [`LookError`]; what was seen until then is dropped.
pub async fn look(
    model: &Model,
    target: &Target,
    limits: &Limits,
    key: &FingerprintKey,
) -> Result<Look, LookError> {
    let all = async {
        let (mut session, host_key) = connect(target, limits).await?;
        let seen = ask(model, target, limits, &mut session).await;
        // It is not needed any more, whatever it says to that.
        let _ = session.disconnect(Disconnect::ByApplication, "", "").await;
        let Answers { answers, refused } = seen?;
        let mut paths = model.paths().map(Some).collect::<Vec<_>>();
        let documents = answers.iter().filter_map(|answer| {
            let path = paths.get_mut(answer.document)?.take()?;
            Some(Document::new(&path, &answer.text, key))
        });
        Ok(Look { host_key, documents: documents.collect(), refused })
    };
    match timeout(limits.whole, all).await {
        Ok(outcome) => outcome,
        Err(_) => Err(LookError::TooSlow { limit: limits.whole }),
    }
}

/// Sees which key a device shows, and lets only the wanted one through.
pub(crate) struct Doorkeeper {
    wanted: HostKey,
    shown: Arc<OnceLock<(HostKeyFingerprint, Algorithm)>>,
}

impl client::Handler for Doorkeeper {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        shown: &PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        // No certificate was asked for.
        let PublicKeyOrCertificate::PublicKey { key, .. } = shown else { return Ok(false) };
        let Ok(print) = key.fingerprint(HashAlg::Sha256).to_string().parse() else {
            return Ok(false);
        };
        let is_it = match &self.wanted {
            HostKey::Pinned(pinned) => *pinned == print,
            HostKey::FirstUse => true,
        };
        // A key that is shown when keys are exchanged again has to be the same.
        let (first, _) = self.shown.get_or_init(|| (print.clone(), key.algorithm()));
        Ok(is_it && *first == print)
    }
}

/// Connects to who has the wanted key, before anything secret is sent.
///
/// A device may have several keys, of which it shows the one that we like best: where that is another one than
/// is known, it is asked for those of other kinds.
pub(crate) async fn connect(
    target: &Target,
    limits: &Limits,
) -> Result<(Handle<Doorkeeper>, HostKeyFingerprint), LookError> {
    let mut kinds: Vec<Algorithm> = Preferred::DEFAULT
        .key
        .iter()
        // Signatures with SHA-1 prove nothing.
        .filter(|kind| **kind != Algorithm::Rsa { hash: None })
        .cloned()
        .collect();
    let mut offered = None;
    loop {
        let shown = Arc::new(OnceLock::new());
        let keeper = Doorkeeper { wanted: target.host_key.clone(), shown: Arc::clone(&shown) };
        let outcome = exchange(target, limits, kinds.clone(), keeper).await;
        match (outcome, shown.get(), &target.host_key) {
            (Ok(session), Some((print, _)), _) => return Ok((session, print.clone())),
            (Err(_), Some((print, kind)), HostKey::Pinned(pinned)) if print != pinned => {
                kinds.retain(|it| match (it, kind) {
                    (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }) => false,
                    (it, kind) => it != kind,
                });
                let offered = offered.get_or_insert_with(|| print.clone());
                if kinds.is_empty() {
                    return Err(differs(pinned, offered));
                }
            }
            (outcome, ..) => {
                let error = match outcome {
                    Ok(_) => russh::Error::UnknownKey,
                    Err(Failed::There(error)) => return Err(error),
                    Err(Failed::Protocol(error)) => error,
                };
                let has_no_other =
                    matches!(error, russh::Error::NoCommonAlgo { kind: AlgorithmKind::Key, .. });
                return Err(match (&target.host_key, offered) {
                    (HostKey::Pinned(pinned), Some(offered)) if has_no_other => {
                        differs(pinned, &offered)
                    }
                    _ => failed(&error),
                });
            }
        }
    }
}

fn differs(pinned: &HostKeyFingerprint, offered: &HostKeyFingerprint) -> LookError {
    LookError::KeyDiffers { pinned: pinned.clone(), offered: offered.clone() }
}

/// Why there is no session.
enum Failed {
    There(LookError),
    Protocol(russh::Error),
}

async fn exchange(
    target: &Target,
    limits: &Limits,
    kinds: Vec<Algorithm>,
    keeper: Doorkeeper,
) -> Result<Handle<Doorkeeper>, Failed> {
    let unreachable = |reason: String| {
        Failed::There(LookError::Unreachable {
            address: target.address.clone(),
            port: target.port,
            reason,
        })
    };
    let connecting = TcpStream::connect((target.address.as_str(), target.port));
    let stream = match timeout(limits.connect, connecting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(unreachable(error.to_string())),
        Err(_) => return Err(unreachable(format!("no answer within {:?}", limits.connect))),
    };
    let configuration = client::Config {
        preferred: Preferred { key: Cow::Owned(kinds), ..Preferred::DEFAULT },
        inactivity_timeout: Some(limits.silence),
        ..client::Config::default()
    };
    match timeout(limits.sign_in, client::connect_stream(Arc::new(configuration), stream, keeper))
        .await
    {
        Ok(outcome) => outcome.map_err(Failed::Protocol),
        Err(_) => Err(Failed::There(LookError::TooSlow { limit: limits.sign_in })),
    }
}

pub(crate) fn failed(error: &russh::Error) -> LookError {
    LookError::Protocol { reason: shortened(&error.to_string()) }
}

async fn ask(
    model: &Model,
    target: &Target,
    limits: &Limits,
    session: &mut Handle<Doorkeeper>,
) -> Result<Answers, LookError> {
    match timeout(limits.sign_in, sign_in(target, session)).await {
        Ok(outcome) => outcome?,
        Err(_) => return Err(LookError::TooSlow { limit: limits.sign_in }),
    }
    match &model.way {
        Way::Exec => execute(model, limits, session).await,
        Way::Shell(shell) => talk(model, shell, target, limits, session).await,
    }
}

pub(crate) async fn sign_in(
    target: &Target,
    session: &mut Handle<Doorkeeper>,
) -> Result<(), LookError> {
    let protocol = |error: russh::Error| failed(&error);
    let user = target.user.as_str();
    let outcome = match &target.credential {
        Credential::Password(password) => {
            check_line(password).map_err(LookError::Credential)?;
            let word = password.reveal();
            let outcome = session.authenticate_password(user, word).await.map_err(protocol)?;
            match &outcome {
                AuthResult::Failure { remaining_methods, .. }
                    if remaining_methods.contains(&MethodKind::KeyboardInteractive) =>
                {
                    answer_questions(user, word, session).await?
                }
                _ => outcome,
            }
        }
        Credential::Key(_) => {
            let key = target.credential.key().map_err(LookError::Credential)?;
            let key = key.ok_or_else(|| failed(&russh::Error::NoAuthMethod))?;
            let key = PrivateKeyWithHashAlg::new(key, None);
            session.authenticate_publickey(user, key).await.map_err(protocol)?
        }
    };
    match outcome {
        AuthResult::Success => Ok(()),
        AuthResult::Failure { remaining_methods, .. } => Err(not_let_in(user, &remaining_methods)),
    }
}

fn not_let_in(user: &str, methods: &MethodSet) -> LookError {
    let takes: Vec<&str> = methods.iter().map(Into::into).collect();
    let takes = if takes.is_empty() { "nothing".to_owned() } else { takes.join(", ") };
    LookError::NotLetIn { user: user.to_owned(), takes }
}

/// The password as the answer to the one question that is not shown while it is typed.
async fn answer_questions(
    user: &str,
    word: &str,
    session: &mut Handle<Doorkeeper>,
) -> Result<AuthResult, LookError> {
    let protocol = |error: russh::Error| failed(&error);
    let none: Option<String> = None;
    let begun = session.authenticate_keyboard_interactive_start(user, none).await;
    let mut answer = begun.map_err(protocol)?;
    let mut is_told = false;
    for _ in 0..MOST_QUESTIONS {
        let answers = match answer {
            KeyboardInteractiveAuthResponse::Success => return Ok(AuthResult::Success),
            KeyboardInteractiveAuthResponse::Failure { remaining_methods, partial_success } => {
                return Ok(AuthResult::Failure { remaining_methods, partial_success });
            }
            KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => match &prompts[..] {
                [] => Vec::new(),
                [one] if !one.echo && !is_told => {
                    is_told = true;
                    vec![word.to_owned()]
                }
                _ => break,
            },
        };
        answer =
            session.authenticate_keyboard_interactive_respond(answers).await.map_err(protocol)?;
    }
    Err(not_let_in(user, &MethodSet::empty()))
}

/// Asks each command in a channel of its own.
async fn execute(
    model: &Model,
    limits: &Limits,
    session: &Handle<Doorkeeper>,
) -> Result<Answers, LookError> {
    let mut answers = Answers::default();
    for (at, wanted) in model.documents.iter().enumerate() {
        let said = run(&wanted.command, limits, session).await?;
        let is_refused = said.status.is_some_and(|status| status != 0);
        // A shell that does not know a command may say so with nothing else.
        let line = model.error_in(&said.aside).or_else(|| said.aside.lines().next());
        if is_refused || (said.text.trim().is_empty() && line.is_some()) {
            let line = line.or_else(|| said.text.lines().next()).unwrap_or("it says nothing to it");
            let error =
                LookError::Refused { command: wanted.command.clone(), said: shortened(line) };
            refuse(model, at, error, &mut answers)?;
        } else {
            take_in(model, at, said.text, &mut answers)?;
        }
    }
    Ok(answers)
}

/// What a command said.
struct Said {
    text: Zeroizing<String>,
    /// Beside its answer.
    aside: Zeroizing<String>,
    status: Option<u32>,
}

async fn run(
    command: &str,
    limits: &Limits,
    session: &Handle<Doorkeeper>,
) -> Result<Said, LookError> {
    let protocol = |error: russh::Error| failed(&error);
    let mut channel = session.channel_open_session().await.map_err(protocol)?;
    channel.exec(true, command.as_bytes()).await.map_err(protocol)?;
    let (mut text, mut aside) = (Terminal::default(), Terminal::default());
    let (mut status, mut is_over) = (None, false);
    loop {
        let within = if is_over { limits.quiet } else { limits.silence };
        match next(&mut channel, within).await {
            Came::Data(bytes) => text.feed(&bytes),
            Came::Aside(bytes) if aside.size() < MOST_ASIDE => aside.feed(&bytes),
            Came::Aside(_) | Came::Other => {}
            Came::Status(number) => status = Some(number),
            Came::Refusal => {
                let (command, said) = (command.to_owned(), "it takes no commands".to_owned());
                return Err(LookError::Refused { command, said });
            }
            // How it ended, and that the channel is closed, may come after that, or never.
            Came::Over => is_over = true,
            Came::End => break,
            Came::Nothing if is_over => break,
            Came::Nothing => return Err(LookError::Silent { command: command.to_owned() }),
        }
        if text.size() > limits.answer {
            return Err(LookError::TooLong { command: command.to_owned(), most: limits.answer });
        }
    }
    let (text, aside) = (Zeroizing::new(text.take_all()), Zeroizing::new(aside.take_all()));
    Ok(Said { text, aside, status })
}

/// Asks all commands in one terminal.
async fn talk(
    model: &Model,
    shell: &Shell,
    target: &Target,
    limits: &Limits,
    session: &Handle<Doorkeeper>,
) -> Result<Answers, LookError> {
    let protocol = |error: russh::Error| failed(&error);
    let mut channel = session.channel_open_session().await.map_err(protocol)?;
    channel.request_pty(false, "dumb", COLUMNS, ROWS, 0, 0, &[]).await.map_err(protocol)?;
    channel.request_shell(true).await.map_err(protocol)?;
    let mut talk = Session::new(model, shell, target.enable.as_ref(), limits.answer);
    let mut heard = Instant::now();
    loop {
        match next(&mut channel, limits.quiet).await {
            Came::Data(bytes) | Came::Aside(bytes) => {
                heard = Instant::now();
                if let Some(sent) = talk.received(&bytes)? {
                    channel.data_bytes(sent).await.map_err(protocol)?;
                }
            }
            Came::Other | Came::Status(_) => {}
            Came::Refusal => return Err(failed(&russh::Error::RequestDenied)),
            Came::Over | Came::End => return Err(talk.stuck()),
            Came::Nothing => match talk.quiet()? {
                Next::Send(line) => {
                    channel.data_bytes(line.to_vec()).await.map_err(protocol)?;
                    heard = Instant::now();
                }
                Next::Ended => return Ok(talk.end()),
                Next::Wait if heard.elapsed() > limits.silence => return Err(talk.stuck()),
                Next::Wait => {}
            },
        }
    }
}

/// What came from a channel.
pub(crate) enum Came {
    Data(Vec<u8>),
    /// Beside the answer.
    Aside(Vec<u8>),
    /// How a command ended.
    Status(u32),
    Refusal,
    Other,
    /// It writes nothing more.
    Over,
    End,
    /// Not within the time.
    Nothing,
}

pub(crate) async fn next(channel: &mut Channel<client::Msg>, within: Duration) -> Came {
    match timeout(within, channel.wait()).await {
        Err(_) => Came::Nothing,
        Ok(None | Some(ChannelMsg::Close)) => Came::End,
        Ok(Some(ChannelMsg::Eof)) => Came::Over,
        Ok(Some(ChannelMsg::ExitStatus { exit_status })) => Came::Status(exit_status),
        Ok(Some(ChannelMsg::Data { data })) => Came::Data(data.to_vec()),
        Ok(Some(ChannelMsg::ExtendedData { data, .. })) => Came::Aside(data.to_vec()),
        Ok(Some(ChannelMsg::Failure | ChannelMsg::OpenFailure(_))) => Came::Refusal,
        Ok(Some(_)) => Came::Other,
    }
}
