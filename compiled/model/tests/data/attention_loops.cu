// Five attention kernels whose loops calibrate the model.
//
// gau-nernst published how fast five steps of an attention kernel ran on an RTX 5090, as shares of its peak
// (github.com/gau-nernst/learn-cuda, 07_attention: bf16, dim 128, 4096 queries, 8192 keys). These kernels have
// the same tiles, copies, barriers and matrix instructions, written anew on this crate's primitives. Only
// their compiled loops are used, attention_v*.sass beside this file; no kernel is ever launched, so what they
// store is as little as keeps the compiler from dropping the work.
//
//     version  queries  keys per step  copies                                     loads of K and V
//     v1       128      64             K, then V; each waited for at once         two matrices, rows not permuted
//     v2        64      64             the same                                   two matrices
//     v3        64      32             K and V of the next step                   two matrices
//     v4        64      32             the same                                   four matrices
//     v5        64      64             K of the next step, V of this one          four matrices
//
// tests/data/README.md says how the listings are made.
#include "machine/async_copy.cuh"
#include "machine/barrier.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/matrix.cuh"
#include "machine/tile.cuh"
#include "machine/warp.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int DIM = 128;
constexpr int WARPS = 4;
constexpr int THREADS = WARPS * WARP_SIZE;

enum Copies { AT_ONCE, NEXT_STEP, NEXT_KEYS };

struct AttentionParams {
    const uint16_t *q, *k, *v;
    float* out;
    int keys;
};

template <int QUERIES, int STEP, Copies COPIES, int MATRICES>
struct AttentionLoop {
    static constexpr int FRAGMENTS = QUERIES / WARPS / 16;  // of sixteen queries, per warp
    static constexpr bool PERMUTED = QUERIES == 64;
    static constexpr int KEY_STAGES = COPIES == AT_ONCE ? 1 : 2;
    static constexpr int VALUE_STAGES = COPIES == NEXT_STEP ? 2 : 1;

    const AttentionParams& p;
    uint32_t key_base, value_base;
    int steps;
    uint32_t query[FRAGMENTS][DIM / 16][4];
    float out[FRAGMENTS][DIM / 8][4];
    float largest[FRAGMENTS][2], sum[FRAGMENTS][2];

    static DEVICE uint32_t address(uint32_t base, int row, int vector) {
        return PERMUTED ? SharedTile<DIM>{base}.address(row, vector) : base + row * DIM * 2 + vector * 16;
    }

    DEVICE uint32_t key_tile(int step) const { return key_base + step % KEY_STAGES * STEP * DIM * 2; }
    DEVICE uint32_t value_tile(int step) const { return value_base + step % VALUE_STAGES * STEP * DIM * 2; }

    DEVICE void copy(uint32_t base, const uint16_t* rows, int step) const {
        if (step < steps) {
            UNROLL
            for (int i = 0; i < STEP * DIM / 8 / THREADS; ++i) {
                const int at = i * THREADS + thread_index();
                const int row = at / (DIM / 8);
                const int vector = at % (DIM / 8);
                async_copy<16>(address(base, row, vector), rows + (static_cast<int64_t>(step) * STEP + row) * DIM + vector * 8);
            }
        }
        async_copy_commit();
    }

    DEVICE void copy_keys(int step) const { copy(key_tile(step), p.k, step); }
    DEVICE void copy_values(int step) const { copy(value_tile(step), p.v, step); }

    // All of a step's K as operands B, then S = Q Kᵀ.
    DEVICE void find_scores(float (&scores)[FRAGMENTS][STEP / 8][4], uint32_t tile) const {
        uint32_t key[STEP / 8][DIM / 16][2];
        const int lane = lane_index();
        UNROLL
        for (int n = 0; n < STEP / 8; ++n) {
            UNROLL
            for (int k = 0; k < DIM / 16; k += MATRICES / 2) {
                const uint32_t row = address(tile, n * 8 + lane % 8, 2 * k + lane / 8 % MATRICES);
                if constexpr (MATRICES == 4) {
                    uint32_t four[4];
                    load_matrix_x4(four, row);
                    for (int i = 0; i < 4; ++i) key[n][k + i / 2][i % 2] = four[i];
                } else {
                    load_matrix_x2(key[n][k], row);
                }
            }
        }
        UNROLL
        for (int m = 0; m < FRAGMENTS; ++m) {
            UNROLL
            for (int n = 0; n < STEP / 8; ++n) {
                UNROLL
                for (int k = 0; k < DIM / 16; ++k) mma<bf16>(scores[m][n], query[m][k], key[n][k][0], key[n][k][1]);
            }
        }
    }

    // The softmax of one fragment's step; O is brought to the new maximum, and P takes the place of Q Kᵀ.
    DEVICE void make_weights(uint32_t (&weights)[STEP / 16][4], float (&scores)[STEP / 8][4], int m, float scale) {
        float highest[2] = {-INFINITE, -INFINITE};
        UNROLL
        for (int n = 0; n < STEP / 8; ++n) {
            UNROLL
            for (int e = 0; e < 4; ++e) {
                scores[n][e] *= scale;
                highest[e / 2] = maximum(highest[e / 2], scores[n][e]);
            }
        }
        float rescale[2], total[2] = {0.0f, 0.0f};
        UNROLL
        for (int side = 0; side < 2; ++side) {
            highest[side] = maximum(highest[side], shuffle_xor(highest[side], 1));
            highest[side] = maximum(highest[side], shuffle_xor(highest[side], 2));
            highest[side] = maximum(highest[side], largest[m][side]);
            rescale[side] = __expf(largest[m][side] - highest[side]);
            largest[m][side] = highest[side];
        }
        UNROLL
        for (int n = 0; n < DIM / 8; ++n) {
            UNROLL
            for (int e = 0; e < 4; ++e) out[m][n][e] *= rescale[e / 2];
        }
        UNROLL
        for (int n = 0; n < STEP / 8; ++n) {
            UNROLL
            for (int side = 0; side < 2; ++side) {
                const float lo = __expf(scores[n][2 * side] - highest[side]);
                const float hi = __expf(scores[n][2 * side + 1] - highest[side]);
                total[side] += lo + hi;
                weights[n / 2][n % 2 * 2 + side] = pack<bf16>(lo, hi);
            }
        }
        UNROLL
        for (int side = 0; side < 2; ++side) {
            total[side] += shuffle_xor(total[side], 1);
            total[side] += shuffle_xor(total[side], 2);
            sum[m][side] = sum[m][side] * rescale[side] + total[side];
        }
    }

    // All of a step's V as operands B, then O += P V.
    DEVICE void add_values(const uint32_t (&weights)[FRAGMENTS][STEP / 16][4], uint32_t tile) {
        uint32_t value[STEP / 16][DIM / 8][2];
        const int lane = lane_index();
        UNROLL
        for (int k = 0; k < STEP / 16; ++k) {
            UNROLL
            for (int n = 0; n < DIM / 8; n += MATRICES / 2) {
                const uint32_t row = address(tile, k * 16 + lane % 16, n + lane / 16 % (MATRICES / 2));
                if constexpr (MATRICES == 4) {
                    uint32_t four[4];
                    load_matrix_x4_trans(four, row);
                    for (int i = 0; i < 4; ++i) value[k][n + i / 2][i % 2] = four[i];
                } else {
                    load_matrix_x2_trans(value[k][n], row);
                }
            }
        }
        UNROLL
        for (int m = 0; m < FRAGMENTS; ++m) {
            UNROLL
            for (int n = 0; n < DIM / 8; ++n) {
                UNROLL
                for (int k = 0; k < STEP / 16; ++k) mma<bf16>(out[m][n], weights[m][k], value[k][n][0], value[k][n][1]);
            }
        }
    }

    DEVICE void take_step(int step, float scale) {
        if constexpr (COPIES == AT_ONCE) {
            copy_keys(step);
            async_copy_wait<0>();
            sync_block();
        } else if constexpr (COPIES == NEXT_STEP) {
            copy_keys(step + 1);
            async_copy_wait<2>();
            sync_block();
        } else {
            sync_block();
            copy_values(step);
            async_copy_wait<1>();
            sync_block();
        }
        float scores[FRAGMENTS][STEP / 8][4] = {};
        find_scores(scores, key_tile(step));
        if constexpr (COPIES == NEXT_STEP) copy_values(step + 1);
        if constexpr (COPIES == NEXT_KEYS) copy_keys(step + 1);
        uint32_t weights[FRAGMENTS][STEP / 16][4];
        UNROLL
        for (int m = 0; m < FRAGMENTS; ++m) make_weights(weights[m], scores[m], m, scale);
        if constexpr (COPIES == AT_ONCE) {
            copy_values(step);
            async_copy_wait<0>();
        } else {
            async_copy_wait<COPIES == NEXT_STEP ? 2 : 1>();
        }
        sync_block();
        add_values(weights, value_tile(step));
    }

    DEVICE void run() {
        const int lane = lane_index();
        UNROLL
        for (int m = 0; m < FRAGMENTS; ++m) {
            const int row = (warp_index() * FRAGMENTS + m) * 16 + lane / 4;
            UNROLL
            for (int side = 0; side < 2; ++side) {
                largest[m][side] = -1e30f;
                sum[m][side] = 0.0f;
            }
            UNROLL
            for (int k = 0; k < DIM / 16; ++k) {
                UNROLL
                for (int i = 0; i < 4; ++i) {
                    const uint16_t* from = p.q + (row + i % 2 * 8) * DIM + k * 16 + i / 2 * 8 + lane % 4 * 2;
                    query[m][k][i] = *reinterpret_cast<const uint32_t*>(from);
                }
            }
            UNROLL
            for (int n = 0; n < DIM / 8; ++n) {
                UNROLL
                for (int e = 0; e < 4; ++e) out[m][n][e] = 0.0f;
            }
        }
        if constexpr (COPIES != AT_ONCE) copy_keys(0);
        if constexpr (COPIES == NEXT_STEP) copy_values(0);
        const float scale = rsqrtf(static_cast<float>(DIM));
        NO_UNROLL
        for (int step = 0; step < steps; ++step) take_step(step, scale);
        UNROLL
        for (int m = 0; m < FRAGMENTS; ++m) {
            UNROLL
            for (int n = 0; n < DIM / 8; ++n) {
                UNROLL
                for (int e = 0; e < 4; ++e) {
                    const int at = ((m * DIM / 8 + n) * 4 + e) * THREADS + thread_index();
                    p.out[at] = out[m][n][e] / sum[m][e / 2];
                }
            }
        }
    }
};

#define ATTENTION(name, QUERIES, STEP, COPIES, MATRICES)                  \
    KERNEL(name, AttentionParams, THREADS, 1) {                           \
        using Loop = AttentionLoop<QUERIES, STEP, COPIES, MATRICES>;      \
        const uint32_t keys = shared_address(&dynamic_shared<uint4>());   \
        const uint32_t values = keys + Loop::KEY_STAGES * STEP * DIM * 2; \
        Loop loop{p, keys, values, p.keys / STEP};                        \
        loop.run();                                                       \
    }

ATTENTION(attention_v1, 128, 64, AT_ONCE, 2)
ATTENTION(attention_v2, 64, 64, AT_ONCE, 2)
ATTENTION(attention_v3, 64, 32, NEXT_STEP, 2)
ATTENTION(attention_v4, 64, 32, NEXT_STEP, 4)
ATTENTION(attention_v5, 64, 64, NEXT_KEYS, 4)

}  // namespace SALA_VARIANT
}  // namespace sala
