// The host half of machine/matrix.cuh.
#include "machine/matrix.cuh"

#include <string.h>

#include "host/collective.h"
#include "host/product.h"
#include "host/report.h"
#include "host/shared_memory.h"

namespace sala::host {

namespace {

constexpr int MATRIX_ROWS = 8;
constexpr uint32_t ROW_BYTES = 16;

struct MmaArgument {
    Element element;
    float* c;
    const uint32_t* a;
    uint32_t b[2];
};

Pair unpack_element(Element element, uint32_t pair) { return element == Element::BF16 ? unpack<bf16>(pair) : unpack<f16>(pair); }

void perform_mma(Block& block, Warp&, void* const* arguments) {
    float a[16][16];  // [k][m]
    float b[16][8];   // [k][n]
    float c[8][16];   // [n][m]
    for (int lane = 0; lane < WARP_SIZE; ++lane) {
        const auto& mine = *static_cast<const MmaArgument*>(arguments[lane]);
        const int g = lane / 4;
        const int t = lane % 4 * 2;
        for (int i = 0; i < 4; ++i) {
            const Pair pair = unpack_element(mine.element, mine.a[i]);
            a[t + i / 2 * 8][g + i % 2 * 8] = pair.lo;
            a[t + i / 2 * 8 + 1][g + i % 2 * 8] = pair.hi;
            c[t + i % 2][g + i / 2 * 8] = mine.c[i];
        }
        for (int i = 0; i < 2; ++i) {
            const Pair pair = unpack_element(mine.element, mine.b[i]);
            b[t + i * 8][g] = pair.lo;
            b[t + i * 8 + 1][g] = pair.hi;
        }
    }
    accumulate_product(c[0], a[0], b[0], 8, 16, 8, 1);
    for (int lane = 0; lane < WARP_SIZE; ++lane) {
        const auto& mine = *static_cast<const MmaArgument*>(arguments[lane]);
        for (int i = 0; i < 4; ++i) mine.c[i] = c[lane % 4 * 2 + i % 2][lane / 4 + i / 2 * 8];
    }
    block.counters.tensor_flops += 2 * 16 * 8 * 16;
}

struct MoveArgument {
    uint32_t* registers;
    uint32_t row;
    int count;
    bool transposed;
};

const MoveArgument& move_argument(void* const* arguments, int lane) { return *static_cast<const MoveArgument*>(arguments[lane]); }

// The eight rows of matrix `index`: checks the addresses and counts the passes over the banks.
void find_rows(Block& block, const Warp& warp, void* const* arguments, int index, unsigned char* (&rows)[MATRIX_ROWS]) {
    uint32_t addresses[MATRIX_ROWS];
    for (int r = 0; r < MATRIX_ROWS; ++r) {
        const int lane = MATRIX_ROWS * index + r;
        const int thread = warp.index * WARP_SIZE + lane;
        addresses[r] = move_argument(arguments, lane).row;
        if (addresses[r] % ROW_BYTES != 0) {
            fail_thread(thread, warp.site, "%s: row address 0x%x is not aligned to 16 bytes", warp.name, addresses[r]);
        }
        rows[r] = shared_pointer(block, addresses[r], ROW_BYTES, thread, warp.site);
    }
    block.counters.shared_wavefronts += matrix_wavefronts(addresses);
    block.counters.shared_wavefronts_ideal += 1;
}

uint16_t element_at(const unsigned char* row, int column) {
    uint16_t element;
    memcpy(&element, row + 2 * column, 2);
    return element;
}

void perform_load(Block& block, Warp& warp, void* const* arguments) {
    const int count = move_argument(arguments, 0).count;
    const bool transposed = move_argument(arguments, 0).transposed;
    for (int i = 0; i < count; ++i) {
        unsigned char* rows[MATRIX_ROWS];
        find_rows(block, warp, arguments, i, rows);
        for (int r = 0; r < MATRIX_ROWS && block.race != nullptr; ++r) {
            const int thread = warp.index * WARP_SIZE + MATRIX_ROWS * i + r;
            block.race->access(thread, rows[r], ROW_BYTES, Access::READ, AccessSite::at(warp.site));
        }
        for (int lane = 0; lane < WARP_SIZE; ++lane) {
            const int g = lane / 4;
            const int t = lane % 4 * 2;
            const uint32_t lo = transposed ? element_at(rows[t], g) : element_at(rows[g], t);
            const uint32_t hi = transposed ? element_at(rows[t + 1], g) : element_at(rows[g], t + 1);
            move_argument(arguments, lane).registers[i] = lo | hi << 16;
        }
    }
}

void store_element(Block& block, const Warp& warp, int lane, unsigned char* row, int column, uint32_t bits) {
    const uint16_t element = static_cast<uint16_t>(bits);
    memcpy(row + 2 * column, &element, 2);
    // Below sm_90 each lane stores its own elements, so they are its writes and not those of the lane that
    // gave the address.
    if (block.race != nullptr) {
        block.race->access(warp.index * WARP_SIZE + lane, row + 2 * column, 2, Access::WRITE, AccessSite::at(warp.site));
    }
}

void perform_store(Block& block, Warp& warp, void* const* arguments) {
    const int count = move_argument(arguments, 0).count;
    const bool transposed = move_argument(arguments, 0).transposed;
    for (int i = 0; i < count; ++i) {
        unsigned char* rows[MATRIX_ROWS];
        find_rows(block, warp, arguments, i, rows);
        for (int lane = 0; lane < WARP_SIZE; ++lane) {
            const int g = lane / 4;
            const int t = lane % 4 * 2;
            const uint32_t pair = move_argument(arguments, lane).registers[i];
            store_element(block, warp, lane, transposed ? rows[t] : rows[g], transposed ? g : t, pair);
            store_element(block, warp, lane, transposed ? rows[t + 1] : rows[g], transposed ? g : t + 1, pair >> 16);
        }
    }
}

struct TransposeArgument {
    uint32_t matrix;
    uint32_t result;
};

uint32_t matrix_element(void* const* arguments, int row, int column) {
    const uint32_t pair = static_cast<const TransposeArgument*>(arguments[row * 4 + column / 2])->matrix;
    return column % 2 == 0 ? pair & 0xffffu : pair >> 16;
}

void perform_transpose(Block&, Warp&, void* const* arguments) {
    for (int lane = 0; lane < WARP_SIZE; ++lane) {
        const int g = lane / 4;
        const int t = lane % 4 * 2;
        const uint32_t lo = matrix_element(arguments, t, g);
        const uint32_t hi = matrix_element(arguments, t + 1, g);
        static_cast<TransposeArgument*>(arguments[lane])->result = lo | hi << 16;
    }
}

}  // namespace

void mma(Element element, float* c, const uint32_t* a, uint32_t b0, uint32_t b1, Site site) {
    MmaArgument argument{element, c, a, {b0, b1}};
    meet(perform_mma, "mma", &argument, site);
}

void load_matrix(uint32_t* registers, uint32_t row, int count, bool transposed, Site site) {
    MoveArgument argument{registers, row, count, transposed};
    meet(perform_load, "load_matrix", &argument, site);
}

void store_matrix(const uint32_t* registers, uint32_t row, int count, bool transposed, Site site) {
    uint32_t copy[4];
    memcpy(copy, registers, static_cast<size_t>(count) * sizeof(uint32_t));
    MoveArgument argument{copy, row, count, transposed};
    meet(perform_store, "store_matrix", &argument, site);
}

uint32_t transpose_matrix(uint32_t matrix, Site site) {
    TransposeArgument argument{matrix, 0};
    meet(perform_transpose, "transpose_matrix", &argument, site);
    return argument.result;
}

}  // namespace sala::host
