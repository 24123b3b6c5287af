// Block selection: scores every block of a token's past through the compressed keys, and lists the best. Scores stay in the warp.
//
//     m_j, Z_j = max and Σ exp of s·q_j·C[c] over the rows of C that end at or before p          C = K2 (coarse) or K1 (exact)
//     P[c]     = Σ_j exp(s·q_j·K1[c] − m_j) / Z_j                                                 j: the heads of the group
//     score[b] = max of P[c], c = 4b − 1 … 4b + 3                                                 list = forced blocks + best free ones
//
// Called once a prefill, chunk or decode step for every sparse layer. Grid: (tiles of query tokens, kv heads, batch). The product is taken with
// its operands swapped: rows are compressed keys, columns are the heads of a token, so that a group pads to 8 columns, a sum over heads is
// mostly within a thread, and a warp that owns its tokens for good needs nobody else for pooling and selection:
//
//                     warp 0                warp 1       …  warp 7             32 columns a warp: four tokens of 8 heads, two of 16, or one
//              t0, h0…15  t1, h0…15   t2, …      t3, …                         of 32 (of 64: two turns of 32)
//            ┌───────────┬───────────┬──────────┬─────────                     Q stays in registers as operand B, all steps long
//     K1 row │           │           │
//     4b     │ P = Σ of a thread's heads, then over 4 lanes                    Rows are dealt so that a thread holds all four rows of block b
//      ⋮     │ score = max over its four rows and one of the lane above        (b = lane / 4); row 4b − 1 comes from the lane above, and
//     4b + 3 │           │           │                                         both blocks see the bits of one sum.
//
// First the rows of C pass by for m and Z (an online softmax a thread, merged once), then those of K1 for P. Both come in steps of 64 rows through
// one ring of three stages. A block's score goes to the queue of its token (top_k.cuh), unless its place in the list is sure anyway.
//
//     step n     | n + 2 ───────────────────── load ─────────────────────▶|
//                | 32 rows: product, exp, sum, pool, offer | 32 rows: …    ■          ■ block barrier
//
// Shared memory (dim 128): ring 3 × 16 KiB, queues of queue_capacity × 8 bytes a token, 16 KiB for two tokens a warp and 128 keys.
//
// A token's bits depend on nothing but its own rows at their absolute positions. P is formed at 2^24 times its value, so that heads below 2^−126 still
// count in the sum; where that leaves the range of f32, or a logit is NaN, the sums are taken again with care (sum_carefully).
//
// Limit: the tensor cores, (1 + 1/4) · 2 · dim · 32 columns a row and warp (K1 and K2), with one exp for each 2 · dim FLOP beside it. A step of 64 rows is
// loaded once for the 8 warps. A sequence's decode token takes a whole block, so that decode of few sequences leaves the GPU idle: splitting the
// rows of one token over blocks is left for a kernel of its own. Dropped: Q in shared memory (three times the shared-memory traffic); scores
// through global memory (a quarter of a terabyte at 1M tokens).
#include "device/async_copy.cuh"
#include "device/barrier.cuh"
#include "device/block_list.cuh"
#include "device/block_score.cuh"
#include "device/element.cuh"
#include "device/machine.cuh"
#include "device/math.cuh"
#include "device/memory.cuh"
#include "device/sequence.cuh"
#include "device/status.cuh"
#include "device/tile.cuh"
#include "device/top_k.cuh"
#include "device/warp.cuh"

#include "../include/kernel_params.h"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int WARPS = 8;
constexpr int THREADS = WARPS * WARP_SIZE;
constexpr int STEP = 64;  // rows of a step
constexpr int STAGES = 3;

template <int DIM>
struct SelectPlan {
    uint16_t rows[STAGES][STEP * DIM];
    uint64_t queues[1];  // queue_capacity for each token
};

// The compressed keys of one sequence and head.
struct Rows {
    const uint16_t* first;
    int64_t stride;
    int count;  // full windows of the sequence
};

// What the block does: its tokens, and the rows that they need.
struct Job {
    SequenceRange sequence;
    int first_row;    // of the sequence's queries
    int tokens;       // of the sequence, from first_row on; not more than the block has room for
    int sum_rows;     // [0, sum_rows) of C make m and Z
    int score_begin;  // [score_begin, score_end) of K1 are scored
    int score_end;

    DEVICE int position(int token) const { return sequence.position(first_row + token); }
};

DEVICE int query_block(const sala_select_blocks_params& p, int position) { return position < 0 ? -1 : position / p.block_size; }

DEVICE int sum_stride(const sala_select_blocks_params& p) { return p.exact_lse ? p.block_size / BLOCK_ROWS : p.block_size; }

// The rows that the token at `position` needs, or none.
DEVICE void add_rows(Job& job, const sala_select_blocks_params& p, int position) {
    const int visible = visible_rows(position, p.block_size / BLOCK_ROWS);
    const int block = query_block(p, position);
    const bool chooses = must_choose(p, block) && wanted_blocks(p) > 0;
    if (chooses) {
        job.score_begin = maximum(p.init_blocks * BLOCK_ROWS - 1, 0);
        job.score_end = first_local_block(p, block) * BLOCK_ROWS;
    }
    if (p.scores != 0) {
        job.score_begin = 0;
        // One row more: where the last visible row is some 4b − 1, block b has a score from it alone.
        job.score_end = maximum(job.score_end, visible > 0 ? visible + 1 : 0);
    }
    if (job.score_begin < job.score_end) job.sum_rows = visible_rows(position, sum_stride(p));
}

DEVICE Job find_job(const sala_select_blocks_params& p, int block_tokens) {
    Job job{find_sequence(p.sequences, block_index_z()), 0, 0, 0, 0, 0};
    if (!job.sequence.valid && block_index_x() == 0 && block_index_y() == 0 && thread_index() == 0)
        count_refused(p.status, REFUSED_LENGTHS, 1);
    // The last tokens have the longest past, so they go first.
    const int index = ceil_div(job.sequence.queries, block_tokens) - 1 - block_index_x();
    if (index < 0) return job;
    job.first_row = index * block_tokens;
    job.tokens = minimum(job.sequence.queries - job.first_row, block_tokens);
    if (job.sequence.switch_len >= p.sequences.dense_len) add_rows(job, p, job.position(job.tokens - 1));
    return job;
}

DEVICE Rows find_rows(uint64_t tensor, const SequenceRange& sequence, int stride, int64_t batch_stride, int64_t row_stride,
                      int64_t head_stride) {
    const uint16_t* first = reinterpret_cast<const uint16_t*>(tensor) + block_index_z() * batch_stride +
                            sequence.first_key / stride * row_stride + block_index_y() * head_stride;
    return {first, row_stride, visible_rows(sequence.keys - 1, stride)};
}

// Where row `row` of a step lies in its tile. Rows 4b … 4b + 3 of each eight blocks go to row b of each 8 × 8 matrix of two 16-row operands, so that one
// thread gets all four; see row_of.
DEVICE int tile_row(int row) { return row / TURN * TURN + row % BLOCK_ROWS * 8 + row % TURN / BLOCK_ROWS; }

// Starts the copy of 64 rows. Rows that the sequence does not have become zero.
template <int DIM>
DEVICE void load_step(SharedTile<DIM> tile, const Rows& rows, int step) {
    constexpr int CHUNKS = SharedTile<DIM>::CHUNKS;
    UNROLL
    for (int i = 0; i < STEP * CHUNKS / THREADS; ++i) {
        const int row = thread_index() / CHUNKS + i * (THREADS / CHUNKS);
        const int chunk = thread_index() % CHUNKS;
        const int64_t source = static_cast<int64_t>(step) * STEP + row;
        const bool valid = source < rows.count;
        async_copy<16>(tile.address(tile_row(row), chunk), rows.first + (valid ? source * rows.stride : 0) + chunk * 8, valid);
    }
}

// ---- the warp's tokens

template <int HEADS>
DEVICE Tokens<HEADS> find_tokens(const sala_select_blocks_params& p, const Job& job) {
    Tokens<HEADS> tokens;
    tokens.first = warp_index() * Deal<HEADS>::TOKENS;
    UNROLL
    for (int i = 0; i < Deal<HEADS>::TOKENS; ++i) {
        const int token = tokens.first + i;
        const bool exists = token < job.tokens;
        float scale = p.scale;
        if (exists && p.scale_factor != 0) {
            scale *=
                load_global_constant(reinterpret_cast<const float*>(p.scale_factor) + job.sequence.first_query + job.first_row + token);
        }
        tokens.position[i] = exists ? maximum(job.position(token), -1) : -1;
        tokens.negated[i] = scale < 0.0f;
        // A factor of 0 would make NaN of the rows that a token does not see, at −∞. A scale of NaN stays one.
        const float magnitude = scale < 0.0f ? -scale : scale;
        tokens.factor[i] = (magnitude < SMALLEST_NORMAL ? SMALLEST_NORMAL : magnitude) * LOG2_E;
    }
    return tokens;
}

// Operand B: the warp's columns of Qᵀ, those of one chunk, channels [channel, channel + K).
template <int K, int HEADS>
DEVICE FragmentB<K, COLUMNS> load_query(const sala_select_blocks_params& p, const Job& job, const Tokens<HEADS>& tokens, int chunk,
                                        int channel) {
    constexpr uint32_t SIGNS = 0x80008000u;
    FragmentB<K, COLUMNS> query;
    UNROLL
    for (int j = 0; j < TILES; ++j) {
        const int token = Deal<HEADS>::token(j);
        const int head = Deal<HEADS>::head(chunk, j) + lane_index() / 4;
        const bool valid = tokens.position[token] >= 0 && head < p.group;
        const int64_t row = job.sequence.first_query + job.first_row + tokens.first + token;
        const int64_t offset =
            row * p.q_token_stride + (static_cast<int64_t>(block_index_y()) * p.group + head) * p.q_head_stride + channel;
        const auto* source = reinterpret_cast<const uint32_t*>(reinterpret_cast<const uint16_t*>(p.q) + offset) + lane_index() % 4;
        const uint32_t flip = tokens.negated[token] ? SIGNS : 0;
        UNROLL
        for (int i = 0; i < K / 8; ++i) {
            const uint32_t pair = valid ? load_global_constant(source + 4 * i) : 0;
            query.registers[i / 2][j][i % 2] = pair ^ flip;
        }
    }
    return query;
}

// Adds what channels [channel, channel + K) give.
template <class T, int K, int DIM>
DEVICE void add_logits(Logits& logits, SharedTile<DIM> tile, int turn, const FragmentB<K, COLUMNS>& query, int channel) {
    UNROLL
    for (int half = 0; half < 2; ++half) multiply_shared_a<T>(logits.half[half], tile, turn * TURN + half * 16, channel, query);
}

// ---- scores and lists

// Of the four lanes that hold a row, lane t works for token t of the warp.
template <int HEADS>
struct OwnToken {
    int index;
    bool exists;
    int visible;     // rows of K1 that it sees
    int first, end;  // its free blocks
    float* scores;   // its row of the score output, or null
    float above;     // P of the row before this thread's first, for the lanes that hold a turn's first block
};

template <int HEADS>
DEVICE OwnToken<HEADS> find_own_token(const sala_select_blocks_params& p, const Job& job, const Tokens<HEADS>& tokens) {
    constexpr int TOKENS = Deal<HEADS>::TOKENS;
    OwnToken<HEADS> own{lane_index() % 4, false, 0, 0, 0, nullptr, -INFINITE};
    int position = -1;
    UNROLL
    for (int i = 0; i < TOKENS; ++i) position = own.index == i ? tokens.position[i] : position;
    own.exists = own.index < TOKENS && tokens.first + own.index < job.tokens;
    own.visible = visible_rows(position, p.block_size / BLOCK_ROWS);
    own.first = p.init_blocks;
    own.end = must_choose(p, query_block(p, position)) && wanted_blocks(p) > 0 ? first_local_block(p, query_block(p, position)) : 0;
    if (p.scores != 0 && own.exists) {
        const int64_t row = job.sequence.first_query + job.first_row + tokens.first + own.index;
        own.scores = reinterpret_cast<float*>(p.scores) + row * p.scores_token_stride + block_index_y() * p.scores_head_stride;
    }
    return own;
}

// The score of block row0 / 4 + lane / 4 for the lane's own token.
template <int HEADS>
DEVICE float pool(OwnToken<HEADS>& own, const float (&sums)[Deal<HEADS>::TOKENS][BLOCK_ROWS], int row0) {
    float mine[BLOCK_ROWS];
    UNROLL
    for (int i = 0; i < BLOCK_ROWS; ++i) {
        mine[i] = sums[0][i];
        UNROLL
        for (int token = 1; token < Deal<HEADS>::TOKENS; ++token) mine[i] = own.index == token ? sums[token][i] : mine[i];
        mine[i] = row0 + row_of(i / 2, i % 2 * 2) < own.visible ? mine[i] : -INFINITE;
    }
    const float last = shuffle(mine[BLOCK_ROWS - 1], (lane_index() + WARP_SIZE - 4) % WARP_SIZE);
    float score = maximum(-INFINITE, lane_index() < 4 ? own.above : last);
    own.above = last;
    UNROLL
    for (int i = 0; i < BLOCK_ROWS; ++i) score = maximum(score, mine[i]);
    return score < SMALLEST_NORMAL ? minimum(score, 0.0f) : score;
}

template <int HEADS>
DEVICE void take_scores(TopK (&best)[Deal<HEADS>::TOKENS], const sala_select_blocks_params& p, const OwnToken<HEADS>& own, int block,
                        float score) {
    if (own.scores != nullptr && block < p.score_blocks) store_global(own.scores + block, score);
    const uint64_t key = rank_key(score, block);
    bool candidate = own.index < Deal<HEADS>::TOKENS && own.first <= block && block < own.end;
    UNROLL
    for (int token = 0; token < Deal<HEADS>::TOKENS; ++token) {
        if (own.index == token) candidate = candidate && key >= best[token].floor;
    }
    if (!any(candidate)) return;
    UNROLL
    for (int token = 0; token < Deal<HEADS>::TOKENS; ++token) offer(best[token], candidate && own.index == token, key);
}

// Blocks from `block` on have no row that a token sees.
template <int HEADS>
DEVICE void store_missing_scores(const sala_select_blocks_params& p, const OwnToken<HEADS>& own, int block) {
    if (own.scores == nullptr) return;
    for (int i = block + lane_index() / 4; i < p.score_blocks; i += WARP_SIZE / 4) store_global(own.scores + i, -INFINITE);
}

template <int HEADS>
DEVICE void store_lists(const sala_select_blocks_params& p, const Job& job, const Tokens<HEADS>& tokens,
                        TopK (&best)[Deal<HEADS>::TOKENS]) {
    const bool dense = job.sequence.switch_len < p.sequences.dense_len;
    UNROLL
    for (int i = 0; i < Deal<HEADS>::TOKENS; ++i) {
        if (tokens.first + i >= job.tokens) continue;
        const int64_t row = job.sequence.first_query + job.first_row + tokens.first + i;
        int* list = list_of(p, row, block_index_y());
        const int block = dense ? -1 : query_block(p, tokens.position[i]);
        if (must_choose(p, block)) {
            store_best_blocks(p, list, block, best[i]);
        } else {
            store_all_blocks(p, list, block);
        }
    }
}

// ---- the kernel

// How many turns of a step the warp takes, when `rows` rows are left from the step's first on. A warp without tokens only helps to load.
template <int HEADS>
DEVICE int count_turns(const Job& job, const Tokens<HEADS>& tokens, int rows) {
    return tokens.first < job.tokens ? minimum(ceil_div(rows, TURN), STEP / TURN) : 0;
}

template <class T, int DIM, int HEADS>
DEVICE void select_blocks(const sala_select_blocks_params& p) {
    constexpr int TOKENS = Deal<HEADS>::TOKENS;
    constexpr int CHUNKS = Deal<HEADS>::CHUNKS;
    const Job job = find_job(p, WARPS * TOKENS);
    if (job.tokens == 0) return;
    auto& plan = dynamic_shared<SelectPlan<DIM>>();

    const Tokens<HEADS> tokens = find_tokens<HEADS>(p, job);
    OwnToken<HEADS> own = find_own_token(p, job, tokens);
    TopK best[TOKENS];
    UNROLL
    for (int i = 0; i < TOKENS; ++i) {
        const int queue = (tokens.first + i) * p.queue_capacity;
        best[i] =
            start_top_k(shared_address(plan.queues) + static_cast<uint32_t>(queue) * sizeof(uint64_t), p.queue_capacity, wanted_blocks(p));
    }

    const int stride = p.block_size / BLOCK_ROWS;
    const Rows scored = find_rows(p.k1, job.sequence, stride, p.k1_batch_stride, p.k1_row_stride, p.k1_head_stride);
    Rows summed = scored;
    if (!p.exact_lse) summed = find_rows(p.k2, job.sequence, p.block_size, p.k2_batch_stride, p.k2_row_stride, p.k2_head_stride);
    const int sum_steps = ceil_div(job.sum_rows, STEP);
    const int first_score_step = job.score_begin / STEP;
    const int steps = sum_steps + maximum(ceil_div(job.score_end, STEP) - first_score_step, 0);
    const auto tile_of = [&](int step) { return SharedTile<DIM>{shared_address(plan.rows[step % STAGES])}; };
    const auto start_load = [&](int step) {
        if (step < sum_steps) {
            load_step(tile_of(step), summed, step);
        } else if (step < steps) {
            load_step(tile_of(step), scored, step - sum_steps + first_score_step);
        }
        async_copy_commit();
    };
    const auto wait_for = [&](int step) {
        async_copy_wait<STAGES - 2>();
        sync_block();  // the step's rows are in shared memory; those of the last step are free
        start_load(step + STAGES - 1);
    };

    if (steps == 0) {
        store_missing_scores(p, own, 0);
        store_lists(p, job, tokens, best);
        return;
    }

    const FragmentB<DIM, COLUMNS> query = load_query<DIM>(p, job, tokens, 0, 0);
    const auto find_logits = [&](Logits& logits, int step, int turn, int chunk) {
        logits.half[0].fill(0.0f);
        logits.half[1].fill(0.0f);
        if constexpr (CHUNKS == 1) {
            add_logits<T>(logits, tile_of(step), turn, query, 0);
        } else {
            // There are registers for a part of one chunk only, so Q comes from L1 each time. (Unrolled, the loads would all go ahead and spill.)
            constexpr int PART = 32;
            NO_UNROLL
            for (int channel = 0; channel < DIM; channel += PART) {
                add_logits<T>(logits, tile_of(step), turn, load_query<PART>(p, job, tokens, chunk, channel), channel);
            }
        }
    };
    UNROLL
    for (int step = 0; step < STAGES - 1; ++step) start_load(step);

    Normaliser<HEADS> normaliser;
    start_sums(normaliser);
    NO_UNROLL
    for (int step = 0; step < sum_steps; ++step) {
        wait_for(step);
        const int first_row = step * STEP;
        const int turns = count_turns(job, tokens, job.sum_rows - first_row);
        NO_UNROLL
        for (int turn = 0; turn < turns; ++turn) {
            UNROLL
            for (int chunk = 0; chunk < CHUNKS; ++chunk) {
                Logits logits;
                find_logits(logits, step, turn, chunk);
                add_to_sums(normaliser, logits, tokens, first_row + turn * TURN, chunk, sum_stride(p));
            }
        }
    }
    finish_sums(normaliser, p, tokens);

    NO_UNROLL
    for (int step = sum_steps; step < steps; ++step) {
        wait_for(step);
        const int first_row = (step - sum_steps + first_score_step) * STEP;
        const int turns = count_turns(job, tokens, job.score_end - first_row);
        NO_UNROLL
        for (int turn = 0; turn < turns; ++turn) {
            float sums[TOKENS][BLOCK_ROWS];
            UNROLL
            for (int chunk = 0; chunk < CHUNKS; ++chunk) {
                Logits logits;
                find_logits(logits, step, turn, chunk);
                float part[TOKENS][BLOCK_ROWS];
                sum_heads(part, p, logits, normaliser, tokens, chunk);
                UNROLL
                for (int i = 0; i < TOKENS * BLOCK_ROWS; ++i) {
                    float& sum = sums[i / BLOCK_ROWS][i % BLOCK_ROWS];
                    sum = chunk == 0 ? part[i / BLOCK_ROWS][i % BLOCK_ROWS] : add_chunks(sum, part[i / BLOCK_ROWS][i % BLOCK_ROWS]);
                }
            }
            const int row0 = first_row + turn * TURN;
            const float score = pool(own, sums, row0);
            take_scores<HEADS>(best, p, own, row0 / BLOCK_ROWS + lane_index() / 4, score);
        }
    }
    store_missing_scores(p, own, ceil_div(job.score_end, TURN) * (TURN / BLOCK_ROWS));
    store_lists(p, job, tokens, best);
}

#define INSTANCE(name, T, DIM, HEADS) \
    KERNEL(name, sala_select_blocks_params, THREADS, 1) { select_blocks<T, DIM, HEADS>(p); }
#include "instances/select_blocks.h"

}  // namespace SALA_VARIANT
}  // namespace sala
