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
// through a ring in shared memory (parts/attention/key_ring.cuh) where no warp waits for another, but for one that is as many
// steps behind as there are stages. A token's own keys always come in the same order and the same steps, and a row's
// softmax depends on that row alone: its bits do not depend on the tile, the chunk, the batch or the stages.
//
// Shared memory: the list 2 KiB, some 170 entries, then as many stages of K and V as fit, at dim 128 of 32 KiB: three where a
// block has 99 KiB, five on an A100. There lie at first the sets of which the list is made.
//
//     warp a    | wait K n | S n = Q Kᵀ | K is read | maxima | fill K | wait V n | O ← a·O + P V n ─────▶ | V is read | fill V |
//               |          |            |           |        |        |          | weights n, 16 by 16 ─▶ |           |        |
//                                                                 if the warp is the last that read it
//
// Limit: the tensor cores, with one block per SM (registers): 2 · 2 · 64 · dim · 16 FLOP per warp and step of its own; where
// they are fast shared memory, and the copies that the last to read a half starts. Few tokens leave most of a GPU idle; a decode
// step goes to sparse_attention_decode and sparse_attention_merge.
// Dropped: a barrier of the block every step (each step as slow as its most loaded sub-partition); warps that copy for all (more
// than eight warps get 168 registers each, and then spill); an eighth of each step copied by every warp (a step lands when the
// last has issued its share); a landing barrier for each warp (eight arrivals with copies, a tenth of the time); values of a step
// beside scores and weights of the next (6 to 10 % more time on an A100, none saved elsewhere); all weights before the first
// value (a fifteenth more time); a half filled as soon as it is read (4 % more time on an A100: the answer whether it is the last
// comes late); addresses of the copies formed while a product runs (every reader forms them, one needs them); two tokens of 16
// heads per warp (spills); copies between the loads of a product (nvcc puts three empty loads before each: up to an eighth more
// time); places that whichever warp waits fills (to find out which of them are free and unclaimed costs more than it takes off
// the slowest).
//
// Definition: docs/semantics.md#sparse_attention
#include "machine/barrier.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/operand_place.cuh"
#include "machine/tile.cuh"
#include "machine/warp.cuh"
#include "params/sparse_attention.h"
#include "parts/attention/attended_rows.cuh"
#include "parts/attention/block_sets.cuh"
#include "parts/attention/hidden_keys.cuh"
#include "parts/attention/key_ring.cuh"
#include "parts/attention/online_softmax.cuh"
#include "parts/attention/query_tile.cuh"
#include "parts/attention/step_list.cuh"
#include "parts/keys/sequence.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int THREADS = ATTENTION_WARPS * WARP_SIZE;

// Behind it lies the ring, and there at first the sets of which the list is made.
struct AttentionPlan {
    static constexpr int LIST_BYTES = SALA_ATTENTION_LIST_BYTES - static_cast<int>(sizeof(StepList<8>)) + 8;

    StepList<LIST_BYTES> list;

    DEVICE BlockSets& sets() { return *reinterpret_cast<BlockSets*>(this + 1); }
};
static_assert(sizeof(AttentionPlan) == SALA_ATTENTION_LIST_BYTES && sizeof(AttentionPlan) % 128 == 0, "tiles are aligned");

static_assert(sizeof(BlockSets) <= SALA_ATTENTION_MIN_STAGES * 2 * KeyRing<64>::HALF_BYTES, "the sets have room in the smallest ring");
static_assert(AttentionPlan::LIST_BYTES / ListShape::ENTRY_BYTES + 2 * SALA_ATTENTION_MAX_STAGES < 4096, "KeyRing::place is exact");

template <int DIM>
using AttentionRing = RingList<DIM, AttentionPlan::LIST_BYTES>;

// Adds the keys of an entry that the warp wants to O and to the running softmax.
template <class T, int DIM>
DEVICE void take_step(AttendedRows<DIM, 1>& rows, const FragmentA<DIM>& query, AttentionRing<DIM>& steps, int at,
                      const sala_sparse_attention_params& p) {
    const RingPlace own = steps.place(at);
    typename AttendedRows<DIM, 1>::Scores scores;
    steps.wait(own, KEY);
    const RingEntry ahead = steps.look_ahead(at);
    scores[0].fill(0.0f);
    multiply<T>(scores[0], query, steps.keys(own));
    const int lacked_keys = steps.release(own, KEY);
    if (StepMarks{steps.list.marks()[at]}.masked() >> warp_index() & 1) hide_keys(scores[0], steps.list, at, p);
    Rescale rescale[1];
    rows.raise(rescale, scores);
    steps.refill(lacked_keys, own, KEY, ahead);
    steps.wait(own, VALUE);
    rows.template add<T>(rescale, scores, steps.values(own));
    const int lacked_values = steps.release(own, VALUE);
    steps.refill(lacked_values, own, VALUE, ahead);
}

template <class T, int DIM>
DEVICE void sparse_attention(const sala_sparse_attention_params& p) {
    const SequenceRange sequence = find_sequence(p.sequences, block_index_z());
    if (leave_refused<THREADS, DIM>(p, sequence)) return;
    const QueryTile tile = find_block_tile(p, sequence);
    if (tile.tokens == 0) return;
    auto& plan = dynamic_shared<AttentionPlan>(KeyRing<DIM>::bytes(p.ring_stages));
    auto& list = plan.list;
    const KeyRing<DIM> ring(shared_address(&plan + 1), p.ring_stages);
    ring.begin();

    QueryRow row[2];
    AttendedRows<DIM, 1> rows;
    start_rows(row, rows.softmax[0], p, tile, warp_index());
    const FragmentA<DIM> query = load_query_rows<DIM>(p, tile, row);
    rows.out[0].fill(0.0f);

    if (thread_index() == 0) begin_list(list, p, tile, block_index_z());
    sync_block();  // the barriers and the list have begun
    const int words = ceil_div(tile.steps(), BlockSets::WORD_STEPS);
    AttentionRing<DIM> steps(ring, list);
    for (SetWindow window{0, 0}; window.first < words;) {
        window.words = minimum(words - window.first, longest_window(tile, p.tile_tokens, list.shape.capacity));
        list_steps<THREADS>(list, plan.sets(), p, tile, window);
        sync_block();  // the list is complete, the sets are no longer needed
        window.first += window.words - static_cast<int>(list.words_left);
        steps.fill_first();
        OwnSteps own = OwnSteps::begin();
        NO_UNROLL
        for (int at = own.next(list); at != NO_ENTRY; at = own.next(list)) take_step<T>(rows, query, steps, at, p);
        steps.pass();
        sync_block();  // every warp is done with the list, and has read the ring
    }

    const QueryTile same = find_block_tile_anew(p);
    finish_softmax(rows.softmax[0]);
    UNROLL
    for (int side = 0; side < 2; ++side) {
        const QueryRow own = find_row(p, same, warp_index(), side);
        store_lse<T>(p, same, own, rows.softmax[0], side);
        store_row<T>(p, same, own, rows.out[0], 0, rows.softmax[0], side);
    }
}

#define INSTANCE(name, T, DIM) \
    KERNEL(name, sala_sparse_attention_params, THREADS, 1) { sparse_attention<T, DIM>(p); }
#include "instances/sparse_attention.h"

}  // namespace SALA_VARIANT
}  // namespace sala
