// The arithmetic of block scores: from the logits of compressed keys to the share P of each row in its
// token's attention.
//
//     m_j, Z_j = max and Σ exp of s·q_j·C[c]          P[c] = Σ_j exp(s·q_j·K1[c] − m_j) / Z_j          j: the heads of a group
//
// Rows are compressed keys, columns the heads of a warp's tokens (token_columns.cuh). A thread holds all four
// rows of one block of keys for eight columns, two in each half of a turn, so most of a sum over heads stays within it.
#pragma once

#include "machine/element.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/tile.cuh"
#include "machine/warp.cuh"
#include "params/select_blocks.h"
#include "parts/keys/windows.cuh"
#include "parts/selection/token_columns.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int SHARE_GUARD_BITS = 24;  // P is formed as 2^SHARE_GUARD_BITS · P
constexpr float SHARE_GUARD = 1.0f / (1 << SHARE_GUARD_BITS);

// Where row `row` of a step lies in its tile. Rows 4b … 4b + 3 of each eight blocks of keys go to row b of
// each 8 × 8 matrix of two 16-row operands, so that one thread gets all four of them.
DEVICE int score_tile_row(int row) {
    constexpr int TURN = ScoreTile::TURN;
    constexpr int BLOCK_ROWS = ScoreTile::BLOCK_ROWS;
    return row / TURN * TURN + row % BLOCK_ROWS * ScoreTile::TURN_BLOCKS + row % TURN / BLOCK_ROWS;
}

// The row, of those of a turn, that element e of the turn's accumulator `half` stands for, rows lying as
// score_tile_row says.
DEVICE int turn_row(int half, int e) { return lane_index() / 4 * ScoreTile::BLOCK_ROWS + half * 2 + e / 2; }

// The logits of half a turn, 16 rows (see turn_row) × the warp's columns, without scale.
using HalfLogits = Accumulator<ScoreTile::COLUMNS>;

// ---- m and Z

// For each of COUNT columns of the thread. While rows pass by, each thread has those of its own rows; afterwards all
// have the whole.
template <int COUNT>
struct Normaliser {
    float maximum[COUNT];  // largest logit, without scale
    float sum[COUNT];      // Σ exp; once finished, log2 of what P is divided by, less SHARE_GUARD_BITS
};

template <int HEADS>
using WarpNormaliser = Normaliser<Deal<HEADS>::LANE_COLUMNS>;

template <int COUNT>
DEVICE void start_normaliser(Normaliser<COUNT>& n) {
    UNROLL
    for (int i = 0; i < COUNT; ++i) {
        n.maximum[i] = LOWEST;
        n.sum[i] = 0.0f;
    }
}

// Adds the two rows of a half turn that a thread holds of one column to its sum. A NaN logit adds nothing: maximum()
// drops it.
DEVICE void add_to_column(float& most, float& sum, float x0, float x1, float factor) {
    const float largest = maximum(maximum(most, x0), x1);
    const float scaled = sum * exp2(factor * (most - largest));
    sum = largest > most ? scaled : sum;
    most = largest;
    sum += maximum(exp2(factor * (x0 - largest)), 0.0f);
    sum += maximum(exp2(factor * (x1 - largest)), 0.0f);
}

// Hides the rows of half a turn but the first `visible(j)`, for the columns of product j.
template <int N, class Visible>
DEVICE void hide_rows_from(Accumulator<N>& logits, int half, const Visible& visible) {
    UNROLL
    for (int j = 0; j < N / 8; ++j) {
        UNROLL
        for (int e = 0; e < 4; ++e) logits.values[j][e] = turn_row(half, e) < visible(j) ? logits.values[j][e] : -INFINITE;
    }
}

// Hides those that tokens do not see. The turn's first row is `row0`.
template <int HEADS>
DEVICE void hide_rows(HalfLogits& logits, const WarpTokens<HEADS>& tokens, int row0, int half) {
    if (row0 + ScoreTile::TURN <= tokens.all_sum_rows) return;
    hide_rows_from(logits, half, [&](int j) { return tokens.sum_rows[Deal<HEADS>::lane_token(j)] - row0; });
}

// Adds the rows of half a turn, for the heads of one slice; `factor(j)` is that of the columns of product j.
template <int COUNT, int N, class Factor>
DEVICE void add_to_normaliser(Normaliser<COUNT>& n, const Accumulator<N>& logits, int slice, const Factor& factor) {
    UNROLL
    for (int j = 0; j < N / 8; ++j) {
        const float scale = factor(j);
        UNROLL
        for (int side = 0; side < 2; ++side) {
            const int column = slice * (N / 4) + 2 * j + side;
            add_to_column(n.maximum[column], n.sum[column], logits.values[j][side], logits.values[j][2 + side], scale);
        }
    }
}

// Merges the sums of the eight threads that share columns; all of them have the whole then. `factor(i)` is that of
// column i of the thread.
template <int COUNT, class Factor>
DEVICE void merge_lanes(float (&most)[COUNT], float (&sum)[COUNT], const Factor& factor) {
    float own[COUNT];
    UNROLL
    for (int i = 0; i < COUNT; ++i) own[i] = most[i];
    reduce_max_each<8, 4>(most);
    UNROLL
    for (int i = 0; i < COUNT; ++i) sum[i] *= exp2(factor(i) * (own[i] - most[i]));
    reduce_add_each<8, 4>(sum);
}

// Adds the sum of a piece to that of pieces before it. An empty piece changes no bit.
DEVICE void add_piece(float& most, float& sum, float piece_most, float piece_sum, float factor) {
    const float largest = maximum(most, piece_most);
    const float scaled = sum * exp2(factor * (most - largest));
    sum = fma(piece_sum, exp2(factor * (piece_most - largest)), scaled);
    most = largest;
}

// What exponents of P subtract: log2 of the sum, less the guard. A column without a number, and one that pads the
// group, gets a divisor of infinity: its P is 0.
DEVICE void finish_column(float& most, float& sum, bool is_head) {
    const bool counts = is_head && sum != 0.0f;
    most = counts ? most : 0.0f;
    sum = counts ? log2(sum) - SHARE_GUARD_BITS : INFINITE;
}

// The pieces of a token's rows are dealt to the eight threads that share its columns, which add them up in order.
// Ends piece `piece` of the rows, whose sums are in n.
template <int HEADS>
DEVICE void end_piece(WarpNormaliser<HEADS>& total, WarpNormaliser<HEADS>& n, const WarpTokens<HEADS>& tokens, int piece) {
    const auto factor = [&](int i) { return tokens.scale[Deal<HEADS>::lane_token(i % ScoreTile::LANE_COLUMNS / 2)].factor; };
    merge_lanes(n.maximum, n.sum, factor);
    if (lane_index() / 4 == piece % 8) {
        UNROLL
        for (int i = 0; i < Deal<HEADS>::LANE_COLUMNS; ++i) add_piece(total.maximum[i], total.sum[i], n.maximum[i], n.sum[i], factor(i));
    }
    start_normaliser(n);
}

// Merges the threads' sums of pieces.
template <int HEADS>
DEVICE void finish_normaliser(WarpNormaliser<HEADS>& n, const sala_select_blocks_params& p, const WarpTokens<HEADS>& tokens) {
    constexpr int LANE_COLUMNS = ScoreTile::LANE_COLUMNS;
    merge_lanes(n.maximum, n.sum, [&](int i) { return tokens.scale[Deal<HEADS>::lane_token(i % LANE_COLUMNS / 2)].factor; });
    UNROLL
    for (int i = 0; i < Deal<HEADS>::LANE_COLUMNS; ++i) {
        const int head = Deal<HEADS>::head(i / LANE_COLUMNS, i % LANE_COLUMNS / 2, lane_column() + i % 2);
        finish_column(n.maximum[i], n.sum[i], head < p.group);
    }
}

// ---- P

// What turns the logits of two neighbouring columns of one token into shares.
struct ColumnPair {
    float maximum[2], sum[2];  // as a finished normaliser has them
    float factor;

    // exp(s·q·k − m) / Z · 2^(SHARE_GUARD_BITS + shift) of one logit.
    DEVICE float share(float logit, int side, float shift) const { return exp2(fma(logit - maximum[side], factor, shift - sum[side])); }
};

// Those of product j.
template <int HEADS>
DEVICE ColumnPair find_columns(const WarpNormaliser<HEADS>& n, const WarpTokens<HEADS>& tokens, int slice, int j) {
    const int column = slice * ScoreTile::LANE_COLUMNS + 2 * j;
    return {
        {n.maximum[column], n.maximum[column + 1]}, {n.sum[column], n.sum[column + 1]}, tokens.scale[Deal<HEADS>::lane_token(j)].factor};
}

// Lanes that have columns of the same tokens have the same two rows of each in a half turn. They add up over heads and share
// the sums: each is left with a row of one token, or both rows of one or some.
template <class D>
struct LaneShare {
    static constexpr int SUMS = 2 * D::LANE_TOKENS;
    static constexpr int SHARING = 4 / D::PRODUCT_TOKENS;                     // lanes with columns of the same tokens
    static constexpr int LANES = minimum(SUMS, SHARING);                      // with different sums
    static constexpr int COUNT = SUMS / LANES;                                // of sums that a lane is left with
    static constexpr int TOKENS = COUNT > 2 ? COUNT / 2 : 1;                  // that they are of
    static constexpr int ROWS = COUNT / TOKENS;                               // of each, in a half turn
    static constexpr int SAME_TOKEN = SHARING - minimum(SHARING, D::TOKENS);  // the bits in which lanes with rows of one token differ

    static DEVICE int first_sum() { return share_index<LANES>() * COUNT; }
    static DEVICE int token(int i) { return D::token(first_sum() / 2 + i, lane_column()); }
    static DEVICE int row() { return first_sum() % 2; }  // the first, of the two
};

// Adds up the lanes' parts of sums for two rows per token.
template <class D>
DEVICE void add_lanes(float (&own)[LaneShare<D>::COUNT], float (&parts)[LaneShare<D>::SUMS]) {
    constexpr int LANES = LaneShare<D>::LANES;
    reduce_add_scatter<LANES>(own, parts);
    if constexpr (LANES < LaneShare<D>::SHARING) reduce_add_each<2, 2>(own);
}

// As sum_heads, when some of the plain sums are not finite: NaN logits are left out, and a sum too large for the
// guard bits is taken without them. NaN where there is no number at all. A token at a time, as its sums leave few registers.
template <class D, class Columns>
DEVICE void sum_carefully(float (&sums)[LaneShare<D>::COUNT], int group, const Accumulator<D::COLUMNS>& logits, int slice,
                          const Columns& columns) {
    using Share = LaneShare<D>;
    NO_UNROLL
    for (int guarded = 0; guarded < 2; ++guarded) {
        const float shift = guarded ? 0.0f : static_cast<float>(-SHARE_GUARD_BITS);
        UNROLL
        for (int token = 0; token < D::LANE_TOKENS; ++token) {
            float found[4] = {};  // shares of two rows, and how many numbers there are
            UNROLL
            for (int j = token * D::TOKEN_PRODUCTS; j < (token + 1) * D::TOKEN_PRODUCTS; ++j) {
                const ColumnPair pair = columns(j);
                UNROLL
                for (int e = 0; e < 4; ++e) {
                    const int side = e % 2;
                    const bool real = D::head(slice, j, lane_column() + side) < group;
                    const float share = pair.share(logits.values[j][e], side, shift);
                    found[e / 2] += maximum(share, 0.0f);
                    found[2 + e / 2] += real && share == share ? 1.0f : 0.0f;
                }
            }
            reduce_add_each<Share::SHARING>(found);
            UNROLL
            for (int row = 0; row < 2; ++row) {
                const int sum = 2 * token + row;
                const bool fits = guarded != 0 && found[row] < INFINITE;
                float own = sums[sum % Share::COUNT];
                if (guarded == 0 || fits) own = fits ? found[row] * SHARE_GUARD : found[row];
                if (found[2 + row] == 0.0f) own = bits_float(0x7fc00000u);
                if (sum / Share::COUNT == share_index<Share::LANES>()) sums[sum % Share::COUNT] = own;
            }
        }
    }
}

// P of the lane's share of a half turn, over the heads of one slice. `columns(j)` gives the ColumnPair of product j.
template <class D, class Columns>
DEVICE void sum_heads(float (&sums)[LaneShare<D>::COUNT], int group, const Accumulator<D::COLUMNS>& logits, int slice,
                      const Columns& columns) {
    constexpr int COUNT = LaneShare<D>::SUMS;
    constexpr int SUMS = LaneShare<D>::COUNT;
    float shares[COUNT];
    UNROLL
    for (int j = 0; j < D::PRODUCTS; ++j) {
        const ColumnPair pair = columns(j);
        UNROLL
        for (int e = 0; e < 4; ++e) {
            const int side = e % 2;
            const int i = 2 * D::lane_token(j) + e / 2;
            const float share = pair.share(logits.values[j][e], side, 0.0f);
            shares[i] = j % D::TOKEN_PRODUCTS == 0 && side == 0 ? share : shares[i] + share;
        }
    }
    float own[SUMS];
    add_lanes<D>(own, shares);
    bool finite = true;
    UNROLL
    for (int i = 0; i < SUMS; ++i) {
        finite &= own[i] < INFINITE;
        sums[i] = own[i] * SHARE_GUARD;
    }
    if (all(finite)) return;
    float careful[SUMS];
    UNROLL
    for (int i = 0; i < SUMS; ++i) careful[i] = own[i];
    sum_carefully<D>(careful, group, logits, slice, columns);
    UNROLL
    for (int i = 0; i < SUMS; ++i) sums[i] = own[i] < INFINITE ? sums[i] : careful[i];
}

// The sum of two slices; NaN only if both are.
DEVICE float add_slices(float a, float b) { return a != a ? b : (b != b ? a : a + b); }

}  // namespace SALA_VARIANT
}  // namespace sala
