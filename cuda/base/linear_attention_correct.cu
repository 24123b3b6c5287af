// Outputs of linear attention corrected by the state that their sequence begins with, where they were made from zero:
//
//     o_t += scale · e^(G_t) · Sᵀ q_t        G_t: the log decay added up to token t (sum_decay)
//
// Called once per prefill by a rank that has a part of a sequence, once the parts before have been merged into S. Grid: (spans of
// 1024 tokens × value channels / 64, heads, sequences). A block has Sᵀ as operand in registers, 16 value channels per warp:
//
//            dim_k             64 channels           64 channels
//        ┌───────────┐          ┌────────┐            ┌────────┐
//     32 │     Q     │   dim_k  │   S    │         32 │   O    │    read, corrected, written
//        └───────────┘          └────────┘            └────────┘
//
//     block    | S, e^G of the span |■
//     step n   | O n, Q n+2 ─ load ─▶| Q S | O n += scale · e^G ⊙ Q S, store |■    block barrier, n+1 is there
//
// The steps end where e^G has become 0 in f32, which is what most of a long part is under decay; unless S holds what is
// not finite, which 0 does not forget. Shared memory (dim_k 128): three stages of Q 24 KiB, e^G 4 KiB.
// Limit: bytes. q once, o twice are 768 per token and head of 128 channels that is not forgotten, against 1024 of prefill.
// Dropped: a second prefill from S (1024 bytes, and all tokens); 16-bit products e^G q (overflow of nothing, but a rounding more).
//
// Definition: docs/semantics.md#linear_correct
#include "machine/async_copy.cuh"
#include "machine/barrier.cuh"
#include "machine/element.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/tile.cuh"
#include "machine/warp.cuh"
#include "params/linear_attention.h"
#include "parts/keys/rows.cuh"
#include "parts/keys/sequence.cuh"
#include "parts/linear/fit.cuh"
#include "parts/linear/scan_state.cuh"
#include "parts/linear/state_slots.cuh"
#include "parts/linear/step_decay.cuh"
#include "parts/linear/step_output.cuh"
#include "parts/linear/step_rows.cuh"
#include "parts/status.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int THREADS = SALA_LINEAR_CORRECT_THREADS;
constexpr int CHANNELS = SALA_LINEAR_CORRECT_CHANNELS;
constexpr int SPAN = SALA_LINEAR_CORRECT_SPAN;
constexpr int STAGES = SALA_LINEAR_STAGES;
constexpr int WARPS = THREADS / WARP_SIZE;
static_assert(WARPS * 16 == CHANNELS, "a warp has 16 value channels");

template <int DIM_K>
struct CorrectPlan {
    uint16_t query[STAGES][STEP * DIM_K];
    float factor[SPAN];  // e^G
    int tokens[WARPS];   // that a warp finds worth correcting
};

// The tokens and channels of a block.
struct Span {
    int64_t first_token;
    int tokens;  // 0: there is nothing to correct
    int slot;
    int head, channel0;
};

DEVICE Span find_span(const sala_linear_correct_params& p) {
    const sala_linear_attention_params& a = p.attention;
    const int sequence = block_index_z();
    const int tiles = p.dim_v / CHANNELS;
    const int first = block_index_x() / tiles * SPAN;
    const int64_t begin = load_global(entry_of<const int>(a.cu_seqlens, sequence));
    const int64_t end = load_global(entry_of<const int>(a.cu_seqlens, sequence + 1));
    const int slot = load_slot(a.states.state_in, sequence);
    const bool fits = bounds_fit(begin, end, a.tokens, sequence) && end - begin <= p.max_seqlen;
    const bool is_slot = slot >= NO_SLOT && slot < a.states.slots;
    count_refused_once(a.status, REFUSED_LENGTHS, fits ? 0 : 1);
    count_refused_once(a.status, REFUSED_SLOTS, is_slot ? 0 : 1);
    const bool runs = fits && is_slot && slot != NO_SLOT;
    const int tokens = runs ? clamp(static_cast<int>(end - begin) - first, 0, SPAN) : 0;
    return {begin + first, tokens, slot, block_index_y(), block_index_x() % tiles * CHANNELS};
}

// The warp's 16 channels of Sᵀ, rounded, and what an f16 operand was scaled by.
template <class T, int DIM_K>
struct StateOperand {
    FragmentB<16, 16> part[DIM_K / 16];
    float back[4];  // to the scale of the lane's four columns of O
    bool is_finite;

    DEVICE explicit StateOperand(const StateRows& rows) {
        ScanState<DIM_K, 1> state;
        state.load(rows);
        bool finite = true;
        state.update([&](float x) {
            finite = finite && magnitude(x) < INFINITE;
            return x;
        });
        is_finite = !any(!finite);
        if constexpr (needs_scaling<T>) {
            const RowFits<1> fits = fit_state(state);
            state.scale_rows(fits.scale);
            UNROLL
            for (int i = 0; i < 4; ++i) back[i] = shuffle(fits.inverse[0][i / 2], lane_index() % 4 * 8 + i % 2 * 4);
        }
        UNROLL
        for (int n = 0; n < DIM_K / 16; ++n) part[n] = to_fragment_b_trans<T>(state.part[0][n], 0);
    }
};

// e^G of the span's tokens, into shared memory; one more than the last token that it corrects.
template <int DIM_K>
DEVICE int load_factors(CorrectPlan<DIM_K>& plan, const sala_linear_attention_params& a, const Span& s, bool corrects_all) {
    int end = corrects_all ? s.tokens : 0;
    NO_UNROLL
    for (int token = thread_index(); token < SPAN; token += THREADS) {
        float factor = 0.0f;
        if (token < s.tokens) {
            const float sum = load_global(row_of<const float>(a.log_decay, s.first_token + token, s.head));
            factor = sum != sum ? sum : exp2(minimum(sum, 0.0f) * LOG2_E);
            if (factor != 0.0f) end = maximum(end, token + 1);
        }
        plan.factor[token] = factor;
    }
    end = reduce_max<WARP_SIZE>(end);
    if (lane_index() == 0) plan.tokens[warp_index()] = end;
    sync_block();  // factors and ends are in shared memory
    UNROLL
    for (int warp = 0; warp < WARPS; ++warp) end = maximum(end, plan.tokens[warp]);
    return end;
}

// A lane's part of the outputs of a step: four neighbouring channels of a row of each half and side.
struct OutputWords {
    Words2 words[2][2];
};

template <class Visit>
DEVICE void visit_rows(const Visit& visit) {
    UNROLL
    for (int half = 0; half < 2; ++half) {
        UNROLL
        for (int side = 0; side < 2; ++side) visit(half, side, half * 16 + accumulator_row(2 * side));
    }
}

// A row of O as two neighbouring lanes have it in accumulators, so that the even one has the first eight channels.
DEVICE void take_neighbours(float (&four)[4], const Accumulator<16>& tile, int side) {
    const bool is_odd = lane_index() % 2 == 1;
    UNROLL
    for (int e = 0; e < 2; ++e) {
        const float low = tile.values[0][2 * side + e], high = tile.values[1][2 * side + e];
        const float other = shuffle_xor(is_odd ? low : high, 1);
        four[e] = is_odd ? other : low;
        four[2 + e] = is_odd ? high : other;
    }
}

template <class T>
DEVICE Words2 add(const Words2& words, const float (&four)[4], float factor) {
    Words2 sums;
    UNROLL
    for (int i = 0; i < 2; ++i) {
        const Pair old = unpack<T>(words[i]);
        sums[i] = pack<T>(fma(factor, four[2 * i], old.lo), fma(factor, four[2 * i + 1], old.hi));
    }
    return sums;
}

template <class T, int DIM_K>
DEVICE void linear_attention_correct(const sala_linear_correct_params& p) {
    const sala_linear_attention_params& a = p.attention;
    auto& plan = dynamic_shared<CorrectPlan<DIM_K>>();
    const Span s = find_span(p);
    if (s.tokens == 0) return;
    const StateOperand<T, DIM_K> state(state_rows(a.states, s.slot, s.head, s.channel0));
    const int tokens = load_factors(plan, a, s, !state.is_finite);

    using QueryRows = StepRows<DIM_K, THREADS>;
    const SharedTile<DIM_K> query_tile{shared_address(plan.query)};
    const FragmentPlace<DIM_K> query_place(query_tile);
    QueryRows query_rows(a.q, s.first_token, s.head, 0, QueryRows::target_in(query_tile));
    const auto load_step = [&](int step) {
        if (step * STEP < tokens) query_rows.load(step % STAGES, tokens - step * STEP);
        async_copy_commit();
    };
    const int channel = s.channel0 + warp_index() * 16 + lane_index() % 2 * 8 + lane_index() / 2 % 2 * 4;
    const auto out_at = [&](int token) {
        return reinterpret_cast<Words2*>(row_of<uint16_t>(a.out, s.first_token + token, s.head) + channel);
    };
    const auto is_corrected = [&](int token) { return token < tokens && (plan.factor[token] != 0.0f || !state.is_finite); };

    load_step(0);
    load_step(1);
    NO_UNROLL
    for (int step = 0; step * STEP < tokens; ++step) {
        OutputWords old;
        visit_rows([&](int half, int side, int row) {
            const int token = step * STEP + row;
            old.words[half][side] = is_corrected(token) ? load_global(out_at(token)) : Words2{};
        });
        async_copy_wait<STAGES - 2>();
        sync_block();  // the step's queries are in shared memory; those of the step before have been read
        load_step(step + STAGES - 1);
        const auto queries = query_place.moved(static_cast<uint32_t>(SharedTile<DIM_K>::bytes(step % STAGES * STEP)));
        Accumulator<16> product[2];
        UNROLL
        for (int half = 0; half < 2; ++half) {
            product[half].fill(0.0f);
            UNROLL
            for (int n = 0; n < DIM_K / 16; ++n) multiply<T>(product[half], load_fragment_a(queries, half * 16, n * 16), state.part[n]);
            if constexpr (needs_scaling<T>) {
                UNROLL
                for (int i = 0; i < 8; ++i) product[half].values[i / 4][i % 4] *= state.back[i / 4 * 2 + i % 2];
            }
        }
        visit_rows([&](int half, int side, int row) {
            const int token = step * STEP + row;
            float four[4];
            take_neighbours(four, product[half], side);
            if (is_corrected(token)) store_global(out_at(token), add<T>(old.words[half][side], four, a.scale * plan.factor[token]));
        });
    }
}

#define INSTANCE(name, T, DIM_K) \
    KERNEL(name, sala_linear_correct_params, THREADS, 3) { linear_attention_correct<T, DIM_K>(p); }
#include "instances/linear_attention_correct.h"

}  // namespace SALA_VARIANT
}  // namespace sala
