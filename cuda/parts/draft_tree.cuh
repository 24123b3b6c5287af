// Drafts of one sequence as a tree: each follows one before it, or what came before all of them.
//
//     parent of 0, 1, 2, 3:   −1 0 0 1            path to 3:   0 → 1 → 3, as bits 1011            accepted path:   0 1 3, ascending
//
// A warp has the tree in one register: lane i the parent of draft i, or the i-th draft of a path.
#pragma once

#include "machine/machine.cuh"
#include "machine/warp.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int NO_PARENT = -1;  // also of lanes without a draft

// Whether every draft has a parent before it. Called by whole warps.
DEVICE bool is_tree(int parent) { return all(NO_PARENT <= parent && parent < lane_index()); }

// A draft of a tree and its ancestors, a bit for each. Called by whole warps, which ask for the same draft.
DEVICE uint32_t path_to(int draft, int parent) {
    uint32_t path = 0;
    while (draft != NO_PARENT) {
        path |= 1u << draft;
        draft = shuffle(parent, draft);
    }
    return path;
}

// Whether the first `count` lanes have drafts, of `drafts`, in ascending order: children come after their parents. Called
// by whole warps.
DEVICE bool is_path(int draft, int count, int drafts) {
    const int other = shuffle_up(draft, 1);
    const int before = lane_index() == 0 ? NO_PARENT : other;
    return all(lane_index() >= count || (before < draft && draft < drafts));
}

}  // namespace SALA_VARIANT
}  // namespace sala
