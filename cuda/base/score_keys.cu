// Scores of keys, second of two launches: the product of each key with the mean of the queries, and the largest of neighbouring ones.
//
//     s[t] = (Σ q_ij / n)·K[t]          over the n query tokens i and heads j of a group, whose sums score_keys_sums.cu has formed
//     score[t] = max of s[t − pool/2 … t + pool/2]
//
// Called once per chunk or pass of a method that keeps or passes on tokens by their scores. Grid: (tiles, kv heads, batch). A block
// forms 512 products, of which its first and last pool/2 belong to its neighbours' keys too. A warp takes 32 keys at a time; DIM / 8
// lanes take one, 16 bytes each, and eight loads of a lane are under way at once:
//
//     tile      |half| 512 − 2·half scores |half|
//     warp      | pages of 32 keys | load 8 | multiply, add up lanes | load 8 | …   ■ maxima, store          ■ block barrier
//
// Shared memory: 2.5 KiB. Limit: bytes, each key once (and pool − 1 of 512 twice), 4 for each score; the sums come from L2.
//
// Definition: docs/semantics.md#score_keys
#include "machine/barrier.cuh"
#include "machine/element.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/warp.cuh"
#include "params/score_keys.h"
#include "parts/keys/key_rows.cuh"
#include "parts/keys/rows.cuh"
#include "parts/keys/sequence.cuh"
#include "parts/selection/query_sums.cuh"
#include "parts/status.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int THREADS = SALA_SCORE_THREADS;
constexpr int TILE = SALA_SCORE_TILE;
constexpr int VECTOR = 8;  // elements of 16 bytes
constexpr int AT_ONCE = 8;

template <int DIM>
struct ScorePlan {
    float mean[DIM];  // as channel_at says
    float products[TILE];
};

// The mean of the queries, to shared memory. Called by whole blocks.
template <int DIM>
DEVICE void find_mean(ScorePlan<DIM>& plan, const sala_score_keys_params& p, const SequenceRange& sequence) {
    if (thread_index() < DIM) {
        const float* sums = sums_of(p, block_index_z(), block_index_y(), grid_size_y(), DIM) + channel_at<DIM>(thread_index());
        const int pieces = ceil_div(sequence.queries, tokens_of_piece(sequence.queries));
        float sum = 0.0f;
        for (int piece = 0; piece < pieces; ++piece) sum += load_global_constant(sums + piece * DIM);
        const float count = static_cast<float>(sequence.queries) * static_cast<float>(p.group);
        store_shared(shared_address(plan.mean + thread_index()), sum / count);
    }
    sync_block();  // the mean is there
}

// The keys that a block takes: [first, end) get scores, and `half` keys on either side are near them.
struct KeyTile {
    int first, end, half, count;

    // The key of a product.
    DEVICE int key(int place) const { return first - half + place; }
    DEVICE bool is_scored(int key) const { return first <= key && key < end; }
};

// 32 products from `place` on, by a warp; −∞ where there is no key, or none with a page.
template <class T, int DIM>
DEVICE void multiply_keys(ScorePlan<DIM>& plan, const KeyRows& keys, const KeyTile& tile, int place, uint64_t status) {
    constexpr int LANES = DIM / VECTOR, ROWS = WARP_SIZE / LANES;
    const int channel = lane_index() % LANES * VECTOR;
    const int begin = tile.key(place);
    const int low = maximum(begin, 0), high = minimum(begin + WARP_SIZE, minimum(tile.count - tile.end, tile.half) + tile.end);
    const RowPages<WARP_SIZE> pages = look_up_pages<WARP_SIZE>(keys, low, high);
    Float4 mean[2];
    UNROLL
    for (int half = 0; half < 2; ++half)
        mean[half] = load_shared<Float4>(shared_address(plan.mean + place_of_four<DIM>(channel + 4 * half)));
    NO_UNROLL
    for (int first = 0; first < WARP_SIZE; first += AT_ONCE * ROWS) {
        Words4 loaded[AT_ONCE];
        uint32_t there = 0;
        UNROLL
        for (int i = 0; i < AT_ONCE; ++i) {
            const int row = begin + first + i * ROWS + lane_index() / LANES;
            const int page = pages.page(keys, row);
            loaded[i] = Words4{};
            if (row < low || row >= high) continue;
            if (page == NO_PAGE) {
                if (lane_index() % LANES == 0 && tile.is_scored(row)) count_refused(status, REFUSED_PAGES, 1);
                continue;
            }
            there |= 1u << i;
            loaded[i] = load_global_constant(reinterpret_cast<const Words4*>(keys.row_in(page, row) + channel));
        }
        float products[AT_ONCE];
        UNROLL
        for (int i = 0; i < AT_ONCE; ++i) {
            products[i] = 0.0f;
            UNROLL
            for (int word = 0; word < 4; ++word) {
                const Pair pair = unpack<T>(loaded[i][word]);
                products[i] = fma(pair.lo, mean[word / 2][word % 2 * 2], products[i]);
                products[i] = fma(pair.hi, mean[word / 2][word % 2 * 2 + 1], products[i]);
            }
        }
        reduce_add_each<LANES>(products);
        if (lane_index() % LANES != 0) continue;
        UNROLL
        for (int i = 0; i < AT_ONCE; ++i) {
            const float product = (there >> i & 1) != 0 ? products[i] : -INFINITE;
            store_shared(shared_address(plan.products + place + first + i * ROWS + lane_index() / LANES), product);
        }
    }
}

template <class T, int DIM>
DEVICE void score_keys(const sala_score_keys_params& p) {
    const SequenceRange sequence = find_sequence(p.sequences, block_index_z());
    count_refused_sequence(p.status, sequence.refusal);
    const int half = p.pool / 2;
    const int outputs = TILE - 2 * half;
    const int first = block_index_x() * outputs;
    const int count = sequence.refusal == REFUSED_NOTHING && sequence.queries > 0 ? sequence.keys.count : 0;
    auto& plan = dynamic_shared<ScorePlan<DIM>>();
    if (first < count) {
        find_mean(plan, p, sequence);
        const KeyRows keys = find_key_rows(p.k, sequence.keys, block_index_z(), block_index_y(), 1);
        const KeyTile tile{first, minimum(count - first, outputs) + first, half, count};
        NO_UNROLL
        for (int place = warp_index() * WARP_SIZE; place < TILE; place += THREADS) {
            multiply_keys<T>(plan, keys, tile, place, p.status);
        }
        sync_block();  // all products of the tile are there
    }
    float* scores = row_of<float>(p.scores, block_index_z(), block_index_y());
    for (int i = thread_index(); i < outputs && first + i < p.scored; i += THREADS) {
        float score = -INFINITE;
        if (first + i < count) {
            for (int near = 0; near < p.pool; ++near) score = maximum(score, load_shared<float>(shared_address(plan.products + i + near)));
        }
        store_global(scores + first + i, score);
    }
}

#define INSTANCE(name, T, DIM) \
    KERNEL(name, sala_score_keys_params, THREADS, 3) { score_keys<T, DIM>(p); }
#include "instances/score_keys.h"

}  // namespace SALA_VARIANT
}  // namespace sala
