// Which slots of the state pool a sequence of a linear-attention call reads and writes.
//
// Slot indices live on the device, so they are checked here: a bad index reads and writes nothing and is counted in the status word.
#pragma once

#include "../../include/kernel_params.h"
#include "machine.cuh"
#include "memory.cuh"
#include "warp.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int NO_SLOT = -1;

struct StateSlots {
    int in;       // NO_SLOT: the state starts from zero
    int out;      // NO_SLOT: the final state is not stored
    bool valid;   // false: `state_in` names no slot, the sequence is refused
    int refused;  // how many of the two indices were bad
};

// Whether storing sequence `index` into `slot` would collide with another sequence of the call: the first one that names a slot for
// output owns it, and a slot that another sequence still reads may not be overwritten. Called by whole warps.
DEVICE bool slot_is_taken(const sala_linear_attention_params& p, int index, int slot) {
    const int* in = reinterpret_cast<const int*>(p.state_in);
    const int* out = reinterpret_cast<const int*>(p.state_out);
    bool taken = false;
    for (int other = lane_index(); other < p.batch; other += 32) {
        taken |= other < index && load_global(out + other) == slot;
        taken |= other != index && in != nullptr && load_global(in + other) == slot;
    }
    return any(taken);
}

DEVICE StateSlots resolve_slots(const sala_linear_attention_params& p, int index) {
    StateSlots slots{NO_SLOT, NO_SLOT, true, 0};
    if (p.state_in != 0) slots.in = load_global(reinterpret_cast<const int*>(p.state_in) + index);
    if (p.state_out != 0) slots.out = load_global(reinterpret_cast<const int*>(p.state_out) + index);
    if (slots.in < NO_SLOT || slots.in >= p.slots) {
        slots.valid = false;
        slots.refused += 1;
    }
    const bool out_of_range = slots.out < NO_SLOT || slots.out >= p.slots;
    if (out_of_range || (slots.out != NO_SLOT && slot_is_taken(p, index, slots.out))) {
        slots.out = NO_SLOT;
        slots.refused += 1;
    }
    return slots;
}

// The state of one head in one slot.
DEVICE float* state_of(const sala_linear_attention_params& p, int slot, int head) {
    return reinterpret_cast<float*>(p.state) + slot * p.state_slot_stride + head * p.state_head_stride;
}

}  // namespace SALA_VARIANT
}  // namespace sala
