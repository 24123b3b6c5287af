//! Memory that a call works in.

use crate::launch::checks;
use crate::{Error, Result, TensorMut};

/// The workspace of a call; no bytes if there is none.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Workspace {
    pub(super) address: u64,
    pub(super) bytes: u64,
}

impl Workspace {
    pub(super) fn new(workspace: Option<&TensorMut<'_>>) -> Result<Self> {
        checks::optional(workspace.map(TensorMut::as_tensor), |workspace| {
            checks::rank("workspace", workspace, 1)?;
            checks::last_axis_contiguous("workspace", workspace)?;
            checks::rows_aligned("workspace", workspace)?;
            Ok(Self {
                address: workspace.address(),
                bytes: workspace.extent(),
            })
        })
    }

    /// A workspace of at least `bytes`, as the method named `size` says.
    pub(super) fn with_room(workspace: Option<&TensorMut<'_>>, bytes: usize, size: &str) -> Result<Self> {
        let workspace = Self::new(workspace)?;
        if workspace.bytes < bytes as u64 {
            return Err(Error::argument(
                "workspace",
                format!("{bytes} bytes ({size})"),
                workspace.bytes,
            ));
        }
        Ok(workspace)
    }
}
