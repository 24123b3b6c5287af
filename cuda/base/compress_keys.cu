// Key compression: means of a sequence's keys over sliding windows, the rows that block selection scores
// instead of the keys.
//
//     C[c] = mean(K[c·step … c·step + size − 1])          K1: size 2s, step s          K2: size 8s, step 4s          s = block / 4
//
// Called once per prefill, chunk or decode step for every sparse layer, in dense mode too, so that crossing
// into sparse attention needs no catch-up. Grid: (tiles, kv heads, batch). A span is s tokens, and a tile is
// 64 spans. Their sums, and those of the next four spans, go to shared memory in f32, and every row is a sum
// of sums:
//
//     keys     |  s  |  s  |  s  |  s  |  s  |  s  |  s  |  s  |  …
//     sums       h0    h1    h2    h3    h4    h5    h6    h7
//     K1       [ h0 + h1 ]     [ h2 + h3 ]  …                                  row c: h[c] + h[c + 1], over 2s
//                    [ h1 + h2 ]
//     K2       [ ((h0 + h1) + (h2 + h3)) + ((h4 + h5) + (h6 + h7)) ]           row c: eight sums from h[4c] on, over 8s
//
//     block    | keys load ──▶ sums |■ K1 rows | K2 rows                      ■ block barrier
//
// Spans lie at absolute positions and are summed in token order, so a row has the same bits however the
// tokens arrived. Nothing is kept of an unfinished window: a call reads the keys of the rows that it
// completes, at most eight spans of them from before.
//
// Shared memory: 68 sums × dim × 4 bytes = 34 KiB at dim 128.
// Limit: bytes. Keys are read once (and the four spans past a tile again, 6 %, from L2); the rows are 5/64 as
// many. 1M tokens of two heads of 128 are 512 MiB in and 42 MiB out: calculated, not measured, 135 µs at 4.3
// TB/s. Each thread has eight loads of 16 bytes in flight.
#include "machine/barrier.cuh"
#include "machine/element.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "params/compress_keys.h"
#include "parts/keys/key_rows.cuh"
#include "parts/keys/rows.cuh"
#include "parts/keys/sequence.cuh"
#include "parts/keys/windows.cuh"
#include "parts/status.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int THREADS = SALA_COMPRESS_THREADS;
constexpr int TILE = SALA_COMPRESS_TILE_SPANS;
constexpr int SUMS = TILE + SALA_COMPRESS_HALO_SPANS;
constexpr int K1_SPANS = 2;  // spans of a window
constexpr int K2_SPANS = 8;
constexpr int K2_STEP = SALA_BLOCK_ROWS;  // spans from one row of K2 to the next
constexpr int VECTOR = 8;                 // channels that a thread handles at a time: 16 bytes of keys
constexpr int LOADS = 8;                  // loads in flight per thread; divides every stride
static_assert(SALA_COMPRESS_HALO_SPANS == K2_SPANS - K2_STEP, "the tile's last row of K2 begins K2_STEP spans before its end");
static_assert(K1_SPANS == 2 && K2_SPANS == 2 * K2_STEP, "windows.cuh counts windows of twice their step");

template <int DIM>
struct CompressPlan {
    // The two halves of every vector lie apart, so that neighbouring threads store neighbouring 16 bytes.
    float sums[SUMS][2][DIM / 2];
};

// The rows of one sequence and head that this call completes, in the tile of this block.
struct Work {
    KeyRange range;
    int first_span;  // the tile's first
    int k1_begin, k1_end;
    int k2_begin, k2_end;
};

DEVICE Work find_work(const sala_compress_keys_params& p) {
    const int index = block_index_z();
    const KeyRange range = find_keys(p.keys, index);
    const int old = p.seqlens_old != 0 ? load_global(entry_of<const int>(p.seqlens_old, index)) : 0;
    const bool valid = range.valid && 0 <= old && old <= range.count && range.count - old <= p.max_new;
    if (!valid) {
        count_refused_once(p.status, REFUSED_LENGTHS, 1);
        return {};
    }
    const int k2_old = full_windows(old, K2_STEP * p.stride);
    Work work{range, k2_old * K2_STEP + block_index_x() * TILE, 0, 0, 0, 0};
    work.k1_begin = maximum(full_windows(old, p.stride), work.first_span);
    work.k1_end = minimum(full_windows(range.count, p.stride), work.first_span + TILE);
    work.k2_begin = maximum(k2_old, work.first_span / K2_STEP);
    work.k2_end = minimum(full_windows(range.count, K2_STEP * p.stride), (work.first_span + TILE) / K2_STEP);
    return work;
}

// The sum of the first `stride` rows, for the eight channels from `channel` on, in the order of the tokens.
template <class T>
DEVICE void sum_span(float (&sum)[VECTOR], const KeyRows& keys, int channel, int stride) {
    UNROLL
    for (int c = 0; c < VECTOR; ++c) sum[c] = 0.0f;
    NO_UNROLL
    for (int first = 0; first < stride; first += LOADS) {
        Words4 row[LOADS];
        UNROLL
        for (int i = 0; i < LOADS; ++i) row[i] = load_global_constant(reinterpret_cast<const Words4*>(keys.row(first + i) + channel));
        UNROLL
        for (int i = 0; i < LOADS; ++i) {
            UNROLL
            for (int c = 0; c < VECTOR; c += 2) {
                const Pair pair = unpack<T>(row[i][c / 2]);
                sum[c] += pair.lo;
                sum[c + 1] += pair.hi;
            }
        }
    }
}

template <class T, int DIM>
DEVICE void sum_spans(CompressPlan<DIM>& plan, const sala_compress_keys_params& p, const Work& work) {
    constexpr int VECTORS = DIM / VECTOR;
    const KeyRows keys = find_key_rows(p.k, work.range, block_index_z(), block_index_y(), 1);
    const int spans = minimum(work.range.count / p.stride - work.first_span, SUMS);
    for (int i = thread_index(); i < spans * VECTORS; i += THREADS) {
        const int span = i / VECTORS;
        const int vector = i % VECTORS;
        const int64_t token = static_cast<int64_t>(work.first_span + span) * p.stride;
        float sum[VECTOR];
        sum_span<T>(sum, keys.from(token), vector * VECTOR, p.stride);
        UNROLL
        for (int half = 0; half < 2; ++half) {
            const Float4 part{sum[4 * half], sum[4 * half + 1], sum[4 * half + 2], sum[4 * half + 3]};
            store_shared(shared_address(&plan.sums[span][half][4 * vector]), part);
        }
    }
}

// The sum of SPANS neighbouring spans, pair by pair.
template <int SPANS, int DIM>
DEVICE Float4 sum_window(const CompressPlan<DIM>& plan, int span, int half, int vector) {
    if constexpr (SPANS == 1) {
        return load_shared<Float4>(shared_address(&plan.sums[span][half][4 * vector]));
    } else {
        Float4 sum = sum_window<SPANS / 2>(plan, span, half, vector);
        const Float4 rest = sum_window<SPANS / 2>(plan, span + SPANS / 2, half, vector);
        UNROLL
        for (int c = 0; c < 4; ++c) sum[c] += rest[c];
        return sum;
    }
}

// Writes rows [begin, end), whose windows are SPANS spans, one every STEP; `stride` is the tokens of a span.
template <class T, int SPANS, int STEP, int DIM>
DEVICE void store_means(const CompressPlan<DIM>& plan, const KeyRows& rows, int begin, int end, int first_span, int stride) {
    constexpr int VECTORS = DIM / VECTOR;
    const float share = 1.0f / static_cast<float>(SPANS * stride);
    for (int i = thread_index(); i < (end - begin) * VECTORS; i += THREADS) {
        const int row = begin + i / VECTORS;
        const int vector = i % VECTORS;
        Words4 mean;
        UNROLL
        for (int half = 0; half < 2; ++half) {
            const Float4 sum = sum_window<SPANS>(plan, row * STEP - first_span, half, vector);
            mean[2 * half] = pack<T>(sum[0] * share, sum[1] * share);
            mean[2 * half + 1] = pack<T>(sum[2] * share, sum[3] * share);
        }
        store_global(reinterpret_cast<Words4*>(rows.row(row) + vector * VECTOR), mean);
    }
}

template <class T, int DIM>
DEVICE void compress_keys(const sala_compress_keys_params& p) {
    const Work work = find_work(p);
    if (work.k1_begin >= work.k1_end && work.k2_begin >= work.k2_end) return;
    auto& plan = dynamic_shared<CompressPlan<DIM>>();
    sum_spans<T>(plan, p, work);
    sync_block();  // the sums are in shared memory

    const KeyRows k1 = find_key_rows(p.k1, work.range, block_index_z(), block_index_y(), p.stride);
    const KeyRows k2 = find_key_rows(p.k2, work.range, block_index_z(), block_index_y(), K2_STEP * p.stride);
    store_means<T, K1_SPANS, 1>(plan, k1, work.k1_begin, work.k1_end, work.first_span, p.stride);
    store_means<T, K2_SPANS, K2_STEP>(plan, k2, work.k2_begin, work.k2_end, work.first_span, p.stride);
}

#define INSTANCE(name, T, DIM) \
    KERNEL(name, sala_compress_keys_params, THREADS, 2) { compress_keys<T, DIM>(p); }
#include "instances/compress_keys.h"

}  // namespace SALA_VARIANT
}  // namespace sala
