//! Files below `/etc` of real disks.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use sources::image::look;

use crate::support::key;

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
}

fn write(root: &Path, path: &str, content: &[u8], mode: u32) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_an_image_is_configured_by_is_read_without_its_secrets() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("root");
    write(&root, "etc/os-release", b"ID=debian\nVERSION_ID=12\n", 0o644);
    write(&root, "etc/passwd", b"root:x:0:0::/root:/bin/sh\n", 0o644);
    write(&root, "etc/group", b"root:x:0:\n", 0o644);
    write(&root, "etc/shadow", b"root:$6$abcdefgh$0123456789abcdefghijkl:1::::::\n", 0o640);
    write(&root, "etc/app/app.ini", b"listen = 80\npassword = Tr0ub4dor-and-3\n", 0o600);
    write(&root, "etc/app/large", &vec![b'x'; (1 << 20) + 1], 0o644);
    write(&root, "etc/app/huge", &vec![b'x'; (16 << 20) + 1], 0o644);
    write(&root, "usr/bin/app", b"not configuration", 0o755);
    symlink("app/app.ini", root.join("etc/link")).unwrap();
    symlink("/usr", root.join("etc/way-out")).unwrap();
    let (raw, qcow2) = (place.path().join("raw.img"), place.path().join("disk.qcow2"));
    let (root, raw, qcow2) =
        (root.to_str().unwrap(), raw.to_str().unwrap(), qcow2.to_str().unwrap());
    run("mke2fs", &["-q", "-t", "ext4", "-E", "root_owner=0:0", "-d", root, raw, "64M"]);
    run("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", raw, qcow2]);

    let documents = look(Path::new(qcow2), &key()).unwrap();

    let of = |path: &str| documents.iter().find(|it| it.path() == path);
    let text = |path: &str| of(path).unwrap().text();
    assert!(documents.iter().all(|it| it.path().starts_with("/etc/")), "{documents:?}");
    assert!(text("/etc/app/app.ini").starts_with("listen = 80\npassword = <redacted:password:"));
    assert!(!text("/etc/shadow").contains("0123456789abcdefghijkl"));
    assert_eq!(of("/etc/app/app.ini").unwrap().mode(), 0o100_600);
    assert!(text("/etc/app/large").starts_with("<withheld:too_large:1048577:"));
    assert!(text("/etc/app/huge").starts_with("<unseen:"));
    let link = of("/etc/link").unwrap();
    assert_eq!((link.text(), link.mode() & 0o170_000), ("app/app.ini", 0o120_000));
    assert_eq!(text("/etc/way-out"), "/usr", "no link is followed");
    assert_eq!(of("/etc/app").unwrap().mode() & 0o170_000, 0o040_000);
    assert_eq!(look(Path::new(raw), &key()).unwrap(), documents, "whatever holds it");
}

#[test]
fn what_is_no_image_says_so_and_not_where_it_lies() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("noise");
    fs::write(&file, vec![0x5a; 1 << 20]).unwrap();
    let error = look(&file, &key()).unwrap_err().to_string();
    assert!(error.starts_with("the image cannot be read: "), "{error}");
    assert!(!error.contains(place.path().to_str().unwrap()), "{error}");
    assert!(look(place.path(), &key()).is_err(), "a directory is no image");
}
