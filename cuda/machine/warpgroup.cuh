// Products of a warpgroup (wgmma): four warps, the first of which is a multiple of four, multiply 64 rows at once, a
// quarter each. Compute capability 9.0a alone; kernels of other machines do not include this.
//
// Warp w of the group holds rows [16 w, 16 w + 16) of C, and of A where that is in registers, as a single warp holds its
// Accumulator and FragmentA. B lies in shared memory, and so may A.
//
// Products run by themselves, in batches that a warp closes and waits for:
//
//   fence_products();                      what the warp did to C and A before
//   start_product_nk<T, N, K>(c, a, b);    any number, which add to C in this order
//   commit_products();
//   wait_products<0>(c);
//
// From the start on until the wait for its batch, C is neither read nor written nor copied, and what the product reads
// of shared memory is not written. All warps of the group make the same calls in the same order; that does not bring
// them together.
//
// Products read shared memory through the asynchronous proxy (machine/proxy.cuh), which does not see what a thread has
// written by stores or by async_copy until that thread has called publish_shared_writes(), after its wait for copies and
// before the barrier after which products start. It does see what tensor copies have brought.
#pragma once
#include "machine/proxy.cuh"
#include "machine/tile.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// A matrix in shared memory as products read it: panels of 64 columns, each a SharedTile of ROWS rows, one behind the
// other. `base` is aligned to 1024 bytes, and ROWS is a multiple of 8.
template <int ROWS, int COLS>
struct PanelTile {
    static_assert(ROWS % 8 == 0 && COLS % 64 == 0, "a panel is made of 8 rows of 64 columns");

    static constexpr uint32_t PANEL_BYTES = ROWS * SharedTile<64>::ROW_BYTES;
    static constexpr uint32_t BYTES = COLS / 64 * PANEL_BYTES;

    uint32_t base;

    DEVICE SharedTile<64> panel(int index) const { return {base + static_cast<uint32_t>(index) * PANEL_BYTES}; }

    // Address of the vector that holds columns [8 vector, 8 vector + 8) of a row.
    DEVICE uint32_t address(int row, int vector) const { return panel(vector / 8).address(row, vector % 8); }
};

// Orders products that start later after what the warp did to their registers.
DEVICE void fence_products(SITE_ALONE);

// Starts C (64 x N) += A (64 x K) B, or C = A B unless `adds`. B(k, n) is row row0 + n, column k of the tile.
template <class T, int N, int K, int ROWS, int COLS>
DEVICE void start_product_nk(Accumulator<N>& c, const FragmentA<K>& a, PanelTile<ROWS, COLS> b, int row0, bool adds SITE);

// The same with B(k, n) in row row0 + k, column n.
template <class T, int N, int K, int ROWS, int COLS>
DEVICE void start_product_kn(Accumulator<N>& c, const FragmentA<K>& a, PanelTile<ROWS, COLS> b, int row0, bool adds SITE);

// Starts C += A B with A(m, k) in row a_row0 + m, column k, and B(k, n) in row b_row0 + n, column k. All columns are taken.
template <class T, int N, int A_ROWS, int B_ROWS, int COLS>
DEVICE void start_product_shared_nk(Accumulator<N>& c, PanelTile<A_ROWS, COLS> a, int a_row0, PanelTile<B_ROWS, COLS> b, int b_row0,
                                    bool adds SITE);

// Closes the batch of the products started since the last.
DEVICE void commit_products(SITE_ALONE);

// Waits for all batches but the PENDING newest, and then for the compiler to know that `c` has changed.
template <int PENDING, int N>
DEVICE void wait_products(Accumulator<N>& c SITE);

// How many registers each thread of the warpgroup has from now on, a multiple of 8 from 24 to 256: fewer than before, or more,
// for which it waits until other groups have given theirs up. At first a kernel of at most THREADS threads has
// 65536 / THREADS, rounded down to a multiple of 8.
template <int COUNT>
DEVICE void give_up_registers(SITE_ALONE);
template <int COUNT>
DEVICE void take_registers(SITE_ALONE);

}  // namespace SALA_VARIANT
}  // namespace sala

#if defined(SALA_HOST)
#include "host/warpgroup.h"
#else
#include "machine/wgmma.cuh"
#endif
