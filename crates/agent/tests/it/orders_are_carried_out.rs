//! An order ends with exactly its packages, or with what was there before.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};

use agent::orders::Answer;
use domain::change::Action;
use domain::order::{ActionOutcome, Ended, Forbidden, OrderResult, Refusal};
use jiff::Timestamp;

use crate::support::{Deb, Host, Running, Told, runs_as_root, upgrade, write};

fn ended(answer: Answer) -> OrderResult {
    match answer {
        Answer::Ended(result) => *result,
        other => panic!("{other:?}"),
    }
}

/// A library and a program that needs exactly its version and has a configuration file.
fn tool(version: &str) -> [Deb; 2] {
    let library = Deb::new("tool-lib", version);
    let mut program = Deb::new("tool", version);
    program.depends = format!("tool-lib (= {version})");
    program.files.push(("/etc/tool.conf".to_owned(), format!("version = {version}\n")));
    program.files.push(("/etc/tool-plain.conf".to_owned(), format!("plain = {version}\n")));
    [library, program]
}

fn host(name: &str) -> Host {
    let host = Host::new(name);
    let old: Vec<_> = tool("1.0-1").iter().map(|deb| host.offer(deb)).collect();
    host.install(&old);
    host.write("/etc/tool.conf", "the owner's own\n");
    host
}

#[test]
fn an_order_installs_exactly_its_packages() {
    if !runs_as_root("orders_are_carried_out::an_order_installs_exactly_its_packages") {
        return;
    }
    let host = host("exactly");
    let mut new: Vec<_> = tool("1.0-2").iter().map(|deb| host.offer(deb)).collect();
    new.push(host.offer(&Deb::new("tool-extra", "1.0-2")));
    let told = Told::to(vec![upgrade(&new)], 1);

    let result = ended(host.take(&told.bundle()));

    assert_eq!(result.ended, Ended::Done);
    assert_eq!(result.actions, [ActionOutcome::Done]);
    assert_eq!(result.packages.len(), 3);
    for name in ["tool", "tool-lib", "tool-extra"] {
        assert_eq!(host.version(name), "1.0-2", "{name}");
    }
    assert_eq!(host.read("/etc/tool.conf"), "the owner's own\n");
    assert_eq!(host.read("/etc/tool-plain.conf"), "plain = 1.0-2\n");
    assert_eq!(host.in_root(&["dpkg", "--audit"]), "");
    assert_eq!(host.state().results().unwrap(), [result]);
    assert!(!host.state().directory().join("orders/journal").exists());

    // Again, whichever way.
    assert!(matches!(host.refusal(&told.bundle()), Refusal::Replayed { .. }));
    let mut again = told;
    again.order.sequence = 2;
    again.order.nonce = [9; 16].into();
    assert_eq!(host.refusal(&again.bundle()), Refusal::Done { stage: 1 });
}

#[test]
fn what_fails_ends_as_it_was() {
    if !runs_as_root("orders_are_carried_out::what_fails_ends_as_it_was") {
        return;
    }
    let host = host("fails");
    let [library, mut program] = tool("1.0-2");
    program.postinst = "echo it breaks; exit 1".to_owned();
    let extra = Deb::new("tool-extra", "1.0-2");
    let new: Vec<_> = [library, program, extra].iter().map(|deb| host.offer(deb)).collect();

    let result = ended(host.take(&Told::to(vec![upgrade(&new)], 1).bundle()));

    let Ended::RolledBack { because } = &result.ended else { panic!("{:?}", result.ended) };
    assert!(because.contains("it breaks"), "{because}");
    assert_eq!(result.actions, [ActionOutcome::Failed]);
    assert_eq!(host.version("tool"), "1.0-1");
    assert_eq!(host.version("tool-lib"), "1.0-1");
    assert_eq!(host.version("tool-extra"), "");
    assert_eq!(host.read("/etc/tool.conf"), "the owner's own\n");
    assert_eq!(host.read("/etc/tool-plain.conf"), "plain = 1.0-1\n");
    assert_eq!(host.read("/usr/lib/tool/version"), "1.0-1");
    assert_eq!(host.in_root(&["dpkg", "--audit"]), "");
    assert!(!host.root.join("etc/tool.conf.dpkg-dist").exists());

    // What the owner altered is still known to be so: a good update keeps it, and takes the rest.
    let good: Vec<_> = tool("1.0-3").iter().map(|deb| host.offer(deb)).collect();
    let result = ended(host.take(&Told::to(vec![upgrade(&good)], 2).bundle()));
    assert_eq!(result.ended, Ended::Done);
    assert_eq!(host.read("/etc/tool.conf"), "the owner's own\n");
    assert_eq!(host.read("/etc/tool-plain.conf"), "plain = 1.0-3\n");
}

/// A package that dpkg can neither unpack nor put back: it is half installed, in its old version.
#[test]
fn what_is_left_half_installed_ends_as_it_was() {
    if !runs_as_root("orders_are_carried_out::what_is_left_half_installed_ends_as_it_was") {
        return;
    }
    let host = host("half");
    let [library, mut program] = tool("1.0-2");
    program.scripts = vec![("preinst", "exit 1"), ("postrm", "exit 1")];
    let new: Vec<_> = [library, program].iter().map(|deb| host.offer(deb)).collect();

    let result = ended(host.take(&Told::to(vec![upgrade(&new)], 1).bundle()));

    assert!(matches!(result.ended, Ended::RolledBack { .. }), "{:?}", result.ended);
    for name in ["tool", "tool-lib"] {
        assert_eq!(host.version(name), "1.0-1", "{name}");
    }
    assert_eq!(host.read("/etc/tool.conf"), "the owner's own\n");
    assert_eq!(host.in_root(&["dpkg", "--audit"]), "");
}

/// A package whose script takes its own way back away.
#[test]
fn where_the_way_back_fails_what_is_left_of_it_is_kept() {
    if !runs_as_root("orders_are_carried_out::where_the_way_back_fails_what_is_left_of_it_is_kept")
    {
        return;
    }
    let host = host("stuck");
    let [library, mut program] = tool("1.0-2");
    program.postinst = "rm /var/lib/patchwright-agent/orders/back/tool-lib*; exit 1".to_owned();
    let new: Vec<_> = [library, program].iter().map(|deb| host.offer(deb)).collect();

    let result = ended(host.take(&Told::to(vec![upgrade(&new)], 1).bundle()));

    let Ended::Stuck { because } = &result.ended else { panic!("{:?}", result.ended) };
    assert!(because.contains("the way back failed"), "{because}");
    let orders = host.state().directory().join("orders");
    assert!(!orders.join("journal").exists(), "the agent is not held up by it");
    let aside = orders.join(format!("stuck-{}", result.execution));
    assert!(aside.join("journal").exists());
    let kept = fs::read_dir(aside.join("back")).unwrap();
    let kept: Vec<_> = kept.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    assert!(kept.iter().any(|name| name.starts_with("tool_")), "{kept:?}");
    assert!(kept.iter().any(|name| name == "settings.json"), "{kept:?}");
}

#[test]
fn what_cannot_be_done_is_refused_before_anything_is_altered() {
    if !runs_as_root(
        "orders_are_carried_out::what_cannot_be_done_is_refused_before_anything_is_altered",
    ) {
        return;
    }
    let host = host("refused");
    let new: Vec<_> = tool("1.0-2").iter().map(|deb| host.offer(deb)).collect();
    let mut sequence = 0;
    let mut refused = |actions: Vec<Action>| {
        sequence += 1;
        let refusal = host.refusal(&Told::to(actions, sequence).bundle());
        assert_eq!(host.version("tool"), "1.0-1", "{refusal}");
        refusal
    };

    // A package with the right name and version that no archive lists.
    let mut forged = new.clone();
    forged[1].sha256 = [7; 32].into();
    assert!(matches!(refused(vec![upgrade(&forged)]), Refusal::NotVouched { .. }));

    // The file is not what the archive lists: somebody put another one in its place.
    let other = host.debs.join("tool_1.0-2_amd64.deb");
    let genuine = fs::read(&other).unwrap();
    fs::copy(host.debs.join("tool_1.0-1_amd64.deb"), &other).unwrap();
    assert!(matches!(refused(vec![upgrade(&new)]), Refusal::NotFetched { .. }));
    fs::write(&other, genuine).unwrap();

    // There is no room.
    host.write("/etc/patchwright/policy.toml", "keep_free_mib = 1000000000\n");
    let refusal = refused(vec![upgrade(&new)]);
    assert!(matches!(refusal, Refusal::NoSpace { .. }), "{refusal}");

    // The owner's file says no, or cannot be read.
    host.write("/etc/patchwright/policy.toml", "[packages]\nforbid = [\"tool\"]\n");
    let package = "tool".to_owned();
    let forbidden = Refusal::Forbidden(Forbidden::Package { package: package.clone() });
    assert_eq!(refused(vec![upgrade(&new)]), forbidden);
    host.write("/etc/patchwright/policy.toml", "pakages = 1\n");
    assert!(matches!(refused(vec![upgrade(&new)]), Refusal::Policy { .. }));
    host.write("/etc/patchwright/policy.toml", "");

    // The owner holds a package.
    host.in_root(&["apt-mark", "hold", "tool"]);
    let held = Refusal::Forbidden(Forbidden::Held { package });
    assert_eq!(refused(vec![upgrade(&new)]), held);
    host.in_root(&["apt-mark", "unhold", "tool"]);

    // What the owner does not declare, or not so that it can be read.
    let probe = || Action::Probe { probe: "http".to_owned() };
    let refusal = refused(vec![upgrade(&new), probe()]);
    assert_eq!(refusal, Refusal::NoProbe { probe: "http".to_owned() });
    host.write("/etc/patchwright/probes.toml", "[[probe]]\ncommand = { argv = [\"sh\"] }\n");
    assert!(matches!(refused(vec![upgrade(&new), probe()]), Refusal::Probes { .. }));
    fs::remove_file(host.root.join("etc/patchwright/probes.toml")).unwrap();

    // dpkg is in the middle of something.
    let mut broken = Deb::new("broken", "1.0-1");
    broken.postinst = "exit 1".to_owned();
    host.offer(&broken);
    let half = "dpkg --install /var/tmp/debs/broken_1.0-1_amd64.deb || true";
    host.in_root(&["sh", "-c", half]);
    assert!(matches!(refused(vec![upgrade(&new)]), Refusal::NotInOrder { .. }));
}

/// What the owner of a host declares: a port that is open, and a program that fails.
fn declare(host: &Host, port: u16) {
    let text = format!(
        "[[probe]]\nname = \"open\"\ntcp = {{ port = {port} }}\nwithin_seconds = 5\n\
         [[probe]]\nname = \"fails\"\ncommand = {{ argv = [\"/bin/false\"] }}\nwithin_seconds = 0\n"
    );
    host.write("/etc/patchwright/probes.toml", &text);
}

fn probe(name: &str) -> Action {
    Action::Probe { probe: name.to_owned() }
}

/// A file that a package brought and the owner altered, one that nobody owns, and one that is not there.
fn files(after: &str) -> (Vec<Action>, [String; 3]) {
    let contents = ["tool", "plain", "new"].map(|name| format!("{name} {after}\n"));
    let actions = vec![
        write("/etc/tool.conf", Some("the owner's own\n"), &contents[0]),
        write("/etc/nobodys.conf", Some("nobody's\n"), &contents[1]),
        write("/etc/tool.d.conf", None, &contents[2]),
    ];
    (actions, contents)
}

#[test]
fn files_are_written_and_probes_are_tried() {
    if !runs_as_root("orders_are_carried_out::files_are_written_and_probes_are_tried") {
        return;
    }
    let host = host("files");
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    declare(&host, listener.local_addr().unwrap().port());
    host.write("/etc/nobodys.conf", "nobody's\n");
    let nobodys = host.root.join("etc/nobodys.conf");
    fs::set_permissions(&nobodys, fs::Permissions::from_mode(0o640)).unwrap();
    chown(&nobodys, Some(1), Some(2)).unwrap();
    let new: Vec<_> = tool("1.0-2").iter().map(|deb| host.offer(deb)).collect();
    let take = |sequence: u64, files: (Vec<Action>, [String; 3]), last: &str| {
        let (actions, contents) = files;
        let actions = [vec![upgrade(&new)], actions, vec![probe(last)]].concat();
        let told = Told::to(actions, sequence);
        let bundle = told.bundle_with(&contents.each_ref().map(String::as_bytes));
        let answer = host.at_desk_of(&host.pool, &Running, &Timestamp::now, |desk| {
            desk.take(&crate::support::handed(&bundle)).unwrap()
        });
        ended(answer)
    };
    let paths = ["/etc/tool.conf", "/etc/nobodys.conf", "/etc/tool.d.conf"];
    let whose = || {
        let data = nobodys.metadata().unwrap();
        (data.mode() & 0o7777, data.uid(), data.gid())
    };

    // All of it goes back with what fails last.
    let result = take(1, files("tried"), "fails");
    let Ended::RolledBack { because } = &result.ended else { panic!("{:?}", result.ended) };
    assert!(because.contains("the probe `fails` failed: ended with 1"), "{because}");
    assert_eq!(result.probes.len(), 1);
    assert!(result.probes[0].failure.is_some());
    assert_eq!(paths.map(|path| host.read(path)), ["the owner's own\n", "nobody's\n", ""]);
    assert!(!host.root.join("etc/tool.d.conf").exists());
    assert_eq!([host.version("tool"), host.version("tool-lib")], ["1.0-1", "1.0-1"]);
    assert_eq!(host.read("/etc/tool-plain.conf"), "plain = 1.0-1\n");
    assert_eq!(whose(), (0o640, 1, 2));

    let result = take(2, files("kept"), "open");
    assert_eq!(result.ended, Ended::Done);
    assert_eq!(result.files.len(), 3);
    assert_eq!(result.probes[0].failure, None);
    let expected = ["tool kept\n", "plain kept\n", "new kept\n"];
    assert_eq!(paths.map(|path| host.read(path)), expected);
    assert_eq!(host.version("tool"), "1.0-2");
    assert_eq!(whose(), (0o640, 1, 2));
    assert_eq!(host.in_root(&["dpkg", "--audit"]), "");
    assert!(!host.state().directory().join("orders/new").exists());
    let record = host.state().record().unwrap();
    assert_eq!(record[1].files.len(), 3);
}

/// A package replaces its own configuration file, which the order alters from what the package brings.
#[test]
fn a_file_is_judged_when_its_turn_comes_where_an_upgrade_is_first() {
    if !runs_as_root(
        "orders_are_carried_out::a_file_is_judged_when_its_turn_comes_where_an_upgrade_is_first",
    ) {
        return;
    }
    let host = host("turn");
    let new: Vec<_> = tool("1.0-2").iter().map(|deb| host.offer(deb)).collect();
    let take = |sequence: u64, before: &str| {
        let file = write("/etc/tool-plain.conf", Some(before), "planned\n");
        let told = Told::to(vec![upgrade(&new), file], sequence);
        ended(host.take(&told.bundle_with(&[b"planned\n"])))
    };

    let result = take(1, "plain = 1.0-9\n");
    let Ended::RolledBack { because } = &result.ended else { panic!("{:?}", result.ended) };
    assert!(because.contains("/etc/tool-plain.conf"), "{because}");
    assert_eq!(result.actions, [ActionOutcome::RolledBack, ActionOutcome::Failed]);
    assert_eq!(host.version("tool"), "1.0-1");
    assert_eq!(host.read("/etc/tool-plain.conf"), "plain = 1.0-1\n");

    let result = take(2, "plain = 1.0-2\n");
    assert_eq!(result.ended, Ended::Done);
    assert_eq!(host.read("/etc/tool-plain.conf"), "planned\n");
}
