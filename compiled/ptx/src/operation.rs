//! What instructions do, over dense register numbers.

use crate::alu::{Comparison, Function, Logic};
use crate::matrix::Element;
use crate::memory::Space;
use crate::registers::{Predicate, Register};

/// An address in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// None: the offset is the address.
    pub base: Option<Value>,
    /// Added to it.
    pub offset: i64,
}

/// A register of up to 32 bits or, if it is wide, of 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    /// The register.
    pub register: Register,
    /// Whether it has 64 bits.
    pub wide: bool,
}

/// What lanes vote on, and where the answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    /// Which lanes agree.
    Ballot(Register),
    /// Whether any does.
    Any(u32),
    /// Whether all do.
    All(u32),
    /// Whether all have the same opinion.
    Uniform(u32),
}

/// Whose value a lane gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shuffle {
    /// The lane of a number.
    Index,
    /// The lane of its own number, xor a number.
    Xor,
    /// So many lanes below.
    Up,
    /// So many lanes above.
    Down,
}

/// What an atomic operation makes of the old value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "PTX's own names")]
pub enum Atomic {
    Add,
    AddFloat,
    And,
    Or,
    Xor,
    Min,
    Max,
    SignedMin,
    SignedMax,
    Exchange,
    CompareAndSwap,
    Increment,
    Decrement,
}

/// A register that an instruction can only read with `mov`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "PTX's own names")]
pub enum Special {
    Thread(u8),
    Threads(u8),
    Block(u8),
    Blocks(u8),
    Lane,
    Warp,
    Warps,
    LanesEqual,
    LanesBelow,
    LanesUpTo,
    LanesAbove,
    LanesFrom,
    DynamicShared,
    TotalShared,
    /// Clocks: the instructions that the warp has executed.
    Clock,
}

/// What an instruction does. Every source is read before a target is written, so that they may share a slot.
#[derive(Clone, Debug)]
pub enum Operation {
    /// What each lane computes by itself.
    Compute {
        /// From the sources to the target.
        function: Function,
        /// The target.
        to: Register,
        /// The sources, as many as the function has.
        from: [Register; 4],
    },
    /// `setp`
    Compare(Box<Compare>),
    /// Predicates of predicates.
    Logic {
        /// From the sources to the target.
        function: Logic,
        /// The target.
        to: u32,
        /// The sources.
        from: [Predicate; 2],
    },
    /// `selp`
    Select {
        /// The target.
        to: Value,
        /// The value where the predicate holds, and the other.
        from: [Register; 2],
        /// The predicate.
        by: Predicate,
    },
    /// `mov` from a special register.
    Special {
        /// The target.
        to: Value,
        /// The source.
        which: Special,
    },
    /// `mov` to a register from its parts, the lowest first.
    Pack {
        /// The target.
        to: Value,
        /// The parts.
        from: Box<[Register]>,
        /// Bits of a part.
        bits: u32,
    },
    /// `mov` from a register to its parts, the lowest first; none: it is not wanted.
    Unpack {
        /// The parts.
        to: Box<[Option<Register>]>,
        /// The source.
        from: Value,
        /// Bits of a part.
        bits: u32,
    },
    /// `ld`
    Load(Box<Load>),
    /// `st`
    Store(Box<Store>),
    /// `atom` and `red`
    Atomic(Box<Update>),
    /// `membar` and `fence`
    Fence,
    /// `bra`
    Branch {
        /// The instruction that comes next.
        target: usize,
        /// Whether the compiler says that all lanes agree.
        uniform: bool,
    },
    /// `ret` and `exit`
    Exit,
    /// `trap`
    Trap,
    /// `bar.sync` and `bar.arrive`
    Barrier {
        /// Which.
        barrier: Register,
        /// Of how many threads; none: of all in the block.
        threads: Option<Register>,
        /// Whether it waits there.
        waits: bool,
    },
    /// `bar.warp.sync`
    WarpSync {
        /// The lanes that meet.
        lanes: Register,
    },
    /// `vote.sync`
    Vote {
        /// The question, and where the answer goes.
        kind: Vote,
        /// Each lane's opinion.
        from: Predicate,
        /// The lanes that vote.
        lanes: Register,
    },
    /// `activemask`
    ActiveMask(Register),
    /// `shfl.sync`
    Shuffle(Box<Exchange>),
    /// `redux.sync`
    Reduce {
        /// How two values become one.
        kind: Atomic,
        /// The target.
        to: Register,
        /// The source.
        from: Register,
        /// The lanes that take part.
        lanes: Register,
    },
    /// `cp.async`
    CopyAsync {
        /// In shared memory.
        to: Address,
        /// In global memory.
        from: Address,
        /// Bytes written.
        bytes: u32,
        /// Bytes read, if not as many; the others are zero.
        read: Option<Register>,
    },
    /// `cp.async.commit_group`
    CopyCommit,
    /// `cp.async.wait_group`: all but so many of the newest groups.
    CopyWait(u32),
    /// `cp.async.wait_all`
    CopyWaitAll,
    /// `cp.async.bulk`
    BulkCopy(Box<BulkCopy>),
    /// `mbarrier.expect_tx`: bytes that copies will bring.
    Announce {
        /// The mbarrier.
        place: Address,
        /// How many.
        bytes: Register,
    },
    /// `prefetch.tensormap`
    PrefetchMap(Address),
    /// `elect.sync`
    Elect {
        /// Whether the lane is the one.
        to: u32,
        /// The lanes of which it is one.
        lanes: Register,
    },
    /// `setmaxnreg`
    ChangeRegisters,
    /// `mbarrier` and `cp.async.mbarrier`
    Mbarrier(Box<Mbarrier>),
    /// `mbarrier.pending_count`
    PendingCount {
        /// The number of arrivals.
        to: Register,
        /// The state that an arrival gave.
        from: Register,
    },
    /// `ldmatrix`
    LoadMatrix {
        /// One register for each matrix.
        to: Box<[Register]>,
        /// The address of a row, by lane.
        row: Address,
        /// Whether the matrices are transposed on the way.
        transposed: bool,
    },
    /// `stmatrix`
    StoreMatrix {
        /// The address of a row, by lane.
        row: Address,
        /// One register for each matrix.
        from: Box<[Register]>,
        /// Whether the matrices are transposed on the way.
        transposed: bool,
    },
    /// `movmatrix`
    TransposeMatrix {
        /// The target.
        to: Register,
        /// The source.
        from: Register,
    },
    /// `mma`
    Multiply(Box<Multiply>),
    /// `wgmma.mma_async`
    StartProduct(Box<GroupMultiply>),
    /// `wgmma.fence`
    ProductFence,
    /// `wgmma.commit_group`
    ProductCommit,
    /// `wgmma.wait_group`: all but so many of the newest batches.
    ProductWait(u32),
}

/// `setp`: a relation between two values and, perhaps, another predicate.
#[derive(Clone, Debug)]
pub struct Compare {
    /// The relation.
    pub comparison: Comparison,
    /// The values.
    pub from: [Register; 2],
    /// Combined with the relation.
    pub combine: Option<(Logic, Predicate)>,
    /// Where the result goes.
    pub to: Option<u32>,
    /// Where the result of the opposite relation goes.
    pub opposite: Option<u32>,
}

/// `ld`
#[derive(Clone, Debug)]
pub struct Load {
    /// Which memory.
    pub space: Space,
    /// The first element.
    pub address: Address,
    /// One target for each element; none: it is not wanted.
    pub to: Box<[Option<Value>]>,
    /// Of an element.
    pub bytes: u32,
    /// Whether a narrow element is extended by its sign.
    pub signed: bool,
}

/// `st`
#[derive(Clone, Debug)]
pub struct Store {
    /// Which memory.
    pub space: Space,
    /// The first element.
    pub address: Address,
    /// One source for each element.
    pub from: Box<[Value]>,
    /// Of an element.
    pub bytes: u32,
}

/// `atom` or `red`
#[derive(Clone, Debug)]
pub struct Update {
    /// Which memory.
    pub space: Space,
    /// What happens.
    pub kind: Atomic,
    /// Whether the value has 64 bits.
    pub wide: bool,
    /// Where the old value goes.
    pub to: Option<Register>,
    /// The value.
    pub address: Address,
    /// The operand; for compare-and-swap what is expected.
    pub from: Register,
    /// For compare-and-swap the new value.
    pub new: Option<Register>,
}

/// A copy to shared memory that a barrier there counts.
#[derive(Clone, Debug)]
pub struct BulkCopy {
    /// In shared memory.
    pub target: Address,
    /// What is copied.
    pub source: BulkSource,
    /// Which counts the bytes.
    pub barrier: Address,
}

/// What such a copy reads.
#[derive(Clone, Debug)]
pub enum BulkSource {
    /// A box of a tensor.
    Box {
        /// The generic address of its map.
        map: Address,
        /// Where the box begins.
        indices: Box<[Register]>,
    },
    /// Bytes as they lie.
    Bytes {
        /// In global memory.
        from: Address,
        /// How many.
        bytes: Register,
    },
}

/// A barrier in shared memory, and what happens to it.
#[derive(Clone, Debug)]
pub struct Mbarrier {
    /// Where it lies.
    pub place: Address,
    /// What happens.
    pub phase: Phase,
}

/// What happens to a phase of a barrier in shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The first begins.
    Begin {
        /// Arrivals that complete a phase.
        arrivals: Register,
    },
    /// Arrivals come.
    Arrive {
        /// Where the state before goes.
        state: Register,
        /// How many; none: one.
        arrivals: Option<Register>,
        /// Bytes that copies will bring, announced before.
        announced: Option<Register>,
        /// Whether they may complete the phase.
        completes: bool,
    },
    /// Is the one of a parity complete?
    Test {
        /// The answer, a predicate.
        to: u32,
        /// The parity.
        parity: Register,
    },
    /// An arrival comes when the copies that the lane has started are there.
    ArriveWithCopies,
}

/// `shfl.sync`
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Whose value a lane gets.
    pub kind: Shuffle,
    /// The target.
    pub to: Register,
    /// Where it goes whether the source was in range.
    pub valid: Option<u32>,
    /// The value that others get.
    pub from: Register,
    /// The number that the kind speaks of.
    pub by: Register,
    /// The segment and the bound.
    pub clamp: Register,
    /// The lanes that take part.
    pub lanes: Register,
}

/// `mma.m16n8k16`
#[derive(Clone, Debug)]
pub struct Multiply {
    /// Of A and B.
    pub element: Element,
    /// D.
    pub to: [Register; 4],
    /// A.
    pub a: [Register; 4],
    /// B.
    pub b: [Register; 2],
    /// C.
    pub c: [Register; 4],
}

/// `wgmma.mma_async.m64n…k16`
#[derive(Clone, Debug)]
pub struct GroupMultiply {
    /// Of A and B.
    pub element: Element,
    /// D, which is also C.
    pub to: Box<[Register]>,
    /// A.
    pub a: GroupFactor,
    /// B.
    pub b: GroupFactor,
    /// Whether C is added.
    pub adds: Predicate,
}

/// Where a factor of a product of four warps is.
#[derive(Clone, Copy, Debug)]
pub enum GroupFactor {
    /// A warp's quarter of A.
    Registers([Register; 4]),
    /// In shared memory.
    Shared {
        /// 64 bits that say where.
        descriptor: Register,
        /// Whether its rows are k.
        transposed: bool,
    },
}

/// Who has to be together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meeting {
    /// The lanes of a mask.
    Lanes(Register),
    /// Every lane that has not left the kernel.
    All,
}

impl Operation {
    /// The lanes that have to be together for it, if any.
    pub fn meets(&self) -> Option<Meeting> {
        match self {
            Self::WarpSync { lanes }
            | Self::Vote { lanes, .. }
            | Self::Elect { lanes, .. }
            | Self::Reduce { lanes, .. } => Some(Meeting::Lanes(*lanes)),
            Self::Shuffle(exchange) => Some(Meeting::Lanes(exchange.lanes)),
            Self::Barrier { .. }
            | Self::LoadMatrix { .. }
            | Self::StoreMatrix { .. }
            | Self::TransposeMatrix { .. }
            | Self::Multiply(_)
            | Self::StartProduct(_)
            | Self::ProductFence
            | Self::ProductCommit
            | Self::ProductWait(_)
            | Self::ChangeRegisters => Some(Meeting::All),
            _ => None,
        }
    }
}
