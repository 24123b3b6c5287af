//! Small kernels, run without a driver.
#![allow(dead_code, reason = "every test file uses a part of it")]

use std::sync::Arc;

use sala_ptx::block::{Cost, Launch};
use sala_ptx::code::Kernel;
use sala_ptx::decode::decode;
use sala_ptx::fault::Report;
use sala_ptx::grid;
use sala_ptx::memory::{Allocation, Allocations};
use sala_ptx::options::Options;
use sala_ptx::parse::File;

/// The line on which a body starts.
pub const FIRST_LINE: u32 = 21;

/// A kernel `k` around a body. There are registers `%p`, `%rs`, `%r`, `%f`, `%rd` and, as variables, 64 bytes of static shared memory `fixed`
/// and the dynamic one, `dynamic`. At first `%rd1` is the address of the output, `%r1` the thread, and `%rd2` the thread's word of the output.
pub fn text(body: &str) -> String {
    format!(
        "\
.version 9.0
.target sm_90a
.address_size 64
.extern .shared .align 16 .b8 dynamic[];
.visible .entry k(
\t.param .u64 k_output,
\t.param .u32 k_number
)
{{
\t.shared .align 16 .b8 fixed[64];
\t.reg .pred %p<16>;
\t.reg .b16 %rs<16>;
\t.reg .b32 %r<64>;
\t.reg .f32 %f<32>;
\t.reg .b64 %rd<32>;
\t.reg .f64 %fd<4>;
\tld.param.u64 %rd1, [k_output];
\tmov.u32 %r1, %tid.x;
\tmul.wide.u32 %rd3, %r1, 4;
\tadd.s64 %rd2, %rd1, %rd3;
{body}
\tret;
}}
\t.file\t1 \"/source/cuda/parts/tile.cuh\"
\t.file\t2 \"/source/cuda/base/scan.cu\"
"
    )
}

/// Decodes a kernel with this body.
pub fn compile(body: &str) -> Result<Kernel, String> {
    let file = Arc::new(File::new("test.ptx", text(body))?);
    decode(&file, &file.entries[0])
}

/// A launch of a small kernel.
pub struct Case<'b> {
    pub body: &'b str,
    pub grid: [u32; 3],
    pub threads: [u32; 3],
    /// Dynamic shared memory.
    pub shared: u32,
    /// The second parameter.
    pub number: u32,
    /// The output before the launch.
    pub output: Vec<u32>,
    pub options: Options,
}

impl<'b> Case<'b> {
    /// One warp, and a word of output for each thread, all zero.
    pub fn new(body: &'b str) -> Self {
        Self {
            body,
            grid: [1, 1, 1],
            threads: [32, 1, 1],
            shared: 0,
            number: 0,
            output: vec![0; 32],
            options: Options::default(),
        }
    }

    /// So many threads in a block, and as many words of output.
    pub fn threads(mut self, threads: u32) -> Self {
        self.threads = [threads, 1, 1];
        self.output = vec![0; threads as usize];
        self
    }

    /// With an option set by its name.
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.options.set(name, value).unwrap();
        self
    }

    /// Runs it: the output.
    pub fn run(self) -> Result<Vec<u32>, Report> {
        self.run_and_count().map(|(output, _)| output)
    }

    /// Runs it: the output, and what was executed.
    pub fn run_and_count(self) -> Result<(Vec<u32>, Cost), Report> {
        let kernel = compile(self.body).unwrap();
        let memory = Arc::new(Allocation::new(4 * self.output.len()).unwrap());
        let bytes: Vec<u8> = self.output.iter().flat_map(|word| word.to_le_bytes()).collect();
        memory.write(0, &bytes);
        let allocations = Allocations::new(vec![Arc::clone(&memory)], Vec::new());
        let mut parameters = memory.start().to_le_bytes().to_vec();
        parameters.extend(self.number.to_le_bytes());
        let launch = Launch {
            kernel: &kernel,
            grid: self.grid,
            threads: self.threads,
            shared: self.shared,
            parameters: &parameters,
            allocations: &allocations,
            options: self.options,
        };
        let cost = grid::run(&launch)?;
        let mut bytes = bytes;
        memory.read(0, &mut bytes);
        let words = bytes
            .chunks_exact(4)
            .map(|word| u32::from_le_bytes(word.try_into().unwrap()));
        Ok((words.collect(), cost))
    }

    /// Runs it and returns what went wrong.
    pub fn fault(self) -> Report {
        match self.run() {
            Ok(output) => panic!("expected a fault, got {output:?}"),
            Err(report) => report,
        }
    }
}

/// The output of a body on one warp.
pub fn run(body: &str) -> Vec<u32> {
    Case::new(body).run().unwrap_or_else(|report| panic!("{report}"))
}
