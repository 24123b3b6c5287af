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
//     turn n    | K n+1, V n+1 ────────────── load ────────────────▶|     into the stage of turn n − 2
//               | S n = Q Kᵀ | maxima | O ← a·O + P V n             |
//               |            |        | weights n, 16 by 16         |
//
// Limit: the tensor cores, with one block per SM (registers): 2 · 2 · 64 · dim · 16 FLOP per warp and step; where they are fast
// shared memory, of which a warp's step reads 32 KiB of fragments: dense_attention_wide.cu halves that where there is room for it.
// Dropped, by the model: a barrier of the block every step (14 % more time on GeForce, 21 % on a PRO 6000); a barrier that says when a
// stage is free (5 % on an A100); with it two stages (12 to 22 %: the slowest warp again); a share of K and of V for every warp
// (addresses twice, a tenth on an A100); values of a step beside scores and weights of the next (no less time, and 48 registers
// more); warps that find the next step by turns (4 to 6 %: each makes all late); the ring of sparse_attention (warps have even work,
// and the last reader's copies come late).
//
// Definition: docs/semantics.md#dense_attention
#include "machine/machine.cuh"
#include "machine/operand_place.cuh"
#include "machine/tile.cuh"
#include "params/sparse_attention.h"
#include "parts/attention/attended_rows.cuh"
#include "parts/attention/dense_ring.cuh"
#include "parts/attention/dense_tile.cuh"
#include "parts/attention/online_softmax.cuh"
#include "parts/attention/query_tile.cuh"
#include "parts/keys/sequence.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int THREADS = DENSE_WARPS * WARP_SIZE;
template <int DIM>
using Plan = DensePlan<DIM, 1>;
template <int DIM>
using Ring = DenseRing<DIM, 1>;
static_assert(DENSE_WARPS * DenseRows<1>::WARP_ROWS == SALA_DENSE_ROWS, "the host cuts such tiles");
static_assert(sizeof(Plan<64>) == dense_stage_bytes(64) + SALA_DENSE_SCRATCH_BYTES &&
                  sizeof(Plan<128>) == dense_stage_bytes(128) + SALA_DENSE_SCRATCH_BYTES,
              "the host gives that much");

template <class T, int DIM>
DEVICE void take_step(AttendedRows<DIM, 1>& rows, const FragmentA<DIM>& query, const Ring<DIM>& ring) {
    typename AttendedRows<DIM, 1>::Scores scores;
    scores[0].fill(0.0f);
    multiply<T>(scores[0], query, ring.keys());
    const TileStep& step = ring.step();
    if (!step.is_whole()) hide_keys(scores[0], ring.plan.rows, step.index, step.keys);
    Rescale rescale[1];
    rows.raise(rescale, scores);
    rows.template add<T>(rescale, scores, ring.values());
}

// Adds the steps that the warp sees to O and to the running softmax.
template <class T, int DIM>
DEVICE void walk_steps(AttendedRows<DIM, 1>& rows, const FragmentA<DIM>& query, Ring<DIM>& ring) {
    bool is_there = ring.enter();
    NO_UNROLL
    while (is_there) {
        if (ring.step().is_seen()) take_step<T>(rows, query, ring);
        is_there = ring.go_on();
    }
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
    AttendedRows<DIM, 1> rows;
    const FragmentA<DIM> query = load_queries<DIM>(rows.softmax[0], p, tile);
    rows.out[0].fill(0.0f);
    if (is_there) walk_steps<T>(rows, query, ring);

    const QueryTile same = find_block_tile_anew(p);
    store_dense_rows<T, 1>(p, same, rows.out[0], rows.softmax[0]);
}

#define INSTANCE(name, T, DIM) \
    KERNEL(name, sala_sparse_attention_params, THREADS, 1) { dense_attention<T, DIM>(p); }
#include "instances/dense_attention.h"

}  // namespace SALA_VARIANT
}  // namespace sala
