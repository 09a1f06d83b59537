//! The published vectors hold, for comparisons of strings and of keys alike.

use std::cmp::Ordering;
use std::fs;
use std::path::Path;

use domain::version::VersionKind;

/// Malformed versions about which the vectors (made with apk-tools 2) and apk-tools 3 disagree; we
/// answer as apk-tools 3 does: a revision without a number, or with more behind it, is malformed
/// and less than one with it.
const APK_3_DIFFERS: &[(&str, &str, Ordering)] =
    &[("1-r", "1-r0", Ordering::Less), ("1-r0-1", "1-r-2", Ordering::Greater)];

struct Vector {
    place: String,
    a: String,
    b: String,
    expected: Ordering,
}

fn vectors(file: &str) -> Vec<Vector> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/versions").join(file);
    let text = fs::read_to_string(&path).expect("fixture");
    let mut vectors = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [a, operator, b] = fields[..] else { panic!("{file}:{}: `{line}`", number + 1) };
        vectors.push(Vector {
            place: format!("{file}:{}", number + 1),
            a: a.to_owned(),
            b: b.to_owned(),
            expected: match operator {
                "<" => Ordering::Less,
                "=" => Ordering::Equal,
                ">" => Ordering::Greater,
                other => panic!("{file}:{}: operator `{other}`", number + 1),
            },
        });
    }
    vectors
}

/// Returns how many vectors were seen.
fn hold(kind: VersionKind, file: &str, exceptions: &[(&str, &str, Ordering)]) -> usize {
    let vectors = vectors(file);
    let mut wrong = Vec::new();
    for Vector { place, a, b, expected } in &vectors {
        let exception = exceptions.iter().find(|(x, y, _)| (x, y) == (&a.as_str(), &b.as_str()));
        let expected = exception.map_or(*expected, |(_, _, order)| *order);
        for (a, b, expected) in [(a, b, expected), (b, a, expected.reverse())] {
            let answers = [kind.compare(a, b), kind.key(a).cmp(&kind.key(b))];
            if answers != [expected; 2] {
                wrong.push(format!("{place}: {a} and {b} are {answers:?}, not {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    vectors.len()
}

#[test]
fn dpkg() {
    assert!(hold(VersionKind::Dpkg, "debian-versions.txt", &[]) > 20);
    assert!(hold(VersionKind::Dpkg, "debian-versions-generated.txt", &[]) > 7_000);
}

#[test]
fn rpm() {
    assert!(hold(VersionKind::Rpm, "redhat-versions.txt", &[]) > 150);
    assert!(hold(VersionKind::Rpm, "rpm-facts.txt", &[]) > 20);
}

#[test]
fn apk() {
    assert!(hold(VersionKind::Apk, "alpine-versions.txt", APK_3_DIFFERS) > 700);
    assert!(hold(VersionKind::Apk, "alpine-versions-generated.txt", &[]) > 6_900);
    assert!(hold(VersionKind::Apk, "apk-facts.txt", &[]) > 25);
}
