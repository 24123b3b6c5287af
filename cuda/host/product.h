// The arithmetic of all matrix products: one definition, so that a fused product has the bits of the instructions it stands for.
#pragma once
#include <stdint.h>

namespace sala::host {

// Widens eight 16-bit elements to floats.
void widen_bf16(float* to, const uint16_t* from);
void widen_f16(float* to, const uint16_t* from);

// C += A B with 16 rows of C and A, each sum in order of k, each step rounded once. C is stored as [n][16], A as [k][16]; B(k, n) is
// b[k * k_step + n * n_step].
void accumulate_product(float* c, const float* a, const float* b, int n, int k, int k_step, int n_step);

}  // namespace sala::host
