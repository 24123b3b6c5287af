// Checkpoints of the linear scan: states after every so many tokens of a call, for caches of prefixes.
#pragma once

#include "machine/machine.cuh"
#include "machine/memory.cuh"
#include "machine/warp.cuh"
#include "params/linear_attention.h"
#include "parts/keys/rows.cuh"
#include "parts/linear/segment.cuh"
#include "parts/linear/state_slots.cuh"
#include "parts/status.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// Where a segment stops to leave its state.
struct Stop {
    int token;  // of the sequence
    int checkpoint;
    bool is_checkpoint;  // otherwise it is the segment's end
};

// The first stop behind a token: a checkpoint, or the end.
DEVICE Stop find_stop(const sala_linear_prefill_params& p, const Segment& s, int token) {
    if (p.checkpoint_slots == 0 || p.segments_alone != 0) return {s.end, 0, false};
    const int64_t next = token / p.checkpoint_every;
    const int64_t stop = p.checkpoint_every * (next + 1);
    if (next >= p.max_checkpoints || stop > s.end) return {s.end, 0, false};
    return {static_cast<int>(stop), static_cast<int>(next), true};
}

// The slot of a checkpoint; NO_SLOT if there is none to store to. One that a sequence starts from or ends in is refused.
// Called by whole warps.
DEVICE int checkpoint_slot(const sala_linear_prefill_params& p, const Segment& s, int checkpoint) {
    const sala_states& states = p.attention.states;
    const int64_t entry = static_cast<int64_t>(s.sequence) * p.max_checkpoints + checkpoint;
    const int slot = load_slot(p.checkpoint_slots, entry);
    if (slot == NO_SLOT) return NO_SLOT;
    bool is_refused = slot < 0 || slot >= states.slots;
    for (int other = lane_index(); other < states.batch; other += WARP_SIZE) {
        is_refused |= states.state_in != 0 && load_global(entry_of<const int>(states.state_in, other)) == slot;
        is_refused |= states.state_out != 0 && load_global(entry_of<const int>(states.state_out, other)) == slot;
    }
    is_refused = any(is_refused);
    if (is_refused && s.head == 0 && s.channel0 == 0 && thread_index() == 0) count_refused(p.attention.status, REFUSED_SLOTS, 1);
    return is_refused ? NO_SLOT : slot;
}

}  // namespace SALA_VARIANT
}  // namespace sala
