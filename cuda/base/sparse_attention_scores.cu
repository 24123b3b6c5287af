// First half of split attention: the scores S = Q Kᵀ of sixteen query rows against each step of 64 keys that
// they see, and their row maxima.
//
// Called for decode and other calls of few query tokens, before sparse_attention_values. Grid: (places / 4,
// kv heads × row groups, batch). sparse_attention gives a row group one warp, which takes the steps one after
// the other. With one token of one sequence that leaves one warp per kv head. But only the sum over V has to
// happen in order. Scores do not depend on each other, so here every step has a warp of its own:
//
//     row group   ┌ place 0 ┬ place 1 ┬ place 2 ┬ … ┐      a place is a step of the union of the group's lists, in ascending order
//                 │ block 0, warps 0 to 3           │      S (f32, hidden keys −∞) and maxima go to the workspace, 4 KiB per place
//                 └─────────┴─────────┴─────────┴ … ┘
//
//     warp        | K load | S | store S and maxima |      one step per warp: nothing overlaps within it, other warps fill the SM
//
// Splitting over the list and merging partial O would be one launch with less traffic, but the sums would
// round differently than in a prefill: here a token has the same bits as there, however many blocks work on
// it. No block waits for another.
//
// Shared memory: K 4 × 64 × dim, 64 KiB at dim 128; sets 34 KiB.
// Limit: latency; K is read once, 1.5 MiB for a list of 96 blocks of 64 keys at dim 128.
#include "machine/async_copy.cuh"
#include "machine/barrier.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/tile.cuh"
#include "machine/warp.cuh"
#include "params/sparse_attention.h"
#include "parts/attention/block_sets.cuh"
#include "parts/attention/online_softmax.cuh"
#include "parts/attention/query_tile.cuh"
#include "parts/attention/split_workspace.cuh"
#include "parts/keys/sequence.cuh"
#include "parts/status.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int WARPS = SALA_ATTENTION_SCORES_WARPS;
constexpr int THREADS = WARPS * WARP_SIZE;
constexpr int STEP = AttentionTile::STEP;

template <int DIM>
struct ScoresPlan {
    uint16_t key[WARPS][STEP * DIM];
    BlockSets sets;
};

// Makes the sets describe the whole sequence; the host has checked that it fits. Blocks that read the same
// lists count their refused entries once.
DEVICE void build_sets(BlockSets& sets, const sala_sparse_attention_params& p, const RowGroup& group, const SetWindow& window) {
    clear_sets<THREADS>(sets, window, group.tile.tokens);
    sync_block();  // the sets are empty
    const int refused = insert_lists<THREADS>(sets, p, group.tile, window);
    if (block_index_x() == 0 && group.index == 0) count_refused(p.status, REFUSED_BLOCKS, refused);
    sync_block();  // the sets are complete
}

// The step at a place, or NO_STEP after the last.
DEVICE KeyStep step_at(StepWalk& walk, int place) {
    if (walk.words == nullptr) {
        walk.word = place;
        return next_step(walk);
    }
    KeyStep step = next_step(walk);
    for (int i = 0; i < place && step.index != NO_STEP; ++i) step = next_step(walk);
    return step;
}

template <class T, int DIM>
DEVICE void find_scores(Accumulator<STEP>& scores, SharedTile<DIM> key, const sala_sparse_attention_params& p, const RowGroup& group,
                        const SetWindow& window, BlockSets& sets, const KeyStep& step) {
    const QueryTile& tile = group.tile;
    const KeyRows keys = find_tile_keys(p, tile, block_index_z());
    const StepPages pages = look_up_step(keys, step, tile.last_position());
    load_key_step<WARP_SIZE>(key, keys, 0, step, pages, tile.last_position(), lane_index());
    async_copy_commit();
    if (lane_index() == 0) count_bad_pages(p.status, pages);
    const QueryRow row[2] = {find_row(p, tile, group.index, 0), find_row(p, tile, group.index, 1)};
    const FragmentA<DIM> query = load_query_rows<DIM>(p, tile, row);
    scores.fill(0.0f);
    async_copy_wait<0>();
    sync_warp();  // all lanes' parts of K are in shared memory
    multiply_nk<T>(scores, query, key, 0, 0);
    hide_keys(scores, find_visibility(sets, tile, window, row, step.index));
    hide_bad_pages(scores, keys, pages);
}

template <class T, int DIM>
DEVICE void sparse_attention_scores(const sala_sparse_attention_split_params& p) {
    const SequenceRange sequence = find_sequence(p.attention.sequences, block_index_z());
    count_refused_sequence(p.attention.status, sequence.refusal);
    if (sequence.refusal != REFUSED_NOTHING) return;
    const RowGroup group = find_row_group(p, sequence);
    if (group.tile.tokens == 0) return;
    auto& plan = dynamic_shared<ScoresPlan<DIM>>();
    const SetWindow window{0, ceil_div(group.tile.steps(), BlockSets::WORD_STEPS)};
    if (!group.tile.dense) build_sets(plan.sets, p.attention, group, window);

    StepWalk walk = start_walk(plan.sets, group.tile, window);
    const int index = block_index_x() * WARPS + warp_index();
    const KeyStep step = step_at(walk, index);
    const SplitPlace place = first_place(p).after(index);
    if (lane_index() == 0) store_global(place.step, pack_step(step));
    float maxima[2] = {-INFINITE, -INFINITE};
    if (step.index != NO_STEP) {
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
