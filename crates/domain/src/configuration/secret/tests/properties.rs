use proptest::prelude::*;

use super::*;

/// Pieces that the rules are about, so that a chance text meets them.
const PIECES: &[&str] = &[
    "password",
    "=",
    ": ",
    " ",
    "\n",
    "\"",
    "'",
    "secret",
    "-----BEGIN PRIVATE KEY-----",
    "-----END PRIVATE KEY-----",
    "MIIEvQIBADANBgkqhkiG9w0BAQ",
    "<redacted:password:0123456789abcdef>",
    "<redacted:",
    "#",
    "token",
    "user:pw@",
    "https://",
    "$6$abcdefgh$ijklmnopqrstuv",
    "ä",
    "\u{2028}",
    "\t",
    "\r\n",
    "|",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ";",
    "$X",
    "hunter2",
    "zX81-Spectrum-48k",
    "neighbor 1 password ",
    "AQBSdFhcGAAAABAAZtZ0y1vT2xYd0kS3xW0kXg==",
    "key",
    "${",
    ":-",
    "$ANSIBLE_VAULT;1.1\n",
    "6162",
    "Private-Lines: 2\n",
    "createUser ",
    "community",
    "passwords",
    "name: X_TOKEN\nvalue: ",
    "<password>",
    "</password>",
];

fn texts() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => prop::sample::select(PIECES).prop_map(str::to_owned),
        1 => "[ -~]{0,12}",
        1 => "\\PC{0,4}",
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

fn paths() -> impl Strategy<Value = &'static str> {
    prop::sample::select(
        &[
            "/etc/x",
            "/etc/shadow",
            "/home/a/.pgpass",
            "/home/a/.netrc",
            "/etc/ppp/chap-secrets",
            "/etc/redis/a",
        ][..],
    )
}

/// The text put together again from what was kept and what was taken.
fn restored(before: &str, after: &Redacted) -> String {
    let (mut text, mut at) = (String::new(), 0);
    for secret in &after.secrets {
        text.push_str(&after.text[at..secret.marker.start]);
        text.push_str(&before[secret.original.clone()]);
        at = secret.marker.end;
    }
    text + &after.text[at..]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn all_bytes_but_the_secrets_stay(path in paths(), before in texts()) {
        if let Redaction::Text(after) = redact(path, before.as_bytes(), &key()) {
            prop_assert_eq!(restored(&before, &after), before.clone());
            prop_assert!(after.secrets.is_sorted_by(|a, b| a.original.end <= b.original.start));
            for secret in &after.secrets {
                let line = before[..secret.original.start].matches('\n').count() + 1;
                prop_assert_eq!(secret.line, line);
            }
        }
    }

    #[test]
    fn doing_it_again_alters_nothing(path in paths(), before in texts()) {
        if let Redaction::Text(once) = redact(path, before.as_bytes(), &key()) {
            let Redaction::Text(twice) = redact(path, once.text.as_bytes(), &key()) else {
                panic!("withheld the second time");
            };
            prop_assert_eq!(&twice.text, &once.text);
            prop_assert!(twice.secrets.is_empty());
        }
    }

    #[test]
    fn an_assigned_password_never_leaves(
        before in texts(), after in texts(), password in "[A-Z][a-z]{3,8}[0-9]{3,6}[!.%&]{1,3}",
    ) {
        let file = format!("{before}\npassword = {password}\n{after}");
        if let Redaction::Text(redacted) = redact("/etc/x", file.as_bytes(), &key()) {
            let again = before.contains(&password) || after.contains(&password);
            prop_assert!(again || !redacted.text.contains(&password), "{}", redacted.text);
        }
    }

    #[test]
    fn any_bytes_are_read_or_withheld(path in paths(), bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = redact(path, &bytes, &key());
    }
}

/// A megabyte that is built against the rules: each of these once took more than a second, or might.
#[test]
fn time_is_bounded_by_size() {
    for piece in [
        "password=1 ",
        "password='",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\n",
        "Private-Lines: 99999999\n",
        "https://a:b",
        "createUser ",
        "SetCredential=a:b ",
        "<password>",
        "name: A_TOKEN\n",
        "key = AQ",
        "eyJaaaaaaaa.",
        "$ANSIBLE_VAULT;\n",
        "password: |\n  ",
        "<redacted:",
        "login=a:b ",
        "password = \\\n",
        "[",
        "#password=",
    ] {
        let text = piece.repeat(LARGEST / piece.len());
        // What comes out is told by other tests; that it comes out within the patience of this run is told here.
        let _ = redact("/etc/x", text.as_bytes(), &key());
    }
}
