// What the kernels for few query tokens share: the query heads of one token, eight at a time, and where the workspace
// between their launches has what.
//
// Bits are those of block_score.cuh: a product has the heads of one token, a thread the same rows of a turn, and heads
// are added up in the same order.
#pragma once

#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/tile.cuh"
#include "params/select_blocks.h"
#include "parts/keys/drafts.cuh"
#include "parts/keys/rows.cuh"
#include "parts/keys/sequence.cuh"
#include "parts/selection/block_score.cuh"
#include "parts/selection/score_rows.cuh"
#include "parts/signed_scale.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int PRODUCT_HEADS = 8;

// The logits of a turn's 32 rows × `HEADS` heads, without scale.
template <int HEADS>
struct HeadLogits {
    Accumulator<HEADS> half[2];
};

// The scales of the tokens that a launch takes, a lane's own one in each.
struct TokenScales {
    float scale, own_factor;

    // Called by whole warps.
    DEVICE SignedScale of(int token) const { return signed_scale(scale * shuffle(own_factor, token)); }
};

DEVICE TokenScales load_scales(const sala_select_blocks_params& p, const SequenceRange& sequence) {
    TokenScales scales{p.scale, 1.0f};
    if (p.scale_factor != 0 && lane_index() < sequence.queries) {
        scales.own_factor = load_global_constant(entry_of<const float>(p.scale_factor, sequence.first_query + lane_index()));
    }
    return scales;
}

// How the products of all tokens are numbered.
struct Products {
    int of_token;    // products of a token's heads
    int reciprocal;  // 2^16 / of_token, rounded up: exact for the tokens of a launch and 64 heads

    DEVICE explicit Products(const sala_select_split_params& p)
        : of_token(p.heads_padded / PRODUCT_HEADS), reciprocal(p.product_reciprocal) {}
    DEVICE int token(int number) const { return number * reciprocal >> 16; }
    DEVICE int product(int number) const { return number - token(number) * of_token; }
};

// Operand B: HEADS heads of the token in row `row` of q, from head `first` of the group on, before the sign of the scale. Columns that
// pad the group have its first head: nobody asks for their sums, and they divide P by infinity (finish_column).
template <int DIM, int HEADS>
DEVICE FragmentB<DIM, HEADS> load_query_heads(const sala_select_blocks_params& p, int64_t row, int first) {
    FragmentB<DIM, HEADS> query;
    UNROLL
    for (int j = 0; j < HEADS / 8; ++j) {
        const int head = first + j * 8 + lane_index() / 4;
        const int64_t head_q = static_cast<int64_t>(block_index_y()) * p.group + (head < p.group ? head : 0);
        const auto* source = reinterpret_cast<const uint32_t*>(row_of<const uint16_t>(p.q, row, head_q)) + lane_index() % 4;
        UNROLL
        for (int i = 0; i < DIM / 8; ++i) {
            query.registers[i / 2][j][i % 2] = load_global_constant(source + 4 * i);
        }
    }
    return query;
}

template <int DIM, int HEADS>
DEVICE FragmentB<DIM, HEADS> signed_query(FragmentB<DIM, HEADS> query, SignedScale scale) {
    UNROLL
    for (int i = 0; i < DIM / 16; ++i) {
        UNROLL
        for (int j = 0; j < HEADS / 8; ++j) {
            UNROLL
            for (int half = 0; half < 2; ++half) query.registers[i][j][half] ^= scale.sign_flip();
        }
    }
    return query;
}

template <class T, int DIM, int HEADS>
DEVICE HeadLogits<HEADS> find_head_logits(SharedTile<DIM> tile, int turn, const FragmentB<DIM, HEADS>& query) {
    HeadLogits<HEADS> logits;
    UNROLL
    for (int half = 0; half < 2; ++half) {
        logits.half[half].fill(0.0f);
        multiply_shared_a<T>(logits.half[half], tile, turn * ScoreTile::TURN + half * ScoreTile::TURN_HALF, 0, query);
    }
    return logits;
}

// The sequence that a block works for.
DEVICE int sequence_index(const sala_select_split_params& p) { return p.first_sequence + block_index_z(); }

// Of a sequence those tokens that the launch takes, as if they were its last: what is behind them they do not see.
DEVICE SequenceRange take_tokens(const sala_select_split_params& p, SequenceRange sequence) {
    if (sequence.refusal != REFUSED_NOTHING) return sequence;
    const int first = minimum(p.first_token, sequence.queries);
    const int end = minimum(first + p.tokens, sequence.queries);
    sequence.keys.count -= sequence.queries - end;
    sequence.first_query += first;
    sequence.queries = end - first;
    return sequence;
}

// The rows that any token of the sequence needs. No draft of a tree stands behind where the last one of a chain would.
DEVICE TokenRows find_rows_of_all(const sala_select_split_params& p, const SequenceRange& sequence) {
    const int last = sequence.queries - 1;
    return find_token_rows(p.select, sequence.position(last), end_of_past(p.trees, sequence, last));
}

// ---- the workspace

DEVICE int64_t workspace_row(const sala_select_split_params& p, int token) {
    const int64_t head = static_cast<int64_t>(block_index_z()) * p.heads_kv + block_index_y();
    return head * p.tokens + token;
}

// m and Z of two neighbouring heads in a piece of a token's rows: those that a thread has of a product.
DEVICE Float4* sums_of(const sala_select_split_params& p, int token, int piece, int product) {
    const int64_t head = (workspace_row(p, token) * p.pieces + piece) * p.heads_padded + product * PRODUCT_HEADS;
    return entry_of<Float4>(p.sums, head / 2 + lane_index() % 4);
}

DEVICE float* block_scores_of(const sala_select_split_params& p, int token) {
    return entry_of<float>(p.block_scores, workspace_row(p, token) * p.blocks);
}

}  // namespace SALA_VARIANT
}  // namespace sala
