//! Ranks on a GPU each, through NCCL. Compiled and linted, but run by nobody yet: it takes two GPUs.

use super::Communicator;
use crate::Failure;
use crate::array::Array;
use cudarc::nccl::result::{self, NcclError};
use cudarc::nccl::sys;
use sala_kernels::{Device, Stream};
use std::ffi::c_void;

/// What the ranks of one exchange have in common.
#[derive(Clone, Copy)]
pub struct NcclId(sys::ncclUniqueId);

/// A rank's communicator, and the stream that it queues on.
pub struct Nccl {
    communicator: sys::ncclComm_t,
    device: Device,
    stream: Stream,
    rank: usize,
    ranks: usize,
}

// SAFETY: NCCL takes calls from any thread, one at a time; `&mut self` and the drop are those.
unsafe impl Send for Nccl {}

impl NcclId {
    /// A new one, to be given to every rank.
    ///
    /// # Errors
    /// [`Failure::Exchange`] where NCCL says why not.
    ///
    /// # Panics
    /// Where there is no `libnccl.so`, with a sentence by cudarc.
    pub fn new() -> Result<NcclId, Failure> {
        result::get_uniqueid().map(NcclId).map_err(failure)
    }
}

impl Nccl {
    /// Joins an exchange as a rank, on a device that no other rank is on. Returns when all have joined.
    ///
    /// # Errors
    /// [`Failure::Kernels`] of the device, [`Failure::Exchange`] where NCCL says why not.
    pub fn join(id: NcclId, device: &Device, rank: usize, ranks: usize) -> Result<Nccl, Failure> {
        let stream = Stream::new(device)?;
        device.make_current()?;
        let mut communicator = std::ptr::null_mut();
        // SAFETY: the pointer is written during the call; the device's context is current, as NCCL wants it.
        unsafe { result::comm_init_rank(&mut communicator, ranks as i32, id.0, rank as i32) }.map_err(failure)?;
        Ok(Nccl {
            communicator,
            device: device.clone(),
            stream,
            rank,
            ranks,
        })
    }
}

impl Communicator for Nccl {
    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.ranks
    }

    fn all_gather(&mut self, piece: &Array, all: &mut Array) -> Result<(), Failure> {
        self.device.make_current()?;
        let bytes = piece.bytes();
        if all.bytes() < bytes * self.ranks {
            return Err(Failure::Exchange(format!(
                "{} bytes for {} pieces of {bytes}",
                all.bytes(),
                self.ranks
            )));
        }
        let (from, to) = (piece.address() as *const c_void, all.address() as *mut c_void);
        // SAFETY: both arrays are memory of this rank's device, `all` has room for every piece, and both outlive the call, which waits for its end.
        unsafe {
            let stream = self.stream.as_raw().cast();
            result::all_gather(
                from,
                to,
                bytes,
                sys::ncclDataType_t::ncclUint8,
                self.communicator,
                stream,
            )
        }
        .map_err(failure)?;
        Ok(self.stream.synchronize()?)
    }
}

impl Drop for Nccl {
    fn drop(&mut self) {
        // SAFETY: it was made by `join`, and nothing is queued on it. There is nobody to tell of an error.
        let _ = unsafe { result::comm_destroy(self.communicator) };
    }
}

fn failure(error: NcclError) -> Failure {
    Failure::Exchange(format!("NCCL: {:?}", error.0))
}
