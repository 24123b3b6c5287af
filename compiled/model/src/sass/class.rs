//! What an opcode does: the classes that instruction mixes are counted in and that costs are given for.

use std::fmt;

/// A class of instructions. The names are those of the machine code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A matrix product of a warpgroup.
    Hgmma,
    /// A matrix product of a warp.
    Hmma,
    /// Matrices from shared memory.
    Ldsm,
    /// Matrices to shared memory.
    Stsm,
    /// The transpose of a matrix in registers.
    Movm,
    /// `cp.async`.
    Ldgsts,
    /// A bulk or tensor copy.
    Bulk,
    /// Ends a group of `cp.async`.
    Commit,
    /// Waits for groups of `cp.async`.
    Wait,
    /// Waits for products of the warpgroup.
    GmmaWait,
    /// A barrier of the block.
    Bar,
    /// An operation on an mbarrier.
    Syncs,
    /// A load from shared memory.
    Lds,
    /// A store to shared memory.
    Sts,
    /// An atomic on shared memory.
    Atoms,
    /// A load from global memory.
    Ldg,
    /// A store to global memory, or an atomic there.
    Stg,
    /// Local memory: spills and arrays that are indexed.
    Local,
    /// Constants and special registers.
    Constant,
    /// A special function: exponential, reciprocal, and so on.
    Mufu,
    /// A fused multiply-add in f32.
    Ffma,
    /// A product in f32.
    Fmul,
    /// A sum in f32.
    Fadd,
    /// A minimum or maximum in f32.
    Fmnmx,
    /// A comparison in f32.
    Fsetp,
    /// A selection in f32.
    Fsel,
    /// A conversion between float types.
    F2f,
    /// A shuffle.
    Shfl,
    /// A vote or a reduction over the warp, or a move to uniform registers.
    Vote,
    /// Branches and what belongs to them.
    Ctrl,
    /// Bit counts, and conversions between integers and floats.
    Bits,
    /// An integer multiply-add, which the FMA pipe does.
    Imad,
    /// Other integer work, predicates and moves.
    Int,
    /// Unknown: the model refuses to price it.
    Other,
}

/// Name, class and the beginnings of its opcodes. The first that fits counts, so that `LDSM` is no `LDS`.
const CLASSES: &[(&str, Class, &[&str])] = &[
    ("SYNCS", Class::Syncs, &["SYNCS", "ARRIVES", "ATOMS.ARRIVE"]),
    ("HGMMA", Class::Hgmma, &["HGMMA", "QGMMA", "IGMMA", "BGMMA"]),
    ("HMMA", Class::Hmma, &["HMMA", "QMMA", "IMMA", "OMMA"]),
    ("LDSM", Class::Ldsm, &["LDSM"]),
    ("STSM", Class::Stsm, &["STSM"]),
    ("MOVM", Class::Movm, &["MOVM"]),
    ("LDGSTS", Class::Ldgsts, &["LDGSTS"]),
    ("BULK", Class::Bulk, &["UBLKCP", "UTMA"]),
    ("COMMIT", Class::Commit, &["LDGDEPBAR"]),
    ("WAIT", Class::Wait, &["DEPBAR"]),
    ("GMMAWAIT", Class::GmmaWait, &["WARPGROUP.DEPBAR"]),
    ("BAR", Class::Bar, &["BAR."]),
    ("LDS", Class::Lds, &["LDS"]),
    ("STS", Class::Sts, &["STS"]),
    ("ATOMS", Class::Atoms, &["ATOMS"]),
    ("LDG", Class::Ldg, &["LDG", "LD."]),
    ("STG", Class::Stg, &["STG", "ST.", "REDG", "RED.", "ATOM"]),
    ("LOCAL", Class::Local, &["LDL", "STL"]),
    ("CONSTANT", Class::Constant, &["LDC", "ULDC", "S2", "CS2"]),
    ("MUFU", Class::Mufu, &["MUFU"]),
    ("FFMA", Class::Ffma, &["FFMA"]),
    ("FMUL", Class::Fmul, &["FMUL"]),
    ("FADD", Class::Fadd, &["FADD"]),
    ("FMNMX", Class::Fmnmx, &["FMNMX"]),
    ("FSETP", Class::Fsetp, &["FSETP", "FCHK"]),
    ("FSEL", Class::Fsel, &["FSEL", "FSET"]),
    ("F2F", Class::F2f, &["F2F"]),
    ("SHFL", Class::Shfl, &["SHFL"]),
    ("VOTE", Class::Vote, &["VOTE", "R2UR", "REDUX", "CREDUX"]),
    (
        "CTRL",
        Class::Ctrl,
        &[
            "BRA",
            "BSSY",
            "BSYNC",
            "EXIT",
            "CALL",
            "RET",
            "BREAK",
            "YIELD",
            "NOP",
            "LEPC",
            "BRX",
            "JMP",
            "WARPSYNC",
            "WARPGROUP",
            "ELECT",
            "USETMAXREG",
            "NANOSLEEP",
            "MEMBAR",
            "FENCE",
            "ERRBAR",
            "CGAERRBAR",
            "CCTL",
            "UCGABAR",
        ],
    ),
    (
        "BITS",
        Class::Bits,
        &[
            "POPC", "UPOPC", "FLO", "UFLO", "BREV", "UBREV", "I2F", "F2I", "FRND", "IABS",
        ],
    ),
    ("IMAD", Class::Imad, &["IMAD"]),
    (
        "INT",
        Class::Int,
        &[
            "IADD", "UIADD", "LEA", "ULEA", "LOP", "ULOP", "ISETP", "UISETP", "SHF", "USHF", "SEL", "USEL", "PRMT",
            "UPRMT", "PLOP3", "UPLOP3", "MOV", "UMOV", "IMNMX", "UIMNMX", "VIMNMX", "UVIMNMX", "VIADD", "UVIADD",
            "SGXT", "USGXT", "BMSK", "UBMSK", "ISCADD", "VABSDIFF", "UIMAD", "PSETP", "UPSETP", "P2R", "R2P", "UP2UR",
            "UR2UP", "I2I", "HADD2", "HMUL2", "HFMA2", "HSET", "HMNMX", "UF", "BMOV", "B2R", "R2B",
        ],
    ),
];

impl Class {
    /// The class of an opcode.
    pub fn of(opcode: &str) -> Self {
        let fits = |prefixes: &[&str]| prefixes.iter().any(|prefix| opcode.starts_with(prefix));
        let found = CLASSES.iter().find(|(_, _, prefixes)| fits(prefixes));
        found.map_or(Self::Other, |&(_, class, _)| class)
    }

    /// The class that descriptions call `name`.
    pub fn named(name: &str) -> Option<Self> {
        let found = CLASSES.iter().find(|(known, _, _)| *known == name);
        found.map(|&(_, class, _)| class)
    }

    /// What descriptions and reports call it.
    pub fn name(self) -> &'static str {
        let found = CLASSES.iter().find(|(_, class, _)| *class == self);
        found.map_or("OTHER", |&(name, _, _)| name)
    }

    /// Whether it is a matrix product.
    pub fn is_product(self) -> bool {
        matches!(self, Self::Hmma | Self::Hgmma)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
