//! Reproducible pairs of versions, near to one another, to compare our answers with a peer's.
//!
//! Uniformly random strings differ in their first character and prove little. Here the second of
//! a pair is mostly the first with one to three small edits, made of what the three grammars care
//! about: separators, tildes, carets, leading zeros, suffixes, numbers beyond 64 bits.

use domain::version::VersionKind;

use super::random::Random;

/// Two versions to compare.
pub(crate) struct Pair<'a> {
    pub(crate) a: &'a str,
    pub(crate) b: &'a str,
}

/// Endless pairs for one kind of version.
pub(crate) struct Pairs {
    kind: VersionKind,
    random: Random,
    a: String,
    b: String,
}

impl Pairs {
    pub(crate) fn new(kind: VersionKind, seed: u64) -> Self {
        Self { kind, random: Random::new(seed), a: String::new(), b: String::new() }
    }

    /// The next pair: strings that the peer takes, without white space.
    pub(crate) fn next(&mut self) -> Pair<'_> {
        loop {
            self.a.clear();
            write_version(self.kind, &mut self.random, &mut self.a);
            if is_taken(self.kind, &self.a) {
                break;
            }
        }
        loop {
            self.b.clear();
            if one_in(&mut self.random, 10) {
                write_version(self.kind, &mut self.random, &mut self.b);
            } else {
                self.b.push_str(&self.a);
                for _ in 0..self.random.below(4) {
                    edit(self.kind, &mut self.random, &mut self.b);
                }
            }
            if is_taken(self.kind, &self.b) {
                break;
            }
        }
        Pair { a: &self.a, b: &self.b }
    }
}

/// Whether the peer defines an order for the string. apt and dpkg know none where a colon has no
/// number before it or a part is empty; apk and rpm answer about everything that is not empty.
fn is_taken(kind: VersionKind, version: &str) -> bool {
    if kind != VersionKind::Dpkg {
        return !version.is_empty();
    }
    let rest = match version.split_once(':') {
        Some((epoch, rest)) => {
            let is_number = epoch.bytes().all(|byte| byte.is_ascii_digit());
            if epoch.is_empty() || epoch.len() > 9 || !is_number {
                return false;
            }
            rest
        }
        None => version,
    };
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, "0"));
    !upstream.is_empty() && !revision.is_empty()
}

fn write_version(kind: VersionKind, random: &mut Random, out: &mut String) {
    if kind != VersionKind::Apk && one_in(random, 4) {
        out.push_str(pick(random, &["0:", "1:", "2:", "00:", "10:", "01:"]));
    }
    push_number(random, out);
    for _ in 0..random.below(5) {
        push_piece(kind, random, out);
    }
    if one_in(random, 2) {
        out.push_str(if kind == VersionKind::Apk { "-r" } else { "-" });
        push_number(random, out);
        for _ in 0..random.below(3) {
            push_piece(kind, random, out);
        }
    }
}

fn push_piece(kind: VersionKind, random: &mut Random, out: &mut String) {
    const DPKG: &[&str] =
        &["~", "+", "-", "~rc", "+deb12u", "+b", "~bpo", "ubuntu", "~~", "+~", ":"];
    const RPM: &[&str] = &["~", "^", "_", ".el", "~rc", "^git", "..", "-", ".~", "^~", "+", "é"];
    const APK: &[&str] = &[
        "_alpha", "_beta", "_pre", "_rc", "_cvs", "_svn", "_git", "_hg", "_p", "~", "~ab", "-r",
        "_", "_x",
    ];
    match random.below(10) {
        0..=3 => {
            out.push('.');
            push_number(random, out);
        }
        4 => push_number(random, out),
        5 => out.push_str(pick(random, &["a", "b", "rc", "Z", "pre", "alpha", "c"])),
        6..=8 => {
            out.push_str(pick(
                random,
                match kind {
                    VersionKind::Dpkg => DPKG,
                    VersionKind::Rpm => RPM,
                    VersionKind::Apk => APK,
                },
            ));
            if one_in(random, 2) {
                push_number(random, out);
            }
        }
        _ => out.push(graphic(random)),
    }
}

fn push_number(random: &mut Random, out: &mut String) {
    if one_in(random, 6) {
        out.push_str(pick(random, &["0", "00", "000"]));
    }
    let digits = match random.below(40) {
        0 => 15 + random.below(10),
        1..=5 => 2 + random.below(6),
        _ => 1 + random.below(2),
    };
    for _ in 0..digits {
        out.push_str(pick(random, &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]));
    }
}

/// Any printable ASCII character but the space.
fn graphic(random: &mut Random) -> char {
    char::from(b'!' + u8::try_from(random.below(94)).expect("below 94"))
}

/// One small change at a random place.
fn edit(kind: VersionKind, random: &mut Random, version: &mut String) {
    let mut place = random.below(version.len() + 1);
    while !version.is_char_boundary(place) {
        place -= 1;
    }
    let tail = version.split_off(place);
    let mut rest = tail.chars();
    match random.below(8) {
        // Remove.
        0 | 1 => {
            rest.next();
        }
        // Double.
        2 => version.extend(rest.clone().next()),
        // Replace.
        3 | 4 => {
            rest.next();
            push_piece(kind, random, version);
        }
        // Leading zero, maybe.
        5 => version.push('0'),
        // Cut.
        6 if one_in(random, 3) => rest = "".chars(),
        // Insert.
        _ => push_piece(kind, random, version),
    }
    version.push_str(rest.as_str());
}

fn pick<'a>(random: &mut Random, from: &[&'a str]) -> &'a str {
    from[random.below(from.len())]
}

fn one_in(random: &mut Random, count: usize) -> bool {
    random.below(count) == 0
}
