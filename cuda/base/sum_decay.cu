// The log decay of linear attention added up over each sequence, for sequences whose parts are on several ranks:
//
//     G_t = Σ g_i for i ≤ t        total = G of the last token, 0 without tokens
//
// Called once per prefill by a rank that has a part of a sequence; where decay is a constant, once for all layers. Grid: (heads
// / 32, spans of 4096 tokens, sequences), of one span where there is a decay per token. A lane has a head, so that a
// warp reads whole sectors; a warp has a run of 16 tokens of each step:
//
//     tokens   | 0 … 15  | 16 … 31 | … | 240 … 255 | 256 …
//     warp     |    0    |    1    |   |    15     |   0
//     step     | g of 16 tokens ─ load ─▶| sum of the run → shared |■ sums of the runs before → G, store      ■ block barrier
//
// Sums are pairs of f32, so that a million small decays still add up to what they are. Shared memory: sums of two steps, 8 KiB.
// Limit: latency of a walk, about 256 tokens per microsecond; of the memory that prefill reads meanwhile it takes a
// hundredth. A constant decay is a product, and bound by bytes.
//
// Definition: docs/semantics.md#sum_decay
#include "machine/barrier.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "params/linear_attention.h"
#include "parts/keys/rows.cuh"
#include "parts/keys/sequence.cuh"
#include "parts/linear/log_decay.cuh"
#include "parts/linear/step_decay.cuh"
#include "parts/status.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int THREADS = SALA_SUM_DECAY_THREADS;
constexpr int WARPS = THREADS / WARP_SIZE;
constexpr int RUN = 16;  // tokens of a warp in a step

struct SumPlan {
    ExactSum runs[2][WARPS][WARP_SIZE];  // of a step and the one before
};

// The sum of two, of which the second number stays small beside the first, however many are added.
DEVICE ExactSum add_many(ExactSum a, ExactSum b) {
    const ExactSum sum = add_exactly(a, b);
    return add_exactly({sum.high, 0.0f}, {sum.low, 0.0f});
}

// What a lane adds up: a head of a sequence.
struct Column {
    int64_t first_token;
    int length;
    int sequence, head;
    bool exists;
};

DEVICE void store_sum(const sala_rows& to, int64_t row, int head, ExactSum sum) {
    store_global(row_of<float>(to, row, head), sum.high + sum.low);
}

// A decay that is the same for all tokens: this block's span of them.
DEVICE void multiply_span(const sala_sum_decay_params& p, const Column& c) {
    if (!c.exists) return;
    const float g = log_decay_at(p.attention, 0, c.head);
    const int begin = block_index_y() * SALA_SUM_DECAY_SPAN;
    const int end = minimum(begin + SALA_SUM_DECAY_SPAN, c.length);
    const auto sum = [&](int tokens) { return multiply_exactly(static_cast<float>(tokens), g); };
    NO_UNROLL
    for (int token = begin + warp_index(); token < end; token += WARPS) {
        store_sum(p.cumulative, c.first_token + token, c.head, sum(token + 1));
    }
    if (begin == 0 && warp_index() == 0) store_sum(p.total, c.sequence, c.head, c.length == 0 ? ExactSum{} : sum(c.length));
}

// A decay per token: all of the sequence.
DEVICE void walk_tokens(const sala_sum_decay_params& p, const Column& c) {
    auto& plan = dynamic_shared<SumPlan>();
    ExactSum before{};  // of the steps until now
    NO_UNROLL
    for (int step = 0; step * WARPS * RUN < c.length; ++step) {
        const int first = (step * WARPS + warp_index()) * RUN;
        const auto has = [&](int i) { return c.exists && first + i < c.length; };
        float g[RUN];
        ExactSum run{};
        UNROLL
        for (int i = 0; i < RUN; ++i) g[i] = has(i) ? log_decay_at(p.attention, c.first_token + first + i, c.head) : 0.0f;
        UNROLL
        for (int i = 0; i < RUN; ++i) run = add_exactly(run, {g[i], 0.0f});
        auto& runs = plan.runs[step & 1];
        runs[warp_index()][lane_index()] = run;
        sync_block();  // the sums of the runs are in shared memory; those of the step before have been read
        ExactSum sum{};
        NO_UNROLL
        for (int warp = 0; warp < WARPS; ++warp) {
            if (warp == warp_index()) sum = before;
            before = add_many(before, runs[warp][lane_index()]);
        }
        UNROLL
        for (int i = 0; i < RUN; ++i) {
            sum = add_exactly(sum, {g[i], 0.0f});
            if (has(i)) store_sum(p.cumulative, c.first_token + first + i, c.head, sum);
        }
    }
    if (c.exists && warp_index() == 0) store_sum(p.total, c.sequence, c.head, before);
}

DEVICE void add_up(const sala_sum_decay_params& p) {
    const auto& a = p.attention;
    const int sequence = block_index_z();
    const int head = block_index_x() * WARP_SIZE + lane_index();
    const int64_t begin = load_global(entry_of<const int>(a.cu_seqlens, sequence));
    const int64_t end = load_global(entry_of<const int>(a.cu_seqlens, sequence + 1));
    const bool fits = bounds_fit(begin, end, a.tokens, sequence) && end - begin <= p.max_seqlen;
    count_refused_once(a.status, REFUSED_LENGTHS, fits ? 0 : 1);
    if (!fits) return;
    const Column column{begin, static_cast<int>(end - begin), sequence, head, head < p.heads};
    if (a.decay == SALA_DECAY_PER_TOKEN) {
        walk_tokens(p, column);
    } else {
        multiply_span(p, column);
    }
}

#define INSTANCE(name) \
    KERNEL(name, sala_sum_decay_params, THREADS, 2) { add_up(p); }
#include "instances/sum_decay.h"

}  // namespace SALA_VARIANT
}  // namespace sala
