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
// with every block listed, whatever the tile, the chunk or the batch. While the tensor cores find the scores of a step, the
// warp makes weights of those of the step before: the two do not depend on each other, and nothing stands between them.
//
// Shared memory, 67.5 KiB at dim 128: K 2 × 16 KiB, V 2 × 16 KiB; rows 3 KiB.
//
//     step n    | K n+2, V n+1 ──────────────── load ────────────────▶|
//               | S n+1 = Q Kᵀ
//               | weights n                          | O += P V n     ■          ■ block barrier
//
// Limit: the tensor cores, or where they are fast shared memory: one block per SM (registers), 2 · 2 · 64 · dim · 16 FLOP
// per warp and step, and 32 KiB of fragments. Dropped: 32 rows per warp with Q in shared memory, which has no registers left
// to work on two steps at once (an eighth less time on an H100 and a fifth less on an A100, which take two such blocks per SM;
// up to a fifth more elsewhere); the ring of sparse_attention (warps have even work, and the last reader's copies come late).
//
// Definition: docs/semantics.md#dense_attention
#include "machine/async_copy.cuh"
#include "machine/barrier.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/tile.cuh"
#include "machine/warp.cuh"
#include "params/sparse_attention.h"
#include "parts/attention/dense_tile.cuh"
#include "parts/attention/key_cell.cuh"
#include "parts/attention/online_softmax.cuh"
#include "parts/attention/query_tile.cuh"
#include "parts/keys/sequence.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int THREADS = DENSE_WARPS * WARP_SIZE;
constexpr int STEP = AttentionTile::STEP;

// Its size is a multiple of 512 bytes, whatever lies behind the tiles.
template <int DIM>
struct alignas(512) DensePlan {
    static constexpr int KNOWN = 4;  // steps: the one whose scores there are, and the next two, rounded up to a power of two

    uint16_t key[2][STEP * DIM];
    uint16_t value[2][STEP * DIM];
    DenseRows rows;
    KeyRows store[2];  // of keys and values
    StepKeys keys[KNOWN];

    DEVICE SharedTile<DIM> key_tile(int count) { return {shared_address(key[count % 2])}; }
    DEVICE SharedTile<DIM> value_tile(int count) { return {shared_address(value[count % 2])}; }
    DEVICE StepKeys& keys_of(int count) { return keys[count % KNOWN]; }
};
static_assert(sizeof(DensePlan<64>) == 4 * STEP * 64 * 2 + SALA_DENSE_SCRATCH_BYTES &&
                  sizeof(DensePlan<128>) == 4 * STEP * 128 * 2 + SALA_DENSE_SCRATCH_BYTES,
              "the host gives that much");

// The rows of a step that a thread copies a vector of: every AT_ONCE-th from its own on.
template <int DIM>
struct CopyShare {
    static constexpr int VECTORS = SharedTile<DIM>::VECTORS;
    static constexpr int AT_ONCE = THREADS / VECTORS;
    static constexpr int OF_CELL = KeyCell::KEYS / AT_ONCE;
    static_assert(AT_ONCE % 8 == 0, "the permutation of a tile is the same for all of them");

    static DEVICE int row() { return thread_index() / VECTORS; }
    static DEVICE int vector() { return thread_index() % VECTORS; }
    static DEVICE uint32_t target(SharedTile<DIM> tile, int i) {
        return tile.address(row(), vector()) + static_cast<uint32_t>(SharedTile<DIM>::bytes(i * AT_ONCE));
    }
};

// Starts the copy of a step that is read whole, and lies in one page.
template <int DIM>
DEVICE void copy_whole_step(SharedTile<DIM> tile, const KeyRows& rows, const SeenStep& step) {
    using Share = CopyShare<DIM>;
    const uint16_t* source = rows.row_in(step.page, step.index * STEP) + Share::row() * rows.stride + Share::vector() * 8;
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

// The same of any step, of its keys in `wanted`, cell by cell. `found` is told of each.
template <int DIM, class Wanted, class Found>
DEVICE void copy_cells(SharedTile<DIM> tile, const KeyRows& rows, int step, const Wanted& wanted, const Found& found) {
    NO_UNROLL
    for (int number = 0; number < AttentionTile::STEP_CELLS; ++number) {
        const int first = step * STEP + number * KeyCell::KEYS;
        const KeyCell cell = find_cell(rows, first, wanted(first, number), true);
        copy_cell(tile, rows, cell, number);
        found(cell, number);
    }
}

// Starts the copy of a step's keys, says which of them there are, and counts the pages that there are not.
template <int DIM>
DEVICE void copy_keys(DensePlan<DIM>& plan, const SeenStep& step, const SeenKeys& read, uint64_t status) {
    const KeyRows rows = plan.store[0];
    const auto tile = plan.key_tile(step.count);
    const int first_key = step.index * STEP;
    const bool is_whole = step.has_page(rows) & (read.first <= first_key) & (first_key + STEP - 1 <= read.last);
    if (is_whole) {
        copy_whole_step(tile, rows, step);
        if (thread_index() < AttentionTile::STEP_CELLS) plan.keys_of(step.count).visible[thread_index()] = ~0u;
    } else {
        const auto wanted = [&](int first, int) { return keys_before(first, read.last + 1) & keys_from(first, read.first); };
        copy_cells(tile, rows, step.index, wanted, [&](const KeyCell& cell, int number) {
            if (thread_index() != 0) return;
            plan.keys_of(step.count).visible[number] = cell.visible;
            count_bad_pages(status, cell);
        });
    }
    async_copy_commit();
}

// Starts the copy of the values of keys that have been copied.
template <int DIM>
DEVICE void copy_values(DensePlan<DIM>& plan, const SeenStep& step) {
    const KeyRows rows = plan.store[1];
    const auto tile = plan.value_tile(step.count);
    const StepKeys& keys = plan.keys_of(step.count);
    if (step.has_page(rows) & keys.are_all()) {
        copy_whole_step(tile, rows, step);
    } else {
        copy_cells(tile, rows, step.index, [&](int, int number) { return keys.visible[number]; }, [](const KeyCell&, int) {});
    }
    async_copy_commit();
}

// What a warp has of its rows.
template <int DIM>
struct DenseWarp {
    FragmentA<DIM> query;
    Accumulator<DIM> out;
    OnlineSoftmax softmax;
    Accumulator<STEP> scores;  // of the step whose values come next
};

template <class T, int DIM>
DEVICE void find_scores(Accumulator<STEP>& scores, const DenseWarp<DIM>& warp, SharedTile<DIM> key) {
    scores.fill(0.0f);
    multiply_nk<T>(scores, warp.query, key, 0, 0);
}

// Adds the step whose scores there are to O and to the running softmax.
template <class T, int DIM>
DEVICE void add_step(DenseWarp<DIM>& warp, SharedTile<DIM> value) {
    float maxima[2], sums[2];
    find_row_maxima(maxima, warp.scores);
    const Rescale rescale = raise_maxima(warp.softmax, maxima);
    make_weights<T>(sums, warp.scores, warp.softmax);
    advance(warp.softmax, warp.out, rescale, sums);
    multiply_kn<T>(warp.out, to_fragment_a<T>(warp.scores), value, 0, 0);
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
    sync_block();  // what each warp sees is known
    const TileSteps steps = find_tile_steps(plan.rows);
    const SeenKeys read = steps.read;
    const int last = read.steps().last;

    const auto find = [&](int index, int count) { return find_step(steps.of_warp, plan.store[0], index, count, last); };
    SeenStep step = settled(find(read.steps().first, 0)), next = settled(find(step.index + 1, 1)), after = settled(find(next.index + 1, 2));
    if (step.is_there()) copy_keys(plan, step, read, p.status);
    DenseWarp<DIM> warp;
    warp.query = load_queries<DIM>(plan.rows, p, tile);
    warp.out.fill(0.0f);
    UNROLL
    for (int side = 0; side < 2; ++side) start_row(warp.softmax, side, plan.rows.rows[row_of_lane(side)].factor);
    async_copy_wait<0>();
    sync_block();  // the first K is in shared memory
    if (step.is_there()) copy_values(plan, step);
    if (next.is_there()) copy_keys(plan, next, read, p.status);
    if (step.is_seen()) find_scores<T>(warp.scores, warp, plan.key_tile(0));
    NO_UNROLL
    while (step.is_there()) {
        async_copy_wait<0>();
        sync_block();  // this V and the next K are in shared memory; this K and the V before are free
        const SeenStep later = find(after.index + 1, after.count + 1);
        if (next.is_there()) copy_values(plan, next);
        if (after.is_there()) copy_keys(plan, after, read, p.status);
        if (step.is_seen() && !is_whole(plan.rows, step.index, plan.keys_of(step.count)))
            hide_keys(warp.scores, plan.rows, step.index, plan.keys_of(step.count));
        if (step.is_seen() && next.is_seen()) {
            // While the tensor cores find the next scores, the others make weights of these.
            Accumulator<STEP> scores;
            find_scores<T>(scores, warp, plan.key_tile(next.count));
            add_step<T>(warp, plan.value_tile(step.count));
            warp.scores = scores;
        } else {
            if (step.is_seen()) add_step<T>(warp, plan.value_tile(step.count));
            if (next.is_seen()) find_scores<T>(warp.scores, warp, plan.key_tile(next.count));
        }
        step = next;
        next = after;
        after = settled(later);  // a step before it is copied
    }

    const QueryTile same = find_block_tile_anew(p);
    store_dense_rows<T>(p, same, plan.rows, warp.out, warp.softmax);
}

#define INSTANCE(name, T, DIM) \
    KERNEL(name, sala_sparse_attention_params, THREADS, 1) { dense_attention<T, DIM>(p); }
#include "instances/dense_attention.h"

}  // namespace SALA_VARIANT
}  // namespace sala
