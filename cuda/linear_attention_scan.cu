// Linear attention over whole sequences: S ← e^g·S + k vᵀ, o = scale · Sᵀ q, in chunks of 64 tokens.
//
//     O  = scale · [ (Q Kᵀ ⊙ D) V + diag(e^G) Q S ],    D_ij = e^(G_i − G_j) for i ≥ j, else 0,    G = running sum of g in the chunk
//     S' = e^G_last · S + (K ⊙ e^(G_last − G))ᵀ V
//
// Called once a prefill or chunk for every linear layer. Grid: (value columns / DIM_V_TILE, heads, batch); a block walks its sequence
// from first to last chunk with the state in registers. Everything is computed transposed, so that each warp owns 16 value channels of
// S, V and O for the whole sequence and only P = Q Kᵀ ⊙ D is shared:
//
//                 dim_k                 tokens                     warp w:   Oᵀ = Sᵀ Qᵀ   (Sᵀ rounded to 16 bits, A operand)
//            ┌─────────────┐        ┌───────────┐                            Oᵀ += Vᵀ Pᵀ
//     warp w │ Sᵀ 16 rows  │        │ Oᵀ 16 rows│                            Sᵀ = e^G_last Sᵀ + (Vᵀ ⊙ weights) K
//            └─────────────┘        └───────────┘
//
// Shared memory (128 × 128): Q and K 2 × 16 KiB each, V 16 KiB, P 8 KiB, decay tables 2 KiB = 91 KiB; O is staged in the Q it came from.
//
//     chunk n    | Q K n+1 ─────────────── load ──────────────▶|
//                | P n  | Vᵀ to registers, Oᵀ = Sᵀ Qᵀ |■| Oᵀ += Vᵀ Pᵀ, store O | Sᵀ update |■
//                |                                      | V n+1 ──────── load ────────────▶|          ■ block barrier
//
// Limit: bytes, as long as every SM has a block: q, k, v and o once are 1 KiB a token and head, 8.0 ms for 1M tokens × 32 heads at 4.3 TB/s. The
// tensor work, 88 KFLOP a token and head without the blocks above the diagonal, takes 3.7 ms at 790 TFLOP/s, and 6 ms at the rate of mma.sync on the
// same GPU. With fewer blocks than SMs the value columns of a head are split over blocks. Each then makes P for itself, 1.14 times the work with 64
// columns and 1.42 times with 32; no bit changes. These are counts; no GPU has timed them yet. Left for later: cutting one long sequence over blocks.
// V needs one buffer because its fragments move to registers before P is done. Dropped: S through shared memory (32 KiB more traffic a
// chunk), decoupled e^(+G) e^(−G) factors (overflow), states in global memory between two passes (2.5 × the bytes).
#include "device/async_copy.cuh"
#include "device/barrier.cuh"
#include "device/decay_table.cuh"
#include "device/element.cuh"
#include "device/fit.cuh"
#include "device/machine.cuh"
#include "device/math.cuh"
#include "device/matrix.cuh"
#include "device/memory.cuh"
#include "device/state_slots.cuh"
#include "device/status.cuh"
#include "device/tile.cuh"
#include "device/tile_store.cuh"
#include "device/warp.cuh"

#include "../include/kernel_params.h"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int HALF = CHUNK / 2;
constexpr int BLOCK = 16;      // tokens of a piece of O
constexpr int WARP_ROWS = 16;  // value channels a warp owns
constexpr int REFUSED = -1;

template <int DIM_K, int DIM_V_TILE>
struct ScanPlan {
    uint16_t query[2][CHUNK * DIM_K];  // once P and Sᵀ Qᵀ are done, Oᵀ on its way out
    uint16_t key[2][CHUNK * DIM_K];
    uint16_t value[CHUNK * DIM_V_TILE];
    uint16_t scores[CHUNK * CHUNK];  // P
    DecayTable decay[2];
    PowerOfTwo score_scale[2][CHUNK];  // f16: how each half row of P was scaled to fit
};

// One sequence and head, as this block sees it.
struct Sequence {
    int64_t first_token;
    int length;
    int head;
    int column0;  // first value channel of the block
    StateSlots slots;
};

DEVICE int chunk_count(const Sequence& s) { return ceil_div(s.length, CHUNK); }
DEVICE int chunk_length(const Sequence& s, int chunk) { return minimum(s.length - chunk * CHUNK, CHUNK); }
DEVICE int64_t chunk_token(const Sequence& s, int chunk) { return s.first_token + static_cast<int64_t>(chunk) * CHUNK; }

// The sequence of this block, or one of length REFUSED.
DEVICE Sequence find_sequence(const sala_linear_attention_params& p, int dim_v_tile) {
    const int index = block_index_z();
    const int* cu_seqlens = reinterpret_cast<const int*>(p.cu_seqlens);
    const int64_t begin = load_global(cu_seqlens + index);
    const int64_t end = load_global(cu_seqlens + index + 1);
    const bool in_bounds = 0 <= begin && begin <= end && end <= p.tokens;
    const StateSlots slots = resolve_slots(p, index);
    Sequence s{begin, REFUSED, static_cast<int>(block_index_y()), static_cast<int>(block_index_x()) * dim_v_tile, slots};
    if (in_bounds && slots.valid) s.length = static_cast<int>(end - begin);
    if (s.column0 == 0 && s.head == 0 && thread_index() == 0) {
        count_refused(p.status, REFUSED_LENGTHS, in_bounds ? 0 : 1);
        count_refused(p.status, REFUSED_SLOTS, slots.refused);
    }
    return s;
}

// Starts the copy of 64 token rows; rows past the end of the sequence become zero.
template <int COLUMNS, int THREADS>
DEVICE void load_rows(SharedTile<COLUMNS> tile, uint64_t tensor, int64_t token, int64_t token_stride, int64_t offset, int rows) {
    const uint16_t* source = reinterpret_cast<const uint16_t*>(tensor) + token * token_stride + offset;
    constexpr int PIECES = COLUMNS / 8;
    UNROLL
    for (int i = 0; i < CHUNK * PIECES / THREADS; ++i) {
        const int piece = thread_index() + i * THREADS;
        const int row = piece / PIECES;
        const bool valid = row < rows;
        async_copy<16>(tile.address(row, piece % PIECES), source + (valid ? row : 0) * token_stride + piece % PIECES * 8, valid);
    }
}

// ---- P = scale · Q Kᵀ ⊙ D

// P is made in pieces of 16 × 32; the two that lie wholly above the diagonal are left out.
struct ScorePiece {
    int row0, half;
};

DEVICE ScorePiece score_piece(int index) { return index < 2 ? ScorePiece{index * 16, 0} : ScorePiece{(index / 2 + 1) * 16, index % 2}; }
constexpr int SCORE_PIECES = 6;
static_assert(CHUNK == 4 * WARP_ROWS, "score_piece counts the pieces of a 64 × 64 triangle");

// Scales a piece of P by its decay and clears what lies above the diagonal.
DEVICE void apply_decay(Accumulator<HALF>& scores, const DecayTable& table, ScorePiece piece, float scale) {
    UNROLL
    for (int n = 0; n < HALF / 8; ++n) {
        UNROLL
        for (int e = 0; e < 4; ++e) {
            const int i = piece.row0 + accumulator_row(e);
            const int j = piece.half * HALF + accumulator_col(n, e);
            scores.values[n][e] = i >= j ? scores.values[n][e] * (scale * decay_between(table, i, j)) : 0.0f;
        }
    }
}

template <class T, int DIM_K, int DIM_V_TILE, int WARPS>
DEVICE void make_scores(ScanPlan<DIM_K, DIM_V_TILE>& plan, int stage, float scale) {
    const SharedTile<DIM_K> query{shared_address(plan.query[stage])};
    const SharedTile<DIM_K> key{shared_address(plan.key[stage])};
    const SharedTile<CHUNK> tile{shared_address(plan.scores)};
    for (int index = warp_index(); index < SCORE_PIECES; index += WARPS) {
        const ScorePiece piece = score_piece(index);
        Accumulator<HALF> scores;
        scores.fill(0.0f);
        multiply_shared_nk<T, DIM_K>(scores, query, piece.row0, 0, key, piece.half * HALF, 0);
        apply_decay(scores, plan.decay[stage], piece, scale);
        if constexpr (needs_scaling<T>) {
            UNROLL
            for (int side = 0; side < 2; ++side) {
                const PowerOfTwo fit = scale_rows_to_fit(scores, side);
                if (lane_index() % 4 == 0) plan.score_scale[piece.half][piece.row0 + accumulator_row(2 * side)] = fit;
            }
        }
        store_accumulator<T>(tile, piece.row0, piece.half * HALF, scores);
    }
}

// ---- Oᵀ

// The warp's 16 value channels (rows) of the chunk's 64 tokens (columns).
struct Output {
    Accumulator<BLOCK> block[CHUNK / BLOCK];
};

// Multiplies each token by factor(token).
template <class Factor>
DEVICE void scale_tokens(Output& out, const Factor& factor) {
    UNROLL
    for (int b = 0; b < CHUNK / BLOCK; ++b) {
        UNROLL
        for (int n = 0; n < BLOCK / 8; ++n) {
            UNROLL
            for (int e = 0; e < 2; ++e) {
                const float f = factor(b * BLOCK + accumulator_col(n, e));
                out.block[b].values[n][e] *= f;
                out.block[b].values[n][e + 2] *= f;
            }
        }
    }
}

template <class T, int DIM_K>
DEVICE void multiply_state(Output& out, const Accumulator<DIM_K>& state, SharedTile<DIM_K> query) {
    const FragmentA<DIM_K> operand = to_fragment_a<T>(state);
    UNROLL
    for (int b = 0; b < CHUNK / BLOCK; ++b) {
        out.block[b].fill(0.0f);
        multiply_nk<T>(out.block[b], operand, query, b * BLOCK, 0);
    }
}

// Oᵀ = Sᵀ Qᵀ, without decay. In f16, rows of Sᵀ are scaled to fit the operand and their products scaled back.
template <class T, int DIM_K>
DEVICE void read_state(Output& out, const Accumulator<DIM_K>& state, SharedTile<DIM_K> query) {
    if constexpr (needs_scaling<T>) {
        Accumulator<DIM_K> scaled = state;
        const PowerOfTwo upper = scale_rows_to_fit(scaled, 0);
        const PowerOfTwo lower = scale_rows_to_fit(scaled, 1);
        multiply_state<T>(out, scaled, query);
        UNROLL
        for (int b = 0; b < CHUNK / BLOCK; ++b) out.block[b].scale_rows(upper.inverse, lower.inverse);
    } else {
        multiply_state<T>(out, state, query);
    }
}

// Oᵀ += Vᵀ Pᵀ over one half of the keys, without the blocks of P above the diagonal, which are zero or were never made.
template <class T>
DEVICE void add_scores(Output& out, const FragmentA<CHUNK>& value, SharedTile<CHUNK> scores, int half) {
    UNROLL
    for (int k = half * HALF / BLOCK; k < (half + 1) * HALF / BLOCK; ++k) {
        FragmentA<BLOCK> keys;
        UNROLL
        for (int r = 0; r < 4; ++r) keys.registers[0][r] = value.registers[k][r];
        UNROLL
        for (int b = k; b < CHUNK / BLOCK; ++b) multiply_nk<T>(out.block[b], keys, scores, b * BLOCK, k * BLOCK);
    }
}

template <class T, int DIM_K, int DIM_V_TILE>
DEVICE void finish_output(Output& out, const FragmentA<CHUNK>& value, const ScanPlan<DIM_K, DIM_V_TILE>& plan) {
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

// Of eight tile rows, the one that a pair of lanes reads first (pass 0) or second: rows 0, 3, 4, 7, then 1, 2, 5, 6. The two chunks of
// four such rows lie in eight different banks whatever the width of the tile.
DEVICE int row_of_pair(int pair, int pass) { return 2 * pair + ((pair ^ pass) & 1); }

// Writes the warp's 16 channels of O through shared memory, 32 bytes a token.
template <class T, int DIM_V_TILE>
DEVICE void store_output(const Output& out, SharedTile<DIM_V_TILE> stage, const sala_linear_attention_params& p, const Sequence& s,
                         int chunk) {
    using Piece = Vector<uint32_t, 4>;
    const int channel = warp_index() * WARP_ROWS;
    UNROLL
    for (int b = 0; b < CHUNK / BLOCK; ++b) store_accumulator_trans<T>(stage, b * BLOCK, channel, out.block[b]);
    sync_warp();  // the warp's channels are in shared memory

    const int length = chunk_length(s, chunk);
    const int64_t token = chunk_token(s, chunk);
    const int lane = lane_index();
    uint16_t* to = reinterpret_cast<uint16_t*>(p.out) + token * p.out_token_stride + s.head * p.out_head_stride + s.column0 + channel;
    UNROLL
    for (int i = 0; i < CHUNK / 16; ++i) {
        const int row = i * 16 + lane / 16 * 8 + row_of_pair(lane / 2 % 4, lane / 8 % 2);
        const Piece piece = load_shared<Piece>(stage.address(row, channel / 8 + lane % 2));
        if (row < length) store_global(reinterpret_cast<Piece*>(to + row * p.out_token_stride + lane % 2 * 8), piece);
    }
}

// ---- S

// Sᵀ = e^G_last·Sᵀ + (Vᵀ ⊙ weights) K.
template <class T, int DIM_K>
DEVICE void update_state(Accumulator<DIM_K>& state, FragmentA<CHUNK>& value, SharedTile<DIM_K> key, const DecayTable& table) {
    const StateDecay decay = table.chunk;
    UNROLL
    for (int n = 0; n < DIM_K / 8; ++n) {
        UNROLL
        for (int e = 0; e < 4; ++e) state.values[n][e] = decayed(decay, state.values[n][e]);
    }
    UNROLL
    for (int k = 0; k < CHUNK / 16; ++k) {
        UNROLL
        for (int r = 0; r < 4; ++r) {
            const int j = k * 16 + r / 2 * 8 + lane_index() % 4 * 2;
            const Pair v = unpack<T>(value.registers[k][r]);
            value.registers[k][r] = pack<T>(v.lo * table.to_state[j], v.hi * table.to_state[j + 1]);
        }
    }
    multiply_kn<T>(state, value, key, 0, 0);
}

// The warp's share of the state in the pool, one element of the accumulator at a time.
template <int DIM_K, class Visit>
DEVICE void visit_state(const sala_linear_attention_params& p, const Sequence& s, int slot, const Visit& visit) {
    const int64_t stride_v = p.state_is_vk ? p.state_row_stride : 1;
    const int64_t stride_k = p.state_is_vk ? 1 : p.state_row_stride;
    float* rows = state_of(p, slot, s.head) + (s.column0 + warp_index() * WARP_ROWS) * stride_v;
    UNROLL
    for (int n = 0; n < DIM_K / 8; ++n) {
        UNROLL
        for (int e = 0; e < 4; ++e) visit(n, e, rows + accumulator_row(e) * stride_v + accumulator_col(n, e) * stride_k);
    }
}

// ---- the kernel

template <class T, int DIM_K, int DIM_V_TILE>
DEVICE void linear_attention_scan(const sala_linear_attention_params& p) {
    constexpr int WARPS = DIM_V_TILE / WARP_ROWS;
    constexpr int THREADS = WARPS * 32;
    static_assert(DIM_V_TILE <= DIM_K, "O is staged where Q was");
    static_assert(sizeof(ScanPlan<DIM_K, DIM_V_TILE>) == 512 * DIM_K + 128 * DIM_V_TILE + 8192 + 2 * 1032 + 1024,
                  "the launch asks for this");

    const Sequence s = find_sequence(p, DIM_V_TILE);
    if (s.length == REFUSED) return;
    auto& plan = dynamic_shared<ScanPlan<DIM_K, DIM_V_TILE>>();
    const SharedTile<DIM_V_TILE> value_tile{shared_address(plan.value)};

    const auto load_queries_and_keys = [&](int chunk) {
        const int64_t token = chunk_token(s, chunk);
        const int rows = chunk_length(s, chunk);
        const SharedTile<DIM_K> query{shared_address(plan.query[chunk % 2])};
        const SharedTile<DIM_K> key{shared_address(plan.key[chunk % 2])};
        load_rows<DIM_K, THREADS>(query, p.q, token, p.q_token_stride, s.head * p.q_head_stride, rows);
        load_rows<DIM_K, THREADS>(key, p.k, token, p.k_token_stride, s.head * p.k_head_stride, rows);
    };
    const auto load_values = [&](int chunk) {
        const int64_t token = chunk_token(s, chunk);
        load_rows<DIM_V_TILE, THREADS>(value_tile, p.v, token, p.v_token_stride, s.head * p.v_head_stride + s.column0,
                                       chunk_length(s, chunk));
    };

    const int chunks = chunk_count(s);
    if (chunks > 0) {
        load_queries_and_keys(0);
        load_values(0);
        if (warp_index() == WARPS - 1) build_decay_table(plan.decay[0], p, s.first_token, chunk_length(s, 0), s.head);
    }
    Accumulator<DIM_K> state;
    state.fill(0.0f);
    if (s.slots.in != NO_SLOT) visit_state<DIM_K>(p, s, s.slots.in, [&](int n, int e, float* at) { state.values[n][e] = load_global(at); });

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
        FragmentA<CHUNK> value = load_fragment_a_trans<CHUNK>(value_tile, 0, warp_index() * WARP_ROWS);
        Output out;
        read_state<T>(out, state, query);
        scale_tokens(out, [&](int i) { return plan.decay[stage].from_state[i]; });
        sync_block();  // P is in shared memory; V is in registers, Q is read

        if (chunk + 1 < chunks) load_values(chunk + 1);
        finish_output<T>(out, value, plan);
        store_output<T>(out, SharedTile<DIM_V_TILE>{query.base}, p, s, chunk);
        update_state<T>(state, value, key, plan.decay[stage]);
    }
    if (s.slots.out != NO_SLOT)
        visit_state<DIM_K>(p, s, s.slots.out, [&](int n, int e, float* at) { store_global(at, state.values[n][e]); });
}

#define INSTANCE(name, T, DIM_K, DIM_V_TILE) \
    KERNEL(name, sala_linear_attention_params, DIM_V_TILE * 2, 1) { linear_attention_scan<T, DIM_K, DIM_V_TILE>(p); }
#include "instances/linear_attention_scan.h"

}  // namespace SALA_VARIANT
}  // namespace sala
