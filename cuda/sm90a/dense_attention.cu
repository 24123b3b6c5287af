// Attention of every query token over all keys from its first one to its own:
//
//     O = softmax(f·s·q Kᵀ) V,   LSE = ln Σ exp        over the keys first_key ≤ t ≤ p
//
// What cuda/base/dense_attention.cu computes, with products of warpgroups. Grid and tiles are the same: (tiles of query tokens,
// kv heads, batch), a tile being 128 rows (parts/attention/dense_tile.cuh), sixteen of each warp. Two warpgroups attend, to 64
// rows each; one warp of a third copies the steps of 64 keys that any row sees into a ring (parts/attention/group_ring.cuh):
//
//     keys ─▶      64     128     192
//     group 0      ███████▓░                S = Q Kᵀ   64 × 64, Q in registers          █ whole steps
//     group 1      ███████▓▓▓░              P = softmax weights, rounded to 16 bits     ▓ masked, key by key
//                                           O = a·O + P V   64 × dim, P in registers    ░ passed by, unless in between
//
// A row's softmax depends on that row alone, and keys come in ascending steps of 64: its bits are those of sm90a's sparse_attention
// with every block listed, whatever the tile, the chunk or the batch.
//
// Shared memory: the ring 192 KiB (6 stages of K and V at dim 128, 12 at dim 64), barriers, rows 1 KiB.
//
//     tensor cores    | S(i) | P V (i − 1)        | S(i + 1) | P V (i)           per group; the other is half a step off
//     the rest               | weights(i)         | O·a, P(i)                    (parts/attention/group_walk.cuh)
//     copies          K(i + 5), V(i + 5), …
//
// Limit: the tensor cores, 4096 FLOP per clock and SM: 512 clocks for a step and group; weights take 256. K and V are read for
// 128 rows, 32 bytes per clock and SM at that pace.
//
// Definition: docs/semantics.md#dense_attention
#include "machine/barrier.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/tile.cuh"
#include "machine/warp.cuh"
#include "machine/warpgroup.cuh"
#include "params/sparse_attention.h"
#include "parts/attention/dense_tile.cuh"
#include "parts/attention/group_ring.cuh"
#include "parts/attention/group_walk.cuh"
#include "parts/attention/key_cell.cuh"
#include "parts/attention/online_softmax.cuh"
#include "parts/attention/query_tile.cuh"
#include "parts/keys/sequence.cuh"
#include "parts/stage_ring.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int WARPS = SALA_GROUP_ATTENTION_WARPS;
constexpr int THREADS = WARPS * WARP_SIZE;
constexpr int STEP = AttentionTile::STEP;
static_assert(DENSE_WARPS == READER_GROUPS * GROUP_WARPS, "two warpgroups have rows");

// Its size is a multiple of 1024 bytes, whatever lies behind the ring.
template <int DIM>
struct alignas(1024) GroupDensePlan {
    using Ring = GroupRing<DIM>;

    uint16_t halves[SALA_GROUP_ATTENTION_RING_BYTES / 2];
    typename Ring::Barriers barriers;
    DenseRows<1> rows;
    StepKeys keys[Ring::STAGES];  // of the step in each stage
};
static_assert(sizeof(GroupDensePlan<64>) == SALA_GROUP_DENSE_SHARED_BYTES && sizeof(GroupDensePlan<128>) == SALA_GROUP_DENSE_SHARED_BYTES,
              "the host gives that much");

// ---- the warp that copies

template <int DIM>
struct DenseFiller {
    using Ring = GroupRing<DIM>;

    const RingFiller<DIM> ring;
    GroupDensePlan<DIM>& plan;
    KeyRows rows[2];  // of keys and values
    SeenKeys read;
    uint64_t status;

    // Fills the stage of a step, and says which of its keys there are.
    DEVICE void fill(const SeenStep& step) const {
        const int stage = step.count % Ring::STAGES, first = step.index * STEP;
        const bool is_mapped = ring.p.is_mapped != 0;
        if (is_mapped && step.has_page(rows[KEY]) && read.first <= first && first + STEP - 1 <= read.last) {
            ring.for_halves(step.count, ALL_READERS, [&](StageHalf half, uint32_t landed) {
                if (half == KEY && elect_lane()) plan.keys[stage] = StepKeys::all();  // by the lane that arrives
                ring.copy_whole(stage, half, rows[half], step.index, step.page, landed);
            });
            return;
        }
        KeyCell cells[AttentionTile::STEP_CELLS];
        StepKeys keys;
        UNROLL
        for (int number = 0; number < AttentionTile::STEP_CELLS; ++number) {
            const int begin = first + number * KeyCell::KEYS;
            cells[number] = find_cell(rows[KEY], begin, keys_before(begin, read.last + 1) & keys_from(begin, read.first), true);
            keys.visible[number] = cells[number].visible;
            if (lane_index() == 0) count_bad_pages(status, cells[number]);
        }
        const bool in_pages = is_mapped && rows[KEY].paged() && keys.are_all();
        ring.for_halves(step.count, ALL_READERS, [&](StageHalf half, uint32_t landed) {
            if (half == KEY && elect_lane()) plan.keys[stage] = keys;  // as above
            const auto page_of = [&](int row) {
                const KeyCell cell = row < KeyCell::KEYS ? cells[0] : cells[1];
                return cell.is_whole ? cell.whole : cell.pages.page(rows[half], first + row);
            };
            if (in_pages) {
                ring.copy_pages(stage, half, rows[half], page_of, landed);
            } else {
                ring.copy_rows(stage, half, rows[half], step.index, page_of, [&](int row, int) { return keys.has(row); });
            }
        });
        if (!in_pages) ring.hand_over_rows(stage, ALL_READERS);
    }
};

template <int DIM>
DEVICE void copy_steps(const sala_sparse_attention_group_params& params, const QueryTile& tile, GroupDensePlan<DIM>& plan,
                       const GroupRing<DIM>& ring) {
    const sala_sparse_attention_params& p = params.attention;
    const TileSteps steps = find_tile_steps(plan.rows);
    const DenseFiller<DIM> dense{find_filler(params, ring, tile),
                                 plan,
                                 {find_tile_keys(p, tile, block_index_z()), find_tile_values(p, tile, block_index_z())},
                                 steps.read,
                                 p.status};
    const int last = steps.read.steps().last;
    const auto find = [&](int index, int count) { return find_step(steps.of_warp, dense.rows[KEY], index, count, last); };
    SeenStep step = settled(find(steps.read.steps().first, 0));
    NO_UNROLL
    while (step.is_there()) {
        const SeenStep next = find(step.index + 1, step.count + 1);
        dense.fill(step);
        step = settled(next);
    }
}

// ---- the warps that attend

// The steps that the tile sees, as a warp comes to them. All of them pass through the ring.
template <int DIM>
struct TileWalk {
    using Cursor = StageCursor<GroupRing<DIM>::STAGES>;

    struct Step {
        int index;
        Cursor at;
        StepKeys keys;

        DEVICE int stage() const { return at.stage; }
        DEVICE uint32_t parity() const { return at.parity; }
        DEVICE static uint32_t readers() { return ALL_READERS; }
    };

    GroupDensePlan<DIM>& plan;
    StepRange seen;  // by the lane's warp
    StepRange mine;  // from the first to the last that the group sees
    int last;        // of the tile
    SeenStep ahead;  // the first that the warp has not come to
    Cursor at;       // where that is in the ring

    DEVICE void find(int index) { ahead = find_seen_step(seen, index, 0, last); }
    DEVICE Step found() const { return {ahead.index, at, {}}; }
    DEVICE void leave(const Step& step) {
        find(step.index + 1);
        at.advance();
    }

    DEVICE bool next(Step& step) {
        leave(step);
        if (ahead.index > mine.last) return false;
        step = found();
        return true;
    }
    DEVICE void look(Step& step) const {
        step.keys = plan.keys[step.stage()];
        sync_warp();  // all lanes know, before one releases the stage
    }
    DEVICE static bool is_wanted(const Step&) { return true; }
    DEVICE void hide(Accumulator<STEP>& scores, const Step& step) const {
        if (!is_whole(plan.rows, step.index, step.keys)) hide_keys(scores, plan.rows, step.index, step.keys);
    }
};

// What the four warps of a group see, from the first step to the last.
DEVICE StepRange find_group_steps(const DenseRows<1>& rows) {
    SeenKeys seen = SeenKeys::none();
    const int first_warp = warp_index() / GROUP_WARPS * GROUP_WARPS;
    UNROLL
    for (int warp = 0; warp < GROUP_WARPS; ++warp) {
        const SeenKeys& keys = rows.seen[first_warp + warp];
        seen = {minimum(seen.first, keys.first), maximum(seen.last, keys.last)};
    }
    return seen.steps();
}

template <class T, int DIM>
DEVICE void attend(const sala_sparse_attention_params& p, const QueryTile& tile, GroupDensePlan<DIM>& plan, const GroupRing<DIM>& ring) {
    const TileSteps all = find_tile_steps(plan.rows);
    const StepRange read = all.read.steps();
    GroupWalk<T, DIM, TileWalk<DIM>> walk{ring, {plan, all.of_warp, find_group_steps(plan.rows), read.last, {}, {}}, {}, {}};
    const FragmentA<DIM> query = load_queries<DIM>(walk.softmax, p, tile);
    walk.out.fill(0.0f);
    TileWalk<DIM>& steps = walk.steps;
    steps.find(read.first);
    NO_UNROLL
    while (steps.ahead.is_there()) {
        const auto step = steps.found();
        if (steps.mine.has(step.index)) {
            walk.add_steps(query, step);
        } else {
            walk.pass_by(step);
            steps.leave(step);
        }
    }
    const QueryTile same = find_block_tile_anew(p);
    store_dense_rows<T, 1>(p, same, walk.out, walk.softmax);
}

template <class T, int DIM>
DEVICE void group_dense_attention(const sala_sparse_attention_group_params& params) {
    const sala_sparse_attention_params& p = params.attention;
    const SequenceRange sequence = find_sequence(p.sequences, block_index_z());
    if (leave_refused<THREADS, DIM>(p, sequence)) return;
    const QueryTile tile = find_block_tile(p, sequence);
    if (tile.tokens == 0) return;
    auto& plan = dynamic_shared<GroupDensePlan<DIM>>();
    const GroupRing<DIM> ring{shared_address(plan.halves), shared_address(&plan.barriers)};
    ring.begin();
    if (warp_index() < DENSE_WARPS) store_rows(plan.rows, p, tile);
    sync_block();  // the barriers have begun, and what each warp sees is known
    if (warp_index() < DENSE_WARPS) {
        take_registers<216>();
        attend<T>(p, tile, plan, ring);
    } else {
        give_up_registers<72>();
        if (warp_index() == DENSE_WARPS) copy_steps(params, tile, plan, ring);
    }
}

#define INSTANCE(name, T, DIM) \
    KERNEL(name, sala_sparse_attention_group_params, THREADS, 1) { group_dense_attention<T, DIM>(p); }
#include "instances/sm90a_dense_attention.h"

}  // namespace SALA_VARIANT
}  // namespace sala
