//! The devices that are not there.

use std::env;
use std::ffi::{c_char, c_int, c_uint};

use super::entry::{Out, entries};
use super::state::lock;
use super::status::{INVALID_DEVICE, INVALID_VALUE, Outcome};

/// What all devices pretend to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Devices {
    /// How many there are.
    pub count: c_int,
    /// Compute capability.
    pub capability: (u32, u32),
    /// Streaming multiprocessors.
    pub multiprocessors: c_int,
    /// The most shared memory that a block may ask for.
    pub shared: c_int,
}

/// The version of the driver: CUDA 13.0.
const VERSION: c_int = 13_000;

/// Memory of a device.
const BYTES: usize = 64 << 30;

impl Devices {
    /// Devices of a compute capability, with what the largest GPU of the kind has.
    pub fn of_capability(major: u32, minor: u32) -> Self {
        let (multiprocessors, shared) = match (major, minor) {
            (8, 0) => (108, 166_912),
            (8, 6) => (84, 101_376),
            (8, _) => (128, 101_376),
            (9, _) => (132, 232_448),
            (10, _) => (148, 232_448),
            (12, _) => (170, 101_376),
            _ => (80, 98_304),
        };
        Self {
            count: 2,
            capability: (major, minor),
            multiprocessors,
            shared,
        }
    }

    /// An A100, unless `SALA_PTX_CAPABILITY` names another capability (90, 120) or `SALA_PTX_MULTIPROCESSORS` another number of them; and
    /// what is wrong with a variable.
    pub fn from_environment() -> (Self, Option<String>) {
        let number = |name: &str, least: u32| {
            let Ok(text) = env::var(name) else { return Ok(None) };
            let number = text.parse().ok().filter(|&number: &u32| number >= least);
            number
                .map(Some)
                .ok_or_else(|| format!("{name}: expected a number of at least {least}, got `{text}`"))
        };
        let read = || {
            let capability = number("SALA_PTX_CAPABILITY", 10)?.unwrap_or(80);
            let mut devices = Self::of_capability(capability / 10, capability % 10);
            if let Some(count) = number("SALA_PTX_MULTIPROCESSORS", 1)? {
                devices.multiprocessors = count as c_int;
            }
            Ok(devices)
        };
        match read() {
            Ok(devices) => (devices, None),
            Err(problem) => (Self::of_capability(8, 0), Some(problem)),
        }
    }

    /// Whether there is such a device.
    pub fn check(&self, device: c_int) -> Outcome {
        if (0..self.count).contains(&device) {
            Ok(())
        } else {
            Err(INVALID_DEVICE)
        }
    }

    /// What devices are called.
    pub fn name(&self, device: c_int) -> String {
        let (major, minor) = self.capability;
        format!("Interpreted sm_{major}{minor} {device}")
    }

    fn attribute(&self, attribute: c_int) -> c_int {
        let (major, minor) = self.capability;
        let shared_of_multiprocessor = self.shared + 1024;
        match attribute {
            1..=3 => 1024,              // threads of a block, and along x and y
            4 => 64,                    // threads along z
            5 => c_int::MAX,            // blocks along x
            6 | 7 => 65_535,            // blocks along y and z
            8 => 49_152,                // shared memory of a block without asking
            9 => 65_536,                // constant memory
            10 => 32,                   // threads of a warp
            12 | 82 => 65_536,          // registers of a block, of a multiprocessor
            13 => 1_410_000,            // kHz
            16 => self.multiprocessors, // multiprocessors
            31 | 41 => 1,               // concurrent kernels, unified addresses
            38 => 40 << 20,             // second-level cache
            39 => {
                if (major, minor) == (8, 0) || (9..12).contains(&major) {
                    2048
                } else {
                    1536
                }
            }
            75 => major as c_int, // capability
            76 => minor as c_int,
            81 => shared_of_multiprocessor, // shared memory of a multiprocessor
            97 => self.shared,              // shared memory of a block that asks
            106 => 32,                      // blocks of a multiprocessor
            111 => 1024,                    // shared memory that the system takes
            // No memory pools, no managed memory, and so on.
            _ => 0,
        }
    }
}

entries! {
    /// Does nothing: everything is always ready.
    fn cuInit(_flags: c_uint) {
        Ok(())
    }

    /// The version.
    fn cuDriverGetVersion(version: Out<c_int>) {
        version.put(VERSION)
    }

    /// The number of devices.
    fn cuDeviceGetCount(count: Out<c_int>) {
        count.put(lock().devices.count)
    }

    /// A device.
    fn cuDeviceGet(device: Out<c_int>, ordinal: c_int) {
        lock().devices.check(ordinal)?;
        device.put(ordinal)
    }

    /// A device's name.
    fn cuDeviceGetName(name: *mut c_char, length: c_int, device: c_int) {
        let text = {
            let state = lock();
            state.devices.check(device)?;
            state.devices.name(device)
        };
        let room = usize::try_from(length).unwrap_or(0);
        if name.is_null() || room == 0 {
            return Err(INVALID_VALUE);
        }
        let bytes = text.len().min(room - 1);
        // SAFETY: the caller gives room for `length` characters.
        unsafe {
            name.cast::<u8>().copy_from_nonoverlapping(text.as_ptr(), bytes);
            name.add(bytes).write(0);
        }
        Ok(())
    }

    /// A number about a device.
    fn cuDeviceGetAttribute(value: Out<c_int>, attribute: c_int, device: c_int) {
        let state = lock();
        state.devices.check(device)?;
        value.put(state.devices.attribute(attribute))
    }

    /// A device's identity.
    fn cuDeviceGetUuid_v2(uuid: Out<[u8; 16]>, device: c_int) {
        lock().devices.check(device)?;
        uuid.put(std::array::from_fn(|index| if index == 0 { device as u8 } else { b'p' }))
    }

    /// A device's memory.
    fn cuDeviceTotalMem_v2(bytes: Out<usize>, device: c_int) {
        lock().devices.check(device)?;
        bytes.put(BYTES)
    }

    /// Memory that is left, and all.
    fn cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) {
        let state = lock();
        state.current()?;
        free.put(BYTES - state.heap.bytes().min(BYTES))?;
        total.put(BYTES)
    }
}
