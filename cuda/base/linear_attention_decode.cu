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
#include "parts/status.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int THREADS = SALA_LINEAR_DECODE_THREADS;
constexpr int WARPS = THREADS / WARP_SIZE;
constexpr int CHANNELS = SALA_LINEAR_DECODE_CHANNELS;

template <int DIM_K>
struct DecodePlan {
    float query[DIM_K];  // times the scale
    float key[DIM_K];
    float value[CHANNELS];
    float partial[WARPS][CHANNELS];  // KV layout: what each warp adds to the sum over dim_k
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
    const T* k = row_of<const T>(p.k, step.token, step.head);
    const T* v = row_of<const T>(p.v, step.token, step.head) + step.channel0;
    const int thread = thread_index();
    if (thread < DIM_K) {
        plan.query[thread] = p.scale * to_float(load_global(q + thread));
        plan.key[thread] = to_float(load_global(k + thread));
    }
    if (thread < CHANNELS) plan.value[thread] = to_float(load_global(v + thread));
}

// `first` is the thread's element of the first pass; passes are `pass_stride` floats apart.
template <int PASSES>
DEVICE void load_state(Float4 (&state)[PASSES], const sala_linear_attention_params& p, const Step& step, int64_t first,
                       int64_t pass_stride) {
    UNROLL
    for (int i = 0; i < PASSES; ++i) {
        state[i] = Float4{};
        if (step.slots.in != NO_SLOT) {
            const float* from = state_of(p.states, step.slots.in, step.head) + first + i * pass_stride;
            state[i] = load_global(reinterpret_cast<const Float4*>(from));
        }
    }
}

template <int PASSES>
DEVICE void store_state(const Float4 (&state)[PASSES], const sala_linear_attention_params& p, const Step& step, int64_t first,
                        int64_t pass_stride) {
    if (step.slots.out == NO_SLOT) return;
    UNROLL
    for (int i = 0; i < PASSES; ++i) {
        float* to = state_of(p.states, step.slots.out, step.head) + first + i * pass_stride;
        store_global(reinterpret_cast<Float4*>(to), state[i]);
    }
}

template <class T>
DEVICE void store_channel(const sala_linear_attention_params& p, const Step& step, int channel, float value) {
    store_global(row_of<T>(p.out, step.token, step.head) + step.channel0 + channel, from_float<T>(value));
}

template <class T, int DIM_K>
DEVICE void step_kv(DecodePlan<DIM_K>& plan, const sala_linear_attention_params& p, const Step& step) {
    constexpr int ROWS_PER_PASS = THREADS / 8;
    constexpr int PASSES = DIM_K / ROWS_PER_PASS;
    const int column = thread_index() % 8 * 4;
    const int row0 = thread_index() / 8;
    const int64_t first = row0 * p.states.row_stride + step.channel0 + column;
    const int64_t pass_stride = ROWS_PER_PASS * p.states.row_stride;

    Float4 state[PASSES];
    load_state(state, p, step, first, pass_stride);
    sync_block();  // q, k and v are in shared memory
    float out[4] = {};
    UNROLL
    for (int i = 0; i < PASSES; ++i) {
        const int row = row0 + i * ROWS_PER_PASS;
        UNROLL
        for (int c = 0; c < 4; ++c) {
            state[i][c] = fma(plan.key[row], plan.value[column + c], decayed(step.decay, state[i][c]));
            out[c] = fma(plan.query[row], state[i][c], out[c]);
        }
    }
    store_state(state, p, step, first, pass_stride);

    UNROLL
    for (int c = 0; c < 4; ++c) {
        out[c] += shuffle_xor(out[c], 8);
        out[c] += shuffle_xor(out[c], 16);
        if (lane_index() < 8) plan.partial[warp_index()][column + c] = out[c];
    }
    sync_block();  // every warp's share is in shared memory
    if (thread_index() < CHANNELS) {
        float sum = 0.0f;
        UNROLL
        for (int w = 0; w < WARPS; ++w) sum += plan.partial[w][thread_index()];
        store_channel<T>(p, step, thread_index(), sum);
    }
}

template <class T, int DIM_K>
DEVICE void step_vk(DecodePlan<DIM_K>& plan, const sala_linear_attention_params& p, const Step& step) {
    constexpr int LANES_PER_ROW = DIM_K / 4;
    constexpr int ROWS_PER_PASS = THREADS / LANES_PER_ROW;
    constexpr int PASSES = CHANNELS / ROWS_PER_PASS;
    const int channel = thread_index() % LANES_PER_ROW * 4;
    const int row0 = thread_index() / LANES_PER_ROW;
    const int64_t first = (step.channel0 + row0) * p.states.row_stride + channel;
    const int64_t pass_stride = ROWS_PER_PASS * p.states.row_stride;

    Float4 state[PASSES];
    load_state(state, p, step, first, pass_stride);
    sync_block();  // q, k and v are in shared memory
    UNROLL
    for (int i = 0; i < PASSES; ++i) {
        const int row = row0 + i * ROWS_PER_PASS;
        float out = 0.0f;
        UNROLL
        for (int c = 0; c < 4; ++c) {
            state[i][c] = fma(plan.key[channel + c], plan.value[row], decayed(step.decay, state[i][c]));
            out = fma(plan.query[channel + c], state[i][c], out);
        }
        UNROLL
        for (int distance = 1; distance < LANES_PER_ROW; distance *= 2) out += shuffle_xor(out, distance);
        if (channel == 0) store_channel<T>(p, step, row, out);
    }
    store_state(state, p, step, first, pass_stride);
}

template <class T, int DIM_K>
DEVICE void linear_attention_decode(const sala_linear_attention_params& p) {
    const int index = block_index_z();
    Step step{resolve_slots(p.states, index), index, block_index_y(), block_index_x() * CHANNELS, {}};
    count_refused_once(p.status, REFUSED_SLOTS, step.slots.refused);
    if (!step.slots.valid) return;
    step.decay = state_decay(log_decay_at(p, step.token, step.head));

    auto& plan = dynamic_shared<DecodePlan<DIM_K>>();
    load_token<T>(plan, p, step);
    if (p.states.is_vk) {
        step_vk<T>(plan, p, step);
    } else {
        step_kv<T>(plan, p, step);
    }
}

#define INSTANCE(name, T, DIM_K) \
    KERNEL(name, sala_linear_attention_params, THREADS, 4) { linear_attention_decode<T, DIM_K>(p); }
#include "instances/linear_attention_decode.h"

}  // namespace SALA_VARIANT
}  // namespace sala
