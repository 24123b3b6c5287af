// The host half of machine/matrix.cuh.
#pragma once

namespace sala::host {

enum class Element { BF16, F16 };

void mma(Element element, float* c, const uint32_t* a, uint32_t b0, uint32_t b1, Site site);
void load_matrix(uint32_t* registers, uint32_t row, int count, bool transposed, Site site);
void store_matrix(const uint32_t* registers, uint32_t row, int count, bool transposed, Site site);
uint32_t transpose_matrix(uint32_t matrix, Site site);

}  // namespace sala::host

namespace sala {
inline namespace SALA_VARIANT {

template <class T>
constexpr host::Element ELEMENT;
template <>
inline constexpr host::Element ELEMENT<bf16> = host::Element::BF16;
template <>
inline constexpr host::Element ELEMENT<f16> = host::Element::F16;

template <class T>
DEVICE void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, const char* file, int line) {
    host::mma(ELEMENT<T>, c, a, b0, b1, {file, line});
}

template <class T>
DEVICE void mma_if(bool run, float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, const char* file, int line) {
    if (run) mma<T>(c, a, b0, b1, file, line);
}

DEVICE void load_matrix_x1(uint32_t (&r)[1], uint32_t row, const char* file, int line) {
    host::load_matrix(r, row, 1, false, {file, line});
}
DEVICE void load_matrix_x2(uint32_t (&r)[2], uint32_t row, const char* file, int line) {
    host::load_matrix(r, row, 2, false, {file, line});
}
DEVICE void load_matrix_x4(uint32_t (&r)[4], uint32_t row, const char* file, int line) {
    host::load_matrix(r, row, 4, false, {file, line});
}

DEVICE void load_matrix_x1_trans(uint32_t (&r)[1], uint32_t row, const char* file, int line) {
    host::load_matrix(r, row, 1, true, {file, line});
}
DEVICE void load_matrix_x2_trans(uint32_t (&r)[2], uint32_t row, const char* file, int line) {
    host::load_matrix(r, row, 2, true, {file, line});
}
DEVICE void load_matrix_x4_trans(uint32_t (&r)[4], uint32_t row, const char* file, int line) {
    host::load_matrix(r, row, 4, true, {file, line});
}

DEVICE void store_matrix_x4(uint32_t row, const uint32_t (&r)[4], const char* file, int line) {
    host::store_matrix(r, row, 4, false, {file, line});
}
DEVICE void store_matrix_x4_trans(uint32_t row, const uint32_t (&r)[4], const char* file, int line) {
    host::store_matrix(r, row, 4, true, {file, line});
}

DEVICE uint32_t transpose_matrix(uint32_t matrix, const char* file, int line) { return host::transpose_matrix(matrix, {file, line}); }

}  // namespace SALA_VARIANT
}  // namespace sala
