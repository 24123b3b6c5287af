// Commitment of accepted draft tokens to the states of linear attention: S ← e^g·S + k vᵀ for each of them.
//
// Called once per speculative step for every linear layer, after the drafts were verified and some of them
// accepted; how many is known on the device alone. Grid: (value channels / 32, heads, batch). A block loads its
// part of the state once, adds the accepted tokens in their order, with the arithmetic of a decode step each, and
// stores it:
//
//     accepted     path = 0 2 5, three of the drafts:   S ─▶ + k₀ v₀ᵀ ─▶ + k₂ v₂ᵀ ─▶ + k₅ v₅ᵀ ─▶ S'
//
//     block    | S ────────── load ──────────▶|
//              | k v of the accepted load ▶|■ S ← …, once per token | S' store          ■ block barrier
//
// With no token accepted the state goes to its slot unchanged, or stays where it is.
//
// Shared memory (dim_k 128): k as f32 8 KiB, v 2 KiB.
// Limit: bytes of the state, read once and written once.
//
// Definition: docs/semantics.md#linear_commit
#include "machine/barrier.cuh"
#include "machine/element.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
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
constexpr int CHANNELS = StateTile::CHANNELS;

template <int DIM_K>
struct CommitPlan {
    float key[MAX_DRAFTS][DIM_K];
    float value[MAX_DRAFTS][CHANNELS];
    StateDecay decay[MAX_DRAFTS];
};

// The block's share of a sequence.
struct Commit {
    sala_linear_attention_params tensors;
    StateSlots slots;
    int sequence;
    int accepted;
    int head, head_kv;
    int channel0;  // the first of the block's value channels
};

template <class T, int DIM_K>
DEVICE void load_accepted(CommitPlan<DIM_K>& plan, const sala_linear_drafts_params& p, const Commit& c) {
    for (int i = thread_index(); i < c.accepted * DIM_K; i += THREADS) {
        const int draft = accepted_draft(p, c.sequence, i / DIM_K);
        plan.key[i / DIM_K][i % DIM_K] = to_float(load_global(row_of<const T>(c.tensors.k, draft, c.head_kv) + i % DIM_K));
    }
    for (int i = thread_index(); i < c.accepted * CHANNELS; i += THREADS) {
        const int draft = accepted_draft(p, c.sequence, i / CHANNELS);
        const T* v = row_of<const T>(c.tensors.v, draft, c.head_kv) + c.channel0;
        plan.value[i / CHANNELS][i % CHANNELS] = to_float(load_global(v + i % CHANNELS));
    }
    if (thread_index() < c.accepted) {
        const int draft = accepted_draft(p, c.sequence, thread_index());
        plan.decay[thread_index()] = state_decay(log_decay_at(c.tensors, draft, c.head));
    }
}

template <class T, int DIM_K, bool VK>
DEVICE void commit(const sala_linear_drafts_params& p, const Commit& c) {
    using Share = StateShare<DIM_K, VK>;
    auto& plan = dynamic_shared<CommitPlan<DIM_K>>();
    Share state;
    state.load(p.attention.states, c.slots.in, c.head, c.channel0);
    load_accepted<T>(plan, p, c);
    sync_block();  // keys and values are in shared memory
    NO_UNROLL
    for (int i = 0; i < c.accepted; ++i) {
        UNROLL
        for (int pass = 0; pass < Share::PASSES; ++pass) {
            UNROLL
            for (int n = 0; n < 4; ++n) {
                const float key = plan.key[i][VK ? Share::column() + n : Share::row(pass)];
                const float value = plan.value[i][VK ? Share::row(pass) : Share::column() + n];
                state.values[pass][n] = fma(key, value, decayed(plan.decay[i], state.values[pass][n]));
            }
        }
    }
    state.store(p.attention.states, c.slots.out, c.head, c.channel0);
}

template <class T, int DIM_K>
DEVICE void linear_attention_commit(const sala_linear_drafts_params& p) {
    const int sequence = block_index_z();
    const int head = block_index_y();
    const StateSlots slots = resolve_slots(p.attention.states, sequence);
    const int accepted = count_accepted(p, sequence);
    count_refused_once(p.attention.status, REFUSED_SLOTS, slots.refused);
    count_refused_once(p.attention.status, REFUSED_LENGTHS, accepted < 0 ? 1 : 0);
    const bool stays = accepted == 0 && slots.in == slots.out;
    if (!slots.valid || accepted < 0 || stays || slots.out == NO_SLOT) return;
    const Commit c{drafts_of(p, sequence), slots, sequence, accepted, head, head / p.attention.group, block_index_x() * CHANNELS};
    if (p.attention.states.is_vk) {
        commit<T, DIM_K, true>(p, c);
    } else {
        commit<T, DIM_K, false>(p, c);
    }
}

#define INSTANCE(name, T, DIM_K) \
    KERNEL(name, sala_linear_drafts_params, THREADS, 4) { linear_attention_commit<T, DIM_K>(p); }
#include "instances/linear_attention_commit.h"

}  // namespace SALA_VARIANT
}  // namespace sala
