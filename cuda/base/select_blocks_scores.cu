// Block selection for few query tokens, second of three launches: the scores of blocks of keys.
//
//     P[c]     = Σ_j exp(s·q_j·K1[c] − m_j) / Z_j          m, Z: merged from the pieces of the first launch
//     score[b] = max of P[c], c = 4b − 1 … 4b + 3
//
// Grid: (blocks, kv heads, batch). Rows are taken in pieces of 128, those of 31 blocks of keys after those of the one before, whose
// last row the first needs. A block takes a piece, and those a grid further on: what it finds out about its sequence, queries, m and
// Z, which its warps merge four of a product's heads at a time, it finds out once. A warp copies the 32 rows that it alone
// multiplies, whatever the number of tokens, and waits for nobody else's; the next ones it asks for as soon as it is done with them:
//
//     rows 124x − 4 … 124x + 123     |warp 0: 32 rows|warp 1|warp 2|warp 3|
//     | ask for rows, queries | merge m, Z ■ token 0: product, exp, sum over heads | token 1 | … | ask for rows ■ pool, store | token 0 …
//                                                                                                ■ block barrier
//
// Shared memory (dim 128): 32 KiB, then per token m and Z of its heads (8 bytes each) and P of the rows of two pieces (512 bytes
// each): one is pooled while the next is formed. Limit: latency at batch 1, bytes of K1 beyond (1/31 more than once). 128 registers
// let a multiprocessor hold four blocks, so queries are asked for only when the product before has its own. Dropped: queries a whole
// token ahead, and m and Z always sixteen pieces at a time (two blocks on a multiprocessor, and sums of pieces that do not exist).
//
// Definition: docs/semantics.md#select_blocks
#include "machine/async_copy.cuh"
#include "machine/barrier.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/tile.cuh"
#include "machine/warp.cuh"
#include "params/select_blocks.h"
#include "parts/keys/key_rows.cuh"
#include "parts/keys/sequence.cuh"
#include "parts/keys/windows.cuh"
#include "parts/selection/block_choice.cuh"
#include "parts/selection/block_score.cuh"
#include "parts/selection/score_rows.cuh"
#include "parts/selection/token_heads.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int WARPS = SALA_SELECT_PIECE_WARPS;
constexpr int THREADS = WARPS * WARP_SIZE;
constexpr int PIECE = SALA_SELECT_PIECE;
constexpr int PIECE_BLOCKS = SALA_SELECT_PIECE_BLOCKS;
constexpr int BLOCK_ROWS = ScoreTile::BLOCK_ROWS;
constexpr int PAIR_HEADS = 2 * PRODUCT_HEADS;  // heads of a turn's product
using Float2 = Vector<float, 2>;

// Followed by the tokens' m and Z, four threads' shares of each product, and by P of the rows of two pieces.
template <int DIM>
struct ScoresPlan {
    uint16_t rows[PIECE * DIM];
};

struct ScoresShared {
    uint32_t sums, shares;
    int products;
    uint32_t share_bytes;  // of P of a piece
    uint32_t side;         // 0, or share_bytes: those of two pieces in turn lie side by side

    DEVICE uint32_t sum(int token, int product) const {
        return sums + static_cast<uint32_t>((token * products + product) * 4 + lane_index() % 4) * sizeof(Float4);
    }
    DEVICE uint32_t share(int token, int row) const { return shares + side + static_cast<uint32_t>(token * PIECE + row) * sizeof(float); }
    DEVICE void change_side() { side = share_bytes - side; }
};

// Adds m and Z of a head in AHEAD pieces, `step` apart, of which `pieces` exist. All loads are under way at once.
template <int AHEAD>
DEVICE void add_pieces(float& most, float& sum, const Float2* source, int step, int pieces, float factor) {
    Float2 piece[AHEAD];
    UNROLL
    for (int i = 0; i < AHEAD; ++i) {
        piece[i] = {{LOWEST, 0.0f}};
        if (i < pieces) piece[i] = load_global_constant(source + i * step);
    }
    UNROLL
    for (int i = 0; i < AHEAD; ++i) add_piece(most, sum, piece[i][0], piece[i][1], factor);
}

// Merges m and Z of one of the two heads of a product that a thread has, over the pieces of the token's rows.
DEVICE Float2 merge_pieces(const sala_select_split_params& split, int token, int product, int side, int pieces, float factor) {
    constexpr int SHARERS = 8;
    constexpr int FEW = 4, MANY = 16;  // of a thread: those that do not exist take time too
    float most[1] = {LOWEST};
    float sum[1] = {0.0f};
    const int own = lane_index() / 4;
    const auto* source = reinterpret_cast<const Float2*>(sums_of(split, token, own, product)) + side;
    const int step = SHARERS * split.heads_padded;  // from a thread's piece to its next
    const int own_pieces = ceil_div(pieces - own, SHARERS);
    if (pieces <= FEW * SHARERS) {
        add_pieces<FEW>(most[0], sum[0], source, step, own_pieces, factor);
    } else {
        NO_UNROLL
        for (int first = 0; first < own_pieces; first += MANY) {
            add_pieces<MANY>(most[0], sum[0], source + first * step, step, own_pieces - first, factor);
        }
    }
    merge_lanes(most, sum, [&](int) { return factor; });
    const int head = product * PRODUCT_HEADS + lane_index() % 4 * 2 + side;
    finish_column(most[0], sum[0], head < split.select.group);
    return {{most[0], sum[0]}};
}

// The query heads of products, one product after the other: a token's, the next token's, and where it goes around after the last
// one's the first one's again. They are asked for as soon as the product before has its own.
template <int DIM>
struct QueryWalk {
    const sala_select_blocks_params& p;
    int64_t first_query;
    int tokens;
    bool goes_around;
    int token, head;
    FragmentB<DIM, PAIR_HEADS> query;

    DEVICE void load(int row, int first) { query = load_query_heads<DIM, PAIR_HEADS>(p, first_query + row, first); }
    DEVICE void load_next() { load(token, head); }
    DEVICE void advance() {
        if (tokens == 1 && p.group <= PAIR_HEADS) return;
        head += PAIR_HEADS;
        if (head >= p.group) {
            head = 0;
            token = token + 1 < tokens ? token + 1 : 0;
            if (token == 0 && !goes_around) return;
        }
        load_next();
    }
};

// A token, as the products of one slice take it.
struct SliceToken {
    int token, slice;
    SignedScale scale;
};

// Sums of the thread's four rows over the heads of a slice, shares formed with `shift`. With COUNTED, NaN is left out, and
// numbers are counted; the walk stays where it is.
template <class T, bool COUNTED, int DIM>
DEVICE void add_heads(float (&shares)[BLOCK_ROWS], float (&numbers)[BLOCK_ROWS], const sala_select_blocks_params& p, SharedTile<DIM> tile,
                      const ScoresShared& shared, const SliceToken& own, QueryWalk<DIM>& walk, float shift) {
    constexpr int SLICE = ScoreTile::COLUMNS;
    UNROLL
    for (int i = 0; i < BLOCK_ROWS; ++i) shares[i] = numbers[i] = 0.0f;
    NO_UNROLL
    for (int head = own.slice * SLICE; head < minimum(p.group, (own.slice + 1) * SLICE); head += PAIR_HEADS) {
        if (COUNTED) walk.load(own.token, head);
        const auto logits = find_head_logits<T>(tile, warp_index(), signed_query(walk.query, own.scale));
        if (!COUNTED) walk.advance();
        UNROLL
        for (int product = 0; product < 2; ++product) {
            const int index = head / PRODUCT_HEADS + product;
            if (index >= shared.products) break;
            const Float4 sums = load_shared<Float4>(shared.sum(own.token, index));
            UNROLL
            for (int side = 0; side < 2; ++side) {
                UNROLL
                for (int i = 0; i < BLOCK_ROWS; ++i) {
                    const float logit = logits.half[i / 2].values[product][i % 2 * 2 + side];
                    const float share = exp2(fma(logit - sums[2 * side], own.scale.factor, shift - sums[2 * side + 1]));
                    if (!COUNTED) shares[i] += share;
                    if (COUNTED) {
                        const bool real = index * PRODUCT_HEADS + lane_index() % 4 * 2 + side < p.group;
                        shares[i] += maximum(share, 0.0f);
                        numbers[i] += real && share == share ? 1.0f : 0.0f;
                    }
                }
            }
        }
    }
    reduce_add_each<4>(shares);
    if (COUNTED) reduce_add_each<4>(numbers);
}

// P of the thread's four rows of its warp's turn; as sum_heads and sum_carefully have it.
template <class T, int DIM>
DEVICE void find_shares(float (&sums)[BLOCK_ROWS], const sala_select_blocks_params& p, SharedTile<DIM> tile, const ScoresShared& shared,
                        const SliceToken& own, QueryWalk<DIM>& walk) {
    float shares[BLOCK_ROWS], numbers[BLOCK_ROWS];
    add_heads<T, false>(shares, numbers, p, tile, shared, own, walk, 0.0f);
    bool finite = true;
    UNROLL
    for (int i = 0; i < BLOCK_ROWS; ++i) {
        finite &= shares[i] < INFINITE;
        sums[i] = shares[i] * SHARE_GUARD;
    }
    if (all(finite)) return;
    float careful[BLOCK_ROWS];
    NO_UNROLL
    for (int guarded = 0; guarded < 2; ++guarded) {
        float again[BLOCK_ROWS];
        add_heads<T, true>(again, numbers, p, tile, shared, own, walk, guarded ? 0.0f : static_cast<float>(-SHARE_GUARD_BITS));
        UNROLL
        for (int i = 0; i < BLOCK_ROWS; ++i) {
            const bool fits = guarded != 0 && again[i] < INFINITE;
            if (guarded == 0 || fits) careful[i] = fits ? again[i] * SHARE_GUARD : again[i];
            if (numbers[i] == 0.0f) careful[i] = bits_float(0x7fc00000u);
        }
    }
    walk.load_next();
    UNROLL
    for (int i = 0; i < BLOCK_ROWS; ++i) sums[i] = shares[i] < INFINITE ? sums[i] : careful[i];
}

// Scores of a piece's blocks of keys, from P of its rows.
DEVICE void store_scores(const sala_select_split_params& split, const SequenceRange& sequence, const ScoresShared& shared, int piece) {
    const sala_select_blocks_params& p = split.select;
    NO_UNROLL
    for (int item = thread_index(); item < sequence.queries * PIECE_BLOCKS; item += THREADS) {
        const int token = item / PIECE_BLOCKS;
        const int block = piece * PIECE_BLOCKS + item % PIECE_BLOCKS;
        float score = -INFINITE;
        UNROLL
        for (int i = -1; i < BLOCK_ROWS; ++i) {
            score = maximum(score, load_shared<float>(shared.share(token, (item % PIECE_BLOCKS + 1) * BLOCK_ROWS + i)));
        }
        score = flush_score(score);
        if (block < split.blocks) store_global(block_scores_of(split, token) + block, score);
        if (p.scores.address != 0 && block < p.score_blocks) {
            store_global(row_of<float>(p.scores, sequence.first_query + token, block_index_y()) + block, score);
        }
    }
}

template <class T, int DIM>
DEVICE void select_blocks_scores(const sala_select_split_params& split) {
    constexpr int PIECE_STEP = PIECE_BLOCKS * BLOCK_ROWS;  // rows from one piece to the next
    static_assert(PIECE == WARPS * ScoreTile::TURN, "each warp copies the rows of its own turn");
    const sala_select_blocks_params& p = split.select;
    const SequenceRange sequence = take_tokens(split, find_sequence(p.sequences, sequence_index(split)));
    if (sequence.refusal != REFUSED_NOTHING || sequence.dense || sequence.queries == 0) return;
    const TokenRows needed = find_rows_of_all(split, sequence);
    int piece = needed.score_begin / PIECE_STEP + block_index_x();
    const int end = ceil_div(needed.score_end, PIECE_STEP);
    if (piece >= end) return;

    const TokenScales scales = load_scales(p, sequence);
    const Products products(split);
    const uint32_t sum_bytes = static_cast<uint32_t>(split.tokens * products.of_token) * 4 * sizeof(Float4);
    const uint32_t share_bytes = static_cast<uint32_t>(split.tokens * PIECE) * sizeof(float);
    auto& plan = dynamic_shared<ScoresPlan<DIM>>(sum_bytes + 2 * share_bytes);
    const uint32_t tail = shared_address(&plan + 1);
    ScoresShared shared{tail, tail + sum_bytes, products.of_token, share_bytes, 0};
    const SharedTile<DIM> tile{shared_address(plan.rows)};
    const KeyRows k1 = find_key_rows(p.k1, sequence.keys, sequence_index(split), block_index_y(), 1 << score_shift(p));
    const auto count_rows = [&](int token, int shift) { return full_windows_by_shift(end_of_past(split.trees, sequence, token), shift); };
    const NeededRows rows{k1, needed.score_begin, minimum(needed.score_end, count_rows(sequence.queries - 1, score_shift(p)))};
    const auto first_row_of = [&](int piece) { return piece * PIECE_STEP - BLOCK_ROWS; };
    const auto load_piece = [&](int piece) {
        load_rows<WARPS, PIECE>(tile, rows, first_row_of(piece), p.status);
        async_copy_commit();
    };
    load_piece(piece);

    // Queries are asked for while the rows come.
    QueryWalk<DIM> walk{p, sequence.first_query, sequence.queries, false, 0, 0, {}};
    walk.load_next();
    NO_UNROLL
    for (int item = warp_index(); item < 2 * sequence.queries * products.of_token; item += WARPS) {
        const int token = products.token(item / 2);
        const int product = products.product(item / 2);
        const int pieces = ceil_div(count_rows(token, sum_shift(p)), PIECE);
        const Float2 sums = merge_pieces(split, token, product, item % 2, pieces, scales.of(token).factor);
        if (lane_index() < 4) store_shared(shared.sum(token, product) + static_cast<uint32_t>(item % 2) * sizeof(Float2), sums);
    }
    sync_block();  // m and Z are in shared memory

    while (true) {
        const int next = piece + grid_size_x();
        walk.goes_around = next < end;
        async_copy_wait<0>();
        sync_warp();  // the warp's rows are in shared memory
        NO_UNROLL
        for (int token = 0; token < sequence.queries; ++token) {
            float sums[BLOCK_ROWS];
            const SignedScale scale = scales.of(token);
            find_shares<T>(sums, p, tile, shared, {token, 0, scale}, walk);
            if (p.group > ScoreTile::COLUMNS) {
                float more[BLOCK_ROWS];
                find_shares<T>(more, p, tile, shared, {token, 1, scale}, walk);
                UNROLL
                for (int i = 0; i < BLOCK_ROWS; ++i) sums[i] = add_slices(sums[i], more[i]);
            }
            const int visible = count_rows(token, score_shift(p));
            Float4 mine;
            UNROLL
            for (int i = 0; i < BLOCK_ROWS; ++i) {
                const int row = warp_index() * ScoreTile::TURN + turn_row(i / 2, i % 2 * 2);
                const int index = first_row_of(piece) + row;
                mine[i] = 0 <= index && index < visible ? sums[i] : -INFINITE;
            }
            if (lane_index() % 4 == 0) store_shared(shared.share(token, warp_index() * ScoreTile::TURN + turn_row(0, 0)), mine);
        }
        sync_warp();  // the warp has read its rows
        if (next < end) load_piece(next);
        sync_block();  // P of all rows is in shared memory
        store_scores(split, sequence, shared, piece);
        if (next >= end) break;
        piece = next;
        shared.change_side();
    }
}

#define INSTANCE(name, T, DIM) \
    KERNEL(name, sala_select_split_params, THREADS, 4) { select_blocks_scores<T, DIM>(p); }
#include "instances/select_blocks_scores.h"

}  // namespace SALA_VARIANT
}  // namespace sala
