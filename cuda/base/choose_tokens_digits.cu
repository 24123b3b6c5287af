// Choice of tokens from long rows, first to fourth of five launches: the scores of each piece of a row, counted by one digit of their
// order, of those whose order begins as that of the last score taken.
//
//     bins[d] = |{ t in the piece: order(score[t]) = known digits, d, … }|          digits of 8 bits, the highest first
//
// Grid: (pieces, kv heads, batch). A block finds the digit that the launch before has counted (parts/selection/token_digits.cuh), and
// reads its piece once. Every lane has bins of its own, which the warps share: lanes meet no conflicts, and the work does not depend on
// the scores.
//
//     | add up the bins of all pieces, find the digit ■ 8 scores of each thread | count | … ■ add up lanes, store |     ■ block barriers
//
// Shared memory: 32.1 KiB. Limit: bytes, 4 for each score, which come from L2 from the second launch on.
//
// Definition: docs/semantics.md#choose_tokens
#include "machine/atomic.cuh"
#include "machine/barrier.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/warp.cuh"
#include "params/choose_tokens.h"
#include "params/select_blocks.h"
#include "parts/selection/radix_choice.cuh"
#include "parts/selection/token_digits.cuh"
#include "parts/selection/token_list.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int AT_ONCE = 8;
constexpr int WARPS = SALA_SELECT_LIST_WARPS;

struct CountPlan {
    uint32_t bins[TOKEN_BINS][WARP_SIZE];  // one of each lane
    DigitPlan digits;
};

// Counts the piece's scores, of those that begin with the known digits. Called by whole blocks.
DEVICE void count_scores(CountPlan& plan, const float* scores, int first, int end, int round, uint32_t known) {
    const int shift = 32 - TOKEN_DIGIT * (round + 1);
    NO_UNROLL
    for (int batch = first; batch < end; batch += AT_ONCE * RADIX_THREADS) {
        float values[AT_ONCE];
        UNROLL
        for (int i = 0; i < AT_ONCE; ++i) {
            const int index = batch + i * RADIX_THREADS + thread_index();
            values[i] = index < end ? load_global_constant(scores + index) : 0.0f;
        }
        UNROLL
        for (int i = 0; i < AT_ONCE; ++i) {
            const uint32_t order = order_of(values[i]);
            const bool agrees = round == 0 || order >> (shift + TOKEN_DIGIT) % 32 == known;
            const bool counts = agrees && batch + i * RADIX_THREADS + thread_index() < end;
            const uint32_t bin = TOKEN_BINS - 1 - (order >> shift & (TOKEN_BINS - 1));
            atomic_add_shared(shared_address(&plan.bins[bin][lane_index()]), counts ? 1u : 0u);
        }
    }
}

DEVICE void count_digit(const sala_choose_tokens_params& p) {
    const TokenList list = find_token_list(p, block_index_z(), block_index_y());
    if (list.wanted == 0) return;  // the launch that writes lists needs no digits
    auto& plan = dynamic_shared<CountPlan>();
    for (int i = thread_index(); i < TOKEN_BINS * WARP_SIZE; i += RADIX_THREADS) {
        store_shared(shared_address(&plan.bins[0][0] + i), 0u);
    }
    const RowDigits row = find_row_digits(p, block_index_z(), block_index_y());
    const int piece = block_index_x();
    const KnownDigits known = find_digits(plan.digits, row, p.round, list.wanted);
    sync_block();  // the bins are clear
    if (p.round > 0 && warp_index() == 0) {
        const uint32_t better = count_better(row, p.round, piece, known.bin);
        if (lane_index() == 0) {
            const uint32_t before = p.round > 1 ? load_global(row.better + piece) : 0;
            store_global(row.better + piece, before + better);
        }
        if (piece == 0 && lane_index() < 2) {
            store_global(row.cuts + 2 * p.round + lane_index(), lane_index() == 0 ? known.order : static_cast<uint32_t>(known.equals));
        }
    }
    const int first = static_cast<int>(minimum(static_cast<int64_t>(piece) * p.piece, static_cast<int64_t>(list.free)));
    count_scores(plan, list.scores, first, minimum(list.free - first, p.piece) + first, p.round, known.order);
    sync_block();  // all scores are counted
    for (int bin = warp_index(); bin < TOKEN_BINS; bin += WARPS) {
        const uint32_t count = reduce_add<WARP_SIZE>(load_shared<uint32_t>(shared_address(&plan.bins[bin][lane_index()])));
        if (lane_index() == 0) store_global(row.bins_of(p.round, piece) + bin, count);
    }
}

#define INSTANCE(name) \
    KERNEL(name, sala_choose_tokens_params, RADIX_THREADS, 2) { count_digit(p); }
#include "instances/choose_tokens_digits.h"

}  // namespace SALA_VARIANT
}  // namespace sala
