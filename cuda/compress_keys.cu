// Key compression: means of a sequence's keys over sliding windows, the rows that block selection scores instead of the keys.
//
//     C[c] = mean(K[c·stride … c·stride + size − 1])          K1: size 2s, stride s          K2: size 8s, stride 4s          s = block / 4
//
// Called once a prefill, chunk or decode step for every sparse layer, in dense mode too, so that crossing into sparse attention needs no
// catch-up. Grid: (tiles, kv heads, batch). A tile is 64 groups of s tokens. Their sums, and those of the next four groups, go to shared memory
// in f32, and every row is a sum of sums:
//
//     keys     |  s  |  s  |  s  |  s  |  s  |  s  |  s  |  s  |  …
//     sums       h0    h1    h2    h3    h4    h5    h6    h7
//     K1       [ h0 + h1 ]     [ h2 + h3 ]  …                                  row c: h[c] + h[c + 1], over 2s
//                    [ h1 + h2 ]
//     K2       [ ((h0 + h1) + (h2 + h3)) + ((h4 + h5) + (h6 + h7)) ]           row c: eight sums from h[4c] on, over 8s
//
// Groups lie at absolute positions and are summed in token order, so a row has the same bits however the tokens arrived. Nothing is kept of an
// unfinished window: a call reads the keys of the rows that it completes, at most eight groups of them from before.
//
// Shared memory: 68 sums × dim × 4 bytes = 34 KiB at dim 128.
// Limit: bytes. Keys are read once (and the four groups past a tile again, 6 %, from L2); the rows are 5/64 as many. 1M tokens of two heads of
// 128: 512 MiB in, 42 MiB out, 135 µs at 4.3 TB/s. Each thread has eight loads of 16 bytes in flight.
#include "device/barrier.cuh"
#include "device/element.cuh"
#include "device/machine.cuh"
#include "device/math.cuh"
#include "device/memory.cuh"
#include "device/sequence.cuh"
#include "device/status.cuh"

#include "../include/kernel_params.h"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int THREADS = 256;
constexpr int TILE = 64;      // groups of a tile
constexpr int K1_GROUPS = 2;  // of a window
constexpr int K2_GROUPS = 8;
constexpr int K2_STEP = 4;            // groups from one row of K2 to the next
constexpr int SUMS = TILE + K2_STEP;  // the tile's last row of K2 begins four groups before its end
constexpr int PIECE = 8;              // channels that a thread handles at a time: 16 bytes of keys
constexpr int LOADS = 8;              // in flight a thread; divides every stride

using Float4 = Vector<float, 4>;
using Words4 = Vector<uint32_t, 4>;

template <int DIM>
struct CompressPlan {
    // The halves of the pieces apart, so that neighbouring threads store neighbouring 16 bytes.
    float sums[SUMS][2][DIM / 2];
};

// The rows of one sequence and head that this call completes, in the tile of this block.
struct Work {
    int64_t first_key;  // token in packed keys
    int keys;
    int first_group;  // of the tile
    int k1_begin, k1_end;
    int k2_begin, k2_end;
};

// Full windows of `groups` groups, one every `step` groups, among `keys` tokens.
DEVICE int window_count(int keys, int stride, int groups, int step) {
    return keys < groups * stride ? 0 : (keys / stride - groups) / step + 1;
}

DEVICE Work find_work(const sala_compress_keys_params& p) {
    const int index = block_index_z();
    const KeyRange range = find_keys(p.cu_seqlens_k, p.seqlens_k, index, p.capacity_k, p.max_seqlen_k);
    const int old = p.seqlens_old != 0 ? load_global(reinterpret_cast<const int*>(p.seqlens_old) + index) : 0;
    const bool valid = range.valid && 0 <= old && old <= range.keys && range.keys - old <= p.max_new;
    if (!valid) {
        if (block_index_x() == 0 && block_index_y() == 0 && thread_index() == 0) count_refused(p.status, REFUSED_LENGTHS, 1);
        return {};
    }
    const int k2_old = window_count(old, p.stride, K2_GROUPS, K2_STEP);
    Work work{range.first_key, range.keys, k2_old * K2_STEP + block_index_x() * TILE, 0, 0, 0, 0};
    work.k1_begin = maximum(window_count(old, p.stride, K1_GROUPS, 1), work.first_group);
    work.k1_end = minimum(window_count(range.keys, p.stride, K1_GROUPS, 1), work.first_group + TILE);
    work.k2_begin = maximum(k2_old, work.first_group / K2_STEP);
    work.k2_end = minimum(window_count(range.keys, p.stride, K2_GROUPS, K2_STEP), (work.first_group + TILE) / K2_STEP);
    return work;
}

// The sum of `stride` rows of keys, for the eight channels at `keys`, in the order of the tokens.
template <class T>
DEVICE void sum_group(float (&sum)[PIECE], const uint16_t* keys, int64_t token_stride, int stride) {
    UNROLL
    for (int c = 0; c < PIECE; ++c) sum[c] = 0.0f;
    NO_UNROLL
    for (int first = 0; first < stride; first += LOADS) {
        Words4 row[LOADS];
        UNROLL
        for (int i = 0; i < LOADS; ++i) row[i] = load_global_constant(reinterpret_cast<const Words4*>(keys + (first + i) * token_stride));
        UNROLL
        for (int i = 0; i < LOADS; ++i) {
            UNROLL
            for (int c = 0; c < PIECE; c += 2) {
                const Pair pair = unpack<T>(row[i][c / 2]);
                sum[c] += pair.lo;
                sum[c + 1] += pair.hi;
            }
        }
    }
}

template <class T, int DIM>
DEVICE void sum_groups(CompressPlan<DIM>& plan, const sala_compress_keys_params& p, const Work& work) {
    constexpr int PIECES = DIM / PIECE;
    const uint16_t* keys = reinterpret_cast<const uint16_t*>(p.k) + block_index_z() * p.k_batch_stride + work.first_key * p.k_token_stride +
                           block_index_y() * p.k_head_stride;
    const int groups = minimum(work.keys / p.stride - work.first_group, SUMS);
    for (int i = thread_index(); i < groups * PIECES; i += THREADS) {
        const int group = i / PIECES;
        const int piece = i % PIECES;
        const int64_t token = static_cast<int64_t>(work.first_group + group) * p.stride;
        float sum[PIECE];
        sum_group<T>(sum, keys + token * p.k_token_stride + piece * PIECE, p.k_token_stride, p.stride);
        UNROLL
        for (int half = 0; half < 2; ++half) {
            const Float4 part{sum[4 * half], sum[4 * half + 1], sum[4 * half + 2], sum[4 * half + 3]};
            store_shared(shared_address(&plan.sums[group][half][4 * piece]), part);
        }
    }
}

// The sum of GROUPS neighbouring groups, pair by pair.
template <int GROUPS, int DIM>
DEVICE Float4 sum_window(const CompressPlan<DIM>& plan, int group, int half, int piece) {
    if constexpr (GROUPS == 1) {
        return load_shared<Float4>(shared_address(&plan.sums[group][half][4 * piece]));
    } else {
        Float4 sum = sum_window<GROUPS / 2>(plan, group, half, piece);
        const Float4 rest = sum_window<GROUPS / 2>(plan, group + GROUPS / 2, half, piece);
        UNROLL
        for (int c = 0; c < 4; ++c) sum[c] += rest[c];
        return sum;
    }
}

// Writes rows [begin, end), whose windows are GROUPS groups, one every STEP; `rows` is row 0 of the sequence and head.
template <class T, int GROUPS, int STEP, int DIM>
DEVICE void store_rows(const CompressPlan<DIM>& plan, uint16_t* rows, int64_t row_stride, int begin, int end, int first_group, int stride) {
    constexpr int PIECES = DIM / PIECE;
    const float share = 1.0f / static_cast<float>(GROUPS * stride);
    for (int i = thread_index(); i < (end - begin) * PIECES; i += THREADS) {
        const int row = begin + i / PIECES;
        const int piece = i % PIECES;
        Words4 mean;
        UNROLL
        for (int half = 0; half < 2; ++half) {
            const Float4 sum = sum_window<GROUPS>(plan, row * STEP - first_group, half, piece);
            mean[2 * half] = pack<T>(sum[0] * share, sum[1] * share);
            mean[2 * half + 1] = pack<T>(sum[2] * share, sum[3] * share);
        }
        store_global(reinterpret_cast<Words4*>(rows + row * row_stride + piece * PIECE), mean);
    }
}

template <class T, int DIM>
DEVICE void compress_keys(const sala_compress_keys_params& p) {
    const Work work = find_work(p);
    if (work.k1_begin >= work.k1_end && work.k2_begin >= work.k2_end) return;
    auto& plan = dynamic_shared<CompressPlan<DIM>>();
    sum_groups<T>(plan, p, work);
    sync_block();  // the sums are in shared memory

    uint16_t* k1 = reinterpret_cast<uint16_t*>(p.k1) + block_index_z() * p.k1_batch_stride + work.first_key / p.stride * p.k1_row_stride +
                   block_index_y() * p.k1_head_stride;
    uint16_t* k2 = reinterpret_cast<uint16_t*>(p.k2) + block_index_z() * p.k2_batch_stride +
                   work.first_key / (K2_STEP * p.stride) * p.k2_row_stride + block_index_y() * p.k2_head_stride;
    store_rows<T, K1_GROUPS, 1>(plan, k1, p.k1_row_stride, work.k1_begin, work.k1_end, work.first_group, p.stride);
    store_rows<T, K2_GROUPS, K2_STEP>(plan, k2, p.k2_row_stride, work.k2_begin, work.k2_end, work.first_group, p.stride);
}

#define INSTANCE(name, T, DIM) \
    KERNEL(name, sala_compress_keys_params, THREADS, 2) { compress_keys<T, DIM>(p); }
#include "instances/compress_keys.h"

}  // namespace SALA_VARIANT
}  // namespace sala
