// The arithmetic of block scores: from the logits of compressed keys to the share P of each row in its
// token's attention.
//
//     m_j, Z_j = max and Σ exp of s·q_j·C[c]          P[c] = Σ_j exp(s·q_j·K1[c] − m_j) / Z_j          j: the heads of a group
//
// Rows are compressed keys, columns the heads of a warp's tokens (token_columns.cuh). A thread holds all four
// rows of one block of keys for eight columns, so most of a sum over heads and all of a maximum over rows
// stay within it.
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

// The logits of a turn's 32 rows (see turn_row) × the warp's columns, without scale.
struct Logits {
    Accumulator<ScoreTile::COLUMNS> half[2];
};

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

// Adds the four rows of one column that a thread holds to its sum. A NaN logit adds nothing: maximum() drops it.
DEVICE void add_to_column(float& most, float& sum, const float (&x)[ScoreTile::BLOCK_ROWS], float factor) {
    constexpr int BLOCK_ROWS = ScoreTile::BLOCK_ROWS;
    float largest = most;
    UNROLL
    for (int i = 0; i < BLOCK_ROWS; ++i) largest = maximum(largest, x[i]);
    if (largest > most) {
        sum *= exp2(factor * (most - largest));
        most = largest;
    }
    UNROLL
    for (int i = 0; i < BLOCK_ROWS; ++i) sum += maximum(exp2(factor * (x[i] - largest)), 0.0f);
}

// Adds the rows of a turn, from row0 on.
template <int HEADS>
DEVICE void add_to_normaliser(Normaliser<HEADS>& n, const Logits& logits, const WarpTokens<HEADS>& tokens, int row0, int slice) {
    constexpr int BLOCK_ROWS = ScoreTile::BLOCK_ROWS;
    UNROLL
    for (int j = 0; j < ScoreTile::PRODUCTS; ++j) {
        const int token = Deal<HEADS>::token(j);
        const int visible = tokens.sum_rows[token] - row0;
        UNROLL
        for (int side = 0; side < 2; ++side) {
            const int column = slice * ScoreTile::LANE_COLUMNS + 2 * j + side;
            float x[BLOCK_ROWS];
            UNROLL
            for (int i = 0; i < BLOCK_ROWS; ++i) {
                const int e = i % 2 * 2 + side;
                x[i] = turn_row(i / 2, e) < visible ? logits.half[i / 2].values[j][e] : -INFINITE;
            }
            add_to_column(n.maximum[column], n.sum[column], x, tokens.scale[token].factor);
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
    const auto factor = [&](int i) { return tokens.scale[Deal<HEADS>::token(i % ScoreTile::LANE_COLUMNS / 2)].factor; };
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
    merge_lanes(n.maximum, n.sum, [&](int i) { return tokens.scale[Deal<HEADS>::token(i % LANE_COLUMNS / 2)].factor; });
    UNROLL
    for (int i = 0; i < Normaliser<HEADS>::COUNT; ++i) {
        const int head = Deal<HEADS>::head(i / LANE_COLUMNS, i % LANE_COLUMNS / 2) + lane_index() % 4 * 2 + i % 2;
        finish_column(n.maximum[i], n.sum[i], head < p.group);
    }
}

// ---- P

// exp(s·q·k − m) / Z · 2^SHARE_GUARD_BITS of one logit.
template <int HEADS>
DEVICE float find_share(const Normaliser<HEADS>& n, const WarpTokens<HEADS>& tokens, float logit, int slice, int j, int side, float shift) {
    const int column = slice * ScoreTile::LANE_COLUMNS + 2 * j + side;
    return exp2(fma(logit - n.maximum[column], tokens.scale[Deal<HEADS>::token(j)].factor, shift - n.sum[column]));
}

// P of the thread's four rows for each of the warp's tokens, over the heads of one slice, when some of the
// plain sums are not finite: NaN logits are left out, and a sum too large for the guard bits is taken without
// them. NaN where there is no number at all.
template <int HEADS>
DEVICE void sum_carefully(float (&sums)[Deal<HEADS>::TOKENS][ScoreTile::BLOCK_ROWS], const sala_select_blocks_params& p,
                          const Logits& logits, const Normaliser<HEADS>& n, const WarpTokens<HEADS>& tokens, int slice) {
    constexpr int BLOCK_ROWS = ScoreTile::BLOCK_ROWS;
    constexpr int TOKENS = Deal<HEADS>::TOKENS;
    constexpr int TOKEN_PRODUCTS = Deal<HEADS>::TOKEN_PRODUCTS;
    NO_UNROLL
    for (int guarded = 0; guarded < 2; ++guarded) {
        const float shift = guarded ? 0.0f : static_cast<float>(-SHARE_GUARD_BITS);
        float shares[2 * TOKENS * BLOCK_ROWS];  // sums, then numbers counted
        UNROLL
        for (int i = 0; i < TOKENS * BLOCK_ROWS; ++i) {
            float sum = 0.0f;
            float numbers = 0.0f;
            UNROLL
            for (int product = 0; product < TOKEN_PRODUCTS; ++product) {
                const int j = i / BLOCK_ROWS * TOKEN_PRODUCTS + product;
                UNROLL
                for (int side = 0; side < 2; ++side) {
                    const float logit = logits.half[i % BLOCK_ROWS / 2].values[j][i % 2 * 2 + side];
                    const bool real = Deal<HEADS>::head(slice, j) + lane_index() % 4 * 2 + side < p.group;
                    const float share = find_share(n, tokens, logit, slice, j, side, shift);
                    sum += maximum(share, 0.0f);
                    numbers += real && share == share ? 1.0f : 0.0f;
                }
            }
            shares[i] = sum;
            shares[TOKENS * BLOCK_ROWS + i] = numbers;
        }
        reduce_add_each<4>(shares);
        UNROLL
        for (int i = 0; i < TOKENS * BLOCK_ROWS; ++i) {
            float& sum = sums[i / BLOCK_ROWS][i % BLOCK_ROWS];
            const bool fits = guarded != 0 && shares[i] < INFINITE;
            if (guarded == 0 || fits) sum = fits ? shares[i] * SHARE_GUARD : shares[i];
            if (shares[TOKENS * BLOCK_ROWS + i] == 0.0f) sum = bits_float(0x7fc00000u);
        }
    }
}

// P of the thread's four rows for each of the warp's tokens, over the heads of one slice. The four lanes of a
// row agree on the bits.
template <int HEADS>
DEVICE void sum_heads(float (&sums)[Deal<HEADS>::TOKENS][ScoreTile::BLOCK_ROWS], const sala_select_blocks_params& p, const Logits& logits,
                      const Normaliser<HEADS>& n, const WarpTokens<HEADS>& tokens, int slice) {
    constexpr int BLOCK_ROWS = ScoreTile::BLOCK_ROWS;
    constexpr int TOKENS = Deal<HEADS>::TOKENS;
    constexpr int TOKEN_PRODUCTS = Deal<HEADS>::TOKEN_PRODUCTS;
    float shares[TOKENS * BLOCK_ROWS];
    UNROLL
    for (int i = 0; i < TOKENS * BLOCK_ROWS; ++i) {
        shares[i] = 0.0f;
        UNROLL
        for (int product = 0; product < TOKEN_PRODUCTS; ++product) {
            const int j = i / BLOCK_ROWS * TOKEN_PRODUCTS + product;
            UNROLL
            for (int side = 0; side < 2; ++side) {
                shares[i] += find_share(n, tokens, logits.half[i % BLOCK_ROWS / 2].values[j][i % 2 * 2 + side], slice, j, side, 0.0f);
            }
        }
    }
    reduce_add_each<4>(shares);
    bool finite = true;
    UNROLL
    for (int i = 0; i < TOKENS * BLOCK_ROWS; ++i) finite &= shares[i] < INFINITE;
    float careful[TOKENS][BLOCK_ROWS];
    if (!all(finite)) sum_carefully(careful, p, logits, n, tokens, slice);
    UNROLL
    for (int i = 0; i < TOKENS * BLOCK_ROWS; ++i) {
        sums[i / BLOCK_ROWS][i % BLOCK_ROWS] = shares[i] < INFINITE ? shares[i] * SHARE_GUARD : careful[i / BLOCK_ROWS][i % BLOCK_ROWS];
    }
}

// The sum of two slices; NaN only if both are.
DEVICE float add_slices(float a, float b) { return a != a ? b : (b != b ? a : a + b); }

}  // namespace SALA_VARIANT
}  // namespace sala
