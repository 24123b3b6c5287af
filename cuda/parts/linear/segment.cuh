// Which tokens of a sequence a block of the linear scan has, and where it starts from.
//
// A sequence of T tokens is split into clamp(T / 4096, 1, 8) segments of equal length, which are scanned at the same
// time. A segment needs the state that those before it leave. There are two ways to it, which the head's decay decides
// between, never the batch:
//
//     warm-up   A constant decay g forgets: the state of W tokens ago weighs e^(gW) now. A segment starts from zero
//               W tokens early, e^(gW) ≤ 2^-24, and reads keys and values alone until its own tokens begin. What it
//               misses is e^(gW) S of that place: less, in each element, than the rounding of an f32 state that large.
//               A warm-up that would reach beyond the sequence's first token starts from its initial state: exact.
//     exact     Heads that forget too slowly for that, and decays per token: a launch before leaves what each segment
//               adds to a state of zero, U, and its decay, and a segment starts from S ← decay·S + U over those before.
#pragma once

#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "params/linear_attention.h"
#include "parts/keys/rows.cuh"
#include "parts/keys/sequence.cuh"
#include "parts/linear/log_decay.cuh"
#include "parts/linear/state_slots.cuh"
#include "parts/status.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int ALIGNMENT = SALA_LINEAR_ALIGNMENT;

struct Segment {
    int64_t first_token;  // of the sequence
    int sequence;
    int segments, index;  // of how many it is which
    int begin, end;       // the tokens of the sequence that are its own
    int origin;           // where it starts: `begin`, or a warm-up before
    int short_step;       // the last one, if it has fewer tokens than the others
    bool is_exact;        // it starts from what the segments before it have left
    bool runs;
    int head, head_kv;
    int channel0;  // first value channel of the block
    StateSlots slots;
    int64_t place;  // of the sequence's first segment in the workspace

    // The final state may lie where other segments still read the initial one.
    DEVICE bool is_in_place() const { return segments > 1 && slots.out != NO_SLOT && slots.in == slots.out; }
    DEVICE bool starts_initial() const { return !is_exact && origin == 0 && slots.in != NO_SLOT; }
    DEVICE bool is_last() const { return index + 1 == segments; }
};

// Steps of the warm-up of a head with a constant log decay, 0 if that takes too long. NaN and 0 take too long.
DEVICE int warm_up_steps(float g) {
    constexpr float FORGOTTEN = -16.64f;  // ln 2^-24
    if (!(g * static_cast<float>(SALA_LINEAR_LONGEST_WARM_UP) <= FORGOTTEN)) return 0;
    return static_cast<int>(FORGOTTEN / g) / SALA_LINEAR_STEP + 1;
}

DEVICE int segment_count(const sala_linear_prefill_params& p, int length) {
    return minimum(maximum(length / SALA_LINEAR_SEGMENT, 1), minimum(p.segments, int{SALA_LINEAR_SEGMENTS}));
}

// The segment of this block. Blocks of value channels are `channels` wide.
DEVICE Segment find_segment(const sala_linear_prefill_params& p, int channels) {
    const sala_linear_attention_params& a = p.attention;
    Segment s{};
    const int tiles = p.dim_v / channels;
    s.sequence = block_index_z();
    s.head = block_index_y();
    s.head_kv = s.head / a.group;
    s.index = block_index_x() / tiles;
    s.channel0 = block_index_x() % tiles * channels;

    const int64_t begin = load_global(entry_of<const int>(a.cu_seqlens, s.sequence));
    const int64_t end = load_global(entry_of<const int>(a.cu_seqlens, s.sequence + 1));
    const bool has_rows = bounds_fit(begin, end, a.tokens, s.sequence);
    const int length = has_rows ? static_cast<int>(end - begin) : 0;
    const bool in_bounds = has_rows && length <= p.max_seqlen;
    s.first_token = begin;
    s.segments = segment_count(p, length);
    const int share = ceil_div(ceil_div(length, s.segments), ALIGNMENT) * ALIGNMENT;
    s.begin = minimum(s.index * share, length);
    s.end = minimum(s.begin + share, length);
    s.place = p.places_by_batch != 0 ? static_cast<int64_t>(s.sequence) * p.segments : begin / SALA_LINEAR_SEGMENT;
    s.runs = false;
    if (s.index >= s.segments) return s;

    const int warm_up = a.decay == SALA_DECAY_PER_HEAD && s.segments > 1 ? warm_up_steps(log_decay_at(a, 0, s.head)) : 0;
    s.is_exact = s.segments > 1 && warm_up == 0;
    s.origin = maximum(s.begin - warm_up * SALA_LINEAR_STEP, 0);
    s.slots = resolve_slots(a.states, s.sequence);
    s.runs = in_bounds && s.slots.valid;
    if (p.segments_alone == 0) {
        count_refused_once(a.status, REFUSED_LENGTHS, in_bounds ? 0 : 1);
        count_refused_once(a.status, REFUSED_SLOTS, s.slots.refused);
    }
    return s;
}

}  // namespace SALA_VARIANT
}  // namespace sala
