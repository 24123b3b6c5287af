// Attention of every query token over all keys from its first one to its own:
//
//     O = softmax(f·s·q Kᵀ) V,   LSE = ln Σ exp        over the keys first_key ≤ t ≤ p
//
// Called once per prefill or chunk for a layer without lists. Grid: (tiles of query tokens, kv heads, batch). A tile is
// eight warps of 16 rows, and a row is one query head of one token (parts/attention/dense_tile.cuh), so that K and V are
// read once for 128 rows:
//
//     keys ─▶      64     128     192                       warp:   S = Q Kᵀ   (Q in registers, 16 × 64)
//     rows 0 … 15  ███████▓░                                        P = softmax weights, rounded to 16 bits
//          … 31    ███████▓▓░      █ whole steps                    O = a·O + P V
//          …       ███████▓▓▓░     ▓ masked, key by key
//          … 127   ░▓██████▓▓▓     ░ steps that no row of the warp sees: it has nothing to do
//
// Keys come in ascending steps of 64, and a row's softmax depends on that row alone: its bits are those of sparse_attention
// with every block listed, whatever the tile, the chunk or the batch. All warps fill a ring of three stages, and one may be nearly
// a step ahead of another (parts/attention/dense_ring.cuh).
//
// Shared memory, 97.5 KiB at dim 128: three stages of K and V, 32 KiB each; rows 1 KiB, steps and barriers.
//
//     turn n    | K n+1, V n ──────────────── load ────────────────▶|     into the stage of turn n − 2
//               | S n = Q Kᵀ       | O += P V n−1       |
//               |                  | weights n          | O ← a·O
//
// Limit: the tensor cores, with one block per SM (registers): 2 · 2 · 64 · dim · 16 FLOP per warp and step; where they are fast
// shared memory, of which a warp's step reads 32 KiB of fragments: dense_attention_wide.cu halves that where there is room for it.
// Dropped, by the model: a barrier of the block every step, with the next scores made beside this step's weights (14 % more time on
// GeForce, 21 % on a PRO 6000, 28 % on an A100); a barrier that says when a stage is free (5 % on an A100); with it two stages (12 to
// 22 %: the slowest warp again); a share of K and of V for every warp (addresses twice, a tenth on an A100); O multiplied without a
// branch (up to 7 %); the ring of sparse_attention (warps have even work, and the last reader's copies come late).
//
// Definition: docs/semantics.md#dense_attention
#include "machine/machine.cuh"
#include "machine/operand_place.cuh"
#include "machine/tile.cuh"
#include "params/sparse_attention.h"
#include "parts/attention/dense_ring.cuh"
#include "parts/attention/dense_tile.cuh"
#include "parts/attention/online_softmax.cuh"
#include "parts/attention/query_tile.cuh"
#include "parts/attention/query_warp.cuh"
#include "parts/keys/sequence.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int THREADS = DENSE_WARPS * WARP_SIZE;
constexpr int STEP = AttentionTile::STEP;
template <int DIM>
using Plan = DensePlan<DIM, 1>;
template <int DIM>
using Ring = DenseRing<DIM, 1, 1>;  // the values of a step are added beside the scores of the next
static_assert(DENSE_WARPS * DenseRows<1>::WARP_ROWS == SALA_DENSE_ROWS, "the host cuts such tiles");
static_assert(sizeof(Plan<64>) == dense_stage_bytes(64) + SALA_DENSE_SCRATCH_BYTES &&
                  sizeof(Plan<128>) == dense_stage_bytes(128) + SALA_DENSE_SCRATCH_BYTES,
              "the host gives that much");

// The scores of a step, −∞ where a row does not see a key.
template <class T, int DIM>
DEVICE void find_scores(Accumulator<STEP>& scores, const QueryWarp<DIM>& warp, const Ring<DIM>& ring) {
    scores.fill(0.0f);
    multiply<T>(scores, warp.query, ring.keys());
    const TileStep& step = ring.step();
    if (!step.is_whole()) hide_keys(scores, ring.plan.rows, step.index, step.keys);
}

template <class T, int DIM>
DEVICE void begin_run(QueryWarp<DIM>& warp, const Ring<DIM>& ring) {
    Accumulator<STEP> scores;
    find_scores<T>(scores, warp, ring);
    const PartChange change = weigh<T>(warp.softmax, scores);
    take_weights<T>(warp, scores, change);
}

// While the tensor cores add the values of the step before, the others make weights of this one. The branch of rescale_out asks for
// sums that are no numbers, which says nothing new: the compiler has to make the weights before it, beside the product, and not after
// it, where nothing overlaps.
template <class T, int DIM>
DEVICE void continue_run(QueryWarp<DIM>& warp, const Ring<DIM>& ring) {
    Accumulator<STEP> scores;
    find_scores<T>(scores, warp, ring);
    multiply<T>(warp.out, warp.weights, ring.values());
    const PartChange change = weigh<T>(warp.softmax, scores);
    add_sums(warp.softmax, change.rescale, change.sums);
    const float sums = warp.softmax.sum[0] + warp.softmax.sum[1];
    rescale_out(warp.out, change.rescale, sums != sums);
    warp.weights = to_fragment_a<T>(scores);
}

template <class T, int DIM>
DEVICE void end_run(QueryWarp<DIM>& warp, const Ring<DIM>& ring) {
    multiply<T>(warp.out, warp.weights, ring.values());
}

// Adds the steps that the warp sees, which follow each other, to O and to the running softmax.
template <class T, int DIM>
DEVICE void walk_steps(QueryWarp<DIM>& warp, Ring<DIM>& ring) {
    bool is_there = ring.enter();
    NO_UNROLL
    while (is_there && !ring.step().is_seen()) is_there = ring.go_on();
    if (!is_there) return;
    begin_run<T>(warp, ring);
    is_there = ring.go_on();
    NO_UNROLL
    while (is_there && ring.step().is_seen()) {
        continue_run<T>(warp, ring);
        is_there = ring.go_on();
    }
    end_run<T>(warp, ring);
    NO_UNROLL
    while (is_there) is_there = ring.go_on();
}

template <class T, int DIM>
DEVICE void dense_attention(const sala_sparse_attention_params& p) {
    const SequenceRange sequence = find_sequence(p.sequences, block_index_z());
    if (leave_refused<THREADS, DIM>(p, sequence)) return;
    const QueryTile tile = find_block_tile(p, sequence);
    if (tile.tokens == 0) return;
    auto& plan = dynamic_shared<Plan<DIM>>();
    store_rows(plan.rows, p, tile);
    if (thread_index() == 0) {
        plan.store[0] = find_tile_keys(p, tile, block_index_z());
        plan.store[1] = find_tile_values(p, tile, block_index_z());
    }
    Ring<DIM> ring(plan, p.status);
    const bool is_there = ring.begin();
    QueryWarp<DIM> warp;
    warp.query = load_queries<DIM>(warp.softmax, p, tile);
    warp.out.fill(0.0f);
    if (is_there) walk_steps<T>(warp, ring);

    const QueryTile same = find_block_tile_anew(p);
    store_dense_rows<T, 1>(p, same, warp.out, warp.softmax);
}

#define INSTANCE(name, T, DIM) \
    KERNEL(name, sala_sparse_attention_params, THREADS, 1) { dense_attention<T, DIM>(p); }
#include "instances/dense_attention.h"

}  // namespace SALA_VARIANT
}  // namespace sala
