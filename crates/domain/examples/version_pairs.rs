//! Compares our version orders with a peer's over reproducible random pairs.
//!
//! ```text
//! version_pairs generate KIND SEED COUNT             prints COUNT lines `A B`
//! version_pairs check KIND SEED COUNT < ANSWERS      reads COUNT lines `<`, `=` or `>`
//! ```
//!
//! `check` makes the same pairs again and holds our strings' and our keys' order against the
//! peer's answers, so a peer is any filter from the former to the latter:
//!
//! ```text
//! cargo run --release -p domain --example version_pairs generate dpkg 1 1000000 \
//!   | /usr/bin/python3 benches/peers/apt_order.py \
//!   | cargo run --release -p domain --example version_pairs check dpkg 1 1000000
//! ```

#[path = "../tests/support/random.rs"]
mod random;
#[path = "../tests/support/version_pairs.rs"]
mod version_pairs;

use std::cmp::Ordering;
use std::io::{self, BufRead as _, BufWriter, Write as _};
use std::process::ExitCode;

use domain::version::VersionKind;
use version_pairs::{Pair, Pairs};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match parse(&arguments) {
        Some((Task::Generate, kind, seed, count)) => generate(Pairs::new(kind, seed), count),
        Some((Task::Check, kind, seed, count)) => check(kind, seed, count),
        None => {
            eprintln!("usage: version_pairs generate|check dpkg|rpm|apk SEED COUNT");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

enum Task {
    Generate,
    Check,
}

fn parse(arguments: &[String]) -> Option<(Task, VersionKind, u64, u64)> {
    let [task, kind, seed, count] = arguments else { return None };
    let task = match task.as_str() {
        "generate" => Task::Generate,
        "check" => Task::Check,
        _ => return None,
    };
    let kinds = [VersionKind::Dpkg, VersionKind::Rpm, VersionKind::Apk];
    let kind = kinds.into_iter().find(|known| known.name() == kind)?;
    Some((task, kind, seed.parse().ok()?, count.parse().ok()?))
}

fn generate(mut pairs: Pairs, count: u64) -> io::Result<u64> {
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    for _ in 0..count {
        let Pair { a, b } = pairs.next();
        writeln!(out, "{a} {b}")?;
    }
    out.flush()?;
    Ok(0)
}

/// Returns how many answers differ.
fn check(kind: VersionKind, seed: u64, count: u64) -> io::Result<u64> {
    let mut pairs = Pairs::new(kind, seed);
    let mut answers = io::stdin().lock();
    let mut answer = String::new();
    let (mut key_a, mut key_b) = (Vec::new(), Vec::new());
    let (mut wrong, mut refused, mut given_up) = (0_u64, 0_u64, 0_u64);
    let mut orders = [0_u64; 3];
    for number in 0..count {
        answer.clear();
        answers.read_line(&mut answer)?;
        let Pair { a, b } = pairs.next();
        let theirs = match answer.trim() {
            "<" => Ordering::Less,
            "=" => Ordering::Equal,
            ">" => Ordering::Greater,
            "?" => {
                refused += 1;
                continue;
            }
            other => {
                let said = format!("answer {number} is `{other}`, not `<`, `=`, `>` or `?`");
                return Err(io::Error::new(io::ErrorKind::InvalidData, said));
            }
        };
        key_a.clear();
        key_b.clear();
        kind.write_key(a, &mut key_a);
        kind.write_key(b, &mut key_b);
        let ours = [kind.compare(a, b), key_a.cmp(&key_b)];
        orders[usize::from(theirs != Ordering::Less) + usize::from(theirs == Ordering::Greater)] +=
            1;
        if ours[0] == ours[1] && theirs == Ordering::Equal && is_given_up(kind, a, b) {
            given_up += u64::from(ours[0] != theirs);
        } else if ours != [theirs; 2] {
            wrong += 1;
            println!("wrong {a} {b}: we say {ours:?}, they say {theirs:?}");
        }
    }
    let [less, equal, greater] = orders;
    println!(
        "{count} pairs: {less} <, {equal} =, {greater} >; \
         {refused} refused by the peer, {given_up} ordered where it gives up, {wrong} wrong"
    );
    Ok(wrong)
}

/// apk calls two malformed versions equal where it stops reading both; we may order them.
fn is_given_up(kind: VersionKind, a: &str, b: &str) -> bool {
    kind == VersionKind::Apk && kind.validate(a).is_err() && kind.validate(b).is_err()
}
