//! What ranks exchange: everything that this crate's operations need of a communication library is one collective.

#[cfg(feature = "nccl")]
mod nccl;
mod threads;

#[cfg(feature = "nccl")]
pub use nccl::{Nccl, NcclId};
pub use threads::{Threads, threads};

use crate::Failure;
use crate::array::Array;
use sala_kernels::{Element, Result};

/// One rank's end of an exchange. All ranks make the same calls in the same order.
pub trait Communicator: Send {
    /// Which rank this is.
    fn rank(&self) -> usize;

    /// How many there are.
    fn ranks(&self) -> usize;

    /// Gathers the pieces of all ranks, of one size, into `all`, in the order of ranks. What wrote `piece` has finished; the call returns when
    /// all pieces are there. An engine would queue it on a stream beside kernels that do not need it.
    ///
    /// # Errors
    /// [`Failure::Exchange`] where a rank has ended, or the library says why not.
    fn all_gather(&mut self, piece: &Array, all: &mut Array) -> std::result::Result<(), Failure>;
}

/// A communicator that knows what has passed through it.
pub struct Exchange {
    communicator: Box<dyn Communicator>,
    received: u64,
}

impl Exchange {
    /// Over a communicator.
    pub fn new(communicator: Box<dyn Communicator>) -> Exchange {
        Exchange {
            communicator,
            received: 0,
        }
    }

    /// Which rank this is.
    pub fn rank(&self) -> usize {
        self.communicator.rank()
    }

    /// How many there are.
    pub fn ranks(&self) -> usize {
        self.communicator.ranks()
    }

    /// The pieces of all ranks, in a new array `[ranks · n, …]` for a piece of `[n, …]`.
    ///
    /// # Errors
    /// As [`Communicator::all_gather`], and where there is no memory.
    pub fn gather<T: Element>(&mut self, piece: &Array) -> std::result::Result<Array, Failure> {
        let mut all = piece.times::<T>(self.ranks())?;
        self.communicator.all_gather(piece, &mut all)?;
        self.received += (piece.bytes() * (self.ranks() - 1)) as u64;
        Ok(all)
    }

    /// Bytes that this rank has received from others since the last call; it has sent as many, if each piece goes once around a ring.
    pub fn take_received(&mut self) -> u64 {
        std::mem::take(&mut self.received)
    }
}

impl Array {
    /// Zeros that hold an array so many times, one after the other.
    fn times<T: Element>(&self, count: usize) -> Result<Array> {
        let mut shape = self.shape().to_vec();
        if let Some(first) = shape.first_mut() {
            *first *= count;
        }
        Array::zeros::<T>(self.device(), &shape)
    }
}
