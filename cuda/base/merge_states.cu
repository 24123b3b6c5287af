// Merges what the parts of a sequence add to its state, in their order, and leaves the state before each of them:
//
//     S ← initial        for each part r:   before[r] = S        S ← e^(D_r)·S + U_r        after all:   before[parts] = S
//
// Called by every rank that has a part of a sequence, between prefill from zero, which leaves U_r, and the correction of
// its outputs. Grid: (vectors of a head's state / 256, heads, sequences). A thread takes four numbers through all parts:
//
//     thread   | initial, U_0 | S → slot, U_1 ─ load ─▶| S ← e^(D_0)·S + U_0 | S → slot, U_2 ─ load ─▶| …
//
// The states are where ranks have gathered them: part r of sequence b is entry r·batch + b. Each number is read by
// the thread that replaces it, so that a state may be stored where it was read from.
// Limit: bytes, each state read once, and each asked for written once.
//
// Definition: docs/semantics.md#merge_states
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/warp.cuh"
#include "params/linear_attention.h"
#include "parts/keys/rows.cuh"
#include "parts/linear/log_decay.cuh"
#include "parts/linear/state_slots.cuh"
#include "parts/status.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int THREADS = SALA_MERGE_STATES_THREADS;

// The slot that a state goes to, and whether it was refused: there is no such slot, an earlier entry has it, or another sequence starts from
// it. Called by whole warps.
struct Destination {
    int slot;
    bool refused;
};

DEVICE Destination find_destination(const sala_states& states, int sequence, int entry) {
    const int slot = load_slot(states.state_out, entry);
    if (slot == NO_SLOT) return {NO_SLOT, false};
    bool refused = slot < 0 || slot >= states.slots;
    for (int other = lane_index(); other < entry; other += WARP_SIZE) {
        refused |= load_global(entry_of<const int>(states.state_out, other)) == slot;
    }
    for (int other = lane_index(); other < states.batch; other += WARP_SIZE) {
        refused |= other != sequence && load_global(entry_of<const int>(states.state_in, other)) == slot;
    }
    refused = any(refused);
    return {refused ? NO_SLOT : slot, refused};
}

// A thread's vector of a head's state.
struct StateVector {
    int head, row, column;
    bool exists;

    DEVICE Float4* in(const sala_states& states, int64_t slot) const {
        return reinterpret_cast<Float4*>(state_of(states, slot, head) + row * states.row_stride + column);
    }
};

DEVICE void merge_parts(const sala_merge_states_params& p) {
    const int sequence = block_index_z();
    const int in = load_slot(p.states.state_in, sequence);
    if (in < NO_SLOT || in >= p.states.slots) {
        count_refused_once(p.status, REFUSED_SLOTS, 1);
        return;
    }
    const int row_vectors = p.columns / 4;
    const int index = block_index_x() * THREADS + thread_index();
    const StateVector vector{block_index_y(), index / row_vectors, index % row_vectors * 4, index < p.rows * row_vectors};
    const auto entry = [&](int part) { return part * p.states.batch + sequence; };
    const auto load = [&](const sala_states& states, int64_t slot) {
        return vector.exists && slot != NO_SLOT ? load_global(vector.in(states, slot)) : Float4{};
    };
    Float4 state = load(p.states, in);
    int refused = 0;
    NO_UNROLL
    for (int part = 0; part <= p.parts; ++part) {
        const bool is_last = part == p.parts;
        const Float4 added = load(p.adds, is_last ? int64_t{NO_SLOT} : int64_t{entry(part)});
        const Destination to = find_destination(p.states, sequence, entry(part));
        refused += to.refused ? 1 : 0;
        if (vector.exists && to.slot != NO_SLOT) store_global(vector.in(p.states, to.slot), state);
        if (is_last) break;
        const StateDecay decay = state_decay(clamped_log_decay(load_global(row_of<const float>(p.log_decay, entry(part), vector.head))));
        UNROLL
        for (int n = 0; n < 4; ++n) state[n] = decayed(decay, state[n]) + added[n];
    }
    count_refused_once(p.status, REFUSED_SLOTS, refused);
}

#define INSTANCE(name) \
    KERNEL(name, sala_merge_states_params, THREADS, 4) { merge_parts(p); }
#include "instances/merge_states.h"

}  // namespace SALA_VARIANT
}  // namespace sala
