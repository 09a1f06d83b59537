//! kill -9 of the lab's process: QEMU goes with it, its leftovers when the lab is opened next.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use lab::WorkArea;
use support::{Deb, World, empty, image, machines_in};

const PLACE: &str = "LAB_TEST_PLACE";

/// Not a test of its own: the process that the test kills.
#[test]
#[ignore = "started and killed by the test below"]
fn victim() {
    let place = std::env::var(PLACE).expect("the test names a place");
    let world = World::new(&place, image("bookworm", "minimal"));
    let patch = Deb::new("web-patch", "1.0").build(&world.place);
    let proof = world.prove(&[patch], &[], &[]);
    panic!("it was not killed: {proof:?}");
}

#[test]
fn nothing_survives_the_process() {
    let name = "killed";
    let place = empty(name);
    image("bookworm", "minimal");
    for after in [0, 700, 4000] {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "victim", "--ignored"])
            .env(PLACE, name)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("QEMU runs", || !machines_in(&place).is_empty());
        thread::sleep(Duration::from_millis(after));

        victim.kill().unwrap();
        victim.wait().unwrap();

        wait_until("QEMU is gone", || machines_in(&place).is_empty());
        assert!(files(&place.join("lab")) > 0, "the killed process could not tidy up");
        let (_, leftovers) = WorkArea::open(&place.join("lab")).unwrap();
        assert_eq!(leftovers.directories, 1);
        assert_eq!(files(&place.join("lab")), 0);
    }
}

fn files(directory: &Path) -> usize {
    std::fs::read_dir(directory).map(Iterator::count).unwrap_or_default()
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(120), "it does not come about that {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
