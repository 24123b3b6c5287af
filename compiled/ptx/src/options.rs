//! How to execute: choices that a GPU has, and that a kernel's results must not depend on.

use std::env;

/// When asynchronous copies happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies {
    /// At the wait, the latest that is allowed.
    Late,
    /// At once.
    Eager,
}

/// Which warp of a block goes first, and which block of a grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// From the first to the last.
    Forward,
    /// From the last to the first.
    Reversed,
}

/// How the sums of a matrix product are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sums {
    /// To nearest: sixteen products one after the other, then to what was there, as the crate's CPU half does.
    Nearest,
    /// Cut off, much as tensor cores do.
    Truncated,
}

/// How good the approximate functions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Functions {
    /// As good as the C library's.
    Nearest,
    /// Off by as much as is documented.
    Off,
}

/// When queued launches and copies happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launches {
    /// When somebody waits for them, the latest that is allowed.
    Late,
    /// At once.
    Eager,
}

/// Whether it is an error to read memory that nobody has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwritten {
    /// It is.
    Refused,
    /// It is not, as on a GPU.
    Allowed,
}

/// All choices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// When asynchronous copies happen.
    pub copies: Copies,
    /// Which warp and block goes first.
    pub order: Order,
    /// How sums are rounded.
    pub sums: Sums,
    /// How good approximate functions are.
    pub functions: Functions,
    /// When queued work happens.
    pub launches: Launches,
    /// Whether memory must be written before it is read.
    pub unwritten: Unwritten,
    /// Whether an error stays with its context for ever, as on a GPU, or with its stream.
    pub sticky: bool,
    /// Whether every launch is told of.
    pub verbose: bool,
    /// How many threads may run blocks.
    pub threads: usize,
    /// How many instructions a warp may execute.
    pub instructions: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            copies: Copies::Late,
            order: Order::Forward,
            sums: Sums::Nearest,
            functions: Functions::Nearest,
            launches: Launches::Late,
            unwritten: Unwritten::Refused,
            sticky: false,
            verbose: false,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            instructions: 1 << 32,
        }
    }
}

/// The names of the choices, as [`Options::set`] takes them.
pub const NAMES: [&str; 10] = [
    "copies",
    "order",
    "sums",
    "functions",
    "launches",
    "unwritten",
    "sticky",
    "verbose",
    "threads",
    "instructions",
];

impl Options {
    /// The defaults, changed by the environment: `SALA_PTX_COPIES=eager` sets the choice `copies`, and so on.
    pub fn from_environment() -> Result<Self, String> {
        let mut options = Self::default();
        for name in NAMES {
            let variable = format!("SALA_PTX_{}", name.to_uppercase());
            if let Ok(value) = env::var(&variable) {
                options
                    .set(name, &value)
                    .map_err(|error| format!("{variable}: {error}"))?;
            }
        }
        Ok(options)
    }

    /// Sets a choice by its name.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "copies" => self.copies = one_of(value, [("late", Copies::Late), ("eager", Copies::Eager)])?,
            "order" => self.order = one_of(value, [("forward", Order::Forward), ("reversed", Order::Reversed)])?,
            "sums" => self.sums = one_of(value, [("nearest", Sums::Nearest), ("truncated", Sums::Truncated)])?,
            "functions" => {
                self.functions = one_of(value, [("nearest", Functions::Nearest), ("off", Functions::Off)])?;
            }
            "launches" => self.launches = one_of(value, [("late", Launches::Late), ("eager", Launches::Eager)])?,
            "unwritten" => {
                let values = [("refused", Unwritten::Refused), ("allowed", Unwritten::Allowed)];
                self.unwritten = one_of(value, values)?;
            }
            "sticky" => self.sticky = one_of(value, [("0", false), ("1", true)])?,
            "verbose" => self.verbose = one_of(value, [("0", false), ("1", true)])?,
            "threads" => self.threads = at_least_one(value)? as usize,
            "instructions" => self.instructions = at_least_one(value)?,
            _ => return Err(format!("expected one of {}, got `{name}`", NAMES.join(", "))),
        }
        Ok(())
    }
}

fn one_of<T: Copy>(value: &str, values: [(&str, T); 2]) -> Result<T, String> {
    let found = values.iter().find(|(name, _)| *name == value);
    found.map(|(_, choice)| *choice).ok_or_else(|| {
        let [(first, _), (second, _)] = values;
        format!("expected `{first}` or `{second}`, got `{value}`")
    })
}

fn at_least_one(value: &str) -> Result<u64, String> {
    value
        .parse()
        .ok()
        .filter(|&number| number > 0)
        .ok_or_else(|| format!("expected a number of at least 1, got `{value}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_set_by_name() {
        let mut options = Options::default();
        options.set("copies", "eager").unwrap();
        options.set("threads", "3").unwrap();
        assert_eq!((options.copies, options.threads), (Copies::Eager, 3));
        assert_eq!(
            options.set("copies", "soon").unwrap_err(),
            "expected `late` or `eager`, got `soon`"
        );
        assert!(
            options
                .set("colour", "red")
                .unwrap_err()
                .starts_with("expected one of copies, order, ")
        );
        assert!(
            NAMES
                .iter()
                .all(|name| options.set(name, "").unwrap_err().contains("got ``"))
        );
    }
}
