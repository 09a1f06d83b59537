use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::configuration::mask::Masks;
use crate::order::PathPattern;

mod packs;

fn subject() -> Subject {
    Subject { class: Class::Vm, labels: BTreeMap::from([("tier".to_owned(), "web".to_owned())]) }
}

/// An item with files of root's, each with its mode or 0644.
fn item(files: &[(&str, &str)]) -> Arc<Observed> {
    let file = |(path, text): &(&str, &str)| {
        ((*path).to_owned(), ObservedFile::new(0o100_644, "root:root", text.as_bytes()))
    };
    Arc::new(Observed::new(subject(), files.iter().map(file)))
}

/// What an expression says: `true`, `false` or why nobody can tell.
fn said(expression: &str, item: &Arc<Observed>) -> String {
    match Expression::parse(expression).unwrap().of(item).answer {
        Ok(holds) => holds.to_string(),
        Err(because) => because,
    }
}

const SSHD: &str = "/etc/ssh/sshd_config";

#[test]
fn what_is_set_is_found_with_its_place() {
    let item = item(&[(SSHD, "Port 22\nPermitRootLogin no\nMatch User x\nPermitRootLogin yes\n")]);
    let rule = Expression::parse(r#"settings("sshd.PermitRootLogin").all(v, v == "no")"#).unwrap();

    let said = rule.of(&item);

    assert_eq!(said.answer, Ok(false));
    let told: Vec<_> = said.looked_at.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "/etc/ssh/sshd_config:2: sshd.PermitRootLogin=no",
            "/etc/ssh/sshd_config:4: sshd.PermitRootLogin=yes [User x]",
        ]
    );
}

#[test]
fn what_matters_decides_whether_something_unknown_does() {
    let blind = item(&[(SSHD, "UsePAM yes\nInclude /elsewhere/*\nPermitRootLogin no\n")]);

    let because = "/etc/ssh/sshd_config:3: another file may set `sshd.PermitRootLogin` otherwise";
    assert_eq!(said(r#"setting("sshd.PermitRootLogin") == "no""#, &blind), because);
    assert_eq!(said(r#"setting("sshd.PermitRootLogin") == "no" || true"#, &blind), "true");
    assert_eq!(said(r#"setting("sshd.PermitRootLogin") == "no" && false"#, &blind), "false");
    assert_eq!(said(r#"setting("sshd.UsePAM") == "yes""#, &blind), "true");
    // A default is none where a file may have said something else.
    let because = "/etc/ssh/sshd_config:2: files that it includes are not at hand";
    assert_eq!(said(r#"setting("sshd.X11Forwarding", "no") == "no""#, &blind), because);
}

#[test]
fn what_is_not_recorded_is_unknown() {
    let none = item(&[]);
    assert_eq!(said("present(\"/etc/passwd\")", &none), "nothing is recorded of it");
    let some = item(&[("/etc/motd", "hello\n")]);
    assert_eq!(said("present(\"/etc/passwd\")", &some), "false");
    assert_eq!(
        said("present(\"/srv/x\")", &some),
        "nothing is recorded of where `/srv/x` would be"
    );
    assert_eq!(
        said("setting(\"sshd.Port\", \"22\") == \"22\"", &some),
        "no file of `sshd` is recorded"
    );
    assert_eq!(
        said("lines(\"/etc/frr/frr.conf\", \"x\").size() == 0", &some),
        "no file `/etc/frr/frr.conf` is recorded"
    );
    let stale =
        Arc::new(Observed::new(subject(), some.files().clone()).stale("no report since then"));
    assert_eq!(said("present(\"/etc/motd\")", &stale), "no report since then");
}

#[test]
fn what_was_withheld_is_unknown() {
    let withheld = item(&[
        ("/etc/a.keytab", "<withheld:key_file:80:0123456789abcdef>\n"),
        ("/etc/b", "<unseen:permission denied>\n"),
        (SSHD, "<unseen:it altered while it was read>\n"),
        ("/etc/c", "<html>\n"),
    ]);
    let lines = |path: &str| said(&format!("lines(\"{path}\", \"x\").size() == 0"), &withheld);

    assert_eq!(lines("/etc/a.keytab"), "/etc/a.keytab: it is withheld (key_file)");
    assert_eq!(lines("/etc/b"), "/etc/b: it could not be seen (permission denied)");
    assert_eq!(lines("/etc/c"), "true");
    assert_eq!(
        said("setting(\"sshd.Port\", \"22\") == \"22\"", &withheld),
        "/etc/ssh/sshd_config:1: it could not be seen (it altered while it was read)"
    );
}

#[test]
fn links_lead_to_files() {
    let mut files = item(&[("/etc/nginx/sites-available/a", "server { server_tokens off; }\n")])
        .files()
        .clone();
    let link = |target: &str| ObservedFile::new(0o120_777, "root:root", target.as_bytes());
    files.insert("/etc/nginx/sites-enabled/a".to_owned(), link("../sites-available/a"));
    files.insert("/etc/loop".to_owned(), link("/etc/loop"));
    files.insert("/etc/out".to_owned(), link("/srv/x"));
    let item = Arc::new(Observed::new(subject(), files));

    assert_eq!(said("present(\"/etc/nginx/sites-enabled/a\")", &item), "true");
    assert_eq!(said("present(\"/etc/loop\")", &item), "`/etc/loop` leads through too many links");
    assert_eq!(
        said("present(\"/etc/out\")", &item),
        "nothing is recorded of where `/srv/x` would be"
    );
    assert_eq!(said("settings(\"nginx.*server_tokens\").size() == 1", &item), "true");
}

#[test]
fn sysctl_files_count_in_the_order_of_their_names() {
    let order = |files: &[(&str, &str)]| said("number(\"sysctl.a.b\") == 2", &item(files));
    assert_eq!(
        order(&[("/etc/sysctl.d/10-a.conf", "a.b=1\n"), ("/etc/sysctl.d/20-a.conf", "a.b=2\n")]),
        "true"
    );
    assert_eq!(
        order(&[("/etc/sysctl.d/10-a.conf", "a.b=2\n"), ("/etc/sysctl.d/20-a.conf", "a.b=1\n")]),
        "false"
    );
    // Whether that file is read last depends on what reads it.
    let unsure = order(&[("/etc/sysctl.d/10-a.conf", "a.b=1\n"), ("/etc/sysctl.conf", "a.b=2\n")]);
    assert_eq!(unsure, "/etc/sysctl.conf:1: another file may set `sysctl.a.b` otherwise");
    assert_eq!(
        order(&[("/etc/sysctl.d/10-a.conf", "a.b=2\n"), ("/etc/sysctl.conf", "a.b=2\n")]),
        "true"
    );

    let mut files =
        item(&[("/etc/sysctl.conf", "a.b=2\n"), ("/etc/sysctl.d/10-a.conf", "a.b=1\n")])
            .files()
            .clone();
    let link = ObservedFile::new(0o120_777, "root:root", b"../sysctl.conf");
    files.insert("/etc/sysctl.d/99-sysctl.conf".to_owned(), link);
    let linked = Arc::new(Observed::new(subject(), files));
    assert_eq!(said("number(\"sysctl.a.b\") == 2", &linked), "true");
}

#[test]
fn each_cluster_of_postgresql_counts() {
    let one = "/etc/postgresql/15/main/postgresql.conf";
    let other = "/etc/postgresql/17/main/postgresql.conf";
    let ssl = "settings(\"postgresql.ssl\", \"off\").all(v, v == \"on\")";

    assert_eq!(said(ssl, &item(&[(one, "ssl = on\n"), (other, "ssl = on\n")])), "true");
    assert_eq!(said(ssl, &item(&[(one, "ssl = on\n"), (other, "port = 1\n")])), "false");
}

#[test]
fn expressions_say_only_what_they_may() {
    let refused = |text: &str| Expression::parse(text).unwrap_err().to_string();
    assert_eq!(refused("foo"), "an expression may not say `foo`");
    assert_eq!(refused("[1].map(x, x)[0] == 1"), "an expression may not say `_+_`");
    assert_eq!(refused("'a' + 'b' == 'ab'"), "an expression may not say `_+_`");
    assert_eq!(
        refused("[1].all(x, [2].all(y, x == y))"),
        "an expression may not say `all` or `exists` within another"
    );
    assert_eq!(
        refused("lines(\"/etc/a\", item.class).size() == 0"),
        "an expression may not say `lines` with a pattern that is not written out"
    );
    assert_eq!(refused("setting() == ''"), "an expression may not say `setting` with 0 arguments");
    assert_eq!(refused("{1: 2}[1] == 2"), "an expression may not say maps or types");
    assert!(
        refused("like('a', '(a{1000}){1000}')")
            .starts_with("the pattern `(a{1000}){1000}` cannot be used")
    );
    assert!(
        refused("lines('etc', 'a').size() == 0").starts_with("the pattern `etc` cannot be used")
    );
    assert_eq!(refused(&"(".repeat(30)), "the expression is nested too deeply");
    assert_eq!(refused(&"a".repeat(3000)), "the expression has 3000 bytes, more than 2000");
    assert!(refused("1 +").starts_with("the expression cannot be read"));
    assert_eq!(said("1", &item(&[("/etc/a", "")])), "the rule does not say whether it holds");
    assert_eq!(
        said("item.class == 'vm' && item.labels['tier'] == 'web'", &item(&[("/etc/a", "")])),
        "true"
    );
    assert_eq!(said("item.labels['none'] == 'web'", &item(&[("/etc/a", "")])), "No such key: none");
}

/// Whatever is nested as deeply as it may be is read and asked with the stack that workers have.
#[test]
fn the_deepest_expressions_need_no_more_stack_than_there_is() {
    let nested = [
        format!("{}true{}", "(".repeat(DEEP), ")".repeat(DEEP)),
        format!("{}true", "!".repeat(1990)),
        format!("{}1 == 1", "-".repeat(1990)),
        format!("{}true", "true || ".repeat(240)),
        format!("{}true", "true && ".repeat(240)),
        format!("{}true", "true == ".repeat(240)),
        format!("{}true", "true ? false : ".repeat(130)),
        format!("{}1{} == 1", "[".repeat(DEEP), "]".repeat(DEEP)),
        format!("item{} == 1", ".a".repeat(990)),
        format!("item{} == 1", "[0]".repeat(600)),
        format!("{}'a'{} == 'a'", "lower(".repeat(DEEP), ")".repeat(DEEP)),
        format!("{}1 == 1", "1 in ".repeat(390)),
    ];
    let work = move || {
        let item = item(&[("/etc/a", "")]);
        for text in nested {
            if let Ok(read) = Expression::parse(&text) {
                let _ = read.of(&item).answer;
            }
        }
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(work).unwrap().join().unwrap();
}
const DEEP: usize = 24;

#[test]
fn a_rule_that_looks_through_too_much_says_so() {
    let long = "x\n".repeat(2_001);
    let item = item(&[("/etc/a", long.as_str())]);
    assert_eq!(said("lines('/etc/a', 'x').size() > 0", &item), "/etc/a:2001: too much for a rule");
}

#[test]
fn a_baseline_is_read_whole_or_not_at_all() {
    let rule = |id: &str, check: &str| {
        format!(
            "[[rule]]\nid = \"{id}\"\ntitle = \"t\"\nseverity = \"low\"\nwhy = \"w\"\nsource = \"s\"\nexpected = \"e\"\ncheck = 'true{check}'\n"
        )
    };
    let head = "id = \"own\"\nversion = \"1\"\ntitle = \"Ours\"\n";
    let read = |rest: &str| Baseline::parse(&format!("{head}{rest}"));
    let error = |rest: &str| read(rest).unwrap_err().to_string();

    assert_eq!(read(&rule("a", "")).unwrap().rules.len(), 1);
    assert_eq!(error(""), "the baseline has 0 rules; it may have 1 to 500");
    assert_eq!(error(&(rule("a", "") + &rule("a", ""))), "line 13: two rules are called `a`");
    assert_eq!(
        error(&rule("A", "")),
        "line 5: `A` is no name: lower-case letters, digits and `-`, at most 64 of them"
    );
    assert_eq!(error(&rule("a", " && x")), "line 11, `a`: an expression may not say `x`");
    assert!(error("more = 1\n").starts_with("line 4: unknown field `more`"));
}

#[test]
fn golden_files_are_held_against_an_items_own() {
    let pattern = |text: &str| PathPattern::try_from(text.to_owned()).unwrap();
    let good = item(&[
        ("/etc/a", "one\ntwo\nthree\n"),
        ("/etc/b", "password = <redacted:password:0000000000000000>\n"),
        ("/etc/c", "c\n"),
        ("/etc/d", "<withheld:binary:3:0123456789abcdef>\n"),
        ("/srv/other", "x\n"),
    ]);
    let golden = Golden::of(&good, vec![pattern("/etc/*")]);
    let mut files = item(&[
        ("/etc/a", "one\n2\nthree\n"),
        ("/etc/b", "password = <redacted:password:1111111111111111>\n"),
        ("/etc/d", "<withheld:binary:3:1123456789abcdef>\n"),
        ("/etc/e", "e\n"),
    ])
    .files()
    .clone();
    files.get_mut("/etc/b").unwrap().mode = 0o100_600;
    let other = Observed::new(subject(), files);

    let told: Vec<_> = golden
        .judge(&other, Masks::built_in())
        .into_iter()
        .flat_map(|it| {
            let outcome = it.outcome;
            it.evidence.into_iter().map(move |it| format!("{outcome} {it}"))
        })
        .collect();

    assert_eq!(
        told,
        [
            "fail /etc/a:2: -two",
            "fail /etc/a:2: +2",
            "fail /etc/b: mode 0600, and should be 0644",
            "fail /etc/c: it is not there",
            "unknown /etc/d: it is withheld (binary)",
            "fail /etc/e: it should not be there",
        ]
    );
    let same = golden.judge(&good, Masks::built_in());
    let outcomes: Vec<_> = same.iter().map(|it| it.outcome).collect();
    assert_eq!(outcomes, [Outcome::Pass, Outcome::Pass, Outcome::Pass, Outcome::Unknown]);
}

#[test]
fn of_a_file_that_was_written_its_content_alone_counts() {
    let written = item(&[("/etc/motd", "hello\n")]);
    let file = |content| GoldenFile { mode: None, owner: None, content };
    let content = written.files()["/etc/motd"].content.clone();
    let lost = Content::Kept { because: "it is kept no longer".to_owned() };
    let files = [("/etc/gone".to_owned(), file(lost)), ("/etc/motd".to_owned(), file(content))];
    let golden = Golden { patterns: Vec::new(), files: files.into() };
    let came = |files: BTreeMap<String, ObservedFile>| {
        let results = golden.judge(&Observed::new(subject(), files), Masks::built_in());
        results.into_iter().map(|it| (it.path, it.outcome)).collect::<Vec<_>>()
    };
    let of = |gone, motd| vec![("/etc/gone".to_owned(), gone), ("/etc/motd".to_owned(), motd)];

    let mut files = item(&[("/etc/gone", "x\n"), ("/etc/motd", "hello\n"), ("/etc/more", "x\n")])
        .files()
        .clone();
    files.get_mut("/etc/motd").unwrap().mode = 0o100_600;
    files.get_mut("/etc/motd").unwrap().owner = "nobody:nobody".to_owned();
    assert_eq!(came(files.clone()), of(Outcome::Unknown, Outcome::Pass));
    files.remove("/etc/gone");
    files.get_mut("/etc/motd").unwrap().content = Content::Text("go away\n".to_owned());
    assert_eq!(came(files.clone()), of(Outcome::Fail, Outcome::Fail));
    files.insert("/etc/motd".to_owned(), ObservedFile::erased());
    assert_eq!(came(files), of(Outcome::Fail, Outcome::Unknown));
}

proptest! {
    /// No text makes a reader of rules fall over, and what is read answers.
    #[test]
    fn any_text_is_an_expression_or_none(
        pieces in prop::collection::vec(
            prop_oneof![
                prop::sample::select(&[
                    "setting(", "settings(\"sshd.*\")", "lines(\"/etc/*\", \"a\")", ".all(x, ", ".exists(x, ", ")", "(", "\"a\"", "'", "&&", "||",
                    "!", "==", "in", "[", "]", "{", "}", "?", ":", "item", ".class", "x", "1", "-", "+", "9223372036854775807", "1e999", "b'\\xff'",
                    "r\"", "\"\"\"", "\\u0000", "has(item.labels.a)", "size(", "int(", "true", "null", " ", "\n", "//",
                ][..]).prop_map(str::to_owned),
                "\\PC{0,4}",
            ],
            0..30,
        ),
    ) {
        if let Ok(read) = Expression::parse(&pieces.concat()) {
            let item = item(&[(SSHD, "PermitRootLogin no\n"), ("/etc/a", "a\nb\n")]);
            let first = read.of(&item);
            let again = read.of(&item);
            prop_assert_eq!(first.answer, again.answer);
            prop_assert_eq!(first.looked_at, again.looked_at);
        }
    }

    /// Nothing passes of an item of which nothing can be believed.
    #[test]
    fn nothing_unbelievable_passes(text in "(PermitRootLogin (yes|no)\n|UsePAM yes\n|Match all\n){0,5}") {
        let files = item(&[(SSHD, text.as_str())]).files().clone();
        let stale = Arc::new(Observed::new(subject(), files).stale("long ago"));
        for baseline in Baseline::built_in() {
            for result in baseline.judge(&stale) {
                prop_assert_eq!(result.outcome, Outcome::Unknown, "{}", result.rule);
            }
        }
    }
}

#[test]
fn what_is_wrong_in_a_file_is_told_with_its_line() {
    const GOOD: &str = "id = \"ours\"\nversion = \"2026-12\"\ntitle = \"Ours\"\n\n[[rule]]\nid = \"motd\"\ntitle = \"t\"\n\
        severity = \"low\"\nwhy = \"w\"\nsource = \"s\"\nexpected = \"e\"\ncheck = 'present(\"/etc/motd\")'\n";
    let wrong = |from: &str, to: &str| {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD);
        Baseline::parse(&text).unwrap_err().to_string()
    };
    Baseline::parse(GOOD).unwrap();
    assert!(wrong("severity = \"low\"", "severity = \"awful\"").starts_with("line 8: "));
    assert!(wrong("why", "wy").starts_with("line 9: "), "{}", wrong("why", "wy"));
    assert!(wrong("= \"Ours\"", "= Ours").starts_with("line 3: "));
    assert!(wrong("id = \"ours\"", "id = \"Ours\"").starts_with("line 1: `Ours` is no name"));
    assert!(wrong("2026-12", "a b").starts_with("line 2: `a b` is no version"));
    let because = wrong("present(\"/etc/motd\")", "1 + 1");
    assert!(because.starts_with("line 12, `motd`: "), "{because}");
    let rule = GOOD.split_once("[[rule]]").unwrap().1;
    let twice = Baseline::parse(&format!("{GOOD}[[rule]]{rule}")).unwrap_err().to_string();
    assert_eq!(twice, "line 14: two rules are called `motd`");
}
