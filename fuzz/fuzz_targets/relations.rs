//! What packages ask of each other.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: (&str, &str)| {
    let (depends, provides) = data;
    let package = |name: &str| domain::dependency::Relations {
        name: name.to_owned(),
        version: "1".to_owned(),
        depends: depends.to_owned(),
        provides: provides.to_owned(),
        ..Default::default()
    };
    let offered = |wanted: &domain::dependency::Alternative<'_>| {
        // Whatever is asked for is there, and asks for the same again.
        Ok::<_, std::convert::Infallible>(wanted.admits("1").then(|| package(wanted.name)))
    };
    let Ok(done) = domain::dependency::complete(&[], &[package("chosen")], offered);
    let groups = domain::dependency::groups(depends).count();
    assert!(done.further.len() <= 1 + groups * (1 + groups));
});
