//! A package is its vendor's if an archive lists it that the host itself trusts with a key: a real
//! archive, signed by `gpg`, read with the host's own apt configuration.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use agent::execute::{HostArchives, TrustedPackages as _};
use agent::orders::Answer;
use domain::change::ExactPackage;
use domain::order::{Ended, Refusal};
use jiff::Timestamp;
use scratch::Scratch;
use tempfile::TempDir;

use crate::support::{Deb, Host, Pool, Told, run, runs_as_root, upgrade};

/// A flat archive in the host's root, and the key that signs it.
struct Archive {
    directory: PathBuf,
    keys: TempDir,
}

impl Archive {
    fn in_root_of(host: &Host) -> Self {
        let archive = Self {
            directory: host.root.join("var/tmp/archive"),
            keys: tempfile::tempdir().unwrap(),
        };
        fs::create_dir_all(&archive.directory).unwrap();
        let user = "Example Archive <archive@example.org>";
        archive.gpg(&["--quick-generate-key", user, "ed25519", "sign", "never"]);
        let keyring = host.root.join("usr/share/keyrings/example.gpg");
        archive.gpg(&["--yes", "--output", keyring.to_str().unwrap(), "--export"]);
        // Nothing of the machine's network.
        let _ = fs::remove_file(host.root.join("etc/apt/sources.list"));
        archive
    }

    fn gpg(&self, arguments: &[&str]) {
        let mut command = Command::new("gpg");
        command.arg("--homedir").arg(self.keys.path());
        command.args(["--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]);
        run(command.args(arguments));
    }

    fn publish(&self) {
        let list = |what: &[&str]| {
            run(Command::new("apt-ftparchive").current_dir(&self.directory).args(what))
        };
        fs::write(self.directory.join("Packages"), list(&["packages", "."])).unwrap();
        let _ = fs::remove_file(self.directory.join("InRelease"));
        let release = self.directory.join("Release");
        let _ = fs::remove_file(&release);
        let text = list(&["-o", "APT::FTPArchive::Release::Suite=stable", "release", "."]);
        fs::write(&release, text).unwrap();
        let signed = self.directory.join("InRelease");
        let (release, signed) = (release.to_str().unwrap(), signed.to_str().unwrap());
        self.gpg(&["--output", signed, "--clearsign", release]);
    }

    fn configure(&self, host: &Host, trust: &str) {
        let uri = format!("file://{}", self.directory.display());
        let source = format!("Types: deb\nURIs: {uri}\nSuites: ./\n{trust}\n");
        host.write("/etc/apt/sources.list.d/example.sources", &source);
    }
}

fn take(host: &Host, package: &ExactPackage, sequence: u64) -> Answer {
    // Each with a memory of its own: the archive is put back and forth here.
    let data = host.state().directory().join(format!("work/archives-{sequence}"));
    let archives = HostArchives::new(&host.root, data, Timestamp::now());
    let told = Told::to(vec![upgrade(std::slice::from_ref(package))], sequence);
    host.at_desk_with(&archives, &Timestamp::now, |desk| desk.take(&told.handed()).unwrap())
}

fn refusal(answer: Answer) -> Refusal {
    match answer {
        Answer::Ended(result) => match result.ended {
            Ended::Refused { refusal } => refusal,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_what_a_signed_list_of_the_hosts_names_is_installed() {
    if !runs_as_root(
        "archives_of_the_host_vouch::only_what_a_signed_list_of_the_hosts_names_is_installed",
    ) {
        return;
    }
    let host = Host::new("vouched");
    let old = host.offer(&Deb::new("tool", "1.0-1"));
    host.install(&[old]);
    let archive = Archive::in_root_of(&host);
    let new = Deb::new("tool", "1.0-2").build(&archive.directory);
    archive.publish();
    let signed = "Signed-By: /usr/share/keyrings/example.gpg";

    // The host takes the archive without a signature: that is enough for its owner, not for an order.
    archive.configure(&host, "Trusted: yes");
    assert!(matches!(refusal(take(&host, &new, 1)), Refusal::NotVouched { .. }));

    // Somebody altered the list behind the signature.
    archive.configure(&host, signed);
    let list = archive.directory.join("Packages");
    let genuine = fs::read_to_string(&list).unwrap();
    fs::write(&list, genuine.replace("1.0-2", "1.0-9")).unwrap();
    let told = refusal(take(&host, &new, 2)).to_string();
    assert!(told.contains("is not used"), "{told}");
    fs::write(&list, &genuine).unwrap();

    // Somebody put another file in the package's place.
    let deb = archive.directory.join("tool_1.0-2_amd64.deb");
    let bytes = fs::read(&deb).unwrap();
    let mut altered = bytes.clone();
    *altered.last_mut().unwrap() ^= 1;
    fs::write(&deb, altered).unwrap();
    assert!(matches!(refusal(take(&host, &new, 3)), Refusal::NotFetched { .. }));
    fs::write(&deb, bytes).unwrap();

    // Another archive's key.
    let stranger = Archive::in_root_of(&Host {
        root: Scratch::of_another(host.root.to_owned()),
        pool: Pool::default(),
        debs: host.debs.clone(),
    });
    let told = refusal(take(&host, &new, 4)).to_string();
    assert!(told.contains("is not used"), "{told}");
    drop(stranger);
    archive.gpg(&[
        "--yes",
        "--output",
        host.root.join("usr/share/keyrings/example.gpg").to_str().unwrap(),
        "--export",
    ]);
    assert_eq!(host.version("tool"), "1.0-1");

    // What is fetched stays beside what is installed; on two file systems both need room.
    let (data, into) = (host.root.join("var/tmp/fetched"), host.root.join("var/tmp/new"));
    let full = |wants: &[(&Path, u64)]| {
        let size = deb.metadata().unwrap().len();
        assert_eq!(wants, [(data.as_path(), size), (into.as_path(), size)]);
        Err(Refusal::NoSpace { path: String::new(), needed: 2 * size, free: 0 })
    };
    let archives = HostArchives::new(&host.root, &data, Timestamp::now());
    let refused = archives.bring(std::slice::from_ref(&new), &into, &full);
    assert!(matches!(refused, Err(Refusal::NoSpace { .. })), "{refused:?}");
    assert!(!into.exists());

    // On one file system it lies there once, under both names; also where an earlier try left one.
    fs::create_dir_all(&into).unwrap();
    for _ in 0..2 {
        let brought = archives.bring(std::slice::from_ref(&new), &into, &|_| Ok(())).unwrap();
        let brought = brought[0].metadata().unwrap();
        assert_eq!((brought.nlink(), brought.len()), (2, deb.metadata().unwrap().len()));
    }

    let Answer::Ended(result) = take(&host, &new, 5) else { panic!("it restarts") };
    assert_eq!(result.ended, Ended::Done);
    assert_eq!(host.version("tool"), "1.0-2");
}
