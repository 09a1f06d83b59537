//! Random sources, read by us and by apt: the same suites, components and architectures, and the
//! same contradictions refused.

#![allow(clippy::unwrap_used, reason = "a test stops where its world fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use collect::apt::config::read_sources;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

/// What apt would fetch; `None` where it refuses the sources.
fn fetched_by_apt(etc: &Path) -> Option<BTreeSet<String>> {
    let state = etc.join("state");
    fs::create_dir_all(state.join("lists/partial")).unwrap();
    let setting = |name: &str, value: &Path| format!("{name}={}", value.display());
    let output = Command::new("apt-get")
        .env("APT_CONFIG", "/dev/null")
        .args(["update", "--print-uris"])
        .args(["-o", &setting("Dir::Etc", etc), "-o", &setting("Dir::State", &state)])
        .args(["-o", &setting("Dir::Cache", &state)])
        .args(["-o", "APT::Architecture=amd64", "-o", "APT::Architectures::=amd64"])
        .args(["-o", "APT::Architectures::=i386", "-o", "Acquire::Languages=none"])
        .output()
        .unwrap();
    if !output.status.success() {
        return None;
    }
    let text = String::from_utf8(output.stdout).unwrap();
    let uris = text.lines().filter_map(|line| line.strip_prefix('\'')?.split_once('\''));
    let wanted = |uri: &str| uri.contains("/binary-") && !uri.contains("/binary-all/");
    Some(uris.map(|(uri, _)| uri).filter(|uri| wanted(uri)).map(without_ending).collect())
}

fn without_ending(uri: &str) -> String {
    uri.trim_end_matches(".xz").to_owned()
}

/// What we would fetch.
fn fetched_by_us(etc: &Path) -> Option<BTreeSet<String>> {
    let mut files = BTreeMap::new();
    for name in ["sources.list", "sources.list.d/a.sources"] {
        let bytes = fs::read(etc.join(name)).unwrap();
        files.insert(format!("/etc/apt/{name}"), bytes);
    }
    let sources = read_sources(&files, "/etc/apt").ok()?;
    let mut uris = BTreeSet::new();
    for source in sources {
        let base = format!("{}/dists/{}", source.uri, source.suite);
        for component in &source.components {
            for architecture in source.architectures.of(&["amd64".to_owned(), "i386".to_owned()]) {
                uris.insert(format!("{base}/{component}/binary-{architecture}/Packages"));
            }
        }
    }
    Some(uris)
}

fn some_of(
    words: &'static [&'static str],
    separator: &'static str,
) -> impl Strategy<Value = String> {
    prop::sample::subsequence(words, 1..=words.len()).prop_map(move |words| words.join(separator))
}

fn optional(option: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    prop::option::weighted(0.25, option).prop_map(Option::unwrap_or_default)
}

const URIS: &[&str] = &["http://a.example.org/debian", "http://a.example.org/debian/"];
const SUITES: &[&str] = &["stable", "stable-security"];
const COMPONENTS: &[&str] = &["main", "contrib"];
const ARCHITECTURES: &[&str] = &["amd64", "i386", "arm64"];

fn one_line() -> impl Strategy<Value = String> {
    let architectures = some_of(ARCHITECTURES, ",");
    let options = (
        optional(
            (prop::sample::select(vec!["arch", "arch+", "arch-"]), architectures)
                .prop_map(|(name, list)| format!(" {name}={list}")),
        ),
        optional(prop::sample::select(vec![" trusted=yes", " trusted=no"]).prop_map(str::to_owned)),
        optional(Just(" check-valid-until=no".to_owned())),
    )
        .prop_map(|(first, second, third)| format!("{first}{second}{third}"));
    let kind = prop::sample::select(vec!["deb", "deb", "deb", "deb-src", "# deb"]);
    let uri = prop::sample::select(URIS);
    let suite = prop::sample::select(SUITES);
    let end = prop::sample::select(vec!["", " # main contrib", "  "]);
    (kind, options, uri, suite, some_of(COMPONENTS, "  "), end).prop_map(
        |(kind, options, uri, suite, components, end)| {
            let options = if options.is_empty() { options } else { format!("[{options} ] ") };
            format!("{kind} {options}{uri} {suite} {components}{end}\n")
        },
    )
}

fn stanza() -> impl Strategy<Value = String> {
    let field = |name: &'static str, value: BoxedStrategy<String>| {
        value.prop_map(move |value| format!("{name}: {value}\n"))
    };
    let folded = || some_of(COMPONENTS, "\n# between\n ").boxed();
    let names = ["Architectures", "architectures-add", "Architectures-Remove"];
    let architectures = (prop::sample::select(names.to_vec()), some_of(ARCHITECTURES, " "))
        .prop_map(|(name, list)| format!("{name}: {list}\n"));
    let enabled = prop::sample::select(vec!["no", "yes", "0", "true"]);
    (
        field("Types", some_of(&["deb", "deb-src"], " ").boxed()),
        field("URIs", prop::sample::select(URIS).prop_map(str::to_owned).boxed()),
        field("Suites", some_of(SUITES, " ").boxed()),
        field("Components", folded()),
        optional(architectures),
        optional(field("Enabled", enabled.prop_map(str::to_owned).boxed())),
        optional(field("Trusted", Just("yes".to_owned()).boxed())),
    )
        .prop_map(|(types, uris, suites, components, architectures, enabled, trusted)| {
            format!("{enabled}{types}{uris}# note\n{suites}{components}{architectures}{trusted}\n")
        })
}

#[test]
fn random_sources_are_read_as_apt_reads_them() {
    let mut runner = TestRunner::deterministic();
    let strategy = (prop::collection::vec(one_line(), 0..4), prop::collection::vec(stanza(), 0..3));
    let mut outcomes = [0, 0];

    let place = tempfile::tempdir().unwrap();
    let etc = place.path();
    fs::create_dir_all(etc.join("sources.list.d")).unwrap();
    for _ in 0..150 {
        let (lines, stanzas) = strategy.new_tree(&mut runner).unwrap().current();
        fs::write(etc.join("sources.list"), lines.concat()).unwrap();
        fs::write(etc.join("sources.list.d/a.sources"), stanzas.concat()).unwrap();

        let (ours, apts) = (fetched_by_us(etc), fetched_by_apt(etc));

        outcomes[usize::from(apts.is_some())] += 1;
        assert_eq!(ours, apts, "{}{}", lines.concat(), stanzas.concat());
    }
    assert!(outcomes.iter().all(|count| *count > 20), "{outcomes:?}");
}
