//! What an instruction costs: the pipe that it occupies, and when its result is there.

use crate::sass::{Class, Instruction};
use crate::{Gpu, Problem};

/// What instructions wait for. Every sub-partition has its own, but for the shared one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pipe {
    /// Matrix products.
    Tensor,
    /// Special functions and bit counts.
    Mufu,
    /// f32 arithmetic and integer multiplication.
    Fma,
    /// Integers, logic, f32 comparisons.
    Alu,
    /// Conversions.
    Convert,
    /// The uniform data path.
    Uniform,
    /// Shared memory and the way to L1, of which the multiprocessor has one.
    Shared,
}

impl Pipe {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Tensor,
        Self::Mufu,
        Self::Fma,
        Self::Alu,
        Self::Convert,
        Self::Uniform,
        Self::Shared,
    ];

    /// What reports call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tensor => "tensor",
            Self::Mufu => "mufu",
            Self::Fma => "fma",
            Self::Alu => "alu",
            Self::Convert => "convert",
            Self::Uniform => "uniform",
            Self::Shared => "shared",
        }
    }
}

/// The pipe that a warp's instruction occupies and for how many clocks; `None`: only its issue slot.
pub fn pipe_of(instruction: &Instruction, gpu: &Gpu) -> Result<Option<(Pipe, f64)>, Problem> {
    let opcode = instruction.opcode.as_str();
    if instruction.never_runs() {
        return Ok(None);
    }
    let width = instruction.width() as f64;
    let cost = match instruction.class {
        Class::Ctrl
        | Class::Bar
        | Class::Commit
        | Class::Wait
        | Class::GmmaWait
        | Class::Vote
        | Class::Constant
        | Class::Bulk => return Ok(None),
        Class::Hmma => {
            let share = if opcode.contains(".1688") { 0.5 } else { 1.0 };
            (Pipe::Tensor, share * gpu.product_clocks())
        }
        Class::Hgmma => (Pipe::Tensor, warpgroup_clocks(opcode, gpu)?),
        Class::Int | Class::Bits if opcode.starts_with('U') => (Pipe::Uniform, 2.0),
        Class::Int => (Pipe::Alu, 2.0),
        Class::Bits => (Pipe::Mufu, 8.0),
        Class::Ffma | Class::Fmul | Class::Fadd => (Pipe::Fma, gpu.float_clocks),
        Class::Imad => (Pipe::Fma, 2.0),
        Class::Mufu => (Pipe::Mufu, 8.0),
        Class::F2f => (Pipe::Convert, 2.0),
        Class::Fmnmx | Class::Fsetp | Class::Fsel => (Pipe::Alu, 2.0),
        Class::Ldsm if instruction.is_four_matrices() => (Pipe::Shared, 4.0),
        Class::Ldsm => (Pipe::Shared, 2.0),
        Class::Stsm | Class::Ldgsts => (Pipe::Shared, 4.0),
        Class::Lds | Class::Sts => (Pipe::Shared, width),
        Class::Atoms | Class::Syncs | Class::Ldg | Class::Stg | Class::Local => (Pipe::Shared, 2.0),
        Class::Shfl | Class::Movm => (Pipe::Shared, 1.0),
        Class::Other => {
            return Err(Problem::misfit(format!(
                "unknown opcode {opcode}: give it a class in compiled/model/src/sass/class.rs and a cost in src/machine/cost.rs"
            )));
        }
    };
    Ok(Some(cost))
}

/// Of a product of 64 rows, 16 of them this warp's. 8-bit inputs have k 32 at twice the rate.
fn warpgroup_clocks(opcode: &str, gpu: &Gpu) -> Result<f64, Problem> {
    if gpu.warpgroup_product_rate == 0.0 {
        return Err(Problem::misfit(format!("{opcode} does not run on sm_{}", gpu.arch)));
    }
    // HGMMA.64x128x16.F32.BF16
    let columns = opcode.split('x').nth(1).and_then(|columns| columns.parse::<f64>().ok());
    let columns = columns.ok_or_else(|| Problem::misfit(format!("{opcode} does not say its shape")))?;
    Ok(columns * 2.0 * 64.0 * 16.0 / gpu.warpgroup_product_rate)
}

/// Clocks from issue to the first instruction that may use the result. `memory`: what plain loads wait for.
pub fn latency_of(instruction: &Instruction, gpu: &Gpu, memory: f64) -> f64 {
    let opcode = instruction.opcode.as_str();
    match instruction.class {
        Class::Hmma => gpu.product_latency,
        Class::Ldsm => gpu.matrix_latency,
        Class::Lds | Class::Local | Class::Syncs => gpu.shared_latency,
        Class::Atoms => 2.0 * gpu.shared_latency,
        Class::Mufu => 20.0,
        Class::Shfl => 24.0,
        Class::Movm => 30.0,
        Class::Vote => 10.0,
        Class::Ldg => memory,
        Class::Constant if opcode.starts_with("S2") || opcode.starts_with("LDC") => 25.0,
        Class::Constant => 10.0,
        _ if opcode.starts_with('U') => 8.0,
        Class::Bits => 14.0,
        _ => 4.5,
    }
}
