// Attention of every query token over the key blocks that its list names, or over all of them: O = softmax(f·s·q Kᵀ) V, LSE = ln Σ exp.
//
// Called once a prefill, chunk or decode step for every sparse layer. Grid: (tiles of query tokens, kv heads, batch). A tile is eight warps of
// 16 rows, and a row is one query head of one token: at 16 heads a kv head a warp is one token; smaller groups put several tokens into
// a warp, larger ones take two to four warps a token. The lists of a tile's tokens overlap, so each block of their union is loaded once:
//
//     lists                      union            warp = token:   S = Q Kᵀ   (Q in registers, 16 × 64)
//     token 0:  0 3 5 6   ┐                                       P = softmax weights, rounded to 16 bits
//     token 1:  0 3 6 7   ├──▶  0 3 5 6 7  ──▶                    O = a·O + P V
//     …                   ┘                       a warp skips what none of its tokens listed
//
// All warps walk the union in ascending order, 64 keys a step (device/block_sets.cuh). A token's own blocks always come in the same order and
// the same pieces, and a row's softmax looks at nothing but the row: its bits do not depend on the tile, the chunk or the batch.
//
// Shared memory: K and V 2 × 64 × dim each, 64 KiB at dim 128; sets 34 KiB; 98 KiB in all.
//
//     step n    | K V n+1 ──────────────── load ────────────────▶|
//               | S n | weights n | O n                           ■          ■ block barrier
//
// Limit: the tensor cores, with one block an SM (registers): 2 · 2 · 64 · dim · 16 FLOP a warp and step, of which a row that did not list the
// step has no use. Loads of 32 KiB a step are shared by the tokens of the tile and run a whole step ahead. Few tokens leave most of a GPU idle;
// those go to sparse_attention_scores and sparse_attention_values, with the same bits. Dropped: Q in shared memory (a quarter more
// shared-memory traffic, and its 32 KiB hold the sets instead); two tokens of 16 heads a warp (spills at dim 128); a sorted list of the union
// (a pass over shared memory that the walk does not need).
#include "device/async_copy.cuh"
#include "device/barrier.cuh"
#include "device/block_sets.cuh"
#include "device/machine.cuh"
#include "device/math.cuh"
#include "device/online_softmax.cuh"
#include "device/query_tile.cuh"
#include "device/sequence.cuh"
#include "device/status.cuh"
#include "device/tile.cuh"
#include "device/warp.cuh"

#include "../include/kernel_params.h"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int WARPS = 8;
constexpr int THREADS = WARPS * WARP_SIZE;

template <int DIM>
struct AttentionPlan {
    uint16_t key[2][STEP * DIM];
    uint16_t value[2][STEP * DIM];
    BlockSets sets;
};
static_assert(sizeof(AttentionPlan<64>) == 67584 && sizeof(AttentionPlan<128>) == 100352, "what the host asks for; every GPU has 101376");

DEVICE QueryTile find_tile(const sala_sparse_attention_params& p) {
    const SequenceRange sequence = find_sequence(p.sequences, block_index_z());
    if (!sequence.valid && block_index_x() == 0 && block_index_y() == 0 && thread_index() == 0) count_refused(p.status, REFUSED_LENGTHS, 1);
    // The last tile sees the most keys when attention is dense, so it goes first.
    const int index = ceil_div(sequence.queries, p.tile_tokens) - 1 - block_index_x();
    return make_tile(p, sequence, block_index_y(), index, p.tile_tokens);
}

// Makes the sets describe another window.
DEVICE void build_sets(BlockSets& sets, const sala_sparse_attention_params& p, const QueryTile& tile, const Window& window) {
    sync_block();  // nobody looks at the last window any more
    clear_sets<THREADS>(sets, window, tile.tokens);
    sync_block();  // the sets are empty
    const int refused = insert_lists<THREADS>(sets, p, tile, window);
    if (window.first == 0) count_refused(p.status, REFUSED_BLOCKS, refused);
    sync_block();  // the sets are complete
}

// O and the softmax take in one step of keys.
template <class T, int DIM>
DEVICE void attend(Accumulator<DIM>& out, OnlineSoftmax& softmax, const FragmentA<DIM>& query, SharedTile<DIM> key, SharedTile<DIM> value,
                   const Visibility& visible) {
    Accumulator<STEP> scores;
    scores.fill(0.0f);
    multiply_nk<T>(scores, query, key, 0, 0);
    hide_keys(scores, visible);
    float maxima[2], sums[2];
    find_row_maxima(maxima, scores);
    const Rescale rescale = raise_maxima(softmax, maxima);
    make_weights(sums, scores, softmax);
    advance(softmax, out, rescale, sums);
    multiply_kn<T>(out, to_fragment_a<T>(scores), value, 0, 0);
}

template <class T, int DIM>
DEVICE void sparse_attention(const sala_sparse_attention_params& p) {
    const QueryTile tile = find_tile(p);
    if (tile.tokens == 0) return;
    auto& plan = dynamic_shared<AttentionPlan<DIM>>();
    const auto key_tile = [&](int stage) { return SharedTile<DIM>{shared_address(plan.key[stage])}; };
    const auto value_tile = [&](int stage) { return SharedTile<DIM>{shared_address(plan.value[stage])}; };

    QueryRow row[2];
    OnlineSoftmax softmax;
    start_rows(row, softmax, p, tile, warp_index());
    const FragmentA<DIM> query = load_query<DIM>(p, tile, row);
    Accumulator<DIM> out;
    out.fill(0.0f);

    const KeyRows keys = find_keys(p, tile, block_index_z());
    const KeyRows values = find_values(p, tile, block_index_z());
    const int last_position = tile.last_position();
    const auto load_step = [&](int step, int stage) {
        load_rows<THREADS>(key_tile(stage), keys, 0, step, last_position, thread_index());
        load_rows<THREADS>(value_tile(stage), values, 0, step, last_position, thread_index());
        async_copy_commit();
    };

    const int words = ceil_div(tile.steps(), WORD_STEPS);
    const int capacity = tile.dense ? words : window_capacity(p.tile_tokens);
    for (Window window{0, 0}; window.first < words; window.first += window.words) {
        window.words = minimum(words - window.first, capacity);
        if (!tile.dense) build_sets(plan.sets, p, tile, window);
        StepWalk walk = start_walk(plan.sets, tile, window);
        int step = next_step(walk);
        if (step != NO_STEP) load_step(step, 0);
        NO_UNROLL
        for (int stage = 0; step != NO_STEP; stage ^= 1) {
            const int following = next_step(walk);
            async_copy_wait<0>();
            sync_block();  // this step's K and V are in shared memory; the last step's are free
            if (following != NO_STEP) load_step(following, stage ^ 1);
            const Visibility visible = find_visibility(plan.sets, tile, window, row, step);
            if (any(visible.some)) attend<T>(out, softmax, query, key_tile(stage), value_tile(stage), visible);
            step = following;
        }
    }

    finish_sums(softmax);
    UNROLL
    for (int side = 0; side < 2; ++side) {
        store_lse(p, tile, row[side], softmax, side);
        store_row<T>(p, tile, row[side], out, 0, softmax, side);
    }
}

#define INSTANCE(name, T, DIM) \
    KERNEL(name, sala_sparse_attention_params, THREADS, 1) { sparse_attention<T, DIM>(p); }
#include "instances/sparse_attention.h"

}  // namespace SALA_VARIANT
}  // namespace sala
