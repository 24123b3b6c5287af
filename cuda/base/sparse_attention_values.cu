// Second half of split attention: softmax weights of the scores that sparse_attention_scores left, then O = P
// V and LSE.
//
// Called right after sparse_attention_scores, with the same parameters. Grid: (dim / 32, kv heads × row
// groups, batch). The sum over V runs through the steps in the order, and with the arithmetic, of
// sparse_attention, so that the bits are the same; blocks and warps split the columns of V, whose sums do not
// depend on each other. A block takes eight steps per round: warp w makes the weights of step w, then warps 0
// to 3 add all eight to their eight columns of O:
//
//                 step 0    step 1   …  step 7              columns 0…7   8…15   16…23   24…31
//     weights   │ warp 0  │ warp 1  │ … │ warp 7 │    O   │   warp 0   │ warp 1 │ warp 2 │ warp 3 │
//
//     round n   | all: maxima | warp w: weights w | ■ O, four warps × 8 columns | ■          ■ block barrier
//               |                                   | V n+1 ─────── load ──────▶
//
// Shared memory: V 2 × 8 steps × 64 × 32, 64 KiB; weights as fragments 16 KiB; sums 2 KiB; 82 KiB in all.
// Limit: latency; the chain of dependent products of a column, four per step, is some 130 cycles long
// (calculated).
#include "machine/async_copy.cuh"
#include "machine/barrier.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/tile.cuh"
#include "machine/warp.cuh"
#include "params/sparse_attention.h"
#include "parts/attention/block_sets.cuh"
#include "parts/attention/online_softmax.cuh"
#include "parts/attention/query_tile.cuh"
#include "parts/attention/split_workspace.cuh"
#include "parts/keys/sequence.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int ROUND = SALA_ATTENTION_VALUES_WARPS;  // steps of a round, and warps
constexpr int THREADS = ROUND * WARP_SIZE;
constexpr int STEP = AttentionTile::STEP;
constexpr int COLUMNS = SALA_ATTENTION_VALUES_COLUMNS;
constexpr int WARP_COLUMNS = 8;
constexpr int FRAGMENTS = STEP / 16;

struct ValuesPlan {
    uint16_t value[2][ROUND][STEP * COLUMNS];
    Words4 weights[ROUND][FRAGMENTS][WARP_SIZE];
    float sums[ROUND][2][WARP_SIZE];
};

// The softmax as the steps of a round change it.
struct Round {
    int steps;               // how many of the eight there are; the last round may have fewer
    Rescale rescale[ROUND];  // what each step does to the sums before it
    float maximum[2];        // the reference maxima at this warp's step
};

// Passes the maxima of a round's steps through the softmax, as every warp does by itself.
DEVICE Round start_round(OnlineSoftmax& softmax, const SplitPlace& place) {
    Round round;
    const int step = lane_index() < ROUND ? load_global_constant(place.step + lane_index()) : NO_STEP;
    round.steps = count_bits(ballot(step != NO_STEP));
    UNROLL
    for (int i = 0; i < ROUND; ++i) {
        float maxima[2];
        load_maxima(maxima, place.after(i));
        round.rescale[i] = raise_maxima(softmax, maxima);
        UNROLL
        for (int side = 0; side < 2; ++side) {
            if (i == warp_index()) round.maximum[side] = softmax.maximum[side];
        }
    }
    return round;
}

// Makes the weights of this warp's step and leaves them, and their sums, in shared memory.
template <class T>
DEVICE void leave_weights(ValuesPlan& plan, const OnlineSoftmax& softmax, const Round& round, const SplitPlace& place) {
    const int warp = warp_index();
    if (warp >= round.steps) return;
    Accumulator<STEP> scores;
    load_scores(scores, place.after(warp));
    OnlineSoftmax here = softmax;
    float sums[2];
    UNROLL
    for (int side = 0; side < 2; ++side) here.maximum[side] = round.maximum[side];
    make_weights<T>(sums, scores, here);
    const FragmentA<STEP> weights = to_fragment_a<T>(scores);
    UNROLL
    for (int i = 0; i < FRAGMENTS; ++i) {
        const uint32_t(&r)[4] = weights.registers[i];
        store_shared(shared_address(&plan.weights[warp][i][lane_index()]), Words4{{r[0], r[1], r[2], r[3]}});
    }
    UNROLL
    for (int side = 0; side < 2; ++side) plan.sums[warp][side][lane_index()] = sums[side];
}

// Adds step `i` of the round to O and to the running softmax.
template <class T>
DEVICE void add_step(Accumulator<WARP_COLUMNS>& out, OnlineSoftmax& softmax, const ValuesPlan& plan, const Rescale& rescale, int stage,
                     int i) {
    const float sums[2] = {plan.sums[i][0][lane_index()], plan.sums[i][1][lane_index()]};
    advance(softmax, out, rescale, sums);
    if (warp_index() >= COLUMNS / WARP_COLUMNS) return;
    FragmentA<STEP> weights;
    UNROLL
    for (int j = 0; j < FRAGMENTS; ++j) {
        const Words4 fragment = load_shared<Words4>(shared_address(&plan.weights[i][j][lane_index()]));
        UNROLL
        for (int r = 0; r < 4; ++r) weights.registers[j][r] = fragment[r];
    }
    multiply_kn<T>(out, weights, SharedTile<COLUMNS>{shared_address(plan.value[stage][i])}, 0, warp_index() * WARP_COLUMNS);
}

template <class T>
DEVICE void sparse_attention_values(const sala_sparse_attention_split_params& p) {
    const SequenceRange sequence = find_sequence(p.attention.sequences, block_index_z());
    const int column = block_index_x() * COLUMNS;
    if (sequence.refusal != REFUSED_NOTHING) {
        const int head_kv = block_index_y() / p.row_groups;
        store_refused<THREADS, COLUMNS>(p.attention, sequence, head_kv, block_index_y() % p.row_groups, p.row_groups, column);
        return;
    }
    const RowGroup group = find_row_group(p, sequence);
    const QueryTile& tile = group.tile;
    if (tile.tokens == 0) return;
    auto& plan = dynamic_shared<ValuesPlan>();
    QueryRow row[2];
    OnlineSoftmax softmax;
    start_rows(row, softmax, p.attention, tile, group.index);
    Accumulator<WARP_COLUMNS> out;
    out.fill(0.0f);

    const KeyRows values = find_tile_values(p.attention, tile, block_index_z());
    const SplitPlace first = first_place(p);
    const int last_position = tile.last_position();
    const auto load_values = [&](int round, int stage) {
        const int place = round * ROUND + warp_index();
        const KeyStep step = unpack_step(place < p.places ? load_global_constant(first.step + place) : NO_STEP);
        const SharedTile<COLUMNS> target{shared_address(plan.value[stage][warp_index()])};
        const StepPages pages = look_up_step(values, step, last_position);
        if (step.index != NO_STEP) load_key_step<WARP_SIZE>(target, values, column, step, pages, last_position, lane_index());
        async_copy_commit();
    };

    load_values(0, 0);
    NO_UNROLL
    for (int index = 0; index * ROUND < p.places; ++index) {
        const SplitPlace place = first.after(index * ROUND);
        const Round round = start_round(softmax, place);
        if (round.steps == 0) break;
        leave_weights<T>(plan, softmax, round, place);
        async_copy_wait<0>();
        sync_block();  // this round's weights and V are in shared memory; the last round's V is free
        load_values(index + 1, (index + 1) % 2);
        UNROLL
        for (int i = 0; i < ROUND; ++i) {
            if (i < round.steps) add_step<T>(out, softmax, plan, round.rescale[i], index % 2, i);
        }
        sync_block();  // the weights are free
    }

    finish_softmax(softmax);
    if (warp_index() >= COLUMNS / WARP_COLUMNS) return;
    UNROLL
    for (int side = 0; side < 2; ++side) {
        if (block_index_x() == 0 && warp_index() == 0) store_lse<T>(p.attention, tile, row[side], softmax, side);
        store_row<T>(p.attention, tile, row[side], out, column + warp_index() * WARP_COLUMNS, softmax, side);
    }
}

#define INSTANCE(name, T) \
    KERNEL(name, sala_sparse_attention_split_params, THREADS, 1) { sparse_attention_values<T>(p); }
#include "instances/sparse_attention_values.h"

}  // namespace SALA_VARIANT
}  // namespace sala
