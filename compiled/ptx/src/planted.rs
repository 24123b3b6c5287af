//! Bugs to plant: each changes only what nvcc sees, so that no test of the CPU half can notice, and each is caught by tests that run PTX.
//!
//! To try one, make the change in a copy of the sources, compile the PTX of the kernels (`nvcc -ptx -lineinfo`, as build/nvcc.rs does) into a
//! folder beside copies of the build's `*.fatbin`, and run the tests with `SALA_PTX_IMAGES` naming that folder. Nothing has to be built again.

/// A change that must be noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bug {
    /// What is wrong.
    pub name: &'static str,
    /// The file, from the root of the repository.
    pub file: &'static str,
    /// What stands there, exactly once.
    pub old: &'static str,
    /// What takes its place.
    pub new: &'static str,
    /// The architecture whose PTX shows it, as nvcc's `arch=` names it.
    pub arch: &'static str,
    /// The test target that must fail.
    pub test: &'static str,
}

/// The bugs.
pub static BUGS: &[Bug] = &[
    Bug {
        name: "halves of B swapped",
        file: "cuda/machine/matrix.cuh",
        old: r#"asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}"#,
        new: r#"asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%9, %8}"#,
        arch: "compute_80",
        test: "primitives",
    },
    Bug {
        name: "quarters of A in another order",
        file: "cuda/machine/matrix.cuh",
        old: r#"asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}"#,
        new: r#"asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %6, %5, %7}"#,
        arch: "compute_80",
        test: "primitives",
    },
    Bug {
        name: "a lost .trans of ldmatrix",
        file: "cuda/machine/matrix.cuh",
        old: r#"ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16"#,
        new: r#"ldmatrix.sync.aligned.m8n8.x4.shared.b16"#,
        arch: "compute_80",
        test: "primitives",
    },
    Bug {
        name: "matrices of ldmatrix swapped",
        file: "cuda/machine/matrix.cuh",
        old: r#"ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}"#,
        new: r#"ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%1, %0}"#,
        arch: "compute_80",
        test: "primitives",
    },
    Bug {
        name: "a wrong stride in the branch below sm_90",
        file: "cuda/machine/matrix.cuh",
        old: r#"shuffle(row, 8 * i + lane / 4) + 4 * (lane % 4)"#,
        new: r#"shuffle(row, 8 * i + lane / 4) + 2 * (lane % 4)"#,
        arch: "compute_80",
        test: "primitives",
    },
    Bug {
        name: "a lost .trans in the branch from sm_90 on",
        file: "cuda/machine/matrix.cuh",
        old: r#"stmatrix.sync.aligned.m8n8.x4.trans.shared.b16"#,
        new: r#"stmatrix.sync.aligned.m8n8.x4.shared.b16"#,
        arch: "compute_90a",
        test: "primitives",
    },
    Bug {
        name: "the branch of sm_90 taken below it",
        file: "cuda/machine/matrix.cuh",
        old: "DEVICE void store_matrix_x4(uint32_t row, const uint32_t (&r)[4]) {\n#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900",
        new: "DEVICE void store_matrix_x4(uint32_t row, const uint32_t (&r)[4]) {\n#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800",
        arch: "compute_80",
        test: "primitives",
    },
    Bug {
        name: "invalid copies read some bytes",
        file: "cuda/machine/async_copy.cuh",
        old: "valid ? BYTES : 0",
        new: "valid ? BYTES : 4",
        arch: "compute_80",
        test: "primitives",
    },
    Bug {
        name: "copies lose their zero fill",
        file: "cuda/machine/async_copy.cuh",
        old: r#"cp.async.cg.shared.global [%0], [%1], 16, %2;"#,
        new: r#"cp.async.cg.shared.global [%0], [%1], 16;"#,
        arch: "compute_80",
        test: "primitives",
    },
    Bug {
        name: "a wait that is too weak",
        file: "cuda/machine/async_copy.cuh",
        old: r#""n"(PENDING)"#,
        new: r#""n"(PENDING + 1)"#,
        arch: "compute_80",
        test: "primitives",
    },
    Bug {
        name: "copies are never committed",
        file: "cuda/machine/async_copy.cuh",
        old: r#"asm volatile("cp.async.commit_group;" ::: "memory");"#,
        new: r#"asm volatile("" ::: "memory");"#,
        arch: "compute_80",
        test: "primitives",
    },
    Bug {
        name: "a dropped barrier of the block",
        file: "cuda/machine/barrier.cuh",
        old: "__syncthreads();",
        new: "",
        arch: "compute_80",
        test: "linear_attention",
    },
    Bug {
        name: "a named barrier where nobody waits",
        file: "cuda/machine/barrier.cuh",
        old: r#""bar.sync %0, %1;""#,
        new: r#""bar.arrive %0, %1;""#,
        arch: "compute_80",
        test: "primitives",
    },
    Bug {
        name: "a named barrier of too few threads",
        file: "cuda/machine/barrier.cuh",
        old: r#"asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");"#,
        new: r#"asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads / 2) : "memory");"#,
        arch: "compute_80",
        test: "primitives",
    },
    Bug {
        name: "an arrival that does not wait for its copies",
        file: "cuda/machine/mbarrier.cuh",
        old: r#"asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(barrier) : "memory");"#,
        new: r#"asm volatile("{ .reg .b64 state; mbarrier.arrive.shared.b64 state, [%0]; }" ::"r"(barrier) : "memory");"#,
        arch: "compute_80",
        test: "primitives",
    },
    Bug {
        name: "an arrival for others that counts once",
        file: "cuda/machine/mbarrier.cuh",
        old: r#"        "r"(arrivals)
"#,
        new: r#"        "r"(arrivals > 0 ? 1 : 0)
"#,
        arch: "compute_80",
        test: "primitives",
    },
    Bug {
        name: "rows of a warpgroup's factor taken for its columns",
        file: "cuda/machine/wgmma.cuh",
        old: "Wgmma<T, N, true>::start(c.values",
        new: "Wgmma<T, N, false>::start(c.values",
        arch: "compute_90a",
        test: "primitives",
    },
    Bug {
        name: "panels too near to one another",
        file: "cuda/machine/wgmma.cuh",
        old: "static_cast<uint64_t>(panel_bytes >> 4) << 16",
        new: "static_cast<uint64_t>(panel_bytes >> 5) << 16",
        arch: "compute_90a",
        test: "primitives",
    },
    Bug {
        name: "a wait for products that is too weak",
        file: "cuda/machine/wgmma.cuh",
        old: r#""n"(PENDING)"#,
        new: r#""n"(PENDING + 1)"#,
        arch: "compute_90a",
        test: "primitives",
    },
    Bug {
        name: "words of a vector in another order",
        file: "cuda/machine/memory.cuh",
        old: r#""st.global.v4.u32 [%0], {%1, %2, %3, %4};""#,
        new: r#""st.global.v4.u32 [%0], {%1, %3, %2, %4};""#,
        arch: "compute_80",
        test: "primitives",
    },
    Bug {
        name: "halves of a pair swapped",
        file: "cuda/machine/element.cuh",
        old: "asm(\"cvt.rn.bf16x2.f32 %0, %1, %2;\" : \"=r\"(pair) : \"f\"(hi), \"f\"(lo));",
        new: "asm(\"cvt.rn.bf16x2.f32 %0, %1, %2;\" : \"=r\"(pair) : \"f\"(lo), \"f\"(hi));",
        arch: "compute_80",
        test: "primitives",
    },
    Bug {
        name: "another exchange",
        file: "cuda/machine/warp.cuh",
        old: "__shfl_up_sync(ALL_LANES, value, delta)",
        new: "__shfl_down_sync(ALL_LANES, value, delta)",
        arch: "compute_80",
        test: "primitives",
    },
    Bug {
        name: "another atomic operation",
        file: "cuda/machine/atomic.cuh",
        old: r#""atom.shared.or.b32 %0, [%1], %2;""#,
        new: r#""atom.shared.and.b32 %0, [%1], %2;""#,
        arch: "compute_80",
        test: "primitives",
    },
    Bug {
        name: "another function",
        file: "cuda/machine/math.cuh",
        old: r#""rcp.approx.ftz.f32 %0, %1;""#,
        new: r#""rsqrt.approx.ftz.f32 %0, %1;""#,
        arch: "compute_80",
        test: "primitives",
    },
    Bug {
        name: "another axis of the grid",
        file: "cuda/machine/machine.cuh",
        old: "static_cast<int>(blockIdx.z)",
        new: "static_cast<int>(blockIdx.y)",
        arch: "compute_80",
        test: "primitives",
    },
    Bug {
        name: "parameters at other offsets",
        file: "include/params/rows.h",
        old: "    int64_t token_stride;  // elements from one token to the next\n    int64_t head_stride;   // elements from one head to the next\n",
        new: "#if defined(__CUDA_ARCH__)\n    int64_t head_stride, token_stride;\n#else\n    int64_t token_stride, head_stride;\n#endif\n",
        arch: "compute_80",
        test: "linear_attention",
    },
];
