use super::*;

mod planted;
mod properties;

fn key() -> FingerprintKey {
    FingerprintKey::from([7; 32])
}

fn redacted(path: &str, text: &str) -> Redacted {
    match redact(path, text.as_bytes(), &key()) {
        Redaction::Text(redacted) => redacted,
        Redaction::Withheld { because, .. } => panic!("{path} is withheld: {because}"),
    }
}

/// The text with markers that say the kind alone.
fn shown(path: &str, text: &str) -> String {
    let Redacted { text, secrets } = redacted(path, text);
    let mut shown = text;
    for secret in secrets.iter().rev() {
        shown.replace_range(secret.marker.clone(), &format!("‹{}›", secret.kind));
    }
    shown
}

#[test]
fn a_secret_gives_way_to_its_kind_and_all_else_stays() {
    let before = "[db]\nuser = app\npassword = Tr0ub4dor&3\n\n# the end\r\n";

    let after = redacted("/etc/app.ini", before);

    let [secret] = after.secrets.as_slice() else { panic!("{:?}", after.secrets) };
    assert_eq!(&before[secret.original.clone()], "Tr0ub4dor&3");
    assert_eq!((secret.kind, secret.line), (SecretKind::Password, 3));
    let marker = format!("<redacted:password:{}>", secret.fingerprint);
    assert_eq!(after.text, format!("[db]\nuser = app\npassword = {marker}\n\n# the end\r\n"));
    assert_eq!(&after.text[secret.marker.clone()], marker);
}

#[test]
fn another_password_shows_and_the_same_does_not() {
    let at = |path, password: &str| redacted(path, &format!("password={password}\n")).text;

    assert_eq!(at("/etc/a", "one-of-them"), at("/etc/a", "one-of-them"));
    assert_ne!(at("/etc/a", "one-of-them"), at("/etc/a", "another"));
    assert_ne!(at("/etc/a", "one-of-them"), at("/etc/b", "one-of-them"));
}

#[test]
fn values_end_where_their_file_says() {
    for (before, after) in [
        ("password = two words # and more\n", "password = ‹password›\n"),
        ("password=\"with \\\" in it\" # why\n", "password=\"‹password›\" # why\n"),
        ("export DB_PASSWORD='s3cr et'\n", "export DB_PASSWORD='‹password›'\n"),
        (
            "{\"password\": \"abc\", \"user\": \"u\"}",
            "{\"password\": \"‹password›\", \"user\": \"u\"}",
        ),
        ("db: {password: abc, user: u}\n", "db: {password: ‹password›, user: u}\n"),
        ("host=a password=abc dbname=b\n", "host=a password=‹password› dbname=b\n"),
        ("password: |\n  line one\n  line two\nuser: u\n", "password: |\n  ‹password›\nuser: u\n"),
        ("password = abc\\\n  def\nuser = u\n", "password = ‹password›\nuser = u\n"),
        ("  - password: 'it''s'\n", "  - password: ‹password›\n"),
        ("password = \"\"\"abc\ndef\"\"\"\n", "password = \"\"\"‹password›\"\"\"\n"),
        ("x=${DB_PASSWORD:-hunter2}\n", "x=${DB_PASSWORD:-‹password›}\n"),
        ("passwords = [\"a1\", \"b2\"]\n", "passwords = [‹password›]\n"),
        ("api_keys = 5\napi_key = [\"a1\", \"b2\"]\n", "api_keys = 5\napi_key = [‹secret›]\n"),
        ("#password = hunter2\n", "#password = ‹password›\n"),
        ("'password' => 'geheim',\n", "'password' => '‹password›',\n"),
        ("password='ä ö ü'\n", "password='‹password›'\n"),
        ("pass = ünïcode\n", "pass = ‹password›\n"),
    ] {
        assert_eq!(shown("/etc/x", before), after);
    }
}

#[test]
fn what_only_stands_in_a_secrets_place_stays() {
    for text in [
        "password =\n",
        "password = \"\"\n",
        "password: ${DB_PASSWORD}\n",
        "password: $DB_PASSWORD\n",
        "password = {{ vault.password }}\n",
        "password = <your password>\n",
        "password = ********\n",
        "password_file = /etc/app/password\n",
        "password = /run/secrets/db\n",
        "PasswordAuthentication yes\n",
        "PermitEmptyPasswords no\n",
        "password_encryption = scram-sha-256\n",
        "passwd:         files systemd\n",
        "password\t[success=1 default=ignore]\tpam_unix.so obscure use_authtok try_first_pass yescrypt\n",
        "password requisite pam_pwquality.so retry=3\n",
        "# The password: it is asked for when the program starts.\n",
        "# password = password\n",
        "if [ \"$password\" == \"x\" ]; then\n",
        "rocommunity  public default -V systemonly\n",
        "ssl_certificate_key /etc/ssl/private/ssl-cert-snakeoil.key;\n",
        "http://archive.example.org/debian\n",
        "git@github.com:example/example.git\n",
        "# see -----BEGIN PRIVATE KEY----- for how keys begin\n",
        "host all all 127.0.0.1/32 scram-sha-256\n",
        "tokens: {\n",
    ] {
        assert_eq!(shown("/etc/x", text), text);
    }
}

#[test]
fn a_variable_is_none_where_nothing_puts_a_value_for_it() {
    let line = "token=$1\n";

    assert_eq!(shown("/etc/init.d/x", &format!("#!/bin/sh\n{line}")), format!("#!/bin/sh\n{line}"));
    assert_eq!(shown("/etc/x.ini", line), "token=‹api-token›\n");
}

#[test]
fn what_was_found_once_is_taken_out_everywhere() {
    let text = "# rotated from zX81-Spectrum-48k\npassword = zX81-Spectrum-48k\ncmd -z zX81-Spectrum-48k\n";

    let after = shown("/etc/x", text);

    assert_eq!(after, "# rotated from ‹password›\npassword = ‹password›\ncmd -z ‹password›\n");
}

#[test]
fn of_what_cannot_be_read_nothing_leaves() {
    let because = |path: &str, bytes: &[u8]| match redact(path, bytes, &key()) {
        Redaction::Text(redacted) => panic!("{}", redacted.text),
        Redaction::Withheld { because, size, .. } => {
            assert_eq!(size, bytes.len() as u64);
            because
        }
    };

    assert_eq!(because("/etc/x", b"\x05\x02\0\0\0"), Withheld::Binary);
    assert_eq!(because("/etc/x", b"caf\xe9 = 1\n"), Withheld::Undecodable);
    assert_eq!(because("/etc/x", &vec![b'a'; LARGEST + 1]), Withheld::TooLarge);
    assert_eq!(because("/etc/krb5.keytab", b"text"), Withheld::KeyFile);
    assert_eq!(because("/var/lib/rabbitmq/.erlang.cookie", b"ABCDEFGH"), Withheld::KeyFile);
    let many: Vec<_> =
        (0..=MOST_SECRETS).map(|number| format!("password=p{number:05}\n")).collect();
    let many = many.concat();
    assert_eq!(because("/etc/x", many.as_bytes()), Withheld::TooManySecrets);
}

#[test]
fn a_marker_is_no_secret_and_what_looks_like_one_is() {
    let marker = "password = <redacted:password:0123456789abcdef>\n";
    assert_eq!(shown("/etc/x", marker), marker);

    for not_quite in [
        "password = <redacted:password:0123456789abcdeg>\n",
        "password = <redacted:nothing:0123456789abcdef>\n",
        "password = <redacted:password:0123456789abcdef>x\n",
    ] {
        assert_eq!(shown("/etc/x", not_quite), "password = ‹password›\n");
    }
}

#[test]
fn rules_for_a_file_hold_for_that_file() {
    let line =
        "root:$y$j9T$abcdefghij$klmnopqrstuvwxyz0123456789ABCDEFGHIJKLM:19000:0:99999:7:::\n";
    assert_eq!(shown("/etc/shadow", line), "root:‹password-hash›:19000:0:99999:7:::\n");
    assert_eq!(
        shown("/etc/shadow", "daemon:*:19000:0:99999:7:::\n"),
        "daemon:*:19000:0:99999:7:::\n"
    );
    assert_eq!(shown("/etc/shadow", "bin:abJnggxhB/yWI:1:::::\n"), "bin:‹password-hash›:1:::::\n");
    assert_eq!(
        shown("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
        "root:x:0:0:root:/root:/bin/sh\n"
    );
    let pgpass = "#host:port:db:user:password\nlocal\\:1:5432:*:app:se:cret\n";
    assert_eq!(
        shown("/home/a/.pgpass", pgpass),
        "#host:port:db:user:password\nlocal\\:1:5432:*:app:‹password›\n"
    );
}
