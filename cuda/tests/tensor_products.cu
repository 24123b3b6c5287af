// Unit kernels of products of what tensor copies have brought, and of registers that change hands; then misuses, which only the
// executor runs.
#include "machine/barrier.cuh"
#include "machine/machine.cuh"
#include "machine/mbarrier.cuh"
#include "machine/memory.cuh"
#include "machine/tensor_copy.cuh"
#include "machine/warp.cuh"
#include "machine/warpgroup.cuh"
#include "params/unit_test.h"

namespace sala {
inline namespace SALA_VARIANT {

using Params = sala_tensor_test_params;

constexpr int THREADS = 384;  // three warpgroups, whose threads have 168 registers at first

using Factor = PanelTile<64, 64>;

struct alignas(1024) Plan {
    uint8_t a[Factor::BYTES], b[Factor::BYTES];
    uint64_t full;
};

DEVICE Plan& test_plan() { return dynamic_shared<Plan>(static_cast<uint32_t>(SALA_UNIT_TEST_SHARED - sizeof(Plan))); }

// The second warpgroup copies A and B, of 64 x 64 each, and the first, whose sums `c` become, multiplies A by B transposed.
DEVICE void multiply(const Params& p, Accumulator<64>& c, bool waits SITE) {
    Plan& plan = test_plan();
    const uint32_t full = shared_address(&plan.full);
    const Factor a{shared_address(plan.a)}, b{shared_address(plan.b)};
    if (thread_index() == 0) {
        init_mbarrier(full, 1);
        publish_shared_writes();
    }
    sync_block();
    if (warp_index() == 4 && elect_lane()) {
        arrive_mbarrier_expecting(full, 2 * Factor::BYTES);
        start_tensor_copy(a.base, p.map, {0, 0}, full);
        start_tensor_copy(b.base, p.second_map, {0, 0}, full);
    }
    if (warp_index() >= 4) return;
    if (waits) wait_mbarrier(full, 0);
    fence_products();
    start_product_shared_nk<bf16, 64>(c, a, 0, b, 0, false FORWARD_SITE);
    commit_products();
    wait_products<0>(c);
    wait_mbarrier(full, 0);
}

DEVICE void store_sums(const Params& p, const Accumulator<64>& c) {
    UNROLL
    for (int j = 0; j < 8; ++j) {
        UNROLL
        for (int e = 0; e < 4; ++e) {
            const int row = 16 * warp_index() + accumulator_row(e);
            store_global(reinterpret_cast<float*>(p.output) + row * 64 + accumulator_col(j, e), c.values[j][e]);
        }
    }
}

DEVICE void copied_factors(const Params& p) {
    Accumulator<64> c;
    multiply(p, c, true);
    if (warp_index() < 4) store_sums(p, c);
}

// The same after the others have given up what the first group takes.
DEVICE void registers(const Params& p) {
    if (warp_index() < 4) {
        take_registers<240>();
    } else {
        give_up_registers<40>();
    }
    copied_factors(p);
}

DEVICE void unwaited_factor(const Params& p) {
    Accumulator<64> c;
    multiply(p, c, false);  // reported
    if (warp_index() < 4) store_sums(p, c);
}

// The other groups keep what they have.
DEVICE void registers_for_ever(const Params& p) {
    if (warp_index() < 4) take_registers<240>();  // reported
    store_global(reinterpret_cast<float*>(p.output) + thread_index(), 0.0f);
}

DEVICE void fewer_registers_taken(const Params& p) {
    take_registers<40>();  // reported
    store_global(reinterpret_cast<float*>(p.output) + thread_index(), 0.0f);
}

#define INSTANCE(name, test) \
    KERNEL(name, sala_tensor_test_params, THREADS, 1) { test(p); }
#include "instances/tensor_products.h"

}  // namespace SALA_VARIANT
}  // namespace sala
