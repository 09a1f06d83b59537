//! For the fuzz target and for tests from a seed: sessions with whatever a device may say.

use domain::configuration::secret::FingerprintKey;

use crate::document::Document;
use crate::model::{Model, Way};
use crate::session::{Next, Session};
use crate::target::Secret;

/// Most bytes of an answer here.
const MOST: usize = 1 << 16;

/// A session with a device of a model, which says these pieces, each followed by a pause. What is sent has to come
/// from the model or be the password, and what is recorded has no control characters.
pub fn session(model: usize, pieces: &[&[u8]]) {
    let models = Model::all();
    let model = &models[model % models.len()];
    let Way::Shell(shell) = &model.way else { return };
    let secret = Secret::from("enable-secret".to_owned());
    let mut session = Session::new(model, shell, Some(&secret), MOST);
    let mut known: Vec<&str> = vec!["enable-secret"];
    known.extend(shell.prepare.iter().map(String::as_str));
    known.extend(shell.login.iter().map(|asked| asked.say.as_str()));
    known.extend(shell.enable.iter().map(|enable| enable.say.as_str()));
    known.extend(model.documents.iter().map(|wanted| wanted.command.as_str()));
    for piece in pieces {
        let Ok(sent) = session.received(piece) else { return };
        assert!(matches!(sent, None | Some(b" ")));
        match session.quiet() {
            Ok(Next::Send(line)) => {
                let line = String::from_utf8_lossy(&line).into_owned();
                assert!(known.contains(&line.trim_end_matches(['\r', '\n'])), "{line:?}");
            }
            Ok(Next::Wait) => {}
            Ok(Next::Ended) => break,
            Err(_) => return,
        }
    }
    let key = FingerprintKey::from([7; 32]);
    for answer in session.end().answers {
        let document = Document::new("/document", &answer.text, &key);
        let is_plain = |it: char| !it.is_control() || it == '\n' || it == '\t';
        assert!(document.text().chars().all(is_plain));
    }
}
