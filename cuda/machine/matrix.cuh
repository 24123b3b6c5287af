// Matrix instructions of one warp: the 16 x 8 x 16 product and the movement of 8 x 8 matrices of 16-bit
// elements between registers and shared memory. All lanes take part.
//
// With g = lane / 4 and t = 2 * (lane % 4), lane `lane` holds, of each matrix,
//   A (16 x 16)   a[0] = (g, t..t+1)  a[1] = (g+8, t..t+1)  a[2] = (g, t+8..t+9)  a[3] = (g+8, t+8..t+9)     (row, columns)
//   B (16 x 8)    b0 = (t..t+1, g)    b1 = (t+8..t+9, g)                                                     (rows, column)
//   C (16 x 8)    c[0], c[1] = (g, t), (g, t+1)     c[2], c[3] = (g+8, t), (g+8, t+1)
//   8 x 8 matrix in one register: (g, t..t+1)
#pragma once
#include "machine/element.cuh"
#include "machine/warp.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// C += A B, accumulated in 32-bit floats. T is bf16 or f16.
template <class T>
DEVICE void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1 SITE);

// The same if `run`, which is the same in all lanes: a predicate, so that the instructions around it can move,
// which a branch would stop.
template <class T>
DEVICE void mma_if(bool run, float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1 SITE);

// Loads 1, 2 or 4 matrices of 8 x 8 (ldmatrix). Lane 8 i + r gives the address of row r of matrix i: 16
// bytes, aligned to 16. The _trans forms transpose each matrix on the way.
DEVICE void load_matrix_x1(uint32_t (&r)[1], uint32_t row SITE);
DEVICE void load_matrix_x2(uint32_t (&r)[2], uint32_t row SITE);
DEVICE void load_matrix_x4(uint32_t (&r)[4], uint32_t row SITE);
DEVICE void load_matrix_x1_trans(uint32_t (&r)[1], uint32_t row SITE);
DEVICE void load_matrix_x2_trans(uint32_t (&r)[2], uint32_t row SITE);
DEVICE void load_matrix_x4_trans(uint32_t (&r)[4], uint32_t row SITE);

// The inverse of load_matrix_x4: one instruction from sm_90 on, four shuffles and four stores below.
DEVICE void store_matrix_x4(uint32_t row, const uint32_t (&r)[4] SITE);
DEVICE void store_matrix_x4_trans(uint32_t row, const uint32_t (&r)[4] SITE);

// The transpose of an 8 x 8 matrix held in one register.
DEVICE uint32_t transpose_matrix(uint32_t matrix SITE);

}  // namespace SALA_VARIANT
}  // namespace sala

#if defined(SALA_HOST)
#include "host/matrix.h"
#else
namespace sala {
inline namespace SALA_VARIANT {

template <>
DEVICE void mma<bf16>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

template <>
DEVICE void mma<f16>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

template <>
DEVICE void mma_if<bf16>(bool run, float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("{\n"
        ".reg .pred run;\n"
        "setp.ne.s32 run, %10, 0;\n"
        "@run mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
        "}"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(static_cast<int>(run)));
}

template <>
DEVICE void mma_if<f16>(bool run, float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("{\n"
        ".reg .pred run;\n"
        "setp.ne.s32 run, %10, 0;\n"
        "@run mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
        "}"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(static_cast<int>(run)));
}

DEVICE void load_matrix_x1(uint32_t (&r)[1], uint32_t row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(r[0]) : "r"(row) : "memory");
}

DEVICE void load_matrix_x2(uint32_t (&r)[2], uint32_t row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(row) : "memory");
}

DEVICE void load_matrix_x4(uint32_t (&r)[4], uint32_t row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row)
                 : "memory");
}

DEVICE void load_matrix_x1_trans(uint32_t (&r)[1], uint32_t row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];" : "=r"(r[0]) : "r"(row) : "memory");
}

DEVICE void load_matrix_x2_trans(uint32_t (&r)[2], uint32_t row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(row) : "memory");
}

DEVICE void load_matrix_x4_trans(uint32_t (&r)[4], uint32_t row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row)
                 : "memory");
}

DEVICE uint32_t transpose_matrix(uint32_t matrix) {
    uint32_t transposed;
    asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(transposed) : "r"(matrix));
    return transposed;
}

DEVICE void store_matrix_x4(uint32_t row, const uint32_t (&r)[4]) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(row), "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
                 : "memory");
#else
    const int lane = lane_index();
    UNROLL
    for (int i = 0; i < 4; ++i) {
        const uint32_t target = shuffle(row, 8 * i + lane / 4) + 4 * (lane % 4);
        asm volatile("st.shared.u32 [%0], %1;" ::"r"(target), "r"(r[i]) : "memory");
    }
#endif
}

DEVICE void store_matrix_x4_trans(uint32_t row, const uint32_t (&r)[4]) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(row), "r"(r[0]), "r"(r[1]), "r"(r[2]),
                 "r"(r[3])
                 : "memory");
#else
    const uint32_t transposed[4] = {transpose_matrix(r[0]), transpose_matrix(r[1]), transpose_matrix(r[2]), transpose_matrix(r[3])};
    store_matrix_x4(row, transposed);
#endif
}

}  // namespace SALA_VARIANT
}  // namespace sala
#endif
