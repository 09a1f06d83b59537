//! Packages are fetched by the hashes of verified lists, kept, and not kept for ever.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use collect::apt::{Collector, PackageError, PackageWant, Progress, Suite};
use collect::fetch::FetchError;

use super::archive::sha256;
use super::changelogs::{WITH, pool, world};
use super::server::Conduct;
use super::world::{NOW, offline, online};

/// Nobody wants anything.
struct CalledOff;

impl Progress for CalledOff {
    fn started(&self, what: &str) {
        panic!("{what} was begun");
    }
    fn finished(&self, _: &str) {}
    fn is_called_off(&self) -> bool {
        true
    }
}

fn package(
    collector: &Collector,
    suite: &Suite,
    progress: &dyn Progress,
) -> Result<PathBuf, PackageError> {
    let packages = suite.packages(&|name, _| name == WITH.name).unwrap();
    let want = PackageWant { suite, package: &packages[0] };
    collector.packages(&[want], progress).remove(0)
}

#[test]
fn a_package_is_fetched_once_and_again_where_the_disk_has_altered_it() {
    let world = world(&[WITH]);
    let suite = world.refresh().unwrap();
    let data = world.data.path();
    assert!(matches!(
        package(&offline(data, NOW), &suite, &()),
        Err(PackageError::NotCached { .. })
    ));

    let path = package(&online(data, NOW), &suite, &()).unwrap();

    let bytes = fs::read(pool(&world, &WITH)).unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(path.file_stem().unwrap().to_str().unwrap(), sha256(&bytes));
    world.server.take_requests();
    assert_eq!(package(&online(data, NOW), &suite, &()).unwrap(), path);
    assert!(world.server.take_requests().is_empty());

    let mut rotten = bytes.clone();
    rotten[100] ^= 1;
    fs::write(&path, rotten).unwrap();
    package(&online(data, NOW), &suite, &()).unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_package_that_is_not_what_its_list_says_is_refused_and_not_kept() {
    let world = world(&[WITH]);
    let suite = world.refresh().unwrap();
    let mut bytes = fs::read(pool(&world, &WITH)).unwrap();
    bytes[100] ^= 1;
    fs::write(pool(&world, &WITH), bytes).unwrap();

    let error = package(&online(world.data.path(), NOW), &suite, &()).unwrap_err();

    assert!(matches!(error, PackageError::Fetch(FetchError::HashMismatch { .. })), "{error:?}");
    let kept = fs::read_dir(world.data.path().join("packages")).unwrap();
    assert!(
        kept.map(|it| it.unwrap().path()).all(|it| it.extension().is_none_or(|it| it != "deb"))
    );
}

#[test]
fn what_nobody_wanted_for_long_is_removed() {
    let world = world(&[WITH]);
    let suite = world.refresh().unwrap();
    let directory = world.data.path().join("packages");
    let days = |days: u64| SystemTime::now() - Duration::from_secs(days * 24 * 3600);
    let path = package(&online(world.data.path(), NOW), &suite, &()).unwrap();
    let aged = |name: &str, age: u64| {
        let path = directory.join(name);
        File::create(&path).unwrap().set_modified(days(age)).unwrap();
        path
    };
    let (old, young) = (aged("old.deb", 61), aged("young.deb", 59));
    File::open(&path).unwrap().set_modified(days(61)).unwrap();

    world.server.set("", Conduct::Absent);
    assert_eq!(package(&online(world.data.path(), NOW), &suite, &()).unwrap(), path);

    assert!(path.exists(), "it was wanted just now");
    assert!(!old.exists());
    assert!(young.exists());
}

#[test]
fn what_is_called_off_is_not_begun() {
    let world = world(&[WITH]);
    let suite = world.refresh().unwrap();
    world.server.take_requests();

    let outcome = package(&online(world.data.path(), NOW), &suite, &CalledOff);

    assert!(matches!(outcome, Err(PackageError::CalledOff { .. })), "{outcome:?}");
    assert!(world.server.take_requests().is_empty());
}
