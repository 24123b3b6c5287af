//! What kernels refused.

use crate::{Error, Result};

/// The status word of a launch, `[4]` u32 on the device: what kernels refused because of values that only the device knows.
///
/// Kernels add to it and never reset it. It says that something was refused: `lengths` and `slots` once per sequence refused, `pages` and
/// `blocks` at least once per sequence in which the call met a bad entry that it needed.
///
/// ```
/// use sala_kernels::Status;
/// let status = Status::from([0, 3, 0, 0]);
/// assert_eq!(status.blocks, 3);
/// assert_eq!(status.check().unwrap_err().to_string(), "refused on the device: 0 pages, 3 blocks, 0 lengths, 0 slots");
/// assert!(Status::default().check().is_ok());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Status {
    /// Entries of page tables that name no page.
    pub pages: u32,
    /// Entries of lists that name no block of their sequence.
    pub blocks: u32,
    /// Sequences whose lengths do not fit the tensors or the bounds that the call gave.
    pub lengths: u32,
    /// Indices of states that name no slot, or one that another sequence has.
    pub slots: u32,
}

impl Status {
    /// Nothing was refused.
    ///
    /// # Errors
    /// [`Error::Refused`] with the counts.
    pub fn check(self) -> Result<()> {
        if self == Self::default() {
            return Ok(());
        }
        Err(Error::Refused(self))
    }
}

impl From<[u32; 4]> for Status {
    fn from([pages, blocks, lengths, slots]: [u32; 4]) -> Self {
        Self {
            pages,
            blocks,
            lengths,
            slots,
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            pages,
            blocks,
            lengths,
            slots,
        } = self;
        write!(
            formatter,
            "{pages} pages, {blocks} blocks, {lengths} lengths, {slots} slots"
        )
    }
}
