// Misuses of the products of a warpgroup, which only the executor runs: it has to report each. What is reported is marked.
#include "machine/async_copy.cuh"
#include "machine/barrier.cuh"
#include "machine/memory.cuh"
#include "machine/warp.cuh"
#include "machine/warpgroup.cuh"
#include "params/unit_test.h"

namespace sala {
inline namespace SALA_VARIANT {

using Params = sala_unit_test_params;
using Tile = PanelTile<64, 64>;

struct alignas(1024) Plan {
    uint8_t b[Tile::BYTES];
};

DEVICE Tile tile() {
    Plan& plan = dynamic_shared<Plan>(static_cast<uint32_t>(SALA_UNIT_TEST_SHARED - sizeof(Plan)));
    return {shared_address(plan.b)};
}

// Zeros in half a row for each thread.
DEVICE void store_half_row(Tile b SITE) {
    UNROLL
    for (int i = 0; i < 4; ++i) store_shared(b.address(thread_index() / 2, thread_index() % 2 * 4 + i), Words4 {} FORWARD_SITE);
}

DEVICE void fill_tile(Tile b) {
    store_half_row(b);
    publish_shared_writes();
    sync_block();
}

DEVICE void start(Accumulator<64>& c, Tile b SITE) {
    FragmentA<16> a = {};
    start_product_nk<bf16, 64>(c, a, b, 0, false FORWARD_SITE);
}

DEVICE void store_sum(const Params& p, const Accumulator<64>& c) {
    store_global(reinterpret_cast<float*>(p.output) + thread_index(), c.values[0][0]);
}

// What follows a start where nothing is wrong with it.
DEVICE void finish(const Params& p, Accumulator<64>& c) {
    commit_products();
    wait_products<0>(c);
    store_sum(p, c);
}

DEVICE void clean_products(const Params& p) {
    fill_tile(tile());
    Accumulator<64> c;
    for (int round = 0; round < 3; ++round) {
        fence_products();
        start(c, tile());
        commit_products();
        wait_products<0>(c);
        sync_block();
        fill_tile(tile());
    }
    store_sum(p, c);
}

DEVICE void unpublished_writes(const Params& p) {
    const Tile b = tile();
    store_half_row(b);
    sync_block();
    Accumulator<64> c;
    fence_products();
    start(c, b);  // reported
    finish(p, c);
}

// What copies bring has to be published too, after they are there.
DEVICE void unpublished_copies(const Params& p) {
    const Tile b = tile();
    UNROLL
    for (int i = 0; i < 4; ++i) {
        async_copy<16>(b.address(thread_index() / 2, thread_index() % 2 * 4 + i), reinterpret_cast<const void*>(p.input), false);
    }
    async_copy_commit();
    publish_shared_writes();
    async_copy_wait<0>();
    sync_block();
    Accumulator<64> c;
    fence_products();
    start(c, b);  // reported
    finish(p, c);
}

DEVICE void unordered_product(const Params& p) {
    const Tile b = tile();
    store_half_row(b);  // reported
    publish_shared_writes();
    Accumulator<64> c;
    fence_products();
    start(c, b);  // reported
    commit_products();
    wait_products<0>(c);
    sync_block();
    store_sum(p, c);
}

// Writes what the product may still read: the barrier says nothing of products that have not been waited for.
DEVICE void overwritten_factor(const Params& p) {
    fill_tile(tile());
    Accumulator<64> c;
    fence_products();
    start(c, tile());
    commit_products();
    sync_block();
    store_half_row(tile());  // reported
    wait_products<0>(c);
    store_sum(p, c);
}

// Gives no number where products come late.
DEVICE void early_sum(const Params& p) {
    fill_tile(tile());
    Accumulator<64> c;
    fence_products();
    start(c, tile());
    commit_products();
    wait_products<1>(c);
    store_sum(p, c);
    wait_products<0>(c);
}

DEVICE void unfinished_product(const Params& p) {
    fill_tile(tile());
    Accumulator<64> c;
    fence_products();
    start(c, tile());  // reported
    commit_products();
    store_global(reinterpret_cast<float*>(p.output) + thread_index(), 0.0f);
}

DEVICE void divergent_warpgroup(const Params& p) {
    fill_tile(tile());
    Accumulator<64> c;
    c.fill(0.0f);
    if (warp_index() != 2) {
        fence_products();  // reported
        start(c, tile());
    } else {
        fence_products();  // reported
        start(c, tile());
    }
    finish(p, c);
}

DEVICE void missing_warp(const Params& p) {
    fill_tile(tile());
    Accumulator<64> c;
    c.fill(0.0f);
    if (warp_index() != 2) {
        fence_products();  // reported
        start(c, tile());  // reported
        commit_products();
        wait_products<0>(c);
    }
    store_sum(p, c);
}

DEVICE void misaligned_panel(const Params& p) {
    fill_tile(tile());
    Accumulator<64> c;
    fence_products();
    start(c, Tile{tile().base + 512});  // reported
    finish(p, c);
}

DEVICE void rows_past_tile(const Params& p) {
    fill_tile(tile());
    Accumulator<64> c;
    FragmentA<16> a = {};
    fence_products();
    start_product_nk<bf16, 64>(c, a, tile(), 8, false);  // reported
    finish(p, c);
}

#define INSTANCE(name, fault) \
    KERNEL(name, sala_unit_test_params, 128, 1) { fault(p); }
#include "instances/warpgroup_faults.h"

}  // namespace SALA_VARIANT
}  // namespace sala
