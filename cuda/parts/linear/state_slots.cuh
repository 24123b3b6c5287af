// Which slots of the state pool a sequence of a linear-attention call reads and writes, and where their
// states lie.
//
// Slot indices live on the device, so they are checked here: a bad index reads and writes nothing and is
// counted in the status word.
#pragma once

#include "machine/machine.cuh"
#include "machine/memory.cuh"
#include "machine/warp.cuh"
#include "params/linear_attention.h"
#include "parts/keys/rows.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int NO_SLOT = -1;

struct StateSlots {
    int in;       // NO_SLOT: the state starts from zero
    int out;      // NO_SLOT: the final state is not stored
    bool valid;   // false: `state_in` names no slot, the sequence is refused
    int refused;  // how many of the two indices were bad
};

// Whether storing sequence `index` into `slot` would collide with another sequence of the call: the first one
// that names a slot for output owns it, and a slot that another sequence still reads may not be overwritten.
// Called by whole warps.
DEVICE bool slot_is_taken(const sala_states& states, int index, int slot) {
    bool taken = false;
    for (int other = lane_index(); other < states.batch; other += WARP_SIZE) {
        taken |= other < index && load_global(entry_of<const int>(states.state_out, other)) == slot;
        taken |= other != index && states.state_in != 0 && load_global(entry_of<const int>(states.state_in, other)) == slot;
    }
    return any(taken);
}

// An entry of a list of slots, which one lane loads for its warp.
DEVICE int load_slot(uint64_t list, int64_t index) {
    if (list == 0) return NO_SLOT;
    return shuffle(lane_index() == 0 ? load_global(entry_of<const int>(list, index)) : NO_SLOT, 0);
}

// The slots of a sequence, but for what other sequences want of its `out`.
DEVICE StateSlots find_slots(const sala_states& states, int index) {
    StateSlots slots{load_slot(states.state_in, index), load_slot(states.state_out, index), true, 0};
    if (slots.in < NO_SLOT || slots.in >= states.slots) {
        slots.valid = false;
        slots.refused += 1;
    }
    if (slots.out < NO_SLOT || slots.out >= states.slots) {
        slots.out = NO_SLOT;
        slots.refused += 1;
    }
    return slots;
}

DEVICE StateSlots resolve_slots(const sala_states& states, int index) {
    StateSlots slots = find_slots(states, index);
    if (slots.out != NO_SLOT && slot_is_taken(states, index, slots.out)) {
        slots.out = NO_SLOT;
        slots.refused += 1;
    }
    return slots;
}

// The same in two parts, for blocks that need `out` late: the first warp looks through the lists of other sequences
// and leaves `out` in shared memory for all, from the next barrier of the block on.
DEVICE void leave_out_slot(int& shared_out, StateSlots& slots, const sala_states& states, int index) {
    if (warp_index() != 0) return;
    if (slots.out != NO_SLOT && slot_is_taken(states, index, slots.out)) {
        slots.out = NO_SLOT;
        slots.refused += 1;
    }
    if (lane_index() == 0) shared_out = slots.out;
}

// The state of one head in one slot; its rows are `row_stride` apart.
DEVICE float* state_of(const sala_states& states, int64_t slot, int64_t head) {
    return entry_of<float>(states.pool, slot * states.slot_stride + head * states.head_stride);
}

}  // namespace SALA_VARIANT
}  // namespace sala
