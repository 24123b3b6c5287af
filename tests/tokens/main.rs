//! Scores of keys, choices of tokens by them, and what moves those: on every device, beside what holds for every operation.

mod choices;
mod cost;
mod edges;
mod invariances;
mod refusals;
