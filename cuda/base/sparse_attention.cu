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
// list is made; barriers 480 bytes at dim 128; the list, some 200 entries, in the rest.
//
//     warp a    | wait K n+1 | S n+1 = Q Kᵀ | release K | wait V n | O += P V n  | release V |     the last to release a half
//               |                                                  | weights n+1 |                starts the copy that fills it
//
// Limit: the tensor cores, with one block per SM (registers): 2 · 2 · 64 · dim · 16 FLOP per warp and step of its own; where
// they are fast shared memory, and the copies that the last to release starts. Few tokens leave most of a GPU idle; a decode
// step goes to sparse_attention_decode and sparse_attention_merge.
// Dropped: a barrier of the block every step (each step as slow as its most loaded sub-partition); a warp that copies for
// all (nine warps get 168 registers each); an eighth of each step copied by every warp (a step lands when the last has
// issued its share); a landing barrier for each warp (eight arrivals with copies, a tenth of the time); one step after the
// other (a fifteenth more time, and a tenth on an H100); next scores beside this step's weights, as dense attention has it
// (32 more registers, moved every step); two tokens of 16 heads per warp (spills); copies between the loads of a product
// (nvcc puts three empty loads before each: up to an eighth more time); places that whichever warp waits fills (to find out
// which of them are free and unclaimed costs more than it takes off the slowest).
//
// Definition: docs/semantics.md#sparse_attention
#include "machine/barrier.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/operand_place.cuh"
#include "machine/tile.cuh"
#include "machine/warp.cuh"
#include "params/sparse_attention.h"
#include "parts/attention/block_sets.cuh"
#include "parts/attention/hidden_keys.cuh"
#include "parts/attention/key_ring.cuh"
#include "parts/attention/online_softmax.cuh"
#include "parts/attention/query_tile.cuh"
#include "parts/attention/query_warp.cuh"
#include "parts/attention/step_list.cuh"
#include "parts/keys/sequence.cuh"

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

// The scores of an entry, −∞ where a row does not see a key.
template <class T, int DIM, int BYTES>
DEVICE void find_scores(Accumulator<STEP>& scores, const QueryWarp<DIM>& warp, RingList<DIM, BYTES>& steps, int at,
                        const sala_sparse_attention_params& p) {
    steps.wait(at, KEY);
    const RingEntry ahead = steps.look_ahead(at);
    scores.fill(0.0f);
    multiply<T>(scores, warp.query, steps.keys(at));
    steps.release(at, KEY, ahead);
    if (StepMarks{steps.list.marks()[at]}.masked() >> warp_index() & 1) hide_keys(scores, steps.list, at, p);
}

template <class T, int DIM, int BYTES>
DEVICE void begin_run(QueryWarp<DIM>& warp, RingList<DIM, BYTES>& steps, int at, const sala_sparse_attention_params& p) {
    Accumulator<STEP> scores;
    find_scores<T>(scores, warp, steps, at, p);
    take_weights<T>(warp, scores, weigh<T>(warp.softmax, scores));
}

// While the tensor cores add the values of an entry, the others make weights of the next.
template <class T, int DIM, int BYTES>
DEVICE void continue_run(QueryWarp<DIM>& warp, RingList<DIM, BYTES>& steps, int at, int next, const sala_sparse_attention_params& p) {
    Accumulator<STEP> scores;
    find_scores<T>(scores, warp, steps, next, p);
    steps.wait(at, VALUE);
    const RingEntry ahead = steps.look_ahead(at);
    multiply<T>(warp.out, warp.weights, steps.values(at));
    const PartChange change = weigh<T>(warp.softmax, scores);
    steps.release(at, VALUE, ahead);
    take_weights<T>(warp, scores, change);
}

template <class T, int DIM, int BYTES>
DEVICE void end_run(QueryWarp<DIM>& warp, RingList<DIM, BYTES>& steps, int at) {
    steps.wait(at, VALUE);
    const RingEntry ahead = steps.look_ahead(at);
    multiply<T>(warp.out, warp.weights, steps.values(at));
    steps.release(at, VALUE, ahead);
}

// Adds the keys of the warp's own steps of the list to O and to the running softmax. Steps at most STAGES apart are a run: the
// copy of the next one waits for readers of steps up to this one, and those for earlier ones at most. Before a wider gap the
// warp gives back all that it holds.
template <class T, int DIM, int BYTES>
DEVICE void walk_list(QueryWarp<DIM>& warp, RingList<DIM, BYTES>& steps, const sala_sparse_attention_params& p) {
    OwnSteps own = OwnSteps::begin();
    int at = own.next(steps.list);
    NO_UNROLL
    while (at != NO_ENTRY) {
        begin_run<T>(warp, steps, at, p);
        int next = own.next(steps.list);
        NO_UNROLL
        while (next != NO_ENTRY && next <= at + KeyRing<DIM>::STAGES) {
            continue_run<T>(warp, steps, at, next, p);
            at = next;
            next = own.next(steps.list);
        }
        end_run<T>(warp, steps, at);
        at = next;
    }
}

template <class T, int DIM>
DEVICE void sparse_attention(const sala_sparse_attention_params& p) {
    const SequenceRange sequence = find_sequence(p.sequences, block_index_z());
    if (leave_refused<THREADS, DIM>(p, sequence)) return;
    const QueryTile tile = find_block_tile(p, sequence);
    if (tile.tokens == 0) return;
    auto& plan = dynamic_shared<AttentionPlan<DIM>>();
    auto& list = plan.list;
    const KeyRing<DIM> ring{shared_address(plan.halves), shared_address(&plan.barriers)};
    ring.begin();

    QueryRow row[2];
    QueryWarp<DIM> warp;
    start_rows(row, warp.softmax, p, tile, warp_index());
    warp.query = load_query_rows<DIM>(p, tile, row);
    warp.out.fill(0.0f);

    if (thread_index() == 0) begin_list(list, p, tile, block_index_z());
    sync_block();  // the barriers and the list have begun
    const int words = ceil_div(tile.steps(), BlockSets::WORD_STEPS);
    RingList<DIM, AttentionPlan<DIM>::LIST_BYTES> steps(ring, list);
    for (SetWindow window{0, 0}; window.first < words;) {
        window.words = minimum(words - window.first, longest_window(tile, p.tile_tokens, list.shape.capacity));
        list_steps<THREADS>(list, plan.sets, p, tile, window);
        sync_block();  // the list is complete, the sets are no longer needed
        const int count = static_cast<int>(list.count);
        window.first += window.words - static_cast<int>(list.words_left);
        NO_UNROLL
        for (int i = warp_index(); i < 2 * minimum(KeyRing<DIM>::STAGES, count); i += ATTENTION_WARPS) {
            steps.fill(i / 2, i % 2 == 0 ? KEY : VALUE);
        }
        walk_list<T>(warp, steps, p);
        steps.passed += count;
        sync_block();  // every warp is done with the list, and has read the ring
    }

    const QueryTile same = find_block_tile_anew(p);
    finish_softmax(warp.softmax);
    UNROLL
    for (int side = 0; side < 2; ++side) {
        const QueryRow own = find_row(p, same, warp_index(), side);
        store_lse<T>(p, same, own, warp.softmax, side);
        store_row<T>(p, same, own, warp.out, 0, warp.softmax, side);
    }
}

#define INSTANCE(name, T, DIM) \
    KERNEL(name, sala_sparse_attention_params, THREADS, 1) { sparse_attention<T, DIM>(p); }
#include "instances/sparse_attention.h"

}  // namespace SALA_VARIANT
}  // namespace sala
