// The machine a kernel runs on: threads, blocks, shared memory and the entry point. Every other header here
// includes this one.
//
// Kernels are written once. nvcc compiles them for the GPU; with SALA_HOST defined the C++ compiler compiles
// the same files, and each primitive calls the executor in cuda/host, where every CUDA thread is a fiber.
//
// SALA_VARIANT names the inline namespace that holds all device-side code (`device` for nvcc, `plain` or
// `race` for the host). The host build compiles each kernel file twice into one binary; the namespace keeps
// the linker from merging the functions of the two builds.
#pragma once
#include <stdint.h>

#if defined(SALA_HOST)

#if !defined(SALA_VARIANT)
#define SALA_VARIANT plain
#endif

#define DEVICE inline __attribute__((always_inline))
#define UNROLL
#define NO_UNROLL

// Hidden trailing parameters that carry the kernel's file and line to the executor, so that a report names
// the line that misused the primitive. SITE follows other parameters, SITE_ALONE stands alone; FORWARD_SITE
// passes a site on to the next primitive.
#define SITE_ALONE const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define SITE , SITE_ALONE
#define FORWARD_SITE_ALONE file, line
#define FORWARD_SITE , FORWARD_SITE_ALONE

#else

#if !defined(SALA_VARIANT)
#define SALA_VARIANT device
#endif

#define DEVICE __device__ __forceinline__
#define UNROLL _Pragma("unroll")
#define NO_UNROLL _Pragma("unroll 1")
#define SITE_ALONE
#define SITE
#define FORWARD_SITE_ALONE
#define FORWARD_SITE

#endif

namespace sala {
inline namespace SALA_VARIANT {

constexpr int WARP_SIZE = 32;

// How many blocks that take all of 99 KiB of shared memory a multiprocessor has room for: a kernel that asks for
// registers for more loses them for nothing.
#if defined(__CUDA_ARCH__) && 900 <= __CUDA_ARCH__ && __CUDA_ARCH__ < 1200
constexpr int BLOCKS_OF_99_KIB = 2;
#else
constexpr int BLOCKS_OF_99_KIB = 1;
#endif

// Blocks are one-dimensional: a thread's index in its block, its warp, and its lane in that warp.
DEVICE int thread_index();
DEVICE int warp_index();
DEVICE int lane_index();

// Number of threads in the block.
DEVICE int block_threads();

DEVICE int block_index_x();
DEVICE int block_index_y();
DEVICE int block_index_z();
DEVICE int grid_size_x();
DEVICE int grid_size_y();
DEVICE int grid_size_z();

// The launch's dynamic shared memory (aligned to 1024 bytes), seen as the kernel's plan of it. A plan may
// have a tail, from `&plan + 1` on, whose length only the launch knows. The executor refuses a launch that
// gives more or less dynamic shared memory than plan and tail take.
template <class Plan>
DEVICE Plan& dynamic_shared(SITE_ALONE);
template <class Plan>
DEVICE Plan& dynamic_shared(uint32_t tail_bytes SITE);

// The same for a kernel without a plan: the address of the launch's `bytes` bytes, as shared_address gives
// it.
DEVICE uint32_t dynamic_shared_address(uint32_t bytes SITE);

// The 32-bit address of an object in shared memory, as the instructions on shared memory take it.
DEVICE uint32_t shared_address(const void* object SITE);

// The same value, which the compiler keeps in a register instead of making it again.
DEVICE uint32_t kept(uint32_t value);
DEVICE int64_t kept(int64_t value);

// The same value, of which the compiler knows nothing: what is made of it is made again instead of kept in registers.
DEVICE uint32_t renewed(uint32_t value);

}  // namespace SALA_VARIANT
}  // namespace sala

// KERNEL(name, Params, threads, min_blocks) { ... } defines a kernel of blocks of at most `threads` threads,
// at least `min_blocks` of which should fit on a multiprocessor. The body sees its parameters as `const
// Params& p` (they live as long as the grid does).
//
// STATIC_SHARED(type, name) defines a variable in static shared memory; `type` needs no constructor.

#if defined(SALA_HOST)
#include "host/machine.h"
#else

#define KERNEL(name, Params, threads, min_blocks) \
    extern "C" __global__ void __launch_bounds__(threads, min_blocks) name(const __grid_constant__ Params p)

#define STATIC_SHARED(type, name) __shared__ type name

namespace sala {
inline namespace SALA_VARIANT {

DEVICE int thread_index() { return static_cast<int>(threadIdx.x); }
DEVICE int warp_index() { return thread_index() / WARP_SIZE; }
DEVICE int lane_index() { return thread_index() % WARP_SIZE; }
DEVICE int block_threads() { return static_cast<int>(blockDim.x); }
DEVICE int block_index_x() { return static_cast<int>(blockIdx.x); }
DEVICE int block_index_y() { return static_cast<int>(blockIdx.y); }
DEVICE int block_index_z() { return static_cast<int>(blockIdx.z); }
DEVICE int grid_size_x() { return static_cast<int>(gridDim.x); }
DEVICE int grid_size_y() { return static_cast<int>(gridDim.y); }
DEVICE int grid_size_z() { return static_cast<int>(gridDim.z); }

template <class Plan>
DEVICE Plan& dynamic_shared() {
    extern __shared__ __align__(1024) unsigned char sala_dynamic_shared[];
    return *reinterpret_cast<Plan*>(sala_dynamic_shared);
}

template <class Plan>
DEVICE Plan& dynamic_shared(uint32_t) {
    return dynamic_shared<Plan>();
}

DEVICE uint32_t shared_address(const void* object) { return static_cast<uint32_t>(__cvta_generic_to_shared(object)); }

DEVICE uint32_t kept(uint32_t value) {
    asm volatile("mov.u32 %0, %0;" : "+r"(value));
    return value;
}

DEVICE int64_t kept(int64_t value) {
    asm volatile("mov.u64 %0, %0;" : "+l"(value));
    return value;
}

DEVICE uint32_t renewed(uint32_t value) { return kept(value); }

DEVICE uint32_t dynamic_shared_address(uint32_t) { return shared_address(&dynamic_shared<unsigned char>()); }

}  // namespace SALA_VARIANT
}  // namespace sala

#endif
