// Scores of keys, first of two launches: the sum of the queries, in pieces.
//
//     sum[c] = Σ q_ij[c]          over the query tokens i of a piece and the heads j of a group
//
// The mean of q·k over queries is the product of their mean with k, so that score_keys.cu reads each key once, whatever the number of
// queries, and so does this launch each query. Grid: (pieces, kv heads, batch). DIM / 8 lanes take a row, 16 bytes each, and a block
// 2048 / DIM rows at a time, four such steps at once:
//
//     rows 0 … 15 | 16 … 31 | 32 … 47 | 48 … 63 | the next 64 …        a thread's eight sums ■ one thread per channel adds them up
//
// Shared memory: 8 KiB. Limit: bytes, each query once; of few queries latency.
//
// Definition: docs/semantics.md#score_keys
#include "machine/barrier.cuh"
#include "machine/element.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "params/score_keys.h"
#include "parts/keys/rows.cuh"
#include "parts/keys/sequence.cuh"
#include "parts/selection/query_sums.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int THREADS = SALA_SCORE_THREADS;
constexpr int VECTOR = 8;  // elements of 16 bytes
constexpr int AT_ONCE = 4;

template <int DIM>
struct QuerySumsPlan {
    float sums[THREADS * VECTOR / DIM][DIM];
};

// A row of q of the sequence and group: the token's in the sequence, the head's in the group.
struct QueryRow {
    int token, head;

    DEVICE void advance(int rows, int group) {
        token += rows / group;
        head += rows % group;
        if (head >= group) {
            head -= group;
            ++token;
        }
    }
};

// The thread's sums of eight channels over its rows of tokens [first, end).
template <class T, int DIM>
DEVICE Vector<float, VECTOR> sum_rows(const sala_score_keys_params& p, const SequenceRange& sequence, int first, int end) {
    constexpr int LANES = DIM / VECTOR, ROWS = THREADS / LANES;
    const int channel = thread_index() % LANES * VECTOR;
    const int first_head = block_index_y() * p.group;
    Vector<float, VECTOR> sums{};
    QueryRow row{first, 0};
    row.advance(thread_index() / LANES, p.group);
    NO_UNROLL
    while (row.token < end) {
        Words4 loaded[AT_ONCE];
        UNROLL
        for (int i = 0; i < AT_ONCE; ++i) {
            loaded[i] = Words4{};
            if (row.token < end) {
                const uint16_t* q = row_of<const uint16_t>(p.q, sequence.first_query + row.token, first_head + row.head) + channel;
                loaded[i] = load_global_constant(reinterpret_cast<const Words4*>(q));
            }
            row.advance(ROWS, p.group);
        }
        UNROLL
        for (int i = 0; i < AT_ONCE; ++i) {
            UNROLL
            for (int word = 0; word < 4; ++word) {
                const Pair pair = unpack<T>(loaded[i][word]);
                sums[2 * word] += pair.lo;
                sums[2 * word + 1] += pair.hi;
            }
        }
    }
    return sums;
}

template <class T, int DIM>
DEVICE void sum_queries(const sala_score_keys_params& p) {
    constexpr int LANES = DIM / VECTOR, ROWS = THREADS / LANES;
    const SequenceRange sequence = find_sequence(p.sequences, block_index_z());
    if (sequence.refusal != REFUSED_NOTHING) return;  // which the launch that writes scores counts
    const int tokens = tokens_of_piece(sequence.queries);
    const int piece = block_index_x();
    if (piece >= ceil_div(sequence.queries, tokens)) return;
    const int first = piece * tokens;
    auto& plan = dynamic_shared<QuerySumsPlan<DIM>>();
    const auto own = sum_rows<T, DIM>(p, sequence, first, minimum(sequence.queries - first, tokens) + first);
    float* sums_of_thread = plan.sums[thread_index() / LANES];
    UNROLL
    for (int half = 0; half < 2; ++half) {
        const int place = place_of_four<DIM>(thread_index() % LANES * VECTOR + 4 * half);
        store_shared(shared_address(sums_of_thread + place),
                     Float4{{own[4 * half], own[4 * half + 1], own[4 * half + 2], own[4 * half + 3]}});
    }
    sync_block();  // the sums of all threads are there
    if (thread_index() >= DIM) return;
    float sum = 0.0f;
    UNROLL
    for (int row = 0; row < ROWS; ++row) sum += load_shared<float>(shared_address(&plan.sums[row][thread_index()]));
    float* sums = sums_of(p, block_index_z(), block_index_y(), grid_size_y(), DIM);
    store_global(sums + piece * DIM + channel_at<DIM>(thread_index()), sum);
}

#define INSTANCE(name, T, DIM) \
    KERNEL(name, sala_score_keys_params, THREADS, 4) { sum_queries<T, DIM>(p); }
#include "instances/score_keys_sums.h"

}  // namespace SALA_VARIANT
}  // namespace sala
