//! The arguments of a launch.

use super::{Kernels, Views};
use crate::{Result, Stream};

/// The arguments of one launch of an operation, such as [`SparseAttentionArgs`](crate::SparseAttentionArgs).
///
/// [`Kernels::launch`], [`Kernels::run`] and the adapters take any of them together with the operation that they are for.
///
/// # Safety
/// [`Self::views`] names every view of the launch and which of them are written: the memory checks and the adapters know of no other.
/// [`Self::queue`] makes a kernel touch no other memory. Implementations destructure `self`, so that no field is forgotten.
pub unsafe trait Arguments {
    /// What the launch is of.
    type Operation;

    /// Every view among the arguments.
    #[doc(hidden)]
    fn views(&self) -> Views<'_>;

    /// Checks what concerns single arguments, and queues the kernels. [`Kernels::launch`] has checked the stream and the memory of all views.
    ///
    /// # Safety
    /// As [`Kernels::launch`].
    #[doc(hidden)]
    unsafe fn queue(self, operation: &Self::Operation, kernels: &Kernels, stream: &Stream) -> Result<()>;
}
