// The half of machine/warpgroup.cuh for GPUs.
#pragma once

#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
#error "wgmma exists on sm_90a alone"
#endif

namespace sala {
inline namespace SALA_VARIANT {

// How wgmma finds a matrix: where it begins, how far apart its panels and its groups of eight rows are, and that vectors
// are permuted within 128 bytes, as SharedTile<64> does.
DEVICE uint64_t matrix_descriptor(uint32_t address, uint32_t panel_bytes) {
    constexpr uint64_t GROUP_BYTES = 8 * SharedTile<64>::ROW_BYTES;
    constexpr uint64_t PERMUTED_IN_128_BYTES = uint64_t{1} << 62;
    return (address & 0x3ffffu) >> 4 | static_cast<uint64_t>(panel_bytes >> 4) << 16 | GROUP_BYTES >> 4 << 32 | PERMUTED_IN_128_BYTES;
}

#define SALA_FOUR(c, j) "+f"(c[j][0]), "+f"(c[j][1]), "+f"(c[j][2]), "+f"(c[j][3])
#define SALA_SIXTEEN(c, j) SALA_FOUR(c, j), SALA_FOUR(c, j + 1), SALA_FOUR(c, j + 2), SALA_FOUR(c, j + 3)
#define SALA_SUMS_64(c) SALA_SIXTEEN(c, 0), SALA_SIXTEEN(c, 4)
#define SALA_SUMS_128(c) SALA_SUMS_64(c), SALA_SIXTEEN(c, 8), SALA_SIXTEEN(c, 12)
#define SALA_NAMES_64                                                                                       \
    "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, " \
    "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
#define SALA_NAMES_128                                                                                      \
    "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, " \
    "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, "  \
    "%42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, "  \
    "%62, %63}, "

// One step of 16 along k. TRANSPOSED: rows of B are k. FROM and ADDS name what follows the sums among the operands.
#define SALA_WGMMA(N, T, TRANSPOSED, FROM, ADDS, SCALES, ...)                                                                            \
    asm volatile("{\n\t.reg .pred adds;\n\tsetp.ne.s32 adds, " ADDS                                                                      \
                 ", 0;\n\t"                                                                                                              \
                 "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." #T "." #T " " SALA_NAMES_##N FROM ", adds, 1, 1, " SCALES #TRANSPOSED \
                                                                                                     ";\n\t}"                            \
                 : SALA_SUMS_##N(c)                                                                                                      \
                 : __VA_ARGS__, "r"(static_cast<int>(adds)))

template <class T, int N, bool ROWS_ARE_K>
struct Wgmma;

#define SALA_WGMMA_SHAPE(N, T, TRANSPOSED, FROM_REGISTERS, ADDS_REGISTERS, FROM_SHARED, ADDS_SHARED)                              \
    template <>                                                                                                                   \
    struct Wgmma<T, N, TRANSPOSED> {                                                                                              \
        static DEVICE void start(float (&c)[N / 8][4], const uint32_t (&a)[4], uint64_t b, bool adds) {                           \
            SALA_WGMMA(N, T, TRANSPOSED, FROM_REGISTERS, ADDS_REGISTERS, "", "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b)); \
        }                                                                                                                         \
        static DEVICE void start(float (&c)[N / 8][4], uint64_t a, uint64_t b, bool adds) {                                       \
            SALA_WGMMA(N, T, TRANSPOSED, FROM_SHARED, ADDS_SHARED, "0, ", "l"(a), "l"(b));                                        \
        }                                                                                                                         \
    };

#define SALA_WGMMA_SHAPES(T, TRANSPOSED)                                                       \
    SALA_WGMMA_SHAPE(64, T, TRANSPOSED, "{%32, %33, %34, %35}, %36", "%37", "%32, %33", "%34") \
    SALA_WGMMA_SHAPE(128, T, TRANSPOSED, "{%64, %65, %66, %67}, %68", "%69", "%64, %65", "%66")

SALA_WGMMA_SHAPES(bf16, 0)
SALA_WGMMA_SHAPES(bf16, 1)
SALA_WGMMA_SHAPES(f16, 0)
SALA_WGMMA_SHAPES(f16, 1)

#undef SALA_WGMMA_SHAPES
#undef SALA_WGMMA_SHAPE
#undef SALA_WGMMA
#undef SALA_NAMES_128
#undef SALA_NAMES_64
#undef SALA_SUMS_128
#undef SALA_SUMS_64

DEVICE void fence_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Where a step of 16 columns of eight or more rows begins: that of the first, and a constant. (Shared addresses end below where an
// addition would carry into the next field.)
template <int ROWS, int COLS>
DEVICE uint64_t columns_descriptor(PanelTile<ROWS, COLS> tile, int row0, int step) {
    const uint64_t first = matrix_descriptor(tile.base + static_cast<uint32_t>(row0 * SharedTile<64>::ROW_BYTES), tile.PANEL_BYTES);
    return first + (static_cast<uint32_t>(step / 4) * tile.PANEL_BYTES + static_cast<uint32_t>(step % 4 * 32)) / 16;
}

template <class T, int N, int K, int ROWS, int COLS>
DEVICE void start_product_nk(Accumulator<N>& c, const FragmentA<K>& a, PanelTile<ROWS, COLS> b, int row0, bool adds) {
    static_assert(K <= COLS, "the tile has too few columns");
    UNROLL
    for (int i = 0; i < K / 16; ++i) Wgmma<T, N, false>::start(c.values, a.registers[i], columns_descriptor(b, row0, i), adds || i > 0);
}

template <class T, int N, int K, int ROWS, int COLS>
DEVICE void start_product_kn(Accumulator<N>& c, const FragmentA<K>& a, PanelTile<ROWS, COLS> b, int row0, bool adds) {
    static_assert(N <= COLS, "the tile has too few columns");
    UNROLL
    for (int i = 0; i < K / 16; ++i) {
        const uint32_t rows = b.base + static_cast<uint32_t>((row0 + 16 * i) * SharedTile<64>::ROW_BYTES);
        Wgmma<T, N, true>::start(c.values, a.registers[i], matrix_descriptor(rows, b.PANEL_BYTES), adds || i > 0);
    }
}

template <class T, int N, int A_ROWS, int B_ROWS, int COLS>
DEVICE void start_product_shared_nk(Accumulator<N>& c, PanelTile<A_ROWS, COLS> a, int a_row0, PanelTile<B_ROWS, COLS> b, int b_row0,
                                    bool adds) {
    UNROLL
    for (int i = 0; i < COLS / 16; ++i) {
        Wgmma<T, N, false>::start(c.values, columns_descriptor(a, a_row0, i), columns_descriptor(b, b_row0, i), adds || i > 0);
    }
}

template <int PENDING, int N>
DEVICE void wait_products(Accumulator<N>& c) {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
    UNROLL
    for (int j = 0; j < N / 8; ++j) asm volatile("" : SALA_FOUR(c.values, j));
}

template <int COUNT>
DEVICE void give_up_registers() {
    static_assert(24 <= COUNT && COUNT <= 256 && COUNT % 8 == 0, "a multiple of 8 from 24 to 256");
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}

template <int COUNT>
DEVICE void take_registers() {
    static_assert(24 <= COUNT && COUNT <= 256 && COUNT % 8 == 0, "a multiple of 8 from 24 to 256");
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}

#undef SALA_SIXTEEN
#undef SALA_FOUR

}  // namespace SALA_VARIANT
}  // namespace sala
