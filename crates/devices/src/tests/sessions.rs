//! Sessions without a network.

use std::fmt::Write as _;

use domain::configuration::mask::Masks;
use domain::configuration::secret::FingerprintKey;
use proptest::prelude::*;

use super::transcript::{ALL, Player, Step, parse};
use crate::error::LookError;
use crate::model::{Model, Shell, Way};
use crate::session::{Answers, Next, Session};
use crate::target::Secret;
use crate::{Document, fuzzing};

/// In each transcript that has secrets; none of them may come out.
const SECRETS: &[&str] = &[
    "hx5rVt7rPNoS4wqbXKX7m0",
    "bbzJl3bVUuDeo4Ij0dBqDdRk1",
    "094F471A1A0A57",
    "Tr1cky-Word",
    "JmRZ8yGkQ0gqL1QyVnPgr6b0oTCV0mS2q5wJYwK3x4D",
    "8y9wQ2e4r6t8y0u2i4o6p8a0s2d4f6g8h0j2k4l6z8x0c2v4b6n8m0",
    "ijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
    "abcDEFghiJKLmno",
    "SH2nlSm9QL9tapcHPXIqAXvX7vBJuuqu22hpa0JX0sBuKIo7z2g0Kz",
    "Gh4Ij5Kl6Mn7Op8Qr9St0Uv1Wx2Yz3",
    "Qw3rTy]uIoP7asdf",
    "Zebra-Pa55",
    "Bgp-Pa55word",
    "Tr0ub4dor-and-3",
    "enable-secret",
];

fn shell(model: &Model) -> Option<&Shell> {
    match &model.way {
        Way::Shell(shell) => Some(shell),
        Way::Exec => None,
    }
}

/// Plays a transcript to a session, what the device writes cut into pieces of these sizes.
fn play(
    model: &'static Model,
    shell: &'static Shell,
    steps: Vec<Step>,
    enable: Option<&'static str>,
    sizes: &[usize],
) -> Result<Answers, LookError> {
    let secret = enable.map(|text| Secret::from(text.to_owned()));
    let mut session = Session::new(model, shell, secret.as_ref(), 1 << 20);
    let (mut device, mut pending) = Player::begin(steps);
    let mut sizes = sizes.iter().copied().cycle();
    for _ in 0..100_000 {
        if pending.is_empty() {
            match session.quiet()? {
                Next::Send(line) => pending = device.typed(&line),
                Next::Wait => return Err(session.stuck()),
                Next::Ended => return Ok(session.end()),
            }
            continue;
        }
        let size = sizes.next().unwrap().clamp(1, pending.len());
        let rest = pending.split_off(size);
        let sent = session.received(&pending)?;
        pending = rest;
        if let Some(sent) = sent {
            // The rest of the pager comes first.
            assert!(pending.iter().all(|byte| *byte == b' '), "{pending:?}");
            pending.extend(device.typed(sent));
        }
    }
    panic!("it does not end");
}

/// What is known of a transcript's device.
pub(super) fn told(model: &Model, documents: &[Document], refused: &[crate::Refused]) -> String {
    let mut told = String::new();
    for document in documents {
        write!(told, "==> {}\n{}", document.path(), document.text()).unwrap();
    }
    for refused in refused {
        writeln!(told, "--> {}: {}", refused.path, refused.because).unwrap();
    }
    for secret in SECRETS {
        assert!(!told.contains(secret), "{}: {secret}\n{told}", model.name());
    }
    told
}

pub(super) const KEY: [u8; 32] = [7; 32];

fn documents(model: &Model, answers: &Answers) -> Vec<Document> {
    let key = FingerprintKey::from(KEY);
    let paths: Vec<_> = model.paths().collect();
    let document = |it: &crate::session::Answer| Document::new(&paths[it.document], &it.text, &key);
    answers.answers.iter().map(document).collect()
}

#[test]
fn each_model_has_its_transcript() {
    let names: Vec<_> = Model::all().iter().map(Model::name).collect();
    let transcripts: Vec<_> = ALL.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, transcripts);
}

#[test]
fn however_it_is_cut_the_same_documents_come_out() {
    for (name, text) in ALL {
        let model = Model::named(name).unwrap();
        let Some(shell) = shell(model) else { continue };
        let whole = play(model, shell, parse(text), Some("enable-secret"), &[usize::MAX]).unwrap();
        let expected = told(model, &documents(model, &whole), &whole.refused);
        for sizes in [&[1][..], &[2, 3], &[7], &[64, 1, 1, 200], &[1000]] {
            let cut = play(model, shell, parse(text), Some("enable-secret"), sizes).unwrap();
            assert_eq!(told(model, &documents(model, &cut), &cut.refused), expected, "{name}");
        }
    }
}

#[test]
fn who_may_not_enable_sees_nothing() {
    let model = Model::named("ios").unwrap();
    let shell = shell(model).unwrap();
    let text = include_str!("transcripts/ios.txt");
    let without = play(model, shell, parse(text), None, &[usize::MAX]);
    assert!(matches!(without, Err(LookError::NotEnabled)));

    // It asks again, or is what it was.
    for after in ["% Access denied\\r\\n\\r\\nPassword: ", "% Bad secrets\\r\\n\\r\\nR1>"] {
        let denied = format!(
            "prompt \"R1>\"\n> enable\nask \"Password: \"\n< enable-secret\nraw \"{after}\"\n\
             < none"
        );
        let refused = play(model, shell, parse(&denied), Some("enable-secret"), &[usize::MAX]);
        assert!(matches!(refused, Err(LookError::NotEnabled)), "{after}");
    }
}

#[test]
fn what_is_refused_or_breaks_off_is_not_recorded() {
    let model = Model::named("ios").unwrap();
    let shell = shell(model).unwrap();
    let begin =
        "prompt \"R1#\"\n> terminal length 0\n> terminal width 512\n> show running-config\n";
    let said = |answer: &str| {
        let text = format!("{begin}{answer}\n> show startup-config\n| end\n> show version\n| x\n");
        match play(model, shell, parse(&text), None, &[5]) {
            Ok(answers) => format!("{} documents", answers.answers.len()),
            Err(error) => error.to_string(),
        }
    };
    assert_eq!(said("| hostname R1\n| end"), "3 documents");
    assert_eq!(
        said("|                ^\n| % Invalid input detected at '^' marker."),
        "it refuses `show running-config`: % Invalid input detected at '^' marker."
    );
    assert_eq!(said("| hostname R1"), "its answer to `show running-config` has no end");
    assert_eq!(said("| "), "it answers nothing to `show running-config`");
}

#[test]
fn what_never_ends_is_given_up() {
    let model = Model::named("ios").unwrap();
    let mut session = Session::new(model, shell(model).unwrap(), None, 1000);
    session.received(b"R1#").unwrap();
    assert!(matches!(session.quiet(), Ok(Next::Send(_))));
    let mut outcome = Ok(None);
    for _ in 0..100 {
        outcome = session.received(b"\x1b[31m\x00\x00\x00\x07garbage");
        if outcome.is_err() {
            break;
        }
    }
    assert!(matches!(outcome, Err(LookError::TooLong { most: 1000, .. })));

    // A few bytes that make many count as many.
    let mut session = Session::new(model, shell(model).unwrap(), None, 10_000);
    session.received(b"R1#").unwrap();
    session.quiet().unwrap();
    let wide = b"\x1b[512Cx\n".repeat(100);
    assert!(matches!(session.received(&wide), Err(LookError::TooLong { .. })));
}

#[test]
fn who_shows_no_prompt_is_another_device() {
    let model = Model::named("ios").unwrap();
    let mut session = Session::new(model, shell(model).unwrap(), None, 1000);
    session.received(b"$ \x1b]0;evil\x07").unwrap();
    assert_eq!(session.quiet().unwrap(), Next::Wait);
    let stuck = session.stuck();
    assert_eq!(stuck.to_string(), "it shows no prompt of its model; its last line is \"$\"");
}

/// What two looks at the same device differ in: no look is news because of it.
#[test]
fn what_alters_by_itself_is_no_difference() {
    let quiet = [
        ("ios", "/running-config", "at 10:11:12 UTC Mon Nov 30", "at 11:12:13 UTC Tue Dec 1"),
        ("ios", "/version", "5 weeks, 2 days", "5 weeks, 3 days"),
        ("nxos", "/running-config", "!Time: Mon Nov 30 11", "!Time: Mon Nov 30 12"),
        ("nxos", "/version", "3 hour(s)", "4 hour(s)"),
        ("eos", "/version", "5 weeks, 2 days", "5 weeks, 3 days"),
        ("eos", "/version", "Free memory: 1128792 kB", "Free memory: 1128000 kB"),
        ("junos", "/configuration", "2026-11-30 10:11:12", "2026-12-01 10:11:12"),
        ("fortios", "/configuration", "conf_file_ver=2613465321", "conf_file_ver=2613465322"),
        ("fortios", "/configuration", "ENC SH2nlSm9QL9", "ENC AK3nlSm9QL9"),
        ("fortios", "/status", "Mon Nov 30 10:11:12", "Mon Nov 30 10:12:12"),
        ("vrp", "/current-configuration", "2026-11-30 10:11:12", "2026-12-01 10:11:12"),
        ("vrp", "/version", "3 weeks, 1 day", "3 weeks, 2 days"),
        ("routeros", "/export", "2026-11-30 10:11:12", "2026-11-30 10:12:12"),
        ("nftables", "/ruleset", "packets 19 bytes 4641", "packets 20 bytes 4700"),
    ];
    let loud = [
        ("ios", "/running-config", "local-preference 100", "local-preference 200"),
        ("ios", "/running-config", "094F471A1A0A57", "094F471A1A0A58"),
        ("ios", "/version", "15.7(3)M8", "15.7(3)M9"),
        ("fortios", "/configuration", "action accept", "action deny"),
        ("nftables", "/ruleset", "dport 22", "dport 23"),
        ("nftables", "/ruleset", "4641 accept", "4641 drop"),
        ("routeros", "/export", "name=edge-2", "name=edge-3"),
    ];
    for (cases, is_quiet) in [(&quiet[..], true), (&loud[..], false)] {
        for (name, path, from, to) in cases {
            let text = ALL.iter().find(|(other, _)| other == name).unwrap().1;
            let altered = text.replace(from, to);
            assert_ne!(text, altered, "{name}: {from}");
            let model = Model::named(name).unwrap();
            let document = |text: &str| known(model, text, path);
            let is_noise = Masks::built_in().only_volatile(
                &model.subject(path),
                document(text).text(),
                document(&altered).text(),
            );
            assert_eq!(is_noise, is_quiet, "{name}{path}: {from}");
        }
    }
}

/// A document of a transcript's device.
fn known(model: &'static Model, text: &str, path: &str) -> Document {
    let found = if let Some(shell) = shell(model) {
        let played = play(model, shell, parse(text), Some("enable-secret"), &[100]).unwrap();
        documents(model, &played)
    } else {
        let answers = super::transcript::answers(&parse(text));
        let read = |(at, (_, bytes)): (usize, (String, Vec<u8>))| {
            let text = String::from_utf8(bytes).unwrap().replace("\r\n", "\n");
            let path = model.paths().nth(at).unwrap();
            Document::new(&path, &text, &FingerprintKey::from(KEY))
        };
        answers.into_iter().enumerate().map(read).collect()
    };
    found.into_iter().find(|document| document.path() == path).unwrap()
}

proptest! {
    /// Whatever a device says, nothing is sent but what the model has, and nothing comes out with control
    /// characters in it.
    #[test]
    fn whatever_it_says(
        model in 0..20_usize,
        pieces in prop::collection::vec(
            prop_oneof![
                Just(b"R1#".to_vec()),
                Just(b"R1>".to_vec()),
                Just(b"Password: ".to_vec()),
                Just(b" --More-- ".to_vec()),
                Just(b"leaf-1# ".to_vec()),
                Just(b"<core-1>".to_vec()),
                Just(b"end\r\nR1#".to_vec()),
                Just(b"\x1b[16D   \x1b]0;x\x07".to_vec()),
                prop::collection::vec(any::<u8>(), 0..200),
            ], 0..30),
    ) {
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        fuzzing::session(model, &pieces);
    }
}
