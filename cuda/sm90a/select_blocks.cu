// Block selection on Hopper: the operation of cuda/base/select_blocks.cu with products of warpgroups. The formulas, and the order in
// which m, Z and P are summed up, are those of that file, so that lists are the same from either, and from the kernels for decode.
//
// Grid: (tiles of query tokens, kv heads, batch). Two groups of four warps take 128 columns each, the heads of 4, 8 or 16 tokens; a
// third copies rows for both, 128 at a time. Rows are compressed keys and operand A, columns the heads and operand B:
//
//                        columns of group 0          columns of group 1
//              warp      t0, h0…15  …  t7, h0…15     t8, …                         A warp has a turn of 32 rows of a step: 16 in each of two
//     turn 0    0    ┌───────────────────────────┬──────────────────┐              products, dealt as in the base kernel, so that four lanes
//     turn 1    1    │ P = Σ of a thread's heads,│                  │              have the four rows of a block for all tokens. P of two
//     turn 2    2    │ then over 4 lanes         │                  │              tokens, of sixteen heads each, is left with each lane.
//     turn 3    3    └───────────────────────────┴──────────────────┘
//
// Pass 1 sums up m and Z in pieces of 128 rows, in order within a piece. So a step of it is a turn of each of four pieces, and a warp has a
// piece of its own for four steps. Pieces i, i + 8, … of a column are added up in order, and the eight sums of them merged: piece i
// is warp i % 4's, and the sums meet in shared memory once. (The last four pieces of a token take as many steps as the longest: 200
// rows of K2 are lost on average.) Pass 2 takes rows as they come, and warps exchange scores for lists (parts/selection/score_exchange.cuh).
//
// Groups take turns with the tensor cores; one has its exponentials while the other has its products:
//
//     tensor    | group 0: rows 0, 1 mod 4  | group 1: rows 0, 1    | group 0: rows 2, 3    | group 1: rows 2, 3
//     group 0   | scores of the last step   | exp, sum: rows 0, 1   |                       | exp, sum: rows 2, 3
//     group 1   | exp, sum: rows 2, 3       | scores                | exp, sum: rows 0, 1   |
//
// Once a token's queue has been cut, a score has to reach its floor to count. From that follows a bound for each of the token's columns: where
// no logit of half a turn is above its own, no row of it can count, and no exponential is formed (find_bound in group_columns.cuh). Bounds
// are a few steps old, and thus too low if anything. Where scores are asked for there are none.
//
// Shared memory (dim 128): ring 3 × 32 KiB, Q 2 × 32 KiB, sums of pieces 2 × 8 KiB, m and Z 2 × 1 KiB, bounds 2 × 1 KiB, scores 2 × 4.5 KiB,
// then queues.
//
// Bits: mma.sync and wgmma both add sixteen products and then the sum so far, here and in the executor. That their sums round alike on
// the machine is believed, and proven by nobody: it is the first thing to try on a GPU. Where they did not, a decode step would
// choose other blocks than prefill where scores are closest.
//
// Limit: 4096 FLOP per clock: a step of 128 rows × 256 columns is 2048 clocks of products, and as many of exponentials where none is
// left out. Registers: 232 for each thread of those two groups, 40 for those of the third. Dropped: both halves of a step under way at
// once, each with sums of its own (ptxas serialises products whose sums outlive a round of a loop, and there are too few registers).
//
// Definition: docs/semantics.md#select_blocks
#include "machine/barrier.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/mbarrier.cuh"
#include "machine/memory.cuh"
#include "machine/warp.cuh"
#include "machine/warpgroup.cuh"
#include "params/select_blocks.h"
#include "parts/keys/sequence.cuh"
#include "parts/selection/block_choice.cuh"
#include "parts/selection/block_list.cuh"
#include "parts/selection/block_score.cuh"
#include "parts/selection/group_columns.cuh"
#include "parts/selection/group_products.cuh"
#include "parts/selection/group_tile.cuh"
#include "parts/selection/score_exchange.cuh"
#include "parts/selection/score_rows.cuh"
#include "parts/selection/select_job.cuh"
#include "parts/selection/top_k.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int GROUPS = GroupTile::GROUPS;
constexpr int GROUP_WARPS = GroupTile::GROUP_WARPS;
constexpr int GROUP_THREADS = GroupTile::GROUP_THREADS;
constexpr int WARPS = (GROUPS + 1) * GROUP_WARPS;
constexpr int THREADS = WARPS * WARP_SIZE;
constexpr int COLUMNS = GroupTile::COLUMNS;
constexpr int STAGES = GroupTile::STAGES;
constexpr int COPY_REGISTERS = 40;
constexpr int PRODUCT_REGISTERS = 232;

// The tokens' queues follow it.
template <int DIM, int HEADS>
struct alignas(1024) GroupPlan {
    using Exchange = ScoreExchange<Heads<HEADS>::TOKENS>;

    uint8_t rows[STAGES][RowTile<DIM>::BYTES];
    uint8_t query[GROUPS][QueryTile<DIM>::BYTES];
    Float4 sums[GROUPS][GroupTile::STRIPES][COLUMNS / 2];  // m and Z of two neighbouring columns
    Float4 columns[GROUPS][COLUMNS / 2];                   // the same, finished
    ListedToken lists[GROUPS * Heads<HEADS>::TOKENS];
    float factors[GROUPS][Heads<HEADS>::TOKENS];
    typename Exchange::Entries scores[GROUPS];
    float bounds[GROUPS][2][COLUMNS];  // what a logit has to exceed to matter, in turn for even and odd steps
    StageBarriers<STAGES> ring;
    uint64_t scored[GROUPS][Exchange::BUFFERS];
    uint64_t turns[GROUPS];
};

template <int DIM, int HEADS>
DEVICE void copy_rows(const sala_select_blocks_params& p, const SelectJob& job, const GroupSteps& steps,
                      const GroupPlan<DIM, HEADS>& plan) {
    const NeededKeys keys = find_needed_keys(p, job);
    const int turn = warp_index() % GROUP_WARPS;
    const RowRing ring{shared_address(&plan.ring)};
    ring.fill(steps.count, [&](int step, int stage) {
        const bool sums = step < steps.sums;
        const RowTile<DIM> tile{shared_address(plan.rows[stage])};
        const NeededRows needed = keys.of_pass(sums);
        const int row = sums ? GroupSteps::sum_row(step, turn) : steps.score_row(step - steps.sums, turn);
        load_warp_rows(TurnRows<DIM>(tile, turn), needed, row, p.status);
    });
}

// Pass 1: m and Z.
template <class T, int DIM, int HEADS, int GROUP>
DEVICE void sum_columns(GroupProducts<T, DIM, GROUP>& products, const GroupPlan<DIM, HEADS>& plan, const sala_select_blocks_params& p,
                        const GroupSteps& steps, const GroupTokens<HEADS, GROUP>& tokens) {
    const auto& sums = plan.sums[GROUP];
    if (lane_index() / 4 % GROUP_WARPS == tokens.warp) {
        UNROLL
        for (int j = 0; j < GroupTile::PRODUCTS; ++j) {
            store_shared(pair_address(sums[lane_index() / 4], j), Float4{{LOWEST, 0.0f, LOWEST, 0.0f}});
        }
    }
    Normaliser<COLUMNS / 4> part;
    start_normaliser(part);
    const int shift = sum_shift(p);
    NO_UNROLL
    for (int step = 0; step < steps.sums; ++step) {
        const int row = GroupSteps::sum_row(step, tokens.warp);
        products.wait_filled();
        // Unrolled, exponentials of one half would wait beside the product of the next, and there are no registers for that.
        NO_UNROLL
        for (int half = 0; half < 2; ++half) {
            GroupLogits logits;
            products.start(logits, half);
            wait_products<0>(logits);
            if (row + ScoreTile::TURN > tokens.visible(0, shift)) {
                hide_rows_from(logits, half, [&](int j) { return tokens.visible(Heads<HEADS>::lane_token(j), shift) - row; });
            }
            add_to_normaliser(part, logits, 0, [&](int j) { return tokens.factor(j); });
        }
        products.leave();
        const bool ends = step % GroupTile::PIECE_TURNS == GroupTile::PIECE_TURNS - 1 || step == steps.sums - 1;
        if (ends) add_piece_to_sums(sums, part, tokens, step / GroupTile::PIECE_TURNS * GROUP_WARPS + tokens.warp);
    }
    finish_columns(plan.columns[GROUP], sums, p, tokens);
}

// Pass 2: P, scores, queues.
template <class T, int DIM, int HEADS, int GROUP>
DEVICE void score_rows(GroupProducts<T, DIM, GROUP>& products, const GroupPlan<DIM, HEADS>& plan, const sala_select_blocks_params& p,
                       const GroupSteps& steps, const GroupTokens<HEADS, GROUP>& tokens) {
    using Share = LaneShare<Heads<HEADS>>;
    constexpr int OWN_TOKENS = Heads<HEADS>::TOKENS / GROUP_WARPS;
    using Exchange = typename GroupPlan<DIM, HEADS>::Exchange;
    const Exchange exchange{shared_address(&plan.scores[GROUP]), shared_address(plan.scored[GROUP])};
    const int shift = score_shift(p);
    float bounds[COLUMNS / 4];
    fill_bounds(bounds);
    float rows[2][Share::COUNT]{};
    // P of half the rows of the warp's turn.
    const auto sum_half = [&](int half, const GroupLogits& logits) {
        UNROLL
        for (int i = 0; i < Share::COUNT; ++i) rows[half][i] = -INFINITE;
        if (!is_above(logits, bounds)) return;
        float factor = 0.0f;
        sum_heads<Heads<HEADS>>(rows[half], p.group, logits, 0, [&](int j) {
            const Float4 pair = load_shared<Float4>(pair_address(plan.columns[GROUP], j));
            if (j % Heads<HEADS>::TOKEN_PRODUCTS == 0) factor = tokens.factor(j);
            return ColumnPair{{pair[0], pair[2]}, {pair[1], pair[3]}, factor};
        });
    };
    const auto take_step = [&](int step) {
        exchange.wait(step);
        if (step > 0) load_bounds(bounds, plan.bounds[GROUP][(step - 1) % 2]);
        NO_UNROLL
        for (int token = tokens.warp * OWN_TOKENS; token < (tokens.warp + 1) * OWN_TOKENS; ++token) {
            const BlockShare share = exchange.load(step, token, lane_index());
            const uint32_t place = shared_address(&plan.lists[tokens.first + token]);
            ListedToken listed = load_listed_token(place);
            TopK best = find_queue(listed, p.lists, shared_address(&plan + 1), tokens.first + token);
            take_score(best, listed, p, share, steps.score_row(step, 0) / ScoreTile::BLOCK_ROWS + lane_index());
            store_listed_token(place, listed, false);
        }
        store_bound(plan.bounds[GROUP][step % 2], plan.columns[GROUP], plan.lists, p, tokens);
    };
    // Hands the turn's scores to the warps that have the tokens.
    const auto give_step = [&](int step) {
        const int row = steps.score_row(step, tokens.warp) + turn_row(0, 0);
        const int block = tokens.warp * ScoreTile::TURN_BLOCKS + lane_index() / 4;
        UNROLL
        for (int i = 0; i < Share::TOKENS; ++i) {
            const int token = Share::token(i);
            const int visible = tokens.visible(token, shift) - row;
            BlockShare share{{-INFINITE, -INFINITE}};
            UNROLL
            for (int r = 0; r < ScoreTile::BLOCK_ROWS; ++r) {
                share[1] = r < visible ? rows[r / 2][2 * i + r % 2] : -INFINITE;
                share[0] = maximum(share[0], share[1]);
            }
            exchange.store(step, token, block, share);
        }
        exchange.arrive(step);
    };
    NO_UNROLL
    for (int step = 0; step < steps.scores(); ++step) {
        GroupLogits logits;
        products.wait_filled();
        products.start(logits, 0);
        if (step > 1) take_step(step - 2);
        if (step > 0) give_step(step - 1);
        wait_products<0>(logits);
        sum_half(0, logits);
        products.start(logits, 1);
        wait_products<0>(logits);
        products.leave();
        sum_half(1, logits);
    }
    if (steps.scores() > 1) take_step(steps.scores() - 2);
    if (steps.scores() > 0) {
        give_step(steps.scores() - 1);
        take_step(steps.scores() - 1);
    }
}

// What a group does. Each has code of its own, so that the addresses of what is the group's are constants.
template <class T, int DIM, int HEADS, int GROUP>
DEVICE void run_group(const sala_select_blocks_params& p, const SelectJob& job, const GroupSteps& steps,
                      const GroupPlan<DIM, HEADS>& plan) {
    constexpr int TOKENS = Heads<HEADS>::TOKENS;
    constexpr int OWN_TOKENS = TOKENS / GROUP_WARPS;
    const TokenTile& tile = job.tile;
    const int warp = warp_index() % GROUP_WARPS;
    const GroupTokens<HEADS, GROUP> tokens{warp, tile.position(GROUP * TOKENS), shared_address(plan.factors[GROUP])};
    const int first_own = tokens.first + tokens.warp * OWN_TOKENS;
    NO_UNROLL
    for (int token = first_own; token < first_own + OWN_TOKENS; ++token) {
        const bool exists = token < tile.tokens;
        const int position = exists && !tile.sequence.dense ? maximum(tile.position(token), -1) : -1;
        store_listed_token(shared_address(&plan.lists[token]), find_listed_token(p.lists, exists ? tile.row(token) : -1, position), true);
    }
    GroupProducts<T, DIM, GROUP> products{{shared_address(&plan.ring)},
                                          shared_address(plan.rows),
                                          shared_address(plan.query[GROUP]),
                                          shared_address(plan.turns),
                                          tile.tokens > TOKENS};
    products.begin();
    if (steps.count > 0) sum_columns(products, plan, p, steps, tokens);
    score_rows(products, plan, p, steps, tokens);
    NO_UNROLL
    for (int token = first_own; token < first_own + OWN_TOKENS; ++token) {
        const ListedToken listed = load_listed_token(shared_address(&plan.lists[token]));
        TopK best = find_queue(listed, p.lists, shared_address(&plan + 1), token);
        finish_list(best, listed, p, steps.score_row(steps.scores(), 0) / ScoreTile::BLOCK_ROWS);
    }
}

template <class T, int DIM, int HEADS>
DEVICE void select_blocks_by_groups(const sala_select_blocks_params& p) {
    constexpr int TOKENS = Heads<HEADS>::TOKENS;
    using Exchange = typename GroupPlan<DIM, HEADS>::Exchange;
    const SequenceRange sequence = find_sequence(p.sequences, block_index_z());
    if (leave_refused<WARPS>(p, sequence)) return;
    const SelectJob job = find_job(p, sequence, GROUPS * TOKENS);
    const TokenTile& tile = job.tile;
    if (tile.tokens == 0) return;
    const int capacity = p.lists.queue_capacity;
    auto& plan = dynamic_shared<GroupPlan<DIM, HEADS>>(queue_bytes(GROUPS * TOKENS, capacity));
    const GroupSteps steps = find_group_steps(job.rows);

    const int group = warp_index() / GROUP_WARPS;
    if (thread_index() == 0) RowRing{shared_address(&plan.ring)}.begin(ceil_div(tile.tokens, TOKENS) * GROUP_WARPS);
    if (group < GROUPS) {
        if (thread_index() % GROUP_THREADS == 0) {
            Exchange{0, shared_address(plan.scored[group])}.begin();
            init_mbarrier(shared_address(&plan.turns[group]), GROUP_WARPS);
        }
        store_query<DIM, HEADS>(p, tile, group * TOKENS, {shared_address(plan.query[group])});
        store_factors(p, tile, group * TOKENS, plan.factors[group]);
    }
    sync_block();  // the barriers have begun, Q and factors are in shared memory
    if (group == GROUPS) {
        give_up_registers<COPY_REGISTERS>();
        copy_rows(p, job, steps, plan);
        return;
    }
    if (group * TOKENS >= tile.tokens) return;

    take_registers<PRODUCT_REGISTERS>();
    if (group == 0) run_group<T, DIM, HEADS, 0>(p, job, steps, plan);
    if (group == 1) run_group<T, DIM, HEADS, 1>(p, job, steps, plan);
}

#define INSTANCE(name, T, DIM, HEADS) \
    KERNEL(name, sala_select_blocks_params, THREADS, 1) { select_blocks_by_groups<T, DIM, HEADS>(p); }
#include "instances/sm90a_select_blocks.h"

}  // namespace SALA_VARIANT
}  // namespace sala
