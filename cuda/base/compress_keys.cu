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
//
// Definition: docs/semantics.md#compress_keys
#include "machine/barrier.cuh"
#include "machine/element.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/warp.cuh"
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

    // The spans that the rows need, relative to the first.
    DEVICE int spans_begin() const {
        const int k2 = k2_begin < k2_end ? k2_begin * K2_STEP : k1_begin;
        return (k1_begin < k1_end ? minimum(k1_begin, k2) : k2) - first_span;
    }
    DEVICE int spans_end() const {
        const int k1 = k1_begin < k1_end ? k1_end - 1 + K1_SPANS : 0;
        return maximum(k1, k2_begin < k2_end ? (k2_end - 1) * K2_STEP + K2_SPANS : 0) - first_span;
    }
};

DEVICE Work find_work(const sala_compress_keys_params& p) {
    const int index = block_index_z();
    const KeyRange range = find_keys(p.keys, index);
    const int old = p.seqlens_old != 0 ? load_global(entry_of<const int>(p.seqlens_old, index)) : 0;
    const bool fits = range.cache == NO_CACHE || (0 <= old && old <= range.count && range.count - old <= p.max_new);
    const Refusal refusal = range.refusal == REFUSED_NOTHING && !fits ? REFUSED_LENGTHS : range.refusal;
    count_refused_sequence(p.status, refusal);
    if (refusal != REFUSED_NOTHING || range.cache == NO_CACHE) return {};
    const int k2_old = full_windows(old, K2_STEP * p.stride);
    Work work{range, k2_old * K2_STEP + block_index_x() * TILE, 0, 0, 0, 0};
    work.k1_begin = maximum(full_windows(old, p.stride), work.first_span);
    work.k1_end = minimum(full_windows(range.count, p.stride), work.first_span + TILE);
    work.k2_begin = maximum(k2_old, work.first_span / K2_STEP);
    work.k2_end = minimum(full_windows(range.count, K2_STEP * p.stride), (work.first_span + TILE) / K2_STEP);
    return work;
}

// The same eight channels of LOADS neighbouring rows. Rows of bad pages are zero. Called by whole warps, of which
// each LANES lanes have rows of their own; nothing is read if not `valid`.
template <int LANES>
DEVICE void load_rows(Words4 (&row)[LOADS], const KeyRows& keys, int first, int channel, bool valid) {
    static_assert(LOADS <= LANES, "each lane looks up one page");
    const auto load = [&](int i, const uint16_t* from) { row[i] = load_global_constant(reinterpret_cast<const Words4*>(from + channel)); };
    const RowPages<LANES> pages = look_up_pages<LANES>(keys, first, valid ? first + LOADS : first);
    if (keys.one_page(LOADS)) {
        const int page = pages.page(keys, first);
        const bool is_read = valid && page != NO_PAGE;
        const uint16_t* from = keys.row_in(is_read ? page : 0, first);
        UNROLL
        for (int i = 0; i < LOADS; ++i) {
            row[i] = Words4{};
            if (is_read) load(i, from + i * keys.stride);
        }
        return;
    }
    UNROLL
    for (int i = 0; i < LOADS; ++i) {
        const int page = pages.page(keys, first + i);
        row[i] = Words4{};
        if (valid && page != NO_PAGE) load(i, keys.row_in(page, first + i));
    }
}

// The sum of `stride` rows from `first` on, for the eight channels from `channel` on, in the order of the tokens.
template <class T, int LANES>
DEVICE void sum_span(float (&sum)[VECTOR], const KeyRows& keys, int first, int channel, int stride, bool valid) {
    UNROLL
    for (int c = 0; c < VECTOR; ++c) sum[c] = 0.0f;
    NO_UNROLL
    for (int end = first + stride; first < end; first += LOADS) {
        Words4 row[LOADS] = {};
        load_rows<LANES>(row, keys, first, channel, valid);
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
DEVICE void sum_spans(CompressPlan<DIM>& plan, const sala_compress_keys_params& p, const Work& work, const KeyRows& keys) {
    constexpr int VECTORS = DIM / VECTOR;
    const int end = work.spans_end();
    // Warps stay whole: their lanes look up pages together.
    for (int i = work.spans_begin() * VECTORS + thread_index(); i - lane_index() < end * VECTORS; i += THREADS) {
        const int span = i / VECTORS;
        const int vector = i % VECTORS;
        float sum[VECTOR];
        sum_span<T, VECTORS>(sum, keys, (work.first_span + span) * p.stride, vector * VECTOR, p.stride, span < end);
        if (span >= end) continue;
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

// Where row `row` is written, whose window are `tokens` keys from `first` on, or null: its page is bad, or that of
// a key. Called by whole warps, of which each LANES lanes have a row, if it is `valid`. Bad pages are counted.
template <int LANES>
DEVICE uint16_t* find_target(const sala_compress_keys_params& p, const KeyRows& rows, int row, const KeyRows& keys, int first, int tokens,
                             bool valid) {
    if (!rows.paged() && !keys.paged()) return rows.row_in(0, row);
    const bool keys_good = have_pages<LANES>(keys, first, valid ? first + tokens : first);
    const int page = look_up_pages<LANES>(rows, row, valid ? row + 1 : row).page(rows, row);
    const bool good = keys_good && page != NO_PAGE;
    if (!good && valid && lane_index() % LANES == 0) count_refused(p.status, REFUSED_PAGES, 1);
    return good ? rows.row_in(page, row) : nullptr;
}

// Writes rows [begin, end), whose windows are SPANS spans, one every STEP.
template <class T, int SPANS, int STEP, int DIM>
DEVICE void store_means(const CompressPlan<DIM>& plan, const sala_compress_keys_params& p, const KeyRows& rows, const KeyRows& keys,
                        int begin, int end, int first_span) {
    constexpr int VECTORS = DIM / VECTOR;
    const float share = 1.0f / static_cast<float>(SPANS * p.stride);
    for (int i = thread_index(); i - lane_index() < (end - begin) * VECTORS; i += THREADS) {
        const int row = begin + i / VECTORS;
        const int vector = i % VECTORS;
        const bool valid = row < end;
        uint16_t* target = find_target<VECTORS>(p, rows, row, keys, row * STEP * p.stride, SPANS * p.stride, valid);
        if (!valid || target == nullptr) continue;
        Words4 mean;
        UNROLL
        for (int half = 0; half < 2; ++half) {
            const Float4 sum = sum_window<SPANS>(plan, row * STEP - first_span, half, vector);
            mean[2 * half] = pack<T>(sum[0] * share, sum[1] * share);
            mean[2 * half + 1] = pack<T>(sum[2] * share, sum[3] * share);
        }
        store_global(reinterpret_cast<Words4*>(target + vector * VECTOR), mean);
    }
}

template <class T, int DIM>
DEVICE void compress_keys(const sala_compress_keys_params& p) {
    const Work work = find_work(p);
    if (work.k1_begin >= work.k1_end && work.k2_begin >= work.k2_end) return;
    auto& plan = dynamic_shared<CompressPlan<DIM>>();
    const KeyRows keys = find_key_rows(p.k, work.range, block_index_z(), block_index_y(), 1);
    sum_spans<T>(plan, p, work, keys);
    sync_block();  // the sums are in shared memory

    const KeyRows k1 = find_key_rows(p.k1, work.range, block_index_z(), block_index_y(), p.stride);
    const KeyRows k2 = find_key_rows(p.k2, work.range, block_index_z(), block_index_y(), K2_STEP * p.stride);
    store_means<T, K1_SPANS, 1>(plan, p, k1, keys, work.k1_begin, work.k1_end, work.first_span);
    store_means<T, K2_SPANS, K2_STEP>(plan, p, k2, keys, work.k2_begin, work.k2_end, work.first_span);
}

#define INSTANCE(name, T, DIM) \
    KERNEL(name, sala_compress_keys_params, THREADS, 2) { compress_keys<T, DIM>(p); }
#include "instances/compress_keys.h"

}  // namespace SALA_VARIANT
}  // namespace sala
