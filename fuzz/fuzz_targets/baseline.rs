//! Rules of baselines: any text is rules or none, and what is read answers of any files.
#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::cloud::Class;
use domain::configuration::baseline::{Baseline, Observed, ObservedFile, Subject};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: (String, Vec<u8>)| {
    let (check, held) = data;
    let quoted = toml_text(&check);
    let text = format!(
        "id = \"a\"\nversion = \"1\"\ntitle = \"t\"\n[[rule]]\nid = \"b\"\ntitle = \"t\"\nseverity = \"low\"\nwhy = \"w\"\nsource = \"s\"\nexpected = \"e\"\ncheck = {quoted}\n"
    );
    let Ok(baseline) = Baseline::parse(&text) else { return };
    let subject = Subject { class: Class::Vm, labels: BTreeMap::new() };
    let file = |path: &str| (path.to_owned(), ObservedFile::new(0o100_644, "root:root", &held));
    let item = Observed::new(subject, ["/etc/ssh/sshd_config", "/etc/sysctl.conf"].map(file));
    let item = Arc::new(item);
    assert_eq!(baseline.judge(&item), baseline.judge(&item));
});

/// The text as TOML writes it.
fn toml_text(text: &str) -> String {
    let escaped = text.chars().map(|letter| format!("\\U{:08X}", u32::from(letter)));
    format!("\"{}\"", escaped.collect::<String>())
}
