// Block selection for few query tokens, first of three launches: m and Z of each piece of 128 rows of C, which is K2, or
// K1 for exact sums.
//
//     m_j, Z_j = max and Σ exp of s·q_j·C[c]          over the rows c of one piece          j: the query heads of a token
//
// Grid: (pieces, kv heads, batch). A block loads its piece once, whatever the number of tokens; a warp takes the products
// of eight heads of a token with the 128 rows, one after the other. Pieces are cut by absolute row, and select_blocks.cu
// cuts them alike, so that both give the same bits.
//
//     | load 128 rows, q | product, exp, sum, merge 8 lanes, store | the next eight heads …          a warp on its own after the load
//
// Shared memory (dim 128): 32 KiB. Limit: latency at batch 1 (one load from memory, one product, one merge), bytes beyond.
//
// Definition: docs/semantics.md#select_blocks
#include "machine/async_copy.cuh"
#include "machine/barrier.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/tile.cuh"
#include "params/select_blocks.h"
#include "parts/keys/key_rows.cuh"
#include "parts/keys/sequence.cuh"
#include "parts/keys/windows.cuh"
#include "parts/selection/block_score.cuh"
#include "parts/selection/score_rows.cuh"
#include "parts/selection/token_heads.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int WARPS = SALA_SELECT_PIECE_WARPS;
constexpr int PIECE = SALA_SELECT_PIECE;
constexpr int TURN = ScoreTile::TURN;

template <int DIM>
struct SumsPlan {
    uint16_t rows[PIECE * DIM];
};

// m and Z of the thread's two columns of a product, over the piece's rows below `rows`.
template <class T, int DIM>
DEVICE Float4 sum_product(SharedTile<DIM> tile, const FragmentB<DIM, PRODUCT_HEADS>& query, int rows, float factor) {
    float most[2] = {LOWEST, LOWEST};
    float sum[2] = {0.0f, 0.0f};
    UNROLL
    for (int turn = 0; turn < PIECE / TURN; ++turn) {
        const auto logits = find_head_logits<T>(tile, turn, query);
        UNROLL
        for (int side = 0; side < 2; ++side) {
            UNROLL
            for (int half = 0; half < 2; ++half) {
                float x[2];
                UNROLL
                for (int i = 0; i < 2; ++i) {
                    const int e = 2 * i + side;
                    x[i] = turn * TURN + turn_row(half, e) < rows ? logits.half[half].values[0][e] : -INFINITE;
                }
                add_to_column(most[side], sum[side], x[0], x[1], factor);
            }
        }
    }
    merge_lanes(most, sum, [&](int) { return factor; });
    return {{most[0], sum[0], most[1], sum[1]}};
}

template <class T, int DIM>
DEVICE void select_blocks_sums(const sala_select_split_params& split) {
    const sala_select_blocks_params& p = split.select;
    const SequenceRange sequence = take_tokens(split, find_sequence(p.sequences, sequence_index(split)));
    // What is refused, or attended densely, is left to the launch that writes lists.
    if (sequence.refusal != REFUSED_NOTHING || sequence.dense || sequence.queries == 0) return;
    const int first_row = block_index_x() * PIECE;
    const int sum_rows = find_rows_of_all(split, sequence).sum_rows;
    if (first_row >= sum_rows) return;

    auto& plan = dynamic_shared<SumsPlan<DIM>>();
    const SharedTile<DIM> tile{shared_address(plan.rows)};
    const sala_key_rows& tensor = p.exact_lse ? p.k1 : p.k2;
    const KeyRows keys = find_key_rows(tensor, sequence.keys, sequence_index(split), block_index_y(), sum_stride(p));
    load_rows<WARPS, PIECE>(tile, NeededRows{keys, 0, sum_rows}, first_row, p.status);
    async_copy_commit();
    // Queries and scales are asked for while the rows come: each wait is one that a decode step has in full.
    const TokenScales scales = load_scales(p, sequence);
    const Products products(split);
    const int numbers = sequence.queries * products.of_token;
    const auto load_query = [&](int number) {
        const int first_head = products.product(number) * PRODUCT_HEADS;
        return load_query_heads<DIM, PRODUCT_HEADS>(p, sequence.first_query + products.token(number), first_head);
    };
    int number = warp_index();
    FragmentB<DIM, PRODUCT_HEADS> query{};
    if (number < numbers) query = load_query(number);
    async_copy_wait<0>();
    sync_block();  // the piece is in shared memory
    NO_UNROLL
    for (; number < numbers; number += WARPS) {
        const int token = products.token(number);
        const SignedScale scale = scales.of(token);
        const FragmentB<DIM, PRODUCT_HEADS> own = signed_query(query, scale);
        if (number + WARPS < numbers) query = load_query(number + WARPS);
        const int rows = full_windows_by_shift(end_of_past(split.trees, sequence, token), sum_shift(p)) - first_row;
        if (rows <= 0) continue;
        const Float4 sums = sum_product<T>(tile, own, rows, scale.factor);
        if (lane_index() < 4) store_global(sums_of(split, token, block_index_x(), products.product(number)), sums);
    }
}

#define INSTANCE(name, T, DIM) \
    KERNEL(name, sala_select_split_params, WARPS* WARP_SIZE, 2) { select_blocks_sums<T, DIM>(p); }
#include "instances/select_blocks_sums.h"

}  // namespace SALA_VARIANT
}  // namespace sala
