// Block selection for few query tokens, second of three launches: the scores of blocks of keys.
//
//     P[c]     = Σ_j exp(s·q_j·K1[c] − m_j) / Z_j          m, Z: merged from the pieces of the first launch
//     score[b] = max of P[c], c = 4b − 1 … 4b + 3
//
// Grid: (31 blocks of keys, kv heads, batch). A block loads 128 rows of K1 once, whatever the number of tokens: those of
// its 31 blocks of keys, after those of the one before, whose last row the first needs. Meanwhile its warps ask for the first
// token's query heads and merge the pieces' m and Z, four of a product's heads at a time; then each takes a turn of 32 rows,
// token after token, and scores go to the workspace:
//
//     rows 124x − 4 … 124x + 123     |warp 0: 32 rows|warp 1|warp 2|warp 3|
//     | load ────────────────────▶■ token 0: product, exp, sum over heads | token 1 | … ■ pool, store          ■ block barrier
//     | merge m, Z of all tokens  ■
//
// Shared memory (dim 128): 32 KiB, then per token m and Z of its heads (8 bytes each) and P of the rows (512 bytes).
// Limit: latency at batch 1, bytes of K1 beyond (1/31 more than once).
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

template <int DIM>
using PairQuery = FragmentB<DIM, PAIR_HEADS>;

// Followed by the tokens' m and Z, four threads' shares of each product, and by P of their rows.
template <int DIM>
struct ScoresPlan {
    uint16_t rows[PIECE * DIM];
};

struct ScoresShared {
    uint32_t sums, shares;
    int products;

    DEVICE uint32_t sum(int token, int product) const {
        return sums + static_cast<uint32_t>((token * products + product) * 4 + lane_index() % 4) * sizeof(Float4);
    }
    DEVICE uint32_t share(int token, int row) const { return shares + static_cast<uint32_t>(token * PIECE + row) * sizeof(float); }
};

// Merges m and Z of one of the two heads of a product that a thread has, over the pieces of the token's rows.
DEVICE Float2 merge_pieces(const sala_select_split_params& split, int token, int product, int side, int pieces, float factor) {
    constexpr int AHEAD = 16;  // loads under way
    constexpr int SHARERS = 8;
    float most[1] = {LOWEST};
    float sum[1] = {0.0f};
    const int own = lane_index() / 4;
    const auto* source = reinterpret_cast<const Float2*>(sums_of(split, token, own, product)) + side;
    const int step = SHARERS * split.heads_padded;  // from a thread's piece to its next
    NO_UNROLL
    for (int first = own; first < pieces; first += SHARERS * AHEAD) {
        Float2 piece[AHEAD];
        UNROLL
        for (int i = 0; i < AHEAD; ++i) {
            piece[i] = {{LOWEST, 0.0f}};
            if (first + SHARERS * i < pieces) piece[i] = load_global_constant(source + i * step);
        }
        source += AHEAD * step;
        UNROLL
        for (int i = 0; i < AHEAD; ++i) add_piece(most[0], sum[0], piece[i][0], piece[i][1], factor);
    }
    merge_lanes(most, sum, [&](int) { return factor; });
    const int head = product * PRODUCT_HEADS + lane_index() % 4 * 2 + side;
    finish_column(most[0], sum[0], head < split.select.group);
    return {{most[0], sum[0]}};
}

// A token, as the products of one slice take it.
template <int DIM>
struct SliceToken {
    int token, slice;
    int64_t row;  // in q
    SignedScale scale;
    PairQuery<DIM> query;  // its first heads
};

// Sums of the thread's four rows over the heads of a slice, shares formed with `shift`. With COUNTED, NaN is left out, and
// numbers are counted.
template <class T, bool COUNTED, int DIM>
DEVICE void add_heads(float (&shares)[BLOCK_ROWS], float (&numbers)[BLOCK_ROWS], const sala_select_blocks_params& p, SharedTile<DIM> tile,
                      const ScoresShared& shared, const SliceToken<DIM>& own, float shift) {
    constexpr int SLICE = ScoreTile::COLUMNS;
    UNROLL
    for (int i = 0; i < BLOCK_ROWS; ++i) shares[i] = numbers[i] = 0.0f;
    PairQuery<DIM> query = own.query;
    NO_UNROLL
    for (int head = own.slice * SLICE; head < minimum(p.group, (own.slice + 1) * SLICE); head += PAIR_HEADS) {
        if (head > own.slice * SLICE) query = load_query_heads<DIM, PAIR_HEADS>(p, own.row, head);
        const auto logits = find_head_logits<T>(tile, warp_index(), signed_query(query, own.scale));
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
                        const SliceToken<DIM>& own) {
    float shares[BLOCK_ROWS], numbers[BLOCK_ROWS];
    add_heads<T, false>(shares, numbers, p, tile, shared, own, 0.0f);
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
        add_heads<T, true>(again, numbers, p, tile, shared, own, guarded ? 0.0f : static_cast<float>(-SHARE_GUARD_BITS));
        UNROLL
        for (int i = 0; i < BLOCK_ROWS; ++i) {
            const bool fits = guarded != 0 && again[i] < INFINITE;
            if (guarded == 0 || fits) careful[i] = fits ? again[i] * SHARE_GUARD : again[i];
            if (numbers[i] == 0.0f) careful[i] = bits_float(0x7fc00000u);
        }
    }
    UNROLL
    for (int i = 0; i < BLOCK_ROWS; ++i) sums[i] = shares[i] < INFINITE ? sums[i] : careful[i];
}

template <class T, int DIM>
DEVICE void select_blocks_scores(const sala_select_split_params& split) {
    const sala_select_blocks_params& p = split.select;
    const SequenceRange sequence = take_tokens(split, find_sequence(p.sequences, sequence_index(split)));
    if (sequence.refusal != REFUSED_NOTHING || sequence.dense || sequence.queries == 0) return;
    const int first_block = block_index_x() * PIECE_BLOCKS;
    const int first_row = (first_block - 1) * BLOCK_ROWS;
    const TokenRows needed = find_rows_of_all(split, sequence);
    if (first_row + PIECE <= needed.score_begin || first_block * BLOCK_ROWS >= needed.score_end) return;

    const TokenScales scales = load_scales(p, sequence);
    const Products products(split);
    const uint32_t sum_bytes = static_cast<uint32_t>(split.tokens * products.of_token) * 4 * sizeof(Float4);
    auto& plan = dynamic_shared<ScoresPlan<DIM>>(sum_bytes + static_cast<uint32_t>(split.tokens * PIECE) * sizeof(float));
    const uint32_t tail = shared_address(&plan + 1);
    const ScoresShared shared{tail, tail + sum_bytes, products.of_token};
    const SharedTile<DIM> tile{shared_address(plan.rows)};
    const KeyRows k1 = find_key_rows(p.k1, sequence.keys, sequence_index(split), block_index_y(), 1 << score_shift(p));
    const auto count_rows = [&](int token, int shift) { return full_windows_by_shift(end_of_past(split.trees, sequence, token), shift); };
    const int score_end = minimum(needed.score_end, count_rows(sequence.queries - 1, score_shift(p)));
    load_rows<WARPS, PIECE>(tile, NeededRows{k1, needed.score_begin, score_end}, first_row, p.status);
    async_copy_commit();

    // Queries are asked for while the rows come.
    const auto load_query = [&](int token, int slice) {
        return load_query_heads<DIM, PAIR_HEADS>(p, sequence.first_query + token, slice * ScoreTile::COLUMNS);
    };
    PairQuery<DIM> query = load_query(0, 0);
    NO_UNROLL
    for (int item = warp_index(); item < 2 * sequence.queries * products.of_token; item += WARPS) {
        const int token = products.token(item / 2);
        const int product = products.product(item / 2);
        const int pieces = ceil_div(count_rows(token, sum_shift(p)), PIECE);
        const Float2 sums = merge_pieces(split, token, product, item % 2, pieces, scales.of(token).factor);
        if (lane_index() < 4) store_shared(shared.sum(token, product) + static_cast<uint32_t>(item % 2) * sizeof(Float2), sums);
    }
    async_copy_wait<0>();
    sync_block();  // the rows, m and Z are in shared memory

    NO_UNROLL
    for (int token = 0; token < sequence.queries; ++token) {
        float sums[BLOCK_ROWS];
        const SliceToken<DIM> own{token, 0, sequence.first_query + token, scales.of(token), query};
        if (token + 1 < sequence.queries) query = load_query(token + 1, 0);
        find_shares<T>(sums, p, tile, shared, own);
        if (p.group > ScoreTile::COLUMNS) {
            float more[BLOCK_ROWS];
            find_shares<T>(more, p, tile, shared, {token, 1, own.row, own.scale, load_query(token, 1)});
            UNROLL
            for (int i = 0; i < BLOCK_ROWS; ++i) sums[i] = add_slices(sums[i], more[i]);
        }
        const int visible = count_rows(token, score_shift(p));
        Float4 mine;
        UNROLL
        for (int i = 0; i < BLOCK_ROWS; ++i) {
            const int row = warp_index() * ScoreTile::TURN + turn_row(i / 2, i % 2 * 2);
            const int index = first_row + row;
            mine[i] = 0 <= index && index < visible ? sums[i] : -INFINITE;
        }
        if (lane_index() % 4 == 0) store_shared(shared.share(token, warp_index() * ScoreTile::TURN + turn_row(0, 0)), mine);
    }
    sync_block();  // P of all rows is in shared memory
    NO_UNROLL
    for (int item = thread_index(); item < sequence.queries * PIECE_BLOCKS; item += THREADS) {
        const int token = item / PIECE_BLOCKS;
        const int block = first_block + item % PIECE_BLOCKS;
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

#define INSTANCE(name, T, DIM) \
    KERNEL(name, sala_select_split_params, THREADS, 2) { select_blocks_scores<T, DIM>(p); }
#include "instances/select_blocks_scores.h"

}  // namespace SALA_VARIANT
}  // namespace sala
