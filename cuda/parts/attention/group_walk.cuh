// What a warp does with the steps that its warpgroup takes from a ring (parts/attention/group_ring.cuh): it adds their keys to O and to
// the running softmax of 16 rows, of the group's 64.
//
//     tensor cores    | S(i) | P V (i − 1)        | S(i + 1) | P V (i)           per group; the other is half a step off
//     the rest               | weights(i)         | O·a, P(i)
//
// The wait for V stands between the weights and the wait for P V of the step before: without a branch there the compiler moves
// that wait before the weights, and nothing overlaps. A wait for K of the next step there would be one that may never end, as V of
// this and the last step would not be free meanwhile.
//
// Which steps there are is the kernel's to say, by a type Steps:
//
//     Step                  one of them, on its way through the ring: stage(), the parity() of its phases, its readers()
//     next(step)            goes on to the next one, if the group takes another
//     look(step)            reads what a warp has to know of it, once K has landed and before any warp releases that
//     is_wanted(step)       whether it gives the warp's rows anything; if not, the warp adds zeros
//     hide(scores, step)    hides the keys that its rows do not see
#pragma once

#include "machine/machine.cuh"
#include "machine/mbarrier.cuh"
#include "machine/tile.cuh"
#include "machine/warp.cuh"
#include "machine/warpgroup.cuh"
#include "parts/attention/group_ring.cuh"
#include "parts/attention/online_softmax.cuh"
#include "parts/attention/query_tile.cuh"

namespace sala {
inline namespace SALA_VARIANT {

template <class T, int DIM, class Steps>
struct GroupWalk {
    using Step = typename Steps::Step;
    static constexpr int STEP = AttentionTile::STEP;

    const GroupRing<DIM> ring;
    Steps steps;
    OnlineSoftmax softmax;
    Accumulator<DIM> out;

    // Of every phase of what it waits for at all; V of a step comes after K of the next one.
    DEVICE void wait_landed(const Step& step, StageHalf half) const {
        wait_mbarrier(ring.landed(step.stage(), half, step.readers()), step.parity());
    }
    DEVICE void release(const Step& step, StageHalf half) const {
        if (lane_index() == 0) arrive_mbarrier(ring.read(step.stage(), half));
    }
    // A step that gives the group nothing.
    DEVICE void pass_by(const Step& step) const {
        wait_landed(step, KEY);
        release(step, KEY);
        wait_landed(step, VALUE);
        release(step, VALUE);
    }

    // Adds the steps from `now` on that the group takes one after the other.
    DEVICE void add_steps(const FragmentA<DIM>& query, Step now) {
        Accumulator<STEP> scores;
        wait_landed(now, KEY);
        steps.look(now);
        fence_products();
        start_scores(scores, query, now);
        wait_products<0>(scores);
        release(now, KEY);
        advance(softmax, out, weigh_step(scores, now));
        FragmentA<STEP> weights = to_fragment_a<T>(scores);
        wait_landed(now, VALUE);
        NO_UNROLL
        for (Step last = now; steps.next(now); last = now) {
            wait_landed(now, KEY);
            steps.look(now);
            fence_products();
            start_scores(scores, query, now);
            fence_products();
            start_outputs(weights, last);
            wait_products<1>(scores);
            release(now, KEY);
            const PartChange change = weigh_step(scores, now);
            wait_landed(now, VALUE);  // here, as said above
            wait_products<0>(out);
            release(last, VALUE);
            advance(softmax, out, change);
            weights = to_fragment_a<T>(scores);
        }
        fence_products();
        start_outputs(weights, now);
        wait_products<0>(out);
        release(now, VALUE);
    }

  private:
    DEVICE void start_scores(Accumulator<STEP>& scores, const FragmentA<DIM>& query, const Step& step) const {
        start_product_nk<T, STEP>(scores, query, ring.tile(step.stage(), KEY), 0, false);
        commit_products();
    }
    DEVICE void start_outputs(const FragmentA<STEP>& weights, const Step& step) {
        start_product_kn<T, DIM>(out, weights, ring.tile(step.stage(), VALUE), 0, true);
        commit_products();
    }

    // Scores become weights.
    DEVICE PartChange weigh_step(Accumulator<STEP>& scores, const Step& step) {
        if (!steps.is_wanted(step)) {
            scores.fill(0.0f);
            return {};
        }
        steps.hide(scores, step);
        return weigh<T>(softmax, scores);
    }
};

}  // namespace SALA_VARIANT
}  // namespace sala
