// The columns of block scores: the query heads of a warp's tokens, how they are dealt to products and
// threads, and how Q becomes operand B of them.
#pragma once

#include "machine/element.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/tile.cuh"
#include "params/select_blocks.h"
#include "parts/keys/rows.cuh"
#include "parts/keys/token_tile.cuh"
#include "parts/keys/windows.cuh"
#include "parts/signed_scale.cuh"

namespace sala {
inline namespace SALA_VARIANT {

struct ScoreTile {
    static constexpr int COLUMNS = SALA_SELECT_COLUMNS;    // columns of a warp
    static constexpr int PRODUCTS = COLUMNS / 8;           // a product has 8 columns
    static constexpr int LANE_COLUMNS = 2 * PRODUCTS;      // columns of one thread
    static constexpr int BLOCK_ROWS = SALA_BLOCK_ROWS;     // rows of K1 from one block of keys to the next
    static constexpr int TURN_BLOCKS = 8;                  // a warp takes rows in turns of so many blocks of keys
    static constexpr int TURN = TURN_BLOCKS * BLOCK_ROWS;  // rows of a turn
    static constexpr int TURN_HALF = TURN / 2;             // rows of one product
};

// How the columns of a warp are dealt, for groups padded to HEADS. A group larger than the warp's columns is
// taken in slices of its heads, one after the other.
template <int HEADS>
struct Deal {
    static constexpr int COLUMNS = ScoreTile::COLUMNS;
    static constexpr int SLICES = HEADS > COLUMNS ? HEADS / COLUMNS : 1;
    static constexpr int TOKENS = HEADS > COLUMNS ? 1 : COLUMNS / HEADS;  // tokens of a warp
    static constexpr int TOKEN_PRODUCTS = ScoreTile::PRODUCTS / TOKENS;   // products of one token in one slice

    static DEVICE constexpr int token(int product) { return product / TOKEN_PRODUCTS; }
    static DEVICE constexpr int head(int slice, int product) { return slice * COLUMNS + product % TOKEN_PRODUCTS * 8; }
};

// The tokens of a warp. Tokens that do not exist, have no keys or are attended densely select nothing.
template <int HEADS>
struct WarpTokens {
    int first;                          // index of the first among the tile's tokens
    int position[Deal<HEADS>::TOKENS];  // −1: nothing to select from
    int sum_rows[Deal<HEADS>::TOKENS];  // rows that normalise a token's scores
    int all_sum_rows;                   // those that normalise the scores of all
    SignedScale scale[Deal<HEADS>::TOKENS];
};

template <int HEADS>
DEVICE WarpTokens<HEADS> find_warp_tokens(const sala_select_blocks_params& p, const TokenTile& tile, int sum_stride) {
    WarpTokens<HEADS> tokens;
    tokens.first = warp_index() * Deal<HEADS>::TOKENS;
    UNROLL
    for (int i = 0; i < Deal<HEADS>::TOKENS; ++i) {
        const int token = tokens.first + i;
        const bool exists = token < tile.tokens;
        float scale = p.scale;
        if (exists && p.scale_factor != 0) scale *= load_global_constant(entry_of<const float>(p.scale_factor, tile.row(token)));
        tokens.position[i] = exists && !tile.sequence.dense ? maximum(tile.position(token), -1) : -1;
        tokens.sum_rows[i] = visible_windows(tokens.position[i], sum_stride);
        tokens.scale[i] = signed_scale(scale);
        tokens.all_sum_rows = i == 0 ? tokens.sum_rows[0] : minimum(tokens.all_sum_rows, tokens.sum_rows[i]);
    }
    return tokens;
}

// Operand B: the warp's columns of Qᵀ, those of one slice, channels [channel, channel + K).
template <int K, int HEADS>
DEVICE FragmentB<K, ScoreTile::COLUMNS> load_query_columns(const sala_select_blocks_params& p, const TokenTile& tile,
                                                           const WarpTokens<HEADS>& tokens, int slice, int channel) {
    FragmentB<K, ScoreTile::COLUMNS> query;
    UNROLL
    for (int j = 0; j < ScoreTile::PRODUCTS; ++j) {
        const int token = Deal<HEADS>::token(j);
        const int head = Deal<HEADS>::head(slice, j) + lane_index() / 4;
        const bool valid = tokens.position[token] >= 0 && head < p.group;
        // Offsets are formed of columns that do not exist too, and strides may be huge.
        const int64_t head_q = static_cast<int64_t>(block_index_y()) * p.group + (valid ? head : 0);
        const int64_t row = tile.row(valid ? tokens.first + token : 0);
        const auto* pairs = reinterpret_cast<const uint32_t*>(row_of<const uint16_t>(p.q, row, head_q));
        const auto* source = pairs + (channel / 2 + lane_index() % 4);
        const uint32_t flip = tokens.scale[token].sign_flip();
        UNROLL
        for (int i = 0; i < K / 8; ++i) {
            const uint32_t pair = valid ? load_global_constant(source + 4 * i) : 0;
            query.registers[i / 2][j][i % 2] = pair ^ flip;
        }
    }
    return query;
}

}  // namespace SALA_VARIANT
}  // namespace sala
