// The host half of machine/tile.cuh: whole products at one meeting of the warp.
#include "machine/tile.cuh"

#include <string.h>

#include "host/collective.h"
#include "host/fragments.h"
#include "host/product.h"
#include "host/report.h"
#include "host/shared_memory.h"

namespace sala::host {

namespace {

constexpr int MATRIX_ROWS = 8;
constexpr int VECTOR_COLS = 8;
constexpr uint32_t VECTOR_BYTES = 16;
constexpr int M = FRAGMENT_ROWS;

struct ProductArgument {
    TileProduct product;
    float* c;
    const uint32_t* a;
    const uint32_t* b;
};

struct FragmentArgument {
    TilePart part;
    int k;
    bool transposed;
    uint32_t* a;
};

// Which lane gives the address of a row in ldmatrix.x4: the four matrices are taken along the rows first, or
// along the columns first.
enum class MatrixOrder { ROWS_FIRST, COLUMNS_FIRST };

int address_lane(MatrixOrder order, int row, int vector) {
    const int row_matrix = row / MATRIX_ROWS % 2;
    const int vector_matrix = vector % 2;
    const int matrix = order == MatrixOrder::ROWS_FIRST ? vector_matrix * 2 + row_matrix : row_matrix * 2 + vector_matrix;
    return matrix * MATRIX_ROWS + row % MATRIX_ROWS;
}

uint32_t vector_address(const TilePart& part, int row, int vector) {
    const int swizzled = (part.col0 / VECTOR_COLS + vector) ^ ((row >> part.swizzle_shift) & part.swizzle_mask);
    return part.base + static_cast<uint32_t>(row * part.row_bytes) + static_cast<uint32_t>(swizzled) * VECTOR_BYTES;
}

void check_part(const Warp& warp, const TilePart& part, int cols) {
    if (part.base % VECTOR_BYTES != 0) fail(warp.site, "%s: tile base 0x%x is not aligned to 16 bytes", warp.name, part.base);
    if (part.row0 < 0 || part.col0 < 0 || part.col0 % VECTOR_COLS != 0 || (part.col0 + cols) * 2 > part.row_bytes) {
        fail(warp.site, "%s: from row %d, columns %d to %d of a tile of %d columns", warp.name, part.row0, part.col0, part.col0 + cols,
             part.row_bytes / 2);
    }
}

// Visits the vectors of 16 bytes of rows x cols elements from (row0, col0) on, as ldmatrix reads them:
// use(row, first column, the eight elements).
template <class Use>
void read_part(Block& block, const Warp& warp, const TilePart& part, int rows, int cols, MatrixOrder order, Use use) {
    check_part(warp, part, cols);
    for (int row = 0; row < rows; row += MATRIX_ROWS) {
        for (int vector = 0; vector < cols / VECTOR_COLS; ++vector) {
            uint32_t addresses[MATRIX_ROWS];
            for (int r = 0; r < MATRIX_ROWS; ++r) {
                addresses[r] = vector_address(part, part.row0 + row + r, vector);
                const int thread = warp.index * WARP_SIZE + address_lane(order, row + r, vector);
                const unsigned char* pointer = shared_pointer(block, addresses[r], VECTOR_BYTES, thread, warp.site);
                if (block.race != nullptr) block.race->access(thread, pointer, VECTOR_BYTES, Access::READ, AccessSite::at(warp.site));
                use(row + r, vector * VECTOR_COLS, reinterpret_cast<const uint16_t*>(pointer));
            }
            block.counters.shared_wavefronts += matrix_wavefronts(addresses);
        }
    }
    block.counters.shared_wavefronts_ideal += static_cast<uint64_t>(rows / MATRIX_ROWS * (cols / VECTOR_COLS));
}

// A from shared memory as [k][16] floats.
void gather_shared_a(Block& block, const Warp& warp, const TileProduct& product, float* a) {
    const Element element = product.element;
    if (product.a_transposed) {
        read_part(block, warp, product.a_part, product.k, M, MatrixOrder::COLUMNS_FIRST,
                  [&](int k, int m, const uint16_t* elements) { widen(element, a + k * M + m, elements); });
        return;
    }
    read_part(block, warp, product.a_part, M, product.k, MatrixOrder::ROWS_FIRST, [&](int m, int k, const uint16_t* elements) {
        float wide[VECTOR_COLS];
        widen(element, wide, elements);
        for (int i = 0; i < VECTOR_COLS; ++i) a[(k + i) * M + m] = wide[i];
    });
}

// A from the lanes' fragments as [k][16] floats.
void gather_fragments(const TileProduct& product, void* const* arguments, float* a) {
    for (int lane = 0; lane < WARP_SIZE; ++lane) {
        gather_fragment_a(product.element, lane, static_cast<const ProductArgument*>(arguments[lane])->a, product.k, a);
    }
}

// B from the lanes' fragments as [n][k] floats.
void gather_b_fragments(const TileProduct& product, void* const* arguments, float* b) {
    const Element element = product.element;
    for (int lane = 0; lane < WARP_SIZE; ++lane) {
        const uint32_t* registers = static_cast<const ProductArgument*>(arguments[lane])->b;
        const int fragments = product.k / 16 * (product.n / 8);
        for (int first = 0; first < fragments; first += 2) {
            const int count = first + 1 < fragments ? 2 : 1;  // two are widened at once
            uint16_t elements[8] = {};
            float wide[8];
            memcpy(elements, registers + 2 * first, static_cast<size_t>(count) * 8);
            widen(element, wide, elements);
            for (int i = 0; i < count; ++i) {
                const int step = (first + i) / (product.n / 8);
                const int column = (first + i) % (product.n / 8) * 8 + lane / 4;
                float* k = b + column * product.k + 16 * step + lane % 4 * 2;
                k[0] = wide[4 * i];
                k[1] = wide[4 * i + 1];
                k[8] = wide[4 * i + 2];
                k[9] = wide[4 * i + 3];
            }
        }
    }
}

// B as it lies in the tile, rows of floats.
void gather_shared_b(Block& block, const Warp& warp, const TileProduct& product, float* b) {
    const Element element = product.element;
    const int rows = product.b_rows_are_k ? product.k : product.n;
    const int cols = product.b_rows_are_k ? product.n : product.k;
    const MatrixOrder order = product.b_rows_are_k ? MatrixOrder::ROWS_FIRST : MatrixOrder::COLUMNS_FIRST;
    read_part(block, warp, product.b_part, rows, cols, order,
              [&](int row, int col, const uint16_t* elements) { widen(element, b + row * cols + col, elements); });
}

// Moves the lanes' accumulators to or from [n][16] floats: move(accumulator element, matrix element).
template <class Move>
void for_accumulators(const TileProduct& product, void* const* arguments, float* c, Move move) {
    for (int lane = 0; lane < WARP_SIZE; ++lane) {
        for_accumulator(lane, static_cast<const ProductArgument*>(arguments[lane])->c, product.n, c, move);
    }
}

bool same_part(const TilePart& a, const TilePart& b) { return a.base == b.base && a.row0 == b.row0 && a.col0 == b.col0; }

// On the GPU lanes that disagree would give the rows of different tiles, which is never meant.
void check_agreement(const Warp& warp, void* const* arguments) {
    const TileProduct& first = static_cast<const ProductArgument*>(arguments[0])->product;
    for (int lane = 1; lane < WARP_SIZE; ++lane) {
        const TileProduct& other = static_cast<const ProductArgument*>(arguments[lane])->product;
        if (!same_part(first.b_part, other.b_part) || !same_part(first.a_part, other.a_part)) {
            fail_thread(warp.index * WARP_SIZE + lane, warp.site, "%s: the lane names another part of a tile than lane 0", warp.name);
        }
    }
}

void perform_product(Block& block, Warp& warp, void* const* arguments) {
    check_agreement(warp, arguments);
    const TileProduct& product = static_cast<const ProductArgument*>(arguments[0])->product;
    const size_t size_a = static_cast<size_t>(product.k * M);
    const size_t size_b = static_cast<size_t>(product.k * product.n);
    const size_t size_c = static_cast<size_t>(product.n * M);
    if (block.product_scratch.size() < size_a + size_b + size_c) block.product_scratch.resize(size_a + size_b + size_c);
    float* a = block.product_scratch.data();
    float* b = a + size_a;
    float* c = b + size_b;

    if (product.a_shared) {
        gather_shared_a(block, warp, product, a);
    } else {
        gather_fragments(product, arguments, a);
    }
    if (static_cast<const ProductArgument*>(arguments[0])->b != nullptr) {
        gather_b_fragments(product, arguments, b);
    } else {
        gather_shared_b(block, warp, product, b);
    }
    for_accumulators(product, arguments, c, [](const float& value, float& element) { element = value; });
    const int k_step = product.b_rows_are_k ? product.n : 1;
    const int n_step = product.b_rows_are_k ? 1 : product.k;
    accumulate_product(c, a, b, product.n, product.k, k_step, n_step);
    for_accumulators(product, arguments, c, [](float& value, const float& element) { value = element; });
    block.counters.tensor_flops += static_cast<uint64_t>(2 * M * product.n) * static_cast<uint64_t>(product.k);
}

void perform_load_fragment(Block& block, Warp& warp, void* const* arguments) {
    const auto& first = *static_cast<const FragmentArgument*>(arguments[0]);
    for (int lane = 1; lane < WARP_SIZE; ++lane) {
        if (!same_part(first.part, static_cast<const FragmentArgument*>(arguments[lane])->part)) {
            fail_thread(warp.index * WARP_SIZE + lane, warp.site, "%s: the lane names another part of a tile than lane 0", warp.name);
        }
    }
    // Element (m, k) goes to the low or high half of one register of one lane.
    const auto place = [&](int m, int k, uint16_t element) {
        const int lane = m % 8 * 4 + k % 8 / 2;
        uint32_t* registers = static_cast<const FragmentArgument*>(arguments[lane])->a;
        const int index = k / 16 * 4 + k / 8 % 2 * 2 + m / 8;
        memcpy(reinterpret_cast<uint16_t*>(registers + index) + k % 2, &element, sizeof(element));
    };
    if (first.transposed) {
        read_part(block, warp, first.part, first.k, M, MatrixOrder::COLUMNS_FIRST, [&](int k, int m, const uint16_t* elements) {
            for (int i = 0; i < VECTOR_COLS; ++i) place(m + i, k, elements[i]);
        });
        return;
    }
    read_part(block, warp, first.part, M, first.k, MatrixOrder::ROWS_FIRST, [&](int m, int k, const uint16_t* elements) {
        for (int i = 0; i < VECTOR_COLS; ++i) place(m, k + i, elements[i]);
    });
}

}  // namespace

void multiply(const TileProduct& product, float* c, const uint32_t* a, const uint32_t* b, Site site) {
    ProductArgument argument{product, c, a, b};
    meet(perform_product, "multiply", &argument, site);
}

void load_fragment_a(const TilePart& part, int k, bool transposed, uint32_t* a, Site site) {
    FragmentArgument argument{part, k, transposed, a};
    meet(perform_load_fragment, "load_fragment_a", &argument, site);
}

}  // namespace sala::host
