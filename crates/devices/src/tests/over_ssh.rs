//! Looks over real SSH, at a server made with the same library that plays a transcript.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::configuration::secret::FingerprintKey;
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PrivateKey, PublicKey};
use russh::server::{self, Auth, Msg, Response, Session};
use russh::{Channel, ChannelId, MethodKind, MethodSet, Pty};
use tokio::net::TcpListener;

use super::sessions::{KEY, told};
use super::transcript::{ALL, Player, Step, answers, parse};
use crate::{Credential, HostKey, Limits, Look, LookError, Model, Secret, Target, look};

const USER: &str = "observer";
const PASSWORD: &str = "Of-the-0bserver";

/// Ready for tests: a pause is short, since nothing that comes later has the prompt's form.
fn limits() -> Limits {
    Limits {
        connect: Duration::from_secs(5),
        sign_in: Duration::from_secs(20),
        quiet: Duration::from_millis(40),
        silence: Duration::from_secs(2),
        whole: Duration::from_secs(60),
        answer: 1 << 20,
    }
}

/// What a device does that is no part of its transcript.
#[derive(Clone, Default)]
struct Manners {
    /// The one key that opens.
    opens: Option<PublicKey>,
    /// Asks for the password by questions alone.
    asks: bool,
    /// Writes this without end instead of answering.
    floods: Option<&'static [u8]>,
    /// Knows no command: says this beside the answer, ends with this, and does not close the channel.
    knows_nothing: Option<(&'static str, u32)>,
    /// Says nothing once somebody is in.
    is_mute: bool,
    /// Closes the connection then.
    hangs_up: bool,
}

#[derive(Clone)]
struct Device {
    steps: Vec<Step>,
    manners: Manners,
    player: Arc<Mutex<Option<Player>>>,
    /// What the device was told, to sign in.
    heard: Arc<Mutex<Vec<String>>>,
}

impl Device {
    fn write(channel: ChannelId, bytes: &[u8], session: &mut Session) -> Result<(), russh::Error> {
        // In pieces, as a busy network has them.
        for (at, piece) in bytes.chunks(61).enumerate() {
            let half = if at % 3 == 0 { piece.len() / 2 } else { 0 };
            for part in [&piece[..half], &piece[half..]] {
                if !part.is_empty() {
                    session.data(channel, part.to_vec())?;
                }
            }
        }
        Ok(())
    }

    fn refuses(&self) -> Auth {
        let left =
            if self.manners.asks { MethodKind::KeyboardInteractive } else { MethodKind::Password };
        Auth::Reject {
            proceed_with_methods: Some(MethodSet::from(&[left][..])),
            partial_success: false,
        }
    }

    fn hear(&self, word: &str) {
        self.heard.lock().unwrap().push(word.to_owned());
    }
}

impl server::Handler for Device {
    type Error = russh::Error;

    async fn auth_password(&mut self, user: &str, word: &str) -> Result<Auth, Self::Error> {
        self.hear("password");
        let is_it =
            user == USER && word == PASSWORD && !self.manners.asks && self.manners.opens.is_none();
        Ok(if is_it { Auth::Accept } else { self.refuses() })
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        shown: server::VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        self.hear("key");
        let opens = self.manners.opens.as_ref();
        let is_it =
            user == USER && opens.is_some_and(|it| it.key_data() == shown.public_key.key_data());
        Ok(if is_it { Auth::Accept } else { self.refuses() })
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Self::Error> {
        self.hear("questions");
        let Some(mut answers) = response else {
            return Ok(Auth::Partial {
                name: "".into(),
                instructions: "".into(),
                prompts: vec![("Password: ".into(), false)].into(),
            });
        };
        let is_it = user == USER && answers.next().is_some_and(|it| &it[..] == PASSWORD.as_bytes());
        Ok(if is_it { Auth::Accept } else { self.refuses() })
    }

    async fn channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: server::ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        reply.accept().await;
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_success(channel)
    }

    async fn shell_request(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_success(channel)?;
        if self.manners.hangs_up {
            return session.close(channel);
        }
        if self.manners.is_mute {
            return Ok(());
        }
        let (player, written) = Player::begin(self.steps.clone());
        *self.player.lock().unwrap() = Some(player);
        Self::write(channel, &written, session)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_success(channel)?;
        if let Some((said, status)) = self.manners.knows_nothing {
            session.extended_data(channel, 1, said.as_bytes().to_vec())?;
            session.exit_status_request(channel, status)?;
            return session.eof(channel);
        }
        let command = String::from_utf8(command.to_vec()).unwrap();
        let all = answers(&self.steps);
        let answer = all.iter().find(|(known, _)| *known == command);
        let (_, bytes) = answer.unwrap_or_else(|| panic!("{command:?} is not in the transcript"));
        Self::write(channel, bytes, session)?;
        session.exit_status_request(channel, 0)?;
        session.eof(channel)?;
        session.close(channel)
    }

    async fn data(
        &mut self,
        channel: ChannelId,
        bytes: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if let Some(flood) = self.manners.floods {
            for _ in 0..200 {
                session.data(channel, flood.repeat(1000))?;
            }
            return Ok(());
        }
        let written = self.player.lock().unwrap().as_mut().unwrap().typed(bytes);
        Self::write(channel, &written, session)
    }
}

fn key(algorithm: Algorithm) -> PrivateKey {
    PrivateKey::random(&mut russh::keys::key::safe_rng(), algorithm).unwrap()
}

/// A device that is there until the test ends.
struct There {
    port: u16,
    keys: Vec<PrivateKey>,
    heard: Arc<Mutex<Vec<String>>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for There {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl There {
    async fn with(text: &str, manners: Manners, kinds: &[Algorithm]) -> Self {
        let keys: Vec<_> = kinds.iter().map(|kind| key(kind.clone())).collect();
        let configuration = Arc::new(server::Config {
            keys: keys.clone(),
            auth_rejection_time: Duration::ZERO,
            auth_rejection_time_initial: Some(Duration::ZERO),
            ..server::Config::default()
        });
        let heard = Arc::new(Mutex::new(Vec::new()));
        let device = Device {
            steps: parse(text),
            manners,
            player: Arc::default(),
            heard: Arc::clone(&heard),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (configuration, device) = (Arc::clone(&configuration), device.clone());
                tokio::spawn(async move {
                    // Whoever is refused hangs up.
                    if let Ok(session) = server::run_stream(configuration, stream, device).await {
                        let _ = session.await;
                    }
                });
            }
        });
        Self { port, keys, heard, serving }
    }

    async fn playing(name: &str) -> Self {
        let (_, text) = ALL.iter().find(|(other, _)| *other == name).unwrap();
        Self::with(text, Manners::default(), &[Algorithm::Ed25519]).await
    }

    fn print(&self, at: usize) -> HostKey {
        let print = self.keys[at].public_key().fingerprint(HashAlg::Sha256);
        HostKey::Pinned(print.to_string().parse().unwrap())
    }

    fn target(&self) -> Target {
        Target {
            address: "127.0.0.1".to_owned(),
            port: self.port,
            user: USER.to_owned(),
            credential: Credential::Password(Secret::from(PASSWORD.to_owned())),
            enable: Some(Secret::from("enable-secret".to_owned())),
            host_key: self.print(0),
        }
    }

    async fn seen(&self, name: &str, target: &Target) -> Result<Look, LookError> {
        look(Model::named(name).unwrap(), target, &limits(), &FingerprintKey::from(KEY)).await
    }
}

/// What is recorded of each model's device stands in `snapshots`.
#[tokio::test]
async fn each_model_is_looked_at() {
    for (name, _) in ALL {
        let there = There::playing(name).await;
        let seen = there.seen(name, &there.target()).await;
        let seen = seen.unwrap_or_else(|error| panic!("{name}: {error}"));
        let model = Model::named(name).unwrap();
        insta::assert_snapshot!(*name, told(model, &seen.documents, &seen.refused));
    }
}

#[tokio::test]
async fn another_host_key_is_refused_before_anything_is_said() {
    let there = There::playing("ios").await;
    let other: HostKey =
        HostKey::Pinned("SHA256:bLknzLbwa54SRvK9JZX2XQTBIL42i7D6voyfzrQMEG8".parse().unwrap());
    let refused = there.seen("ios", &Target { host_key: other, ..there.target() }).await;

    let Err(LookError::KeyDiffers { offered, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(HostKey::Pinned(offered), there.print(0));
    assert_eq!(*there.heard.lock().unwrap(), Vec::<String>::new(), "no password was sent");

    let first = there.seen("ios", &Target { host_key: HostKey::FirstUse, ..there.target() }).await;
    assert_eq!(HostKey::Pinned(first.unwrap().host_key), there.print(0));
}

/// It has several, and shows another one first.
#[tokio::test]
async fn each_of_its_host_keys_is_it() {
    let kinds = [
        Algorithm::Ed25519,
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    ];
    let (_, text) = ALL.iter().find(|(name, _)| *name == "frr").unwrap();
    let there = There::with(text, Manners::default(), &kinds).await;
    for at in 0..kinds.len() {
        let target = Target { host_key: there.print(at), ..there.target() };
        let seen = there.seen("frr", &target).await.unwrap();
        assert_eq!(HostKey::Pinned(seen.host_key), there.print(at));
    }
    let other = "SHA256:bLknzLbwa54SRvK9JZX2XQTBIL42i7D6voyfzrQMEG8".parse().unwrap();
    let target = Target { host_key: HostKey::Pinned(other), ..there.target() };
    assert!(matches!(there.seen("frr", &target).await, Err(LookError::KeyDiffers { .. })));
}

#[tokio::test]
async fn a_key_or_a_question_opens_as_well() {
    let (_, text) = ALL.iter().find(|(name, _)| *name == "frr").unwrap();
    for kind in [Algorithm::Ed25519, Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }] {
        let own = key(kind);
        let manners = Manners { opens: Some(own.public_key().clone()), ..Manners::default() };
        let there = There::with(text, manners, &[Algorithm::Ed25519]).await;
        let written = own.to_openssh(LineEnding::LF).unwrap().to_string();
        let credential = Credential::Key(Secret::from(written));
        assert_eq!(credential.check(), Ok(()));
        there.seen("frr", &Target { credential, ..there.target() }).await.unwrap();
        let refused = there.seen("frr", &there.target()).await;
        assert!(matches!(refused, Err(LookError::NotLetIn { .. })), "{refused:?}");
    }
    let asks = Manners { asks: true, ..Manners::default() };
    let there = There::with(text, asks, &[Algorithm::Ed25519]).await;
    there.seen("frr", &there.target()).await.unwrap();
    assert_eq!(*there.heard.lock().unwrap(), ["password", "questions", "questions"]);
}

#[tokio::test]
async fn who_is_not_let_in_is_told_what_would_do() {
    let there = There::playing("ios").await;
    let credential = Credential::Password(Secret::from("wrong".to_owned()));
    let refused = there.seen("ios", &Target { credential, ..there.target() }).await.unwrap_err();
    assert_eq!(refused.to_string(), "it does not let `observer` in; it takes: password");
    assert!(!format!("{refused:?}").contains("wrong"));
}

#[tokio::test]
async fn what_a_command_says_beside_its_answer_is_no_document() {
    let (_, text) = ALL.iter().find(|(name, _)| *name == "nftables").unwrap();
    for (said, status, expected) in [
        ("sh: 1: nft: not found\n", 127, "it refuses `nft list ruleset`: sh: 1: nft: not found"),
        ("a password is required\n", 1, "it refuses `nft list ruleset`: a password is required"),
        ("", 1, "it refuses `nft list ruleset`: it says nothing to it"),
        ("careful\n", 0, "it refuses `nft list ruleset`: careful"),
        ("", 0, "it answers nothing to `nft list ruleset`"),
    ] {
        let manners = Manners { knows_nothing: Some((said, status)), ..Manners::default() };
        let there = There::with(text, manners, &[Algorithm::Ed25519]).await;
        let refused = there.seen("nftables", &there.target()).await.unwrap_err();
        assert_eq!(refused.to_string(), expected);
    }
}

#[tokio::test]
async fn who_floods_hangs_or_hangs_up_is_given_up() {
    let (_, text) = ALL.iter().find(|(name, _)| *name == "ios").unwrap();
    let of = |manners| There::with(text, manners, &[Algorithm::Ed25519]);
    let floods = of(Manners { floods: Some(b"R1# \x1b[31mxxxx\r\n"), ..Manners::default() }).await;
    let refused = floods.seen("ios", &floods.target()).await;
    assert!(matches!(refused, Err(LookError::TooLong { .. })), "{refused:?}");

    for manners in [
        Manners { is_mute: true, ..Manners::default() },
        Manners { hangs_up: true, ..Manners::default() },
    ] {
        let there = of(manners).await;
        let refused = there.seen("ios", &there.target()).await;
        assert!(matches!(refused, Err(LookError::NoPrompt { .. })), "{refused:?}");
    }

    // Nobody is there, and somebody who speaks no SSH.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let target = Target { port, ..floods.target() };
    let short = Limits { sign_in: Duration::from_millis(300), ..limits() };
    let model = Model::named("ios").unwrap();
    let mute = look(model, &target, &short, &FingerprintKey::from(KEY)).await;
    assert!(matches!(mute, Err(LookError::TooSlow { .. })), "{mute:?}");
    drop(listener);
    let nobody = look(model, &target, &short, &FingerprintKey::from(KEY)).await;
    assert!(matches!(nobody, Err(LookError::Unreachable { .. })), "{nobody:?}");
}
