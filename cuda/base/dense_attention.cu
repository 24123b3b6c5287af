// Attention of every query token over all keys from its first one to its own:
//
//     O = softmax(f·s·q Kᵀ) V,   LSE = ln Σ exp        over the keys first_key ≤ t ≤ p
//
// Called once per prefill or chunk for a layer without lists. Grid: (tiles of query tokens, kv heads, batch). A tile is
// eight warps of 16 rows, and a row is one query head of one token (parts/attention/dense_tile.cuh), so that K and V are
// read once for 128 rows:
//
//     keys ─▶      64     128     192                       warp:   S = Q Kᵀ   (Q in registers, 16 × 64)
//     rows 0 … 15  ███████▓░                                        P = softmax weights, rounded to 16 bits
//          … 31    ███████▓▓░      █ whole steps                    O = a·O + P V
//          …       ███████▓▓▓░     ▓ masked, key by key
//          … 127   ░▓██████▓▓▓     ░ steps that no row of the warp sees: it has nothing to do
//
// Keys come in ascending steps of 64, and a row's softmax depends on that row alone: its bits are those of sparse_attention
// with every block listed, whatever the tile, the chunk or the batch. Steps pass through a ring of three stages, which all warps
// fill, half of them with K and half with V, and a warp may be nearly a step ahead of another. A stage is filled for a turn after
// the wait for the stage before, which all warps have filled once they were done with the turn before that: with three stages its
// place is free, and no barrier has to say so. V is copied a step after its K, when it is known which keys there are.
//
// Shared memory, 98.5 KiB at dim 128: three stages of K and V, 32 KiB each; rows 2 KiB, steps and barriers.
//
//     turn n    | K n+1, V n ──────────────── load ────────────────▶|     into the stage of turn n − 2
//               | S n = Q Kᵀ       | O += P V n−1       |
//               |                  | weights n          | O ← a·O
//
// Limit: the tensor cores, with one block per SM (registers): 2 · 2 · 64 · dim · 16 FLOP per warp and step; where they are fast
// shared memory, of which a warp's step reads 32 KiB of fragments.
// Dropped, by the model: a barrier of the block every step, with the next scores made beside this step's weights (14 % more time on
// GeForce, 21 % on a PRO 6000, 28 % on an A100); a barrier that says when a stage is free (5 % on an A100); with it two stages (12 to
// 22 %: the slowest warp again); a share of K and of V for every warp (addresses twice, a tenth on an A100); O multiplied without a
// branch (up to 7 %); the ring of sparse_attention (warps have even work, and the last reader's copies come late); 32 rows per warp
// with Q in shared memory, which has no registers left to work on two steps at once (up to a fifth on GeForce).
//
// Definition: docs/semantics.md#dense_attention
#include "machine/async_copy.cuh"
#include "machine/barrier.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/operand_place.cuh"
#include "machine/tile.cuh"
#include "machine/warp.cuh"
#include "params/sparse_attention.h"
#include "parts/attention/dense_tile.cuh"
#include "parts/attention/key_cell.cuh"
#include "parts/attention/online_softmax.cuh"
#include "parts/attention/query_tile.cuh"
#include "parts/attention/query_warp.cuh"
#include "parts/keys/sequence.cuh"
#include "parts/stage_ring.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int THREADS = DENSE_WARPS * WARP_SIZE;
constexpr int STEP = AttentionTile::STEP;
constexpr int STAGES = SALA_DENSE_STAGES;
static_assert(STAGES == 3, "of the turn before, of this turn and of the next");

// A step that the tile sees, as all warps read it.
struct TileStep {
    static constexpr int WHOLE = 8;  // the bit of the first warp all of whose rows see all keys

    int index;
    uint32_t warps;  // which of them see it, and from bit WHOLE on, which see it whole; 0: it is behind the last
    StepKeys keys;   // those that some row sees and that there are

    DEVICE bool is_there() const { return warps != 0; }
    DEVICE bool is_seen() const { return (warps >> warp_index() & 1) != 0; }
    DEVICE bool is_whole() const { return ((warps >> (WHOLE + warp_index()) & 1) != 0) & keys.are_all(); }
    // Whether its keys are all seen. (Where no warp sees all of them, they may be nevertheless.)
    DEVICE bool is_wanted_whole() const { return (warps & warps >> WHOLE) != 0; }
};

// Its size is a multiple of 512 bytes, whatever lies behind the tiles.
template <int DIM>
struct alignas(512) DensePlan {
    static constexpr int KNOWN = 4;  // steps

    struct Stage {
        uint16_t key[STEP * DIM], value[STEP * DIM];
    };

    Stage stages[STAGES];
    DenseRows rows;
    KeyRows store[2];  // of keys and values
    TileStep steps[KNOWN];
    int pages[KNOWN];  // that the table says they lie in; NO_PAGE where pages are smaller
    StageBarriers<STAGES> barriers;

    DEVICE TileStep& step(int turn) { return steps[turn % KNOWN]; }
    DEVICE int& page(int turn) { return pages[turn % KNOWN]; }
    DEVICE bool has_page(int turn, const KeyRows& rows) const {
        return static_cast<uint32_t>(pages[turn % KNOWN]) < static_cast<uint32_t>(rows.pages);
    }
};
static_assert(sizeof(DensePlan<64>) == STAGES * 2 * STEP * 64 * 2 + SALA_DENSE_SCRATCH_BYTES &&
                  sizeof(DensePlan<128>) == STAGES * 2 * STEP * 128 * 2 + SALA_DENSE_SCRATCH_BYTES,
              "the host gives that much");

// The rows of a step that a thread copies a vector of: every AT_ONCE-th from its own on. Half of the warps copy keys, the others
// values.
template <int DIM>
struct CopyShare {
    static constexpr int WARPS = DENSE_WARPS / 2;
    static constexpr int VECTORS = SharedTile<DIM>::VECTORS;
    static constexpr int AT_ONCE = WARPS * WARP_SIZE / VECTORS;
    static constexpr int OF_CELL = KeyCell::KEYS / AT_ONCE;
    static_assert(AT_ONCE % 8 == 0, "the permutation of a tile is the same for all of them");

    static DEVICE bool is_of_values() { return warp_index() >= WARPS; }
    static DEVICE int row() { return thread_index() / VECTORS % AT_ONCE; }
    static DEVICE int vector() { return thread_index() % VECTORS; }
    static DEVICE uint32_t target(SharedTile<DIM> tile, int i) {
        return tile.address(row(), vector()) + static_cast<uint32_t>(SharedTile<DIM>::bytes(i * AT_ONCE));
    }
};

// Starts the copy of a step that is read whole, and lies in one page.
template <int DIM>
DEVICE void copy_whole_step(SharedTile<DIM> tile, const KeyRows& rows, int step, int page) {
    using Share = CopyShare<DIM>;
    const uint16_t* source = rows.row_in(page, step * STEP) + Share::row() * rows.stride + Share::vector() * 8;
    UNROLL
    for (int i = 0; i < STEP / Share::AT_ONCE; ++i) {
        async_copy<16>(Share::target(tile, i), source);
        source += Share::AT_ONCE * rows.stride;
    }
}

// The same of one of its cells, whose visible keys alone are read; the others become zero.
template <int DIM>
DEVICE void copy_cell(SharedTile<DIM> tile, const KeyRows& rows, const KeyCell& cell, int number) {
    using Share = CopyShare<DIM>;
    NO_UNROLL
    for (int i = 0; i < Share::OF_CELL; ++i) {
        const int row = Share::row() + i * Share::AT_ONCE, key = cell.first + row;
        const int page = cell.is_whole ? cell.whole : cell.pages.page(rows, key);
        const bool is_read = (cell.visible >> row & 1) != 0;
        async_copy<16>(Share::target(tile, number * Share::OF_CELL + i),
                       (is_read ? rows.row_in(page, key) : rows.first) + Share::vector() * 8, is_read);
    }
}

// The way of steps through the ring, as a warp follows it: a turn takes K of its step and V of the step before. What the first warp
// and thread write of a step comes with the stage that is filled then.
template <int DIM>
struct DenseRing {
    using Stage = typename DensePlan<DIM>::Stage;

    DensePlan<DIM>& plan;
    StageRing<STAGES, DENSE_WARPS> stages;
    OperandPlace<DIM, Operand::NK> first_keys;
    OperandPlace<DIM, Operand::KN> first_values;
    SeenKeys read;
    uint64_t status;
    int turn = 0;
    StageCursor<STAGES> at;

    DEVICE DenseRing(DensePlan<DIM>& plan, uint64_t status)
        : plan(plan), stages{shared_address(&plan.barriers)}, first_keys(tile(0, false)), first_values(tile(0, true)), status(status) {}

    static DEVICE uint32_t bytes(int stage) { return static_cast<uint32_t>(stage * sizeof(Stage)); }
    DEVICE SharedTile<DIM> tile(int stage, bool of_values) const {
        return {shared_address(plan.stages[0].key) + bytes(stage) + (of_values ? SharedTile<DIM>::bytes(STEP) : 0)};
    }
    DEVICE OperandPlace<DIM, Operand::NK> keys() const { return first_keys.moved(bytes(at.stage)); }
    DEVICE OperandPlace<DIM, Operand::KN> values() const { return first_values.moved(bytes(at.stage)); }
    DEVICE const TileStep& step() const { return plan.step(turn); }

    // The first warp finds the step of a turn, the first from `index` on that the tile sees. Its page is there with the warp's
    // copies, but for that of turn 0, which nothing is copied before.
    DEVICE void find_step(int turn, int index) const {
        constexpr uint32_t ALL = (1u << DENSE_WARPS) - 1;
        const StepRange seen = plan.rows.seen[lane_index() % DENSE_WARPS].steps(), whole = plan.rows.whole[lane_index() % DENSE_WARPS];
        const SeenStep found = find_seen_step(seen, index, turn, read.steps().last);
        const uint32_t see_it_whole = ballot(whole.has(found.index)) & ALL;
        if (lane_index() != 0) return;
        TileStep& step = plan.step(turn);
        step.index = found.index;
        step.warps = found.is_there() ? found.warps | see_it_whole << TileStep::WHOLE : 0;
        const KeyRows rows = plan.store[0];
        int& page = plan.page(turn);
        if (!rows.one_page(STEP)) {
            page = NO_PAGE;
        } else if (rows.paged() && found.is_there()) {
            const int* entry = rows.table + rows.page_of(found.index * STEP);
            if (turn == 0) {
                page = load_global_constant(entry);
            } else {
                async_copy<4>(shared_address(&page), entry);
            }
        } else {
            page = 0;
        }
    }

    // Starts the copy of the warp's share of a step. The first thread says which of its keys there are, and counts the pages that
    // there are not; values are copied after that.
    DEVICE void copy(int turn, int stage) const {
        constexpr int CELLS = AttentionTile::STEP_CELLS;
        const bool of_values = CopyShare<DIM>::is_of_values();
        const SharedTile<DIM> target = tile(stage, of_values);
        const KeyRows rows = plan.store[of_values ? 1 : 0];
        TileStep& step = plan.step(turn);
        const bool is_whole = of_values ? step.keys.are_all() : step.is_wanted_whole();
        if (is_whole & plan.has_page(turn, rows)) {
            copy_whole_step(target, rows, step.index, plan.page(turn));
            if (thread_index() < CELLS) step.keys.visible[thread_index()] = ~0u;
            return;
        }
        NO_UNROLL
        for (int number = 0; number < CELLS; ++number) {
            const int first = step.index * STEP + number * KeyCell::KEYS;
            const uint32_t wanted =
                of_values ? step.keys.visible[number] : keys_before(first, read.last + 1) & keys_from(first, read.first);
            const KeyCell cell = find_cell(rows, first, wanted, true);
            copy_cell(target, rows, cell, number);
            if (thread_index() != 0) continue;
            step.keys.visible[number] = cell.visible;
            count_bad_pages(status, cell);
        }
    }

    // Fills a stage for a turn, half of the warps with K of its step and half with V of the step before, and finds the next step.
    DEVICE void fill(int turn, int stage) const {
        const int own = CopyShare<DIM>::is_of_values() ? turn - 1 : turn;
        if (warp_index() == 0 && plan.step(turn).is_there()) find_step(turn + 1, plan.step(turn).index + 1);
        if (own >= 0 && plan.step(own).is_there()) copy(own, stage);
        stages.fill(stage);
    }

    // Waits for what the turn takes, and fills the next stage, which no warp reads any more. Whether there is a step.
    DEVICE bool enter() {
        stages.wait_filled(at);
        if (!step().is_there()) return false;
        fill(turn + 1, at.stage == STAGES - 1 ? 0 : at.stage + 1);
        return true;
    }
    // Called by the whole block, before the first turn. What each warp sees is known.
    DEVICE bool begin() {
        stages.begin();
        read = find_tile_steps(plan.rows).read;
        if (warp_index() == 0) find_step(0, read.steps().first);
        sync_block();  // the first step is known
        if (!step().is_there()) return false;
        fill(0, 0);
        return true;
    }
    DEVICE bool go_on() {
        at.advance();
        ++turn;
        return enter();
    }
};

// The scores of a step, −∞ where a row does not see a key.
template <class T, int DIM>
DEVICE void find_scores(Accumulator<STEP>& scores, const QueryWarp<DIM>& warp, const DenseRing<DIM>& ring) {
    scores.fill(0.0f);
    multiply<T>(scores, warp.query, ring.keys());
    const TileStep& step = ring.step();
    if (!step.is_whole()) hide_keys(scores, ring.plan.rows, step.index, step.keys);
}

template <class T, int DIM>
DEVICE void begin_run(QueryWarp<DIM>& warp, const DenseRing<DIM>& ring) {
    Accumulator<STEP> scores;
    find_scores<T>(scores, warp, ring);
    const PartChange change = weigh<T>(warp.softmax, scores);
    take_weights<T>(warp, scores, change);
}

// While the tensor cores add the values of the step before, the others make weights of this one. The branch of rescale_out asks for
// sums that are no numbers, which says nothing new: the compiler has to make the weights before it, beside the product, and not after
// it, where nothing overlaps.
template <class T, int DIM>
DEVICE void continue_run(QueryWarp<DIM>& warp, const DenseRing<DIM>& ring) {
    Accumulator<STEP> scores;
    find_scores<T>(scores, warp, ring);
    multiply<T>(warp.out, warp.weights, ring.values());
    const PartChange change = weigh<T>(warp.softmax, scores);
    add_sums(warp.softmax, change.rescale, change.sums);
    const float sums = warp.softmax.sum[0] + warp.softmax.sum[1];
    rescale_out(warp.out, change.rescale, sums != sums);
    warp.weights = to_fragment_a<T>(scores);
}

template <class T, int DIM>
DEVICE void end_run(QueryWarp<DIM>& warp, const DenseRing<DIM>& ring) {
    multiply<T>(warp.out, warp.weights, ring.values());
}

// Adds the steps that the warp sees, which follow each other, to O and to the running softmax.
template <class T, int DIM>
DEVICE void walk_steps(QueryWarp<DIM>& warp, DenseRing<DIM>& ring) {
    bool is_there = ring.enter();
    NO_UNROLL
    while (is_there && !ring.step().is_seen()) is_there = ring.go_on();
    if (!is_there) return;
    begin_run<T>(warp, ring);
    is_there = ring.go_on();
    NO_UNROLL
    while (is_there && ring.step().is_seen()) {
        continue_run<T>(warp, ring);
        is_there = ring.go_on();
    }
    end_run<T>(warp, ring);
    NO_UNROLL
    while (is_there) is_there = ring.go_on();
}

template <class T, int DIM>
DEVICE void dense_attention(const sala_sparse_attention_params& p) {
    const SequenceRange sequence = find_sequence(p.sequences, block_index_z());
    if (leave_refused<THREADS, DIM>(p, sequence)) return;
    const QueryTile tile = find_block_tile(p, sequence);
    if (tile.tokens == 0) return;
    auto& plan = dynamic_shared<DensePlan<DIM>>();
    store_rows(plan.rows, p, tile);
    if (thread_index() == 0) {
        plan.store[0] = find_tile_keys(p, tile, block_index_z());
        plan.store[1] = find_tile_values(p, tile, block_index_z());
    }
    DenseRing<DIM> ring(plan, p.status);
    const bool is_there = ring.begin();
    QueryWarp<DIM> warp;
    warp.query = load_queries<DIM>(warp.softmax, plan.rows, p, tile);
    warp.out.fill(0.0f);
    if (is_there) walk_steps<T>(warp, ring);

    const QueryTile same = find_block_tile_anew(p);
    store_dense_rows<T>(p, same, plan.rows, warp.out, warp.softmax);
}

#define INSTANCE(name, T, DIM) \
    KERNEL(name, sala_sparse_attention_params, THREADS, 1) { dense_attention<T, DIM>(p); }
#include "instances/dense_attention.h"

}  // namespace SALA_VARIANT
}  // namespace sala
