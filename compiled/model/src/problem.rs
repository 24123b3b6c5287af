//! Why there is no price.

use std::fmt::Display;
use std::path::Path;

/// What went wrong and what to edit. The text is for whoever ran the command.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// This machine has no such tool.
    #[error("{0}")]
    Machine(String),
    /// The descriptions, the sources or a listing say something that the model does not expect.
    #[error("{0}")]
    Misfit(String),
}

impl Problem {
    /// Something in the repository has to be edited.
    pub fn misfit(message: impl Into<String>) -> Self {
        Self::Misfit(message.into())
    }

    /// A file that cannot be read or written.
    pub fn file(path: &Path, error: impl Display) -> Self {
        Self::Misfit(format!("{}: {error}", path.display()))
    }
}
