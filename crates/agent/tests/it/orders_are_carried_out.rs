//! An order ends with exactly its packages, or with what was there before.

use std::fs;

use agent::orders::Answer;
use domain::change::Action;
use domain::order::{ActionOutcome, Ended, Forbidden, OrderResult, Refusal};

use crate::support::{Deb, Host, Told, runs_as_root, upgrade};

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

    // What this agent cannot do is not begun half-way.
    let probe = Action::Probe { probe: "http".to_owned() };
    assert!(matches!(refused(vec![upgrade(&new), probe]), Refusal::Unable { .. }));

    // dpkg is in the middle of something.
    let mut broken = Deb::new("broken", "1.0-1");
    broken.postinst = "exit 1".to_owned();
    host.offer(&broken);
    let half = "dpkg --install /var/tmp/debs/broken_1.0-1_amd64.deb || true";
    host.in_root(&["sh", "-c", half]);
    assert!(matches!(refused(vec![upgrade(&new)]), Refusal::NotInOrder { .. }));
}
