// Drafts of linear attention: where a sequence's lie, and the trees that they make.
#pragma once

#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/warp.cuh"
#include "params/linear_attention.h"
#include "parts/draft_tree.cuh"
#include "parts/keys/rows.cuh"
#include "parts/linear/log_decay.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int MAX_DRAFTS = SALA_LINEAR_MAX_DRAFTS;

// The tensors of one sequence.
DEVICE sala_linear_attention_params drafts_of(const sala_linear_drafts_params& p, int64_t sequence) {
    sala_linear_attention_params own = p.attention;
    own.q.address += sequence * p.q_stride * sizeof(uint16_t);
    own.k.address += sequence * p.k_stride * sizeof(uint16_t);
    own.v.address += sequence * p.v_stride * sizeof(uint16_t);
    own.out.address += sequence * p.out_stride * sizeof(uint16_t);
    own.log_decay.address += sequence * p.log_decay_stride * sizeof(float);
    return own;
}

// The parent of a draft.
DEVICE int parent_of(const sala_linear_drafts_params& p, int sequence, int draft) {
    if (p.parent == 0) return draft - 1;
    return load_global(entry_of<const int>(p.parent, static_cast<int64_t>(sequence) * p.drafts + draft));
}

// Whether every draft has a parent before it. Called by whole warps.
DEVICE bool is_tree(const sala_linear_drafts_params& p, int sequence) {
    const int draft = lane_index();
    return is_tree(draft < p.drafts ? parent_of(p, sequence, draft) : NO_PARENT);
}

// The draft that is accepted as the `index`-th.
DEVICE int accepted_draft(const sala_linear_drafts_params& p, int sequence, int index) {
    if (p.path == 0) return index;
    return load_global(entry_of<const int>(p.path, static_cast<int64_t>(sequence) * p.drafts + index));
}

// How many drafts of a sequence are accepted, or −1 if their number or path cannot be. Called by whole warps.
DEVICE int count_accepted(const sala_linear_drafts_params& p, int sequence) {
    const int count = load_global(entry_of<const int>(p.accepted, sequence));
    if (count < 0 || count > p.drafts) return -1;
    const int index = lane_index();
    return is_path(index < count ? accepted_draft(p, sequence, index) : NO_PARENT, count, p.drafts) ? count : -1;
}

}  // namespace SALA_VARIANT
}  // namespace sala
