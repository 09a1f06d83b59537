//! A package is its vendor's if a repository of the host's own lists it and a key of the host's signed the
//! list or the package: a real repository, read by the host's own dnf.

use std::fs;

use domain::change::ExactPackage;
use domain::order::{Ended, Refusal};

use crate::rpm_world::{Rpm, RpmHost, STRANGER, VENDOR};
use crate::support::{runs_as_root, upgrade};

struct World {
    host: RpmHost,
    sequence: u64,
}

impl World {
    fn new(name: &str) -> Self {
        let host = RpmHost::new(name);
        let old = host.offer(&Rpm::new("tool", "1.0-1"));
        host.install(&[old]);
        Self { host, sequence: 0 }
    }

    fn refusal(&mut self, package: &ExactPackage) -> Refusal {
        self.sequence += 1;
        let refusal =
            self.host.refusal(vec![upgrade(std::slice::from_ref(package))], self.sequence);
        assert_eq!(self.host.version("tool"), "1.0-1", "{refusal}");
        refusal
    }

    fn is_not_vouched(&mut self, package: &ExactPackage, why: &str) {
        let refusal = self.refusal(package);
        let is_so =
            matches!(&refusal, Refusal::NotVouched { because, .. } if because.contains(why));
        assert!(is_so, "{refusal:?} does not say {why:?}");
    }

    fn is_installed(&mut self, package: &ExactPackage) {
        self.sequence += 1;
        let result = self.host.result(vec![upgrade(std::slice::from_ref(package))], self.sequence);
        assert_eq!(result.ended, Ended::Done);
        assert_eq!(self.host.version("tool"), package.version);
    }
}

#[test]
fn packages_that_a_key_of_the_hosts_signed_are_installed() {
    if !runs_as_root(
        "rpm_repositories_vouch::packages_that_a_key_of_the_hosts_signed_are_installed",
    ) {
        return;
    }
    let mut world = World::new("signed-packages");
    let rpm = Rpm::new("tool", "1.0-2");
    let file = world.host.build(&rpm);

    // Nobody signed it.
    world.host.publish();
    let package = world.host.named(&rpm);
    world.is_not_vouched(&package, "no key of this host");

    // Somebody else did, whose key lies there as well; it is not what the repository is configured with.
    world.host.sign(&file, STRANGER);
    world.host.publish();
    let package = world.host.named(&rpm);
    world.is_not_vouched(&package, "no key of this host");

    world.host.sign(&file, VENDOR);
    world.host.publish();
    let package = world.host.named(&rpm);

    // A key that would be fetched is nobody's word, and rpm was given none.
    world.host.configure("gpgcheck=1\ngpgkey=https://vendor.invalid/key\n");
    world.is_not_vouched(&package, "no key of this host");

    // The host takes the repository without a signature: that is enough for its owner, not for an order.
    world.host.configure("gpgcheck=0\n");
    world.is_not_vouched(&package, "");
    world.host.configure("gpgcheck=1\nenabled=0\ngpgkey=file:///etc/pki/vendor\n");
    world.is_not_vouched(&package, "");
    world.host.configure("gpgcheck=1\ngpgkey=file:///etc/pki/vendor\n");

    // Another version, architecture or hash than is listed.
    for other in [
        ExactPackage { version: "1.0-9".to_owned(), ..package.clone() },
        ExactPackage { architecture: "i686".to_owned(), ..package.clone() },
        ExactPackage { sha256: [7; 32].into(), ..package.clone() },
    ] {
        world.is_not_vouched(&other, "");
    }

    // Somebody put another file in the package's place.
    let genuine = fs::read(&file).unwrap();
    let mut altered = genuine.clone();
    *altered.last_mut().unwrap() ^= 1;
    fs::write(&file, altered).unwrap();
    assert!(matches!(world.refusal(&package), Refusal::NotFetched { .. }));
    fs::write(&file, genuine).unwrap();

    // A key that rpm was given counts wherever the repository says its key lies.
    world.host.configure("gpgcheck=1\ngpgkey=https://vendor.invalid/key\n");
    world.host.in_root(&["rpmkeys", "--import", "/etc/pki/vendor"]);
    world.is_installed(&package);
}

#[test]
fn packages_of_a_list_that_a_key_of_the_hosts_signed_are_installed() {
    if !runs_as_root(
        "rpm_repositories_vouch::packages_of_a_list_that_a_key_of_the_hosts_signed_are_installed",
    ) {
        return;
    }
    let mut world = World::new("signed-list");
    let rpm = Rpm::new("tool", "1.0-2");
    world.host.build(&rpm);
    world.host.publish();
    let package = world.host.named(&rpm);
    let signed = "gpgcheck=0\nrepo_gpgcheck=1\ngpgkey=file:///etc/pki/vendor\n";
    world.host.configure(signed);

    // Not signed, or by somebody else.
    world.is_not_vouched(&package, "vendor is not used");
    world.host.sign_list(STRANGER);
    world.is_not_vouched(&package, "vendor is not used");

    // Signed by the vendor, and altered since.
    world.host.sign_list(VENDOR);
    let list = world.host.list();
    let genuine = fs::read_to_string(&list).unwrap();
    fs::write(&list, genuine.replace("<revision>", "<revision>1")).unwrap();
    world.is_not_vouched(&package, "vendor is not used");
    fs::write(&list, genuine).unwrap();

    // With a key that is fetched, or with one that counted once.
    world.host.configure("gpgcheck=0\nrepo_gpgcheck=1\ngpgkey=https://vendor.invalid/key\n");
    world.is_not_vouched(&package, "");
    world.host.configure("gpgcheck=0\nrepo_gpgcheck=1\ngpgkey=file:///etc/pki/stranger\n");
    world.is_not_vouched(&package, "vendor is not used");

    // Where packages are to be signed as well, both have to hold.
    world.host.configure(&signed.replace("gpgcheck=0", "gpgcheck=1"));
    world.is_not_vouched(&package, "no key of this host");

    world.host.configure(signed);
    world.is_installed(&package);
}
