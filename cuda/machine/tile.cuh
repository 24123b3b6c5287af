// Tiles: matrices of 16-bit elements in shared memory, their fragments in the registers of a warp, and the
// products of the two.
//
// A product is a warp operation. On the GPU it unrolls to ldmatrix and mma; on the host it is one meeting of
// the warp, whatever its size, so kernels should prefer it to the instructions it is made of. The host gives
// the same bits as those instructions.
#pragma once
#include "machine/matrix.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// A tile of rows of COLS elements (32, 64 or 128). A row is made of vectors of 16 bytes, which are permuted
// (XOR with bits of the row number) so that the vectors of eight rows at one index, and those of one row, lie
// in different banks: ldmatrix, ldmatrix.trans and row-wise 16-byte stores are free of conflicts. `base` is
// aligned to 128 bytes.
template <int COLS>
struct SharedTile {
    static_assert(COLS == 32 || COLS == 64 || COLS == 128, "a row is 64, 128 or 256 bytes");

    static constexpr int ROW_BYTES = COLS * 2;
    static constexpr int VECTORS = COLS / 8;  // vectors of a row
    // Two rows of 64 bytes share the 128 bytes that all banks serve at once, so there the permutation changes
    // every second row.
    static constexpr int SWIZZLE_SHIFT = COLS == 32 ? 1 : 0;
    static constexpr int SWIZZLE_MASK = COLS == 32 ? 3 : 7;

    uint32_t base;

    // Bytes taken by a tile of `rows` rows.
    static DEVICE constexpr int bytes(int rows) { return rows * ROW_BYTES; }

    // Byte offset in the tile of the vector that holds columns [8 vector, 8 vector + 8) of a row.
    static DEVICE constexpr uint32_t offset(int row, int vector) {
        return static_cast<uint32_t>(row * ROW_BYTES + ((vector ^ ((row >> SWIZZLE_SHIFT) & SWIZZLE_MASK)) << 4));
    }

    DEVICE uint32_t address(int row, int vector) const { return base + offset(row, vector); }

    // From the address of a vector that of the vector at its index `rows` rows below, if the addition carries none of the last
    // three bits of the row's number. Two instructions at most where `rows` is a constant.
    static DEVICE constexpr uint32_t add_rows(uint32_t address, int rows) {
        const auto flips = static_cast<uint32_t>((rows >> SWIZZLE_SHIFT) & SWIZZLE_MASK);
        return (address ^ flips << 4) + static_cast<uint32_t>(rows * ROW_BYTES);
    }

    // Address of one element.
    DEVICE uint32_t element(int row, int col) const { return address(row, col >> 3) + static_cast<uint32_t>((col & 7) * 2); }
};

// A 16 x K operand A in registers: one A fragment of mma for each 16 columns.
template <int K>
struct FragmentA {
    static_assert(K % 16 == 0, "mma takes 16 columns");

    uint32_t registers[K / 16][4];
};

// A K x N operand B in registers: for each 16 rows, one B fragment of mma for each 8 columns.
template <int K, int N>
struct FragmentB {
    static_assert(K % 16 == 0 && N % 8 == 0, "mma takes 16 rows and 8 columns");

    uint32_t registers[K / 16][N / 8][2];
};

// A 16 x N matrix of 32-bit floats in registers: one C fragment of mma for each 8 columns.
template <int N>
struct Accumulator {
    static_assert(N % 8 == 0, "mma gives 8 columns");

    float values[N / 8][4];

    DEVICE void fill(float value) {
        UNROLL
        for (int j = 0; j < N / 8; ++j) {
            UNROLL
            for (int e = 0; e < 4; ++e) values[j][e] = value;
        }
    }

    DEVICE void scale(float factor) { scale_rows(factor, factor); }

    // Multiplies the lane's two rows by their own factors.
    DEVICE void scale_rows(float upper, float lower) {
        UNROLL
        for (int j = 0; j < N / 8; ++j) {
            values[j][0] *= upper;
            values[j][1] *= upper;
            values[j][2] *= lower;
            values[j][3] *= lower;
        }
    }
};

// Where values[j][e] of an Accumulator lies in the matrix, for the calling lane.
DEVICE int accumulator_row(int e) { return lane_index() / 4 + 8 * (e >> 1); }
DEVICE int accumulator_col(int j, int e) { return 8 * j + 2 * (lane_index() % 4) + (e & 1); }

// Rounds an accumulator, or its columns [8 first, 8 first + K), to T, as an operand A: the two layouts agree,
// so no data moves between lanes.
template <class T, int K, int N>
DEVICE FragmentA<K> to_fragment_a(const Accumulator<N>& c, int first) {
    static_assert(K <= N, "the accumulator has too few columns");
    FragmentA<K> a;
    UNROLL
    for (int i = 0; i < K / 16; ++i) {
        UNROLL
        for (int half = 0; half < 2; ++half) {
            const float(&v)[4] = c.values[first + 2 * i + half];
            a.registers[i][2 * half] = pack<T>(v[0], v[1]);
            a.registers[i][2 * half + 1] = pack<T>(v[2], v[3]);
        }
    }
    return a;
}

template <class T, int N>
DEVICE FragmentA<N> to_fragment_a(const Accumulator<N>& c) {
    return to_fragment_a<T, N>(c, 0);
}

// Loads rows [row0, row0 + 16), columns [col0, col0 + K) of a tile. Here and below, column offsets are
// multiples of 8.
template <int K, int COLS>
DEVICE FragmentA<K> load_fragment_a(SharedTile<COLS> tile, int row0, int col0 SITE);

// Loads the transpose of rows [k_row0, k_row0 + K), columns [m_col0, m_col0 + 16) of a tile: the tile stores
// A with its columns as rows.
template <int K, int COLS>
DEVICE FragmentA<K> load_fragment_a_trans(SharedTile<COLS> tile, int k_row0, int m_col0 SITE);

// C += A B, B stored with its columns as rows: B(k, n) is element (row0 + n, col0 + k) of the tile.
template <class T, int N, int K, int COLS>
DEVICE void multiply_nk(Accumulator<N>& c, const FragmentA<K>& a, SharedTile<COLS> b, int row0, int col0 SITE);

// C += A B, B(k, n) being element (row0 + k, col0 + n) of the tile.
template <class T, int N, int K, int COLS>
DEVICE void multiply_kn(Accumulator<N>& c, const FragmentA<K>& a, SharedTile<COLS> b, int row0, int col0 SITE);

// As above, with A in shared memory too: A(m, k) is element (a_row0 + m, a_col0 + k) of tile `a`.
template <class T, int K, int N, int A_COLS, int B_COLS>
DEVICE void multiply_shared_nk(Accumulator<N>& c, SharedTile<A_COLS> a, int a_row0, int a_col0, SharedTile<B_COLS> b, int b_row0,
                               int b_col0 SITE);
template <class T, int K, int N, int A_COLS, int B_COLS>
DEVICE void multiply_shared_kn(Accumulator<N>& c, SharedTile<A_COLS> a, int a_row0, int a_col0, SharedTile<B_COLS> b, int b_row0,
                               int b_col0 SITE);

// As multiply_shared_kn, with A stored transposed: A(m, k) is element (a_row0 + k, a_col0 + m) of tile `a`.
template <class T, int K, int N, int A_COLS, int B_COLS>
DEVICE void multiply_shared_trans_kn(Accumulator<N>& c, SharedTile<A_COLS> a, int a_row0, int a_col0, SharedTile<B_COLS> b, int b_row0,
                                     int b_col0 SITE);

// C += A B, with A in shared memory as in multiply_shared_nk and B in registers.
template <class T, int K, int N, int COLS>
DEVICE void multiply_shared_a(Accumulator<N>& c, SharedTile<COLS> a, int row0, int col0, const FragmentB<K, N>& b SITE);

// C += A B, both in registers.
template <class T, int N, int K>
DEVICE void multiply(Accumulator<N>& c, const FragmentA<K>& a, const FragmentB<K, N>& b SITE);

// The same if `run`, which is the same in all lanes.
template <class T, int N, int K>
DEVICE void multiply_if(bool run, Accumulator<N>& c, const FragmentA<K>& a, const FragmentB<K, N>& b SITE);

// A tile, or a window of WIDTH of its columns from a multiple of WIDTH on, as a lane reads fragments of 16 x 16
// from it. The lane's addresses are formed once; rows and columns, multiples of 16, are then constants of the
// instructions, where SharedTile forms an address for each.
template <int COLS, int WIDTH = COLS>
struct FragmentPlace {
    static_assert(WIDTH % 16 == 0 && WIDTH <= COLS, "fragments are 16 columns wide");

    // Four addresses serve more columns: the permutation leaves the bits above alone.
    static constexpr int COUNT = WIDTH / 16 < 4 ? WIDTH / 16 : 4;
    uint32_t at[COUNT];
    SharedTile<COLS> tile;  // for the host, whose products read tiles
    int col0;

    DEVICE explicit FragmentPlace(SharedTile<COLS> tile, int col0 = 0) : tile(tile), col0(col0) {
        const int lane = lane_index();
        UNROLL
        for (int i = 0; i < COUNT; ++i) at[i] = kept(tile.address(lane % 16, col0 / 8 + 2 * i + lane / 16));
    }

    // The same place in a tile that lies `bytes` further on.
    DEVICE FragmentPlace moved(uint32_t bytes) const {
        FragmentPlace other = *this;
        other.tile.base += bytes;
        UNROLL
        for (int i = 0; i < COUNT; ++i) other.at[i] += bytes;
        return other;
    }

    DEVICE uint32_t address(int row0, int col0) const {
        return at[col0 / 16 % COUNT] + static_cast<uint32_t>(row0 * SharedTile<COLS>::ROW_BYTES + col0 / 16 / COUNT * COUNT * 32);
    }
};

// multiply_shared_a, with A at a place.
template <class T, int K, int N, int COLS, int WIDTH>
DEVICE void multiply_shared_a(Accumulator<N>& c, const FragmentPlace<COLS, WIDTH>& a, int row0, int col0, const FragmentB<K, N>& b SITE);

// Rows [row0, row0 + 16), columns [col0, col0 + 16): as A; as B whose columns are rows of the tile; as B; and, given
// the last, its transpose as A.
template <int COLS, int WIDTH>
DEVICE FragmentA<16> load_fragment_a(const FragmentPlace<COLS, WIDTH>& place, int row0, int col0 SITE) {
    FragmentA<16> a;
    load_matrix_x4(a.registers[0], place.address(row0, col0) FORWARD_SITE);
    return a;
}

template <int COLS, int WIDTH>
DEVICE FragmentB<16, 16> load_fragment_nk(const FragmentPlace<COLS, WIDTH>& place, int row0, int col0 SITE) {
    uint32_t r[4];
    load_matrix_x4(r, place.address(row0, col0) FORWARD_SITE);
    return {{{{r[0], r[2]}, {r[1], r[3]}}}};
}

template <int COLS, int WIDTH>
DEVICE FragmentB<16, 16> load_fragment_kn(const FragmentPlace<COLS, WIDTH>& place, int row0, int col0 SITE) {
    uint32_t r[4];
    load_matrix_x4_trans(r, place.address(row0, col0) FORWARD_SITE);
    return {{{{r[0], r[1]}, {r[2], r[3]}}}};
}

DEVICE FragmentA<16> transposed(const FragmentB<16, 16>& b) {
    const uint32_t(&r)[2][2] = b.registers[0];
    return {{{r[0][0], r[1][0], r[0][1], r[1][1]}}};
}

// Rows of an accumulator (columns [16 step, 16 step + 16)), rounded, as columns of an operand B.
template <class T, int N>
DEVICE FragmentB<16, 16> to_fragment_b_trans(const Accumulator<N>& c, int step) {
    const FragmentA<16> a = to_fragment_a<T, 16>(c, 2 * step);
    const uint32_t(&r)[4] = a.registers[0];
    return {{{{r[0], r[2]}, {r[1], r[3]}}}};
}

}  // namespace SALA_VARIANT
}  // namespace sala

#if defined(SALA_HOST)
#include "host/tile.h"
#else
namespace sala {
inline namespace SALA_VARIANT {

template <int COLS>
DEVICE void load_a_step(uint32_t (&a)[4], SharedTile<COLS> tile, int row0, int col0) {
    const int lane = lane_index();
    load_matrix_x4(a, tile.address(row0 + lane % 16, col0 / 8 + lane / 16));
}

template <int COLS>
DEVICE void load_a_step_trans(uint32_t (&a)[4], SharedTile<COLS> tile, int k_row0, int m_col0) {
    const int lane = lane_index();
    load_matrix_x4_trans(a, tile.address(k_row0 + lane / 16 * 8 + lane % 8, m_col0 / 8 + lane / 8 % 2));
}

template <int K, int COLS>
DEVICE FragmentA<K> load_fragment_a(SharedTile<COLS> tile, int row0, int col0) {
    FragmentA<K> a;
    UNROLL
    for (int i = 0; i < K / 16; ++i) load_a_step(a.registers[i], tile, row0, col0 + 16 * i);
    return a;
}

template <int K, int COLS>
DEVICE FragmentA<K> load_fragment_a_trans(SharedTile<COLS> tile, int k_row0, int m_col0) {
    FragmentA<K> a;
    UNROLL
    for (int i = 0; i < K / 16; ++i) load_a_step_trans(a.registers[i], tile, k_row0 + 16 * i, m_col0);
    return a;
}

// One step of 16 along k: C += A B with B's columns stored as rows. Two 8-column products share each load of
// B.
template <class T, int N, int COLS>
DEVICE void multiply_step_nk(Accumulator<N>& c, const uint32_t (&a)[4], SharedTile<COLS> b, int row0, int col0) {
    const int lane = lane_index();
    UNROLL
    for (int j = 0; j + 1 < N / 8; j += 2) {
        uint32_t r[4];
        load_matrix_x4(r, b.address(row0 + 8 * j + lane / 16 * 8 + lane % 8, col0 / 8 + lane / 8 % 2));
        mma<T>(c.values[j], a, r[0], r[1]);
        mma<T>(c.values[j + 1], a, r[2], r[3]);
    }
    if constexpr (N / 8 % 2 == 1) {
        uint32_t r[2];
        load_matrix_x2(r, b.address(row0 + N - 8 + lane % 8, col0 / 8 + lane / 8 % 2));
        mma<T>(c.values[N / 8 - 1], a, r[0], r[1]);
    }
}

template <class T, int N, int COLS>
DEVICE void multiply_step_kn(Accumulator<N>& c, const uint32_t (&a)[4], SharedTile<COLS> b, int row0, int col0) {
    const int lane = lane_index();
    UNROLL
    for (int j = 0; j + 1 < N / 8; j += 2) {
        uint32_t r[4];
        load_matrix_x4_trans(r, b.address(row0 + lane % 16, col0 / 8 + j + lane / 16));
        mma<T>(c.values[j], a, r[0], r[1]);
        mma<T>(c.values[j + 1], a, r[2], r[3]);
    }
    if constexpr (N / 8 % 2 == 1) {
        uint32_t r[2];
        load_matrix_x2_trans(r, b.address(row0 + lane % 16, col0 / 8 + N / 8 - 1));
        mma<T>(c.values[N / 8 - 1], a, r[0], r[1]);
    }
}

template <class T, int N, int K, int COLS>
DEVICE void multiply_nk(Accumulator<N>& c, const FragmentA<K>& a, SharedTile<COLS> b, int row0, int col0) {
    UNROLL
    for (int i = 0; i < K / 16; ++i) multiply_step_nk<T>(c, a.registers[i], b, row0, col0 + 16 * i);
}

template <class T, int N, int K, int COLS>
DEVICE void multiply_kn(Accumulator<N>& c, const FragmentA<K>& a, SharedTile<COLS> b, int row0, int col0) {
    UNROLL
    for (int i = 0; i < K / 16; ++i) multiply_step_kn<T>(c, a.registers[i], b, row0 + 16 * i, col0);
}

template <class T, int K, int N, int A_COLS, int B_COLS>
DEVICE void multiply_shared_nk(Accumulator<N>& c, SharedTile<A_COLS> a, int a_row0, int a_col0, SharedTile<B_COLS> b, int b_row0,
                               int b_col0) {
    UNROLL
    for (int i = 0; i < K / 16; ++i) {
        uint32_t step[4];
        load_a_step(step, a, a_row0, a_col0 + 16 * i);
        multiply_step_nk<T>(c, step, b, b_row0, b_col0 + 16 * i);
    }
}

template <class T, int K, int N, int A_COLS, int B_COLS>
DEVICE void multiply_shared_kn(Accumulator<N>& c, SharedTile<A_COLS> a, int a_row0, int a_col0, SharedTile<B_COLS> b, int b_row0,
                               int b_col0) {
    UNROLL
    for (int i = 0; i < K / 16; ++i) {
        uint32_t step[4];
        load_a_step(step, a, a_row0, a_col0 + 16 * i);
        multiply_step_kn<T>(c, step, b, b_row0 + 16 * i, b_col0);
    }
}

template <class T, int K, int N, int A_COLS, int B_COLS>
DEVICE void multiply_shared_trans_kn(Accumulator<N>& c, SharedTile<A_COLS> a, int a_row0, int a_col0, SharedTile<B_COLS> b, int b_row0,
                                     int b_col0) {
    UNROLL
    for (int i = 0; i < K / 16; ++i) {
        uint32_t step[4];
        load_a_step_trans(step, a, a_row0 + 16 * i, a_col0);
        multiply_step_kn<T>(c, step, b, b_row0 + 16 * i, b_col0);
    }
}

template <class T, int K, int N, int COLS>
DEVICE void multiply_shared_a(Accumulator<N>& c, SharedTile<COLS> a, int row0, int col0, const FragmentB<K, N>& b) {
    UNROLL
    for (int i = 0; i < K / 16; ++i) {
        uint32_t step[4];
        load_a_step(step, a, row0, col0 + 16 * i);
        UNROLL
        for (int j = 0; j < N / 8; ++j) mma<T>(c.values[j], step, b.registers[i][j][0], b.registers[i][j][1]);
    }
}

template <class T, int K, int N, int COLS, int WIDTH>
DEVICE void multiply_shared_a(Accumulator<N>& c, const FragmentPlace<COLS, WIDTH>& a, int row0, int col0, const FragmentB<K, N>& b) {
    UNROLL
    for (int i = 0; i < K / 16; ++i) {
        uint32_t step[4];
        load_matrix_x4(step, a.address(row0, col0 + 16 * i));
        UNROLL
        for (int j = 0; j < N / 8; ++j) mma<T>(c.values[j], step, b.registers[i][j][0], b.registers[i][j][1]);
    }
}

template <class T, int N, int K>
DEVICE void multiply_if(bool run, Accumulator<N>& c, const FragmentA<K>& a, const FragmentB<K, N>& b) {
    UNROLL
    for (int i = 0; i < K / 16; ++i) {
        UNROLL
        for (int j = 0; j < N / 8; ++j) mma_if<T>(run, c.values[j], a.registers[i], b.registers[i][j][0], b.registers[i][j][1]);
    }
}

template <class T, int N, int K>
DEVICE void multiply(Accumulator<N>& c, const FragmentA<K>& a, const FragmentB<K, N>& b) {
    UNROLL
    for (int i = 0; i < K / 16; ++i) {
        UNROLL
        for (int j = 0; j < N / 8; ++j) mma<T>(c.values[j], a.registers[i], b.registers[i][j][0], b.registers[i][j][1]);
    }
}

}  // namespace SALA_VARIANT
}  // namespace sala
#endif
