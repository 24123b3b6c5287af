//! A progress bar for long runs that somebody watches.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::{Duration, Instant};

/// How long a patient bar waits before it appears.
const PATIENCE: Duration = Duration::from_secs(2);

/// A bar on stderr, if that is a terminal.
pub struct Progress {
    started: Instant,
    bar: ProgressBar,
}

impl Progress {
    /// A bar of `length` steps that appears at once. `template` is written in indicatif's language.
    pub fn new(length: usize, template: &str) -> Progress {
        let progress = Progress::patient(length, template);
        progress.show();
        progress
    }

    /// For runs that are often short: the bar appears with the first step that ends after two seconds.
    pub fn patient(length: usize, template: &str) -> Progress {
        let bar = ProgressBar::with_draw_target(Some(length as u64), ProgressDrawTarget::hidden());
        let style = ProgressStyle::with_template(template);
        Progress {
            started: Instant::now(),
            bar: bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())),
        }
    }

    /// So many more steps are done.
    pub fn advance(&self, steps: usize) {
        if self.bar.is_hidden() && self.started.elapsed() > PATIENCE {
            self.show();
        }
        self.bar.inc(steps as u64);
    }

    /// Prints something without the bar in the way.
    pub fn interrupt<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    /// Says something in place of `{msg}`.
    pub fn say(&self, message: String) {
        self.bar.set_message(message);
        self.bar.tick();
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn show(&self) {
        self.bar.set_draw_target(ProgressDrawTarget::stderr());
        self.bar.tick();
    }
}
