// First half of split attention: the scores S = Q Kᵀ of sixteen query rows against each step of 64 keys that they see, and their row maxima.
//
// Called for decode and other calls of few query tokens, before sparse_attention_values. Grid: (places / 4, kv heads × row groups, batch).
// sparse_attention gives a group of rows one warp, which takes the steps one after the other; at one token of one sequence that is a warp a kv
// head. What has to happen in order is only the sum over V. Scores do not depend on each other, so here every step has a warp of its own:
//
//     row group   ┌ place 0 ┬ place 1 ┬ place 2 ┬ … ┐      a place is a step of the union of the group's lists, in ascending order
//                 │ block 0, warps 0 to 3           │      S (f32, hidden keys −∞) and maxima go to the workspace, 4 KiB a place
//                 └─────────┴─────────┴─────────┴ … ┘
//
// Splitting over the list and merging partial O would be one launch with less traffic, but the sums would round differently than in a prefill:
// here a token has the same bits as there, however many blocks work on it. No block waits for another.
//
// Shared memory: K 4 × 64 × dim, 64 KiB at dim 128; sets 34 KiB. Limit: latency; K is read once, 1.5 MiB at 96 blocks of 64 × 128.
#include "device/async_copy.cuh"
#include "device/barrier.cuh"
#include "device/block_sets.cuh"
#include "device/machine.cuh"
#include "device/math.cuh"
#include "device/memory.cuh"
#include "device/online_softmax.cuh"
#include "device/query_tile.cuh"
#include "device/sequence.cuh"
#include "device/split_workspace.cuh"
#include "device/status.cuh"
#include "device/tile.cuh"
#include "device/warp.cuh"

#include "../include/kernel_params.h"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int WARPS = 4;
constexpr int THREADS = WARPS * WARP_SIZE;

template <int DIM>
struct ScoresPlan {
    uint16_t key[WARPS][STEP * DIM];
    BlockSets sets;
};
static_assert(sizeof(ScoresPlan<64>) == 67584 && sizeof(ScoresPlan<128>) == 100352, "what the host asks for; every GPU has 101376");

// Makes the sets describe the whole sequence; the host has seen to it that they can. Blocks that look at the same lists count their faults once.
DEVICE void build_sets(BlockSets& sets, const sala_sparse_attention_params& p, const RowGroup& group, const Window& window) {
    clear_sets<THREADS>(sets, window, group.tile.tokens);
    sync_block();  // the sets are empty
    const int refused = insert_lists<THREADS>(sets, p, group.tile, window);
    if (block_index_x() == 0 && group.index == 0) count_refused(p.status, REFUSED_BLOCKS, refused);
    sync_block();  // the sets are complete
}

// The step at a place, or NO_STEP after the last.
DEVICE int step_at(StepWalk& walk, int place) {
    if (walk.words == nullptr) {
        walk.word = place;
        return next_step(walk);
    }
    int step = next_step(walk);
    for (int i = 0; i < place && step != NO_STEP; ++i) step = next_step(walk);
    return step;
}

template <class T, int DIM>
DEVICE void find_scores(Accumulator<STEP>& scores, SharedTile<DIM> key, const sala_sparse_attention_params& p, const RowGroup& group,
                        const Window& window, BlockSets& sets, int step) {
    const QueryTile& tile = group.tile;
    load_rows<WARP_SIZE>(key, find_keys(p, tile, block_index_z()), 0, step, tile.last_position(), lane_index());
    async_copy_commit();
    const QueryRow row[2] = {find_row(p, tile, group.index, 0), find_row(p, tile, group.index, 1)};
    const FragmentA<DIM> query = load_query<DIM>(p, tile, row);
    scores.fill(0.0f);
    async_copy_wait<0>();
    sync_warp();  // all lanes' parts of K are in shared memory
    multiply_nk<T>(scores, query, key, 0, 0);
    hide_keys(scores, find_visibility(sets, tile, window, row, step));
}

template <class T, int DIM>
DEVICE void sparse_attention_scores(const sala_sparse_attention_split_params& p) {
    const SequenceRange sequence = find_sequence(p.attention.sequences, block_index_z());
    if (!sequence.valid && block_index_x() == 0 && block_index_y() == 0 && thread_index() == 0) {
        count_refused(p.attention.status, REFUSED_LENGTHS, 1);
    }
    const RowGroup group = find_group(p, sequence);
    if (group.tile.tokens == 0) return;
    auto& plan = dynamic_shared<ScoresPlan<DIM>>();
    const Window window{0, ceil_div(group.tile.steps(), WORD_STEPS)};
    if (!group.tile.dense) build_sets(plan.sets, p.attention, group, window);

    StepWalk walk = start_walk(plan.sets, group.tile, window);
    const int index = block_index_x() * WARPS + warp_index();
    const int step = step_at(walk, index);
    const Place place = first_place(p).after(index);
    if (lane_index() == 0) store_global(place.step, step);
    float maxima[2] = {-INFINITE, -INFINITE};
    if (step != NO_STEP) {
        Accumulator<STEP> scores;
        find_scores<T>(scores, SharedTile<DIM>{shared_address(plan.key[warp_index()])}, p.attention, group, window, plan.sets, step);
        store_scores(place, scores);
        find_row_maxima(maxima, scores);
    }
    store_maxima(place, maxima);
}

#define INSTANCE(name, T, DIM) \
    KERNEL(name, sala_sparse_attention_split_params, THREADS, 1) { sparse_attention_scores<T, DIM>(p); }
#include "instances/sparse_attention_scores.h"

}  // namespace SALA_VARIANT
}  // namespace sala
