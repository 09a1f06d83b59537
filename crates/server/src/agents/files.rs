//! What hosts are configured by, as their agents tell it: recorded in the content history.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use domain::agent::{FilesSent, HostFile, Since, Trace};
use domain::configuration::document::original_of;
use domain::configuration::verdict::{Actor, Evidence};
use jiff::Timestamp;
use store::{Attribution, FilePath, FilesNoted, Metadata, NewFile, NewState, Past, Telling};

use super::{Agents, Believed, Body, Said};
use crate::problem::{Kind, Problem};

/// Who says what files are.
const SOURCE: &str = "agent";

/// Longest label, as history keeps it.
const LONGEST_WORD: usize = 256;

/// Longest name of a program, account or package.
const LONGEST_NAME: usize = 4096;

/// Takes in files that are others than was known.
pub(super) async fn files(
    State(agents): State<Arc<Agents>>,
    by: Believed,
    Body(sent): Body<FilesSent>,
) -> Result<StatusCode, Problem> {
    if agents.says_too_often(by.agent.id, Said::Files) {
        return Err(Problem::new(Kind::TooMany, "files were told too often in a short time").help(
            "see what alters them again and again (`patchwright config log`), and leave it out under \
             `[configuration] ignore` in the host's agent-policy.toml",
        ));
    }
    let actor = by.actor();
    let FilesSent { since, digest, observed_at, looked_before, files, traces } = sent;
    let known = agents.store.files_of(&actor, by.agent.ci).await?;
    // What is told until all of it was told once is how things were, and no alteration.
    let is_first = known.is_none_or(|(_, is_whole)| !is_whole);
    let evidence = match since {
        Since::Manifest { .. } => Evidence::Complete,
        Since::Nothing { .. } => Evidence::Gap,
    };
    let there: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let gone = match since {
        Since::Manifest { digest: base, gone } => {
            if known.map(|(digest, _)| digest) != Some(base) {
                return Err(Problem::new(Kind::Conflict, "the difference begins elsewhere")
                    .help("tell all files"));
            }
            gone
        }
        Since::Nothing { paths } => {
            let now = agents.store.environment().now();
            match agents.history.whole_manifest(&actor, by.agent.ci, now).await? {
                Past::Kept(known) => known
                    .files
                    .iter()
                    // What others say of the item is not the agent's to miss.
                    .filter(|(path, known)| {
                        known.source == SOURCE && !paths.contains(path.as_str())
                    })
                    .map(|(path, _)| path.as_str().to_owned())
                    .collect(),
                // What was erased is not there to be gone.
                Past::Erased | Past::Forgotten { .. } => Vec::new(),
            }
        }
    };
    if let Some(both) = gone.iter().find(|path| there.contains(path.as_str())) {
        return Err(wrong(format!("`{}` is said to be there, and gone", both.escape_default())));
    }
    let mut recorded = Vec::with_capacity(files.len() + gone.len());
    for file in files {
        recorded.push(new(file, observed_at)?);
    }
    for path in gone {
        recorded.push(NewFile {
            path: path_of(path)?,
            state: NewState::Gone,
            observed_at,
            source: SOURCE.to_owned(),
            by: None,
            change: None,
        });
    }
    if !recorded.is_empty() && is_first {
        agents.history.record(&actor, by.agent.ci, recorded).await?;
    } else if !recorded.is_empty() {
        let traces = traces.into_iter().map(bounded).collect::<Result<_, Problem>>()?;
        let telling = Telling { looked_before, evidence, traces };
        agents.history.record_told(&actor, by.agent.ci, recorded, telling).await?;
    }
    let is_whole = {
        let known = agents.known();
        let last = known.get(&by.key).and_then(|it| it.last.as_ref());
        last.is_some_and(|(report, _)| report.files == Some(digest))
    };
    // Only now: what is told again is recorded once.
    let noted = FilesNoted { digest, observed_at, is_whole };
    agents.store.note_files(&actor, by.agent.ci, noted).await?;
    if let Some(it) = agents.known().get_mut(&by.key) {
        it.files = Some(digest);
    }
    agents.note_files_told(&by).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn new(file: HostFile, observed_at: Timestamp) -> Result<NewFile, Problem> {
    let HostFile { path, mode, owner, label, content, by } = file;
    let words = [&owner, &label].into_iter().chain(by.as_ref().map(|by| &by.actor));
    if let Some(long) = words.into_iter().find(|word| word.len() > LONGEST_WORD) {
        return Err(wrong(format!(
            "a word of {} bytes about `{}`",
            long.len(),
            path.escape_default()
        )));
    }
    let by = by.map(|by| Attribution { actor: by.actor, confidence: by.confidence.min(100) });
    let content = match original_of(&path) {
        None => content.into_bytes(),
        Some(of) => BASE64_STANDARD.decode(content).map_err(|error| {
            wrong(format!("the original of `{}`: {error}", of.escape_default()))
        })?,
    };
    Ok(NewFile {
        path: path_of(path)?,
        state: NewState::Present {
            content,
            metadata: Metadata { mode, owner, label: label.into_bytes() },
        },
        observed_at,
        source: SOURCE.to_owned(),
        by,
        change: None,
    })
}

/// A trace whose words are no longer than history keeps them.
fn bounded((path, trace): (String, Trace)) -> Result<(String, Trace), Problem> {
    let words = match &trace.who {
        Actor::Person { login } => Some(login),
        Actor::Program { executable } => Some(executable),
        Actor::Unknown | Actor::Agent { .. } | Actor::PackageManager => None,
    };
    let shipped = trace.shipped.iter().flat_map(|it| [&it.package, &it.version]);
    if let Some(long) = words.into_iter().chain(shipped).find(|word| word.len() > LONGEST_NAME) {
        let path = path.escape_default();
        return Err(wrong(format!("a word of {} bytes about `{path}`", long.len())));
    }
    Ok((path, trace))
}

fn path_of(path: String) -> Result<FilePath, Problem> {
    FilePath::new(path).map_err(|error| wrong(error.to_string()))
}

fn wrong(detail: String) -> Problem {
    Problem::new(Kind::Invalid, detail)
        .help("leave such files out under `[configuration] ignore` in the host's agent-policy.toml")
}
