// The arithmetic of block scores: from the logits of compressed keys to the share P of each row in its token's attention.
//
//     m_j, Z_j = max and Σ exp of s·q_j·C[c]          P[c] = Σ_j exp(s·q_j·K1[c] − m_j) / Z_j          j: the heads of a group
//
// Rows are compressed keys, columns the heads of a warp's tokens; a thread holds all four rows of one block for eight columns, so most of a sum over
// heads and all of a maximum over rows stay within it.
#pragma once

#include "../../include/kernel_params.h"
#include "machine.cuh"
#include "math.cuh"
#include "tile.cuh"
#include "warp.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int TURN = 32;       // rows that a warp takes at a time: 8 blocks
constexpr int BLOCK_ROWS = 4;  // rows of K1 from one block to the next
constexpr int COLUMNS = 32;    // of a warp
constexpr int TILES = COLUMNS / 8;
constexpr int LANE_COLUMNS = 2 * TILES;  // of one thread

constexpr int GUARD_BITS = 24;  // P is formed as 2^GUARD_BITS · P
constexpr float GUARD = 1.0f / (1 << GUARD_BITS);

// How the columns of a warp are dealt, for groups padded to HEADS.
template <int HEADS>
struct Deal {
    static constexpr int CHUNKS = HEADS > COLUMNS ? HEADS / COLUMNS : 1;  // turns over the columns for each row
    static constexpr int TOKENS = HEADS > COLUMNS ? 1 : COLUMNS / HEADS;  // of a warp
    static constexpr int TOKEN_TILES = TILES / TOKENS;                    // 8-column tiles of a token, in one chunk

    static DEVICE constexpr int token(int tile) { return tile / TOKEN_TILES; }
    static DEVICE constexpr int head(int chunk, int tile) { return chunk * COLUMNS + tile % TOKEN_TILES * 8; }
};

// Full windows of K1 (K2) that end at or before position p; stride is that of K1 (K2).
DEVICE int visible_rows(int position, int stride) { return maximum((position + 1) / stride - 1, 0); }

// The row, of those of a turn, that element e of the turn's accumulator `half` stands for.
DEVICE int row_of(int half, int e) { return lane_index() / 4 * BLOCK_ROWS + half * 2 + e / 2; }

// The tokens of a warp.
template <int HEADS>
struct Tokens {
    int first;                          // of the block's tokens
    int position[Deal<HEADS>::TOKENS];  // −1: no such token, or one without keys
    float factor[Deal<HEADS>::TOKENS];  // |scale| · log2 e, above zero
    bool negated[Deal<HEADS>::TOKENS];  // the scale is negative: Q is taken as −Q
};

// The logits of a turn's 32 rows (see row_of) × the warp's columns, without scale.
struct Logits {
    Accumulator<COLUMNS> half[2];
};

// ---- m and Z

// For each of the thread's columns. While rows pass by, each thread has those of its own rows; afterwards all have the whole.
template <int HEADS>
struct Normaliser {
    static constexpr int COUNT = Deal<HEADS>::CHUNKS * LANE_COLUMNS;

    float maximum[COUNT];  // of the logits without scale
    float sum[COUNT];      // later log2 of what P is divided by, less GUARD_BITS
};

template <int HEADS>
DEVICE void start_sums(Normaliser<HEADS>& n) {
    UNROLL
    for (int i = 0; i < Normaliser<HEADS>::COUNT; ++i) {
        n.maximum[i] = LOWEST;
        n.sum[i] = 0.0f;
    }
}

// Adds the rows of a turn, from row0 on. A NaN logit adds nothing: maximum() drops it.
template <int HEADS>
DEVICE void add_to_sums(Normaliser<HEADS>& n, const Logits& logits, const Tokens<HEADS>& tokens, int row0, int chunk, int stride) {
    UNROLL
    for (int j = 0; j < TILES; ++j) {
        const int token = Deal<HEADS>::token(j);
        const int visible = visible_rows(tokens.position[token], stride) - row0;
        UNROLL
        for (int side = 0; side < 2; ++side) {
            const int column = chunk * LANE_COLUMNS + 2 * j + side;
            float x[BLOCK_ROWS];
            float largest = n.maximum[column];
            UNROLL
            for (int i = 0; i < BLOCK_ROWS; ++i) {
                const int e = i % 2 * 2 + side;
                x[i] = row_of(i / 2, e) < visible ? logits.half[i / 2].values[j][e] : -INFINITE;
                largest = maximum(largest, x[i]);
            }
            if (largest > n.maximum[column]) {
                n.sum[column] *= exp2(tokens.factor[token] * (n.maximum[column] - largest));
                n.maximum[column] = largest;
            }
            UNROLL
            for (int i = 0; i < BLOCK_ROWS; ++i) {
                n.sum[column] += maximum(exp2(tokens.factor[token] * (x[i] - largest)), 0.0f);
            }
        }
    }
}

// Merges the threads' sums. A column without a number, and one that pads the group, gets a divisor of infinity: its P is 0.
template <int HEADS>
DEVICE void finish_sums(Normaliser<HEADS>& n, const sala_select_blocks_params& p, const Tokens<HEADS>& tokens) {
    constexpr int COUNT = Normaliser<HEADS>::COUNT;
    float own[COUNT];
    UNROLL
    for (int i = 0; i < COUNT; ++i) own[i] = n.maximum[i];
    reduce_max_each<8, 4>(n.maximum);
    UNROLL
    for (int i = 0; i < COUNT; ++i) {
        const int token = Deal<HEADS>::token(i % LANE_COLUMNS / 2);
        n.sum[i] *= exp2(tokens.factor[token] * (own[i] - n.maximum[i]));
    }
    reduce_add_each<8, 4>(n.sum);
    UNROLL
    for (int i = 0; i < COUNT; ++i) {
        const int head = Deal<HEADS>::head(i / LANE_COLUMNS, i % LANE_COLUMNS / 2) + lane_index() % 4 * 2 + i % 2;
        const bool counts = head < p.group && n.sum[i] != 0.0f;
        n.maximum[i] = counts ? n.maximum[i] : 0.0f;
        n.sum[i] = counts ? log2(n.sum[i]) - GUARD_BITS : INFINITE;
    }
}

// ---- P

// exp(s·q·k − m) / Z · 2^GUARD_BITS of one logit.
template <int HEADS>
DEVICE float find_share(const Normaliser<HEADS>& n, const Tokens<HEADS>& tokens, float logit, int chunk, int j, int side, float shift) {
    const int column = chunk * LANE_COLUMNS + 2 * j + side;
    return exp2(fma(logit - n.maximum[column], tokens.factor[Deal<HEADS>::token(j)], shift - n.sum[column]));
}

// P of the thread's four rows for each of the warp's tokens, over the heads of one chunk, when some of the plain sums are not finite: NaN logits are
// left out, and a sum too large for the guard bits is taken without them. NaN where there is no number at all.
template <int HEADS>
DEVICE void sum_carefully(float (&sums)[Deal<HEADS>::TOKENS][BLOCK_ROWS], const sala_select_blocks_params& p, const Logits& logits,
                          const Normaliser<HEADS>& n, const Tokens<HEADS>& tokens, int chunk) {
    constexpr int TOKENS = Deal<HEADS>::TOKENS;
    constexpr int TOKEN_TILES = Deal<HEADS>::TOKEN_TILES;
    NO_UNROLL
    for (int guarded = 0; guarded < 2; ++guarded) {
        const float shift = guarded ? 0.0f : static_cast<float>(-GUARD_BITS);
        float shares[2 * TOKENS * BLOCK_ROWS];  // sums, then numbers counted
        UNROLL
        for (int i = 0; i < TOKENS * BLOCK_ROWS; ++i) {
            float sum = 0.0f;
            float numbers = 0.0f;
            UNROLL
            for (int tile = 0; tile < TOKEN_TILES; ++tile) {
                const int j = i / BLOCK_ROWS * TOKEN_TILES + tile;
                UNROLL
                for (int side = 0; side < 2; ++side) {
                    const float logit = logits.half[i % BLOCK_ROWS / 2].values[j][i % 2 * 2 + side];
                    const bool real = Deal<HEADS>::head(chunk, j) + lane_index() % 4 * 2 + side < p.group;
                    const float share = find_share(n, tokens, logit, chunk, j, side, shift);
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
            if (guarded == 0 || fits) sum = fits ? shares[i] * GUARD : shares[i];
            if (shares[TOKENS * BLOCK_ROWS + i] == 0.0f) sum = bits_float(0x7fc00000u);
        }
    }
}

// P of the thread's four rows for each of the warp's tokens, over the heads of one chunk. The four lanes of a row agree on the bits.
template <int HEADS>
DEVICE void sum_heads(float (&sums)[Deal<HEADS>::TOKENS][BLOCK_ROWS], const sala_select_blocks_params& p, const Logits& logits,
                      const Normaliser<HEADS>& n, const Tokens<HEADS>& tokens, int chunk) {
    constexpr int TOKENS = Deal<HEADS>::TOKENS;
    constexpr int TOKEN_TILES = Deal<HEADS>::TOKEN_TILES;
    float shares[TOKENS * BLOCK_ROWS];
    UNROLL
    for (int i = 0; i < TOKENS * BLOCK_ROWS; ++i) {
        shares[i] = 0.0f;
        UNROLL
        for (int tile = 0; tile < TOKEN_TILES; ++tile) {
            const int j = i / BLOCK_ROWS * TOKEN_TILES + tile;
            UNROLL
            for (int side = 0; side < 2; ++side) {
                shares[i] += find_share(n, tokens, logits.half[i % BLOCK_ROWS / 2].values[j][i % 2 * 2 + side], chunk, j, side, 0.0f);
            }
        }
    }
    reduce_add_each<4>(shares);
    bool finite = true;
    UNROLL
    for (int i = 0; i < TOKENS * BLOCK_ROWS; ++i) finite &= shares[i] < INFINITE;
    float careful[TOKENS][BLOCK_ROWS];
    if (!all(finite)) sum_carefully(careful, p, logits, n, tokens, chunk);
    UNROLL
    for (int i = 0; i < TOKENS * BLOCK_ROWS; ++i) {
        sums[i / BLOCK_ROWS][i % BLOCK_ROWS] = shares[i] < INFINITE ? shares[i] * GUARD : careful[i / BLOCK_ROWS][i % BLOCK_ROWS];
    }
}

// The sum of two chunks; NaN only if both are.
DEVICE float add_chunks(float a, float b) { return a != a ? b : (b != b ? a : a + b); }

}  // namespace SALA_VARIANT
}  // namespace sala
