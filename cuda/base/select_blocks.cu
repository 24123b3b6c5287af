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
// a token. So a group pads to 8 columns (or 4), a sum over heads is mostly within a thread, and each warp keeps its
// tokens for the whole kernel, so pooling and selection need no other warp:
//
//                     warp 0                warp 1       …  warp 7             32 columns per warp: eight tokens of 4 heads, four of 8, two of
//              t0, h0…15  t1, h0…15   t2, …      t3, …                         16, or one of 32 (of 64: two slices of 32, one after the other)
//            ┌───────────┬───────────┬──────────┬─────────                     Q stays in registers as operand B for all steps
//     K1 row │           │           │
//     4b     │ P = Σ of a thread's heads, then over 4 lanes (or 2),            Rows are dealt so that four lanes hold all four rows of block b
//      ⋮     │ each of which gets a share of the sums: rows of one token       (b = lane / 4); row 4b − 1 comes from the lanes above, and
//     4b + 3 │ score = max over its rows and one of the lanes above            both blocks see the bits of one sum.
//
// Both passes come in steps of 64 rows through one ring of three stages. A block's score goes to the queue of its token
// (parts/selection/top_k.cuh), unless the list takes the block whatever its score. A warp takes a step in four half turns of
// 16 rows, and works on the logits of each while the next is multiplied, so that tensor cores and exponentials need no other
// warp to overlap. (Whole turns would: their logits, twice, and Q do not fit in the registers.)
//
//     step n     | n + 1 ───────────────────── load ─────────────────────▶|
//     tensor     | rows 0 … 15          | 16 … 31              | 32 … 47        | 48 … 63      | load of n + 2 begins, once all
//     others     | exp, sum, score: n−1 | of 0 … 15            | of 16 … 31     | of 32 … 47   |   warps have read n − 1
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
// each 2 · dim FLOP beside it (1.5 for K2: a maximum may grow with every two rows). A step of 64 rows is loaded once for the 8 warps. A sequence's decode token
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
#include "parts/selection/select_job.cuh"
#include "parts/selection/token_columns.cuh"
#include "parts/selection/top_k.cuh"
#include "parts/stage_ring.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int WARPS = SALA_SELECT_WARPS;
constexpr int THREADS = WARPS * WARP_SIZE;
constexpr int STEP = SALA_SELECT_STEP;
constexpr int STAGES = SALA_SELECT_STAGES;
constexpr int PIECE_STEPS = SALA_SELECT_PIECE / STEP;
constexpr int TURN = ScoreTile::TURN;
constexpr int TURN_HALF = ScoreTile::TURN_HALF;
constexpr int BLOCK_ROWS = ScoreTile::BLOCK_ROWS;
constexpr int COLUMNS = ScoreTile::COLUMNS;

// The tokens' queues follow it.
template <int DIM>
struct SelectPlan {
    uint16_t rows[STAGES][STEP * DIM];
    StageBarriers<STAGES> barriers;
};

// How many turns a step has, when `rows` rows are left from its first on.
DEVICE int count_turns(int rows) { return minimum(ceil_div(rows, TURN), STEP / TURN); }

// The first row of the last turn of `rows` rows.
DEVICE int last_turn(int rows) { return (ceil_div(rows, TURN) - 1) * TURN; }

// Multiplies the half turns of a step, slice by slice, and works on the logits of each, which are `ready` then, while the
// next one is multiplied. The first is of the step before, whose last turn has number −1; there are none before the first
// step, for which −∞ stands. What hides rows of them comes before the product, as a branch would part the two.
template <int SLICES, class Multiply, class Hide, class Work>
DEVICE void walk_halves(HalfLogits& ready, int turns, const Multiply& multiply, const Hide& hide, const Work& work) {
    constexpr int TURN_ITEMS = 2 * SLICES;
    UNROLL
    for (int item = 0; item < STEP / TURN * TURN_ITEMS; ++item) {
        if (item / TURN_ITEMS >= turns) break;
        const int before = item - 1 + TURN_ITEMS;
        const int turn = before / TURN_ITEMS - 1;
        const int half = before / SLICES % 2;
        hide(turn, half);
        HalfLogits logits;
        multiply(logits, item / SLICES * TURN_HALF, item % SLICES);
        work(turn, half, before % SLICES);
        ready = logits;
    }
}

// The steps of both passes, from one ring of stages: sum_steps of C, then those of K1.
template <int DIM>
struct Steps {
    NeededKeys keys;
    int sum_steps, first_score_step, count;
    StageRing<STAGES, WARPS> ring;
    uint32_t rows;  // shared address of the stages
    uint64_t status;
    StageCursor<STAGES> at, before;

    DEVICE SharedTile<DIM> tile(int stage) const { return {rows + static_cast<uint32_t>(stage * SharedTile<DIM>::bytes(STEP))}; }
    DEVICE int first_row(int step) const { return (step < sum_steps ? step : step - sum_steps + first_score_step) * STEP; }

    DEVICE void start_load(int step, int stage) const {
        load_rows<WARPS, STEP>(tile(stage), keys.of_pass(step < sum_steps), first_row(step), status);
        ring.fill(stage);
    }
    DEVICE void begin() const {
        ring.begin();
        UNROLL
        for (int step = 0; step < STAGES - 1; ++step) {
            if (step < count) start_load(step, step);
        }
    }
    DEVICE void wait() const { ring.wait_filled(at); }
    // The step after the last two goes where the step before this one was, once all warps have read that.
    DEVICE void leave(int step) {
        ring.release(at.stage);
        if (step > 0) ring.wait_free(before);
        if (step + STAGES - 1 < count) start_load(step + STAGES - 1, step > 0 ? before.stage : STAGES - 1);
        before = at;
        at.advance();
    }
};

template <int DIM>
DEVICE Steps<DIM> find_steps(const sala_select_blocks_params& p, const SelectJob& job, const SelectPlan<DIM>& plan) {
    const NeededKeys keys = find_needed_keys(p, job);
    const int sum_steps = ceil_div(job.rows.sum_rows, STEP);
    const int first_score_step = job.rows.score_begin / STEP;
    const int count = sum_steps + maximum(ceil_div(job.rows.score_end, STEP) - first_score_step, 0);
    return {keys, sum_steps, first_score_step, count, {shared_address(&plan.barriers)}, shared_address(plan.rows), p.status, {}, {}};
}

// Pass 1: m and Z. `multiply` gives the logits of the 16 rows of a step from a row on.
template <int DIM, int HEADS, class Multiply>
DEVICE void find_normaliser(WarpNormaliser<HEADS>& normaliser, Steps<DIM>& steps, const Multiply& multiply,
                            const sala_select_blocks_params& p, const WarpTokens<HEADS>& tokens, int rows, bool works) {
    constexpr int SLICES = Deal<HEADS>::SLICES;
    WarpNormaliser<HEADS> part;
    start_normaliser(normaliser);
    start_normaliser(part);
    HalfLogits ready;
    ready.fill(-INFINITE);
    const auto factor = [&](int j) { return tokens.scale[Deal<HEADS>::lane_token(j)].factor; };
    NO_UNROLL
    for (int step = 0; step < steps.sum_steps; ++step) {
        steps.wait();
        const int first_row = steps.first_row(step);
        const int turns = works ? count_turns(rows - first_row) : 0;
        const auto hide = [&](int turn, int half) { hide_rows(ready, tokens, first_row + turn * TURN, half); };
        walk_halves<SLICES>(ready, turns, multiply, hide, [&](int turn, int half, int slice) {
            add_to_normaliser(part, ready, slice, factor);
            const bool last = turn < 0 && half == 1 && slice == SLICES - 1;
            if (last && step > 0 && step % PIECE_STEPS == 0) end_piece(normaliser, part, tokens, step / PIECE_STEPS - 1);
        });
        steps.leave(step);
    }
    if (works && steps.sum_steps > 0) {
        hide_rows(ready, tokens, last_turn(rows), 1);
        add_to_normaliser(part, ready, SLICES - 1, factor);
        end_piece(normaliser, part, tokens, (steps.sum_steps - 1) / PIECE_STEPS);
    }
    if (works) finish_normaliser(normaliser, p, tokens);
}

// Pass 2: P, scores, queues.
template <int DIM, int HEADS, class Multiply>
DEVICE void find_scores(TopK (&best)[Deal<HEADS>::TOKENS], OwnTokens<HEADS>& own, Steps<DIM>& steps, const Multiply& multiply,
                        const sala_select_blocks_params& p, const WarpTokens<HEADS>& tokens, const WarpNormaliser<HEADS>& normaliser,
                        int rows, bool works) {
    constexpr int SLICES = Deal<HEADS>::SLICES;
    constexpr int LANE_SUMS = LaneShare<Deal<HEADS>>::COUNT;
    constexpr int LANE_TOKENS = LaneShare<Deal<HEADS>>::TOKENS;
    HalfLogits ready;
    ready.fill(-INFINITE);
    float sums[2][LANE_SUMS]{};
    const auto add_half = [&](int half, int slice) {
        float part[LANE_SUMS];
        sum_heads<Deal<HEADS>>(part, p.group, ready, slice, [&](int j) { return find_columns(normaliser, tokens, slice, j); });
        UNROLL
        for (int i = 0; i < LANE_SUMS; ++i) sums[half][i] = slice == 0 ? part[i] : add_slices(sums[half][i], part[i]);
    };
    NO_UNROLL
    for (int step = steps.sum_steps; step < steps.count; ++step) {
        steps.wait();
        const int first_row = steps.first_row(step);
        const int turns = works ? count_turns(rows - first_row) : 0;
        float scores[LANE_TOKENS][STEP / TURN];
        UNROLL
        for (int i = 0; i < LANE_TOKENS; ++i) scores[i][0] = scores[i][1] = -INFINITE;
        walk_halves<SLICES>(
            ready, turns, multiply, [](int, int) {},
            [&](int turn, int half, int slice) {
                add_half(half, slice);
                if (half == 0 || slice < SLICES - 1) return;
                UNROLL
                for (int i = 0; i < LANE_TOKENS; ++i) scores[i][turn + 1] = pool_rows<HEADS>(own[i], sums, i, first_row + turn * TURN);
            });
        steps.leave(step);
        UNROLL
        for (int i = 0; i < LANE_TOKENS; ++i) take_scores(best, p, own[i], scores[i], (first_row - TURN) / BLOCK_ROWS, turns);
    }
    if (!works) return;
    const int row0 = last_turn(rows);
    add_half(1, SLICES - 1);
    UNROLL
    for (int i = 0; i < LANE_TOKENS; ++i) {
        const float scores[1] = {pool_rows<HEADS>(own[i], sums, i, row0)};
        take_scores(best, p, own[i], scores, row0 / BLOCK_ROWS, 1);
    }
}

template <class T, int DIM, int HEADS>
DEVICE void select_blocks(const sala_select_blocks_params& p) {
    constexpr int TOKENS = Deal<HEADS>::TOKENS;
    const int capacity = p.lists.queue_capacity;
    const SequenceRange sequence = find_sequence(p.sequences, block_index_z());
    if (leave_refused<WARPS>(p, sequence)) return;
    const SelectJob job = find_job(p, sequence, WARPS * TOKENS);
    if (job.tile.tokens == 0) return;
    auto& plan = dynamic_shared<SelectPlan<DIM>>(queue_bytes(WARPS * TOKENS, capacity));

    const WarpTokens<HEADS> tokens = find_warp_tokens<HEADS>(p, job.tile, sum_stride(p));
    const bool works = tokens.first < job.tile.tokens;  // a warp without tokens only helps to load
    OwnTokens<HEADS> own;
    find_own_tokens<HEADS>(own, p, job.tile, tokens.first);
    TopK best[TOKENS];
    UNROLL
    for (int i = 0; i < TOKENS; ++i) best[i] = start_top_k(shared_address(&plan + 1), tokens.first + i, capacity, wanted_blocks(p.lists));

    Steps<DIM> steps = find_steps(p, job, plan);
    if (steps.count == 0) {
        store_missing_scores<HEADS>(p, own, 0);
        store_lists(p, job.tile, tokens, best);
        return;
    }

    const FragmentPlace<DIM> place(steps.tile(0));
    const FragmentB<DIM, COLUMNS> query = load_query_columns<DIM>(p, job.tile, tokens, 0, 0);
    const auto multiply = [&](HalfLogits& logits, int row, int slice) {
        logits.fill(0.0f);
        if constexpr (Deal<HEADS>::SLICES == 1) {
            multiply_shared_a<T>(logits, place.moved(SharedTile<DIM>::bytes(steps.at.stage * STEP)), row, 0, query);
        } else {
            // There are registers for a part of one slice only, so Q comes from L1 each time. (Unrolled, the
            // loads would all go ahead and spill.)
            constexpr int PART = 32;
            NO_UNROLL
            for (int channel = 0; channel < DIM; channel += PART) {
                const auto part = load_query_columns<PART>(p, job.tile, tokens, slice, channel);
                multiply_shared_a<T>(logits, steps.tile(steps.at.stage), row, channel, part);
            }
        }
    };
    steps.begin();
    WarpNormaliser<HEADS> normaliser;
    find_normaliser(normaliser, steps, multiply, p, tokens, job.rows.sum_rows, works);
    find_scores(best, own, steps, multiply, p, tokens, normaliser, job.rows.score_end, works);
    store_missing_scores<HEADS>(p, own, ceil_div(job.rows.score_end, TURN) * ScoreTile::TURN_BLOCKS);
    store_lists(p, job.tile, tokens, best);
}

#define INSTANCE(name, T, DIM, HEADS) \
    KERNEL(name, sala_select_blocks_params, THREADS, 1) { select_blocks<T, DIM, HEADS>(p); }
#include "instances/select_blocks.h"

}  // namespace SALA_VARIANT
}  // namespace sala
