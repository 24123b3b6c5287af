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
// Shared memory: the ring 192 KiB (6 stages of K and V at dim 128, 12 at dim 64), barriers, rows 2 KiB.
//
//     tensor cores    | S(i) | P V (i − 1)        | S(i + 1) | P V (i)           per group; the other is half a step off
//     the rest               | weights(i)         | O·a, P(i)
//     copies          K(i + 5), V(i + 5), …
//
// Limit: the tensor cores, 4096 FLOP per clock and SM: 512 clocks for a step and group; weights take 256. K and V are read for
// 128 rows, 32 bytes per clock and SM at that pace.
//
// Definition: docs/semantics.md#dense_attention
#include "machine/barrier.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/mbarrier.cuh"
#include "machine/memory.cuh"
#include "machine/tile.cuh"
#include "machine/warp.cuh"
#include "machine/warpgroup.cuh"
#include "params/sparse_attention.h"
#include "parts/attention/dense_tile.cuh"
#include "parts/attention/group_ring.cuh"
#include "parts/attention/key_cell.cuh"
#include "parts/attention/online_softmax.cuh"
#include "parts/attention/query_tile.cuh"
#include "parts/keys/sequence.cuh"

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
    DenseRows rows;
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

    // Row by row, keys that are not visible becoming zero.
    DEVICE void copy_cell(const typename Ring::Tile& tile, StageHalf half, const KeyCell& cell, int number) const {
        constexpr int VECTORS = DIM / 8;
        const int vector = lane_index() % VECTORS;
        NO_UNROLL
        for (int row = lane_index() / VECTORS; row < KeyCell::KEYS; row += WARP_SIZE / VECTORS) {
            const int key = cell.first + row;
            const int page = cell.is_whole ? cell.whole : cell.pages.page(rows[half], key);
            const bool is_read = (cell.visible >> row & 1) != 0;
            async_copy<16>(tile.address(number * KeyCell::KEYS + row, vector),
                           (is_read ? rows[half].row_in(page, key) : rows[half].first) + vector * 8, is_read);
        }
    }

    // Page by page, a lane for each. All keys of the cell are visible.
    DEVICE void copy_pages(const typename Ring::Tile& tile, StageHalf half, const KeyCell& cell, int number, uint32_t landed) const {
        const int in_cell = lane_index() << rows[half].page_shift;
        const bool mine = in_cell < KeyCell::KEYS;
        const int page = cell.is_whole ? cell.whole : cell.pages.page(rows[half], cell.first + (mine ? in_cell : 0));
        if (mine) ring.copy_box(tile, half, number * KeyCell::KEYS + in_cell, 0, page, landed);
    }

    // Fills the stage of a step, and says which of its keys there are.
    DEVICE void fill(const SeenStep& step) const {
        const int stage = step.count % Ring::STAGES, first = step.index * STEP;
        const bool is_mapped = ring.p.is_mapped != 0;
        if (is_mapped && step.has_page(rows[KEY]) && read.first <= first && first + STEP - 1 <= read.last) {
            ring.for_halves(step.count, ALL_READERS, [&](StageHalf half, uint32_t landed) {
                if (half == KEY && lane_index() < AttentionTile::STEP_CELLS) plan.keys[stage].visible[lane_index()] = ~0u;
                if (half == KEY) sync_warp();  // before the arrival
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
            if (half == KEY && lane_index() == 0) plan.keys[stage] = keys;
            sync_warp();  // before the arrival
            const auto tile = ring.ring.tile(stage, half);
            if (in_pages && elect_lane()) arrive_mbarrier_expecting(landed, Ring::Tile::BYTES);
            if (in_pages) sync_warp();  // the bytes are announced
            UNROLL
            for (int number = 0; number < AttentionTile::STEP_CELLS; ++number) {
                if (in_pages) {
                    copy_pages(tile, half, cells[number], number, landed);
                } else {
                    copy_cell(tile, half, cells[number], number);
                }
            }
        });
        if (!in_pages) ring.hand_over_rows(stage, ALL_READERS);
    }
};

template <int DIM>
DEVICE void copy_steps(const sala_sparse_attention_group_params& params, const QueryTile& tile, GroupDensePlan<DIM>& plan,
                       const GroupRing<DIM>& ring) {
    const sala_sparse_attention_params& p = params.attention;
    const KeyRange& keys = tile.sequence.keys;
    const RingFiller<DIM> filler{
        params,
        ring,
        {find_mapped_rows(p.k, keys, block_index_z(), tile.head_kv), find_mapped_rows(p.v, keys, block_index_z(), tile.head_kv)}};
    const TileSteps steps = find_tile_steps(plan.rows);
    const DenseFiller<DIM> dense{
        filler, plan, {find_tile_keys(p, tile, block_index_z()), find_tile_values(p, tile, block_index_z())}, steps.read, p.status};
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

// A warp's part of a group's walk over the steps: 16 rows of 64.
template <class T, int DIM>
struct DenseWalk {
    GroupDensePlan<DIM>& plan;
    const GroupRing<DIM> ring;
    StepRange seen;  // by the lane's warp
    StepRange mine;  // from the first to the last that the group sees
    int last;        // of the tile
    OnlineSoftmax softmax;
    Accumulator<DIM> out;

    DEVICE SeenStep find(int index, int count) const { return find_seen_step(seen, index, count, last); }

    DEVICE static int stage(const SeenStep& step) { return step.count % GroupRing<DIM>::STAGES; }

    DEVICE void wait_landed(const SeenStep& step, StageHalf half) const {
        wait_mbarrier(ring.landed(stage(step), half, ALL_READERS), static_cast<uint32_t>(step.count / GroupRing<DIM>::STAGES & 1));
    }
    DEVICE void release(const SeenStep& step, StageHalf half) const {
        if (lane_index() == 0) arrive_mbarrier(ring.read(stage(step), half));
    }
    // Which keys of a step there are, K of which has landed.
    DEVICE StepKeys load_keys(const SeenStep& step) const {
        const StepKeys keys = plan.keys[stage(step)];
        sync_warp();  // all lanes know, before one releases the stage
        return keys;
    }
    // A step that gives the group nothing. It waits for every phase nevertheless.
    DEVICE void pass_by(const SeenStep& step) const {
        wait_landed(step, KEY);
        release(step, KEY);
        wait_landed(step, VALUE);
        release(step, VALUE);
    }

    DEVICE void start_scores(Accumulator<STEP>& scores, const FragmentA<DIM>& query, const SeenStep& step) const {
        start_product_nk<T, STEP>(scores, query, ring.tile(stage(step), KEY), 0, false);
        commit_products();
    }
    DEVICE void start_outputs(const FragmentA<STEP>& weights, const SeenStep& step) {
        start_product_kn<T, DIM>(out, weights, ring.tile(stage(step), VALUE), 0, true);
        commit_products();
    }

    // Scores become weights.
    DEVICE Rescale weigh(float (&sums)[2], Accumulator<STEP>& scores, const SeenStep& step, const StepKeys& keys) {
        if (!is_whole(plan.rows, step.index, keys)) hide_keys(scores, plan.rows, step.index, keys);
        float maxima[2];
        find_row_maxima(maxima, scores);
        const Rescale rescale = raise_maxima(softmax, maxima);
        make_weights<T>(sums, scores, softmax);
        return rescale;
    }

    // Adds the steps that the group sees, and those between them, to O and to the running softmax. Returns the first behind them.
    DEVICE SeenStep add_steps(const FragmentA<DIM>& query, SeenStep now) {
        Accumulator<STEP> scores;
        float sums[2];
        wait_landed(now, KEY);
        StepKeys keys = load_keys(now);
        fence_products();
        start_scores(scores, query, now);
        wait_products<0>(scores);
        release(now, KEY);
        advance(softmax, out, weigh(sums, scores, now, keys), sums);
        FragmentA<STEP> weights = to_fragment_a<T>(scores);
        wait_landed(now, VALUE);
        SeenStep next = find(now.index + 1, now.count + 1);
        NO_UNROLL
        while (next.index <= mine.last) {
            const SeenStep before = now;
            now = next;
            wait_landed(now, KEY);
            keys = load_keys(now);
            fence_products();
            start_scores(scores, query, now);
            fence_products();
            start_outputs(weights, before);
            wait_products<1>(scores);
            release(now, KEY);
            const Rescale rescale = weigh(sums, scores, now, keys);
            // A branch, without which the compiler would move the next wait before the weights, where nothing overlaps.
            wait_landed(now, VALUE);
            wait_products<0>(out);
            release(before, VALUE);
            advance(softmax, out, rescale, sums);
            weights = to_fragment_a<T>(scores);
            next = find(now.index + 1, now.count + 1);
        }
        fence_products();
        start_outputs(weights, now);
        wait_products<0>(out);
        release(now, VALUE);
        return next;
    }

    DEVICE void walk(const FragmentA<DIM>& query, int first) {
        SeenStep step = find(first, 0);
        NO_UNROLL
        while (step.is_there()) {
            if (mine.has(step.index)) {
                step = add_steps(query, step);
            } else {
                pass_by(step);
                step = find(step.index + 1, step.count + 1);
            }
        }
    }
};

// What the four warps of a group see, from the first step to the last.
DEVICE StepRange find_group_steps(const DenseRows& rows) {
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
    const TileSteps steps = find_tile_steps(plan.rows);
    const StepRange all = steps.read.steps();
    DenseWalk<T, DIM> walk{plan, ring, steps.of_warp, find_group_steps(plan.rows), all.last, {}, {}};
    const FragmentA<DIM> query = load_queries<DIM>(walk.softmax, plan.rows, p, tile);
    walk.out.fill(0.0f);
    walk.walk(query, all.first);
    const QueryTile same = find_block_tile_anew(p);
    store_dense_rows<T>(p, same, plan.rows, walk.out, walk.softmax);
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
