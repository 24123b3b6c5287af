// Linear attention, one token a sequence: S ← e^g·S + k vᵀ in place, o = scale · Sᵀ q.
//
// Called once a token for every linear layer. Grid: (value columns / 32, heads, batch).
//
//        dim_v →  32 columns a block
//      ┌────┬────┬────┬────┐        KV layout: eight threads cover the 32 columns of a row, 16 rows a pass, and the sum over dim_k
//  d   │ b0 │ b1 │ b2 │ b3 │        ends in shared memory. VK layout (the picture on its side): dim_k / 4 lanes cover a row, and the
//  i m │    │    │    │    │        sum stays in the warp. Either way a thread loads its whole share of the state (32 registers at
//  k ↓ │    │    │    │    │        dim_k 128) before it needs the first of it.
//      └────┴────┴────┴────┘
//
// Limit: bytes. The state is read and written once, 2·4·dim_k·dim_v = 128 KiB a head at 128 × 128; q, k, v and o together are 1 KiB.
// 31 µs for 32 sequences of 32 heads at 4.3 TB/s. There are 0.6 FLOP a byte, so nothing else is near its limit.
// The order of the sum over dim_k follows from dim_k and the layout alone: results do not depend on the batch.
#include "device/barrier.cuh"
#include "device/element.cuh"
#include "device/log_decay.cuh"
#include "device/machine.cuh"
#include "device/math.cuh"
#include "device/memory.cuh"
#include "device/state_slots.cuh"
#include "device/status.cuh"
#include "device/warp.cuh"

#include "../include/kernel_params.h"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int THREADS = 128;
constexpr int WARPS = THREADS / 32;
constexpr int COLUMNS = 32;

using Float4 = Vector<float, 4>;

template <int DIM_K>
struct DecodePlan {
    float query[DIM_K];  // times the scale
    float key[DIM_K];
    float value[COLUMNS];
    float partial[WARPS][COLUMNS];  // KV layout: each warp's share of the sum over dim_k
};

// One token of one head: the block's share of the work.
struct Step {
    StateSlots slots;
    int64_t token;
    int head;
    int column0;
    StateDecay decay;
};

template <class T, int DIM_K>
DEVICE void load_token(DecodePlan<DIM_K>& plan, const sala_linear_attention_params& p, const Step& step) {
    const T* q = reinterpret_cast<const T*>(p.q) + step.token * p.q_token_stride + step.head * p.q_head_stride;
    const T* k = reinterpret_cast<const T*>(p.k) + step.token * p.k_token_stride + step.head * p.k_head_stride;
    const T* v = reinterpret_cast<const T*>(p.v) + step.token * p.v_token_stride + step.head * p.v_head_stride + step.column0;
    const int thread = thread_index();
    if (thread < DIM_K) {
        plan.query[thread] = p.scale * to_float(load_global(q + thread));
        plan.key[thread] = to_float(load_global(k + thread));
    }
    if (thread < COLUMNS) plan.value[thread] = to_float(load_global(v + thread));
}

// `first` is the thread's element of the first pass; passes are `pass_stride` floats apart.
template <int PASSES>
DEVICE void load_state(Float4 (&state)[PASSES], const sala_linear_attention_params& p, const Step& step, int64_t first,
                       int64_t pass_stride) {
    UNROLL
    for (int i = 0; i < PASSES; ++i) {
        state[i] = Float4{};
        if (step.slots.in != NO_SLOT) {
            const float* from = state_of(p, step.slots.in, step.head) + first + i * pass_stride;
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
        float* to = state_of(p, step.slots.out, step.head) + first + i * pass_stride;
        store_global(reinterpret_cast<Float4*>(to), state[i]);
    }
}

template <class T>
DEVICE void store_output(const sala_linear_attention_params& p, const Step& step, int column, float value) {
    T* out = reinterpret_cast<T*>(p.out) + step.token * p.out_token_stride + step.head * p.out_head_stride;
    store_global(out + step.column0 + column, from_float<T>(value));
}

template <class T, int DIM_K>
DEVICE void step_kv(DecodePlan<DIM_K>& plan, const sala_linear_attention_params& p, const Step& step) {
    constexpr int ROWS_A_PASS = THREADS / 8;
    constexpr int PASSES = DIM_K / ROWS_A_PASS;
    const int column = thread_index() % 8 * 4;
    const int row0 = thread_index() / 8;
    const int64_t first = row0 * p.state_row_stride + step.column0 + column;
    const int64_t pass_stride = ROWS_A_PASS * p.state_row_stride;

    Float4 state[PASSES];
    load_state(state, p, step, first, pass_stride);
    sync_block();  // q, k and v are in shared memory
    float out[4] = {};
    UNROLL
    for (int i = 0; i < PASSES; ++i) {
        const int row = row0 + i * ROWS_A_PASS;
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
    if (thread_index() < COLUMNS) {
        float sum = 0.0f;
        UNROLL
        for (int w = 0; w < WARPS; ++w) sum += plan.partial[w][thread_index()];
        store_output<T>(p, step, thread_index(), sum);
    }
}

template <class T, int DIM_K>
DEVICE void step_vk(DecodePlan<DIM_K>& plan, const sala_linear_attention_params& p, const Step& step) {
    constexpr int LANES_A_ROW = DIM_K / 4;
    constexpr int ROWS_A_PASS = THREADS / LANES_A_ROW;
    constexpr int PASSES = COLUMNS / ROWS_A_PASS;
    const int channel = thread_index() % LANES_A_ROW * 4;
    const int row0 = thread_index() / LANES_A_ROW;
    const int64_t first = (step.column0 + row0) * p.state_row_stride + channel;
    const int64_t pass_stride = ROWS_A_PASS * p.state_row_stride;

    Float4 state[PASSES];
    load_state(state, p, step, first, pass_stride);
    sync_block();  // q, k and v are in shared memory
    UNROLL
    for (int i = 0; i < PASSES; ++i) {
        const int row = row0 + i * ROWS_A_PASS;
        float out = 0.0f;
        UNROLL
        for (int c = 0; c < 4; ++c) {
            state[i][c] = fma(plan.key[channel + c], plan.value[row], decayed(step.decay, state[i][c]));
            out = fma(plan.query[channel + c], state[i][c], out);
        }
        UNROLL
        for (int distance = 1; distance < LANES_A_ROW; distance *= 2) out += shuffle_xor(out, distance);
        if (channel == 0) store_output<T>(p, step, row, out);
    }
    store_state(state, p, step, first, pass_stride);
}

template <class T, int DIM_K>
DEVICE void linear_attention_decode(const sala_linear_attention_params& p) {
    static_assert(sizeof(DecodePlan<DIM_K>) == 4 * (2 * DIM_K + COLUMNS + WARPS * COLUMNS), "the launch asks for this");
    const int index = block_index_z();
    Step step{resolve_slots(p, index), index, static_cast<int>(block_index_y()), static_cast<int>(block_index_x()) * COLUMNS, {}};
    if (step.column0 == 0 && step.head == 0 && thread_index() == 0) count_refused(p.status, REFUSED_SLOTS, step.slots.refused);
    if (!step.slots.valid) return;
    step.decay = state_decay(log_decay_at(p, step.token, step.head));

    auto& plan = dynamic_shared<DecodePlan<DIM_K>>();
    load_token<T>(plan, p, step);
    if (p.state_is_vk) {
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
