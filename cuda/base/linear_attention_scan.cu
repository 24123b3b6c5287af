// Linear attention over whole sequences: S ← e^g·S + k vᵀ, o = scale · Sᵀ q, in steps of 32 tokens.
//
//     O  = scale · [ (Q Kᵀ ⊙ D) V + diag(e^G) Q S ],    D_ij = e^(G_i − G_j) for i ≥ j, else 0,    G = running sum of g in the step
//     S' = e^G_last · S + (K ⊙ e^(G_last − G))ᵀ V
//
// Called once per prefill or prefill step for every linear layer. Grid: (segments × value columns / TILE, heads,
// batch). A block walks a segment of its sequence (parts/linear/segment.cuh) with the state in registers: Sᵀ, 16 or 32
// value channels per warp, whose fragments are Q S's operand as they are. Only P = Q Kᵀ ⊙ D is shared between warps:
//
//            dim_k               channels             keys      channels             channels           warp w:  O  = Q S, P's piece w = Q Kᵀ
//        ┌───────────┐          ┌────────┐          ┌──────┐   ┌────────┐            ┌────────┐                  O += P V, a step later
//     32 │     Q     │   dim_k  │ S 16·M │       32 │  P   │   │ V 16·M │         32 │ O 16·M │                  Sᵀ = e^G_last Sᵀ + (Vᵀ ⊙ w) K
//        └───────────┘          └────────┘          └──────┘   └────────┘            └────────┘
//
// Shared memory (bf16, 128 × 128): three stages of Q, K and V of 8 KiB each, P twice 2 KiB, decay 5 KiB = 81 KiB:
// two blocks on an SM of sm_80 and sm_90, one on sm_120.
//
//     step n  | Q K V n+2 ─────────────────────── load ──────────────────────▶|
//             | O n−1 += P n−1 V n−1, store | O n = Q S, P n → shared, V n → registers | Sᵀ update |■   block barrier, n+1 is there
//
// Limit: bytes. q, k, v and o once are 1 KiB per token and head: 0.50 ms for 64K tokens × 32 heads at 4.3 TB/s, 8.0 ms
// for 1M. A block alone is bound by shared memory and latency (model of an H100: 3150 clocks per 64 tokens and head with
// two blocks on an SM; tensor cores need 2200), so a sequence has to give as many blocks as an H100 takes: 8 segments ×
// 32 heads. 32 channels per warp halve the reads of Q and K; only steps of 32 tokens leave the registers for that.
// Segments read keys and values of their warm-up too: 1.05 × the bytes at 64K tokens with SALA's decays.
// Dropped: S through shared memory; decoupled e^(+G) e^(−G) factors (overflow); states of all steps in memory between
// two passes (2.5 × the bytes); steps of 64 tokens (16 channels per warp: Q and K are read eight times).
//
// Definition: docs/semantics.md#linear_prefill
#include <stddef.h>

#include "machine/async_copy.cuh"
#include "machine/atomic.cuh"
#include "machine/barrier.cuh"
#include "machine/element.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/tile.cuh"
#include "machine/warp.cuh"
#include "params/linear_attention.h"
#include "parts/keys/rows.cuh"
#include "parts/linear/checkpoints.cuh"
#include "parts/linear/fit.cuh"
#include "parts/linear/log_decay.cuh"
#include "parts/linear/scan_state.cuh"
#include "parts/linear/segment.cuh"
#include "parts/linear/state_slots.cuh"
#include "parts/linear/step_decay.cuh"
#include "parts/linear/step_output.cuh"
#include "parts/linear/step_rows.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int STAGES = SALA_LINEAR_STAGES;

template <class T, int TILE>
struct ScanShape {
    // f16 needs registers for the factors of its operands.
    static constexpr int WARP_CHANNELS = TILE == 128 && !needs_scaling<T> ? 32 : 16;
    static constexpr int M = WARP_CHANNELS / 16;
    static constexpr int WARPS = TILE / WARP_CHANNELS;
    static constexpr int THREADS = WARPS * WARP_SIZE;
    static constexpr int PIECES = ceil_div(3, WARPS);  // of P, per warp
    static constexpr int BLOCKS = WARP_CHANNELS == 32 ? 2 : 1;
};

template <int DIM_K, int TILE>
struct ScanPlan {
    union {
        struct {
            uint16_t query[STAGES][STEP * DIM_K];
            uint16_t key[STAGES][STEP * DIM_K];
            uint16_t value[STAGES][STEP * TILE];
        };
        float initial[DIM_K][TILE];  // before the first rows
    };
    uint16_t scores[2][STEP * STEP];  // P
    DecayTable decay[2];
    ScoreFactors score_factors;
    PowerOfTwo score_scale[2][2][STEP];  // f16: how each half of a row of P was scaled to fit
    ExactSum decay_sum;                  // of the segment
    uint32_t arrived;
    Segment segment;  // for what is no part of a step: registers are scarce there
};

// ---- what segments tell each other

DEVICE uint32_t* arrivals_of(const sala_linear_prefill_params& p, const Segment& s, int tile) {
    return entry_of<uint32_t>(p.arrivals, (s.place * grid_size_y() + s.head) * (p.dim_v / tile) + s.channel0 / tile);
}

// Counts the segment as one that needs the initial state no more, or only looks; whether all `count` have been counted.
// What they have read and written comes before what is read and written after.
DEVICE bool have_arrived(uint32_t* arrivals, uint32_t& shared, bool counts, uint32_t count) {
    sync_block();  // the block's accesses come before those of its first thread
    if (thread_index() == 0) {
        memory_fence();
        shared = atomic_add(arrivals, counts ? 1u : 0u) + (counts ? 1 : 0);
        memory_fence();
    }
    sync_block();  // the number is in shared memory
    return shared == count;
}

// From the workspace, where the last segment left it, to where it belongs.
template <int DIM_K, int TILE>
DEVICE void copy_final_state(const sala_linear_prefill_params& p, const Segment& s) {
    const StateRows from = state_rows(p.segment_states, s.place + s.segments - 1, s.head, s.channel0);
    const StateRows to = state_rows(p.attention.states, s.slots.out, s.head, s.channel0);
    NO_UNROLL
    for (int i = thread_index(); i < DIM_K * TILE; i += block_threads()) {
        const int key = i / TILE, channel = i % TILE;
        const float x = load_global(from.first + key * from.stride_k + channel * from.stride_v);
        store_global(to.first + key * to.stride_k + channel * to.stride_v, x);
    }
}

DEVICE float* segment_decay(const sala_linear_prefill_params& p, const Segment& s, int index) {
    return entry_of<float>(p.segment_decays, ((s.place + index) * grid_size_y() + s.head) * 2);
}

// What a segment that does not warm up starts from: the initial state, and what the segments before it have left.
template <int DIM_K, int TILE>
DEVICE void combine_segments(float (&initial)[DIM_K][TILE], const sala_linear_prefill_params& p, const Segment& s) {
    NO_UNROLL
    for (int i = thread_index(); i < DIM_K * TILE; i += block_threads()) {
        const int key = i / TILE, channel = i % TILE;
        const auto number = [&](const sala_states& states, int64_t slot) {
            const StateRows rows = state_rows(states, slot, s.head, s.channel0);
            return load_global(rows.first + (key * rows.stride_k + channel * rows.stride_v));
        };
        float x = s.slots.in == NO_SLOT ? 0.0f : number(p.attention.states, s.slots.in);
        NO_UNROLL
        for (int before = 0; before < s.index; ++before) {
            const float* sum = segment_decay(p, s, before);
            x = decayed(state_decay(load_global(sum) + load_global(sum + 1)), x) + number(p.segment_states, s.place + before);
        }
        initial[key][channel] = x;
    }
}

// Where a state goes that a segment stops with.
struct Target {
    StateRows rows;
    bool is_there;
    bool waits;  // in the workspace: other segments may still read the initial state
};

template <int TILE>
DEVICE Target find_target(const sala_linear_prefill_params& p, const Segment& s, const Stop& stop, uint32_t& shared) {
    const sala_states* states = &p.attention.states;
    int64_t slot = NO_SLOT;
    bool waits = false;
    if (stop.is_checkpoint) {
        slot = checkpoint_slot(p, s, stop.checkpoint);
    } else if (s.is_last() && p.segments_alone == 0) {
        slot = s.slots.out;
        waits = s.is_in_place() && !have_arrived(arrivals_of(p, s, TILE), shared, false, s.segments - 1);
    }
    if (waits || p.segments_alone) {
        states = &p.segment_states;
        slot = s.place + s.index;
    }
    if (slot == NO_SLOT) return {{}, false, false};
    return {state_rows(*states, slot, s.head, s.channel0), true, waits};
}

// ---- refused sequences

// What a sequence gives that is refused.
DEVICE void store_zeros(const sala_linear_prefill_params& p, const Segment& s, int tile) {
    const sala_rows& out = p.attention.out;
    NO_UNROLL
    for (int channel = thread_index(); channel < tile; channel += block_threads()) {
        uint16_t* to = row_of<uint16_t>(out, s.first_token + s.begin, s.head) + s.channel0 + channel;
        NO_UNROLL
        for (int i = 0; i < s.end - s.begin; ++i) store_global(to + i * out.token_stride, uint16_t{0});
    }
}

// The segment of the block, in shared memory; whether there is something to scan.
template <int TILE>
DEVICE bool take_segment(Segment& shared, const sala_linear_prefill_params& p) {
    Segment s = find_segment(p, TILE);
    if (s.is_exact) s.origin = s.begin;
    if (p.segments_alone) {
        if (s.index == 0 && s.segments > 1 && thread_index() == 0) store_global(arrivals_of(p, s, TILE), 0u);
        if (!s.runs || !s.is_exact || s.is_last()) return false;
    }
    if (!s.runs) {
        if (s.index < s.segments) store_zeros(p, s, TILE);
        return false;
    }
    const int tokens = s.end - s.origin;
    s.short_step = tokens % STEP == 0 ? -1 : tokens / STEP;
    if (thread_index() == 0) shared = s;
    sync_block();  // the segment is in shared memory
    return true;
}

// The block has read the initial state, or does not need it.
template <int DIM_K, int TILE>
DEVICE void announce_start(const sala_linear_prefill_params& p, const Segment& s, uint32_t& shared) {
    if (!s.is_in_place() || s.is_last() || p.segments_alone) return;
    if (have_arrived(arrivals_of(p, s, TILE), shared, true, s.segments)) copy_final_state<DIM_K, TILE>(p, s);
}

// ---- the kernel

template <class T, int DIM_K, int TILE>
DEVICE void linear_attention_scan(const sala_linear_prefill_params& p) {
    using Shape = ScanShape<T, TILE>;
    using Plan = ScanPlan<DIM_K, TILE>;
    constexpr int M = Shape::M, WARPS = Shape::WARPS, PIECES = Shape::PIECES;
    const sala_linear_attention_params& a = p.attention;
    auto& plan = dynamic_shared<Plan>();
    if (!take_segment<TILE>(plan.segment, p)) return;
    const Segment& s = plan.segment;
    const int tokens = s.end - s.origin;
    const int warm_up = p.segments_alone ? ceil_div(tokens, STEP) : (s.begin - s.origin) / STEP;
    const bool is_builder = warp_index() == WARPS - 1;  // of decay tables: it has no piece of P where there are four warps

    // ---- the rows of steps
    using QueryRows = StepRows<DIM_K, Shape::THREADS>;
    using ValueRows = StepRows<TILE, Shape::THREADS>;
    constexpr uint32_t TO_KEYS = offsetof(Plan, key) - offsetof(Plan, query);
    const SharedTile<DIM_K> query_tile{shared_address(plan.query)};
    const SharedTile<TILE> value_tile{shared_address(plan.value)};
    const int64_t first = s.first_token + s.origin;
    const uint32_t query_target = QueryRows::target_in(query_tile);
    QueryRows query_rows(a.q, first + static_cast<int64_t>(warm_up) * STEP, s.head, 0, query_target);
    QueryRows key_rows(a.k, first, s.head_kv, 0, query_target + TO_KEYS);
    ValueRows value_rows(a.v, first, s.head_kv, s.channel0, ValueRows::target_in(value_tile));
    const auto load_step = [&](int step, int stage, bool has_queries) {
        const int rows = tokens - step * STEP;
        if (rows > 0) {
            if (has_queries) query_rows.load(stage, rows);
            key_rows.load(stage, rows);
            value_rows.load(stage, rows);
        }
        async_copy_commit();
    };

    // ---- decay
    const bool is_per_token = a.decay == SALA_DECAY_PER_TOKEN;
    const auto log_decay_of = [&](int step) {
        if (!is_per_token) return log_decay_at(a, 0, s.head);
        const int token = step * STEP + lane_index();
        return token < tokens ? log_decay_at(a, s.first_token + s.origin + token, s.head) : 0.0f;
    };
    // The table of a step: a decay per token has one for each, a constant one for all but a last step that is shorter.
    // The tokens from a step on, from shared memory: another register would be spilled.
    const auto rest = [&](int step) { return s.end - s.origin - step * STEP; };
    const auto is_short = [&](int step) { return step == s.short_step; };
    const auto is_new = [&](int step) { return is_per_token || step == 0 || is_short(step); };
    const auto table_of = [&](int step) -> DecayTable& { return plan.decay[is_per_token ? (step & 1) : is_short(step)]; };
    float next_decay = is_builder ? log_decay_of(0) : 0.0f;
    const auto build_table = [&](int step) {
        if (!is_builder || step * STEP >= tokens || !is_new(step)) return;
        const ExactSum sum = build_decay_table(table_of(step), a.decay, next_decay, minimum(rest(step), STEP), a.scale);
        next_decay = log_decay_of(step + 1);
        if (p.segments_alone && lane_index() == 0) plan.decay_sum = step == 0 ? sum : add_exactly(plan.decay_sum, sum);
    };
    const auto make_score_factors = [&](int step) {
        UNROLL
        for (int index = 0; index < PIECES; ++index) {
            const ScorePiece piece = score_piece<WARPS>(index);
            if (piece.is_made) plan.score_factors.make(table_of(step), piece, a.scale);
        }
    };

    // ---- the state and the first rows
    ScanState<DIM_K, M> state;
    state.clear();
    if (s.is_exact && p.segments_alone == 0) {
        combine_segments(plan.initial, p, s);
        sync_block();  // the state is in shared memory
        state.visit({&plan.initial[0][0], 1, TILE}, [](float& x, const float* at) { x = *at; });
        sync_block();  // rows may take its place
    }
    load_step(0, 0, warm_up <= 0);
    load_step(1, 1, warm_up <= 1);
    build_table(0);
    if (s.starts_initial() && p.segments_alone == 0) state.load(state_rows(a.states, s.slots.in, s.head, s.channel0));

    // ---- places of fragments
    const FragmentPlace<DIM_K> query_place(query_tile);
    const FragmentPlace<TILE, Shape::WARP_CHANNELS> value_place(value_tile, warp_index() * Shape::WARP_CHANNELS);
    const SharedTile<STEP> score_tile{shared_address(plan.scores)};
    const FragmentPlace<STEP> score_place(score_tile);
    const auto stage_of = [](int stage) { return static_cast<uint32_t>(SharedTile<DIM_K>::bytes(stage * STEP)); };
    const auto score_stage = [](int step) { return static_cast<uint32_t>(SharedTile<STEP>::bytes((step & 1) * STEP)); };
    uint32_t score_targets[PIECES];
    UNROLL
    for (int index = 0; index < PIECES; ++index) {
        const ScorePiece piece = score_piece<WARPS>(index);
        score_targets[index] = kept(score_tile.address(piece.row_half * 16 + lane_index() % 16, piece.key_half * 2 + lane_index() / 16));
    }

    // ---- parts of a step
    StepValues<M> values;
    StepOutput<M> out;
    OutputRows out_rows(a.out, s.first_token + s.begin, s.head, s.channel0 + warp_index() * Shape::WARP_CHANNELS);
    const auto take_values = [&](int stage) {
        const auto place = value_place.moved(static_cast<uint32_t>(SharedTile<TILE>::bytes(stage * STEP)));
        UNROLL
        for (int half = 0; half < 2; ++half) {
            UNROLL
            for (int m = 0; m < M; ++m) values.part[half][m] = load_fragment_kn(place, half * 16, m * 16);
        }
    };
    const auto finish_output = [&](int step) {
        add_scores<T>(out, values, score_place.moved(score_stage(step)), plan.score_scale[step & 1]);
        out_rows.template store<T>(out, tokens - step * STEP);
    };
    const auto make_output = [&](int step, int stage) {
        const FragmentPlace<DIM_K> queries = query_place.moved(stage_of(stage));
        uint32_t to_keys[PIECES];
        UNROLL
        for (int index = 0; index < PIECES; ++index) {
            to_keys[index] = TO_KEYS + static_cast<uint32_t>(SharedTile<DIM_K>::bytes(score_piece<WARPS>(index).key_half * 16));
        }
        StepScores<PIECES> scores;
        read_state_and_score<T, WARPS>(out, scores, state, queries, to_keys);
        store_scores<T, WARPS>(scores, plan.score_factors, score_targets, score_stage(step), plan.score_scale[step & 1]);
        out.scale_tokens([&](int half, int side) { return table_of(step).row_factor(half, side); });
    };
    const auto advance = [&](int step, int stage) {
        take_values(stage);
        update_state<T>(state, values, query_place.moved(TO_KEYS + stage_of(stage)), table_of(step));
        async_copy_wait<STAGES - 2>();
        sync_block();  // P and the next step are in shared memory; this step's rows are free
    };

    async_copy_wait<STAGES - 2>();
    sync_block();  // the first step and its decay are in shared memory
    announce_start<DIM_K, TILE>(p, s, plan.arrived);

    int step = 0, stage = 0;
    const auto next_stage = [&]() { stage = stage + 1 == STAGES ? 0 : stage + 1; };
    const auto prefetch = [&](bool has_queries) { load_step(step + STAGES - 1, stage == 0 ? STAGES - 1 : stage - 1, has_queries); };
    NO_UNROLL
    for (; step < warm_up; ++step, next_stage()) {
        prefetch(step + STAGES - 1 >= warm_up);
        build_table(step + 1);
        advance(step, stage);
    }
    if (step * STEP < tokens) make_score_factors(step);
    NO_UNROLL
    while (true) {
        const int end = ceil_div(find_stop(p, s, s.origin + step * STEP).token - s.origin, STEP);
        bool has_output = false;
        NO_UNROLL
        for (; step < end; ++step, next_stage()) {
            prefetch(true);
            if (has_output) finish_output(step - 1);
            const bool has_own_factors = is_per_token || is_short(step);
            if (has_own_factors) make_score_factors(step);
            build_table(step + 1);
            make_output(step, stage);
            advance(step, stage);
            has_output = true;
        }
        if (has_output) finish_output(step - 1);
        const auto stop = [&]() { return find_stop(p, s, s.origin + step * STEP - (has_output ? 1 : 0)); };
        const Target target = find_target<TILE>(p, s, stop(), plan.arrived);
        if (target.is_there) state.store(target.rows);
        if (target.waits && have_arrived(arrivals_of(p, s, TILE), plan.arrived, true, s.segments)) copy_final_state<DIM_K, TILE>(p, s);
        if (!stop().is_checkpoint) break;
    }
    if (p.segments_alone && is_builder && lane_index() == 0 && s.channel0 == 0) {
        const ExactSum sum = is_per_token ? plan.decay_sum : multiply_exactly(static_cast<float>(tokens), next_decay);
        float* to = segment_decay(p, s, s.index);
        store_global(to, sum.high);
        store_global(to + 1, sum.low);
    }
}

#define INSTANCE(name, T, DIM_K, TILE)                                                                      \
    KERNEL(name, sala_linear_prefill_params, (ScanShape<T, TILE>::THREADS), (ScanShape<T, TILE>::BLOCKS)) { \
        linear_attention_scan<T, DIM_K, TILE>(p);                                                           \
    }
#include "instances/linear_attention_scan.h"

}  // namespace SALA_VARIANT
}  // namespace sala
