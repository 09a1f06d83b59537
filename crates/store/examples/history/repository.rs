//! What a git repository holds, as histories of items: each top-level folder is one, and each module of Puppet's.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use crate::Result;
use crate::corpus::Batch;

/// Largest file that is taken.
const LARGEST: usize = 16 << 20;

/// What was read.
pub(crate) struct Recorded {
    /// The items' names: what their paths begin with.
    pub(crate) names: Vec<String>,
    /// What altered, commit by commit.
    pub(crate) batches: Vec<Batch>,
}

/// Reads commits but for merges, the oldest first, until there are so many versions; of text alone where that is wanted.
pub(crate) fn read(repository: &Path, versions: usize, is_text: bool) -> Result<Recorded> {
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.arg("--git-dir").arg(repository).args(arguments);
        command
    };
    let format =
        ["log", "--all", "--reverse", "--topo-order", "--no-merges", "--raw", "--no-abbrev"];
    let log = git(&[&format[..], &["--no-renames", "-z", "--format=%x01"]].concat()).output()?;
    let mut alterations = parse(&String::from_utf8_lossy(&log.stdout))?;
    alterations.truncate(versions);
    let blobs = alterations.iter().filter_map(|it| it.blob.clone());
    let contents = contents(git(&["cat-file", "--batch"]), blobs.collect())?;

    let mut names: Vec<String> = Vec::new();
    let mut numbers: HashMap<String, usize> = HashMap::new();
    let mut batches: BTreeMap<(usize, usize), Batch> = BTreeMap::new();
    for Alteration { moment, path, blob } in alterations {
        let content = match blob {
            None => None,
            Some(blob) => match contents.get(&blob) {
                Some(content) if !is_text || !is_binary(content) => Some(Arc::clone(content)),
                _ => continue,
            },
        };
        let (name, path) = of_item(&path);
        let item = *numbers.entry(name.to_owned()).or_insert_with(|| {
            names.push(name.to_owned());
            names.len() - 1
        });
        let batch = batches.entry((moment, item));
        let batch = batch.or_insert_with(|| Batch { moment, item, files: BTreeMap::new() });
        batch.files.insert(path.to_owned(), content);
    }
    Ok(Recorded { names, batches: batches.into_values().collect() })
}

/// Whether git takes it for binary.
fn is_binary(content: &[u8]) -> bool {
    content.iter().take(8000).any(|&byte| byte == 0)
}

struct Alteration {
    moment: usize,
    path: String,
    /// None where the file goes.
    blob: Option<String>,
}

/// `\x01`, then `:MODE MODE BLOB BLOB STATUS` and a path for each alteration, all ended by NUL.
fn parse(log: &str) -> Result<Vec<Alteration>> {
    let (mut moment, mut alterations) = (0, Vec::new());
    let mut words = log.split('\0').filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        let word = word.trim_start();
        let word = word.strip_prefix('\u{1}').map_or(word, |rest| {
            moment += 1;
            rest.trim_start()
        });
        if word.is_empty() {
            continue;
        }
        let [_, mode, _, blob, status] =
            <[&str; 5]>::try_from(word.split(' ').collect::<Vec<_>>()).map_err(|_| "git log")?;
        let path = words.next().ok_or("git log: a path")?;
        let is_file = mode.starts_with("100") || status == "D";
        if is_file && !path.contains(char::is_control) && !path.contains(['"', '\u{fffd}']) {
            let blob = (status != "D").then(|| blob.to_owned());
            alterations.push(Alteration { moment, path: path.to_owned(), blob });
        }
    }
    Ok(alterations)
}

/// The item that a path is of, and the path within it.
fn of_item(path: &str) -> (&str, &str) {
    let folders = if path.starts_with("modules/") { 2 } else { 1 };
    let end = path.match_indices('/').nth(folders - 1).map_or(0, |(at, _)| at);
    let (item, path) = path.split_at(end);
    // What lies in no folder is an item by itself.
    if item.is_empty() { ("", path) } else { (item, path) }
}

fn contents(mut git: Command, mut blobs: Vec<String>) -> Result<HashMap<String, Arc<[u8]>>> {
    blobs.sort_unstable();
    blobs.dedup();
    let mut git = git.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut questions = BufWriter::new(git.stdin.take().ok_or("git's input")?);
    let mut answers = BufReader::new(git.stdout.take().ok_or("git's output")?);
    let asked = blobs.clone();
    let asking = thread::spawn(move || {
        asked.iter().try_for_each(|blob| writeln!(questions, "{blob}"))?;
        questions.flush()
    });
    let mut contents = HashMap::with_capacity(blobs.len());
    for blob in blobs {
        let mut head = String::new();
        answers.read_line(&mut head)?;
        let words: Vec<&str> = head.split_whitespace().collect();
        let [_, kind, length] = words[..] else { continue };
        let mut content = vec![0; length.parse::<usize>()? + 1];
        answers.read_exact(&mut content)?;
        content.pop();
        if kind == "blob" && content.len() <= LARGEST {
            contents.insert(blob, content.into());
        }
    }
    asking.join().map_err(|_| "asking git")??;
    git.wait()?;
    Ok(contents)
}
