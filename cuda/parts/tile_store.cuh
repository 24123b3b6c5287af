// Rounds an accumulator to 16 bits into a shared tile, as it lies or transposed.
#pragma once

#include "machine/machine.cuh"
#include "machine/matrix.cuh"
#include "machine/tile.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// Element (m, n) goes to (row0 + m, col0 + n) of the tile.
template <class T, int N, int COLS>
DEVICE void store_accumulator(SharedTile<COLS> tile, int row0, int col0, const Accumulator<N>& c) {
    const FragmentA<N> rounded = to_fragment_a<T>(c);
    const int lane = lane_index();
    UNROLL
    for (int i = 0; i < N / 16; ++i) store_matrix_x4(tile.address(row0 + lane % 16, col0 / 8 + 2 * i + lane / 16), rounded.registers[i]);
}

// Element (m, n) goes to (row0 + n, col0 + m) of the tile.
template <class T, int N, int COLS>
DEVICE void store_accumulator_trans(SharedTile<COLS> tile, int row0, int col0, const Accumulator<N>& c) {
    const FragmentA<N> rounded = to_fragment_a<T>(c);
    const int lane = lane_index();
    UNROLL
    for (int i = 0; i < N / 16; ++i) {
        const uint32_t target = tile.address(row0 + 16 * i + lane / 16 * 8 + lane % 8, col0 / 8 + lane / 8 % 2);
        store_matrix_x4_trans(target, rounded.registers[i]);
    }
}

}  // namespace SALA_VARIANT
}  // namespace sala
