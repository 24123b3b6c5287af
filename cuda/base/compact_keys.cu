// Compaction: the rows of K and V that are kept, and their scores, move to the front of their sequence.
//
//     K[i] = K[index[i]],   V and scores likewise          per sequence and kv head, index[i] ≥ i; all rows are read before any is written
//
// Called once per chunk of a method that keeps a cache of a fixed size, behind choose_tokens. Grid: (slices, kv heads, batch): a slice is
// 64 bytes of each row of K or of V, or the scores. A block walks its slice in order, 512 rows at a time, so that no block reads what
// another writes. Rows move towards the front only, which is why a step may overwrite what no later one reads:
//
//     rows        | step 0 | step 1 | step 2 | …            step n writes rows of its own part, and later ones read behind it
//                      ╰───◀──╯  ╰──◀───╯
//     step 0      | load |       ■ store |
//     step 1             | load |        ■ store |          ■ block barrier: all rows of the step have been read
//
// Limit: bytes, each kept row read once and written once; of few heads the latency of an index, a page and a row per step of 512.
//
// Definition: docs/semantics.md#compact_keys
#include "machine/barrier.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "params/compact_keys.h"
#include "parts/keys/key_rows.cuh"
#include "parts/keys/rows.cuh"
#include "parts/keys/sequence.cuh"
#include "parts/status.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int THREADS = SALA_COMPACT_THREADS;
constexpr int AT_ONCE = SALA_COMPACT_ROWS;
constexpr int VECTOR = 8;                           // elements of 16 bytes
constexpr int LANES = SALA_COMPACT_SLICE / VECTOR;  // of a row
constexpr int NO_TOKEN = -1;

// Values that a thread moves in a step, and where each goes; null: nowhere.
template <class V>
struct Moved {
    V values[AT_ONCE];
    V* targets[AT_ONCE];
};

// Loads step after step, and stores each when all threads have loaded it; the next one is under way then. Called by whole blocks.
template <class V, class Load>
DEVICE void walk(int entries, int step, const Load& load) {
    Moved<V> next = load(0);
    NO_UNROLL
    for (int first = 0; first < entries; first += step) {
        const Moved<V> moved = next;
        if (entries - first > step) next = load(first + step);
        sync_block();  // all rows of this step have been read
        UNROLL
        for (int i = 0; i < AT_ONCE; ++i) {
            if (moved.targets[i] != nullptr) store_global(moved.targets[i], moved.values[i]);
        }
    }
}

// The token that moves to row `entry`; NO_TOKEN if none does. `counts`: whether this thread counts an entry that cannot be.
DEVICE int find_token(const sala_compact_keys_params& p, const int* indices, int count, int entry, bool counts) {
    if (entry >= p.kept) return NO_TOKEN;
    const int token = load_global_constant(indices + entry);
    const bool fits = entry <= token && token < count;
    if (!fits && token != NO_TOKEN && counts) count_refused(p.status, REFUSED_BLOCKS, 1);
    return fits && token != entry ? token : NO_TOKEN;
}

// The slice of rows that begins at `channel`.
DEVICE void move_rows(const sala_compact_keys_params& p, const KeyRows& rows, const int* indices, int count, int channel, bool counts) {
    constexpr int ROWS = THREADS / LANES;
    channel += thread_index() % LANES * VECTOR;
    counts = counts && thread_index() % LANES == 0;
    walk<Words4>(p.kept, ROWS * AT_ONCE, [&](int first) {
        int tokens[AT_ONCE];
        UNROLL
        for (int i = 0; i < AT_ONCE; ++i) tokens[i] = find_token(p, indices, count, first + i * ROWS + thread_index() / LANES, counts);
        Moved<Words4> moved;
        UNROLL
        for (int i = 0; i < AT_ONCE; ++i) {
            const int to = first + i * ROWS + thread_index() / LANES;
            const int from = maximum(tokens[i], 0), moves = tokens[i] != NO_TOKEN;
            const int from_page = look_up_pages<LANES>(rows, from, from + moves).page(rows, from);
            const int to_page = look_up_pages<LANES>(rows, to, to + moves).page(rows, to);
            moved.targets[i] = nullptr;
            if (!moves) continue;
            if (from_page == NO_PAGE || to_page == NO_PAGE) {
                if (counts) count_refused(p.status, REFUSED_PAGES, 1);
                continue;
            }
            moved.values[i] = load_global(reinterpret_cast<const Words4*>(rows.row_in(from_page, from) + channel));
            moved.targets[i] = reinterpret_cast<Words4*>(rows.row_in(to_page, to) + channel);
        }
        return moved;
    });
}

DEVICE void move_scores(const sala_compact_keys_params& p, float* scores, const int* indices, int count) {
    walk<float>(p.kept, THREADS * AT_ONCE, [&](int first) {
        Moved<float> moved;
        UNROLL
        for (int i = 0; i < AT_ONCE; ++i) {
            const int to = first + i * THREADS + thread_index();
            const int from = find_token(p, indices, count, to, false);
            moved.targets[i] = from == NO_TOKEN ? nullptr : scores + to;
            if (from != NO_TOKEN) moved.values[i] = load_global(scores + from);
        }
        return moved;
    });
}

template <int DIM>
DEVICE void compact_keys(const sala_compact_keys_params& p) {
    constexpr int SLICES = DIM / SALA_COMPACT_SLICE;
    const int sequence = block_index_z(), head = block_index_y(), slice = block_index_x();
    const KeyRange range = find_keys(p.keys, sequence);
    count_refused_sequence(p.status, range.refusal);
    if (range.refusal != REFUSED_NOTHING || range.count == 0) return;
    const int* indices = row_of<const int>(p.indices, sequence, head);
    const int channel = slice % SLICES * SALA_COMPACT_SLICE;
    if (slice < SLICES) {
        move_rows(p, find_key_rows(p.k, range, sequence, head, 1), indices, range.count, channel, slice == 0);
    } else if (slice < 2 * SLICES) {
        move_rows(p, find_key_rows(p.v, range, sequence, head, 1), indices, range.count, channel, false);
    } else {
        move_scores(p, row_of<float>(p.scores, sequence, head), indices, range.count);
    }
}

#define INSTANCE(name, DIM) \
    KERNEL(name, sala_compact_keys_params, THREADS, 1) { compact_keys<DIM>(p); }
#include "instances/compact_keys.h"

}  // namespace SALA_VARIANT
}  // namespace sala
