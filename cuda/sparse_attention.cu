// Attention of every query token over the key blocks that its list names, or over all of them: O = softmax(f·s·q Kᵀ) V, LSE = ln Σ exp.
//
// Called once a prefill, chunk or decode step for every sparse layer. Grid: (tiles of query tokens, kv heads, batch). A tile is eight warps of
// 16 rows, and a row is one query head of one token: at 16 heads a kv head a warp is one token; smaller groups put several tokens into
// a warp, larger ones take two to four warps a token. The lists of a tile's tokens overlap, so each block of their union is loaded once:
//
//     lists                      union            warp = token:   S = Q Kᵀ   (Q in registers, 16 × 64)
//     token 0:  0 3 5 6   ┐                                       P = softmax weights, rounded to 16 bits
//     token 1:  0 3 6 7   ├──▶  0 3 5 6 7  ──▶                    O = a·O + P V
//     …                   ┘                       a warp skips what none of its tokens listed
//
// A list means a set, in any order, with repeats and −1. Each token has a set of bits in shared memory, one for every 32 keys, and the tile has
// the union. All warps walk the union in ascending order, 64 keys a step. Where a sequence is longer than the bits (see SET_WORDS), the walk takes
// it a window at a time. A token's own blocks always come in the same order and the same pieces, and a row's softmax looks at nothing but the
// row: its bits do not depend on the tile, the chunk or the batch.
//
// Shared memory: K and V 2 × 64 × dim each, 64 KiB at dim 128; sets 34 KiB; 98 KiB in all.
//
//     step n    | K V n+1 ──────────────── load ────────────────▶|
//               | S n | weights n | O n                           ■          ■ block barrier
//
// Limit: the tensor cores, with one block an SM (registers): 2 · 2 · 64 · dim · 16 FLOP a warp and step. Loads of 32 KiB a step are shared by
// the tokens of the tile and run a whole step ahead. Dropped: Q in shared memory (a quarter more shared-memory traffic, and its 32 KiB hold the
// sets instead); two tokens a warp (spills at dim 128); a sorted list of the union (a pass over shared memory that the walk does not need).
#include "device/async_copy.cuh"
#include "device/atomic.cuh"
#include "device/barrier.cuh"
#include "device/element.cuh"
#include "device/machine.cuh"
#include "device/math.cuh"
#include "device/memory.cuh"
#include "device/online_softmax.cuh"
#include "device/sequence.cuh"
#include "device/status.cuh"
#include "device/tile.cuh"
#include "device/warp.cuh"

#include "../include/kernel_params.h"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int WARPS = 8;
constexpr int THREADS = WARPS * WARP_SIZE;
constexpr int WARP_ROWS = 16;
constexpr int STEP = 64;        // keys of a step
constexpr int CELL = 32;        // keys of a bit in a set: the smallest block
constexpr int WORD_CELLS = 32;  // bits of a word
constexpr int WORD_STEPS = WORD_CELLS * CELL / STEP;
constexpr int SET_WORDS = 8704;
constexpr int NO_STEP = -1;

template <int DIM>
struct AttentionPlan {
    uint16_t key[2][STEP * DIM];
    uint16_t value[2][STEP * DIM];
    uint32_t sets[SET_WORDS];  // the union of the tile, then one set a token, each of a window's words
};
static_assert(sizeof(AttentionPlan<64>) == 67584 && sizeof(AttentionPlan<128>) == 100352, "what the host asks for; every GPU has 101376");

// The tokens of one block, and what their sequence and head have in common.
struct Tile {
    SequenceRange sequence;
    int head_kv;
    int first_row;  // of the sequence's queries
    int tokens;     // 0: nothing to do
    bool dense;

    DEVICE int last_position() const { return sequence.position(first_row + tokens - 1); }
    DEVICE int64_t token(int index) const { return sequence.first_query + first_row + index; }
};

DEVICE Tile find_tile(const sala_sparse_attention_params& p) {
    const SequenceRange sequence = find_sequence(p.sequences, block_index_z());
    if (!sequence.valid && block_index_x() == 0 && block_index_y() == 0 && thread_index() == 0) count_refused(p.status, REFUSED_LENGTHS, 1);
    // The last tile sees the most keys when attention is dense, so it goes first.
    const int index = ceil_div(sequence.queries, p.tile_tokens) - 1 - block_index_x();
    const int first_row = index * p.tile_tokens;
    const bool dense = p.block_indices == 0 || sequence.switch_len < p.sequences.dense_len;
    const int tokens = index < 0 ? 0 : minimum(sequence.queries - first_row, p.tile_tokens);
    return {sequence, block_index_y(), first_row, tokens, dense};
}

// The query row that the lane's accumulator row 8·side + lane / 4 stands for.
struct Row {
    int token;  // of the tile
    int head;   // of the group
    bool exists;
};

DEVICE Row find_row(const sala_sparse_attention_params& p, const Tile& tile, int side) {
    const int heads = minimum(p.group, WARP_ROWS);  // of one token in this warp
    const int row = accumulator_row(2 * side);
    const int token = warp_index() / p.warps_a_token * p.tokens_a_warp + row / heads;
    const int head = warp_index() % p.warps_a_token * WARP_ROWS + row % heads;
    return {token, head, row < heads * p.tokens_a_warp && head < p.group && token < tile.tokens};
}

// ---- sets of blocks

// The part of a sequence that the sets describe at one time, in words of 1024 keys.
struct Window {
    int first, words;
};

DEVICE int window_capacity(const sala_sparse_attention_params& p) { return SET_WORDS / (p.tile_tokens + 1); }

DEVICE uint32_t* union_set(uint32_t (&sets)[SET_WORDS]) { return sets; }
DEVICE uint32_t* token_set(uint32_t (&sets)[SET_WORDS], const Window& window, int token) { return sets + (token + 1) * window.words; }

DEVICE void clear_sets(uint32_t (&sets)[SET_WORDS], const Window& window, int tokens) {
    for (int i = thread_index(); i < (tokens + 1) * window.words; i += THREADS) sets[i] = 0;
}

// Adds to the sets what the tokens' lists name in the window. Blocks that lie wholly after a token are left out. Returns how many of the entries
// seen by this thread name no block of the sequence.
DEVICE int insert_lists(uint32_t (&sets)[SET_WORDS], const sala_sparse_attention_params& p, const Tile& tile, const Window& window) {
    const int blocks = ceil_div(tile.sequence.keys, p.block_size);
    const int cells = p.block_size / CELL;
    const uint32_t bits = (1u << cells) - 1;
    int refused = 0;
    for (int i = thread_index(); i < tile.tokens * p.list_len; i += THREADS) {
        const int token = i / p.list_len;
        const int position = tile.sequence.position(tile.first_row + token);
        const int* list =
            reinterpret_cast<const int*>(p.block_indices) + tile.token(token) * p.list_token_stride + tile.head_kv * p.list_head_stride;
        const int block = load_global(list + i % p.list_len);
        if (position < 0 || block == -1) continue;
        if (block < 0 || block >= blocks) {
            refused += 1;
            continue;
        }
        const int word = block * cells / WORD_CELLS - window.first;
        if (block > position / p.block_size || word < 0 || word >= window.words) continue;
        const uint32_t mask = bits << (block * cells % WORD_CELLS);
        atomic_or_shared(shared_address(token_set(sets, window, token) + word), mask);
        atomic_or_shared(shared_address(union_set(sets) + word), mask);
    }
    return refused;
}

// Walks the steps of a window in ascending order: those of the union, or all of them. Every warp walks by itself and finds the same ones.
struct StepWalk {
    const uint32_t* words;  // the union; null: dense
    Window window;
    int end;  // dense: the step after the last

    int word;            // dense: the next step. Otherwise the word that `bits` came from
    int group;           // first of the 32 words that the warp's lanes hold
    uint32_t lane_word;  // this lane's word of the group
    uint32_t nonempty;   // lanes whose words are still to come
    uint32_t bits;       // what is left of the current word
};

DEVICE StepWalk start_walk(const uint32_t* words, const Window& window, int end) {
    StepWalk walk{words, window, end, 0, -WARP_SIZE, 0, 0, 0};
    return walk;
}

DEVICE int next_step(StepWalk& walk) {
    if (walk.words == nullptr) return walk.word < walk.end ? walk.word++ : NO_STEP;
    while (walk.bits == 0) {
        while (walk.nonempty == 0) {
            walk.group += WARP_SIZE;
            if (walk.group >= walk.window.words) return NO_STEP;
            const int mine = walk.group + lane_index();
            walk.lane_word = mine < walk.window.words ? walk.words[mine] : 0;
            walk.nonempty = ballot(walk.lane_word != 0);
        }
        const int lane = find_first_set(walk.nonempty) - 1;
        walk.nonempty &= walk.nonempty - 1;
        walk.word = walk.group + lane;
        walk.bits = shuffle(walk.lane_word, lane);
    }
    constexpr int STEP_CELLS = STEP / CELL;
    const int step = (find_first_set(walk.bits) - 1) / STEP_CELLS;
    walk.bits &= ~(((1u << STEP_CELLS) - 1) << (step * STEP_CELLS));
    return (walk.window.first + walk.word) * WORD_STEPS + step;
}

// ---- what a row sees

// The lane's two rows against the keys of one step.
struct Visibility {
    uint32_t cells[2];  // bit i: the row listed keys [32 i, 32 i + 32)
    int last[2];        // last key that is not in the row's future
};

DEVICE Visibility find_visibility(uint32_t (&sets)[SET_WORDS], const Window& window, bool dense, const Row (&row)[2],
                                  const int (&position)[2], int step) {
    constexpr uint32_t BOTH = 3;
    Visibility visible;
    UNROLL
    for (int side = 0; side < 2; ++side) {
        uint32_t cells = BOTH;
        if (!dense && row[side].exists) {
            cells = token_set(sets, window, row[side].token)[step / WORD_STEPS - window.first] >> (step % WORD_STEPS * 2) & BOTH;
        }
        visible.cells[side] = row[side].exists ? cells : 0;
        visible.last[side] = position[side] - step * STEP;
    }
    return visible;
}

DEVICE bool sees_any(const Visibility& visible) {
    return (visible.cells[0] != 0 && visible.last[0] >= 0) || (visible.cells[1] != 0 && visible.last[1] >= 0);
}

// Hides the keys that a row does not see. Rows that see all of the step are left alone.
DEVICE void hide_keys(Accumulator<STEP>& scores, const Visibility& visible) {
    UNROLL
    for (int side = 0; side < 2; ++side) {
        if (visible.cells[side] == 3 && visible.last[side] >= STEP - 1) continue;
        UNROLL
        for (int j = 0; j < STEP / 8; ++j) {
            UNROLL
            for (int e = 0; e < 2; ++e) {
                const bool listed = visible.cells[side] >> (8 * j / CELL) & 1;
                const bool past = accumulator_col(j, e) <= visible.last[side];
                if (!listed || !past) scores.values[j][2 * side + e] = -INFINITE;
            }
        }
    }
}

// ---- tensors in and out

// The warp's rows of Q, negated where the softmax asks for it.
template <int DIM>
DEVICE FragmentA<DIM> load_query(const sala_sparse_attention_params& p, const Tile& tile, const Row (&row)[2], const float (&scale)[2]) {
    constexpr uint32_t SIGNS = 0x80008000u;
    FragmentA<DIM> query;
    UNROLL
    for (int side = 0; side < 2; ++side) {
        const int64_t head = static_cast<int64_t>(tile.head_kv) * p.group + row[side].head;
        const int64_t offset = tile.token(row[side].token) * p.q_token_stride + head * p.q_head_stride;
        const auto* source = reinterpret_cast<const uint32_t*>(reinterpret_cast<const uint16_t*>(p.q) + offset) + lane_index() % 4;
        const uint32_t flip = takes_negated_query(scale[side]) ? SIGNS : 0;
        UNROLL
        for (int i = 0; i < DIM / 8; ++i) {
            const uint32_t pair = row[side].exists ? load_global_constant(source + 4 * i) : 0;
            query.registers[i / 2][side + i % 2 * 2] = pair ^ flip;
        }
    }
    return query;
}

// The first element of one head of the sequence's keys or values.
DEVICE const uint16_t* find_rows(uint64_t tensor, const Tile& tile, int64_t batch_stride, int64_t token_stride, int64_t head_stride) {
    return reinterpret_cast<const uint16_t*>(tensor) + block_index_z() * batch_stride + tile.sequence.first_key * token_stride +
           tile.head_kv * head_stride;
}

// Starts the copy of a step's rows of K or V. Keys that no token of the tile can see are not read and become zero, so that what lies there does not
// reach O as 0 · NaN.
template <int DIM>
DEVICE void load_rows(SharedTile<DIM> tile, const uint16_t* rows, int64_t stride, int step, int last_position) {
    constexpr int CHUNKS = SharedTile<DIM>::CHUNKS;
    const uint16_t* source = rows + static_cast<int64_t>(step) * STEP * stride;
    UNROLL
    for (int i = 0; i < STEP * CHUNKS / THREADS; ++i) {
        const int row = thread_index() / CHUNKS + i * (THREADS / CHUNKS);
        const int chunk = thread_index() % CHUNKS;
        const bool valid = step * STEP + row <= last_position;
        async_copy<16>(tile.address(row, chunk), source + (valid ? row * stride : 0) + chunk * 8, valid);
    }
}

DEVICE float sigmoid(float x) { return 1.0f / (1.0f + exp2(-LOG2_E * x)); }

// Writes one of the lane's two rows: O normalised and gated, rounded once, and LSE.
template <class T, int DIM>
DEVICE void store_row(const sala_sparse_attention_params& p, const Tile& tile, const Row& row, const Accumulator<DIM>& out,
                      const OnlineSoftmax& softmax, int side) {
    if (!row.exists) return;
    const int64_t token = tile.token(row.token);
    const int64_t head = static_cast<int64_t>(tile.head_kv) * p.group + row.head;
    if (p.lse != 0 && lane_index() % 4 == 0) {
        store_global(reinterpret_cast<float*>(p.lse) + token * p.lse_token_stride + head, log_sum_exp(softmax, side));
    }
    const auto* gate = reinterpret_cast<const uint16_t*>(p.gate) + token * p.gate_token_stride + head * p.gate_head_stride;
    auto* to = reinterpret_cast<uint16_t*>(p.out) + token * p.out_token_stride + head * p.out_head_stride;
    const float factor = normaliser(softmax, side);
    UNROLL
    for (int j = 0; j < DIM / 8; ++j) {
        const int column = accumulator_col(j, 0);
        Pair pair{out.values[j][2 * side] * factor, out.values[j][2 * side + 1] * factor};
        if (p.gate != 0) {
            const Pair gates = unpack<T>(load_global_constant(reinterpret_cast<const uint32_t*>(gate + column)));
            pair = {pair.lo * sigmoid(gates.lo), pair.hi * sigmoid(gates.hi)};
        }
        store_global(reinterpret_cast<uint32_t*>(to + column), pack<T>(pair.lo, pair.hi));
    }
}

// ---- the kernel

// O and the softmax take in one step of keys.
template <class T, int DIM>
DEVICE void attend(Accumulator<DIM>& out, OnlineSoftmax& softmax, const FragmentA<DIM>& query, SharedTile<DIM> key, SharedTile<DIM> value,
                   const Visibility& visible) {
    Accumulator<STEP> scores;
    scores.fill(0.0f);
    multiply_nk<T>(scores, query, key, 0, 0);
    hide_keys(scores, visible);
    float maxima[2], sums[2];
    find_row_maxima(maxima, scores);
    const Rescale rescale = raise_maxima(softmax, maxima);
    make_weights(sums, scores, softmax);
    advance(softmax, out, rescale, sums);
    multiply_kn<T>(out, to_fragment_a<T>(scores), value, 0, 0);
}

template <class T, int DIM>
DEVICE void sparse_attention(const sala_sparse_attention_params& p) {
    const Tile tile = find_tile(p);
    if (tile.tokens == 0) return;
    auto& plan = dynamic_shared<AttentionPlan<DIM>>();

    const Row row[2] = {find_row(p, tile, 0), find_row(p, tile, 1)};
    OnlineSoftmax softmax;
    int position[2];
    float scale[2];
    UNROLL
    for (int side = 0; side < 2; ++side) {
        position[side] = tile.sequence.position(tile.first_row + row[side].token);
        scale[side] = p.scale;
        if (p.scale_factor != 0 && row[side].exists) {
            scale[side] *= load_global_constant(reinterpret_cast<const float*>(p.scale_factor) + tile.token(row[side].token));
        }
        start_row(softmax, side, scale[side]);
    }
    const FragmentA<DIM> query = load_query<DIM>(p, tile, row, scale);
    Accumulator<DIM> out;
    out.fill(0.0f);

    const uint16_t* keys = find_rows(p.k, tile, p.k_batch_stride, p.k_token_stride, p.k_head_stride);
    const uint16_t* values = find_rows(p.v, tile, p.v_batch_stride, p.v_token_stride, p.v_head_stride);
    const int last_position = tile.last_position();
    const auto load_step = [&](int step, int stage) {
        load_rows(SharedTile<DIM>{shared_address(plan.key[stage])}, keys, p.k_token_stride, step, last_position);
        load_rows(SharedTile<DIM>{shared_address(plan.value[stage])}, values, p.v_token_stride, step, last_position);
        async_copy_commit();
    };

    const int steps = last_position < 0 ? 0 : last_position / STEP + 1;
    const int words = ceil_div(steps, WORD_STEPS);
    const int capacity = tile.dense ? words : window_capacity(p);
    for (Window window{0, 0}; window.first < words; window.first += window.words) {
        window.words = minimum(words - window.first, capacity);
        if (!tile.dense) {
            sync_block();  // nobody looks at the last window any more
            clear_sets(plan.sets, window, tile.tokens);
            sync_block();  // the sets are empty
            const int refused = insert_lists(plan.sets, p, tile, window);
            if (window.first == 0) count_refused(p.status, REFUSED_BLOCKS, refused);
            sync_block();  // the sets are complete
        }
        StepWalk walk = start_walk(tile.dense ? nullptr : union_set(plan.sets), window, steps);
        int step = next_step(walk);
        if (step != NO_STEP) load_step(step, 0);
        NO_UNROLL
        for (int stage = 0; step != NO_STEP; stage ^= 1) {
            const int following = next_step(walk);
            async_copy_wait<0>();
            sync_block();  // this step's K and V are in shared memory; the last step's are free
            if (following != NO_STEP) load_step(following, stage ^ 1);
            const Visibility visible = find_visibility(plan.sets, window, tile.dense, row, position, step);
            if (any(sees_any(visible))) {
                attend<T>(out, softmax, query, SharedTile<DIM>{shared_address(plan.key[stage])},
                          SharedTile<DIM>{shared_address(plan.value[stage])}, visible);
            }
            step = following;
        }
    }

    finish_sums(softmax);
    UNROLL
    for (int side = 0; side < 2; ++side) store_row<T>(p, tile, row[side], out, softmax, side);
}

#define INSTANCE(name, T, DIM) \
    KERNEL(name, sala_sparse_attention_params, THREADS, 1) { sparse_attention<T, DIM>(p); }
#include "instances/sparse_attention.h"

}  // namespace SALA_VARIANT
}  // namespace sala
