// Unit kernels of the primitives: each puts one primitive, or two that must agree, to use and stores what it
// gives. tests/primitives.rs runs them on every device there is. Fragment layouts are spelled out here once
// more, apart from the headers.
#include "machine/async_copy.cuh"
#include "machine/atomic.cuh"
#include "machine/barrier.cuh"
#include "machine/element.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/mbarrier.cuh"
#include "machine/mbarrier_branchless.cuh"
#include "machine/memory.cuh"
#include "machine/operand_place.cuh"
#include "machine/tile.cuh"
#include "machine/warp.cuh"
#include "params/unit_test.h"

namespace sala {
inline namespace SALA_VARIANT {

using Params = sala_unit_test_params;

template <class V>
DEVICE const V* input(const Params& p) {
    return reinterpret_cast<const V*>(p.input);
}

template <class V>
DEVICE const V* second_input(const Params& p) {
    return reinterpret_cast<const V*>(p.second_input);
}

template <class V>
DEVICE V* output(const Params& p) {
    return reinterpret_cast<V*>(p.output);
}

// Output `index` of this thread, where outputs of all threads lie together.
DEVICE void store_result(const Params& p, int index, uint32_t value) {
    store_global(output<uint32_t>(p) + index * block_threads() + thread_index(), value);
}

// Every kernel is launched with SALA_UNIT_TEST_SHARED bytes; what its plan leaves of them is the plan's tail.
template <class Plan>
DEVICE Plan& test_plan(SITE_ALONE) {
    static_assert(sizeof(Plan) <= SALA_UNIT_TEST_SHARED, "the plan is larger than what the tests give");
    return dynamic_shared<Plan>(static_cast<uint32_t>(SALA_UNIT_TEST_SHARED - sizeof(Plan)) FORWARD_SITE);
}

DEVICE uint32_t pair_of(uint32_t lo, uint32_t hi) { return lo | hi << 16; }

// ---- threads, blocks, shared memory

struct IndexPlan {
    uint32_t reversed[64];
};

// Each thread stores its number in the grid, which goes through static and dynamic shared memory on the way.
DEVICE void indices(const Params& p) {
    STATIC_SHARED(IndexPlan, fixed);
    IndexPlan& dynamic = test_plan<IndexPlan>();
    const int block = (block_index_z() * grid_size_y() + block_index_y()) * grid_size_x() + block_index_x();
    const int last = block_threads() - 1;
    fixed.reversed[last - thread_index()] = static_cast<uint32_t>(block * block_threads() + thread_index());
    sync_block();
    dynamic.reversed[thread_index()] = fixed.reversed[thread_index()];
    sync_block();
    const uint32_t number = dynamic.reversed[last - (warp_index() * WARP_SIZE + lane_index())];
    store_global(output<uint32_t>(p) + number, number + static_cast<uint32_t>(1000 * grid_size_z()));
}

// ---- memory

struct VectorPlan {
    Words4 words4[128];
    Words2 words2[128];
    uint32_t words[128];
    bf16 halves[128];
};

// Input and output: 128 values each of 16, 8, 4 and 2 bytes.
template <class V>
DEVICE void move_through_shared(uint64_t from, uint64_t to, uint32_t shared, bool constant) {
    const V* source = reinterpret_cast<const V*>(from) + thread_index();
    const uint32_t slot = shared + static_cast<uint32_t>(thread_index() * sizeof(V));
    store_shared(slot, constant ? load_global_constant(source) : load_global(source));
    store_global(reinterpret_cast<V*>(to) + thread_index(), load_shared<V>(slot));
}

DEVICE void vectors(const Params& p) {
    const VectorPlan& plan = test_plan<VectorPlan>();
    move_through_shared<Words4>(p.input, p.output, shared_address(plan.words4), false);
    move_through_shared<Words2>(p.input + 128 * 16, p.output + 128 * 16, shared_address(plan.words2), true);
    move_through_shared<uint32_t>(p.input + 128 * 24, p.output + 128 * 24, shared_address(plan.words), false);
    move_through_shared<bf16>(p.input + 128 * 28, p.output + 128 * 28, shared_address(plan.halves), true);
}

struct CopyPlan {
    Words4 words4[128];
    Words2 words2[128];
    uint32_t words[128];
};

// Three groups of copies, the first and last with every third or fourth thread's source left out. Each thread
// waits for one group after the other and reads its own; at the end it reads a neighbour's.
DEVICE void async_copies(const Params& p) {
    const CopyPlan& plan = test_plan<CopyPlan>();
    const int thread = thread_index();
    async_copy<4>(shared_address(&plan.words[thread]), input<uint32_t>(p) + thread, thread % 3 != 0);
    async_copy_commit();
    async_copy<8>(shared_address(&plan.words2[thread]), input<Words2>(p) + thread);
    async_copy_commit();
    async_copy<16>(shared_address(&plan.words4[thread]), input<Words4>(p) + thread, thread % 4 != 0);
    async_copy_commit();
    async_copy_wait<2>();
    store_result(p, 0, load_shared<uint32_t>(shared_address(&plan.words[thread])));
    async_copy_wait<1>();
    store_result(p, 1, load_shared<Words2>(shared_address(&plan.words2[thread]))[1]);
    async_copy_wait<0>();
    store_result(p, 2, load_shared<Words4>(shared_address(&plan.words4[thread]))[3]);
    sync_block();
    store_result(p, 3, load_shared<Words4>(shared_address(&plan.words4[(thread + 33) % 128]))[2]);
}

// output[0..5]: global; output[5..8]: what shared memory held; then the sum of all values replaced in
// output[0].
DEVICE void atomics(const Params& p) {
    STATIC_SHARED(Words4, shared);
    uint32_t* unsigned_output = output<uint32_t>(p);
    int32_t* signed_output = output<int32_t>(p);
    const uint32_t thread = static_cast<uint32_t>(thread_index());
    const uint32_t top = 1u << 31;  // larger than zero without a sign only
    if (thread == 0) shared = Words4{};
    sync_block();

    const uint32_t replaced = atomic_add(unsigned_output, 1u);
    atomic_or(unsigned_output + 1, 1u << (thread % 20));
    atomic_max(unsigned_output + 2, top + 7 * thread);
    atomic_max(signed_output + 3, static_cast<int32_t>(thread) - 200);
    atomic_add(signed_output + 4, -2);
    memory_fence();

    const uint32_t address = shared_address(&shared);
    atomic_add_shared(address, thread);
    atomic_or_shared(address + 4, 2u << (thread % 9));
    atomic_max_shared(address + 8, top + 3 * thread);
    atomic_add(&shared[3], replaced);
    sync_block();
    if (thread < 4) store_global(unsigned_output + 5 + thread, shared[static_cast<int>(thread)]);
}

// ---- warps and barriers

DEVICE void exchanges(const Params& p) {
    const int lane = lane_index();
    const uint32_t value = load_global(input<uint32_t>(p) + lane);
    const float number = static_cast<float>(value % 1000) - 500.0f;
    store_result(p, 0, shuffle(value, lane * 7));
    store_result(p, 1, shuffle_xor(value, 5));
    store_result(p, 2, shuffle_up(value, 3));
    store_result(p, 3, shuffle_down(value, 6));
    store_result(p, 4, float_bits(shuffle(number, 31 - lane)));
    store_result(p, 5, static_cast<uint32_t>(shuffle_xor(static_cast<int>(value), 16)));
    store_result(p, 6, ballot(value % 3 == 0));
    store_result(p, 7, (any(lane == 40) ? 1u : 0u) | (any(lane == 4) ? 2u : 0u) | (all(lane < 32) ? 4u : 0u) | (all(lane != 9) ? 8u : 0u));
    store_result(p, 8, float_bits(reduce_max<4>(number)));
    store_result(p, 9, reduce_add<32>(value));
    store_result(p, 10, static_cast<uint32_t>(reduce_add<8, 4>(static_cast<int>(value % 1000) - 500)));
    store_result(p, 11, float_bits(reduce_add<16>(number * 0.001f)));
    float numbers[2] = {number, -number};
    reduce_max_each<32>(numbers);
    store_result(p, 12, float_bits(numbers[0]));
    store_result(p, 13, float_bits(numbers[1]));
    uint32_t values[2] = {value, value / 2};
    reduce_add_each<2, 16>(values);
    store_result(p, 14, values[0]);
    store_result(p, 15, values[1]);
    float parts[8], share[2];
    UNROLL
    for (int i = 0; i < 8; ++i) parts[i] = number * 0.001f + static_cast<float>(i);
    reduce_add_scatter<4>(share, parts);
    reduce_add_each<4>(parts);
    store_result(p, 16, float_bits(share[0]));
    store_result(p, 17, float_bits(share[1]));
    store_result(p, 18, static_cast<uint32_t>(share_index<8>()));
    UNROLL
    for (int i = 0; i < 4; ++i) store_result(p, 19 + i, float_bits(parts[2 * i]));
}

struct HandOverPlan {
    uint32_t slots[WARP_SIZE];
};

// Warp 0 hands four rows of the input to the other warps, which weigh and add them.
DEVICE void hand_over(const Params& p) {
    constexpr int FULL = 1;
    constexpr int EMPTY = 2;
    const int threads = block_threads();
    const HandOverPlan& plan = test_plan<HandOverPlan>();
    uint32_t sum = 0;
    for (int round = 0; round < 4; ++round) {
        if (warp_index() == 0) {
            if (round > 0) sync_barrier(EMPTY, threads);
            store_shared(shared_address(&plan.slots[lane_index()]), load_global(input<uint32_t>(p) + lane_index() + 32 * round));
            arrive_barrier(FULL, threads);
        } else {
            sync_barrier(FULL, threads);
            sum = 3 * sum + load_shared<uint32_t>(shared_address(&plan.slots[(lane_index() + warp_index()) % WARP_SIZE]));
            if (round < 3) arrive_barrier(EMPTY, threads);
        }
    }
    store_result(p, 0, sum);
}

struct RingPlan {
    uint64_t full[2][4], empty[2];
    uint32_t slots[2][WARP_SIZE];
};

// Rows of the input pass through two slots: row r goes to the warps w with bit w of `READERS[r]` set, which weigh and add
// it. The last of them to read a row has the copy of the one after the next started into its place. Each warp has a barrier
// of its own for each slot, so that it sees every phase of it; those that do not read a row have their arrival made for them.
template <bool BRANCHLESS>
DEVICE void ring_of_mbarriers(const Params& p) {
    constexpr int ROWS = 8;
    constexpr uint32_t READERS = 0x8ef21c5bu;  // four bits for each row
    RingPlan& plan = test_plan<RingPlan>();
    const uint32_t full = shared_address(plan.full), empty = shared_address(plan.empty);
    const int warp = warp_index(), lane = lane_index();
    const auto readers = [&](int row) { return READERS >> (4 * row) & 15; };
    const auto copy_row = [&](int row) {
        const int slot = row % 2;
        async_copy<4>(shared_address(&plan.slots[slot][lane]), input<uint32_t>(p) + 32 * row + lane);
        if (lane == 0 && readers(row) != 15) arrive_mbarrier_for(empty + 8 * slot, 4 - count_bits(readers(row)));
        for (int reader = 0; reader < 4; ++reader) {
            if (readers(row) >> reader & 1) arrive_mbarrier_with_copies(full + 8 * (4 * slot + reader));
        }
    };
    if (thread_index() < 8) init_mbarrier(full + 8 * thread_index(), WARP_SIZE);
    if (thread_index() < 2) init_mbarrier(empty + 8 * thread_index(), 4);
    sync_block();
    if (warp < 2) copy_row(warp);
    uint32_t sum = 0, parity[2] = {0, 0};
    for (int row = 0; row < ROWS; ++row) {
        if ((readers(row) >> warp & 1) == 0) continue;
        const int slot = row % 2;
        const uint32_t own = full + 8 * (4 * slot + warp);
        if (BRANCHLESS && row >= 2) {
            wait_mbarriers(own, parity[slot], empty + 8 * slot, row / 2 % 2 ^ 1);  // the row before was read, else it were not full
        } else {
            wait_mbarrier(own, parity[slot]);
        }
        parity[slot] ^= 1;
        sum = 3 * sum + load_shared<uint32_t>(shared_address(&plan.slots[slot][(lane + warp) % WARP_SIZE]));
        sync_warp();
        const uint32_t read = empty + 8 * slot;
        const int lacked = shuffle(BRANCHLESS ? arrive_mbarrier_if(lane == 0, read) : lane == 0 ? arrive_mbarrier(read) : 0, 0);
        if (lacked != 1 || row + 2 >= ROWS) continue;
        wait_mbarrier(empty + 8 * slot, row / 2 % 2);
        copy_row(row + 2);
    }
    store_result(p, 0, sum);
    sync_block();
}
DEVICE void mbarrier_ring(const Params& p) { ring_of_mbarriers<false>(p); }
DEVICE void mbarrier_ring_branchless(const Params& p) { ring_of_mbarriers<true>(p); }

// ---- arithmetic

DEVICE void functions(const Params& p) {
    const float x = load_global(input<float>(p) + thread_index());
    const float y = load_global(second_input<float>(p) + thread_index());
    const uint32_t bits = float_bits(x);
    store_result(p, 0, float_bits(exp2(x)));
    store_result(p, 1, float_bits(log2(y)));
    store_result(p, 2, float_bits(expm1(x)));
    store_result(p, 3, float_bits(fast_reciprocal(y)));
    store_result(p, 4, float_bits(maximum(x, y)));
    store_result(p, 5, float_bits(minimum(x, y)));
    store_result(p, 6, float_bits(fma(x, y, x)));
    store_result(p, 7, static_cast<uint32_t>(count_bits(bits)));
    store_result(p, 8, static_cast<uint32_t>(find_first_set(bits)));
    store_result(p, 9, static_cast<uint32_t>(count_leading_zeros(bits)));
    store_result(p, 10, static_cast<uint32_t>(clamp(thread_index(), 5, 20) + ceil_div(thread_index(), 7)));
    store_result(p, 11, float_bits(reciprocal_sqrt(y)));
    store_result(p, 12, float_bits(reciprocal_sqrt(y * SMALLEST_NORMAL / 16.0f)));
}

// Packs and unpacks pairs of the input.
template <class T>
DEVICE void conversions(const Params& p) {
    const float x = load_global(input<float>(p) + thread_index());
    const float y = load_global(second_input<float>(p) + thread_index());
    const uint32_t pair = pack<T>(x, y);
    store_result(p, 0, pair);
    store_result(p, 1, float_bits(unpack<T>(pair).lo));
    store_result(p, 2, float_bits(unpack<T>(pair).hi));
    store_result(p, 3, float_bits(to_float(from_float<T>(x))));
}
DEVICE void conversions_bf16(const Params& p) { conversions<bf16>(p); }
DEVICE void conversions_f16(const Params& p) { conversions<f16>(p); }

// ---- matrices of one warp

// C = A B + (row - column), from row-major A (16 x 16) and B (16 x 8).
template <class T>
DEVICE void product_16_8_16(const Params& p) {
    const uint16_t* a_matrix = input<uint16_t>(p);
    const uint16_t* b_matrix = second_input<uint16_t>(p);
    const int g = lane_index() / 4;
    const int t = lane_index() % 4 * 2;
    uint32_t a[4], b[2];
    UNROLL
    for (int i = 0; i < 4; ++i) {
        const uint16_t* pair = a_matrix + (g + i % 2 * 8) * 16 + t + i / 2 * 8;
        a[i] = pair_of(load_global(pair), load_global(pair + 1));
    }
    UNROLL
    for (int i = 0; i < 2; ++i) {
        const uint16_t* column = b_matrix + (t + i * 8) * 8 + g;
        b[i] = pair_of(load_global(column), load_global(column + 8));
    }
    float c[4];
    UNROLL
    for (int i = 0; i < 4; ++i) c[i] = static_cast<float>(g + i / 2 * 8 - (t + i % 2));
    mma<T>(c, a, b[0], b[1]);
    UNROLL
    for (int i = 0; i < 4; ++i) store_global(output<float>(p) + (g + i / 2 * 8) * 8 + t + i % 2, c[i]);
}
DEVICE void mma_bf16(const Params& p) { product_16_8_16<bf16>(p); }
DEVICE void mma_f16(const Params& p) { product_16_8_16<f16>(p); }

struct MatrixPlan {
    Words4 rows[2][32];
};

// Loads one, two and four of the four matrices in the input (32 rows of 8), plainly and transposed.
DEVICE void load_matrices(const Params& p) {
    MatrixPlan& plan = test_plan<MatrixPlan>();
    plan.rows[0][lane_index()] = load_global(input<Words4>(p) + lane_index());
    sync_warp();
    const uint32_t row = shared_address(&plan.rows[0][lane_index()]);
    uint32_t one[1], two[2], four[4];
    load_matrix_x1(one, row);
    load_matrix_x2(two, row);
    load_matrix_x4(four, row);
    store_result(p, 0, one[0]);
    for (int i = 0; i < 2; ++i) store_result(p, 1 + i, two[i]);
    for (int i = 0; i < 4; ++i) store_result(p, 3 + i, four[i]);
    load_matrix_x1_trans(one, row);
    load_matrix_x2_trans(two, row);
    load_matrix_x4_trans(four, row);
    store_result(p, 7, one[0]);
    for (int i = 0; i < 2; ++i) store_result(p, 8 + i, two[i]);
    for (int i = 0; i < 4; ++i) store_result(p, 10 + i, four[i]);
}

// Stores four matrices whose element (row, column) of matrix i is 64 i + 8 row + column, plainly and
// transposed; then transposes one.
DEVICE void store_matrices(const Params& p) {
    MatrixPlan& plan = test_plan<MatrixPlan>();
    const int lane = lane_index();
    uint32_t r[4];
    UNROLL
    for (int i = 0; i < 4; ++i) {
        const uint32_t first = static_cast<uint32_t>(64 * i + 8 * (lane / 4) + lane % 4 * 2);
        r[i] = pair_of(first, first + 1);
    }
    store_matrix_x4(shared_address(&plan.rows[0][lane]), r);
    store_matrix_x4_trans(shared_address(&plan.rows[1][lane]), r);
    sync_warp();
    store_global(output<Words4>(p) + lane, plan.rows[0][lane]);
    store_global(output<Words4>(p) + 32 + lane, plan.rows[1][lane]);
    store_global(output<uint32_t>(p) + 256 + lane, transpose_matrix(r[0]));
}

// ---- tiles

// Takes 64 rows through a tile by 16-byte stores and loads; then each warp loads 16 rows of it as fragments,
// and as transposed fragments.
template <int COLS>
DEVICE void tile(const Params& p) {
    struct Plan {
        Words4 vectors[64 * COLS / 8];
    };
    using Tile = SharedTile<COLS>;
    const Tile shared{shared_address(&test_plan<Plan>())};
    for (int i = thread_index(); i < 64 * Tile::VECTORS; i += block_threads()) {
        store_shared(shared.address(i / Tile::VECTORS, i % Tile::VECTORS), load_global(input<Words4>(p) + i));
    }
    sync_block();
    for (int i = thread_index(); i < 64 * Tile::VECTORS; i += block_threads()) {
        store_global(output<Words4>(p) + i, load_shared<Words4>(shared.address(i / Tile::VECTORS, i % Tile::VECTORS)));
    }
    uint32_t* fragments = output<uint32_t>(p) + 64 * COLS / 2 + thread_index();
    const FragmentA<COLS> plain = load_fragment_a<COLS>(shared, 16 * warp_index(), 0);
    UNROLL
    for (int i = 0; i < COLS / 4; ++i) store_global(fragments + i * block_threads(), plain.registers[i / 4][i % 4]);
    const FragmentA<16> transposed = load_fragment_a_trans<16>(shared, 16 * warp_index(), COLS - 16);
    UNROLL
    for (int i = 0; i < 4; ++i) store_global(fragments + (COLS / 4 + i) * block_threads(), transposed.registers[0][i]);
}
DEVICE void tile_32(const Params& p) { tile<32>(p); }
DEVICE void tile_64(const Params& p) { tile<64>(p); }
DEVICE void tile_128(const Params& p) { tile<128>(p); }

// The products: A is a tile of 64 x 64, B one of 64 x 128. Each of four warps computes 16 rows of C (64 x N),
// which is stored twice: by the fused product, and by the instructions that it stands for.
constexpr int N = 40;
constexpr int K = 48;

struct ProductPlan {
    Words4 a[64 * 64 / 8];
    Words4 b[64 * 128 / 8];
};

template <int COLS>
DEVICE void load_tile(SharedTile<COLS> tile, const Words4* source) {
    constexpr int VECTORS = SharedTile<COLS>::VECTORS;
    for (int i = thread_index(); i < 64 * VECTORS; i += block_threads()) {
        store_shared(tile.address(i / VECTORS, i % VECTORS), load_global(source + i));
    }
}

struct ProductTiles {
    SharedTile<64> a;
    SharedTile<128> b;
};

DEVICE ProductTiles load_product_tiles(const Params& p) {
    const ProductPlan& plan = test_plan<ProductPlan>();
    const ProductTiles tiles{{shared_address(plan.a)}, {shared_address(plan.b)}};
    load_tile(tiles.a, input<Words4>(p));
    load_tile(tiles.b, second_input<Words4>(p));
    sync_block();
    return tiles;
}

DEVICE void store_product(const Params& p, int which, const Accumulator<N>& c, int warp = warp_index()) {
    UNROLL
    for (int j = 0; j < N / 8; ++j) {
        UNROLL
        for (int e = 0; e < 4; ++e) {
            const int row = 16 * warp + accumulator_row(e);
            store_global(output<float>(p) + (which * 64 + row) * N + accumulator_col(j, e), c.values[j][e]);
        }
    }
}

// B by ldmatrix, one 8-column product at a time.
template <class T, bool ROWS_ARE_K>
DEVICE void multiply_step(Accumulator<N>& c, const uint32_t (&a)[4], SharedTile<128> b, int row0, int col0) {
    const int lane = lane_index() % 16;
    UNROLL
    for (int j = 0; j < N / 8; ++j) {
        uint32_t r[2];
        if (ROWS_ARE_K) {
            load_matrix_x2_trans(r, b.address(row0 + lane, col0 / 8 + j));
        } else {
            load_matrix_x2(r, b.address(row0 + 8 * j + lane % 8, col0 / 8 + lane / 8));
        }
        mma<T>(c.values[j], a, r[0], r[1]);
    }
}

// A(m, k) = a(16 warp + m, 16 + k), B(k, n) = b(8 + n, 32 + k).
template <class T, bool A_SHARED>
DEVICE void product_nk(const Params& p) {
    const ProductTiles tiles = load_product_tiles(p);
    const int row0 = 16 * warp_index();
    const FragmentA<K> a = load_fragment_a<K>(tiles.a, row0, 16);
    Accumulator<N> fused, steps;
    fused.fill(1.0f);
    steps.fill(1.0f);
    if (A_SHARED) {
        multiply_shared_nk<T, K>(fused, tiles.a, row0, 16, tiles.b, 8, 32);
    } else {
        multiply_nk<T>(fused, a, tiles.b, 8, 32);
    }
    UNROLL
    for (int i = 0; i < K / 16; ++i) multiply_step<T, false>(steps, a.registers[i], tiles.b, 8, 32 + 16 * i);
    store_product(p, 0, fused);
    store_product(p, 1, steps);
}
DEVICE void product_nk_bf16(const Params& p) { product_nk<bf16, false>(p); }
DEVICE void product_nk_f16(const Params& p) { product_nk<f16, false>(p); }
DEVICE void product_shared_nk(const Params& p) { product_nk<bf16, true>(p); }

// The same product with A in shared memory and B in registers.
template <class T>
DEVICE void product_shared_a(const Params& p) {
    const ProductTiles tiles = load_product_tiles(p);
    const int row0 = 16 * warp_index();
    const FragmentA<K> a = load_fragment_a<K>(tiles.a, row0, 16);
    const int lane = lane_index() % 16;
    FragmentB<K, N> b;
    Accumulator<N> fused, steps;
    fused.fill(1.0f);
    steps.fill(1.0f);
    UNROLL
    for (int i = 0; i < K / 16; ++i) {
        UNROLL
        for (int j = 0; j < N / 8; ++j) {
            load_matrix_x2(b.registers[i][j], tiles.b.address(8 + 8 * j + lane % 8, 4 + 2 * i + lane / 8));
            mma<T>(steps.values[j], a.registers[i], b.registers[i][j][0], b.registers[i][j][1]);
        }
    }
    multiply_shared_a<T>(fused, tiles.a, row0, 16, b);
    store_product(p, 0, fused);
    store_product(p, 1, steps);
}
DEVICE void product_shared_a_bf16(const Params& p) { product_shared_a<bf16>(p); }
DEVICE void product_shared_a_f16(const Params& p) { product_shared_a<f16>(p); }

// A as above, B(k, n) = b(16 + k, 40 + n).
template <class T, bool A_SHARED>
DEVICE void product_kn(const Params& p) {
    const ProductTiles tiles = load_product_tiles(p);
    const int row0 = 16 * warp_index();
    const FragmentA<K> a = load_fragment_a<K>(tiles.a, row0, 16);
    Accumulator<N> fused, steps;
    fused.fill(1.0f);
    steps.fill(1.0f);
    if (A_SHARED) {
        multiply_shared_kn<T, K>(fused, tiles.a, row0, 16, tiles.b, 16, 40);
    } else {
        multiply_kn<T>(fused, a, tiles.b, 16, 40);
    }
    UNROLL
    for (int i = 0; i < K / 16; ++i) multiply_step<T, true>(steps, a.registers[i], tiles.b, 16 + 16 * i, 40);
    store_product(p, 0, fused);
    store_product(p, 1, steps);
}
DEVICE void product_kn_bf16(const Params& p) { product_kn<bf16, false>(p); }
DEVICE void product_kn_f16(const Params& p) { product_kn<f16, false>(p); }
DEVICE void product_shared_kn(const Params& p) { product_kn<bf16, true>(p); }

// A as above, B(k, n) = b(8 + n, k) or b(8 + k, n): 32 columns of it at a place, the others from the tile.
template <class T, Operand OPERAND>
DEVICE void product_at_place(const Params& p) {
    constexpr bool ROWS_ARE_K = OPERAND == Operand::KN;
    const ProductTiles tiles = load_product_tiles(p);
    const FragmentA<K> a = load_fragment_a<K>(tiles.a, 16 * warp_index(), 16);
    Accumulator<32> at_place;
    Accumulator<8> others;
    Accumulator<N> steps;
    at_place.fill(1.0f);
    others.fill(1.0f);
    steps.fill(1.0f);
    multiply<T>(at_place, a, OperandPlace<128, OPERAND>(tiles.b).moved(SharedTile<128>::bytes(8)));
    if constexpr (ROWS_ARE_K) {
        multiply_kn<T>(others, a, tiles.b, 8, 32);
    } else {
        multiply_nk<T>(others, a, tiles.b, 8 + 32, 0);
    }
    UNROLL
    for (int i = 0; i < K / 16; ++i) {
        multiply_step<T, ROWS_ARE_K>(steps, a.registers[i], tiles.b, ROWS_ARE_K ? 8 + 16 * i : 8, ROWS_ARE_K ? 0 : 16 * i);
    }
    Accumulator<N> fused;
    UNROLL
    for (int j = 0; j < N / 8; ++j) {
        UNROLL
        for (int e = 0; e < 4; ++e) fused.values[j][e] = j < 4 ? at_place.values[j % 4][e] : others.values[0][e];
    }
    store_product(p, 0, fused);
    store_product(p, 1, steps);
}
DEVICE void product_place_nk(const Params& p) { product_at_place<bf16, Operand::NK>(p); }
DEVICE void product_place_kn(const Params& p) { product_at_place<f16, Operand::KN>(p); }

// The same of two operands at once, which a place gives: the rows of the warp, and those of its neighbour.
template <class T, Operand OPERAND>
DEVICE void product_made(const Params& p) {
    const ProductTiles tiles = load_product_tiles(p);
    const OperandPlace<64, Operand::KN> rows(tiles.a);
    const int warps[2] = {warp_index(), warp_index() ^ 1};
    Accumulator<32> made[2];
    UNROLL
    for (int operand = 0; operand < 2; ++operand) made[operand].fill(1.0f);
    const OperandPlace<128, OPERAND> place = OperandPlace<128, OPERAND>(tiles.b).moved(SharedTile<128>::bytes(8));
    multiply_made<T, K>(made, place, [&](FragmentA<16>(&a)[2], int i) {
        UNROLL
        for (int operand = 0; operand < 2; ++operand) a[operand] = load_operand_a(rows, 16 * warps[operand], 16 + 16 * i);
    });
    UNROLL
    for (int operand = 0; operand < 2; ++operand) {
        const FragmentA<K> a = load_fragment_a<K>(tiles.a, 16 * warps[operand], 16);
        Accumulator<8> others;
        others.fill(1.0f);
        if constexpr (OPERAND == Operand::KN) {
            multiply_kn<T>(others, a, tiles.b, 8, 32);
        } else {
            multiply_nk<T>(others, a, tiles.b, 8 + 32, 0);
        }
        Accumulator<N> whole;
        UNROLL
        for (int j = 0; j < N / 8; ++j) {
            UNROLL
            for (int e = 0; e < 4; ++e) whole.values[j][e] = j < 4 ? made[operand].values[j % 4][e] : others.values[0][e];
        }
        store_product(p, operand, whole, warps[operand]);
    }
}
DEVICE void product_made_nk(const Params& p) { product_made<bf16, Operand::NK>(p); }
DEVICE void product_made_kn(const Params& p) { product_made<f16, Operand::KN>(p); }

// A(m, k) = a(16 + k, 16 warp + m), B(k, n) = b(16 + k, 40 + n).
DEVICE void product_shared_trans_kn(const Params& p) {
    const ProductTiles tiles = load_product_tiles(p);
    const int col0 = 16 * warp_index();
    const FragmentA<K> a = load_fragment_a_trans<K>(tiles.a, 16, col0);
    Accumulator<N> fused, steps;
    fused.fill(1.0f);
    steps.fill(1.0f);
    multiply_shared_trans_kn<bf16, K>(fused, tiles.a, 16, col0, tiles.b, 16, 40);
    UNROLL
    for (int i = 0; i < K / 16; ++i) multiply_step<bf16, true>(steps, a.registers[i], tiles.b, 16 + 16 * i, 40);
    store_product(p, 0, fused);
    store_product(p, 1, steps);
}

// An accumulator (16 x 64, from the input) becomes an operand A, whole and in part, and is multiplied by the
// identity in the second input.
template <class T>
DEVICE void accumulator_as_operand(const Params& p) {
    const SharedTile<64> identity{shared_address(&test_plan<ProductPlan>().a)};
    load_tile(identity, second_input<Words4>(p));
    sync_block();
    Accumulator<64> c, whole, part;
    UNROLL
    for (int j = 0; j < 8; ++j) {
        UNROLL
        for (int e = 0; e < 4; ++e) c.values[j][e] = load_global(input<float>(p) + accumulator_row(e) * 64 + accumulator_col(j, e));
    }
    whole.fill(0.0f);
    part.fill(0.0f);
    multiply_kn<T>(whole, to_fragment_a<T>(c), identity, 0, 0);
    multiply_kn<T>(part, to_fragment_a<T, 32>(c, 4), identity, 0, 0);
    whole.scale_rows(1.0f, -1.0f);
    UNROLL
    for (int j = 0; j < 8; ++j) {
        UNROLL
        for (int e = 0; e < 4; ++e) {
            float* to = output<float>(p) + accumulator_row(e) * 64 + accumulator_col(j, e);
            store_global(to, whole.values[j][e]);
            store_global(to + 16 * 64, part.values[j][e]);
        }
    }
}
DEVICE void operand_bf16(const Params& p) { accumulator_as_operand<bf16>(p); }
DEVICE void operand_f16(const Params& p) { accumulator_as_operand<f16>(p); }

#define INSTANCE(name, test) \
    KERNEL(name, sala_unit_test_params, 128, 1) { test(p); }
#include "instances/primitives.h"

}  // namespace SALA_VARIANT
}  // namespace sala
