//! Appending of keys on every device: what is left out, and what is refused.

mod leaves_out;
mod refusals;
