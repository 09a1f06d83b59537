//! Where rpm is the package manager an order ends as well with exactly its packages, or with what was there
//! before.

use agent::execute::{Dnf, PackageSystem as _};
use domain::order::{ActionOutcome, Ended, Forbidden, Refusal};

use crate::rpm_world::{Rpm, RpmHost, host, tool};
use crate::support::{runs_as_root, upgrade};

#[test]
fn an_order_installs_exactly_its_packages() {
    if !runs_as_root("rpm_orders_are_carried_out::an_order_installs_exactly_its_packages") {
        return;
    }
    let host = host("exactly");
    let mut new: Vec<_> = tool("1.0-2").iter().map(|rpm| host.offer(rpm)).collect();
    new.push(host.offer(&Rpm::new("tool-extra", "1.0-2")));

    let result = host.result(vec![upgrade(&new)], 1);

    assert_eq!(result.ended, Ended::Done);
    assert_eq!(result.packages.len(), 3);
    for name in ["tool", "tool-lib", "tool-extra"] {
        assert_eq!(host.version(name), "1.0-2", "{name}");
    }
    assert_eq!(host.read("/usr/lib/tool/version"), "1.0-2");
    // What the owner altered stays, whatever its package says of it; what was not becomes the new one.
    assert_eq!(host.read("/etc/tool.conf"), "the owner's own\n");
    assert_eq!(host.read("/etc/tool.conf.rpmnew"), "/etc/tool.conf of 1.0-2\n");
    assert_eq!(host.read("/etc/tool-replaced.conf"), "the owner's own as well\n");
    assert_eq!(host.read("/etc/tool-replaced.conf.rpmnew"), "/etc/tool-replaced.conf of 1.0-2\n");
    assert!(!host.root.join("etc/tool-replaced.conf.rpmsave").exists());
    assert_eq!(host.read("/etc/tool-plain.conf"), "/etc/tool-plain.conf of 1.0-2\n");
    assert!(!host.state().directory().join("orders/journal").exists());

    // Nothing older, whoever signed it.
    let old: Vec<_> = tool("1.0-1").iter().map(|rpm| host.named(rpm)).collect();
    assert!(matches!(host.refusal(vec![upgrade(&old)], 2), Refusal::Older { .. }));
    assert_eq!(host.version("tool"), "1.0-2");
}

#[test]
fn what_fails_ends_as_it_was() {
    if !runs_as_root("rpm_orders_are_carried_out::what_fails_ends_as_it_was") {
        return;
    }
    let host = host("fails");
    let before = host.system();
    let extra = Rpm::new("tool-extra", "1.0-2");
    let mut sequence = 0;
    // rpm goes on where a script fails after its package was unpacked, and ends well.
    for (section, does) in [
        ("%pre", "echo it breaks; exit 1"),
        ("%post", "echo it breaks; exit 1"),
        ("%postun", "true"),
        ("%preun", "exit 1"),
    ] {
        let [library, mut program] = tool("1.0-2");
        program.scripts = vec![(section, does.to_owned())];
        // With what is broken only when it goes, something else has to fail first.
        if matches!(section, "%preun" | "%postun") {
            program.scripts.push(("%post", "echo it breaks; exit 1".to_owned()));
        }
        let new: Vec<_> =
            [library, program, extra.clone()].iter().map(|rpm| host.offer(rpm)).collect();
        sequence += 1;

        let result = host.result(vec![upgrade(&new)], sequence);

        let Ended::RolledBack { because } = &result.ended else { panic!("{:?}", result.ended) };
        assert!(because.contains("scriptlet failed"), "{section}: {because}");
        assert_eq!(result.actions, [ActionOutcome::Failed]);
        host.system().assert_is(&before, section);
    }

    // What the owner altered is still known to be so: a good update keeps it, and takes the rest.
    let good: Vec<_> = tool("1.0-3").iter().map(|rpm| host.offer(rpm)).collect();
    let result = host.result(vec![upgrade(&good)], sequence + 1);
    assert_eq!(result.ended, Ended::Done);
    assert_eq!(host.read("/etc/tool.conf"), "the owner's own\n");
    assert_eq!(host.read("/etc/tool-plain.conf"), "/etc/tool-plain.conf of 1.0-3\n");
    assert_eq!(host.version("tool"), "1.0-3");
    assert_eq!(host.version("tool-lib"), "1.0-3");
}

#[test]
fn what_rpm_does_not_do_leaves_everything_untouched() {
    if !runs_as_root("rpm_orders_are_carried_out::what_rpm_does_not_do_leaves_everything_untouched")
    {
        return;
    }
    let host = host("untouched");
    let before = host.system();
    let untouched = |rpms: &[Rpm], sequence: u64, why: &str| {
        let new: Vec<_> = rpms.iter().map(|rpm| host.offer(rpm)).collect();
        let result = host.result(vec![upgrade(&new)], sequence);
        let Ended::RolledBack { because } = &result.ended else { panic!("{:?}", result.ended) };
        assert!(because.contains(why), "{because}");
        host.system().assert_is(&before, why);
    };
    let [library, program] = tool("1.0-2");

    // What it needs is not there, and is nothing that was ordered.
    let mut needs = program.clone();
    needs.preamble.push("Requires: nothing-that-exists".to_owned());
    untouched(&[library.clone(), needs], 1, "nothing-that-exists");

    // It would take another package away.
    let mut displaces = Rpm::new("tool-next", "2.0-1");
    displaces.preamble.push("Obsoletes: tool-lib < 3".to_owned());
    untouched(&[displaces], 2, "tool-lib-1.0-1");

    // A file of another package.
    let mut other = Rpm::new("other", "1.0-1");
    other.files.push(("/usr/lib/tool-lib/version".to_owned(), "", "mine".to_owned()));
    untouched(&[other], 3, "conflicts");
}

#[test]
fn what_cannot_be_done_is_refused_before_anything_is_altered() {
    if !runs_as_root(
        "rpm_orders_are_carried_out::what_cannot_be_done_is_refused_before_anything_is_altered",
    ) {
        return;
    }
    let host = host("refused");
    let new: Vec<_> = tool("1.0-2").iter().map(|rpm| host.offer(rpm)).collect();

    // The owner holds a package, in either way that dnf knows.
    let held = Refusal::Forbidden(Forbidden::Held { package: "tool".to_owned() });
    host.write("/etc/dnf/plugins/versionlock.list", "tool-0:1.0-1.*\n");
    assert_eq!(host.refusal(vec![upgrade(&new)], 1), held);
    host.write("/etc/dnf/plugins/versionlock.list", "");
    host.write("/etc/dnf/dnf.conf", "[main]\nexclude=too?\n");
    assert_eq!(host.refusal(vec![upgrade(&new)], 2), held);
    host.write("/etc/dnf/dnf.conf", "[main]\n");

    // There is no room.
    host.write("/etc/patchwright/policy.toml", "keep_free_mib = 1000000000\n");
    assert!(matches!(host.refusal(vec![upgrade(&new)], 3), Refusal::NoSpace { .. }));
    host.write("/etc/patchwright/policy.toml", "");

    // A link that leads elsewhere than it came: rpm would put its own there, and nobody could give it back.
    let link = host.root.join("usr/lib/tool/link");
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("/etc", &link).unwrap();
    let refusal = host.refusal(vec![upgrade(&new)], 4);
    let Refusal::NoWayBack { because, .. } = &refusal else { panic!("{refusal}") };
    assert!(because.contains("/usr/lib/tool/link"), "{because}");
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("version", &link).unwrap();

    // Two versions of a package, as an rpm leaves them that was interrupted by somebody else.
    host.in_root(&[
        "rpm",
        "-i",
        "--nodeps",
        "--replacefiles",
        "/srv/repository/tool-lib-1.0-2.rpm",
    ]);
    let refusal = host.refusal(vec![upgrade(&new)], 5);
    assert!(
        matches!(&refusal, Refusal::NotInOrder { because } if because.contains("tool-lib-1.0-1"))
    );
    host.in_root(&["rpm", "-e", "--nodeps", "--noscripts", "tool-lib-1.0-2"]);
    host.in_root(&["rpm", "-U", "--replacepkgs", "/srv/repository/tool-lib-1.0-1.rpm"]);

    std::fs::remove_dir_all(host.root.join("etc/patchwright")).unwrap();
    std::fs::remove_file(host.root.join("etc/dnf/plugins/versionlock.list")).unwrap();
    host.write("/etc/dnf/dnf.conf", "");
    assert_eq!(host.version("tool"), "1.0-1");
    assert_eq!(host.version("tool-lib"), "1.0-1");
}

/// A kernel that stands beside the one that runs.
fn kernel(version: &str) -> Rpm {
    let mut kernel = Rpm::new("kernel-core", version);
    kernel.preamble = vec!["Provides: installonlypkg(kernel)".to_owned()];
    kernel.files = vec![(format!("/boot/vmlinuz-{version}"), "", version.to_owned())];
    kernel
}

#[test]
fn a_kernel_stands_beside_the_older_one_and_goes_alone() {
    if !runs_as_root(
        "rpm_orders_are_carried_out::a_kernel_stands_beside_the_older_one_and_goes_alone",
    ) {
        return;
    }
    let host = RpmHost::new("kernel");
    let old = host.offer(&kernel("5.14-1"));
    let firmware = host.offer(&Rpm::new("firmware", "1.0-1"));
    host.install(&[old, firmware]);
    let before = host.system();

    let mut broken = Rpm::new("firmware", "1.0-2");
    broken.scripts = vec![("%post", "exit 1".to_owned())];
    let new = [host.offer(&kernel("5.14-2")), host.offer(&broken)];
    let result = host.result(vec![upgrade(&new)], 1);
    assert!(matches!(result.ended, Ended::RolledBack { .. }), "{:?}", result.ended);
    host.system().assert_is(&before, "after what failed");

    // The kernel itself fails, when the rest is done.
    let mut broken = kernel("5.14-3");
    broken.scripts = vec![("%post", "exit 1".to_owned())];
    let new = [host.offer(&broken), host.offer(&Rpm::new("firmware", "1.0-3"))];
    let result = host.result(vec![upgrade(&new)], 2);
    assert!(matches!(result.ended, Ended::RolledBack { .. }), "{:?}", result.ended);
    host.system().assert_is(&before, "after a kernel that failed");

    let new = [host.offer(&kernel("5.14-4")), host.offer(&Rpm::new("firmware", "1.0-4"))];
    let result = host.result(vec![upgrade(&new)], 3);
    assert_eq!(result.ended, Ended::Done);
    assert_eq!(host.version("kernel-core"), "5.14-1 5.14-4");
    assert_eq!(host.version("firmware"), "1.0-4");
    assert_eq!(host.read("/boot/vmlinuz-5.14-1"), "5.14-1");
    let packages = Dnf::new(&host.root, host.state().directory().join("work"));
    packages.audit().unwrap();
}

#[test]
fn versions_with_an_epoch_are_told_as_rpm_tells_them() {
    if !runs_as_root(
        "rpm_orders_are_carried_out::versions_with_an_epoch_are_told_as_rpm_tells_them",
    ) {
        return;
    }
    let host = RpmHost::new("epoch");
    let with_epoch = |version: &str| {
        let mut rpm = Rpm::new("bind", version);
        rpm.preamble = vec!["Epoch: 32".to_owned()];
        let mut package = host.offer(&rpm);
        let file = package.version.clone();
        package.version = format!("32:{version}");
        (package, file)
    };
    let (_, file) = with_epoch("9.11-1");
    host.in_root(&["rpm", "-U", &format!("/srv/repository/bind-{file}.rpm")]);
    let (new, _) = with_epoch("9.11-2");

    assert_eq!(host.result(vec![upgrade(&[new])], 1).ended, Ended::Done);
    assert_eq!(host.version("bind"), "32:9.11-2");

    // Without its epoch it is older than everything.
    let package = host.offer(&Rpm::new("bind", "99-1"));
    assert!(matches!(host.refusal(vec![upgrade(&[package])], 2), Refusal::Older { .. }));
}
