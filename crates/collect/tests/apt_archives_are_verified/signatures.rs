//! Only a whole text, signed soundly by a key of this very source, is read.

use std::fs;

use collect::apt::{Keyring, Refusal, ReleaseError, SignatureError};
use jiff::Timestamp;

use super::archive::{Archive, Edition, Key};
use super::server::Server;
use super::world::{NOW, World, online, packages, refresh, source, sources_text};

fn signature_error(refusal: Refusal) -> SignatureError {
    assert!(refusal.help().is_some());
    match refusal {
        Refusal::Signature(error) => error,
        other => panic!("{other:?}"),
    }
}

/// What happens to the default edition with this `InRelease` made from its text.
fn refused(inline: impl Fn(&World, &str) -> String) -> SignatureError {
    let edition = Edition::default();
    let world = World::new();
    let text = world.archive.release(&edition);
    world.archive.put_inline(&edition, &inline(&world, &text));
    let error = signature_error(world.refusal());
    assert!(matches!(world.offline(), Err(Refusal::NotCached)));
    error
}

#[test]
fn an_unsigned_release_is_refused() {
    let error = refused(|_, text| text.to_owned());

    assert!(matches!(error, SignatureError::Malformed { .. }), "{error}");
}

#[test]
fn a_release_without_its_detached_signature_is_refused() {
    let edition = Edition::default();
    let world = World::new();
    let text = world.archive.release(&edition);
    world.archive.put_detached(&edition, &text, None);

    let error = signature_error(world.refusal());

    assert_eq!(error, SignatureError::Missing);
}

#[test]
fn a_detached_signature_of_another_text_is_refused() {
    let edition = Edition::default();
    let world = World::new();
    let text = world.archive.release(&edition);
    let signature = world.key.detached(&text);
    let altered = text.replace("Origin: Example", "Origin: Exemple");
    world.archive.put_detached(&edition, &altered, Some(&signature));

    let error = signature_error(world.refusal());

    assert!(matches!(error, SignatureError::Bad { .. }), "{error}");
}

#[test]
fn a_stranger_is_named() {
    let stranger = Key::new();

    let SignatureError::UnknownSigner { issuers } = refused(|_, text| stranger.clearsign(text))
    else {
        panic!()
    };

    assert_eq!(issuers.join(" "), stranger.fingerprint);
}

#[test]
fn a_strangers_signature_beside_a_good_one_does_no_harm() {
    let edition = Edition::default();
    let (world, stranger) = (World::new(), Key::new());
    let text = world.archive.release(&edition);
    let both =
        [world.key.detached(&text), stranger.detached(&text)].map(|armored| pgp_bytes(&armored));
    world.archive.put_detached(&edition, &text, Some(&both.concat()));

    let suite = world.refresh().unwrap();

    assert_eq!(suite.facts.signed_by.len(), 1);
    assert_eq!(suite.facts.signed_by[0].fingerprint, world.key.fingerprint);
}

/// The binary form of an armored block.
fn pgp_bytes(armored: &[u8]) -> Vec<u8> {
    super::archive::run(std::process::Command::new("gpg").arg("--dearmor"), armored)
}

#[test]
fn a_text_altered_after_signing_is_refused() {
    let error = refused(|world, text| {
        world.key.clearsign(text).replace("Origin: Example", "Origin: Exemple")
    });

    let SignatureError::Bad { reason, .. } = error else { panic!("{error}") };
    assert_eq!(reason, "the text or the signature was altered");
}

#[test]
fn text_around_the_signed_block_is_refused() {
    for error in [
        refused(|world, text| format!("Origin: Evil\n{}", world.key.clearsign(text))),
        refused(|world, text| format!("{}Origin: Evil\n", world.key.clearsign(text))),
        refused(|world, text| {
            let signed = world.key.clearsign(text);
            format!("{signed}{signed}")
        }),
    ] {
        assert!(matches!(error, SignatureError::Malformed { .. }), "{error}");
    }
}

#[test]
fn a_header_smuggled_before_the_signed_text_is_not_read() {
    let error = refused(|world, text| {
        world.key.clearsign(text).replacen("\nHash: ", "\nOrigin: Evil\nHash: ", 1)
    });

    assert!(matches!(error, SignatureError::Malformed { .. }), "{error}");
}

#[test]
fn an_expired_key_is_refused_with_its_date() {
    let error = by_key(&Key::made("20240601T000000", "ed25519", "1y"), "20241101T000000", &[]);

    let SignatureError::Bad { reason, .. } = error else { panic!("{error}") };
    assert_eq!(reason, "the key expired on 1 Jun 2025");
}

#[test]
fn a_subkey_signs_for_its_key_until_it_expires() {
    let key = Key::new();
    key.add_subkey("20261102T000000", "60d");
    let (archive, edition) = (Archive::new(), Edition::default());
    archive.publish(&edition, &key);
    let server = Server::start(archive.root());
    let source = source(&sources_text(&server.uri(), "bookworm-security", "main", &key));
    let data = tempfile::tempdir().unwrap();

    let suite = refresh(&online(data.path(), NOW), &source).unwrap();

    assert_eq!(suite.facts.signed_by[0].fingerprint, key.fingerprint);
    let brief = Key::new();
    brief.add_subkey("20261102T000000", "10d");
    let error = by_key(&brief, "20261110T000000", &[]);
    let SignatureError::Bad { reason, .. } = error else { panic!("{error}") };
    assert_eq!(reason, "the subkey expired on 12 Nov 2026");
}

#[test]
fn a_revoked_key_is_refused() {
    let key = Key::new();
    let signed_before = Archive::new();
    let edition = Edition::default();
    signed_before.publish(&edition, &key);
    key.revoke();

    let error = refusal_of(&signed_before, &key);

    let SignatureError::Bad { reason, .. } = error else { panic!("{error}") };
    assert_eq!(reason, "the key is revoked");
}

#[test]
fn a_signature_by_sha1_is_refused() {
    let key = Key::made("20261001T000000", "rsa2048", "never");

    let error = by_key(&key, "20261110T000000", &["--digest-algo", "SHA1"]);

    let SignatureError::Bad { reason, .. } = error else { panic!("{error}") };
    assert_eq!(reason, "its hash algorithm Some(Sha1) is too weak");
}

#[test]
fn a_signature_from_the_future_is_refused() {
    let error = by_key(&Key::new(), "20261201T000000", &[]);

    let SignatureError::Bad { reason, .. } = error else { panic!("{error}") };
    assert_eq!(reason, "it was made in the future");
}

#[test]
fn a_signature_that_has_expired_is_refused() {
    let error = by_key(&Key::new(), "20261110T000000", &["--default-sig-expire", "3d"]);

    let SignatureError::Bad { reason, .. } = error else { panic!("{error}") };
    assert_eq!(reason, "the signature has expired");
}

fn by_key(key: &Key, signed_at: &str, options: &[&str]) -> SignatureError {
    let edition = Edition::default();
    let archive = Archive::new();
    archive.lists(&edition);
    let text = archive.release(&edition);
    archive.put_inline(&edition, &key.clearsign_at(signed_at, options, &text));
    refusal_of(&archive, key)
}

fn refusal_of(archive: &Archive, key: &Key) -> SignatureError {
    let server = Server::start(archive.root());
    let source = source(&sources_text(&server.uri(), "bookworm-security", "main", key));
    let data = tempfile::tempdir().unwrap();
    signature_error(refresh(&online(data.path(), NOW), &source).unwrap_err())
}

#[test]
fn a_release_that_lists_weak_hashes_only_is_refused() {
    let edition = Edition::default();
    let world = World::new();
    let text = world.archive.release(&edition);
    let start = text.find("SHA256:").unwrap();
    let weak = text[..start].to_owned();
    assert!(weak.contains("MD5Sum:"));
    world.archive.sign(&edition, &world.key, &weak);

    assert!(matches!(world.refusal(), Refusal::Release(ReleaseError::WeakHash)));
}

#[test]
fn a_source_without_any_key_says_so() {
    let world = World::new();
    let text = world.sources_text();
    let (unsigned, _) = text.split_once("Signed-By").unwrap();

    let refusal = world.refresh_of(&source(unsigned), NOW).unwrap_err();

    assert_eq!(signature_error(refusal), SignatureError::NoKeys);
}

const DEBIAN_KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Releases of Debian itself, against the keys that Debian installs.
#[test]
fn debians_own_releases_are_verified_and_their_signers_named() {
    let mut keyring = Keyring::default();
    assert!(keyring.add(&fs::read(DEBIAN_KEYS).unwrap()).unwrap() > 5);
    let now: Timestamp = "2026-11-23T00:00:00Z".parse().unwrap();

    for file in ["InRelease-bookworm-security", "InRelease-bullseye-security"] {
        let path = format!("{}/tests/data/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(path).unwrap();

        let signed = keyring.verify_inline(&text, now).unwrap();

        let names: Vec<&str> =
            signed.signers.iter().map(|signer| signer.user_id.as_str()).collect();
        assert_eq!(
            names,
            [
                "Debian Security Archive Automatic Signing Key (12/bookworm) <ftpmaster@debian.org>",
                "Debian Security Archive Automatic Signing Key (11/bullseye) <ftpmaster@debian.org>",
            ],
            "{file}"
        );
        assert!(signed.text.starts_with("Origin: Debian\n"), "{file}");
        for flipped in [
            text.replacen("Origin: Debian", "Origin: Debiao", 1),
            text.replacen("SHA256:\n ", "SHA256:\n  ", 1),
        ] {
            assert_ne!(flipped, text);
            let error = keyring.verify_inline(&flipped, now).unwrap_err();
            assert!(matches!(error, SignatureError::Bad { .. }), "{error}");
        }
    }
}

#[test]
fn any_flipped_byte_of_the_signed_text_is_noticed() {
    let edition = Edition::default();
    let world = World::new();
    let path = world.archive.dists(&edition).join("InRelease");
    let signed = fs::read(path).unwrap();
    let mut keyring = Keyring::default();
    keyring.add(&world.key.public()).unwrap();
    let now: Timestamp = NOW.parse().unwrap();
    let good = keyring.verify_inline(std::str::from_utf8(&signed).unwrap(), now).unwrap();

    for at in 0..signed.len() {
        let mut altered = signed.clone();
        altered[at] ^= 0x01;
        let Ok(altered) = String::from_utf8(altered) else { continue };
        if let Ok(verified) = keyring.verify_inline(&altered, now) {
            assert_eq!(verified.text, good.text, "byte {at}");
        }
    }
    assert_eq!(packages(&world.refresh().unwrap()), ["tool-main 1.0-1"]);
}
