//! The same is true of objects in a directory and in a store.

use std::io::ErrorKind;

use history::{Directory, Objects};
use jiff::Timestamp;
use s3::{Patience, S3, S3Error};

use crate::peer::Peer;

fn open(address: &str) -> S3 {
    S3::open(&address.parse().unwrap(), Timestamp::now, Patience::default()).unwrap()
}

/// What `history` and `backup` rely on.
fn keeps(objects: &dyn Objects) {
    let long: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    objects.put("a.1", b"0123456789").unwrap();
    objects.put("long-object_2", &long).unwrap();
    objects.put("empty", b"").unwrap();

    assert_eq!(objects.read("a.1", 3, 4).unwrap(), b"3456");
    assert_eq!(objects.read("a.1", 0, 10).unwrap(), b"0123456789");
    assert_eq!(objects.read("a.1", 9, 1).unwrap(), b"9");
    assert_eq!(objects.read("a.1", 3, 0).unwrap(), b"");
    assert_eq!(objects.read("long-object_2", 1_000_001, 1_999_999).unwrap(), long[1_000_001..]);
    assert_eq!(objects.size("a.1").unwrap(), 10);
    assert_eq!(objects.size("empty").unwrap(), 0);
    for (offset, length) in [(8, 4), (10, 1), (11, 1), (0, 11), (u64::MAX, 1), (0, usize::MAX / 4)]
    {
        let error = objects.read("a.1", offset, length).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{offset} {length}: {error}");
    }
    // The same name again is the same object.
    objects.put("a.1", b"0123456789").unwrap();
    let mut names = objects.list().unwrap();
    names.sort_unstable();
    assert_eq!(names, ["a.1", "empty", "long-object_2"]);

    objects.delete("a.1").unwrap();
    objects.delete("a.1").unwrap();
    for error in
        [objects.read("a.1", 0, 1).unwrap_err(), objects.size("a.1").map(|_| ()).unwrap_err()]
    {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
    for name in ["", "..", "../a", "a/b", ".hidden", "a.new", "a\0", "a?b", "a%2fb"] {
        let error = objects.put(name, b"x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name:?}");
    }
    assert_eq!(objects.list().unwrap().len(), 2);
}

#[test]
fn a_directory_keeps_objects() {
    let folder = tempfile::tempdir().unwrap();
    keeps(&Directory::open(folder.path().join("objects")).unwrap());
}

#[test]
fn a_store_keeps_objects() {
    let Some(peer) = Peer::start() else { return };
    let objects = open(&peer.address("history/of-one"));
    objects.check().unwrap();
    objects.claim("ledger one").unwrap();
    // Neither those beside it nor those below it are its own.
    open(&peer.address("history/of-one-more")).put("other", b"x").unwrap();
    open(&peer.address("history/of-one/below")).put("other", b"x").unwrap();
    keeps(&objects);
    let bare = open(&peer.address(""));
    bare.put("at-the-root", b"x").unwrap();
    assert_eq!(bare.list().unwrap(), ["at-the-root"]);
}

#[test]
fn nothing_is_replaced() {
    let Some(peer) = Peer::start() else { return };
    let objects = open(&peer.address("a"));
    objects.put("name", b"first").unwrap();
    for other in [&b"other"[..], b"longer than the first", b""] {
        let error = objects.put("name", other).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    }
    assert_eq!(objects.read("name", 0, 5).unwrap(), b"first");
}

#[test]
fn a_list_has_all_pages() {
    let Some(peer) = Peer::start() else { return };
    let objects = open(&peer.address("many"));
    for number in 0..23 {
        objects.put(&format!("object-{number:02}"), b"").unwrap();
    }
    let mut names = objects.list().unwrap();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 23);
}

#[test]
fn a_store_is_one_installations() {
    let Some(peer) = Peer::start() else { return };
    let objects = open(&peer.address("a"));
    objects.claim("ledger one").unwrap();
    objects.claim("ledger one").unwrap();
    let refused = open(&peer.address("a")).claim("ledger two").unwrap_err();
    assert!(matches!(&refused, S3Error::Owned { owner, .. } if owner == "ledger one"), "{refused}");
    // Who was refused left nothing in the way.
    objects.claim("ledger one").unwrap();
    open(&peer.address("b")).claim("ledger two").unwrap();
    assert!(objects.list().unwrap().is_empty());
}

#[test]
fn who_is_not_known_learns_why() {
    let Some(peer) = Peer::start() else { return };
    let credentials = peer.credentials("wrong", "another/secret");
    let objects = open(&peer.address_with("a-bucket", "a", &credentials));
    let error = objects.put("name", b"x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    let told = format!("{error} {error:?} {objects:?}");
    assert!(told.contains("SignatureDoesNotMatch"), "{told}");
    assert!(!told.contains("another/secret") && !told.contains("X-Amz"), "{told}");
    // Replaced credentials are read where the ones before are refused.
    peer.credentials("wrong", "a/secret+of=ours");
    objects.put("name", b"x").unwrap();

    // A bucket that is missing is not an object that is missing.
    let known = peer.credentials("known", "a/secret+of=ours");
    let objects = open(&peer.address_with("no-bucket", "a", &known));
    for error in [
        objects.read("name", 0, 1).unwrap_err(),
        objects.size("name").unwrap_err(),
        objects.delete("name").unwrap_err(),
        objects.put("name", b"x").unwrap_err(),
        objects.list().unwrap_err(),
    ] {
        assert!(error.kind() != ErrorKind::NotFound, "{error}");
        assert!(error.to_string().contains("no such bucket"), "{error}");
    }
}
