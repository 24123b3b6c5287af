// Merges attention over two sets of keys that share none into attention over both:
//
//     m = max(LSE₁, LSE₂)     wᵢ = exp(LSEᵢ − m)     O = (w₁ O₁ + w₂ O₂) / (w₁ + w₂)     LSE = m + ln(w₁ + w₂)
//
// Called by engines that attend to parts of a context in several calls, or on several devices. Grid: (tokens). A row, one
// head of the token, takes a lane for each eight channels, so that a warp takes two rows of 128 channels or four of 64:
//
//     warp         | LSE₁, LSE₂ | O₁, O₂ |■| O, LSE          ■ warp barrier: either side may be where the result goes
//
// A side whose LSE is −∞ has seen no key. It is not read, and the result has the bits of the other.
// Limit: bytes, each read once and written once.
//
// Definition: docs/semantics.md#merge
#include "machine/barrier.cuh"
#include "machine/element.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/warp.cuh"
#include "params/merge.h"
#include "parts/attention/merge.cuh"
#include "parts/keys/rows.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int THREADS = SALA_MERGE_THREADS;

// A row of one side: the lane's eight channels of O, and LSE.
struct Side {
    Words4 out;
    float lse;

    DEVICE bool is_empty() const { return lse == -INFINITE; }
};

DEVICE Side load_side(const sala_rows& out, const sala_rows& lse, int64_t token, int head, int channel) {
    Side side{Words4{}, load_global(row_of<const float>(lse, token, head))};
    if (!side.is_empty()) side.out = load_global(reinterpret_cast<const Words4*>(row_of<const uint16_t>(out, token, head) + channel));
    return side;
}

template <class T>
DEVICE Side merge_sides(const Side& first, const Side& second) {
    if (first.is_empty() && second.lse < INFINITE) return second;
    if (second.is_empty() && first.lse < INFINITE) return first;
    const float whole = maximum(first.lse, second.lse);
    const float weights[2] = {merge_weight(LOG2_E, first.lse, whole), merge_weight(LOG2_E, second.lse, whole)};
    // NaN where a logarithm is NaN or +∞, and with it the row.
    const float sum = weights[0] + weights[1], inverse = 1.0f / sum;
    Side merged{Words4{}, fma(LN_2, log2(sum), whole)};
    UNROLL
    for (int i = 0; i < 4; ++i) {
        const Pair a = unpack<T>(first.out[i]), b = unpack<T>(second.out[i]);
        const float lo = fma(weights[1], b.lo, weights[0] * a.lo), hi = fma(weights[1], b.hi, weights[0] * a.hi);
        merged.out[i] = pack<T>(lo * inverse, hi * inverse);
    }
    return merged;
}

template <class T, int DIM>
DEVICE void merge(const sala_merge_params& p) {
    constexpr int LANES = DIM / 8;
    constexpr int ROWS = THREADS / LANES;
    const int64_t token = block_index_x();
    const int lane = thread_index() % LANES, channel = lane * 8;
    // Warps stay whole: their lanes wait for each other.
    NO_UNROLL
    for (int first = 0; first < p.heads; first += ROWS) {
        const int head = first + thread_index() / LANES;
        const bool exists = head < p.heads;
        Side merged{};
        if (exists)
            merged = merge_sides<T>(load_side(p.out1, p.lse1, token, head, channel), load_side(p.out2, p.lse2, token, head, channel));
        sync_warp();  // the logarithms of a row have been read by all of its lanes
        if (!exists) continue;
        store_global(reinterpret_cast<Words4*>(row_of<uint16_t>(p.out, token, head) + channel), merged.out);
        if (lane == 0) store_global(row_of<float>(p.lse, token, head), merged.lse);
    }
}

#define INSTANCE(name, T, DIM) \
    KERNEL(name, sala_merge_params, THREADS, 2) { merge<T, DIM>(p); }
#include "instances/merge.h"

}  // namespace SALA_VARIANT
}  // namespace sala
