#include "host/product.h"

namespace sala::host {

namespace {

constexpr int ROWS = 16;
constexpr int DEPTH = 16;  // of a product of the tensor cores

#if defined(SALA_AVX2)

// COLUMNS columns of the sums stay in registers, two vectors each; six of them fill the sixteen registers.
template <int COLUMNS>
void accumulate_columns(float* c, const float* a, const float* b, int k, int k_step, int n_step) {
    __m256 upper[COLUMNS], lower[COLUMNS];
#pragma GCC unroll 6
    for (int n = 0; n < COLUMNS; ++n) upper[n] = lower[n] = _mm256_setzero_ps();
    for (int i = 0; i < k; ++i) {
        const __m256 a_upper = _mm256_loadu_ps(a + i * ROWS);
        const __m256 a_lower = _mm256_loadu_ps(a + i * ROWS + 8);
#pragma GCC unroll 6
        for (int n = 0; n < COLUMNS; ++n) {
            const __m256 b_all = _mm256_broadcast_ss(b + i * k_step + n * n_step);
            upper[n] = _mm256_fmadd_ps(a_upper, b_all, upper[n]);
            lower[n] = _mm256_fmadd_ps(a_lower, b_all, lower[n]);
        }
    }
#pragma GCC unroll 6
    for (int n = 0; n < COLUMNS; ++n) {
        _mm256_storeu_ps(c + n * ROWS, _mm256_add_ps(_mm256_loadu_ps(c + n * ROWS), upper[n]));
        _mm256_storeu_ps(c + n * ROWS + 8, _mm256_add_ps(_mm256_loadu_ps(c + n * ROWS + 8), lower[n]));
    }
}

#else

template <int COLUMNS>
void accumulate_columns(float* c, const float* a, const float* b, int k, int k_step, int n_step) {
    for (int n = 0; n < COLUMNS; ++n) {
        float sum[ROWS] = {};
        for (int i = 0; i < k; ++i) {
            const float b_all = b[i * k_step + n * n_step];
            for (int m = 0; m < ROWS; ++m) sum[m] = __builtin_fmaf(a[i * ROWS + m], b_all, sum[m]);
        }
        for (int m = 0; m < ROWS; ++m) c[n * ROWS + m] += sum[m];
    }
}

#endif

void accumulate_slice(float* c, const float* a, const float* b, int n, int k, int k_step, int n_step) {
    int column = 0;
    for (; column + 6 <= n; column += 6) accumulate_columns<6>(c + column * ROWS, a, b + column * n_step, k, k_step, n_step);
    for (; column + 2 <= n; column += 2) accumulate_columns<2>(c + column * ROWS, a, b + column * n_step, k, k_step, n_step);
    for (; column < n; ++column) accumulate_columns<1>(c + column * ROWS, a, b + column * n_step, k, k_step, n_step);
}

}  // namespace

void accumulate_product(float* c, const float* a, const float* b, int n, int k, int k_step, int n_step) {
    for (int i = 0; i < k; i += DEPTH) {
        accumulate_slice(c, a + i * ROWS, b + i * k_step, n, k - i < DEPTH ? k - i : DEPTH, k_step, n_step);
    }
}

}  // namespace sala::host
