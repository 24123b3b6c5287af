// The query tokens of a decode step, as a chain or as a tree of drafts: where each stands, and which keys it sees.
//
//     keys       0 … base − 1   |  base  base + 1  base + 2  base + 3          base = Lk − Lq
//     chain      ──────────────────▶     ──▶       ──▶       ──▶               draft i at base + i, sees all keys up to there
//     tree       ─────────────▶ |   0 ──▶ 1
//                               |   └───────────────▶ 2                        draft i at base + depth, sees keys before base, its path
#pragma once

#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/warp.cuh"
#include "params/sequences.h"
#include "parts/draft_tree.cuh"
#include "parts/keys/rows.cuh"
#include "parts/keys/sequence.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// One query token.
struct Draft {
    int position;
    int end;        // its list names keys before this one
    uint32_t tree;  // drafts of a tree that it sees besides, bit i for key end + i; none in a chain
};

// The sequence, which is refused if its drafts should be a tree and are none. `parent` becomes the lane's. Called by whole
// warps.
DEVICE SequenceRange find_drafts(const sala_sequences& s, const sala_trees& trees, int index, int& parent) {
    SequenceRange sequence = find_sequence(s, index);
    parent = NO_PARENT;
    if (trees.parent == 0 || sequence.refusal != REFUSED_NOTHING) return sequence;
    if (lane_index() < sequence.queries) parent = load_global(entry_of<const int>(trees.parent, index * trees.stride + lane_index()));
    if (is_tree(parent)) return sequence;
    sequence.keys = refuse_keys(REFUSED_LENGTHS);
    sequence.refusal = REFUSED_LENGTHS;
    return sequence;
}

// Before which key those lie that a token sees whatever the tree; at least 0.
DEVICE int end_of_past(const sala_trees& trees, const SequenceRange& sequence, int row) {
    return maximum(trees.parent == 0 ? sequence.position(row) + 1 : sequence.position(0), 0);
}

// Query token `row` of a sequence that is not refused. Called by whole warps.
DEVICE Draft find_draft(const sala_trees& trees, const SequenceRange& sequence, int row, int parent) {
    const int end = end_of_past(trees, sequence, row);
    if (trees.parent == 0) return {sequence.position(row), end, 0};
    const uint32_t path = path_to(row, parent);
    const int base = sequence.position(0);
    const int position = base + count_bits(path) - 1;
    // With more queries than keys the first ones have no key, and tokens before position 0 see nothing.
    return {position, end, position < 0 ? 0 : path >> maximum(-base, 0)};
}

}  // namespace SALA_VARIANT
}  // namespace sala
