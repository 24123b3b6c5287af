//! The GPUs that are modelled, with where their numbers come from.
//!
//! "Assumed" is said of a number that nobody published; it is a guess.

use std::fmt::Write as _;

use crate::Problem;

/// What the model knows of a GPU. Clocks are those of a multiprocessor.
#[derive(Debug, Clone, Copy)]
pub struct Gpu {
    /// What tables and arguments call it.
    pub name: &'static str,
    /// The architecture of the image that runs there, without `sm_`.
    pub arch: &'static str,
    /// Multiprocessors, by the specification.
    pub multiprocessors: u32,
    /// GHz under tensor load. H100: NVIDIA's cudnn-frontend, pull request 650; 5090, PRO 6000: the repositories of gau-nernst and waynehacking8 on
    /// GitHub; others: the specification's boost clock.
    pub clock: f64,
    /// FLOP that a multiprocessor does per clock with `mma.sync`, 16-bit inputs and f32 sums.
    pub warp_product_rate: f64,
    /// Clocks from a warp's matrix product to its sums. A100, H100: arXiv 2402.13499; others assumed.
    pub product_latency: f64,
    /// FLOP per clock of wgmma; 0: it has none.
    pub warpgroup_product_rate: f64,
    /// Clocks for one f32 instruction of a warp: the CUDA programming guide.
    pub float_clocks: f64,
    /// Clocks from a load of shared memory to its value. A100, H100: arXiv 2402.13499; others assumed the same as H100.
    pub shared_latency: f64,
    /// The same for a load of matrices.
    pub matrix_latency: f64,
    /// Bytes from L2 per clock. H100: shared research notes; GB202: Chips and Cheese (8.7 TB/s); A100, AD102 assumed.
    pub l2_rate: f64,
    /// TB/s that kernels reach. H200: measured copies; others 90 % of the specification, assumed.
    pub memory_rate: f64,
    /// Clocks from a load to its value where L2 has it; assumed.
    pub l2_latency: f64,
    /// The same where it does not; assumed.
    pub memory_latency: f64,
    /// 32-bit registers: the CUDA programming guide, like the next two.
    pub registers: u32,
    /// Bytes of shared memory that blocks share, 1 KiB of each block's own included.
    pub shared_memory: u32,
    /// Warps that are there at once.
    pub warps: u32,
}

/// What most of them have in common.
const COMMON: Gpu = Gpu {
    name: "",
    arch: "",
    multiprocessors: 0,
    clock: 0.0,
    warp_product_rate: 0.0,
    product_latency: 36.0,
    warpgroup_product_rate: 0.0,
    float_clocks: 1.0,
    shared_latency: 29.0,
    matrix_latency: 33.0,
    l2_rate: 0.0,
    memory_rate: 0.0,
    l2_latency: 300.0,
    memory_latency: 650.0,
    registers: 65536,
    shared_memory: 100 << 10,
    warps: 48,
};

const H100: Gpu = Gpu {
    name: "H100",
    arch: "90a",
    multiprocessors: 132,
    clock: 1.70,
    // mma.sync reaches 62.5 % of wgmma's rate: arXiv 2402.13499.
    warp_product_rate: 2560.0,
    product_latency: 33.0,
    warpgroup_product_rate: 4096.0,
    l2_rate: 30.0,
    memory_rate: 3.0,
    shared_memory: 228 << 10,
    warps: 64,
    ..COMMON
};

/// The GPUs, in the order of tables.
pub const GPUS: [Gpu; 6] = [
    Gpu {
        name: "A100",
        arch: "80",
        multiprocessors: 108,
        clock: 1.41,
        // The specification.
        warp_product_rate: 2048.0,
        product_latency: 33.0,
        float_clocks: 2.0,
        shared_latency: 23.0,
        matrix_latency: 29.0,
        l2_rate: 40.0,
        memory_rate: 1.8,
        shared_memory: 164 << 10,
        warps: 64,
        ..COMMON
    },
    H100,
    Gpu {
        name: "H200",
        memory_rate: 4.3,
        ..H100
    },
    Gpu {
        name: "RTX4090",
        arch: "80",
        multiprocessors: 128,
        clock: 2.52,
        // Half rate with f32 sums: 165 TFLOP/s by the specification.
        warp_product_rate: 512.0,
        l2_rate: 15.5,
        memory_rate: 0.9,
        ..COMMON
    },
    Gpu {
        name: "RTX5090",
        arch: "120",
        multiprocessors: 170,
        clock: 2.41,
        // Half rate with f32 sums: 209.5 TFLOP/s by the specification.
        warp_product_rate: 512.0,
        product_latency: 40.0,
        l2_rate: 19.5,
        memory_rate: 1.6,
        ..COMMON
    },
    Gpu {
        name: "PRO6000",
        arch: "120",
        multiprocessors: 188,
        clock: 2.35,
        // Full rate, measured: waynehacking8, mma_rate_probe.csv.
        warp_product_rate: 1024.0,
        l2_rate: 18.0,
        memory_rate: 1.6,
        ..COMMON
    },
];

/// FLOP of a product of 16 × 8 × 16 elements, one instruction of a warp.
const WARP_PRODUCT: f64 = 2.0 * 16.0 * 8.0 * 16.0;

/// Bytes of shared memory that every block has beside its own.
const SYSTEM_SHARED: u32 = 1 << 10;

impl Gpu {
    /// The GPU that `name` means, in any case and with or without the leading RTX.
    pub fn find(name: &str) -> Result<&'static Self, Problem> {
        let plain = |name: &str| {
            name.to_ascii_uppercase()
                .trim_start_matches("RTX")
                .replace(['_', '-', ' '], "")
        };
        let found = GPUS.iter().find(|gpu| plain(gpu.name) == plain(name));
        found.ok_or_else(|| {
            let mut names = String::new();
            GPUS.iter().for_each(|gpu| {
                let _ = write!(names, " {}", gpu.name);
            });
            Problem::misfit(format!("no GPU `{name}` is modelled; there are:{names}"))
        })
    }

    /// Clocks that a sub-partition's tensor pipe takes for a warp's product of 16 × 8 × 16.
    pub fn product_clocks(&self) -> f64 {
        WARP_PRODUCT / (self.warp_product_rate / 4.0)
    }

    /// The most dynamic shared memory of a block.
    pub fn block_shared_memory(&self) -> u32 {
        self.shared_memory - SYSTEM_SHARED
    }

    /// How many blocks of so many warps a multiprocessor holds, given the registers of a thread and the block's dynamic shared memory.
    pub fn resident_blocks(&self, registers: u32, warps: usize, shared_memory: u32) -> usize {
        // Registers are dealt in eights, and each sub-partition has a quarter of them.
        let of_warp = registers.max(1).next_multiple_of(8) * 32;
        let warps_at_once = (self.registers / 4 / of_warp * 4).min(self.warps) as usize;
        let by_memory = self.shared_memory / (shared_memory + SYSTEM_SHARED);
        (warps_at_once / warps.max(1)).min(by_memory as usize)
    }

    /// How long clocks take.
    pub fn microseconds(&self, clocks: f64) -> f64 {
        clocks / self.clock / 1e3
    }

    /// TFLOP/s of all multiprocessors at a rate per clock.
    pub fn teraflops(&self, per_clock: f64) -> f64 {
        per_clock * f64::from(self.multiprocessors) * self.clock / 1e3
    }

    /// How long memory takes for so many bytes.
    pub fn memory_microseconds(&self, bytes: f64) -> f64 {
        bytes / self.memory_rate / 1e6
    }
}
