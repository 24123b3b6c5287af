// The host half of machine/tile.cuh: each operation describes itself to the executor, which performs it for
// the whole warp at once.
#pragma once

namespace sala::host {

// A part of a tile in shared memory, from (row0, col0) on. Columns count elements.
struct TilePart {
    uint32_t base;
    int row0, col0;
    int row_bytes;
    int swizzle_shift, swizzle_mask;
};

// C (16 x n) += A (16 x k) B (k x n).
struct TileProduct {
    Element element;
    int n, k;
    bool a_shared;      // A is a_part; otherwise it is in registers
    bool a_transposed;  // A(m, k) is element (k, m) of a_part
    bool b_rows_are_k;  // B(k, n) is element (k, n) of b_part; otherwise element (n, k)
    TilePart a_part, b_part;
};

// `a` (`b`) holds the lane's fragments of an operand that is in registers, and is null otherwise.
void multiply(const TileProduct& product, float* c, const uint32_t* a, const uint32_t* b, Site site);
void load_fragment_a(const TilePart& part, int k, bool transposed, uint32_t* a, Site site);

}  // namespace sala::host

namespace sala {
inline namespace SALA_VARIANT {

template <int COLS>
DEVICE host::TilePart part(SharedTile<COLS> tile, int row0, int col0) {
    using Tile = SharedTile<COLS>;
    return {tile.base, row0, col0, Tile::ROW_BYTES, Tile::SWIZZLE_SHIFT, Tile::SWIZZLE_MASK};
}

template <int K, int COLS>
DEVICE FragmentA<K> load_fragment_a(SharedTile<COLS> tile, int row0, int col0, const char* file, int line) {
    FragmentA<K> a;
    host::load_fragment_a(part(tile, row0, col0), K, false, a.registers[0], {file, line});
    return a;
}

template <int K, int COLS>
DEVICE FragmentA<K> load_fragment_a_trans(SharedTile<COLS> tile, int k_row0, int m_col0, const char* file, int line) {
    FragmentA<K> a;
    host::load_fragment_a(part(tile, k_row0, m_col0), K, true, a.registers[0], {file, line});
    return a;
}

template <class T, int N, int K, int COLS>
DEVICE void multiply_nk(Accumulator<N>& c, const FragmentA<K>& a, SharedTile<COLS> b, int row0, int col0, const char* file, int line) {
    const host::TileProduct product{ELEMENT<T>, N, K, false, false, false, {}, part(b, row0, col0)};
    host::multiply(product, c.values[0], a.registers[0], nullptr, {file, line});
}

template <class T, int N, int K, int COLS>
DEVICE void multiply_kn(Accumulator<N>& c, const FragmentA<K>& a, SharedTile<COLS> b, int row0, int col0, const char* file, int line) {
    const host::TileProduct product{ELEMENT<T>, N, K, false, false, true, {}, part(b, row0, col0)};
    host::multiply(product, c.values[0], a.registers[0], nullptr, {file, line});
}

template <class T, int K, int N, int A_COLS, int B_COLS>
DEVICE void multiply_shared_nk(Accumulator<N>& c, SharedTile<A_COLS> a, int a_row0, int a_col0, SharedTile<B_COLS> b, int b_row0,
                               int b_col0, const char* file, int line) {
    const host::TileProduct product{ELEMENT<T>, N, K, true, false, false, part(a, a_row0, a_col0), part(b, b_row0, b_col0)};
    host::multiply(product, c.values[0], nullptr, nullptr, {file, line});
}

template <class T, int K, int N, int A_COLS, int B_COLS>
DEVICE void multiply_shared_kn(Accumulator<N>& c, SharedTile<A_COLS> a, int a_row0, int a_col0, SharedTile<B_COLS> b, int b_row0,
                               int b_col0, const char* file, int line) {
    const host::TileProduct product{ELEMENT<T>, N, K, true, false, true, part(a, a_row0, a_col0), part(b, b_row0, b_col0)};
    host::multiply(product, c.values[0], nullptr, nullptr, {file, line});
}

template <class T, int K, int N, int A_COLS, int B_COLS>
DEVICE void multiply_shared_trans_kn(Accumulator<N>& c, SharedTile<A_COLS> a, int a_row0, int a_col0, SharedTile<B_COLS> b, int b_row0,
                                     int b_col0, const char* file, int line) {
    const host::TileProduct product{ELEMENT<T>, N, K, true, true, true, part(a, a_row0, a_col0), part(b, b_row0, b_col0)};
    host::multiply(product, c.values[0], nullptr, nullptr, {file, line});
}

template <class T, int K, int N, int COLS>
DEVICE void multiply_shared_a(Accumulator<N>& c, SharedTile<COLS> a, int row0, int col0, const FragmentB<K, N>& b, const char* file,
                              int line) {
    const host::TileProduct product{ELEMENT<T>, N, K, true, false, false, part(a, row0, col0), {}};
    host::multiply(product, c.values[0], nullptr, b.registers[0][0], {file, line});
}

template <class T, int K, int N, int COLS, int WIDTH>
DEVICE void multiply_shared_a(Accumulator<N>& c, const FragmentPlace<COLS, WIDTH>& a, int row0, int col0, const FragmentB<K, N>& b,
                              const char* file, int line) {
    multiply_shared_a<T>(c, a.tile, row0, a.col0 + col0, b, file, line);
}

template <class T, int N, int K>
DEVICE void multiply(Accumulator<N>& c, const FragmentA<K>& a, const FragmentB<K, N>& b, const char* file, int line) {
    const host::TileProduct product{ELEMENT<T>, N, K, false, false, false, {}, {}};
    host::multiply(product, c.values[0], a.registers[0], b.registers[0][0], {file, line});
}

template <class T, int N, int K>
DEVICE void multiply_if(bool run, Accumulator<N>& c, const FragmentA<K>& a, const FragmentB<K, N>& b, const char* file, int line) {
    if (run) multiply<T>(c, a, b, file, line);
}

}  // namespace SALA_VARIANT
}  // namespace sala
