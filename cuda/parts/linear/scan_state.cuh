// The state of one head in the registers of a block of the linear scan: Sᵀ, 16 or 32 value channels (rows) and all key
// channels (columns) per warp.
#pragma once

#include "machine/element.cuh"
#include "machine/machine.cuh"
#include "machine/memory.cuh"
#include "machine/tile.cuh"
#include "params/linear_attention.h"
#include "parts/linear/fit.cuh"
#include "parts/linear/log_decay.cuh"
#include "parts/linear/state_slots.cuh"
#include "parts/linear/step_decay.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// The values of a step, 32 keys (rows) and the warp's channels (columns), as operand B.
template <int M>
struct StepValues {
    FragmentB<16, 16> part[2][M];
};

// The value channels of a block in a slot, or a place of the workspace.
struct StateRows {
    float* first;
    int64_t stride_v, stride_k;
};

DEVICE StateRows state_rows(const sala_states& states, int64_t slot, int head, int channel0) {
    // Kept: multiples of the strides would be formed before the scan, which has no registers for them.
    const int64_t stride_v = kept(states.is_vk ? states.row_stride : int64_t{1});
    const int64_t stride_k = kept(states.is_vk ? int64_t{1} : states.row_stride);
    return {state_of(states, slot, head) + channel0 * stride_v, stride_v, stride_k};
}

// M times 16 value channels.
template <int DIM_K, int M>
struct ScanState {
    static constexpr int CHANNELS = 16 * M;

    Accumulator<16> part[M][DIM_K / 16];

    DEVICE void clear() {
        UNROLL
        for (int m = 0; m < M; ++m) {
            UNROLL
            for (int n = 0; n < DIM_K / 16; ++n) part[m][n].fill(0.0f);
        }
    }

    // visit(number of the state, where it lies in memory, global or shared), for all of the lane's.
    template <class Visit>
    DEVICE void visit(const StateRows& rows, const Visit& visit) {
        float* first = rows.first + (warp_index() * CHANNELS + accumulator_row(0)) * rows.stride_v;
        int64_t column = accumulator_col(0, 0) * rows.stride_k;
        UNROLL
        for (int n = 0; n < DIM_K / 16; ++n) {
            UNROLL
            for (int j = 0; j < 2; ++j) {
                int64_t at = column;
                UNROLL
                for (int row = 0; row < 2 * M; ++row) {
                    UNROLL
                    for (int e = 0; e < 2; ++e) visit(part[row / 2][n].values[j][row % 2 * 2 + e], first + (at + e * rows.stride_k));
                    at = kept(at + 8 * rows.stride_v);  // one by one: the state leaves no registers for addresses
                }
                column = kept(column + 8 * rows.stride_k);
            }
        }
    }

    DEVICE void load(const StateRows& from) {
        visit(from, [](float& x, const float* at) { x = load_global(at); });
    }

    DEVICE void store(const StateRows& to) {
        visit(to, [](const float& x, float* at) { store_global(at, x); });
    }

    // The same branch for the whole block, so that a number costs one instruction.
    DEVICE void decay(StateDecay by) {
        if (by.is_fast()) {
            update([&](float x) { return by.change * x; });
        } else {
            update([&](float x) { return fma(by.change, x, x); });
        }
    }

    template <class Update>
    DEVICE void update(const Update& updated) {
        UNROLL
        for (int m = 0; m < M; ++m) {
            UNROLL
            for (int n = 0; n < DIM_K / 16; ++n) {
                UNROLL
                for (int j = 0; j < 2; ++j) {
                    UNROLL
                    for (int e = 0; e < 4; ++e) part[m][n].values[j][e] = updated(part[m][n].values[j][e]);
                }
            }
        }
    }

    // Multiplies the lane's rows of each 16 channels by their own factors.
    DEVICE void scale_rows(const float (&factors)[M][2]) {
        UNROLL
        for (int m = 0; m < M; ++m) {
            UNROLL
            for (int n = 0; n < DIM_K / 16; ++n) part[m][n].scale_rows(factors[m][0], factors[m][1]);
        }
    }
};

// The same for 16 bits: factors that bring the lane's rows into the range of the operand, and back.
template <int M>
struct RowFits {
    float scale[M][2], inverse[M][2];

    DEVICE void set(const float (&largest)[M][2]) {
        UNROLL
        for (int m = 0; m < M; ++m) {
            float both[2] = {largest[m][0], largest[m][1]};
            reduce_max_each<4>(both);
            UNROLL
            for (int side = 0; side < 2; ++side) {
                const PowerOfTwo fit = power_of_two_to_fit(both[side]);
                scale[m][side] = fit.scale;
                inverse[m][side] = fit.inverse;
            }
        }
    }
};

DEVICE float magnitude(float x) { return maximum(x, -x); }

template <int DIM_K, int M>
DEVICE RowFits<M> fit_state(const ScanState<DIM_K, M>& state) {
    float largest[M][2] = {};
    UNROLL
    for (int m = 0; m < M; ++m) {
        UNROLL
        for (int n = 0; n < DIM_K / 16; ++n) {
            UNROLL
            for (int j = 0; j < 2; ++j) {
                UNROLL
                for (int e = 0; e < 4; ++e) largest[m][e / 2] = maximum(largest[m][e / 2], magnitude(state.part[m][n].values[j][e]));
            }
        }
    }
    RowFits<M> fits;
    fits.set(largest);
    return fits;
}

// Two neighbouring keys of Vᵀ times what decay leaves of them at the step's end: register r of a fragment of Vᵀ.
template <class T>
DEVICE Pair decayed_values(const FragmentA<16>& values, const DecayTable& table, int half, int r) {
    const Pair v = unpack<T>(values.registers[0][r]);
    return {v.lo * table.key_factor(half, r / 2 * 2), v.hi * table.key_factor(half, r / 2 * 2 + 1)};
}

template <class T, int M>
DEVICE RowFits<M> fit_decayed_values(const StepValues<M>& values, const DecayTable& table) {
    float largest[M][2] = {};
    UNROLL
    for (int m = 0; m < M; ++m) {
        UNROLL
        for (int half = 0; half < 2; ++half) {
            const FragmentA<16> value = transposed(values.part[half][m]);
            UNROLL
            for (int r = 0; r < 4; ++r) {
                const Pair v = decayed_values<T>(value, table, half, r);
                largest[m][r % 2] = maximum(largest[m][r % 2], maximum(magnitude(v.lo), magnitude(v.hi)));
            }
        }
    }
    RowFits<M> fits;
    fits.set(largest);
    return fits;
}

// Sᵀ = e^G_last·Sᵀ + (Vᵀ ⊙ weights) K. In f16 the rows of Vᵀ ⊙ weights are scaled to fit the operand, the rows of Sᵀ with
// them, and the sums scaled back.
template <class T, int DIM_K, int M>
DEVICE void update_state(ScanState<DIM_K, M>& state, const StepValues<M>& values, const FragmentPlace<DIM_K>& keys,
                         const DecayTable& table) {
    state.decay(table.step);
    RowFits<M> fits;
    if constexpr (needs_scaling<T>) {
        fits = fit_decayed_values<T>(values, table);
        state.scale_rows(fits.scale);
    }
    UNROLL
    for (int half = 0; half < 2; ++half) {
        FragmentA<16> weighted[M];
        UNROLL
        for (int m = 0; m < M; ++m) {
            const FragmentA<16> value = transposed(values.part[half][m]);
            UNROLL
            for (int r = 0; r < 4; ++r) {
                Pair v = decayed_values<T>(value, table, half, r);
                if constexpr (needs_scaling<T>) v = {v.lo * fits.scale[m][r % 2], v.hi * fits.scale[m][r % 2]};
                weighted[m].registers[0][r] = pack<T>(v.lo, v.hi);
            }
        }
        UNROLL
        for (int n = 0; n < DIM_K / 16; ++n) {
            const FragmentB<16, 16> key = load_fragment_kn(keys, half * 16, n * 16);
            UNROLL
            for (int m = 0; m < M; ++m) multiply<T>(state.part[m][n], weighted[m], key);
        }
    }
    if constexpr (needs_scaling<T>) state.scale_rows(fits.inverse);
}

}  // namespace SALA_VARIANT
}  // namespace sala
