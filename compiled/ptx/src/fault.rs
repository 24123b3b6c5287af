//! What goes wrong in a kernel, and how it is told.

use std::fmt;

use crate::code::Kernel;

/// The kinds of faults; each is one status of the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An access outside of what lives, or to memory of another context.
    Address,
    /// An access to an address that is not a multiple of its size.
    Misaligned,
    /// A read of what nobody has written.
    Unwritten,
    /// An access to what an asynchronous copy has yet to bring.
    InFlight,
    /// Threads that wait for others which never come.
    Deadlock,
    /// An instruction that this interpreter does not know, or whose operands make no sense.
    Instruction,
    /// The kernel said so.
    Trap,
    /// No end after very many instructions.
    Endless,
}

/// What is wrong with an access, wherever it happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Its kind.
    pub kind: Kind,
    /// What a person wants to know.
    pub message: String,
}

impl Trouble {
    /// Describes a trouble.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// Names the lane that is in trouble.
    pub fn on(self, lane: usize) -> LaneTrouble {
        LaneTrouble {
            lane: Some(lane),
            trouble: self,
        }
    }
}

/// A trouble, and the lane that has it, if it is one lane's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneTrouble {
    /// Of the warp.
    pub lane: Option<usize>,
    /// What is wrong.
    pub trouble: Trouble,
}

impl From<Trouble> for LaneTrouble {
    fn from(trouble: Trouble) -> Self {
        Self { lane: None, trouble }
    }
}

/// A trouble at an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The instruction; none: the whole block.
    pub at: Option<usize>,
    /// What is wrong, and where in the warp.
    pub lane: LaneTrouble,
}

impl Fault {
    /// A trouble of all lanes at an instruction.
    pub fn new(at: usize, kind: Kind, message: impl Into<String>) -> Self {
        Self {
            at: Some(at),
            lane: Trouble::new(kind, message).into(),
        }
    }
}

/// A fault with all that a person needs to find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its kind.
    pub kind: Kind,
    /// Kernel, block, thread, what is wrong, and the lines.
    pub text: String,
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// Who was running.
#[derive(Clone, Copy, Debug)]
pub struct Who {
    /// The block.
    pub block: [u32; 3],
    /// Threads of a block.
    pub threads: [u32; 3],
    /// The warp; none: the whole block.
    pub warp: Option<usize>,
}

impl Who {
    fn shown(&self, lane: Option<usize>) -> String {
        let [x, y, z] = self.block;
        let block = format!("block ({x}, {y}, {z})");
        let (Some(warp), Some(lane)) = (self.warp, lane) else {
            return self.warp.map_or(block.clone(), |warp| format!("{block} warp {warp}"));
        };
        let thread = (warp * crate::registers::LANES + lane) as u32;
        let [columns, rows, _] = self.threads;
        let [x, y, z] = [thread % columns, thread / columns % rows, thread / columns / rows];
        if rows == 1 && self.threads[2] == 1 {
            format!("{block} thread {thread}")
        } else {
            format!("{block} thread ({x}, {y}, {z})")
        }
    }
}

/// Tells a fault of a kernel.
pub fn report(kernel: &Kernel, who: Who, fault: &Fault) -> Report {
    let LaneTrouble { lane, trouble } = &fault.lane;
    let mut text = format!("{} {}: {}", kernel.name, who.shown(*lane), trouble.message);
    if let Some(at) = fault.at {
        text.push_str("\n    at ");
        text.push_str(&place(kernel, at));
    }
    Report {
        kind: trouble.kind,
        text,
    }
}

/// `file.ptx:12 (matrix.cuh:104, inlined at sparse_attention.cu:84)`
pub fn place(kernel: &Kernel, at: usize) -> String {
    let place = kernel.places[at];
    let mut text = format!("{}:{}", kernel.file.name, place.line);
    let mut next = place.location;
    let mut separator = " (";
    while let Some(index) = next {
        let location = kernel.locations[index];
        // Line 0 or 1 of the first file is where a kernel as a whole comes from.
        let path = kernel.file.source(location.file).map_or("?", short);
        text.push_str(&format!("{separator}{path}:{}", location.line));
        separator = ", inlined at ";
        next = location.inlined_at;
    }
    if separator != " (" {
        text.push(')');
    }
    text
}

/// The last three parts of a path: enough to find a file, short enough to read.
fn short(path: &str) -> &str {
    let start = path.rmatch_indices('/').nth(2).map_or(0, |(at, _)| at + 1);
    &path[start..]
}
