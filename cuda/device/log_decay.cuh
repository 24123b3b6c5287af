// The per-step log decay g of linear attention: none, one a head, or one a token and head.
#pragma once

#include "../../include/kernel_params.h"
#include "machine.cuh"
#include "math.cuh"
#include "memory.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// e^-128 is zero in f32, so smaller values (-inf, which resets the state) mean the same and would only spoil differences.
constexpr float SMALLEST_LOG_DECAY = -128.0f;

DEVICE float log_decay_at(const sala_linear_attention_params& p, int64_t token, int64_t head) {
    if (p.decay == SALA_DECAY_NONE) return 0.0f;
    const int64_t row = p.decay == SALA_DECAY_PER_TOKEN ? token : 0;
    const float* decay = reinterpret_cast<const float*>(p.log_decay) + row * p.decay_token_stride + head * p.decay_head_stride;
    return maximum(load_global(decay), SMALLEST_LOG_DECAY);
}

// How a state decays: S ← kept·S + change·S. A slow decay keeps S and takes a little off, which e^g would round away; a fast one replaces S,
// of which taking nearly everything off would leave rounding errors alone.
struct StateDecay {
    float kept, change;
};

// The decay of e^g.
DEVICE StateDecay state_decay(float g) {
    constexpr float FAST = -0.5f;
    return g > FAST ? StateDecay{1.0f, expm1(g)} : StateDecay{0.0f, exp2(g * LOG2_E)};
}

DEVICE float decayed(StateDecay decay, float state) { return fma(decay.change, state, decay.kept * state); }

}  // namespace SALA_VARIANT
}  // namespace sala
