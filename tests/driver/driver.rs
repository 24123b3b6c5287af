//! The driver that is not there: the PTX interpreter's (`compiled/ptx`), which the crate loads in the place of the real one. Here its modules
//! are hollow: any image is one, any function is in it, and launches go to a function of the test.

use sala_ptx::client::{self, Devices};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// `CUDA_ERROR_OUT_OF_MEMORY`, for faults.
pub const OUT_OF_MEMORY: u32 = 2;

/// The driver, reset, for one test at a time: its state is the process's.
pub struct Driver {
    _one_at_a_time: MutexGuard<'static, ()>,
    client: &'static client::Driver,
}

impl Driver {
    pub fn get() -> Self {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        static CLIENT: OnceLock<client::Driver> = OnceLock::new();
        let guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let client = CLIENT.get_or_init(|| {
            let path = library();
            // SAFETY: only code under this lock reads the environment while the tests run.
            unsafe { std::env::set_var("SALA_CUDA_DRIVER", &path) };
            client::Driver::open(&path).unwrap()
        });
        let driver = Self {
            _one_at_a_time: guard,
            client,
        };
        driver.reset();
        driver
    }

    /// Forgets calls, faults and the hook; the pretended devices are two A100s again, whatever the environment says.
    pub fn reset(&self) {
        self.client.reset();
        self.set_hollow(0);
        self.pretend(8, 0);
    }

    /// Pretends to be the largest GPU of a compute capability.
    pub fn pretend(&self, major: u32, minor: u32) {
        self.set_devices(Devices::of_capability(major, minor));
    }
}

impl Deref for Driver {
    type Target = client::Driver;

    fn deref(&self) -> &client::Driver {
        self.client
    }
}

/// The library that cargo has built.
pub fn library() -> PathBuf {
    client::built().expect("cargo builds the library with the tests")
}

/// A folder of this name for libraries.
pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}
