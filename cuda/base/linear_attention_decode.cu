// Linear attention, one token per sequence: S ← e^g·S + k vᵀ in place, o = scale · Sᵀ q.
//
// Called once per token for every linear layer. Grid: (value columns / 32, heads, batch).
//
//        dim_v →  32 columns per block
//      ┌────┬────┬────┬────┐        KV layout: eight threads cover the 32 columns of a row, 16 rows per pass, and the sum over
//  d   │ b0 │ b1 │ b2 │ b3 │        dim_k ends in shared memory. VK layout (the picture on its side): dim_k / 4 lanes cover a row,
//  i m │    │    │    │    │        and the sum stays in the warp. Either way a thread loads its whole share of the state
//  k ↓ │    │    │    │    │        (32 registers at dim_k 128) before it needs the first of it.
//      └────┴────┴────┴────┘
//
// Shared memory: q and k as f32, 1 KiB at dim_k 128; v and the warps' partial sums 0.6 KiB.
//
//     block    | q k v, S ───── load ─────▶|■ S ← …, o | S store |■ sum over warps, o store (KV layout)         ■ block barrier
//
// Limit: bytes. The state is read and written once, 2·4·dim_k·dim_v = 128 KiB per head at 128 × 128; q, k, v
// and o together are 1 KiB. Calculated, not measured: 31 µs for 32 sequences of 32 heads at 4.3 TB/s. There
// are 0.6 FLOP per byte, so nothing else is near its limit. The order of the sum over dim_k follows from
// dim_k and the layout alone: results do not depend on the batch.
//
// Definition: docs/semantics.md#linear_decode
#include "machine/barrier.cuh"
#include "machine/element.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/warp.cuh"
#include "params/linear_attention.h"
#include "parts/keys/rows.cuh"
#include "parts/linear/log_decay.cuh"
#include "parts/linear/state_slots.cuh"
#include "parts/linear/state_tile.cuh"
#include "parts/status.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int THREADS = StateTile::THREADS;
constexpr int WARPS = StateTile::WARPS;
constexpr int CHANNELS = StateTile::CHANNELS;

template <int DIM_K>
struct DecodePlan {
    float query[DIM_K];  // times the scale
    float key[DIM_K];
    float value[CHANNELS];
    float partial[WARPS][CHANNELS];  // KV layout: what each warp adds to the sum over dim_k
    int slot_out;
};

// One token of one head: the block's share of the work.
struct Step {
    StateSlots slots;
    int64_t token;
    int head;
    int channel0;  // the first of the block's value channels
    StateDecay decay;
};

template <class T, int DIM_K>
DEVICE void load_token(DecodePlan<DIM_K>& plan, const sala_linear_attention_params& p, const Step& step) {
    const T* q = row_of<const T>(p.q, step.token, step.head);
    const T* k = row_of<const T>(p.k, step.token, step.head / p.group);
    const T* v = row_of<const T>(p.v, step.token, step.head / p.group) + step.channel0;
    const int thread = thread_index();
    if (thread < DIM_K) {
        plan.query[thread] = p.scale * to_float(load_global(q + thread));
        plan.key[thread] = to_float(load_global(k + thread));
    }
    if (thread < CHANNELS) plan.value[thread] = to_float(load_global(v + thread));
}

template <class T>
DEVICE void store_channel(const sala_linear_attention_params& p, const Step& step, int channel, float value) {
    store_global(row_of<T>(p.out, step.token, step.head) + step.channel0 + channel, from_float<T>(value));
}

// The sum over key channels is one of warps: each leaves its share.
template <class T, int DIM_K>
DEVICE void advance(DecodePlan<DIM_K>& plan, StateShare<DIM_K, false>& state, const sala_linear_attention_params& p, const Step& step) {
    using Share = StateShare<DIM_K, false>;
    const int column = Share::column();
    float out[4] = {};
    UNROLL
    for (int pass = 0; pass < Share::PASSES; ++pass) {
        const int row = Share::row(pass);
        UNROLL
        for (int c = 0; c < 4; ++c) {
            float& number = state.values[pass][c];
            number = fma(plan.key[row], plan.value[column + c], decayed(step.decay, number));
            out[c] = fma(plan.query[row], number, out[c]);
        }
    }
    state.store(p.states, plan.slot_out, step.head, step.channel0);

    reduce_add_each<4, 8>(out);
    if (lane_index() < 8) {
        UNROLL
        for (int c = 0; c < 4; ++c) plan.partial[warp_index()][column + c] = out[c];
    }
    sync_block();  // every warp's share is in shared memory
    if (thread_index() < CHANNELS) {
        float sum = 0.0f;
        UNROLL
        for (int w = 0; w < WARPS; ++w) sum += plan.partial[w][thread_index()];
        store_channel<T>(p, step, thread_index(), sum);
    }
}

// The sum over key channels is one of neighbouring lanes.
template <class T, int DIM_K>
DEVICE void advance(DecodePlan<DIM_K>& plan, StateShare<DIM_K, true>& state, const sala_linear_attention_params& p, const Step& step) {
    using Share = StateShare<DIM_K, true>;
    const int column = Share::column();
    UNROLL
    for (int pass = 0; pass < Share::PASSES; ++pass) {
        const int row = Share::row(pass);
        float out = 0.0f;
        UNROLL
        for (int c = 0; c < 4; ++c) {
            float& number = state.values[pass][c];
            number = fma(plan.key[column + c], plan.value[row], decayed(step.decay, number));
            out = fma(plan.query[column + c], number, out);
        }
        out = reduce_add<Share::ROW_THREADS>(out);
        if (column == 0) store_channel<T>(p, step, row, out);
    }
    state.store(p.states, plan.slot_out, step.head, step.channel0);
}

template <class T, int DIM_K, bool VK>
DEVICE void decode(const sala_linear_attention_params& p, Step& step) {
    auto& plan = dynamic_shared<DecodePlan<DIM_K>>();
    StateShare<DIM_K, VK> state;
    state.load(p.states, step.slots.in, step.head, step.channel0);
    load_token<T>(plan, p, step);
    leave_out_slot(plan.slot_out, step.slots, p.states, block_index_z());
    count_refused_once(p.status, REFUSED_SLOTS, step.slots.refused);
    sync_block();  // q, k and v and the slot are in shared memory
    advance<T>(plan, state, p, step);
}

template <class T, int DIM_K>
DEVICE void linear_attention_decode(const sala_linear_attention_params& p) {
    const int index = block_index_z();
    Step step{find_slots(p.states, index), index, block_index_y(), block_index_x() * CHANNELS, {}};
    if (!step.slots.valid) {
        count_refused_once(p.status, REFUSED_SLOTS, resolve_slots(p.states, index).refused);
        if (thread_index() < CHANNELS) store_channel<T>(p, step, thread_index(), 0.0f);
        return;
    }
    step.decay = state_decay(log_decay_at(p, step.token, step.head));
    if (p.states.is_vk) {
        decode<T, DIM_K, true>(p, step);
    } else {
        decode<T, DIM_K, false>(p, step);
    }
}

#define INSTANCE(name, T, DIM_K) \
    KERNEL(name, sala_linear_attention_params, THREADS, 4) { linear_attention_decode<T, DIM_K>(p); }
#include "instances/linear_attention_decode.h"

}  // namespace SALA_VARIANT
}  // namespace sala
