//! kill -9 of the lab's process: QEMU goes with it, its leftovers when the lab is opened next.
//!
//! `LAB_KILLS=100` kills a hundred bakes in place of six.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::{
    BaseImage, Job, Misstep, Observer, Profile, ProveError, Recipe, Stage, Thoroughness, VmError,
    WorkArea, bake, digest, remove_unfinished,
};
use support::{Deb, Printed, World, empty, image, machines_in};

const PLACE: &str = "LAB_TEST_PLACE";
const IMAGE: &str = "LAB_TEST_IMAGE";

/// Stages of a bake at whose beginning, or a little later, the process is killed.
const STAGES: [&str; 5] = ["boot", "install", "generalise", "compact", "verify"];

/// The world that the killing test names.
fn named_world() -> (String, World) {
    let named = |name: &str| std::env::var(name).expect("the test names it");
    let image = BaseImage::open(Path::new(&named(IMAGE))).unwrap();
    (named(PLACE), World::new(&named(PLACE), image))
}

/// Not a test of its own: the process that the test kills.
#[test]
#[ignore = "started and killed by the test below"]
fn victim() {
    let (_, world) = named_world();
    let patch = Deb::new("web-patch", "1.0").build(&world.place);
    let proof = world.prove(&[patch], &[], &[]);
    panic!("it was not killed: {proof:?}");
}

/// The same for a bake.
#[test]
#[ignore = "started and killed by the test below"]
fn baking_victim() {
    let (place, world) = named_world();
    let patch = Deb::new("web-patch", "1.0").build(&world.place);
    let recipe = Recipe {
        image: &world.image,
        patches: &[patch],
        clock: "2026-11-01T00:00:00Z".parse().unwrap(),
        limits: &world.limits,
    };
    let into = world.place.join("images");
    let observer: Arc<dyn Observer> = Arc::new(Printed(place));
    bake(&world.area, &recipe, &into, &world.evidence(), &observer).unwrap();
    // It may have come to its end just before it was killed.
    thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_killed_bake_leaves_a_whole_image_or_none() {
    let name = "killed-bake";
    let kills: u64 = std::env::var("LAB_KILLS").map_or(6, |number| number.parse().unwrap());
    let image = image("bookworm", "minimal");
    let mut chance: u64 = 20_261_125;
    let mut whole = 0;
    for kill in 0..kills {
        // xorshift64: any fixed sequence will do.
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        // Each stage in its turn, so that few kills meet all of them.
        let stage = STAGES[usize::try_from(kill).unwrap() % STAGES.len()];
        let place = empty(name);
        let mut victim = started("baking_victim", name, &image, Stdio::piped());
        let lines = BufReader::new(victim.stderr.take().unwrap()).lines();
        let begins = format!(" s {stage}");
        let mut said = Vec::new();
        let came = lines.map_while(Result::ok).any(|line| {
            said.push(line);
            said.last().is_some_and(|line| line.trim_end().ends_with(&begins))
        });
        assert!(came, "it ended before {stage}: {said:#?}");
        thread::sleep(Duration::from_millis(chance % 2500));

        victim.kill().unwrap();
        victim.wait().unwrap();

        wait_until("QEMU is gone", || machines_in(&place).is_empty());
        WorkArea::open(&place.join("lab")).unwrap();
        assert_eq!(files(&place.join("lab")), 0);
        let images = place.join("images");
        for entry in std::fs::read_dir(&images).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if !name.starts_with('.') {
                let (sha256, _) = digest(&path).unwrap();
                assert_eq!(name, format!("{sha256}.qcow2"), "kill {kill} at {stage}");
                whole += 1;
            }
        }
        let before = files(&images);
        let removed = if images.exists() { remove_unfinished(&images).unwrap() } else { 0 };
        assert_eq!(files(&images), before - removed);
        eprintln!("kill {kill} at {stage}: {removed} unfinished, {} whole", before - removed);
    }
    eprintln!("{kills} kills, {whole} of them after the image was there");
}

/// Calls a job off when a stage begins.
#[derive(Debug)]
struct CalledOff {
    at: Stage,
    is_off: AtomicBool,
}

impl Observer for CalledOff {
    fn stage(&self, stage: Stage, _: Duration) {
        self.is_off.fetch_or(stage == self.at, Ordering::Relaxed);
    }

    fn is_called_off(&self) -> bool {
        self.is_off.load(Ordering::Relaxed)
    }
}

#[test]
fn a_job_that_is_called_off_ends_at_once_and_says_nothing_of_the_patch() {
    let world = World::new("called-off", image("bookworm", "minimal"));
    let patch = Deb::new("web-patch", "1.0").postinst("sleep 1000").build(&world.place);
    for at in [Stage::Boot, Stage::Install] {
        let observer = Arc::new(CalledOff { at, is_off: AtomicBool::new(false) });
        let job = Job {
            image: &world.image,
            patches: std::slice::from_ref(&patch),
            previous: &[],
            claims: &[],
            profile: &Profile::default(),
            limits: &world.limits,
            thoroughness: Thoroughness::UntilRejected,
        };

        let outcome = lab::prove(&world.area, &job, &world.evidence(), observer);

        let is_it =
            matches!(&outcome, Err(ProveError::Vm(VmError::Guest(Misstep::CalledOff { .. }))));
        assert!(is_it, "{outcome:?}");
        world.assert_clean();
    }
}

#[test]
fn nothing_survives_the_process() {
    let name = "killed";
    let place = empty(name);
    let image = image("bookworm", "minimal");
    for after in [0, 700, 4000] {
        let mut victim = started("victim", name, &image, Stdio::null());
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

fn started(victim: &str, place: &str, image: &BaseImage, errors: Stdio) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", victim, "--ignored", "--nocapture"])
        .env(PLACE, place)
        .env(IMAGE, image.path())
        .stdout(Stdio::null())
        .stderr(errors)
        .spawn()
        .unwrap()
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
