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

DEVICE StateSlots resolve_slots(const sala_states& states, int index) {
    StateSlots slots{NO_SLOT, NO_SLOT, true, 0};
    if (states.state_in != 0) slots.in = load_global(entry_of<const int>(states.state_in, index));
    if (states.state_out != 0) slots.out = load_global(entry_of<const int>(states.state_out, index));
    if (slots.in < NO_SLOT || slots.in >= states.slots) {
        slots.valid = false;
        slots.refused += 1;
    }
    const bool out_of_range = slots.out < NO_SLOT || slots.out >= states.slots;
    if (out_of_range || (slots.out != NO_SLOT && slot_is_taken(states, index, slots.out))) {
        slots.out = NO_SLOT;
        slots.refused += 1;
    }
    return slots;
}

// The state of one head in one slot; its rows are `row_stride` apart.
DEVICE float* state_of(const sala_states& states, int slot, int head) {
    return entry_of<float>(states.pool, slot * states.slot_stride + head * states.head_stride);
}

}  // namespace SALA_VARIANT
}  // namespace sala
