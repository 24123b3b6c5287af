//! Merges of attention over two sets of keys on every device.
//!
//! What holds for every operation is in `tests/operations.rs`: the definition in three orders of execution, races, the same bits twice.

mod agrees;
mod refusals;
