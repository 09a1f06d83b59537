//! What held when an order was accepted is asked again before the first alteration, and what fails again
//! and again ends.

use std::cell::Cell;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use agent::State;
use agent::execute::{
    Alteration, AtRest, Completeness, Direction, Found, Hold, HostFiles, Newer, PackageFault,
    PackageSystem, Room, TrustedPackages,
};
use agent::orders::{Answer, Desk};
use domain::change::ExactPackage;
use domain::order::{Ended, Forbidden, Refusal};
use domain::version::VersionKind;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use crate::support::{Deb, Host, Told, handed, runs_as_root, trusted, upgrade, write};

/// Archives that take their time: something happens meanwhile.
struct Slow<'a> {
    host: &'a Host,
    meanwhile: &'a dyn Fn(),
}

impl TrustedPackages for Slow<'_> {
    fn bring(
        &self,
        packages: &[ExactPackage],
        into: &Path,
        room: &Room<'_>,
    ) -> Result<Vec<PathBuf>, Refusal> {
        let files = self.host.pool.bring(packages, into, room);
        (self.meanwhile)();
        files
    }
}

#[test]
fn while_packages_are_brought_the_owner_can_still_say_no() {
    if !runs_as_root("what_is_asked_again::while_packages_are_brought_the_owner_can_still_say_no") {
        return;
    }
    let host = Host::new("asked-again");
    let old = host.offer(&Deb::new("tool", "1.0-1"));
    host.install(&[old]);
    let new = host.offer(&Deb::new("tool", "1.0-3"));
    host.offer(&Deb::new("tool", "1.0-2"));
    let ahead = Cell::new(SignedDuration::ZERO);
    let now = || Timestamp::now() + ahead.get();
    let sequence = Cell::new(0);
    let refused = |meanwhile: &dyn Fn()| {
        sequence.set(sequence.get() + 1);
        let told = Told::to(vec![upgrade(std::slice::from_ref(&new))], sequence.get());
        let archives = Slow { host: &host, meanwhile };
        let answer = host.at_desk_with(&archives, &now, |desk| desk.take(&told.handed()).unwrap());
        let Answer::Ended(result) = answer else { panic!("{answer:?}") };
        let Ended::Refused { refusal } = result.ended else { panic!("{:?}", result.ended) };
        refusal
    };
    let policy = "/etc/patchwright/policy.toml";
    let freeze = "[[freeze]]\nfrom = \"2000-01-01T00:00:00Z\"\nuntil = \"2100-01-01T00:00:00Z\"\n";

    let refusal = refused(&|| host.write(policy, freeze));
    assert!(matches!(refusal, Refusal::Forbidden(Forbidden::Freeze { .. })), "{refusal}");
    assert_eq!(host.version("tool"), "1.0-1");
    host.write(policy, "");

    let refusal = refused(&|| host.write(policy, "nonsense"));
    assert!(matches!(refusal, Refusal::Policy { .. }), "{refusal}");
    host.write(policy, "");

    let refusal = refused(&|| drop(host.in_root(&["apt-mark", "hold", "tool"])));
    assert!(matches!(refusal, Refusal::Forbidden(Forbidden::Held { .. })), "{refusal}");
    host.in_root(&["apt-mark", "unhold", "tool"]);
    assert_eq!(host.version("tool"), "1.0-1");

    // A file becomes another one. The order is refused before the package is altered.
    let file = write("/etc/tool.conf", None, "planned\n");
    let told = Told::to(vec![file, upgrade(std::slice::from_ref(&new))], 20);
    let meanwhile = || host.write("/etc/tool.conf", "the owner's\n");
    let archives = Slow { host: &host, meanwhile: &meanwhile };
    let bundle = told.bundle_with(&[b"planned\n"]);
    let answer =
        host.at_desk_with(&archives, &Timestamp::now, |desk| desk.take(&handed(&bundle)).unwrap());
    let Answer::Ended(result) = answer else { panic!("{answer:?}") };
    let Ended::Refused { refusal: Refusal::OtherFile { path, expected, found } } = result.ended
    else {
        panic!("{:?}", result.ended)
    };
    assert_eq!((path.as_str(), expected), ("/etc/tool.conf", None));
    assert!(found.is_some());
    assert_eq!(host.read("/etc/tool.conf"), "the owner's\n");
    assert_eq!(host.version("tool"), "1.0-1");
    sequence.set(20);

    // The window closes.
    let refusal = refused(&|| ahead.set(SignedDuration::from_hours(2)));
    assert!(matches!(refusal, Refusal::Late { .. }), "{refusal}");
    assert_eq!(host.version("tool"), "1.0-1");
    assert_eq!(host.in_root(&["dpkg", "--audit"]), "");
}

/// A package system in memory, in which whatever alters something is the agent's death, so many times.
struct Deadly {
    deaths: Cell<u32>,
    attempts: Cell<u32>,
}

impl Deadly {
    fn die(&self) {
        self.attempts.set(self.attempts.get() + 1);
        if let Some(left) = self.deaths.get().checked_sub(1) {
            self.deaths.set(left);
            panic!("killed");
        }
    }
}

impl PackageSystem for Deadly {
    fn versions(&self) -> VersionKind {
        VersionKind::Dpkg
    }

    fn ending(&self) -> &'static str {
        "deb"
    }

    fn installed(&self) -> Result<Vec<Found>, PackageFault> {
        let [name, architecture, version] = ["tool", "amd64", "1.0-1"].map(str::to_owned);
        let (completeness, hold, newer) = (Completeness::Whole, Hold::Free, Newer::Replaces);
        Ok(vec![Found { name, architecture, version, completeness, hold, newer }])
    }

    fn audit(&self) -> Result<(), PackageFault> {
        Ok(())
    }

    fn repair(&self) -> Result<(), PackageFault> {
        self.die();
        Ok(())
    }

    fn mend(&self, _: &[PathBuf]) -> Result<(), PackageFault> {
        Ok(())
    }

    fn settle(&self, _: &[PathBuf]) -> Result<(), PackageFault> {
        Ok(())
    }

    fn clear(&self, _: &[ExactPackage]) -> Result<(), PackageFault> {
        Ok(())
    }

    fn unpacked_size(&self, _: &Path) -> Result<u64, PackageFault> {
        Ok(0)
    }

    fn unpacks_to(&self) -> PathBuf {
        "/".into()
    }

    fn repack(&self, _: &Found, into: &Path) -> Result<PathBuf, PackageFault> {
        Ok(into.join("tool.deb"))
    }

    fn keep_settings(&self, _: &[Found], _: &Path) -> Result<(), PackageFault> {
        Ok(())
    }

    fn restore_settings(&self, _: &Path) -> Result<(), PackageFault> {
        Ok(())
    }

    fn alter(&self, alteration: &Alteration<'_>) -> Result<(), PackageFault> {
        assert_eq!(alteration.direction, Direction::Forward, "nothing has to go back");
        self.die();
        Ok(())
    }
}

/// A file with these bytes is the package.
struct Bytes(&'static [u8]);

impl TrustedPackages for Bytes {
    fn bring(
        &self,
        _: &[ExactPackage],
        into: &Path,
        _: &Room<'_>,
    ) -> Result<Vec<PathBuf>, Refusal> {
        let file = into.join("tool.deb");
        fs::write(&file, self.0).unwrap();
        Ok(vec![file])
    }
}

/// How often something was tried, and how it ended, where the agent is killed so many times.
fn killed(times: u32) -> (u32, Ended) {
    let directory = tempfile::tempdir().unwrap();
    let state = State::new(directory.path());
    state.keep_trusted(&trusted()).unwrap();
    let packages = Deadly { deaths: Cell::new(times), attempts: Cell::new(0) };
    let desk = Desk {
        state: &state,
        policy: &directory.path().join("no-policy"),
        probes: &directory.path().join("no-probes"),
        packages: &packages,
        archives: &Bytes(b"a package"),
        system: &AtRest,
        files: &HostFiles::new(directory.path(), Vec::new()),
        clock: &Timestamp::now,
    };
    let sha256: [u8; 32] = Sha256::digest(b"a package").into();
    let [name, architecture, version] = ["tool", "amd64", "1.0-2"].map(str::to_owned);
    let new = ExactPackage { name, architecture, version, sha256: sha256.into() };
    let told = Told::to(vec![upgrade(&[new])], 1);
    let mut is_new = true;
    loop {
        let go_on = || {
            if is_new { Some(desk.take(&told.handed()).unwrap()) } else { desk.resume().unwrap() }
        };
        let answer = catch_unwind(AssertUnwindSafe(go_on));
        is_new = false;
        match answer {
            Ok(Some(Answer::Ended(result))) => return (packages.attempts.get(), result.ended),
            Ok(answer) => panic!("{answer:?}"),
            Err(_) => {}
        }
    }
}

#[test]
fn an_action_that_kills_the_agent_is_tried_three_times() {
    // Begun, and repaired twice; then it goes back, which asks for a repair as well.
    let (attempts, ended) = killed(3);
    let Ended::RolledBack { because } = ended else { panic!("{ended:?}") };
    assert!(because.contains("3 times"), "{because}");
    assert_eq!(attempts, 4);
}

#[test]
fn a_way_back_that_kills_the_agent_ends_as_well() {
    let (_, ended) = killed(1000);
    let Ended::Stuck { because } = ended else { panic!("{ended:?}") };
    assert!(because.contains("the way back was tried"), "{because}");
}
