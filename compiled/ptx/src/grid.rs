//! The blocks of a grid, over the threads of this machine.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::block::{Cost, Launch, Runner};
use crate::fault::Report;
use crate::options::Order;

/// How long one thread runs blocks alone: most grids are done by then, and starting threads is not for nothing.
const ALONE: Duration = Duration::from_micros(300);

/// Threads of all launches that run blocks.
static BUSY: AtomicUsize = AtomicUsize::new(0);

/// The blocks of a launch that nobody has taken.
struct Queue<'l> {
    launch: &'l Launch<'l>,
    taken: AtomicU64,
    blocks: u64,
    result: Mutex<Result<Cost, Report>>,
}

/// Runs a launch to its end, or to its first fault.
pub fn run(launch: &Launch<'_>) -> Result<Cost, Report> {
    let queue = Queue {
        launch,
        taken: AtomicU64::new(0),
        blocks: launch.grid.iter().map(|&blocks| u64::from(blocks)).product(),
        result: Mutex::new(Ok(Cost::default())),
    };
    BUSY.fetch_add(1, Ordering::Relaxed);
    let start = Instant::now();
    let mut runner = Runner::new(launch);
    let goes_on = queue.work(&mut runner, || start.elapsed() < ALONE);
    if goes_on {
        let helpers = launch.options.threads.saturating_sub(BUSY.load(Ordering::Relaxed));
        let left = queue.blocks.saturating_sub(queue.taken.load(Ordering::Relaxed));
        let helpers = helpers.min(usize::try_from(left.saturating_sub(1)).unwrap_or(usize::MAX));
        thread::scope(|scope| {
            for _ in 0..helpers {
                scope.spawn(|| {
                    BUSY.fetch_add(1, Ordering::Relaxed);
                    let mut runner = Runner::new(launch);
                    queue.work(&mut runner, || true);
                    queue.settle(&runner);
                    BUSY.fetch_sub(1, Ordering::Relaxed);
                });
            }
            queue.work(&mut runner, || true);
        });
    }
    queue.settle(&runner);
    BUSY.fetch_sub(1, Ordering::Relaxed);
    queue
        .result
        .into_inner()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Queue<'_> {
    /// Runs blocks while there are any and `goes_on` says so; whether there may be more.
    fn work(&self, runner: &mut Runner<'_>, goes_on: impl Fn() -> bool) -> bool {
        loop {
            if !goes_on() {
                return true;
            }
            let index = self.taken.fetch_add(1, Ordering::Relaxed);
            if index >= self.blocks {
                return false;
            }
            if let Err(report) = runner.run(self.block(index)) {
                // Nobody takes another block.
                self.taken.store(self.blocks, Ordering::Relaxed);
                let mut result = self.lock();
                if result.is_ok() {
                    *result = Err(report);
                }
                return false;
            }
        }
    }

    fn block(&self, index: u64) -> [u32; 3] {
        let index = match self.launch.options.order {
            Order::Forward => index,
            Order::Reversed => self.blocks - 1 - index,
        };
        let [x, y, _] = self.launch.grid.map(u64::from);
        [index % x, index / x % y, index / x / y].map(|coordinate| coordinate as u32)
    }

    fn settle(&self, runner: &Runner<'_>) {
        if let Ok(cost) = &mut *self.lock() {
            *cost += runner.cost();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Result<Cost, Report>> {
        self.result.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
