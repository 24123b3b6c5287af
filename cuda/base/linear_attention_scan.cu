// Linear attention over whole sequences: S ← e^g·S + k vᵀ, o = scale · Sᵀ q, in chunks of 64 tokens.
//
//     O  = scale · [ (Q Kᵀ ⊙ D) V + diag(e^G) Q S ],    D_ij = e^(G_i − G_j) for i ≥ j, else 0,    G = running sum of g in the chunk
//     S' = e^G_last · S + (K ⊙ e^(G_last − G))ᵀ V
//
// Called once per prefill or prefill step for every linear layer. Grid: (value columns / DIM_V_TILE, heads,
// batch); a block walks its sequence from first to last chunk with the state in registers. Everything is
// computed transposed, so that each warp owns 16 value channels of S, V and O for the whole sequence and only
// P = Q Kᵀ ⊙ D is shared:
//
//                 dim_k                 tokens                     warp w:   Oᵀ = Sᵀ Qᵀ   (Sᵀ rounded to 16 bits, A operand)
//            ┌─────────────┐        ┌───────────┐                            Oᵀ += Vᵀ Pᵀ
//     warp w │ Sᵀ 16 rows  │        │ Oᵀ 16 rows│                            Sᵀ = e^G_last Sᵀ + (Vᵀ ⊙ weights) K
//            └─────────────┘        └───────────┘
//
// Shared memory (128 × 128): Q and K 2 × 16 KiB each, V 16 KiB, P 8 KiB, decay tables 2 KiB, factors of f16 1
// KiB = 91 KiB; O is staged in the Q it came from. V needs one buffer because its fragments move to registers
// before P is done.
//
//     chunk n    | Q K n+1 ─────────────── load ──────────────▶|
//                | P n  | Vᵀ to registers, Oᵀ = Sᵀ Qᵀ |■| Oᵀ += Vᵀ Pᵀ, store O | Sᵀ update |■
//                |                                      | V n+1 ──────── load ────────────▶|          ■ block barrier
//
// Limit: bytes, as long as every SM has a block. All that follows is calculated, not measured; no GPU has
// timed it yet: q, k, v and o once are 1 KiB per token and head, 8.0 ms for 1M tokens × 32 heads at 4.3 TB/s.
// The tensor work, 88 KFLOP per token and head without the pieces above the diagonal, takes 3.7 ms at 790
// TFLOP/s, and 6 ms at the rate of mma.sync on the same GPU. With fewer blocks than SMs the value columns of
// a head are split over blocks. Each then makes P for itself, 1.14 times the work with 64 columns and 1.42
// times with 32; no bit changes. Left for later: cutting one long sequence over blocks.
// Dropped: S through shared memory (32 KiB more traffic per chunk), decoupled e^(+G) e^(−G) factors
// (overflow), states in global memory between two passes (2.5 × the bytes).
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
#include "parts/linear/chunk_output.cuh"
#include "parts/linear/chunk_scores.cuh"
#include "parts/linear/decay_table.cuh"
#include "parts/linear/fit.cuh"
#include "parts/linear/log_decay.cuh"
#include "parts/linear/state_slots.cuh"
#include "parts/status.cuh"
#include "parts/tile_store.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int CHUNK = SALA_LINEAR_CHUNK;
constexpr int HALF = CHUNK / 2;
constexpr int WARP_CHANNELS = SALA_LINEAR_SCAN_WARP_CHANNELS;
static_assert(WARP_CHANNELS == 16, "the value channels of a warp are the rows of a product");

template <int DIM_K, int DIM_V_TILE>
struct ScanPlan {
    uint16_t query[2][CHUNK * DIM_K];  // once P and Sᵀ Qᵀ are done, Oᵀ on its way out
    uint16_t key[2][CHUNK * DIM_K];
    uint16_t value[CHUNK * DIM_V_TILE];
    uint16_t scores[CHUNK * CHUNK];  // P
    DecayTable decay[2];
    PowerOfTwo score_scale[2][CHUNK];  // f16: how each half of a row of P was scaled to fit
};

// One sequence and head, as this block sees it.
struct ScanSequence {
    int64_t first_token;
    int length;
    bool runs;
    int head, head_kv;
    int channel0;  // first value channel of the block
    StateSlots slots;
};

DEVICE int chunk_count(const ScanSequence& s) { return ceil_div(s.length, CHUNK); }
DEVICE int chunk_length(const ScanSequence& s, int chunk) { return minimum(s.length - chunk * CHUNK, CHUNK); }
DEVICE int64_t chunk_token(const ScanSequence& s, int chunk) { return s.first_token + static_cast<int64_t>(chunk) * CHUNK; }

// The sequence of this block; one whose bounds or slots are refused has no tokens to scan.
DEVICE ScanSequence find_scan_sequence(const sala_linear_attention_params& p, int dim_v_tile) {
    const int index = block_index_z();
    const int64_t begin = load_global(entry_of<const int>(p.cu_seqlens, index));
    const int64_t end = load_global(entry_of<const int>(p.cu_seqlens, index + 1));
    const bool in_bounds = bounds_fit(begin, end, p.tokens, index);
    const StateSlots slots = resolve_slots(p.states, index);
    count_refused_once(p.status, REFUSED_LENGTHS, in_bounds ? 0 : 1);
    count_refused_once(p.status, REFUSED_SLOTS, slots.refused);
    const int length = in_bounds ? static_cast<int>(end - begin) : 0;
    const int head = block_index_y();
    return {begin, length, in_bounds && slots.valid, head, head / p.group, block_index_x() * dim_v_tile, slots};
}

// What a sequence gives whose slots are refused.
DEVICE void store_zeros(const sala_linear_attention_params& p, const ScanSequence& s, int dim_v_tile) {
    if (thread_index() >= dim_v_tile) return;
    uint16_t* to = row_of<uint16_t>(p.out, s.first_token, s.head) + s.channel0 + thread_index();
    NO_UNROLL
    for (int i = 0; i < s.length; ++i) store_global(to + i * p.out.token_stride, uint16_t{0});
}

// Starts the copy of a chunk's rows of one head, the COLUMNS channels from `channel0` on; rows past the end
// of the sequence become zero.
template <int THREADS, int COLUMNS>
DEVICE void load_chunk(SharedTile<COLUMNS> tile, const sala_rows& tensor, const ScanSequence& s, int head, int channel0, int chunk) {
    constexpr int VECTORS = SharedTile<COLUMNS>::VECTORS;
    const int length = chunk_length(s, chunk);
    const uint16_t* first = row_of<const uint16_t>(tensor, chunk_token(s, chunk), head) + channel0;
    UNROLL
    for (int i = 0; i < CHUNK * VECTORS / THREADS; ++i) {
        const int row = (thread_index() + i * THREADS) / VECTORS;
        const int vector = (thread_index() + i * THREADS) % VECTORS;
        const bool valid = row < length;
        async_copy<16>(tile.address(row, vector), first + (valid ? row : 0) * tensor.token_stride + vector * 8, valid);
    }
}

// ---- P = scale · Q Kᵀ ⊙ D

template <class T, int DIM_K, int DIM_V_TILE, int WARPS>
DEVICE void make_scores(ScanPlan<DIM_K, DIM_V_TILE>& plan, int stage, float scale) {
    const SharedTile<DIM_K> query{shared_address(plan.query[stage])};
    const SharedTile<DIM_K> key{shared_address(plan.key[stage])};
    const SharedTile<CHUNK> tile{shared_address(plan.scores)};
    for (int index = warp_index(); index < ScoreStrip::COUNT; index += WARPS) {
        const ScoreStrip strip = score_strip(index);
        Accumulator<HALF> scores;
        scores.fill(0.0f);
        multiply_shared_nk<T, DIM_K>(scores, query, strip.row0, 0, key, strip.half * HALF, 0);
        apply_decay(scores, plan.decay[stage], strip, scale);
        if constexpr (needs_scaling<T>) {
            UNROLL
            for (int side = 0; side < 2; ++side) {
                const PowerOfTwo fit = scale_rows_to_fit(scores, side);
                if (lane_index() % 4 == 0) plan.score_scale[strip.half][strip.row0 + accumulator_row(2 * side)] = fit;
            }
        }
        store_accumulator<T>(tile, strip.row0, strip.half * HALF, scores);
    }
}

// ---- Oᵀ

template <class T, int DIM_K, int DIM_V_TILE>
DEVICE void finish_output(ChunkOutput& out, const FragmentA<CHUNK>& value, const ScanPlan<DIM_K, DIM_V_TILE>& plan) {
    const SharedTile<CHUNK> scores{shared_address(plan.scores)};
    if constexpr (needs_scaling<T>) {
        const auto& fit = plan.score_scale;  // rows of the first half of the tokens have no second half of keys
        scale_tokens(out, [&](int i) { return fit[0][i].scale; });
        add_scores<T>(out, value, scores, 0);
        scale_tokens(out, [&](int i) { return i < HALF ? fit[0][i].inverse : fit[0][i].inverse * fit[1][i].scale; });
        add_scores<T>(out, value, scores, 1);
        scale_tokens(out, [&](int i) { return i < HALF ? 1.0f : fit[1][i].inverse; });
    } else {
        add_scores<T>(out, value, scores, 0);
        add_scores<T>(out, value, scores, 1);
    }
}

// Of eight tile rows, the one that a pair of lanes reads first (second = 0) or second: rows 0, 3, 4, 7, then
// 1, 2, 5, 6. The two vectors of four such rows lie in eight different banks whatever the width of the tile.
DEVICE int row_of_pair(int pair, int second) { return 2 * pair + ((pair ^ second) & 1); }

// Writes the warp's 16 channels of O through shared memory, 32 bytes per token.
template <class T, int DIM_V_TILE>
DEVICE void store_chunk(const ChunkOutput& out, SharedTile<DIM_V_TILE> stage, const sala_linear_attention_params& p, const ScanSequence& s,
                        int chunk) {
    constexpr int PIECE = ChunkOutput::PIECE;
    const int channel = warp_index() * WARP_CHANNELS;
    UNROLL
    for (int b = 0; b < ChunkOutput::PIECES; ++b) store_accumulator_trans<T>(stage, b * PIECE, channel, out.piece[b]);
    sync_warp();  // the warp's channels are in shared memory

    const int length = chunk_length(s, chunk);
    const int lane = lane_index();
    uint16_t* to = row_of<uint16_t>(p.out, chunk_token(s, chunk), s.head) + s.channel0 + channel;
    UNROLL
    for (int i = 0; i < CHUNK / 16; ++i) {
        const int row = i * 16 + lane / 16 * 8 + row_of_pair(lane / 2 % 4, lane / 8 % 2);
        const Words4 vector = load_shared<Words4>(stage.address(row, channel / 8 + lane % 2));
        if (row < length) store_global(reinterpret_cast<Words4*>(to + row * p.out.token_stride + lane % 2 * 8), vector);
    }
}

// ---- S

// Two neighbouring tokens of Vᵀ times what decay leaves of them at the chunk's end.
template <class T>
DEVICE Pair decayed_values(const FragmentA<CHUNK>& value, const DecayTable& table, int k, int r) {
    const int j = k * 16 + r / 2 * 8 + lane_index() % 4 * 2;
    const Pair v = unpack<T>(value.registers[k][r]);
    return {v.lo * table.to_state[j], v.hi * table.to_state[j + 1]};
}

// The powers of two that bring the lane's two rows of Vᵀ ⊙ weights into the range of the operand.
template <class T>
DEVICE void fit_decayed_values(PowerOfTwo (&fit)[2], const FragmentA<CHUNK>& value, const DecayTable& table) {
    float largest[2] = {0.0f, 0.0f};
    UNROLL
    for (int k = 0; k < CHUNK / 16; ++k) {
        UNROLL
        for (int r = 0; r < 4; ++r) {
            const Pair v = decayed_values<T>(value, table, k, r);
            largest[r % 2] = maximum(largest[r % 2], maximum(maximum(v.lo, -v.lo), maximum(v.hi, -v.hi)));
        }
    }
    reduce_max_each<4>(largest);
    UNROLL
    for (int side = 0; side < 2; ++side) fit[side] = power_of_two_to_fit(largest[side]);
}

// Sᵀ = e^G_last·Sᵀ + (Vᵀ ⊙ weights) K. In f16 the rows of Vᵀ ⊙ weights are scaled to fit the operand, the rows of
// Sᵀ with them, and the sums scaled back.
template <class T, int DIM_K>
DEVICE void update_state(Accumulator<DIM_K>& state, FragmentA<CHUNK>& value, SharedTile<DIM_K> key, const DecayTable& table) {
    const StateDecay decay = table.chunk;
    UNROLL
    for (int n = 0; n < DIM_K / 8; ++n) {
        UNROLL
        for (int e = 0; e < 4; ++e) state.values[n][e] = decayed(decay, state.values[n][e]);
    }
    PowerOfTwo fit[2] = {{1.0f, 1.0f}, {1.0f, 1.0f}};
    if constexpr (needs_scaling<T>) {
        fit_decayed_values<T>(fit, value, table);
        state.scale_rows(fit[0].scale, fit[1].scale);
    }
    UNROLL
    for (int k = 0; k < CHUNK / 16; ++k) {
        UNROLL
        for (int r = 0; r < 4; ++r) {
            Pair v = decayed_values<T>(value, table, k, r);
            if constexpr (needs_scaling<T>) v = {v.lo * fit[r % 2].scale, v.hi * fit[r % 2].scale};
            value.registers[k][r] = pack<T>(v.lo, v.hi);
        }
    }
    multiply_kn<T>(state, value, key, 0, 0);
    if constexpr (needs_scaling<T>) state.scale_rows(fit[0].inverse, fit[1].inverse);
}

// The warp's share of the state in the pool, one element of the accumulator at a time.
template <int DIM_K, class Visit>
DEVICE void visit_state(const sala_states& states, const ScanSequence& s, int slot, const Visit& visit) {
    const int64_t stride_v = states.is_vk ? states.row_stride : 1;
    const int64_t stride_k = states.is_vk ? 1 : states.row_stride;
    float* rows = state_of(states, slot, s.head) + (s.channel0 + warp_index() * WARP_CHANNELS) * stride_v;
    UNROLL
    for (int n = 0; n < DIM_K / 8; ++n) {
        UNROLL
        for (int e = 0; e < 4; ++e) visit(n, e, rows + accumulator_row(e) * stride_v + accumulator_col(n, e) * stride_k);
    }
}

// ---- the kernel

template <class T, int DIM_K, int DIM_V_TILE>
DEVICE void linear_attention_scan(const sala_linear_attention_params& p) {
    constexpr int WARPS = DIM_V_TILE / WARP_CHANNELS;
    constexpr int THREADS = WARPS * WARP_SIZE;
    static_assert(DIM_V_TILE <= DIM_K, "O is staged where Q was");

    const ScanSequence s = find_scan_sequence(p, DIM_V_TILE);
    if (!s.runs) {
        store_zeros(p, s, DIM_V_TILE);
        return;
    }
    auto& plan = dynamic_shared<ScanPlan<DIM_K, DIM_V_TILE>>();
    const SharedTile<DIM_V_TILE> value_tile{shared_address(plan.value)};

    const auto load_queries_and_keys = [&](int chunk) {
        load_chunk<THREADS>(SharedTile<DIM_K>{shared_address(plan.query[chunk % 2])}, p.q, s, s.head, 0, chunk);
        load_chunk<THREADS>(SharedTile<DIM_K>{shared_address(plan.key[chunk % 2])}, p.k, s, s.head_kv, 0, chunk);
    };
    const auto load_values = [&](int chunk) { load_chunk<THREADS>(value_tile, p.v, s, s.head_kv, s.channel0, chunk); };

    const int chunks = chunk_count(s);
    if (chunks > 0) {
        load_queries_and_keys(0);
        load_values(0);
        if (warp_index() == WARPS - 1) build_decay_table(plan.decay[0], p, s.first_token, chunk_length(s, 0), s.head);
    }
    Accumulator<DIM_K> state;
    state.fill(0.0f);
    if (s.slots.in != NO_SLOT)
        visit_state<DIM_K>(p.states, s, s.slots.in, [&](int n, int e, float* at) { state.values[n][e] = load_global(at); });

    NO_UNROLL
    for (int chunk = 0; chunk < chunks; ++chunk) {
        const int stage = chunk % 2;
        const SharedTile<DIM_K> query{shared_address(plan.query[stage])};
        const SharedTile<DIM_K> key{shared_address(plan.key[stage])};
        async_copy_commit();
        async_copy_wait<0>();
        sync_block();  // this chunk's Q, K, V and decay are in shared memory; the last chunk's Q, K and P are free

        if (chunk + 1 < chunks) load_queries_and_keys(chunk + 1);
        make_scores<T, DIM_K, DIM_V_TILE, WARPS>(plan, stage, p.scale);
        if (chunk + 1 < chunks && warp_index() == WARPS - 1)
            build_decay_table(plan.decay[1 - stage], p, chunk_token(s, chunk + 1), chunk_length(s, chunk + 1), s.head);
        FragmentA<CHUNK> value = load_fragment_a_trans<CHUNK>(value_tile, 0, warp_index() * WARP_CHANNELS);
        ChunkOutput out;
        read_state<T>(out, state, query);
        scale_tokens(out, [&](int i) { return plan.decay[stage].from_state[i]; });
        sync_block();  // P is in shared memory; V is in registers, Q is read

        if (chunk + 1 < chunks) load_values(chunk + 1);
        finish_output<T>(out, value, plan);
        store_chunk<T>(out, SharedTile<DIM_V_TILE>{query.base}, p, s, chunk);
        update_state<T>(state, value, key, plan.decay[stage]);
    }
    if (s.slots.out != NO_SLOT)
        visit_state<DIM_K>(p.states, s, s.slots.out, [&](int n, int e, float* at) { store_global(at, state.values[n][e]); });
}

#define INSTANCE(name, T, DIM_K, DIM_V_TILE)                                                \
    KERNEL(name, sala_linear_attention_params, DIM_V_TILE / WARP_CHANNELS * WARP_SIZE, 1) { \
        linear_attention_scan<T, DIM_K, DIM_V_TILE>(p);                                     \
    }
#include "instances/linear_attention_scan.h"

}  // namespace SALA_VARIANT
}  // namespace sala
