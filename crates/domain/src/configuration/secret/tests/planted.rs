//! Secrets in files as they are on servers and devices. `«kind|secret»` plants one; `¦` is left out, so that
//! nothing here has the form of a live token.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::*;

const FILES: &[(&str, &str)] = include!("planted/files.rs");

/// The file, and what is to come out of it with the kinds alone.
fn plant(template: &str) -> (String, String, Vec<(&str, String)>) {
    let (mut file, mut expected, mut planted) = (String::new(), String::new(), Vec::new());
    let mut rest = template;
    while let Some((before, inner)) = rest.split_once('«') {
        let (inner, after) = inner.split_once('»').unwrap();
        let (kind, secret) = inner.split_once('|').unwrap();
        let secret = secret.replace('¦', "");
        file.push_str(before);
        file.push_str(&secret);
        let _ = write!(expected, "{before}‹{kind}›");
        planted.push((kind, secret));
        rest = after;
    }
    file.push_str(rest);
    expected.push_str(rest);
    (file, expected, planted)
}

#[test]
fn no_planted_secret_leaves_and_nothing_else_is_lost() {
    let mut wrong = String::new();
    for (path, template) in FILES {
        let (file, expected, planted) = plant(template);

        let after = redacted(path, &file);

        for (_, secret) in &planted {
            assert!(!after.text.contains(secret.as_str()), "{path}: `{secret}` leaves");
        }
        let got = shown(path, &file);
        if got != expected {
            let _ = writeln!(wrong, "--- {path}, expected\n{expected}\n+++ got\n{got}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn what_is_planted_is_as_much_as_is_claimed() {
    let planted: Vec<_> = FILES.iter().flat_map(|(_, template)| plant(template).2).collect();
    let detectors: BTreeSet<_> = FILES
        .iter()
        .flat_map(|(path, template)| redacted(path, &plant(template).0).secrets)
        .map(|secret| secret.detector)
        .collect();

    assert!(planted.len() >= 90, "{}", planted.len());
    assert!(detectors.len() >= 40, "{}", detectors.len());
    let kinds: BTreeSet<_> = planted.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds.len(), SecretKind::ALL.len() - 1, "all but files that are a key: {kinds:?}");
}
