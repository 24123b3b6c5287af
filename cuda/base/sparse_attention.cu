// Attention of every query token over the blocks of keys that its list names, or in a dense sequence over all of its keys:
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
//     …                   ┘                       a warp walks what its own tokens listed
//
// The union is a sorted list of steps of 64 keys (parts/attention/step_list.cuh), and each warp walks its own steps of it,
// through a ring in shared memory (parts/attention/key_ring.cuh) where no warp waits for another, but for one that is
// STAGES steps behind. A token's own keys always come in the same order and the same steps, and a row's
// softmax depends on that row alone: its bits do not depend on the tile, the chunk or the batch.
//
// Shared memory, 99 KiB: the ring 96 KiB (3 stages of K and V at dim 128, 6 at dim 64), where the sets lie of which the
// list is made; barriers 432 bytes at dim 128; the list, some 210 entries, in the rest.
//
//     warp a    | wait K | S = Q Kᵀ | release K | weights | wait V | O += P V | release V |     the last to release a half
//     warp b             | wait K | S = …                                                       starts the copy that fills it
//
// Limit: the tensor cores, with one block per SM (registers): 2 · 2 · 64 · dim · 16 FLOP per warp and step of its own.
// Few tokens leave most of a GPU idle; a decode step goes to sparse_attention_decode and sparse_attention_merge.
// Dropped: a barrier of the block every step (each step as slow as its most loaded sub-partition); a warp that copies for
// all (nine warps get 168 registers each); an eighth of each step copied by every warp (a step lands when the last has
// issued its share); Q in shared memory (a quarter more shared-memory traffic); two tokens of 16 heads per warp (spills).
//
// Definition: docs/semantics.md#sparse_attention
#include "machine/barrier.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/mbarrier.cuh"
#include "machine/tile.cuh"
#include "machine/warp.cuh"
#include "params/sparse_attention.h"
#include "parts/attention/block_sets.cuh"
#include "parts/attention/hidden_keys.cuh"
#include "parts/attention/key_ring.cuh"
#include "parts/attention/online_softmax.cuh"
#include "parts/attention/query_tile.cuh"
#include "parts/attention/step_list.cuh"
#include "parts/keys/sequence.cuh"
#include "parts/keys/token_tile.cuh"
#include "parts/status.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int THREADS = ATTENTION_WARPS * WARP_SIZE;
constexpr int STEP = AttentionTile::STEP;

template <int DIM>
struct AttentionPlan {
    using Barriers = typename KeyRing<DIM>::Barriers;
    // What is left.
    static constexpr int LIST_BYTES =
        SALA_ATTENTION_SHARED_BYTES - SALA_ATTENTION_RING_BYTES - static_cast<int>(sizeof(Barriers) + sizeof(StepList<8>)) + 8;

    union {
        uint16_t halves[SALA_ATTENTION_RING_BYTES / 2];
        BlockSets sets;
    };
    Barriers barriers;
    StepList<LIST_BYTES> list;
};
static_assert(sizeof(AttentionPlan<64>) == SALA_ATTENTION_SHARED_BYTES && sizeof(AttentionPlan<128>) == SALA_ATTENTION_SHARED_BYTES,
              "the host gives that much");

DEVICE QueryTile find_tile(const sala_sparse_attention_params& p, const SequenceRange& sequence) {
    const int index = last_tiles_first(sequence, block_index_x(), p.tile_tokens);
    return find_query_tile(p, cut_tile(sequence, index, p.tile_tokens), block_index_y());
}

// Adds the keys of the warp's own steps of the list to O and to the running softmax.
template <class T, int DIM, int BYTES>
DEVICE void walk_list(Accumulator<DIM>& out, OnlineSoftmax& softmax, uint32_t& parities, const FragmentA<DIM>& query,
                      const KeyRing<DIM>& ring, StepList<BYTES>& list, int passed, const sala_sparse_attention_params& p) {
    const int count = static_cast<int>(uniform(list.count)), warp = warp_index();
    NO_UNROLL
    for (int group = 0; group < count; group += WARP_SIZE) {
        const int mine = group + lane_index();
        uint32_t left = ballot(mine < count && (list.marks()[mine] >> warp & 1) != 0);
        NO_UNROLL
        for (; left != 0; left &= left - 1) {
            const int at = group + find_first_set(left) - 1, next = at + KeyRing<DIM>::STAGES;
            const RingPlace place = RingPlace::of<DIM>(passed + at);
            const uint32_t parity = parities >> place.stage & 1;
            parities ^= 1u << place.stage;

            Accumulator<STEP> scores;
            scores.fill(0.0f);
            wait_mbarrier(ring.landed(place.stage, KEY, warp), parity);
            multiply_nk<T>(scores, query, ring.tile(place.stage, KEY), 0, 0);
            const bool key_is_free = release_half(ring, place, KEY) && next < count;
            if (key_is_free) fill_half(ring, list, next, place.stage, KEY);
            if (StepMarks{list.marks()[at]}.masked() >> warp & 1) hide_keys(scores, list, at, p);

            float maxima[2], sums[2];
            find_row_maxima(maxima, scores);
            const Rescale rescale = raise_maxima(softmax, maxima);
            make_weights<T>(sums, scores, softmax);
            advance(softmax, out, rescale, sums);

            wait_mbarrier(ring.landed(place.stage, VALUE, warp), parity);
            multiply_kn<T>(out, to_fragment_a<T>(scores), ring.tile(place.stage, VALUE), 0, 0);
            const bool value_is_free = release_half(ring, place, VALUE) && next < count;
            if (value_is_free) fill_half(ring, list, next, place.stage, VALUE);
        }
    }
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
    auto& list = plan.list;
    const KeyRing<DIM> ring{shared_address(plan.halves), shared_address(&plan.barriers)};
    ring.begin();

    QueryRow row[2];
    OnlineSoftmax softmax;
    start_rows(row, softmax, p, tile, warp_index());
    const FragmentA<DIM> query = load_query_rows<DIM>(p, tile, row);
    Accumulator<DIM> out;
    out.fill(0.0f);

    if (thread_index() == 0) begin_list(list, p, tile, block_index_z());
    sync_block();  // the barriers and the list have begun
    const int words = ceil_div(tile.steps(), BlockSets::WORD_STEPS);
    int passed = 0;         // entries of earlier windows
    uint32_t parities = 0;  // a bit for each stage: that of the phase that the warp waits for next
    for (SetWindow window{0, 0}; window.first < words;) {
        window.words = minimum(words - window.first, longest_window(tile, p.tile_tokens, list.shape.capacity));
        list_steps<THREADS>(list, plan.sets, p, tile, window);
        sync_block();  // the list is complete, the sets are no longer needed
        const int count = static_cast<int>(list.count);
        window.first += window.words - static_cast<int>(list.words_left);
        NO_UNROLL
        for (int i = warp_index(); i < 2 * minimum(KeyRing<DIM>::STAGES, count); i += ATTENTION_WARPS) {
            const int stage = RingPlace::of<DIM>(passed + i / 2).stage;
            fill_half(ring, list, i / 2, stage, i % 2 == 0 ? KEY : VALUE);
        }
        walk_list<T>(out, softmax, parities, query, ring, list, passed, p);
        passed += count;
        sync_block();  // every warp is done with the list, and has read the ring
    }

    const QueryTile same = find_tile(p, find_sequence(p.sequences, static_cast<int>(renewed(static_cast<uint32_t>(block_index_z())))));
    finish_softmax(softmax);
    UNROLL
    for (int side = 0; side < 2; ++side) {
        const QueryRow own = find_row(p, same, warp_index(), side);
        store_lse<T>(p, same, own, softmax, side);
        store_row<T>(p, same, own, out, 0, softmax, side);
    }
}

#define INSTANCE(name, T, DIM) \
    KERNEL(name, sala_sparse_attention_params, THREADS, 1) { sparse_attention<T, DIM>(p); }
#include "instances/sparse_attention.h"

}  // namespace SALA_VARIANT
}  // namespace sala
