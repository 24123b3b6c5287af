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

// How WIDTH columns, those of a warp unless said otherwise, are dealt for groups padded to HEADS. A group larger than that is
// taken in slices of its heads, one after the other; of small groups a product has two tokens, half the lanes each.
template <int HEADS, int WIDTH = ScoreTile::COLUMNS>
struct Deal {
    static constexpr int COLUMNS = WIDTH;
    static constexpr int PRODUCTS = COLUMNS / 8;
    static constexpr int SLICES = HEADS > COLUMNS ? HEADS / COLUMNS : 1;
    static constexpr int TOKENS = HEADS > COLUMNS ? 1 : COLUMNS / HEADS;
    static constexpr int PRODUCT_HEADS = HEADS < 8 ? HEADS : 8;  // heads of a token in a product
    static constexpr int PRODUCT_TOKENS = 8 / PRODUCT_HEADS;
    static constexpr int LANE_TOKENS = TOKENS / PRODUCT_TOKENS;    // tokens that a thread has columns of
    static constexpr int TOKEN_PRODUCTS = PRODUCTS / LANE_TOKENS;  // products of one token in one slice
    static constexpr int LANE_COLUMNS = SLICES * (COLUMNS / 4);    // columns of one thread

    // Which of the thread's tokens a product is for.
    static DEVICE constexpr int lane_token(int product) { return product / TOKEN_PRODUCTS; }
    // Which of the warp's tokens that is, where the thread has column `column` of products.
    static DEVICE int token(int lane_token, int column) {
        return PRODUCT_TOKENS == 1 ? lane_token : lane_token * PRODUCT_TOKENS + column / PRODUCT_HEADS;
    }
    static DEVICE int head(int slice, int product, int column) {
        return slice * COLUMNS + product % TOKEN_PRODUCTS * 8 + (PRODUCT_TOKENS == 1 ? column : column % PRODUCT_HEADS);
    }
};

// The first of the two columns of a product whose sums a thread has.
DEVICE int lane_column() { return lane_index() % 4 * 2; }

// Where a token of the tile stands. One that does not exist, has no keys or is attended densely selects nothing: −1.
DEVICE int selecting_position(const TokenTile& tile, int token) {
    return token < tile.tokens && !tile.sequence.dense ? maximum(tile.position(token), -1) : -1;
}

// The tokens of a warp, and those of them that the thread has columns of.
template <int HEADS>
struct WarpTokens {
    static constexpr int COUNT = Deal<HEADS>::LANE_TOKENS;

    int first;         // index of the first among the tile's tokens
    int all_sum_rows;  // rows that normalise the scores of all
    int position[COUNT];
    int sum_rows[COUNT];  // those that normalise a token's scores
    SignedScale scale[COUNT];
};

template <int HEADS>
DEVICE WarpTokens<HEADS> find_warp_tokens(const sala_select_blocks_params& p, const TokenTile& tile, int sum_stride) {
    WarpTokens<HEADS> tokens;
    tokens.first = warp_index() * Deal<HEADS>::TOKENS;
    tokens.all_sum_rows = INT32_MAX;
    UNROLL
    for (int i = 0; i < Deal<HEADS>::LANE_TOKENS; ++i) {
        const int token = tokens.first + Deal<HEADS>::token(i, lane_column());
        float scale = p.scale;
        if (token < tile.tokens && p.scale_factor != 0) {
            scale *= load_global_constant(entry_of<const float>(p.scale_factor, tile.row(token)));
        }
        tokens.position[i] = selecting_position(tile, token);
        tokens.sum_rows[i] = visible_windows(tokens.position[i], sum_stride);
        tokens.scale[i] = signed_scale(scale);
        tokens.all_sum_rows = minimum(tokens.all_sum_rows, tokens.sum_rows[i]);
    }
    if constexpr (Deal<HEADS>::PRODUCT_TOKENS > 1) tokens.all_sum_rows = -reduce_max<4>(-tokens.all_sum_rows);
    return tokens;
}

// Operand B: the warp's columns of Qᵀ, those of one slice, channels [channel, channel + K).
template <int K, int HEADS>
DEVICE FragmentB<K, ScoreTile::COLUMNS> load_query_columns(const sala_select_blocks_params& p, const TokenTile& tile,
                                                           const WarpTokens<HEADS>& tokens, int slice, int channel) {
    FragmentB<K, ScoreTile::COLUMNS> query;
    const int column = lane_index() / 4;
    UNROLL
    for (int j = 0; j < ScoreTile::PRODUCTS; ++j) {
        const int lane_token = Deal<HEADS>::lane_token(j), token = Deal<HEADS>::token(lane_token, column);
        const int head = Deal<HEADS>::head(slice, j, column);
        uint32_t flip = tokens.scale[lane_token].sign_flip();
        // The token of this column of Q is another one than that of the thread's sums.
        if constexpr (Deal<HEADS>::PRODUCT_TOKENS > 1)
            flip = shuffle(flip, column / Deal<HEADS>::PRODUCT_HEADS * (Deal<HEADS>::PRODUCT_HEADS / 2));
        const bool valid = selecting_position(tile, tokens.first + token) >= 0 && head < p.group;
        // Offsets are formed of columns that do not exist too, and strides may be huge.
        const int64_t head_q = static_cast<int64_t>(block_index_y()) * p.group + (valid ? head : 0);
        const int64_t row = tile.row(valid ? tokens.first + token : 0);
        const auto* pairs = reinterpret_cast<const uint32_t*>(row_of<const uint16_t>(p.q, row, head_q));
        const auto* source = pairs + (channel / 2 + lane_index() % 4);
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
