// The host half of machine/warpgroup.cuh: a warp starts a product by describing it; the executor performs it as early
// or as late as the machine may.
#pragma once

namespace sala::host {

// Rows of a PanelTile from row0 on.
struct PanelPart {
    uint32_t base;
    int rows, cols;  // of the tile
    int row0;
};

// The warp's quarter of a product: C (16 x n) = A (16 x k) B (k x n), added to C if `adds`.
struct GroupProduct {
    Element element;
    int n, k;
    bool adds;
    bool a_shared;      // A(m, k) is element (m, k) of a_part; otherwise it is in registers
    bool b_rows_are_k;  // B(k, n) is element (k, n) of b_part; otherwise element (n, k)
    PanelPart a_part, b_part;
};

void fence_products(Site site);
void start_product(const GroupProduct& product, float* c, const uint32_t* a, Site site);
void commit_products(Site site);
void wait_products(uint32_t pending, Site site);
void change_registers(int count, bool more, Site site);

}  // namespace sala::host

namespace sala {
inline namespace SALA_VARIANT {

DEVICE void fence_products(const char* file, int line) { host::fence_products({file, line}); }
DEVICE void commit_products(const char* file, int line) { host::commit_products({file, line}); }

template <int ROWS, int COLS>
DEVICE host::PanelPart part(PanelTile<ROWS, COLS> tile, int row0) {
    return {tile.base, ROWS, COLS, row0};
}

template <class T, int N, int K, int ROWS, int COLS>
DEVICE void start_product_nk(Accumulator<N>& c, const FragmentA<K>& a, PanelTile<ROWS, COLS> b, int row0, bool adds, const char* file,
                             int line) {
    static_assert(K <= COLS, "the tile has too few columns");
    host::start_product({ELEMENT<T>, N, K, adds, false, false, {}, part(b, row0)}, c.values[0], a.registers[0], {file, line});
}

template <class T, int N, int K, int ROWS, int COLS>
DEVICE void start_product_kn(Accumulator<N>& c, const FragmentA<K>& a, PanelTile<ROWS, COLS> b, int row0, bool adds, const char* file,
                             int line) {
    static_assert(N <= COLS, "the tile has too few columns");
    host::start_product({ELEMENT<T>, N, K, adds, false, true, {}, part(b, row0)}, c.values[0], a.registers[0], {file, line});
}

template <class T, int N, int A_ROWS, int B_ROWS, int COLS>
DEVICE void start_product_shared_nk(Accumulator<N>& c, PanelTile<A_ROWS, COLS> a, int a_row0, PanelTile<B_ROWS, COLS> b, int b_row0,
                                    bool adds, const char* file, int line) {
    host::start_product({ELEMENT<T>, N, COLS, adds, true, false, part(a, a_row0), part(b, b_row0)}, c.values[0], nullptr, {file, line});
}

template <int PENDING, int N>
DEVICE void wait_products(Accumulator<N>&, const char* file, int line) {
    host::wait_products(PENDING, {file, line});
}

template <int COUNT>
DEVICE void give_up_registers(const char* file, int line) {
    static_assert(24 <= COUNT && COUNT <= 256 && COUNT % 8 == 0, "a multiple of 8 from 24 to 256");
    host::change_registers(COUNT, false, {file, line});
}

template <int COUNT>
DEVICE void take_registers(const char* file, int line) {
    static_assert(24 <= COUNT && COUNT <= 256 && COUNT % 8 == 0, "a multiple of 8 from 24 to 256");
    host::change_registers(COUNT, true, {file, line});
}

}  // namespace SALA_VARIANT
}  // namespace sala
