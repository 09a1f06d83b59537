//! Any text as a configuration file: all bytes but the secrets stay, and doing it again alters nothing.
#![no_main]

use domain::configuration::secret::{FingerprintKey, Redaction, redact};
use libfuzzer_sys::fuzz_target;

const PATHS: [&str; 6] = [
    "/etc/x",
    "/etc/shadow",
    "/home/a/.pgpass",
    "/home/a/.netrc",
    "/etc/ppp/chap-secrets",
    "/etc/redis/redis.conf",
];

fuzz_target!(|data: (u8, &str)| {
    let (which, before) = data;
    let path = PATHS[usize::from(which) % PATHS.len()];
    let key = FingerprintKey::from([1; 32]);
    let Redaction::Text(once) = redact(path, before.as_bytes(), &key) else { return };
    let (mut restored, mut at) = (String::new(), 0);
    for secret in &once.secrets {
        restored.push_str(&once.text[at..secret.marker.start]);
        restored.push_str(&before[secret.original.clone()]);
        at = secret.marker.end;
    }
    assert_eq!(restored + &once.text[at..], before);
    let Redaction::Text(twice) = redact(path, once.text.as_bytes(), &key) else {
        panic!("withheld the second time");
    };
    assert_eq!(twice.text, once.text);
});
