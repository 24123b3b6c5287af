// The steps of a list that each of two warpgroups takes, one after the other: its turns.
//
//     entries    0 1 2 3 4 5 6 7 8 9      wants, group 0: 0 1 9         a group takes a turn at least every LONGEST entries between its
//     group 0    ^ ^         ^     ^      turns, LONGEST = 5: 0 1 6 9   first and its last: entry 6 here, which gives it nothing
//
// A group that waits for the keys of its next turn holds the values of its last one, and the ring does not move past those by more
// than its stages.
#pragma once

#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/warp.cuh"
#include "params/sparse_attention.h"
#include "parts/attention/step_list.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int GROUP_WARPS = 4;
constexpr int READER_GROUPS = ATTENTION_WARPS / GROUP_WARPS;
constexpr uint32_t GROUP_MASK = (1u << GROUP_WARPS) - 1;
constexpr uint32_t ALL_READERS = 3;
static_assert(READER_GROUPS == 2, "readers are one group, the other, or both");

// A bit for each warp whose group takes a turn at the entry, or of which it is known that it does. One that masks a step and does
// not want it takes a turn in vain.
DEVICE uint32_t turns_of(const StepMarks& marks) { return marks.wants() | marks.masked(); }

// Which groups take a turn: bit g for group g.
DEVICE uint32_t readers_of(const StepMarks& marks) {
    const uint32_t turns = turns_of(marks);
    return ((turns & GROUP_MASK) != 0 ? 1u : 0u) | ((turns >> GROUP_WARPS & GROUP_MASK) != 0 ? 2u : 0u);
}

// A turn as a word: what the warps of the group need to know without asking the list.
struct GroupTurn {
    uint32_t word;

    DEVICE int at() const { return static_cast<int>(word & 0xffffu); }
    DEVICE int stage() const { return static_cast<int>(word >> 16 & 0xfu); }
    DEVICE uint32_t readers() const { return word >> 20 & 3; }
    DEVICE bool wanted_by(int warp) const { return (word >> (24 + warp) & 1) != 0; }
    DEVICE bool masked_for(int warp) const { return (word >> (28 + warp) & 1) != 0; }
};

// Those of each group, in shared memory.
template <int CAPACITY>
struct GroupTurns {
    static_assert(CAPACITY <= 1 << 16, "an entry's place has 16 bits");

    uint32_t count[READER_GROUPS];
    uint32_t turns[READER_GROUPS][CAPACITY];
};

// Marks turns in vain where a group would otherwise not take one for `longest` entries. By one warp.
template <int BYTES>
DEVICE void bridge_gaps(StepList<BYTES>& list, int group, int longest) {
    constexpr int NONE = -1;
    const int entries = static_cast<int>(list.count), shift = group * GROUP_WARPS;
    int before = NONE;  // the last turn so far
    NO_UNROLL
    for (int first = 0; first < entries; first += WARP_SIZE) {
        const int at = first + lane_index();
        const uint32_t wants = at < entries ? StepMarks{list.marks()[at]}.wants() >> shift & GROUP_MASK : 0;
        const uint32_t found = ballot(wants != 0), earlier = found & ((1u << lane_index()) - 1);
        const auto last_of = [&](uint32_t bits) { return bits == 0 ? before : first + WARP_SIZE - 1 - count_leading_zeros(bits); };
        sync_warp();  // all marks have been read
        if (const int last = last_of(earlier); wants != 0 && last != NONE) {
            for (int vain = last + longest; vain < at; vain += longest) {
                list.marks()[vain] = static_cast<uint16_t>(list.marks()[vain] | GROUP_MASK << (ATTENTION_WARPS + shift));
            }
        }
        before = last_of(found);
    }
    sync_warp();  // the marks are complete
}

// Writes down a group's turns. By one warp.
template <int STAGES, int CAPACITY, int BYTES>
DEVICE void write_turns(GroupTurns<CAPACITY>& turns, StepList<BYTES>& list, int group, int passed) {
    static_assert(STAGES <= 16, "a stage has four bits");
    const int entries = static_cast<int>(list.count), shift = group * GROUP_WARPS;
    uint32_t count = 0;
    NO_UNROLL
    for (int first = 0; first < entries; first += WARP_SIZE) {
        const int at = first + lane_index();
        const StepMarks marks{at < entries ? list.marks()[at] : uint16_t{0}};
        const bool takes = (turns_of(marks) >> shift & GROUP_MASK) != 0;
        const uint32_t wants = marks.wants() >> shift & GROUP_MASK, masked = marks.masked() >> shift & GROUP_MASK;
        const uint32_t found = ballot(takes);
        if (takes) {
            const auto stage = static_cast<uint32_t>((passed + at) % STAGES);
            const uint32_t place = count + static_cast<uint32_t>(count_bits(found & ((1u << lane_index()) - 1)));
            turns.turns[group][place] = static_cast<uint32_t>(at) | stage << 16 | readers_of(marks) << 20 | wants << 24 | masked << 28;
        }
        count += static_cast<uint32_t>(count_bits(found));
    }
    if (lane_index() == 0) turns.count[group] = count;
}

// Deals the entries of a complete list, `passed` others of which went through the ring before, to both groups, by one warp.
template <int STAGES, int CAPACITY, int BYTES>
DEVICE void deal_turns(GroupTurns<CAPACITY>& turns, StepList<BYTES>& list, int passed) {
    NO_UNROLL
    for (int group = 0; group < READER_GROUPS; ++group) bridge_gaps(list, group, STAGES - 1);
    NO_UNROLL
    for (int group = 0; group < READER_GROUPS; ++group) write_turns<STAGES>(turns, list, group, passed);
}

}  // namespace SALA_VARIANT
}  // namespace sala
