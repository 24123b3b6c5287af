// RMS norm over all channels of a token, then the gate, as they stand behind linear attention:
//
//     out = round(round(round(x / √(mean x² + eps)) · weight) · sigmoid(gate))
//
// Grid: (tokens). A block takes a token and keeps it in registers between its two uses, PASSES vectors of eight
// channels per thread. It has as many warps as one vector per thread asks for, up to eight:
//
//     block        | x, gate, weight ── load ──▶| Σ x² of warps |■ sum | norm, gate, store |          ■ block barrier
//
// With given sums of squares, of all channels of which x has a part, nothing is summed: the halves of a norm that is
// spread over tensor-parallel ranks are sum_squares and this.
// Sums and roots are in two floats, so that the first two roundings fall where those of exact numbers do.
// Limit: bytes, each of x and gate read once, each of out written once.
//
// Definition: docs/semantics.md#norm_gate
#include "machine/element.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "params/norms.h"
#include "parts/keys/rows.cuh"
#include "parts/norm_row.cuh"
#include "parts/sigmoid.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int THREADS = SALA_NORM_THREADS;

struct NormPlan {
    Twofold partial[THREADS / WARP_SIZE];
};

template <class T>
DEVICE uint32_t gated(uint32_t x, uint32_t gate) {
    const Pair value = unpack<T>(x);
    const Pair gates = unpack<T>(gate);
    return pack<T>(value.lo * sigmoid(gates.lo), value.hi * sigmoid(gates.hi));
}

template <class T, int PASSES>
DEVICE void norm_gate(const sala_norm_gate_params& p) {
    using Row = BlockRow<PASSES>;
    auto& plan = dynamic_shared<NormPlan>();
    const int64_t token = block_index_x();
    Row x, gate;
    x.load(row_of<const uint16_t>(p.x, token, 0), p.channels);
    gate.load(row_of<const uint16_t>(p.gate, token, 0), p.channels);
    const bool given = p.sum_squares != 0;
    const Twofold sum =
        given ? Twofold{load_global_constant(entry_of<const float>(p.sum_squares, token)), 0.0f} : x.template sum_squares<T>(plan.partial);
    const Twofold inverse = inverse_root_mean(sum, static_cast<float>(p.covered), p.eps);
    UNROLL
    for (int pass = 0; pass < PASSES; ++pass) {
        const int channel = Row::channel(pass);
        if (channel >= p.channels) continue;
        const Words4 weight = load_global_constant(reinterpret_cast<const Words4*>(entry_of<const uint16_t>(p.weight, channel)));
        Words4 out;
        UNROLL
        for (int i = 0; i < 4; ++i) out[i] = gated<T>(normalise<T>(x.values[pass][i], inverse, true, weight[i]), gate.values[pass][i]);
        store_global(reinterpret_cast<Words4*>(row_of<uint16_t>(p.out, token, 0) + channel), out);
    }
}

#define INSTANCE(name, T, PASSES) \
    KERNEL(name, sala_norm_gate_params, THREADS, 2) { norm_gate<T, PASSES>(p); }
#include "instances/norm_gate.h"

}  // namespace SALA_VARIANT
}  // namespace sala
