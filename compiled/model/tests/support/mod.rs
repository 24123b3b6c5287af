//! What the tests of the model share.

use sala_model::sass::{Function, Listing, Sources};

/// The first function of a listing, given the texts of its sources by path.
pub fn function(listing: &str, sources: &[(&str, &str)]) -> Function {
    let read = |path: &str| {
        sources
            .iter()
            .find(|(name, _)| *name == path)
            .map(|(_, text)| (*text).to_owned())
    };
    Listing::parse(listing, &mut Sources::read_by(read)).functions.remove(0)
}
