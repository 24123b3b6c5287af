// Sums of squares of tokens' channels, the half of a norm that tensor-parallel ranks add up before norm_gate.
//
// Grid: (tokens). A block takes a token; the order of its sum follows from the number of channels alone.
// Limit: bytes, each read once.
//
// Definition: docs/semantics.md#sum_squares
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "params/norms.h"
#include "parts/keys/rows.cuh"
#include "parts/norm_row.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int THREADS = SALA_NORM_THREADS;

struct SumPlan {
    Twofold partial[THREADS / WARP_SIZE];
};

template <class T, int PASSES>
DEVICE void sum_squares(const sala_norm_gate_params& p) {
    auto& plan = dynamic_shared<SumPlan>();
    const int64_t token = block_index_x();
    BlockRow<PASSES> x;
    x.load(row_of<const uint16_t>(p.x, token, 0), p.channels);
    const Twofold sum = x.template sum_squares<T>(plan.partial);
    // What is beyond f32 has no second part.
    if (thread_index() == 0) store_global(entry_of<float>(p.sum_squares, token), sum.hi < INFINITE ? sum.hi + sum.lo : sum.hi);
}

#define INSTANCE(name, T, PASSES) \
    KERNEL(name, sala_norm_gate_params, THREADS, 2) { sum_squares<T, PASSES>(p); }
#include "instances/sum_squares.h"

}  // namespace SALA_VARIANT
}  // namespace sala
