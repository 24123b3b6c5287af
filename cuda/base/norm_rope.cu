// Per-head RMS norm, then rotary embedding, as they stand before linear attention:
//
//     y = round(round(x / √(mean x² + eps)) · weight)          out[i] = y[i] cos − y[i + dim/2] sin,   out[i + dim/2] = y[i + dim/2] cos + y[i] sin
//
// Grid: (fours of heads of tokens / 16 or 32). dim / 8 lanes take four heads of a token one after the other, eight
// channels each, and load weight, cosines and sines once for them; the sum of squares stays among them, and the
// channel that turns with another is half of the lanes away:
//
//     lanes        0 … 7: channels 0 … 63        8 … 15: channels 64 … 127          (dim 128; lane l turns with lane l ^ 8)
//
//     warp         | x, weight, cos, sin ── load ──▶| Σ x² | norm | exchange | turn, store |          warps run on their own
//
// Sums and roots are in two floats, so that the first two roundings fall where those of exact numbers do.
// Limit: bytes. Each is read once and written once; the table is shared by heads and lies in L2.
//
// Definition: docs/semantics.md#norm_rope
#include "machine/element.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/warp.cuh"
#include "params/norms.h"
#include "parts/keys/rows.cuh"
#include "parts/norm_row.cuh"
#include "parts/status.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int THREADS = SALA_NORM_THREADS;
constexpr int HEADS = SALA_NORM_ROPE_HEADS;

// The cosines and sines of eight neighbouring pairs of channels.
struct Turns {
    float cos[8], sin[8];
};

// Rows of the table start where they like: those at multiples of 16 bytes are read faster.
DEVICE void load_floats(float (&to)[8], const float* from) {
    if (reinterpret_cast<uint64_t>(from) % sizeof(Float4) == 0) {
        UNROLL
        for (int i = 0; i < 8; i += 4) {
            const Float4 four = load_global_constant(reinterpret_cast<const Float4*>(from + i));
            UNROLL
            for (int c = 0; c < 4; ++c) to[i + c] = four[c];
        }
        return;
    }
    UNROLL
    for (int i = 0; i < 8; ++i) to[i] = load_global_constant(from + i);
}

DEVICE Turns load_turns(const sala_rows& cos_sin, int position, int pair, int pairs) {
    const float* row = row_of<const float>(cos_sin, position, 0);
    Turns turns;
    load_floats(turns.cos, row + pair);
    load_floats(turns.sin, row + pairs + pair);
    return turns;
}

// Turns the lane's channels of a head with those of the lane that is half of LANES away.
template <class T, int LANES>
DEVICE void turn(Words4& x, const Turns& turns) {
    const bool first_half = lane_index() % LANES < LANES / 2;
    UNROLL
    for (int i = 0; i < 4; ++i) {
        const Pair own = unpack<T>(x[i]);
        const Pair other = unpack<T>(shuffle_xor(x[i], LANES / 2));
        const Pair sin{first_half ? -turns.sin[2 * i] : turns.sin[2 * i], first_half ? -turns.sin[2 * i + 1] : turns.sin[2 * i + 1]};
        x[i] = pack<T>(fma(own.lo, turns.cos[2 * i], other.lo * sin.lo), fma(own.hi, turns.cos[2 * i + 1], other.hi * sin.hi));
    }
}

template <class T, int DIM>
DEVICE void norm_rope(const sala_norm_rope_params& p) {
    constexpr int LANES = DIM / 8;
    const int items = ceil_div(p.heads, HEADS);
    const int64_t item = static_cast<int64_t>(block_index_x()) * (THREADS / LANES) + thread_index() / LANES;
    const int lane = thread_index() % LANES;
    // Warps stay whole: their lanes exchange channels.
    const int64_t token = item / items;
    const int first_head = static_cast<int>(item % items) * HEADS;
    const int heads = token < p.tokens ? minimum(HEADS, p.heads - first_head) : 0;

    Words4 x[HEADS] = {};
    UNROLL
    for (int head = 0; head < HEADS; ++head) {
        if (head >= heads) continue;
        x[head] = load_global(reinterpret_cast<const Words4*>(row_of<const uint16_t>(p.x, token, first_head + head) + lane * 8));
    }
    Words4 weight{};
    if (p.weight != 0) weight = load_global_constant(reinterpret_cast<const Words4*>(entry_of<const uint16_t>(p.weight, lane * 8)));
    const bool turns = p.cos_sin.address != 0;
    const int position = turns && heads > 0 ? load_global_constant(entry_of<const int>(p.positions, token)) : 0;
    const bool known = !turns || (0 <= position && position < p.count);
    if (heads > 0 && !known && first_head == 0 && lane == 0) count_refused(p.status, REFUSED_LENGTHS, 1);
    Turns table{};
    if (turns && known && heads > 0) table = load_turns(p.cos_sin, position, lane % (LANES / 2) * 8, DIM / 2);

    UNROLL
    for (int head = 0; head < HEADS; ++head) {
        const Twofold inverse = inverse_root_mean(add_lanes<LANES>(add_squares<T>({0.0f, 0.0f}, x[head])), DIM, p.eps);
        UNROLL
        for (int i = 0; i < 4; ++i) x[head][i] = normalise<T>(x[head][i], inverse, p.weight != 0, weight[i]);
        if (turns) turn<T, LANES>(x[head], table);
        const Words4 out = known ? x[head] : Words4{};
        if (head < heads) store_global(reinterpret_cast<Words4*>(row_of<uint16_t>(p.out, token, first_head + head) + lane * 8), out);
    }
}

#define INSTANCE(name, T, DIM) \
    KERNEL(name, sala_norm_rope_params, THREADS, 3) { norm_rope<T, DIM>(p); }
#include "instances/norm_rope.h"

}  // namespace SALA_VARIANT
}  // namespace sala
