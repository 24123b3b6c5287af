// Unit kernels of the products of a warpgroup.
#include "machine/async_copy.cuh"
#include "machine/barrier.cuh"
#include "machine/memory.cuh"
#include "machine/warpgroup.cuh"
#include "params/unit_test.h"

namespace sala {
inline namespace SALA_VARIANT {

using Params = sala_unit_test_params;

// A is 64 x 128, in the input; B is 128 x 128, in the second input, of which columns [8, 8 + N) of rows [16, 16 + 64) or so are taken.
constexpr int K = 64;

struct alignas(1024) TilePlan {
    uint8_t b[PanelTile<64, 128>::BYTES];
    uint8_t a[PanelTile<64, 64>::BYTES];
};

DEVICE TilePlan& tile_plan() { return dynamic_shared<TilePlan>(static_cast<uint32_t>(SALA_UNIT_TEST_SHARED - sizeof(TilePlan))); }

// Copies a matrix that lies row by row.
template <int ROWS, int COLS>
DEVICE void load_panels(PanelTile<ROWS, COLS> tile, uint64_t from) {
    for (int i = thread_index(); i < ROWS * COLS / 8; i += block_threads()) {
        async_copy<16>(tile.address(i / (COLS / 8), i % (COLS / 8)), reinterpret_cast<const uint8_t*>(from) + 16 * i);
    }
    async_copy_commit();
    async_copy_wait<0>();
    publish_shared_writes();
    sync_block();
}

// The warp's rows of A, which lies row by row with K columns.
DEVICE FragmentA<K> load_rows(const Params& p) {
    FragmentA<K> a;
    const uint32_t* rows = reinterpret_cast<const uint32_t*>(p.input) + (16 * warp_index() + lane_index() / 4) * (K / 2) + lane_index() % 4;
    UNROLL
    for (int i = 0; i < K / 16; ++i) {
        UNROLL
        for (int e = 0; e < 4; ++e) a.registers[i][e] = load_global(rows + e % 2 * 8 * (K / 2) + 8 * i + e / 2 * 4);
    }
    return a;
}

template <int N>
DEVICE void store_sums(const Params& p, const Accumulator<N>& c) {
    UNROLL
    for (int j = 0; j < N / 8; ++j) {
        UNROLL
        for (int e = 0; e < 4; ++e) {
            const int row = 16 * warp_index() + accumulator_row(e);
            store_global(reinterpret_cast<float*>(p.output) + row * N + accumulator_col(j, e), c.values[j][e]);
        }
    }
}

// B(k, n) is row n, column k: 64 rows of 64 columns. Twice, the second time on top of the first.
template <class T>
DEVICE void product_nk(const Params& p) {
    const PanelTile<64, 64> b{shared_address(tile_plan().b)};
    load_panels(b, p.second_input);
    const FragmentA<K> a = load_rows(p);
    Accumulator<64> c;
    fence_products();
    start_product_nk<T, 64>(c, a, b, 0, false);
    start_product_nk<T, 64>(c, a, b, 0, true);
    commit_products();
    wait_products<0>(c);
    store_sums(p, c);
}
DEVICE void nk_bf16(const Params& p) { product_nk<bf16>(p); }
DEVICE void nk_f16(const Params& p) { product_nk<f16>(p); }

// B(k, n) is row k, column n: 64 rows of 128 columns, in two panels. Two batches, of 32 rows each.
template <class T>
DEVICE void product_kn(const Params& p) {
    const PanelTile<64, 128> b{shared_address(tile_plan().b)};
    load_panels(b, p.second_input);
    const FragmentA<K> a = load_rows(p);
    FragmentA<32> halves[2];
    UNROLL
    for (int i = 0; i < 4; ++i) {
        UNROLL
        for (int e = 0; e < 4; ++e) halves[i / 2].registers[i % 2][e] = a.registers[i][e];
    }
    Accumulator<128> c;
    fence_products();
    start_product_kn<T, 128>(c, halves[0], b, 0, false);
    commit_products();
    start_product_kn<T, 128>(c, halves[1], b, 32, true);
    commit_products();
    wait_products<0>(c);
    store_sums(p, c);
}
DEVICE void kn_bf16(const Params& p) { product_kn<bf16>(p); }
DEVICE void kn_f16(const Params& p) { product_kn<f16>(p); }

// Both in shared memory.
DEVICE void shared_nk(const Params& p) {
    const PanelTile<64, 64> a{shared_address(tile_plan().a)}, b{shared_address(tile_plan().b)};
    load_panels(a, p.input);
    load_panels(b, p.second_input);
    Accumulator<64> c;
    fence_products();
    start_product_shared_nk<bf16, 64>(c, a, 0, b, 0, false);
    commit_products();
    wait_products<0>(c);
    store_sums(p, c);
}

#define INSTANCE(name, test) \
    KERNEL(name, sala_unit_test_params, 128, 1) { test(p); }
#include "instances/warpgroup.h"

}  // namespace SALA_VARIANT
}  // namespace sala
