//! A million random pairs each: our order of versions is that of apt, dpkg and rpm themselves.
//!
//! A hundred million were compared once the same way; see `examples/version_pairs.rs`.

#[path = "support/random.rs"]
mod random;
#[path = "support/version_pairs.rs"]
mod version_pairs;

use std::cmp::Ordering;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use domain::version::VersionKind;
use version_pairs::{Pair, Pairs};

const SEED: u64 = 20_261_123;
const MANY: usize = 1_000_000;
/// A process each, so fewer.
const SOME: usize = 3_000;

/// Reads lines `A B` from the file named; answers one character for each.
const APT: &str = r#"
import sys
try:
    import apt_pkg
except ImportError:
    sys.exit("python3-apt is missing")
apt_pkg.init_system()
for line in open(sys.argv[1], encoding="utf-8"):
    a, b = line.split()
    order = apt_pkg.version_compare(a, b)
    sys.stdout.write("<" if order < 0 else ">" if order > 0 else "=")
"#;

/// The same in rpm's embedded Lua. Before rpm 4.16 `rpm.vercmp` knew no epochs; it says so.
const RPM: &str = r#"
if rpm.vercmp("1:1-1", "2-1") ~= 1 then error("rpm is older than 4.16") end
local answers = {}
for line in io.lines("FILE") do
  local a, b = line:match("^(%S+) (%S+)$")
  local order = rpm.vercmp(a, b)
  answers[#answers + 1] = order < 0 and "<" or order > 0 and ">" or "="
end
print(table.concat(answers))
"#;

/// Writes pairs where the peer can read them.
fn write_pairs(kind: VersionKind, count: usize) -> PathBuf {
    let mut pairs = Pairs::new(kind, SEED);
    let mut text = String::new();
    for _ in 0..count {
        let Pair { a, b } = pairs.next();
        let _ = writeln!(text, "{a} {b}");
    }
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("pairs-{kind}"));
    fs::write(&file, text).expect("the target directory is writable");
    file
}

/// The peer's answers, or a failure that says which package has the peer.
fn answers(peer: &mut Command, package: &str) -> String {
    let install = format!("apt-get install {package} (or: cargo xtask test)");
    let Output { status, stdout, stderr } =
        peer.output().unwrap_or_else(|error| panic!("{peer:?}: {error}; {install}"));
    let said = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{peer:?} ended with {status}: {said}\n{install}");
    String::from_utf8(stdout).expect("answers are ASCII")
}

fn sign(order: Ordering) -> char {
    match order {
        Ordering::Less => '<',
        Ordering::Equal => '=',
        Ordering::Greater => '>',
    }
}

/// Holds strings' and keys' order against the peer's answers to the same pairs.
fn agree(kind: VersionKind, answers: &str, count: usize) {
    let answers = answers.trim_end();
    assert_eq!(answers.len(), count, "the peer must answer every pair");
    let mut pairs = Pairs::new(kind, SEED);
    let mut seen = [0; 3];
    for theirs in answers.chars() {
        let Pair { a, b } = pairs.next();
        let ours = kind.compare(a, b);
        assert_eq!(sign(ours), theirs, "`{a}` and `{b}` as strings, seed {SEED}");
        let keys = kind.key(a).cmp(&kind.key(b));
        assert_eq!(sign(keys), theirs, "`{a}` and `{b}` as keys, seed {SEED}");
        seen[(ours as i8 + 1).unsigned_abs() as usize] += 1;
    }
    // Pairs that are all of one order would prove little.
    assert!(seen.iter().all(|&count_of_order| count_of_order > count / 10), "{seen:?}");
}

#[test]
fn apt() {
    let file = write_pairs(VersionKind::Dpkg, MANY);

    let mut python = Command::new("/usr/bin/python3");
    let answers = answers(python.args(["-c", APT]).arg(file), "python3-apt");

    agree(VersionKind::Dpkg, &answers, MANY);
}

#[test]
fn rpm() {
    let file = write_pairs(VersionKind::Rpm, MANY);
    let script = RPM.replace("FILE", file.to_str().expect("a UTF-8 path"));

    let answers =
        answers(Command::new("rpm").args(["--eval", &format!("%{{lua:{script}}}")]), "rpm");

    agree(VersionKind::Rpm, &answers, MANY);
}

#[test]
fn dpkg() {
    let mut pairs = Pairs::new(VersionKind::Dpkg, SEED);
    for _ in 0..SOME {
        let Pair { a, b } = pairs.next();
        let operator = match VersionKind::Dpkg.compare(a, b) {
            Ordering::Less => "lt",
            Ordering::Equal => "eq",
            Ordering::Greater => "gt",
        };
        let status = Command::new("dpkg")
            .args(["--compare-versions", a, operator, b])
            .stderr(Stdio::null())
            .status()
            .unwrap_or_else(|error| panic!("dpkg: {error}; this test needs a Debian system"));
        assert!(status.success(), "dpkg denies `{a}` {operator} `{b}`");
    }
}
