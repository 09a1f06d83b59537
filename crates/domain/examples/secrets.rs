//! Counts what the rules for secrets find below a directory, to be looked through by people:
//! `cargo run -p domain --example secrets -- ROOT [--show]`. `--show` prints the lines, secrets included.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use domain::configuration::secret::{FingerprintKey, Redaction, Withheld, redact};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let root = arguments.next().ok_or("which directory?")?;
    let shows = arguments.next().is_some();
    let root = Path::new(&root);
    let key = FingerprintKey::from([0; 32]);
    let (mut texts, mut bytes, mut with, mut secrets) = (0, 0, 0, 0);
    let mut detectors = BTreeMap::<String, usize>::new();
    let mut withheld = BTreeMap::<Withheld, usize>::new();
    let mut directories = vec![root.join("etc")];
    let mut slowest = (std::time::Duration::ZERO, String::new());
    let begin = Instant::now();
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                directories.push(entry.path());
            } else if entry.file_type()?.is_file() {
                let path = format!("/{}", entry.path().strip_prefix(root)?.display());
                let content = std::fs::read(entry.path())?;
                let one = Instant::now();
                let redaction = redact(&path, &content, &key);
                if one.elapsed() > slowest.0 {
                    slowest = (one.elapsed(), path.clone());
                }
                match redaction {
                    Redaction::Withheld { because, .. } => {
                        *withheld.entry(because).or_default() += 1;
                        println!("{path}: withheld, {because}");
                    }
                    Redaction::Text(redacted) => {
                        texts += 1;
                        bytes += content.len();
                        with += usize::from(!redacted.secrets.is_empty());
                        for secret in redacted.secrets {
                            secrets += 1;
                            let text = String::from_utf8_lossy(&content[secret.original.clone()]);
                            let text =
                                if shows { text.escape_debug().to_string() } else { String::new() };
                            println!("{path}:{}: {} {text}", secret.line, secret.detector);
                            *detectors.entry(secret.detector).or_default() += 1;
                        }
                    }
                }
            }
        }
    }
    println!("{texts} texts of {bytes} bytes in {:?}, the slowest {slowest:?}", begin.elapsed());
    println!("{secrets} secrets in {with} files: {detectors:?}; withheld {withheld:?}");
    Ok(())
}
