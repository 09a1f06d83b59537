//! Progress on a terminal, on standard error; silent elsewhere.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use collect::apt::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::text::plain;

/// Shows what is being fetched, and may call it off.
pub(crate) struct Watch {
    bar: ProgressBar,
    running: Mutex<Vec<String>>,
    is_called_off: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Watch {
    pub(crate) fn new(visible: bool) -> Self {
        let target =
            if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template("{spinner} {msg}")
            .expect("the template is a constant that the tests show");
        bar.set_style(style);
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar, running: Mutex::new(Vec::new()), is_called_off: Box::new(|| false) }
    }

    /// Shows nothing, and goes on until this says that nobody wants it any more.
    pub(crate) fn unless(is_called_off: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { is_called_off: Box::new(is_called_off), ..Self::new(false) }
    }

    pub(super) fn done(&self) {
        self.bar.finish_and_clear();
    }

    fn show(&self, running: &[String]) {
        let more = running.len().saturating_sub(1);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        self.bar.set_message(match running.first() {
            Some(first) => format!("collecting {first}{more}"),
            None => String::new(),
        });
    }
}

impl Progress for Watch {
    fn started(&self, what: &str) {
        let mut running = self.running.lock().expect("no holder panics");
        running.push(plain(what));
        self.show(&running);
    }

    fn finished(&self, what: &str) {
        let mut running = self.running.lock().expect("no holder panics");
        let what = plain(what);
        if let Some(position) = running.iter().position(|name| *name == what) {
            running.remove(position);
        }
        self.show(&running);
    }

    fn is_called_off(&self) -> bool {
        (self.is_called_off)()
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Watch").finish_non_exhaustive()
    }
}
