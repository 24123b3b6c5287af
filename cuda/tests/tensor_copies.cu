// Unit kernels of copies that mbarriers count.
#include "machine/barrier.cuh"
#include "machine/machine.cuh"
#include "machine/mbarrier.cuh"
#include "machine/memory.cuh"
#include "machine/tensor_copy.cuh"
#include "machine/tile.cuh"
#include "machine/warp.cuh"
#include "params/unit_test.h"

namespace sala {
inline namespace SALA_VARIANT {

using Params = sala_tensor_test_params;

struct alignas(1024) Plan {
    uint8_t bytes[16384];
    uint64_t barriers[8];
};

DEVICE Plan& test_plan() { return dynamic_shared<Plan>(static_cast<uint32_t>(SALA_UNIT_TEST_SHARED - sizeof(Plan))); }

DEVICE uint32_t barrier(int index) { return shared_address(&test_plan().barriers[index]); }

// One thread begins mbarriers of one arrival each.
DEVICE void begin(int count) {
    if (thread_index() == 0) {
        for (int i = 0; i < count; ++i) init_mbarrier(barrier(i), 1);
        publish_shared_writes();
    }
    sync_block();
}

// Bytes of shared memory as they lie.
DEVICE void store_bytes(const Params& p, uint32_t from, uint32_t bytes) {
    for (uint32_t at = 4 * static_cast<uint32_t>(thread_index()); at < bytes; at += 4 * static_cast<uint32_t>(block_threads())) {
        store_global(reinterpret_cast<uint32_t*>(p.output + at), load_shared<uint32_t>(from + at));
    }
}

// A box of a tensor of RANK axes.
template <int RANK>
DEVICE void box(const Params& p) {
    const uint32_t target = shared_address(test_plan().bytes) + p.offset;
    begin(1);
    int first[RANK];
    UNROLL
    for (int axis = 0; axis < RANK; ++axis) first[axis] = p.first[axis];
    if (warp_index() == 0 && elect_lane()) {
        prefetch_map(p.map);
        arrive_mbarrier_expecting(barrier(0), p.bytes);
        start_tensor_copy(target, p.map, first, barrier(0));
    }
    wait_mbarrier(barrier(0), 0);
    store_bytes(p, target, p.bytes);
}
DEVICE void box_2(const Params& p) { box<2>(p); }
DEVICE void box_3(const Params& p) { box<3>(p); }
DEVICE void box_4(const Params& p) { box<4>(p); }

// Bytes as they lie, in two halves, which are announced apart from the arrival.
DEVICE void bulk(const Params& p) {
    const uint32_t target = shared_address(test_plan().bytes), half = p.bytes / 2;
    begin(1);
    if (thread_index() == 0) {
        expect_copied_bytes(barrier(0), half);
        start_bulk_copy(target, reinterpret_cast<const void*>(p.input), half, barrier(0));
        start_bulk_copy(target + half, reinterpret_cast<const void*>(p.input + half), half, barrier(0));
        arrive_mbarrier_expecting(barrier(0), half);
    }
    wait_mbarrier(barrier(0), 0);
    store_bytes(p, target, p.bytes);
}

// A ring of two stages: warp 0 copies boxes of 16 rows of 64 elements from 8 pages, and warps 1 to 3 each read all of them. A
// thread adds up two columns.
DEVICE void ring(const Params& p) {
    constexpr int PAGES = 8, STAGES = 2, ROWS = 16;
    constexpr uint32_t BYTES = ROWS * SharedTile<64>::ROW_BYTES;
    const uint32_t stages = shared_address(test_plan().bytes);
    if (thread_index() == 0) {
        for (int i = 0; i < STAGES; ++i) {
            init_mbarrier(barrier(i), 1);
            init_mbarrier(barrier(STAGES + i), 3);
        }
        publish_shared_writes();
    }
    sync_block();
    if (warp_index() == 0) {
        const bool elected = elect_lane();
        for (int page = 0; page < PAGES; ++page) {
            const int stage = page % STAGES;
            if (!elected) continue;
            if (page >= STAGES) wait_mbarrier(barrier(STAGES + stage), static_cast<uint32_t>(page / STAGES - 1) & 1);
            arrive_mbarrier_expecting(barrier(stage), BYTES);
            start_tensor_copy(stages + static_cast<uint32_t>(stage) * BYTES, p.map, {p.first[0], p.first[1], p.first[2], page},
                              barrier(stage));
        }
        return;
    }
    uint32_t sums[2] = {0, 0};
    for (int page = 0; page < PAGES; ++page) {
        const int stage = page % STAGES;
        const SharedTile<64> tile{stages + static_cast<uint32_t>(stage) * BYTES};
        wait_mbarrier(barrier(stage), static_cast<uint32_t>(page / STAGES) & 1);
        for (int row = 0; row < ROWS; ++row) {
            const auto pair = load_shared<uint32_t>(tile.element(row, 2 * lane_index()));
            sums[0] = 3 * sums[0] + (pair & 0xffff);
            sums[1] = 3 * sums[1] + (pair >> 16);
        }
        sync_warp();
        if (lane_index() == 0) arrive_mbarrier(barrier(STAGES + stage));
    }
    auto* output = reinterpret_cast<uint32_t*>(p.output) + (warp_index() - 1) * 64 + 2 * lane_index();
    store_global(output, sums[0]);
    store_global(output + 1, sums[1]);
}

// Two panels of 64 columns, of two boxes of 16 rows each, become 32 rows of 128, which mma reads as its factor A.
DEVICE void panels(const Params& p) {
    constexpr int ROWS = 32;
    constexpr uint32_t PANEL = ROWS * SharedTile<64>::ROW_BYTES, BOX = PANEL / 2;
    const uint32_t tile = shared_address(test_plan().bytes);
    begin(1);
    if (warp_index() == 0 && elect_lane()) {
        arrive_mbarrier_expecting(barrier(0), 4 * BOX);
        for (uint32_t i = 0; i < 4; ++i) {
            start_tensor_copy(tile + i * BOX, p.map, {static_cast<int>(i) / 2 * 64, p.first[1], static_cast<int>(i) % 2 * 16, p.first[3]},
                              barrier(0));
        }
    }
    wait_mbarrier(barrier(0), 0);
    const SharedTile<64> panel{tile + static_cast<uint32_t>(warp_index()) % 2 * PANEL};
    const FragmentA<64> a = load_fragment_a<64>(panel, warp_index() / 2 * 16, 0);
    UNROLL
    for (int step = 0; step < 4; ++step) {
        UNROLL
        for (int e = 0; e < 4; ++e) {
            const int row = warp_index() / 2 * 16 + lane_index() / 4 + e % 2 * 8;
            const int column = warp_index() % 2 * 64 + 16 * step + e / 2 * 8 + lane_index() % 4 * 2;
            store_global(reinterpret_cast<uint32_t*>(p.output) + (row * 128 + column) / 2, a.registers[step][e]);
        }
    }
}

#define INSTANCE(name, test) \
    KERNEL(name, sala_tensor_test_params, 128, 1) { test(p); }
#include "instances/tensor_copies.h"

}  // namespace SALA_VARIANT
}  // namespace sala
