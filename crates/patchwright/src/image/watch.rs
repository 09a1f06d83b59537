//! What a job does, on a terminal's standard error while it does it.

use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use drivers::Step;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lab::{Observer, Stage};

/// Shows the stage with its time, and the serial console where asked for.
#[derive(Debug)]
pub(super) struct Terminal {
    bar: ProgressBar,
    serial: bool,
    current: Mutex<Option<(String, Duration)>>,
    is_visible: bool,
}

impl Terminal {
    pub(super) fn new(is_visible: bool, serial: bool) -> Self {
        let target =
            if is_visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template("{spinner} {msg}  {elapsed}")
            .expect("the template is a constant");
        bar.set_style(style);
        Self { bar, serial, current: Mutex::default(), is_visible }
    }

    pub(super) fn observer(self: &Arc<Self>) -> Arc<dyn Observer> {
        self.bar.enable_steady_tick(Duration::from_millis(200));
        Arc::clone(self) as Arc<dyn Observer>
    }

    pub(super) fn done(&self) {
        self.bar.finish_and_clear();
    }
}

impl Terminal {
    fn enter(&self, stage: &str, elapsed: Duration) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((before, since)) = current.replace((stage.to_owned(), elapsed))
            && self.is_visible
        {
            let took = elapsed.saturating_sub(since).as_secs_f64();
            self.bar.suspend(|| {
                let _ = writeln!(anstream::stderr(), "  {before:<16} {took:>7.1} s");
            });
        }
        self.bar.set_message(stage.to_owned());
    }

    fn print(&self, bytes: &[u8]) {
        if !self.serial {
            return;
        }
        // A guest may write anything: only lines and what can be printed get through.
        let text: String = String::from_utf8_lossy(bytes)
            .chars()
            .filter(|character| *character == '\n' || !character.is_control())
            .collect();
        self.bar.suspend(|| {
            let _ = anstream::stderr().write_all(text.as_bytes());
        });
    }
}

impl Observer for Terminal {
    fn stage(&self, stage: Stage, elapsed: Duration) {
        self.enter(stage.name(), elapsed);
    }

    fn serial(&self, bytes: &[u8]) {
        self.print(bytes);
    }
}

impl drivers::Observer for Terminal {
    fn step(&self, step: Step, elapsed: Duration) {
        self.enter(step.name(), elapsed);
    }

    fn console(&self, bytes: &[u8]) {
        self.print(bytes);
    }
}
