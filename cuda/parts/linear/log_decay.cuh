// The per-step log decay g of linear attention: none, one per head, or one per token and head.
#pragma once

#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "params/linear_attention.h"
#include "parts/keys/rows.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// e^-128 is zero in f32, so smaller values (-inf, which resets the state) mean the same and would only spoil
// differences.
constexpr float SMALLEST_LOG_DECAY = -128.0f;

// Above 0 counts as 0. NaN stays NaN, and makes what it touches NaN.
DEVICE float clamped_log_decay(float g) { return g != g ? g : clamp(g, SMALLEST_LOG_DECAY, 0.0f); }

DEVICE float log_decay_at(const sala_linear_attention_params& p, int64_t token, int64_t head) {
    if (p.decay == SALA_DECAY_NONE) return 0.0f;
    return clamped_log_decay(load_global(row_of<const float>(p.log_decay, token, head)));
}

// How a state decays: S ← kept·S + change·S. A slow decay keeps S and takes a little off, which e^g would
// round away; a fast one replaces S, because taking nearly everything off would leave little but rounding
// errors.
struct StateDecay {
    float kept, change;

    DEVICE bool is_fast() const { return kept == 0.0f; }
};

// The decay of e^g.
DEVICE StateDecay state_decay(float g) {
    constexpr float FAST = -0.5f;
    return g > FAST ? StateDecay{1.0f, expm1(g)} : StateDecay{0.0f, exp2(g * LOG2_E)};
}

DEVICE float decayed(StateDecay decay, float state) { return fma(decay.change, state, decay.kept * state); }

}  // namespace SALA_VARIANT
}  // namespace sala
