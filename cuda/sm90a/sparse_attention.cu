// Attention of every query token over the blocks of keys that its list names, or in a dense sequence over all of its keys:
//
//     O = softmax(f·s·q Kᵀ) V,   LSE = ln Σ exp
//
// What cuda/base/sparse_attention.cu computes, with products of warpgroups, which mma reaches five eighths of. Grid and
// tiles are the same: (tiles of query tokens, kv heads, batch), a tile being eight row groups of 16 rows, and a row one query
// head of one token. Two warpgroups attend, with four row groups each; one warp of a third one copies.
//
//     lists                      union               group 0: tokens 0 … 3      S = Q Kᵀ   64 × 64, Q in registers
//     token 0:  0 3 5 6   ┐                          its turns:  0 3 5 6        P = softmax weights, rounded to 16 bits
//     …                   ├──▶  0 3 4 5 6 7  ──▶     group 1: tokens 4 … 7      O = a·O + P V   64 × dim, P in registers
//     token 7:  0 4 6 7   ┘                          its turns:  0 4 6 7
//
// The union is a sorted list of steps of 64 keys (parts/attention/step_list.cuh), and a group walks its own turns of it through
// a ring (parts/attention/group_ring.cuh). A warp none of whose tokens has listed a step that its group takes adds zeros.
// A row's softmax depends on that row alone, and its keys come in the same steps: its bits do not depend on the tile.
//
// Shared memory, 227 KiB: the ring 192 KiB (6 stages of K and V at dim 128, 12 at dim 64), where the sets lie of which the
// list is made; barriers; the list and the groups' turns in the rest, some 1650 entries.
//
//     tensor cores    | S(i) | P V (i − 1)        | S(i + 1) | P V (i)           per group; the other is half a turn off
//     the rest               | weights(i)         | O·a, P(i)                    (parts/attention/group_walk.cuh)
//     copies          K(i + 5), V(i + 5), …
//
// Limit: the tensor cores, 4096 FLOP per clock and SM: 512 clocks for a turn of 4 tokens of 16 heads. Weights take 256.
//
// Registers: 232 of a thread that attends (205 are used at dim 128), 40 of one that copies.
// Dropped: copies by a warpgroup with cp.async, which have to be waited for before they can be published, so that a step lands
// half a ring later; keys shared out to both groups whether they want them or not (by an estimate a quarter more products at
// 70 % overlap); persistent blocks (tiles come in order of locality as it is, and what begins a block is a small part of it).
//
// Definition: docs/semantics.md#sparse_attention
#include "machine/barrier.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/tile.cuh"
#include "machine/warp.cuh"
#include "machine/warpgroup.cuh"
#include "params/sparse_attention.h"
#include "parts/attention/block_sets.cuh"
#include "parts/attention/group_ring.cuh"
#include "parts/attention/group_turns.cuh"
#include "parts/attention/group_walk.cuh"
#include "parts/attention/hidden_keys.cuh"
#include "parts/attention/online_softmax.cuh"
#include "parts/attention/query_tile.cuh"
#include "parts/attention/step_list.cuh"
#include "parts/keys/sequence.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int WARPS = SALA_GROUP_ATTENTION_WARPS;
constexpr int THREADS = WARPS * WARP_SIZE;
constexpr int ATTENTION_THREADS = ATTENTION_WARPS * WARP_SIZE;
constexpr int STEP = AttentionTile::STEP;

template <int DIM>
struct GroupPlan {
    // An entry of the list takes ENTRY_BYTES at least, and a turn of either group.
    static constexpr int ENTRIES = 1960;
    using Barriers = typename GroupRing<DIM>::Barriers;
    using Turns = GroupTurns<ENTRIES>;
    static constexpr int REST = SALA_GROUP_ATTENTION_SHARED_BYTES - SALA_GROUP_ATTENTION_RING_BYTES;
    static constexpr int LIST_BYTES = REST - static_cast<int>(sizeof(Barriers) + sizeof(Turns) + sizeof(StepList<8>)) + 8;
    static_assert(LIST_BYTES / ListShape::ENTRY_BYTES <= ENTRIES, "every entry may be a turn");

    union {
        uint16_t halves[SALA_GROUP_ATTENTION_RING_BYTES / 2];
        BlockSets sets;
    };
    Barriers barriers;
    Turns turns;
    StepList<LIST_BYTES> list;
};
static_assert(sizeof(GroupPlan<64>) == SALA_GROUP_ATTENTION_SHARED_BYTES && sizeof(GroupPlan<128>) == SALA_GROUP_ATTENTION_SHARED_BYTES,
              "the host gives that much");

// The turns of a warp's group, one after the other.
template <int DIM>
struct TurnWalk {
    struct Step : GroupTurn {
        uint32_t of_phases;

        DEVICE uint32_t parity() const { return of_phases; }
    };

    const sala_sparse_attention_params& p;
    GroupPlan<DIM>& plan;
    int taken = 0, count = 0;  // of the turns that are dealt
    uint32_t parities = 0;     // of the phases that the warp waits for next: for each stage that of one reader, above it that of two

    DEVICE static int group() { return warp_index() / GROUP_WARPS; }
    DEVICE static int warp() { return warp_index() % GROUP_WARPS; }

    // Turns are dealt.
    DEVICE void begin() {
        taken = 0;
        count = static_cast<int>(uniform(plan.turns.count[group()]));
    }
    DEVICE bool are_left() const { return taken < count; }
    DEVICE Step take() {
        const GroupTurn turn{uniform(plan.turns.turns[group()][taken])};
        const int bit = turn.stage() + (turn.readers() == ALL_READERS ? GroupRing<DIM>::STAGES : 0);
        const uint32_t parity = parities >> bit & 1;
        parities ^= 1u << bit;
        taken += 1;
        return {turn, parity};
    }

    DEVICE bool next(Step& step) {
        if (!are_left()) return false;
        step = take();
        return true;
    }
    DEVICE static void look(const Step&) {}
    DEVICE static bool is_wanted(const Step& turn) { return turn.wanted_by(warp()); }
    DEVICE void hide(Accumulator<STEP>& scores, const Step& turn) const {
        if (turn.masked_for(warp())) hide_keys(scores, plan.list, turn.at(), p);
    }
};

// The windows of a tile's list, one after the other.
struct ListWindows {
    int words;  // of the tile, those of all windows
    SetWindow window = {0, 0};
    int passed = 0;  // entries of earlier windows

    DEVICE bool are_left() const { return window.first < words; }

    // The list of the window is complete.
    template <int BYTES>
    DEVICE void pass(const StepList<BYTES>& list, int longest) {
        window.words = minimum(words - window.first, longest);
        window.first += window.words - static_cast<int>(list.words_left);
        passed += static_cast<int>(list.count);
    }
};

// The side of the warpgroups that attend.
template <class T, int DIM>
DEVICE void attend(const sala_sparse_attention_params& p, const QueryTile& tile, GroupPlan<DIM>& plan, const GroupRing<DIM>& ring) {
    GroupWalk<T, DIM, TurnWalk<DIM>> walk{ring, {p, plan}, {}, {}};
    QueryRow row[2];
    start_rows(row, walk.softmax, p, tile, warp_index());
    const FragmentA<DIM> query = load_query_rows<DIM>(p, tile, row);
    walk.out.fill(0.0f);
    const int longest = longest_window(tile, p.tile_tokens, plan.list.shape.capacity);
    ListWindows windows{ceil_div(tile.steps(), BlockSets::WORD_STEPS)};
    while (windows.are_left()) {
        const SetWindow window{windows.window.first, minimum(windows.words - windows.window.first, longest)};
        list_steps<ATTENTION_THREADS>(plan.list, plan.sets, p, tile, window);
        publish_shared_writes();                        // the sets lie where copies will
        sync_barrier(LIST_BARRIER, ATTENTION_THREADS);  // the list is complete
        if (warp_index() == 0) deal_turns<GroupRing<DIM>::STAGES>(plan.turns, plan.list, windows.passed);
        windows.pass(plan.list, longest);
        sync_block();  // the turns are dealt
        walk.steps.begin();
        if (walk.steps.are_left()) walk.add_steps(query, walk.steps.take());
        sync_block();  // every warp is done with the list, and has read the ring
    }
    const QueryTile same = find_block_tile_anew(p);
    finish_softmax(walk.softmax);
    UNROLL
    for (int side = 0; side < 2; ++side) {
        const QueryRow own = find_row(p, same, warp_index(), side);
        store_lse<T>(p, same, own, walk.softmax, side);
        store_row<T>(p, same, own, walk.out, 0, walk.softmax, side);
    }
}

// The side of the warpgroup that copies, which one of its warps does.
template <int DIM>
DEVICE void copy_steps(const sala_sparse_attention_group_params& p, const QueryTile& tile, GroupPlan<DIM>& plan,
                       const GroupRing<DIM>& ring) {
    const RingFiller<DIM> filler = find_filler(p, ring, tile);
    const int longest = longest_window(tile, p.attention.tile_tokens, plan.list.shape.capacity);
    ListWindows windows{ceil_div(tile.steps(), BlockSets::WORD_STEPS)};
    while (windows.are_left()) {
        sync_block();  // the list is complete, and its turns are dealt
        if (warp_index() == ATTENTION_WARPS) filler.pass(plan.list, windows.passed);
        windows.pass(plan.list, longest);
        sync_block();  // every warp is done with the list, and has read the ring
    }
}

template <class T, int DIM>
DEVICE void group_attention(const sala_sparse_attention_group_params& params) {
    const sala_sparse_attention_params& p = params.attention;
    const SequenceRange sequence = find_sequence(p.sequences, block_index_z());
    if (leave_refused<THREADS, DIM>(p, sequence)) return;
    const QueryTile tile = find_block_tile(p, sequence);
    if (tile.tokens == 0) return;
    auto& plan = dynamic_shared<GroupPlan<DIM>>();
    const GroupRing<DIM> ring{shared_address(plan.halves), shared_address(&plan.barriers)};
    ring.begin();
    if (thread_index() == 0) begin_list(plan.list, p, tile, block_index_z());
    sync_block();  // the barriers and the list have begun
    if (warp_index() < ATTENTION_WARPS) {
        take_registers<232>();
        attend<T>(p, tile, plan, ring);
    } else {
        give_up_registers<40>();
        copy_steps(params, tile, plan, ring);
    }
}

#define INSTANCE(name, T, DIM) \
    KERNEL(name, sala_sparse_attention_group_params, THREADS, 1) { group_attention<T, DIM>(p); }
#include "instances/sm90a_sparse_attention.h"

}  // namespace SALA_VARIANT
}  // namespace sala
