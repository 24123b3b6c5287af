// Commitment of drafts: the rows of K and V of those that were accepted move to where the tokens that they become belong.
//
//     K[base + i] = K[base + path[i]],   V likewise          i < accepted, all rows read before any is written
//
// Called once per speculative step for every sparse layer, before compress_keys. Grid: (heads, K or V, batch). DIM / 8 lanes
// take one head, 16 bytes of each of its rows, which are at most sixteen: all are in registers before the first is stored. A
// path ascends, so rows only move towards the base, and those that stay where they are are not touched:
//
//     keys      … | 0  1  2  3  4           path 0 2 4:          … | 0  2  4
//                        ╰──╯──╯                                   base
//
//     | base, accepted | path ▶ pages | load all rows ──▶ store all rows |          warps run on their own
//
// Limit: latency, of four loads that wait for each other; an accepted row is read once and written once.
//
// Definition: docs/semantics.md#commit_keys
#include "machine/machine.cuh"
#include "machine/memory.cuh"
#include "machine/warp.cuh"
#include "params/commit_keys.h"
#include "parts/draft_tree.cuh"
#include "parts/keys/key_rows.cuh"
#include "parts/keys/rows.cuh"
#include "parts/keys/sequence.cuh"
#include "parts/status.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int THREADS = SALA_COMMIT_THREADS;
constexpr int MAX_DRAFTS = SALA_COMMIT_MAX_DRAFTS;
constexpr int VECTOR = 8;  // elements of 16 bytes

// What moves in a sequence.
struct Accepted {
    int base;
    int count;
    int draft;  // the lane's entry of the path
    Refusal refusal;
};

// Called by whole warps.
DEVICE Accepted find_accepted(const sala_commit_keys_params& p, const KeyRange& range, int sequence) {
    Accepted accepted{0, 0, NO_PARENT, range.refusal};
    if (range.refusal != REFUSED_NOTHING || range.cache == NO_CACHE) return accepted;
    accepted.base = load_global(entry_of<const int>(p.base, sequence));
    accepted.count = load_global(entry_of<const int>(p.accepted, sequence));
    const bool fits = 0 <= accepted.base && accepted.base <= range.count && 0 <= accepted.count && accepted.count <= p.drafts;
    if (fits && lane_index() < accepted.count) {
        accepted.draft = load_global(entry_of<const int>(p.path, sequence * p.path_stride + lane_index()));
    }
    const int drafts = minimum(p.drafts, range.count - accepted.base);
    if (!fits || !is_path(accepted.draft, accepted.count, drafts)) accepted.refusal = REFUSED_LENGTHS;
    return accepted;
}

// Moves this thread's 16 bytes of each row of a head. Called by whole warps, also by lanes that have nothing to move.
DEVICE void move_rows(const sala_commit_keys_params& p, const KeyRows& rows, const Accepted& accepted, int vector, bool is_moved,
                      bool counts) {
    const int last = shuffle(accepted.draft, maximum(accepted.count - 1, 0));
    const RowPages<WARP_SIZE> pages = look_up_pages<WARP_SIZE>(rows, accepted.base, accepted.base + last + 1);
    const auto element = [&](int page, int row) { return reinterpret_cast<Words4*>(rows.row_in(page, row) + vector * VECTOR); };
    Words4 moved[MAX_DRAFTS];
    uint32_t moves = 0;
    UNROLL
    for (int i = 0; i < MAX_DRAFTS; ++i) {
        const int draft = shuffle(accepted.draft, i);
        const int from = pages.page(rows, accepted.base + draft), to = pages.page(rows, accepted.base + i);
        if (i >= accepted.count || draft == i) continue;
        if (from == NO_PAGE || to == NO_PAGE) {
            if (counts) count_refused(p.status, REFUSED_PAGES, 1);
            continue;
        }
        moves |= 1u << i;
        if (is_moved) moved[i] = load_global(element(from, accepted.base + draft));
    }
    UNROLL
    for (int i = 0; i < MAX_DRAFTS; ++i) {
        const int to = pages.page(rows, accepted.base + i);
        if (is_moved && (moves >> i & 1) != 0) store_global(element(to, accepted.base + i), moved[i]);
    }
}

template <int DIM>
DEVICE void commit_keys(const sala_commit_keys_params& p) {
    constexpr int VECTORS = DIM / VECTOR;
    const KeyRange range = find_keys(p.keys, block_index_z());
    const Accepted accepted = find_accepted(p, range, block_index_z());
    count_refused_sequence(p.status, accepted.refusal);
    if (accepted.refusal != REFUSED_NOTHING || accepted.count == 0) return;
    const int item = block_index_x() * (THREADS / VECTORS) + thread_index() / VECTORS;
    const bool is_moved = item < p.heads_kv;
    const int head = is_moved ? item : 0;
    const bool counts = block_index_x() == 0 && thread_index() == 0;
    if (block_index_y() == 0) {
        move_rows(p, find_key_rows(p.k, range, block_index_z(), head, 1), accepted, thread_index() % VECTORS, is_moved, counts);
    } else {
        move_rows(p, find_key_rows(p.v, range, block_index_z(), head, 1), accepted, thread_index() % VECTORS, is_moved, false);
    }
}

#define INSTANCE(name, DIM) \
    KERNEL(name, sala_commit_keys_params, THREADS, 4) { commit_keys<DIM>(p); }
#include "instances/commit_keys.h"

}  // namespace SALA_VARIANT
}  // namespace sala
