// Attention of every query token over the blocks of keys that its list names, or over all keys:
//
//     O = softmax(f·s·q Kᵀ) V,   LSE = ln Σ exp
//
// Called once per prefill or chunk for every sparse layer. Grid: (tiles of query tokens, kv
// heads, batch). A tile is eight warps of 16 rows, and a row is one query head of one token: with 16 heads
// per kv head a warp takes one token; smaller groups put several tokens into a warp, larger ones take two to
// four warps per token. The lists of a tile's tokens overlap, so each block of keys in their union is loaded
// once:
//
//     lists                      union            warp = token:   S = Q Kᵀ   (Q in registers, 16 × 64)
//     token 0:  0 3 5 6   ┐                                       P = softmax weights, rounded to 16 bits
//     token 1:  0 3 6 7   ├──▶  0 3 5 6 7  ──▶                    O = a·O + P V
//     …                   ┘                       a warp skips what none of its tokens listed
//
// All warps walk the union in ascending order, in steps of 64 keys (parts/attention/block_sets.cuh). A
// token's own keys always come in the same order and the same steps, and a row's softmax depends on that row
// alone: its bits do not depend on the tile, the chunk or the batch.
//
// Shared memory: K and V 2 × 64 × dim each, 64 KiB at dim 128; sets 34 KiB; 98 KiB in all.
//
//     step n    | K V n+1 ──────────────── load ────────────────▶|
//               | S n | weights n | O n                           ■          ■ block barrier
//
// Limit: the tensor cores, with one block per SM (registers): 2 · 2 · 64 · dim · 16 FLOP per warp and step,
// which a row that did not list the step does not use. Loads of 32 KiB per step are shared by the tokens of
// the tile and run a whole step ahead. Few tokens leave most of a GPU idle; a decode step
// goes to sparse_attention_decode and sparse_attention_merge. Dropped: Q in shared memory (a
// quarter more shared-memory traffic, and its 32 KiB hold the sets instead); two tokens of 16 heads per warp
// (spills at dim 128); a sorted list of the union (a pass over shared memory that the walk does not need).
#include "machine/async_copy.cuh"
#include "machine/barrier.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/tile.cuh"
#include "machine/warp.cuh"
#include "params/sparse_attention.h"
#include "parts/attention/block_sets.cuh"
#include "parts/attention/online_softmax.cuh"
#include "parts/attention/query_tile.cuh"
#include "parts/keys/sequence.cuh"
#include "parts/keys/token_tile.cuh"
#include "parts/status.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int THREADS = SALA_ATTENTION_WARPS * WARP_SIZE;
constexpr int STEP = AttentionTile::STEP;

template <int DIM>
struct AttentionPlan {
    uint16_t key[2][STEP * DIM];
    uint16_t value[2][STEP * DIM];
    BlockSets sets;
};

DEVICE QueryTile find_tile(const sala_sparse_attention_params& p, const SequenceRange& sequence) {
    const int index = last_tiles_first(sequence, block_index_x(), p.tile_tokens);
    return find_query_tile(p, cut_tile(sequence, index, p.tile_tokens), block_index_y());
}

// Makes the sets describe another window.
DEVICE void move_sets(BlockSets& sets, const sala_sparse_attention_params& p, const QueryTile& tile, const SetWindow& window) {
    sync_block();  // every warp is done with the previous window
    clear_sets<THREADS>(sets, window, tile.tokens);
    sync_block();  // the sets are empty
    const int refused = insert_lists<THREADS>(sets, p, tile, window);
    if (window.first == 0) count_refused(p.status, REFUSED_BLOCKS, refused);
    sync_block();  // the sets are complete
}

// Adds one step of keys to O and to the running softmax.
template <class T, int DIM>
DEVICE void attend(Accumulator<DIM>& out, OnlineSoftmax& softmax, const FragmentA<DIM>& query, SharedTile<DIM> key, SharedTile<DIM> value,
                   const Visibility& visible, const KeyRows& keys, const StepPages& pages) {
    Accumulator<STEP> scores;
    scores.fill(0.0f);
    multiply_nk<T>(scores, query, key, 0, 0);
    hide_keys(scores, visible);
    hide_bad_pages(scores, keys, pages);
    float maxima[2], sums[2];
    find_row_maxima(maxima, scores);
    const Rescale rescale = raise_maxima(softmax, maxima);
    make_weights<T>(sums, scores, softmax);
    advance(softmax, out, rescale, sums);
    multiply_kn<T>(out, to_fragment_a<T>(scores), value, 0, 0);
}

template <class T, int DIM>
DEVICE void sparse_attention(const sala_sparse_attention_params& p) {
    const SequenceRange sequence = find_sequence(p.sequences, block_index_z());
    if (sequence.refusal != REFUSED_NOTHING) {
        count_refused_sequence(p.status, sequence.refusal);
        store_refused<THREADS, DIM>(p, sequence, block_index_y(), block_index_x(), grid_size_x(), 0);
        return;
    }
    const QueryTile tile = find_tile(p, sequence);
    if (tile.tokens == 0) return;
    auto& plan = dynamic_shared<AttentionPlan<DIM>>();
    const auto key_tile = [&](int stage) { return SharedTile<DIM>{shared_address(plan.key[stage])}; };
    const auto value_tile = [&](int stage) { return SharedTile<DIM>{shared_address(plan.value[stage])}; };

    QueryRow row[2];
    OnlineSoftmax softmax;
    start_rows(row, softmax, p, tile, warp_index());
    const FragmentA<DIM> query = load_query_rows<DIM>(p, tile, row);
    Accumulator<DIM> out;
    out.fill(0.0f);

    const KeyRows keys = find_tile_keys(p, tile, block_index_z());
    const KeyRows values = find_tile_values(p, tile, block_index_z());
    const int last_position = tile.last_position();
    const auto load_step = [&](const KeyStep& step, const StepPages& pages, int stage) {
        load_key_step<THREADS>(key_tile(stage), keys, 0, step, pages, last_position, thread_index());
        load_key_step<THREADS>(value_tile(stage), values, 0, step, pages, last_position, thread_index());
        async_copy_commit();
        if (thread_index() == 0) count_bad_pages(p.status, pages);
    };

    const int words = ceil_div(tile.steps(), BlockSets::WORD_STEPS);
    const int capacity = tile.dense ? words : window_capacity(p.tile_tokens);
    for (SetWindow window{0, 0}; window.first < words; window.first += window.words) {
        window.words = minimum(words - window.first, capacity);
        if (!tile.dense) move_sets(plan.sets, p, tile, window);
        StepWalk walk = start_walk(plan.sets, tile, window);
        KeyStep step = next_step(walk);
        StepPages pages = look_up_step(keys, step, last_position);
        if (step.index != NO_STEP) load_step(step, pages, 0);
        NO_UNROLL
        for (int stage = 0; step.index != NO_STEP; stage ^= 1) {
            const KeyStep following = next_step(walk);
            const StepPages following_pages = look_up_step(keys, following, last_position);
            async_copy_wait<0>();
            sync_block();  // this step's K and V are in shared memory; the last step's are free
            if (following.index != NO_STEP) load_step(following, following_pages, stage ^ 1);
            const Visibility visible = find_visibility(plan.sets, tile, window, row, step.index);
            if (any(visible.some)) attend<T>(out, softmax, query, key_tile(stage), value_tile(stage), visible, keys, pages);
            step = following;
            pages = following_pages;
        }
    }

    finish_softmax(softmax);
    UNROLL
    for (int side = 0; side < 2; ++side) {
        store_lse<T>(p, tile, row[side], softmax, side);
        store_row<T>(p, tile, row[side], out, 0, softmax, side);
    }
}

#define INSTANCE(name, T, DIM) \
    KERNEL(name, sala_sparse_attention_params, THREADS, 1) { sparse_attention<T, DIM>(p); }
#include "instances/sparse_attention.h"

}  // namespace SALA_VARIANT
}  // namespace sala
