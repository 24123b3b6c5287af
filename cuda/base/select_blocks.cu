// Block selection: scores every block of keys in a token's past through the compressed keys, and lists the
// best. Scores stay in the warp.
//
//     m_j, Z_j = max and Σ exp of s·q_j·C[c] over the rows of C that end at or before p          C = K2 (coarse) or K1 (exact)
//     P[c]     = Σ_j exp(s·q_j·K1[c] − m_j) / Z_j                                                 j: the heads of the group
//     score[b] = max of P[c], c = 4b − 1 … 4b + 3                                                 list = forced blocks + best free ones
//
// Called once per prefill, chunk or decode step for every sparse layer. Grid: (tiles of query tokens, kv
// heads, batch). A block reads the compressed keys twice. Pass 1 streams C and accumulates m and Z (one
// online softmax per thread, merged at the end). Pass 2 streams K1, forms P and the scores, and fills the
// queues. The product is taken with its operands swapped: rows are compressed keys, columns are the heads of
// a token. So a group pads to 8 columns, a sum over heads is mostly within a thread, and each warp keeps its
// tokens for the whole kernel, so pooling and selection need no other warp:
//
//                     warp 0                warp 1       …  warp 7             32 columns per warp: four tokens of 8 heads, two of 16, or
//              t0, h0…15  t1, h0…15   t2, …      t3, …                         one of 32 (of 64: two slices of 32, one after the other)
//            ┌───────────┬───────────┬──────────┬─────────                     Q stays in registers as operand B for all steps
//     K1 row │           │           │
//     4b     │ P = Σ of a thread's heads, then over 4 lanes                    Rows are dealt so that a thread holds all four rows of block b
//      ⋮     │ score = max over its four rows and one of the lane above        (b = lane / 4); row 4b − 1 comes from the lane above, and
//     4b + 3 │           │           │                                         both blocks see the bits of one sum.
//
// Both passes come in steps of 64 rows through one ring of three stages; a warp takes a step in two turns of
// 32 rows. A block's score goes to the queue of its token (parts/selection/top_k.cuh), unless the list takes
// the block whatever its score.
//
//     step n     | n + 1 ───────────────────── load ─────────────────────▶|
//                | 32 rows: product, exp, sum, pool, offer | 32 rows: …    | load of n + 2 begins, once all warps have read n − 1
//
// Shared memory (dim 128): ring 3 × 16 KiB, then one queue of queue_capacity × 8 bytes per token, 16 KiB for
// two tokens per warp and 128 entries.
//
// A token's bits depend on nothing but its own rows at their absolute positions: m and Z are summed up in pieces of
// 128 rows, as the kernels for decode do (select_blocks_sums.cu), whose lists are the same. P is formed at 2^24 times
// its value, so that heads below 2^−126 still count in the sum; where that leaves the range of f32, or a
// logit is NaN, the sums are taken again with care (sum_carefully).
//
// Limit: the tensor cores, (1 + 1/4) · 2 · dim · 32 columns per row and warp (K1 and K2), with one exp for
// each 2 · dim FLOP beside it. A step of 64 rows is loaded once for the 8 warps. A sequence's decode token
// would take a whole block: the rows of few tokens are split over blocks by select_blocks_sums.cu, select_blocks_scores.cu and
// select_blocks_lists.cu, with the same bits. Dropped: Q in shared memory (three times the shared-memory
// traffic); scores through global memory (a quarter of a terabyte at 1M tokens).
//
// Definition: docs/semantics.md#select_blocks
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/tile.cuh"
#include "machine/warp.cuh"
#include "params/select_blocks.h"
#include "parts/keys/key_rows.cuh"
#include "parts/keys/sequence.cuh"
#include "parts/keys/token_tile.cuh"
#include "parts/keys/windows.cuh"
#include "parts/selection/block_choice.cuh"
#include "parts/selection/block_list.cuh"
#include "parts/selection/block_score.cuh"
#include "parts/selection/score_rows.cuh"
#include "parts/selection/token_columns.cuh"
#include "parts/selection/top_k.cuh"
#include "parts/stage_ring.cuh"
#include "parts/status.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int WARPS = SALA_SELECT_WARPS;
constexpr int THREADS = WARPS * WARP_SIZE;
constexpr int STEP = SALA_SELECT_STEP;
constexpr int STAGES = SALA_SELECT_STAGES;
constexpr int PIECE_STEPS = SALA_SELECT_PIECE / STEP;
constexpr int TURN = ScoreTile::TURN;
constexpr int BLOCK_ROWS = ScoreTile::BLOCK_ROWS;
constexpr int COLUMNS = ScoreTile::COLUMNS;

// The tokens' queues follow it.
template <int DIM>
struct SelectPlan {
    uint16_t rows[STAGES][STEP * DIM];
    StageBarriers<STAGES> barriers;
};

// What the block does: its tokens, and the rows that they need.
struct Job {
    TokenTile tile;
    TokenRows rows;
};

DEVICE Job find_job(const sala_select_blocks_params& p, const SequenceRange& sequence, int block_tokens) {
    const int index = last_tiles_first(sequence, block_index_x(), block_tokens);
    Job job{cut_tile(sequence, index, block_tokens), {0, 0, 0}};
    if (job.tile.tokens > 0 && !sequence.dense) job.rows = find_token_rows(p, job.tile.last_position());
    return job;
}

// Field by field, so that they stay in registers.
DEVICE NeededRows choose_rows(bool first, const NeededRows& a, const NeededRows& b) {
    const KeyRows& x = a.rows;
    const KeyRows& y = b.rows;
    const KeyRows rows{first ? x.first : y.first,
                       first ? x.stride : y.stride,
                       first ? x.table : y.table,
                       first ? x.page_stride : y.page_stride,
                       first ? x.pages : y.pages,
                       first ? x.page_shift : y.page_shift,
                       x.first_row};
    return {rows, first ? a.begin : b.begin, first ? a.end : b.end};
}

// Adds what channels [channel, channel + K) give to the logits of a turn, whose rows lie in a tile or at a place.
template <class T, int K, class Rows>
DEVICE void add_logits(Logits& logits, const Rows& rows, int row0, const FragmentB<K, COLUMNS>& query, int channel) {
    UNROLL
    for (int half = 0; half < 2; ++half) {
        multiply_shared_a<T>(logits.half[half], rows, row0 + half * ScoreTile::TURN_HALF, channel, query);
    }
}

// How many turns of a step the warp takes, when `rows` rows are left from the step's first on. A warp without
// tokens only helps to load.
template <int HEADS>
DEVICE int count_turns(const Job& job, const WarpTokens<HEADS>& tokens, int rows) {
    return tokens.first < job.tile.tokens ? minimum(ceil_div(rows, TURN), STEP / TURN) : 0;
}

template <class T, int DIM, int HEADS>
DEVICE void select_blocks(const sala_select_blocks_params& p) {
    constexpr int TOKENS = Deal<HEADS>::TOKENS;
    constexpr int SLICES = Deal<HEADS>::SLICES;
    const int capacity = p.lists.queue_capacity;
    const SequenceRange sequence = find_sequence(p.sequences, block_index_z());
    if (sequence.refusal != REFUSED_NOTHING) {
        count_refused_sequence(p.status, sequence.refusal);
        store_empty_lists<WARPS>(p.lists, sequence);
        store_empty_scores<WARPS>(p, sequence);
        return;
    }
    const Job job = find_job(p, sequence, WARPS * TOKENS);
    if (job.tile.tokens == 0) return;
    auto& plan = dynamic_shared<SelectPlan<DIM>>(queue_bytes(WARPS * TOKENS, capacity));

    const WarpTokens<HEADS> tokens = find_warp_tokens<HEADS>(p, job.tile, sum_stride(p));
    OwnToken own = find_own_token(p, job.tile, tokens);
    TopK best[TOKENS];
    UNROLL
    for (int i = 0; i < TOKENS; ++i) best[i] = start_top_k(shared_address(&plan + 1), tokens.first + i, capacity, wanted_blocks(p.lists));

    const KeyRange& keys = job.tile.sequence.keys;
    const int stride = p.lists.block_size / BLOCK_ROWS;
    const KeyRows k1 = find_key_rows(p.k1, keys, block_index_z(), block_index_y(), stride);
    const NeededRows scored{k1, job.rows.score_begin, minimum(job.rows.score_end, full_windows(keys.count, stride))};
    NeededRows summed{k1, 0, job.rows.sum_rows};
    if (!p.exact_lse) summed.rows = find_key_rows(p.k2, keys, block_index_z(), block_index_y(), p.lists.block_size);
    const int sum_steps = ceil_div(job.rows.sum_rows, STEP);
    const int first_score_step = job.rows.score_begin / STEP;
    const int steps = sum_steps + maximum(ceil_div(job.rows.score_end, STEP) - first_score_step, 0);
    const StageRing<STAGES, WARPS> ring{shared_address(&plan.barriers)};
    const auto tile_of = [&](int stage) { return SharedTile<DIM>{shared_address(plan.rows[stage])}; };
    const auto start_load = [&](int step, int stage) {
        const bool sums = step < sum_steps;
        const int row_step = sums ? step : step - sum_steps + first_score_step;
        load_rows<WARPS, STEP>(tile_of(stage), choose_rows(sums, summed, scored), row_step * STEP, p.status);
        ring.fill(stage);
    };
    StageCursor<STAGES> at, before;
    // The step after the last two goes where the step before this one was, once all warps have read that.
    const auto leave = [&](int step) {
        ring.release(at.stage);
        if (step > 0) ring.wait_free(before);
        if (step + STAGES - 1 < steps) start_load(step + STAGES - 1, step > 0 ? before.stage : STAGES - 1);
        before = at;
        at.advance();
    };

    if (steps == 0) {
        store_missing_scores(p, own, 0);
        store_lists(p, job.tile, tokens, best);
        return;
    }

    const FragmentPlace<DIM> place(tile_of(0));
    const FragmentB<DIM, COLUMNS> query = load_query_columns<DIM>(p, job.tile, tokens, 0, 0);
    const auto find_logits = [&](Logits& logits, int turn, int slice) {
        logits.half[0].fill(0.0f);
        logits.half[1].fill(0.0f);
        if constexpr (SLICES == 1) {
            add_logits<T>(logits, place.moved(SharedTile<DIM>::bytes(at.stage * STEP + turn * TURN)), 0, query, 0);
        } else {
            // There are registers for a part of one slice only, so Q comes from L1 each time. (Unrolled, the
            // loads would all go ahead and spill.)
            constexpr int PART = 32;
            NO_UNROLL
            for (int channel = 0; channel < DIM; channel += PART) {
                add_logits<T>(logits, tile_of(at.stage), turn * TURN, load_query_columns<PART>(p, job.tile, tokens, slice, channel),
                              channel);
            }
        }
    };
    ring.begin();
    UNROLL
    for (int step = 0; step < STAGES - 1; ++step) {
        if (step < steps) start_load(step, step);
    }

    // Pass 1: m and Z.
    Normaliser<HEADS> normaliser, part;
    start_normaliser(normaliser);
    start_normaliser(part);
    NO_UNROLL
    for (int step = 0; step < sum_steps; ++step) {
        ring.wait_filled(at);
        const int first_row = step * STEP;
        const int turns = count_turns(job, tokens, job.rows.sum_rows - first_row);
        NO_UNROLL
        for (int turn = 0; turn < turns; ++turn) {
            UNROLL
            for (int slice = 0; slice < SLICES; ++slice) {
                Logits logits;
                find_logits(logits, turn, slice);
                add_to_normaliser(part, logits, tokens, first_row + turn * TURN, slice);
            }
        }
        leave(step);
        if ((step + 1) % PIECE_STEPS == 0 || step + 1 == sum_steps) end_piece(normaliser, part, tokens, step / PIECE_STEPS);
    }
    finish_normaliser(normaliser, p, tokens);

    // Pass 2: P, scores, queues.
    NO_UNROLL
    for (int step = sum_steps; step < steps; ++step) {
        ring.wait_filled(at);
        const int first_row = (step - sum_steps + first_score_step) * STEP;
        const int turns = count_turns(job, tokens, job.rows.score_end - first_row);
        NO_UNROLL
        for (int turn = 0; turn < turns; ++turn) {
            float sums[TOKENS][BLOCK_ROWS];
            UNROLL
            for (int slice = 0; slice < SLICES; ++slice) {
                Logits logits;
                find_logits(logits, turn, slice);
                float part[TOKENS][BLOCK_ROWS];
                sum_heads(part, p, logits, normaliser, tokens, slice);
                UNROLL
                for (int i = 0; i < TOKENS * BLOCK_ROWS; ++i) {
                    float& sum = sums[i / BLOCK_ROWS][i % BLOCK_ROWS];
                    sum = slice == 0 ? part[i / BLOCK_ROWS][i % BLOCK_ROWS] : add_slices(sum, part[i / BLOCK_ROWS][i % BLOCK_ROWS]);
                }
            }
            const int row0 = first_row + turn * TURN;
            const float score = pool_rows(own, sums, row0);
            take_score(best, p, own, row0 / BLOCK_ROWS + lane_index() / 4, score);
        }
        leave(step);
    }
    store_missing_scores(p, own, ceil_div(job.rows.score_end, TURN) * ScoreTile::TURN_BLOCKS);
    store_lists(p, job.tile, tokens, best);
}

#define INSTANCE(name, T, DIM, HEADS) \
    KERNEL(name, sala_select_blocks_params, THREADS, 1) { select_blocks<T, DIM, HEADS>(p); }
#include "instances/select_blocks.h"

}  // namespace SALA_VARIANT
}  // namespace sala
