//! A trial step by step, with a machine that follows a script and a clock that does not wait.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use drivers::{
    Cause, Clock, Conditions, Driver, DriverError, Evidence, Fault, Halt, Limits, LocalError,
    Machine, Observer, Outcome, Reason, State, Step, Swept, TrialError, Unobserved,
};
use lab::BaseImage;

const SECOND: Duration = Duration::from_secs(1);

/// What a machine says and is at each look; the last look lasts.
type Script = Vec<(State, &'static str)>;

#[derive(Debug)]
struct Place {
    script: Script,
    /// What it goes through once the button has been pressed so often.
    after_button: (usize, Script),
    deletable: bool,
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    presses: AtomicUsize,
    deleted: AtomicBool,
}

#[derive(Debug)]
struct Scripted {
    looks: VecDeque<(State, &'static str)>,
    after_button: (usize, Script),
    words: &'static str,
    deletable: bool,
    seen: Arc<Seen>,
}

impl Driver for Place {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn create(&self, _: &BaseImage, _: &Limits) -> Result<Box<dyn Machine>, DriverError> {
        Ok(Box::new(Scripted {
            looks: self.script.clone().into(),
            after_button: self.after_button.clone(),
            words: "",
            deletable: self.deletable,
            seen: Arc::clone(&self.seen),
        }))
    }

    fn sweep(&self) -> Result<Swept, DriverError> {
        Ok(Swept::default())
    }

    fn pace(&self) -> Duration {
        SECOND
    }
}

impl Machine for Scripted {
    fn name(&self) -> &'static str {
        "patchwright-trial-scripted"
    }

    fn state(&mut self) -> Result<State, DriverError> {
        let (state, words) =
            if self.looks.len() > 1 { self.looks.pop_front() } else { self.looks.front().cloned() }
                .unwrap();
        self.words = words;
        Ok(state)
    }

    fn read_console(&mut self) -> Result<Vec<u8>, DriverError> {
        Ok(std::mem::take(&mut self.words).as_bytes().to_vec())
    }

    fn press_power_button(&mut self) -> Result<(), DriverError> {
        let presses = self.seen.presses.fetch_add(1, Ordering::SeqCst) + 1;
        if presses == self.after_button.0 {
            self.looks = self.after_button.1.clone().into();
        }
        Ok(())
    }

    fn disk(&mut self) -> Result<PathBuf, DriverError> {
        Ok(PathBuf::from("/nowhere/disk"))
    }

    fn delete(&mut self) -> Result<(), DriverError> {
        if !self.deletable {
            let machine = self.name().to_owned();
            return Err(LocalError::Runs { machine }.into());
        }
        self.seen.deleted.store(true, Ordering::SeqCst);
        Ok(())
    }
}

/// Time that passes only where it is waited for.
#[derive(Debug, Default)]
struct Stepped(Mutex<Duration>);

impl Clock for Stepped {
    fn now(&self) -> Duration {
        *self.0.lock().unwrap()
    }

    fn unix(&self) -> u64 {
        0
    }

    fn wait(&self, duration: Duration) {
        *self.0.lock().unwrap() += duration;
    }
}

impl Place {
    fn new(script: Script) -> Self {
        let seen = Arc::default();
        let off = vec![(State::Running, ""), (State::Off(Cause::PoweredOff), "")];
        Self { script, after_button: (1, off), deletable: true, seen }
    }

    fn attempt<T>(&self, scan: impl FnOnce(&Path) -> T) -> Result<Outcome<T>, TrialError> {
        self.watched(&Unobserved, scan)
    }

    fn watched<T>(
        &self,
        observer: &dyn Observer,
        scan: impl FnOnce(&Path) -> T,
    ) -> Result<Outcome<T>, TrialError> {
        let place = tempfile::tempdir().unwrap();
        let image = place.path().join("image.raw");
        std::fs::write(&image, [0; 512]).unwrap();
        let image = BaseImage::open(&image).unwrap();
        let limits = Limits {
            create: 60 * SECOND,
            boot: 100 * SECOND,
            shutdown: 40 * SECOND,
            ..Limits::default()
        };
        let clock = Stepped::default();
        let conditions = Conditions { limits: &limits, observer, clock: &clock };
        drivers::trial(self, &image, &conditions, scan)
    }

    fn fails(&self) -> Reason {
        let failed = self.attempt(|_| panic!("nothing to scan")).unwrap_err();
        assert!(self.seen.deleted.load(Ordering::SeqCst), "{failed:?}");
        assert_eq!(failed.machine.as_deref(), Some("patchwright-trial-scripted"));
        assert!(!failed.to_string().is_empty());
        failed.reason
    }
}

#[test]
fn a_machine_that_comes_up_is_switched_off_scanned_and_deleted() {
    let place = Place::new(vec![
        (State::Starting, ""),
        (State::Running, "[    0.0] Linux version 6.1.0-9-amd64 (x)\n"),
        (State::Running, "web-1 login: "),
    ]);

    let outcome = place.attempt(Path::to_owned).unwrap();

    assert_eq!(outcome.scanned, Path::new("/nowhere/disk"));
    assert_eq!(outcome.seen.evidence, Evidence::LoginPrompt);
    assert_eq!(outcome.seen.kernel.unwrap().release, "6.1.0-9-amd64");
    assert_eq!(outcome.seen.to_login, Some(Duration::ZERO));
    assert_eq!(outcome.seen.to_off, 2 * SECOND);
    assert!(outcome.seen.console.ends_with("web-1 login: "));
    assert_eq!(place.seen.presses.load(Ordering::SeqCst), 1);
    assert!(place.seen.deleted.load(Ordering::SeqCst));
}

#[test]
fn a_press_that_nobody_heard_is_repeated() {
    let mut place = Place::new(vec![(State::Running, "login: ")]);
    place.after_button = (3, vec![(State::Off(Cause::Untold), "")]);

    let outcome = place.attempt(|_| ()).unwrap();

    assert_eq!(outcome.seen.to_off, 31 * SECOND);
}

#[test]
fn a_silent_machine_is_up_only_if_it_heeds_its_power_button() {
    let mut place = Place::new(vec![(State::Running, "BdsDxe: starting\nWelcome to GRUB!\n")]);
    let outcome = place.attempt(|_| ()).unwrap();
    assert_eq!(outcome.seen.evidence, Evidence::PowerButton);
    assert_eq!((outcome.seen.to_login, outcome.seen.kernel), (None, None));

    place.after_button.0 = usize::MAX;
    let reason = place.fails();
    assert!(matches!(reason, Reason::NeverCameUp { limit } if limit == 100 * SECOND), "{reason:?}");
}

#[test]
fn a_system_that_speaks_must_also_come_to_its_prompt() {
    let place = Place::new(vec![(State::Running, "[    0.5] Freeing memory\n")]);

    let reason = place.fails();

    assert!(matches!(reason, Reason::NeverCameUp { .. }), "{reason:?}");
    assert_eq!(place.seen.presses.load(Ordering::SeqCst), 0);
    assert_eq!(reason.fault(), Fault::Image);
    assert!(reason.help().is_some());
}

#[test]
fn a_machine_that_is_up_but_does_not_go_down_fails() {
    let mut place = Place::new(vec![(State::Running, "login: ")]);
    place.after_button.0 = usize::MAX;
    let reason = place.fails();
    assert!(matches!(reason, Reason::DidNotPowerOff { limit } if limit == 40 * SECOND));
}

#[test]
fn what_goes_down_by_itself_has_not_come_up() {
    for cause in [Cause::PoweredOff, Cause::Restarted, Cause::Crashed, Cause::Untold] {
        let place = Place::new(vec![(State::Running, "[    0.5] x\n"), (State::Off(cause), "")]);
        let reason = place.fails();
        let Reason::WentDown { step, cause: told } = reason else { panic!("{reason:?}") };
        assert_eq!((step, told), (Step::Boot, cause));
    }
    // Between the prompt and the button.
    let place = Place::new(vec![
        (State::Running, ""),
        (State::Running, "login: "),
        (State::Off(Cause::PoweredOff), ""),
    ]);
    let reason = place.fails();
    assert!(matches!(reason, Reason::WentDown { step: Step::PowerOff, .. }), "{reason:?}");
}

#[test]
fn a_restart_in_place_of_going_off_fails() {
    let mut place = Place::new(vec![(State::Running, "login: ")]);
    place.after_button = (1, vec![(State::Off(Cause::Restarted), "")]);
    let reason = place.fails();
    assert!(matches!(reason, Reason::WentDown { step: Step::PowerOff, .. }), "{reason:?}");
}

#[test]
fn a_panic_counts_at_any_time_also_in_the_last_words() {
    let panic = "[    9.0] Kernel panic - not syncing: Attempted to kill init!\n";
    let place = Place::new(vec![(State::Running, ""), (State::Off(Cause::Crashed), panic)]);
    let reason = place.fails();
    assert!(matches!(&reason, Reason::Panicked { message } if message.contains("kill init")));

    let mut place = Place::new(vec![(State::Running, "login: ")]);
    place.after_button = (1, vec![(State::Running, panic)]);
    assert!(matches!(place.fails(), Reason::Panicked { .. }));
}

#[test]
fn who_waits_for_a_person_is_not_waited_for() {
    let place = Place::new(vec![(State::Running, ""), (State::Running, "grub> ")]);
    let reason = place.fails();
    assert!(matches!(reason, Reason::Halted { halt: Halt::BootLoader }), "{reason:?}");
    assert!(reason.to_string().contains("boot loader's prompt"));
}

#[test]
fn what_the_place_fails_at_says_nothing_of_the_image() {
    let lost = State::Failed { reason: "no valid host".to_owned() };
    let place = Place::new(vec![(State::Starting, ""), (lost, "")]);
    let reason = place.fails();
    assert!(matches!(&reason, Reason::Lost { step: Step::Create, .. }), "{reason:?}");
    assert_eq!(reason.fault(), Fault::Place);

    let place = Place::new(vec![(State::Starting, "")]);
    let reason = place.fails();
    assert!(matches!(reason, Reason::NeverRan { limit } if limit == 60 * SECOND), "{reason:?}");
}

/// Wants a trial until the machine's power button is to be pressed.
#[derive(Debug, Default)]
struct Fickle(AtomicBool);

impl Observer for Fickle {
    fn step(&self, step: Step, _: Duration) {
        self.0.fetch_or(step == Step::PowerOff, Ordering::SeqCst);
    }

    fn is_called_off(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

#[test]
fn a_trial_that_is_called_off_ends_at_once_and_leaves_no_machine() {
    let place = Place::new(vec![(State::Running, "login: ")]);

    let failed = place.watched(&Fickle::default(), |_| panic!("nothing to scan")).unwrap_err();

    assert!(matches!(failed.reason, Reason::CalledOff { step: Step::PowerOff }), "{failed:?}");
    assert_eq!(failed.reason.fault(), Fault::Place, "it says nothing of the image");
    assert_eq!(place.seen.presses.load(Ordering::SeqCst), 0);
    assert!(place.seen.deleted.load(Ordering::SeqCst));
}

#[test]
fn a_machine_that_cannot_be_deleted_is_told() {
    let mut place = Place::new(vec![(State::Running, "login: ")]);
    place.deletable = false;
    assert!(place.attempt(|_| ()).unwrap().left_behind.is_some());

    place.script = vec![(State::Running, "grub> ")];
    let failed = place.attempt(|_| ()).unwrap_err();
    assert!(failed.left_behind.is_some());
}

#[test]
fn a_scan_that_panics_leaves_no_machine() {
    let place = Place::new(vec![(State::Running, "login: ")]);
    let attempt = std::panic::AssertUnwindSafe(|| place.attempt(|_| panic!("in the scan")));
    assert!(std::panic::catch_unwind(attempt).is_err());
    assert!(place.seen.deleted.load(Ordering::SeqCst));
}
