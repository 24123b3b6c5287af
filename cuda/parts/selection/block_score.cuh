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

// For each of the thread's columns. While rows pass by, each thread has those of its own rows; afterwards all
// have the whole.
template <int HEADS>
struct Normaliser {
    static constexpr int COUNT = Deal<HEADS>::SLICES * ScoreTile::LANE_COLUMNS;

    float maximum[COUNT];  // largest logit, without scale
    float sum[COUNT];      // Σ exp; once finished, log2 of what P is divided by, less SHARE_GUARD_BITS
};

template <int HEADS>
DEVICE void start_normaliser(Normaliser<HEADS>& n) {
    UNROLL
    for (int i = 0; i < Normaliser<HEADS>::COUNT; ++i) {
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

// Hides the rows of half a turn that tokens do not see. The turn's first row is `row0`.
template <int HEADS>
DEVICE void hide_rows(HalfLogits& logits, const WarpTokens<HEADS>& tokens, int row0, int half) {
    if (row0 + ScoreTile::TURN <= tokens.all_sum_rows) return;
    UNROLL
    for (int j = 0; j < ScoreTile::PRODUCTS; ++j) {
        const int visible = tokens.sum_rows[Deal<HEADS>::lane_token(j)] - row0;
        UNROLL
        for (int e = 0; e < 4; ++e) logits.values[j][e] = turn_row(half, e) < visible ? logits.values[j][e] : -INFINITE;
    }
}

// Adds the rows of half a turn, for the heads of one slice.
template <int HEADS>
DEVICE void add_to_normaliser(Normaliser<HEADS>& n, const HalfLogits& logits, const WarpTokens<HEADS>& tokens, int slice) {
    UNROLL
    for (int j = 0; j < ScoreTile::PRODUCTS; ++j) {
        UNROLL
        for (int side = 0; side < 2; ++side) {
            const int column = slice * ScoreTile::LANE_COLUMNS + 2 * j + side;
            add_to_column(n.maximum[column], n.sum[column], logits.values[j][side], logits.values[j][2 + side],
                          tokens.scale[Deal<HEADS>::lane_token(j)].factor);
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
DEVICE void end_piece(Normaliser<HEADS>& total, Normaliser<HEADS>& n, const WarpTokens<HEADS>& tokens, int piece) {
    const auto factor = [&](int i) { return tokens.scale[Deal<HEADS>::lane_token(i % ScoreTile::LANE_COLUMNS / 2)].factor; };
    merge_lanes(n.maximum, n.sum, factor);
    if (lane_index() / 4 == piece % 8) {
        UNROLL
        for (int i = 0; i < Normaliser<HEADS>::COUNT; ++i) add_piece(total.maximum[i], total.sum[i], n.maximum[i], n.sum[i], factor(i));
    }
    start_normaliser(n);
}

// Merges the threads' sums of pieces.
template <int HEADS>
DEVICE void finish_normaliser(Normaliser<HEADS>& n, const sala_select_blocks_params& p, const WarpTokens<HEADS>& tokens) {
    constexpr int LANE_COLUMNS = ScoreTile::LANE_COLUMNS;
    merge_lanes(n.maximum, n.sum, [&](int i) { return tokens.scale[Deal<HEADS>::lane_token(i % LANE_COLUMNS / 2)].factor; });
    UNROLL
    for (int i = 0; i < Normaliser<HEADS>::COUNT; ++i) {
        const int head = Deal<HEADS>::head(i / LANE_COLUMNS, i % LANE_COLUMNS / 2, lane_column() + i % 2);
        finish_column(n.maximum[i], n.sum[i], head < p.group);
    }
}

// ---- P

// exp(s·q·k − m) / Z · 2^SHARE_GUARD_BITS of one logit.
template <int HEADS>
DEVICE float find_share(const Normaliser<HEADS>& n, const WarpTokens<HEADS>& tokens, float logit, int slice, int j, int side, float shift) {
    const int column = slice * ScoreTile::LANE_COLUMNS + 2 * j + side;
    return exp2(fma(logit - n.maximum[column], tokens.scale[Deal<HEADS>::lane_token(j)].factor, shift - n.sum[column]));
}

// Lanes that have columns of the same tokens have the same two rows of each in a half turn. They add up over heads and share
// the sums: each is left with a row of one token, or both rows of one or two.
template <int HEADS>
struct LaneShare {
    static constexpr int SUMS = 2 * Deal<HEADS>::LANE_TOKENS;
    static constexpr int SHARING = 4 / Deal<HEADS>::PRODUCT_TOKENS;  // lanes with columns of the same tokens
    static constexpr int LANES = minimum(SUMS, SHARING);             // with different sums
    static constexpr int COUNT = SUMS / LANES;                       // of sums that a lane is left with
    static constexpr int TOKENS = COUNT > 2 ? COUNT / 2 : 1;         // that they are of
    static constexpr int ROWS = COUNT / TOKENS;                      // of each, in a half turn
    static constexpr int SAME_TOKEN =
        SHARING - minimum(SHARING, Deal<HEADS>::TOKENS);  // the bits in which lanes with rows of one token differ

    static DEVICE int first_sum() { return share_index<LANES>() * COUNT; }
    static DEVICE int token(int i) { return Deal<HEADS>::token(first_sum() / 2 + i, lane_column()); }
    static DEVICE int row() { return first_sum() % 2; }  // the first, of the two
};

// Adds up the lanes' parts of sums for two rows per token.
template <int HEADS>
DEVICE void add_lanes(float (&own)[LaneShare<HEADS>::COUNT], float (&parts)[LaneShare<HEADS>::SUMS]) {
    constexpr int LANES = LaneShare<HEADS>::LANES;
    reduce_add_scatter<LANES>(own, parts);
    if constexpr (LANES < LaneShare<HEADS>::SHARING) reduce_add_each<2, 2>(own);
}

// As sum_heads, when some of the plain sums are not finite: NaN logits are left out, and a sum too large for the
// guard bits is taken without them. NaN where there is no number at all.
template <int HEADS, int ROWS>
DEVICE void sum_carefully(float (&sums)[ROWS], const sala_select_blocks_params& p, const HalfLogits& logits, const Normaliser<HEADS>& n,
                          const WarpTokens<HEADS>& tokens, int slice) {
    constexpr int COUNT = LaneShare<HEADS>::SUMS;
    constexpr int TOKEN_PRODUCTS = Deal<HEADS>::TOKEN_PRODUCTS;
    NO_UNROLL
    for (int guarded = 0; guarded < 2; ++guarded) {
        const float shift = guarded ? 0.0f : static_cast<float>(-SHARE_GUARD_BITS);
        float shares[COUNT], counts[COUNT];
        UNROLL
        for (int i = 0; i < COUNT; ++i) {
            shares[i] = counts[i] = 0.0f;
            UNROLL
            for (int column = 0; column < 2 * TOKEN_PRODUCTS; ++column) {
                const int j = i / 2 * TOKEN_PRODUCTS + column / 2;
                const int side = column % 2;
                const bool real = Deal<HEADS>::head(slice, j, lane_column() + side) < p.group;
                const float share = find_share(n, tokens, logits.values[j][i % 2 * 2 + side], slice, j, side, shift);
                shares[i] += maximum(share, 0.0f);
                counts[i] += real && share == share ? 1.0f : 0.0f;
            }
        }
        float own[ROWS], numbers[ROWS];
        add_lanes<HEADS>(own, shares);
        add_lanes<HEADS>(numbers, counts);
        UNROLL
        for (int i = 0; i < ROWS; ++i) {
            const bool fits = guarded != 0 && own[i] < INFINITE;
            if (guarded == 0 || fits) sums[i] = fits ? own[i] * SHARE_GUARD : own[i];
            if (numbers[i] == 0.0f) sums[i] = bits_float(0x7fc00000u);
        }
    }
}

// P of the lane's share of a half turn, over the heads of one slice.
template <int HEADS, int ROWS>
DEVICE void sum_heads(float (&sums)[ROWS], const sala_select_blocks_params& p, const HalfLogits& logits, const Normaliser<HEADS>& n,
                      const WarpTokens<HEADS>& tokens, int slice) {
    constexpr int COUNT = LaneShare<HEADS>::SUMS;
    constexpr int TOKEN_PRODUCTS = Deal<HEADS>::TOKEN_PRODUCTS;
    float shares[COUNT];
    UNROLL
    for (int column = 0; column < 2 * TOKEN_PRODUCTS; ++column) {
        UNROLL
        for (int i = 0; i < COUNT; ++i) {
            const int j = i / 2 * TOKEN_PRODUCTS + column / 2;
            const float share = find_share(n, tokens, logits.values[j][i % 2 * 2 + column % 2], slice, j, column % 2, 0.0f);
            shares[i] = column == 0 ? share : shares[i] + share;
        }
    }
    float own[ROWS];
    add_lanes<HEADS>(own, shares);
    bool finite = true;
    UNROLL
    for (int i = 0; i < ROWS; ++i) {
        finite &= own[i] < INFINITE;
        sums[i] = own[i] * SHARE_GUARD;
    }
    if (all(finite)) return;
    float careful[ROWS];
    UNROLL
    for (int i = 0; i < ROWS; ++i) careful[i] = own[i];
    sum_carefully(careful, p, logits, n, tokens, slice);
    UNROLL
    for (int i = 0; i < ROWS; ++i) sums[i] = own[i] < INFINITE ? sums[i] : careful[i];
}

// The sum of two slices; NaN only if both are.
DEVICE float add_slices(float a, float b) { return a != a ? b : (b != b ? a : a + b); }

}  // namespace SALA_VARIANT
}  // namespace sala
