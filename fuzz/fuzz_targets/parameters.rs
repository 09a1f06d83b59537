//! Any text as a configuration file of a known format, and as the file that it includes.
#![no_main]

use std::collections::BTreeMap;

use domain::configuration::parameter::{MOST, read};
use libfuzzer_sys::fuzz_target;

const PATHS: [&str; 8] = [
    "/etc/ssh/sshd_config",
    "/etc/sysctl.conf",
    "/etc/my.cnf",
    "/etc/default/x",
    "/etc/nginx/x",
    "/etc/login.defs",
    "/etc/postgresql/1/m/postgresql.conf",
    "/etc/systemd/system/x.service",
];

fuzz_target!(|data: (u8, &str, &str)| {
    let (which, text, other) = data;
    let others = BTreeMap::from([("/etc/ssh/x".to_owned(), other.as_bytes().to_vec())]);
    let path = PATHS[usize::from(which) % PATHS.len()];
    let found = read(path, text, &others).expect("its format is known");
    assert!(found.parameters.len() + found.unknown.len() <= MOST + 1);
    assert!(found.parameters.iter().all(|it| it.line > 0));
});
