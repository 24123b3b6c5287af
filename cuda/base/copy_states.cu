// Copies of states from slot to slot, as sequences fork: pool[destinations[i]] = pool[sources[i]].
//
// Grid: (16 KiB pieces of a head's state, heads, pairs). A thread copies four vectors of 16 bytes, all of them in
// flight together; a source of −1 is a state of zero. Limit: bytes, each read once and written once.
//
// Definition: docs/semantics.md#copy_states
#include "machine/machine.cuh"
#include "machine/memory.cuh"
#include "params/linear_attention.h"
#include "parts/linear/state_slots.cuh"
#include "parts/status.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int THREADS = SALA_COPY_STATES_THREADS;
constexpr int VECTORS = SALA_COPY_STATES_VECTORS;

DEVICE void copy_pair(const sala_copy_states_params& p) {
    const StateSlots slots = resolve_slots(p.states, block_index_z());
    count_refused_once(p.status, REFUSED_SLOTS, slots.refused);
    if (!slots.valid || slots.out == NO_SLOT || slots.in == slots.out) return;
    const int row_vectors = p.columns / 4;
    const int first = block_index_x() * THREADS * VECTORS + thread_index();
    const auto at = [&](int slot, int vector) {
        const int64_t row = vector / row_vectors;
        return reinterpret_cast<Float4*>(state_of(p.states, slot, block_index_y()) + row * p.states.row_stride + vector % row_vectors * 4);
    };
    Float4 values[VECTORS];
    UNROLL
    for (int i = 0; i < VECTORS; ++i) {
        const int vector = first + i * THREADS;
        values[i] = Float4{};
        if (vector < p.rows * row_vectors && slots.in != NO_SLOT) values[i] = load_global(at(slots.in, vector));
    }
    UNROLL
    for (int i = 0; i < VECTORS; ++i) {
        const int vector = first + i * THREADS;
        if (vector < p.rows * row_vectors) store_global(at(slots.out, vector), values[i]);
    }
}

#define INSTANCE(name) \
    KERNEL(name, sala_copy_states_params, THREADS, 4) { copy_pair(p); }
#include "instances/copy_states.h"

}  // namespace SALA_VARIANT
}  // namespace sala
