//! What there is to see while an engine runs, and what it has cost.

use crate::engine::Engine;
use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::time::Instant;

use demos::progress::Progress;

/// A table that changes while somebody watches.
pub struct Table {
    started: Instant,
    live: Option<Progress>,
}

impl Table {
    /// Live if standard output is a terminal.
    pub fn new() -> Table {
        let live = || Progress::new(0, "{msg}");
        Table {
            started: Instant::now(),
            live: io::stdout().is_terminal().then(live),
        }
    }

    pub fn show(&self, engine: &Engine<'_>) {
        if let Some(live) = &self.live {
            live.say(self.text(engine));
        }
    }

    /// The last of it.
    pub fn finish(self, engine: &Engine<'_>) -> String {
        if let Some(live) = &self.live {
            live.finish();
        }
        self.text(engine)
    }

    fn text(&self, engine: &Engine<'_>) -> String {
        let record = &engine.record;
        let scheduler = &engine.scheduler;
        let seconds = self.started.elapsed().as_secs_f64();
        let mut text = String::new();
        let per_turn = record.decoded as f64 / record.turns.max(1) as f64;
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "step {}: {} running, {} pages in use, {} forks, {} preempted",
            record.steps,
            scheduler.running.len(),
            scheduler.memory.pages_in_use(),
            scheduler.forked,
            scheduler.preempted
        );
        let _ = writeln!(
            text,
            "{:.1} tokens/s decoded, {:.1} of prompts, {} found; {per_turn:.2} tokens per turn",
            record.decoded as f64 / seconds,
            record.prompt_tokens as f64 / seconds,
            scheduler.found
        );
        let _ = writeln!(text, "{:<26}{:>9}{:>9}{:>12}", "operation", "launches", "kernels", "ms");
        for cost in engine.launcher.costs() {
            let ms = cost.time.as_secs_f64() * 1e3;
            let _ = writeln!(
                text,
                "{:<26}{:>9}{:>9}{ms:>12.1}",
                cost.name, cost.launches, cost.kernels
            );
        }
        text
    }
}
