// Attention of every query token over all keys from its first one to its own, by warps of twice the rows of dense_attention.cu:
//
//     O = softmax(f·s·q Kᵀ) V,   LSE = ln Σ exp        over the keys first_key ≤ t ≤ p
//
// Its bits are those of dense_attention.cu: the same steps of 64 keys in the same order, the same rule for rescaling, the same sums.
// Called in its place where a block may have the shared memory (at dim 64 everywhere) and there is a tile for every multiprocessor.
// Grid: (tiles of query tokens, kv heads, batch). A tile is eight warps of 32 rows (parts/attention/dense_tile.cuh), two operands of sixteen, which share
// each fragment of K and V:
//
//     keys ─▶      64     128     192                       warp:   S = Q Kᵀ   (Q in shared memory, 32 × 64)
//     rows 0 … 31  ███████▓▓░                                       P = softmax weights, rounded to 16 bits
//          … 63    ███████▓▓▓▓░    █ whole steps                    O = a·O + P V
//          …       ███████▓▓▓▓▓▓░  ▓ masked, key by key
//          … 255   ░▓██████▓▓▓▓▓▓  ░ steps that no row of the warp sees: it has nothing to do
//
// All warps fill a ring of three stages, and one may be nearly a step ahead of another (parts/attention/dense_ring.cuh). O of 32 rows
// leaves no registers for a second step: while the weights of a step are made a warp has few products. So the two warps of a
// sub-partition are out of phase: the second half of the warps begins when the first has its first scores.
//
// Shared memory, 162.5 KiB at dim 128, 82.5 at dim 64: Q 64 KiB, three stages of K and V, 32 KiB each; rows 2 KiB,
// steps and barriers.
//
//     warps 0 … 3   | S n = Q Kᵀ | maxima, a·O | O += P V n, weights 16 by 16 | S n + 1    |             | …
//     warps 4 … 7                | S n = Q Kᵀ  | maxima, a·O                  | O += P V n, weights      | …
//     copies        | K n+1, V n+1 ──────────── load ──────────────▶|
//
// Limit: the tensor cores, 2 · 2 · 64 · dim · 32 FLOP per warp and step; of shared memory a warp's step reads 32 KiB of K and V and
// 8 KiB of Q, for which dense_attention.cu reads 64.
// Dropped, by the model: all warps in phase (4 % on an A100); O multiplied before the maxima of both operands are known (two branches);
// two stages, with a barrier that says when one is free.
//
// Definition: docs/semantics.md#dense_attention
#include "machine/barrier.cuh"
#include "machine/machine.cuh"
#include "machine/memory.cuh"
#include "machine/operand_place.cuh"
#include "machine/tile.cuh"
#include "machine/warp.cuh"
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
constexpr int TILES = 2;
constexpr int WARP_ROWS = DenseRows<TILES>::WARP_ROWS;
static_assert(DENSE_WARPS * WARP_ROWS == SALA_WIDE_DENSE_ROWS, "the host cuts such tiles");
static_assert(WARP_ROWS == WARP_SIZE, "a lane copies a row of Q");

template <int DIM>
using Rows = AttendedRows<DIM, TILES>;
template <int DIM>
using QueryPlace = OperandPlace<DIM, Operand::KN>;
template <int DIM>
using Ring = DenseRing<DIM, TILES>;

template <int DIM>
struct WidePlan {
    uint16_t queries[DENSE_WARPS * WARP_ROWS * DIM];  // each warp reads those that it has written
    DensePlan<DIM, TILES> ring;
};
constexpr size_t query_bytes(int dim) { return static_cast<size_t>(SALA_WIDE_DENSE_ROWS * dim) * sizeof(uint16_t); }
static_assert(sizeof(WidePlan<64>) == query_bytes(64) + dense_stage_bytes(64) + SALA_WIDE_DENSE_SCRATCH_BYTES &&
                  sizeof(WidePlan<128>) == query_bytes(128) + dense_stage_bytes(128) + SALA_WIDE_DENSE_SCRATCH_BYTES,
              "the host gives that much");

// Named barriers.
constexpr int FIRST_SCORES = 1;  // the first half of the warps has its scores of turn 0, or does not see that turn

DEVICE bool is_late() { return warp_index() >= DENSE_WARPS / 2; }

// In turn 0, before and after its product of scores; the steps of that turn need nothing of a warp that waits here.
DEVICE void begin_late() {
    if (is_late()) sync_barrier(FIRST_SCORES, THREADS);
}
DEVICE void begin_first() {
    if (!is_late()) arrive_barrier(FIRST_SCORES, THREADS);
}

// Copies the warp's rows of Q to its tile, a row a lane, zeros for one that does not exist, and starts their softmax. Lanes read each
// other's rows once the warp has filled a stage, before which it meets.
template <int DIM>
DEVICE void take_queries(Rows<DIM>& rows, SharedTile<DIM> queries, const sala_sparse_attention_params& p, const QueryTile& tile) {
    const DenseRow row = find_dense_row(p, tile, warp_index() * WARP_ROWS + lane_index());
    const SignedScale scale = find_scale(p, tile, row.token, row.exists);
    const auto* source = reinterpret_cast<const Words4*>(row_of<const uint16_t>(p.q, tile.row(row.token), row.head));
    UNROLL
    for (int i = 0; i < SharedTile<DIM>::VECTORS; ++i) {
        Words4 vector{};
        if (row.exists) vector = load_global_constant(source + i);
        UNROLL
        for (int word = 0; word < 4; ++word) vector[word] ^= scale.sign_flip();
        store_shared(queries.address(lane_index(), i), vector);
    }
    UNROLL
    for (int operand = 0; operand < TILES; ++operand) {
        UNROLL
        for (int side = 0; side < 2; ++side) {
            const int lane = operand * AttentionTile::WARP_ROWS + accumulator_row(2 * side);
            start_row(rows.softmax[operand], side, shuffle(scale.factor, lane));
        }
        rows.out[operand].fill(0.0f);
    }
}

// The scores of a step, −∞ where a row does not see a key.
template <class T, int DIM>
DEVICE void find_scores(typename Rows<DIM>::Scores& scores, SharedTile<DIM> all_queries, const Ring<DIM>& ring) {
    UNROLL
    for (int operand = 0; operand < TILES; ++operand) scores[operand].fill(0.0f);
    // A lane's place in Q is that in V, so many bytes away; kept, it would take a register that there is not.
    const auto warp = renewed(static_cast<uint32_t>(warp_index()));
    const uint32_t own = all_queries.base + warp * static_cast<uint32_t>(SharedTile<DIM>::bytes(WARP_ROWS));
    const QueryPlace<DIM> queries = ring.first_values.moved(own - ring.first_values.tile.base);
    multiply_made<T, DIM>(scores, ring.keys(), [&](FragmentA<16>(&made)[TILES], int i) {
        UNROLL
        for (int operand = 0; operand < TILES; ++operand) {
            made[operand] = load_operand_a(queries, operand * AttentionTile::WARP_ROWS, 16 * i);
        }
    });
    const TileStep& step = ring.step();
    if (step.is_whole()) return;
    UNROLL
    for (int operand = 0; operand < TILES; ++operand) hide_keys(scores[operand], ring.plan.rows, step.index, step.keys, operand);
}

template <class T, int DIM>
DEVICE void take_step(Rows<DIM>& rows, SharedTile<DIM> queries, const Ring<DIM>& ring) {
    typename Rows<DIM>::Scores scores;
    if (ring.turn == 0) begin_late();
    find_scores<T>(scores, queries, ring);
    if (ring.turn == 0) begin_first();
    Rescale rescale[TILES];
    rows.raise(rescale, scores);
    rows.template add<T>(rescale, scores, ring.values());
}

// Adds the steps that the warp sees to O and to the running softmax. Every warp comes by turn 0, whose barrier each passes once.
template <class T, int DIM>
DEVICE void walk_steps(Rows<DIM>& rows, SharedTile<DIM> queries, Ring<DIM>& ring) {
    bool is_there = ring.enter();
    NO_UNROLL
    while (is_there) {
        if (ring.step().is_seen()) {
            take_step<T>(rows, queries, ring);
        } else if (ring.turn == 0) {
            begin_late();
            begin_first();
        }
        is_there = ring.go_on();
    }
}

template <class T, int DIM>
DEVICE void dense_attention_wide(const sala_sparse_attention_params& p) {
    const SequenceRange sequence = find_sequence(p.sequences, block_index_z());
    if (leave_refused<THREADS, DIM>(p, sequence)) return;
    const QueryTile tile = find_block_tile(p, sequence);
    if (tile.tokens == 0) return;
    auto& plan = dynamic_shared<WidePlan<DIM>>();
    store_rows(plan.ring.rows, p, tile);
    if (thread_index() == 0) {
        plan.ring.store[0] = find_tile_keys(p, tile, block_index_z());
        plan.ring.store[1] = find_tile_values(p, tile, block_index_z());
    }
    Ring<DIM> ring(plan.ring, p.status);
    const bool is_there = ring.begin();
    const auto of_warps_before = static_cast<uint32_t>(SharedTile<DIM>::bytes(warp_index() * WARP_ROWS));
    const SharedTile<DIM> queries{shared_address(plan.queries) + of_warps_before};
    Rows<DIM> rows;
    take_queries<DIM>(rows, queries, p, tile);
    if (is_there) walk_steps<T>(rows, SharedTile<DIM>{shared_address(plan.queries)}, ring);

    const QueryTile same = find_block_tile_anew(p);
    UNROLL
    for (int operand = 0; operand < TILES; ++operand) {
        store_dense_rows<T, TILES>(p, same, rows.out[operand], rows.softmax[operand], operand);
    }
}

#define INSTANCE(name, T, DIM) \
    KERNEL(name, sala_sparse_attention_params, THREADS, 1) { dense_attention_wide<T, DIM>(p); }
#include "instances/dense_attention_wide.h"

}  // namespace SALA_VARIANT
}  // namespace sala
