// The arithmetic of all matrix products: one definition, so that a fused product has the bits of the
// instructions it stands for.
#pragma once
#include <stdint.h>

#include "machine/matrix.cuh"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define SALA_AVX2 1
#include <immintrin.h>
#endif

namespace sala::host {

// Widens eight 16-bit elements to floats.
inline void widen(Element element, float* to, const uint16_t* from) {
#if defined(SALA_AVX2)
    const __m128i narrow = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    const __m256 wide =
        element == Element::BF16 ? _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(narrow), 16)) : _mm256_cvtph_ps(narrow);
    _mm256_storeu_ps(to, wide);
#else
    for (int i = 0; i < 8; ++i) to[i] = element == Element::BF16 ? to_float(bf16{from[i]}) : to_float(f16{from[i]});
#endif
}

// C += A B with 16 rows of C and A. As tensor cores do, sixteen products are summed and then added to C: adding
// them one by one would lose more of each where C is large. The sum is in order of k, each step rounded once. C is stored as [n][16], A
// as [k][16]; B(k, n) is b[k * k_step + n * n_step].
void accumulate_product(float* c, const float* a, const float* b, int n, int k, int k_step, int n_step);

}  // namespace sala::host
