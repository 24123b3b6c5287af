// Where the lanes of a warp hold the elements of matrices: see machine/matrix.cuh.
#pragma once
#include <stdint.h>
#include <string.h>

#include "host/product.h"

namespace sala::host {

constexpr int FRAGMENT_ROWS = 16;

// What a lane holds of A (16 x k), to its places in [k][16] floats.
inline void gather_fragment_a(Element element, int lane, const uint32_t* registers, int k, float* a) {
    constexpr int M = FRAGMENT_ROWS;
    for (int step = 0; step < k / 16; ++step) {
        uint16_t elements[8];
        float wide[8];
        memcpy(elements, registers + 4 * step, sizeof(elements));
        widen(element, wide, elements);
        float* at = a + (16 * step + lane % 4 * 2) * M + lane / 4;
        at[0] = wide[0];
        at[M] = wide[1];
        at[8] = wide[2];
        at[M + 8] = wide[3];
        at[8 * M] = wide[4];
        at[9 * M] = wide[5];
        at[8 * M + 8] = wide[6];
        at[9 * M + 8] = wide[7];
    }
}

// Moves what a lane holds of C (16 x n) to or from [n][16] floats: move(accumulator element, matrix element).
template <class Move>
void for_accumulator(int lane, float* values, int n, float* c, Move move) {
    constexpr int M = FRAGMENT_ROWS;
    float* corner = c + lane % 4 * 2 * M + lane / 4;
    for (int j = 0; j < n / 8; ++j) {
        move(values[4 * j], corner[8 * j * M]);
        move(values[4 * j + 1], corner[(8 * j + 1) * M]);
        move(values[4 * j + 2], corner[8 * j * M + 8]);
        move(values[4 * j + 3], corner[(8 * j + 1) * M + 8]);
    }
}

}  // namespace sala::host
