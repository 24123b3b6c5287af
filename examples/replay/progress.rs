//! A progress bar for long runs that somebody watches.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// How long a run may take without a bar.
const PATIENCE: Duration = Duration::from_secs(2);

/// A bar on stderr that appears only on a terminal, and only once the run has taken two seconds.
pub struct Progress {
    started: Instant,
    bar: ProgressBar,
}

impl Progress {
    pub fn new(files: usize) -> Self {
        let bar = ProgressBar::with_draw_target(Some(files as u64), ProgressDrawTarget::hidden());
        Progress {
            started: Instant::now(),
            bar,
        }
    }

    /// Says something on stdout or stderr without the bar in the way.
    pub fn interrupt(&self, say: impl FnOnce()) {
        self.bar.suspend(say);
    }

    /// One more file is done.
    pub fn advance(&mut self) {
        let is_due = self.bar.is_hidden() && self.started.elapsed() > PATIENCE;
        if is_due && std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} files, {elapsed}");
            self.bar
                .set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.inc(1);
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
