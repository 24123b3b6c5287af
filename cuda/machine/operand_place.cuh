// An operand B in a tile of shared memory, as a lane reads its fragments. The lane has one address; rows and columns are
// constants of the instructions, or flip bits of it, where SharedTile forms an address for each fragment.
#pragma once
#include "machine/tile.cuh"

#if defined(SALA_HOST)
#include <algorithm>
#endif

namespace sala {
inline namespace SALA_VARIANT {

// How B lies in the tile: B(k, n) is element (n, k), or element (k, n).
enum class Operand { NK, KN };

template <int COLS, Operand OPERAND>
struct OperandPlace {
    static constexpr int FLIPS = COLS / 16 < 4 ? COLS / 16 : 4;  // the permutation leaves the bits above alone

    uint32_t first;
    SharedTile<COLS> tile;  // for the host, whose products read tiles

    DEVICE explicit OperandPlace(SharedTile<COLS> tile) : tile(tile) {
        const int lane = lane_index();
        const int row = OPERAND == Operand::NK ? lane / 16 * 8 + lane % 8 : lane % 16;
        const int vector = OPERAND == Operand::NK ? lane / 8 % 2 : lane / 16;
        first = kept(tile.address(row, vector));
    }

    // The same place in a tile that lies `bytes` further on.
    DEVICE OperandPlace moved(uint32_t bytes) const {
        OperandPlace other = *this;
        other.tile.base += bytes;
        other.first = kept(first + bytes);
        return other;
    }

    DEVICE uint32_t address(int row0, int col0) const {
        const auto flip = static_cast<uint32_t>(col0 / 16 % FLIPS * 32);
        return (first ^ flip) + static_cast<uint32_t>(row0 * SharedTile<COLS>::ROW_BYTES + col0 / 16 / FLIPS * FLIPS * 32);
    }
};

// Rows [row0, row0 + 16), columns [col0, col0 + 16) as A: lanes ask for the rows of the KN fragment there, which is its transpose.
template <int COLS>
DEVICE FragmentA<16> load_operand_a(const OperandPlace<COLS, Operand::KN>& place, int row0, int col0 SITE) {
    FragmentA<16> a;
    load_matrix_x4(a.registers[0], place.address(row0, col0) FORWARD_SITE);
    return a;
}

// C += A B, B being the tile's first rows and columns; multiply_nk and multiply_kn, bit for bit.
template <class T, int N, int K, int COLS, Operand OPERAND>
DEVICE void multiply(Accumulator<N>& c, const FragmentA<K>& a, const OperandPlace<COLS, OPERAND>& b SITE);

// The same for M operands A of K columns, which share each load of B. make(a, i) gives columns [16 i, 16 i + 16) of all of them: it
// works while the tensor cores multiply the columns before.
template <class T, int K, int M, int N, int COLS, Operand OPERAND, class Make>
DEVICE void multiply_made(Accumulator<N> (&c)[M], const OperandPlace<COLS, OPERAND>& b, const Make& make SITE);

}  // namespace SALA_VARIANT
}  // namespace sala

namespace sala {
inline namespace SALA_VARIANT {

#if defined(SALA_HOST)

template <class T, int N, int K, int COLS, Operand OPERAND>
DEVICE void multiply(Accumulator<N>& c, const FragmentA<K>& a, const OperandPlace<COLS, OPERAND>& b, const char* file, int line) {
    if constexpr (OPERAND == Operand::NK) {
        multiply_nk<T>(c, a, b.tile, 0, 0, file, line);
    } else {
        multiply_kn<T>(c, a, b.tile, 0, 0, file, line);
    }
}

template <class T, int K, int M, int N, int COLS, Operand OPERAND, class Make>
DEVICE void multiply_made(Accumulator<N> (&c)[M], const OperandPlace<COLS, OPERAND>& b, const Make& make, const char* file, int line) {
    FragmentA<K> a[M];
    for (int i = 0; i < K / 16; ++i) {
        FragmentA<16> made[M];
        make(made, i);
        for (int m = 0; m < M; ++m) std::copy_n(made[m].registers[0], 4, a[m].registers[i]);
    }
    for (int m = 0; m < M; ++m) multiply<T>(c[m], a[m], b, file, line);
}

#else

// Columns [16 j, 16 j + 16) of C, from rows [16 i, 16 i + 16) of B.
template <int COLS, Operand OPERAND>
DEVICE void load_operand(uint32_t (&r)[4], const OperandPlace<COLS, OPERAND>& b, int i, int j) {
    if constexpr (OPERAND == Operand::NK) {
        load_matrix_x4(r, b.address(16 * j, 16 * i));
    } else {
        load_matrix_x4_trans(r, b.address(16 * i, 16 * j));
    }
}

template <class T, int N, int K, int COLS, Operand OPERAND>
DEVICE void multiply(Accumulator<N>& c, const FragmentA<K>& a, const OperandPlace<COLS, OPERAND>& b) {
    static_assert(N % 16 == 0, "a load has sixteen columns");
    UNROLL
    for (int i = 0; i < K / 16; ++i) {
        UNROLL
        for (int j = 0; j < N / 16; ++j) {
            uint32_t r[4];
            load_operand(r, b, i, j);
            mma<T>(c.values[2 * j], a.registers[i], r[0], r[1]);
            mma<T>(c.values[2 * j + 1], a.registers[i], r[2], r[3]);
        }
    }
}

template <class T, int K, int M, int N, int COLS, Operand OPERAND, class Make>
DEVICE void multiply_made(Accumulator<N> (&c)[M], const OperandPlace<COLS, OPERAND>& b, const Make& make) {
    static_assert(N % 16 == 0, "a load has sixteen columns");
    FragmentA<16> next[M];
    make(next, 0);
    UNROLL
    for (int i = 0; i < K / 16; ++i) {
        FragmentA<16> a[M];
        UNROLL
        for (int m = 0; m < M; ++m) a[m] = next[m];
        UNROLL
        for (int j = 0; j < N / 16; ++j) {
            uint32_t r[4];
            load_operand(r, b, i, j);
            UNROLL
            for (int m = 0; m < M; ++m) {
                mma<T>(c[m].values[2 * j], a[m].registers[0], r[0], r[1]);
                mma<T>(c[m].values[2 * j + 1], a[m].registers[0], r[2], r[3]);
            }
        }
        if (i + 1 < K / 16) make(next, i + 1);
    }
}

#endif

}  // namespace SALA_VARIANT
}  // namespace sala
