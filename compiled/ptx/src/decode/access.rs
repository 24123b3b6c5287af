//! Opcodes that reach memory.

use super::mbarrier;
use super::names::{Names, Result};
use super::opcode::Opcode;
use crate::memory::Space;
use crate::operation::{Atomic, Load, Operation, Store, Update, Value};
use crate::parse::{Operand, Width, type_bytes};

/// Modifiers about caches, order and scope: all memory here is as coherent as it can be.
const COHERENCE: [&str; 21] = [
    "weak",
    "relaxed",
    "acquire",
    "release",
    "acq_rel",
    "volatile",
    "cta",
    "cluster",
    "gpu",
    "sys",
    "nc",
    "ca",
    "cg",
    "cs",
    "lu",
    "cv",
    "wb",
    "wt",
    "L1::no_allocate",
    "L1::evict_last",
    "L1::evict_first",
];

const PREFETCHES: [&str; 3] = ["L2::64B", "L2::128B", "L2::256B"];

fn space(opcode: &mut Opcode<'_>) -> Result<Space> {
    let spaces = [
        ("global", Space::Global),
        ("shared", Space::Shared),
        ("shared::cta", Space::Shared),
        ("param", Space::Parameters),
        ("param::entry", Space::Parameters),
    ];
    Ok(opcode.choose(&spaces).unwrap_or(Space::Generic))
}

/// Bytes of the type, and how many elements `.v2` and `.v4` mean.
fn elements(opcode: &mut Opcode<'_>) -> Result<(u32, usize, &'static str)> {
    let kind = opcode.kind()?;
    let bytes = type_bytes(kind).ok_or_else(|| format!("`.{kind}` is not known here"))?;
    let count = opcode.choose(&[("v2", 2), ("v4", 4), ("v8", 8)]).unwrap_or(1);
    if bytes as usize * count > 16 {
        return Err("more than 16 bytes".to_owned());
    }
    let sign = if kind.starts_with('s') { "signed" } else { "unsigned" };
    Ok((bytes, count, sign))
}

fn counted<T>(parts: &[T], count: usize) -> Result<()> {
    if parts.len() == count {
        return Ok(());
    }
    Err(format!("expected {count} elements, got {}", parts.len()))
}

pub fn load<'t>(
    names: &mut Names<'_, 't>,
    opcode: &mut Opcode<'_>,
    to: &Operand<'t>,
    from: &Operand<'t>,
) -> Result<Operation> {
    let space = space(opcode)?;
    let (bytes, count, sign) = elements(opcode)?;
    opcode.ignore(&COHERENCE);
    opcode.ignore(&PREFETCHES);
    let parts = Names::parts(to);
    counted(parts, count)?;
    Ok(Operation::Load(Box::new(Load {
        space,
        address: names.address(from)?,
        to: parts
            .iter()
            .map(|part| names.loaded(part, bytes))
            .collect::<Result<_>>()?,
        bytes,
        signed: sign == "signed",
    })))
}

pub fn store<'t>(
    names: &mut Names<'_, 't>,
    opcode: &mut Opcode<'_>,
    to: &Operand<'t>,
    from: &Operand<'t>,
) -> Result<Operation> {
    let space = space(opcode)?;
    let (bytes, count, _) = elements(opcode)?;
    opcode.ignore(&COHERENCE);
    let parts = Names::parts(from);
    counted(parts, count)?;
    Ok(Operation::Store(Box::new(Store {
        space,
        address: names.address(to)?,
        from: parts
            .iter()
            .map(|part| names.stored(part, bytes))
            .collect::<Result<_>>()?,
        bytes,
    })))
}

/// `atom`, or `red` where `to` is none.
pub fn atomic<'t>(
    names: &mut Names<'_, 't>,
    opcode: &mut Opcode<'_>,
    to: Option<&Operand<'t>>,
    address: &Operand<'t>,
    from: &[Operand<'t>],
) -> Result<Operation> {
    let space = space(opcode)?;
    let kind = opcode.kind()?;
    let signed = kind.starts_with('s');
    let name = opcode.choose(&[
        ("add", Atomic::Add),
        ("and", Atomic::And),
        ("or", Atomic::Or),
        ("xor", Atomic::Xor),
        ("min", if signed { Atomic::SignedMin } else { Atomic::Min }),
        ("max", if signed { Atomic::SignedMax } else { Atomic::Max }),
        ("exch", Atomic::Exchange),
        ("cas", Atomic::CompareAndSwap),
        ("inc", Atomic::Increment),
        ("dec", Atomic::Decrement),
    ]);
    let operation = match (name, kind) {
        (Some(Atomic::Add), "f32") => Atomic::AddFloat,
        (Some(operation), "u32" | "s32" | "b32" | "u64" | "s64" | "b64") => operation,
        _ => return Err("no atomic that is known here".to_owned()),
    };
    opcode.ignore(&COHERENCE);
    let wide = kind.ends_with("64");
    let width = if wide { Width::W64 } else { Width::W32 };
    let (first, new) = match (operation, from) {
        (Atomic::CompareAndSwap, [expected, new]) => (expected, Some(names.source(new, width)?)),
        (Atomic::CompareAndSwap, _) => return Err("expected two values".to_owned()),
        (_, [value]) => (value, None),
        _ => return Err("expected one value".to_owned()),
    };
    Ok(Operation::Atomic(Box::new(Update {
        space,
        kind: operation,
        wide,
        to: to.map(|to| names.target(to, width)).transpose()?,
        address: names.address(address)?,
        from: names.source(first, width)?,
        new,
    })))
}

/// `cp.async` and what belongs to it.
pub fn copy<'t>(
    names: &mut Names<'_, 't>,
    opcode: &mut Opcode<'_>,
    operands: &[Operand<'t>],
    target: u32,
) -> Result<Operation> {
    if !opcode.take("async") {
        return Err("only `cp.async` is known here".to_owned());
    }
    if opcode.take("mbarrier") {
        return mbarrier::with_copies(names, opcode, operands);
    }
    if opcode.take("bulk") {
        return mbarrier::bulk(names, opcode, operands, target);
    }
    match operands {
        [] if opcode.take("commit_group") => Ok(Operation::CopyCommit),
        [] if opcode.take("wait_all") => Ok(Operation::CopyWaitAll),
        [Operand::Number(newest)] if opcode.take("wait_group") => Ok(Operation::CopyWait(*newest as u32)),
        [to, from, Operand::Number(bytes), read @ ..] if read.len() <= 1 => {
            let whole_lines = opcode
                .choose(&[("cg", true), ("ca", false)])
                .ok_or("expected `.ca` or `.cg`")?;
            if !(opcode.take("shared") || opcode.take("shared::cta")) || !opcode.take("global") {
                return Err("expected `.shared.global`".to_owned());
            }
            opcode.ignore(&PREFETCHES);
            let sizes: &[u64] = if whole_lines { &[16] } else { &[4, 8, 16] };
            if !sizes.contains(bytes) {
                return Err(format!("copies of {bytes} bytes do not exist"));
            }
            Ok(Operation::CopyAsync {
                to: names.address(to)?,
                from: names.address(from)?,
                bytes: *bytes as u32,
                read: read.first().map(|read| names.source(read, Width::W32)).transpose()?,
            })
        }
        _ => Err("not known with these operands".to_owned()),
    }
}

/// `ldmatrix` and `stmatrix`: how many matrices, and whether they are transposed.
pub fn matrices(opcode: &mut Opcode<'_>, registers: usize) -> Result<bool> {
    if !opcode.take_all(&["sync", "aligned", "m8n8"]) || !(opcode.take("shared") || opcode.take("shared::cta")) {
        return Err("expected `.sync.aligned.m8n8` and `.shared`".to_owned());
    }
    let count = opcode
        .choose(&[("x1", 1), ("x2", 2), ("x4", 4)])
        .ok_or("expected `.x1`, `.x2` or `.x4`")?;
    if count != registers {
        return Err(format!("expected {count} registers, got {registers}"));
    }
    let transposed = opcode.take("trans");
    if !opcode.take("b16") {
        return Err("expected `.b16`".to_owned());
    }
    Ok(transposed)
}

/// The value of a register as it is.
pub fn value(register: crate::registers::Register, width: Width) -> Value {
    Value {
        register,
        wide: width == Width::W64,
    }
}
