// Linear attention of draft tokens that may be discarded: outputs as if each draft followed its ancestors, and no
// state is written.
//
//     o_i = scale · ( e^(G_i) · S₀ᵀ q_i + Σ_j e^(G_i − G_j) · (q_i · k_j) · v_j )          j: i and its ancestors;  G_i = Σ g on the path to i
//
// Called once per speculative step for every linear layer, with at most 16 drafts per sequence, a chain or a tree.
// Grid: (value channels / 32, heads, batch). A block reads its part of S₀ once and uses it for all drafts:
//
//     drafts       0 ─┬─ 1 ─── 3          weights     1  ·  ·  ·        q_i · k_j times the decay between them,
//     (a tree)        └─ 2                            1  1  ·  ·        a row for each draft, zero where j is no
//                                                     1  ·  1  ·        ancestor of i
//                                                     1  1  ·  1
//
//     block    | S₀ ───────────────── load ────────────────▶|
//              | q k v load ▶|■ q_i · k_j |■ decay on paths | S₀ᵀ q_i |■ sum over warps, weights · v, o store     ■ block barrier
//
// Decays are summed along each path from its end, so that nothing is subtracted and a reset (−∞) hurts nobody else.
//
// Shared memory (dim_k 128): q and k as f32 16 KiB, partial sums 8 KiB, v and weights 3 KiB.
// Limit: bytes of the state, 4 · dim_k · dim_v per head, read once whatever the number of drafts.
//
// Definition: docs/semantics.md#linear_verify
#include "machine/barrier.cuh"
#include "machine/element.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/warp.cuh"
#include "params/linear_attention.h"
#include "parts/keys/rows.cuh"
#include "parts/linear/drafts.cuh"
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
struct VerifyPlan {
    float query[MAX_DRAFTS][DIM_K];  // times the scale
    float key[MAX_DRAFTS][DIM_K];
    float value[MAX_DRAFTS][CHANNELS];
    float weights[MAX_DRAFTS][MAX_DRAFTS];
    float from_state[MAX_DRAFTS];                // e^(G_i)
    float partial[WARPS][MAX_DRAFTS][CHANNELS];  // what each warp adds to S₀ᵀ q_i
};

// The block's share of a sequence.
struct Drafts {
    sala_linear_attention_params tensors;
    int sequence, count;
    int head, head_kv;
    int channel0;  // the first of the block's value channels
};

template <class T, int DIM_K>
DEVICE void load_drafts(VerifyPlan<DIM_K>& plan, const Drafts& d) {
    const sala_linear_attention_params& p = d.tensors;
    for (int i = thread_index(); i < d.count * DIM_K; i += THREADS) {
        const int draft = i / DIM_K;
        const int channel = i % DIM_K;
        plan.query[draft][channel] = p.scale * to_float(load_global(row_of<const T>(p.q, draft, d.head) + channel));
        plan.key[draft][channel] = to_float(load_global(row_of<const T>(p.k, draft, d.head_kv) + channel));
    }
    for (int i = thread_index(); i < d.count * CHANNELS; i += THREADS) {
        const T* v = row_of<const T>(p.v, i / CHANNELS, d.head_kv) + d.channel0;
        plan.value[i / CHANNELS][i % CHANNELS] = to_float(load_global(v + i % CHANNELS));
    }
}

// q_i · k_j of every pair, two keys per thread. Each lane begins at a channel of its own, so that no two ask one bank.
template <int DIM_K>
DEVICE void multiply_pairs(VerifyPlan<DIM_K>& plan, int drafts) {
    const int i = thread_index() / 8;
    const int j = thread_index() % 8 * 2;
    if (i >= drafts || j >= drafts) return;
    const int other = minimum(j + 1, drafts - 1);
    float sums[2] = {0.0f, 0.0f};
    NO_UNROLL
    for (int c = 0; c < DIM_K; ++c) {
        const int channel = (c + lane_index()) % DIM_K;
        sums[0] = fma(plan.query[i][channel], plan.key[j][channel], sums[0]);
        sums[1] = fma(plan.query[i][channel], plan.key[other][channel], sums[1]);
    }
    plan.weights[i][j] = sums[0];
    plan.weights[i][j + 1] = sums[1];
}

// Walks from each draft to the state: weights of ancestors decay on the way, and all others become zero.
template <int DIM_K>
DEVICE void decay_weights(VerifyPlan<DIM_K>& plan, const sala_linear_drafts_params& p, const Drafts& d) {
    const int draft = thread_index();
    if (draft >= d.count) return;
    float passed = 0.0f;
    uint32_t path = 0;
    for (int node = draft; node != NO_PARENT; node = parent_of(p, d.sequence, node)) {
        path |= 1u << node;
        plan.weights[draft][node] *= exp2(passed * LOG2_E);
        passed += log_decay_at(d.tensors, node, d.head);
    }
    plan.from_state[draft] = exp2(passed * LOG2_E);
    for (int node = 0; node < d.count; ++node) {
        if ((path >> node & 1) == 0) plan.weights[draft][node] = 0.0f;
    }
}

// S₀ᵀ q_i for every draft, as one share per warp.
template <int DIM_K>
DEVICE void read_state(VerifyPlan<DIM_K>& plan, const StateShare<DIM_K, false>& state, int drafts) {
    using Share = StateShare<DIM_K, false>;
    const int column = Share::column();
    NO_UNROLL
    for (int draft = 0; draft < drafts; ++draft) {
        float sums[4] = {};
        UNROLL
        for (int pass = 0; pass < Share::PASSES; ++pass) {
            const float query = plan.query[draft][Share::row(pass)];
            UNROLL
            for (int c = 0; c < 4; ++c) sums[c] = fma(query, state.values[pass][c], sums[c]);
        }
        // The warp has four key channels of each pass, eight lanes apart.
        reduce_add_each<4, 8>(sums);
        if (lane_index() >= 8) continue;
        UNROLL
        for (int c = 0; c < 4; ++c) plan.partial[warp_index()][draft][column + c] = sums[c];
    }
}

// The same where a value channel's sum stays within a warp: all of it is in the first share.
template <int DIM_K>
DEVICE void read_state(VerifyPlan<DIM_K>& plan, const StateShare<DIM_K, true>& state, int drafts) {
    using Share = StateShare<DIM_K, true>;
    const int column = Share::column();
    NO_UNROLL
    for (int draft = 0; draft < drafts; ++draft) {
        float sums[Share::PASSES];
        UNROLL
        for (int pass = 0; pass < Share::PASSES; ++pass) {
            sums[pass] = 0.0f;
            UNROLL
            for (int c = 0; c < 4; ++c) sums[pass] = fma(plan.query[draft][column + c], state.values[pass][c], sums[pass]);
        }
        reduce_add_each<Share::ROW_THREADS>(sums);
        if (column != 0) continue;
        UNROLL
        for (int pass = 0; pass < Share::PASSES; ++pass) plan.partial[0][draft][Share::row(pass)] = sums[pass];
    }
}

template <class T, int DIM_K>
DEVICE void store_outputs(const VerifyPlan<DIM_K>& plan, const Drafts& d, int shares) {
    const int channel = thread_index() % CHANNELS;
    for (int draft = thread_index() / CHANNELS; draft < d.count; draft += THREADS / CHANNELS) {
        float past = 0.0f;
        for (int share = 0; share < shares; ++share) past += plan.partial[share][draft][channel];
        float out = plan.from_state[draft] * past;
        for (int node = 0; node <= draft; ++node) {
            const float weight = plan.weights[draft][node];
            if (weight != 0.0f) out = fma(weight, plan.value[node][channel], out);
        }
        store_global(row_of<T>(d.tensors.out, draft, d.head) + d.channel0 + channel, from_float<T>(out));
    }
}

template <class T, int DIM_K, bool VK>
DEVICE void verify(const sala_linear_drafts_params& p, const Drafts& d, int slot) {
    auto& plan = dynamic_shared<VerifyPlan<DIM_K>>();
    StateShare<DIM_K, VK> state;
    state.load(p.attention.states, slot, d.head, d.channel0);
    load_drafts<T>(plan, d);
    sync_block();  // q, k and v are in shared memory
    multiply_pairs(plan, d.count);
    sync_block();  // all products are there
    decay_weights(plan, p, d);
    read_state(plan, state, d.count);
    sync_block();  // weights and shares are in shared memory
    store_outputs<T>(plan, d, VK ? 1 : WARPS);
}

template <class T>
DEVICE void store_zeros(const Drafts& d) {
    for (int i = thread_index(); i < d.count * CHANNELS; i += THREADS) {
        store_global(row_of<T>(d.tensors.out, i / CHANNELS, d.head) + d.channel0 + i % CHANNELS, from_float<T>(0.0f));
    }
}

template <class T, int DIM_K>
DEVICE void linear_attention_verify(const sala_linear_drafts_params& p) {
    const int sequence = block_index_z();
    const int head = block_index_y();
    const Drafts d{drafts_of(p, sequence), sequence, p.drafts, head, head / p.attention.group, block_index_x() * CHANNELS};
    const StateSlots slots = resolve_slots(p.attention.states, sequence);
    const bool tree = is_tree(p, sequence);
    count_refused_once(p.attention.status, REFUSED_SLOTS, slots.refused);
    count_refused_once(p.attention.status, REFUSED_LENGTHS, tree ? 0 : 1);
    if (!slots.valid || !tree) {
        store_zeros<T>(d);
    } else if (p.attention.states.is_vk) {
        verify<T, DIM_K, true>(p, d, slots.in);
    } else {
        verify<T, DIM_K, false>(p, d, slots.in);
    }
}

#define INSTANCE(name, T, DIM_K) \
    KERNEL(name, sala_linear_drafts_params, THREADS, 4) { linear_attention_verify<T, DIM_K>(p); }
#include "instances/linear_attention_verify.h"

}  // namespace SALA_VARIANT
}  // namespace sala
