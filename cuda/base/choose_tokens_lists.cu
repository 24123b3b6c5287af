// Choice of tokens from long rows, last of five launches: each piece's part of the list.
//
//     list = [ 0 … init − 1 | the best by score[t] among the free tokens t | n − local … n − 1 ]
//
// Grid: (pieces, kv heads, batch). A block adds up how many scores of the pieces before its own are taken, which is where its part
// begins: those above the cut, and those equal to it as long as there are any left to take.
//
//     | last digit ■ scores taken of earlier pieces ■ 2048 scores: count ■ write | …          ■ block barriers
//
// Shared memory: 19.4 KiB. Limit: bytes, 4 for each score, from L2.
//
// Definition: docs/semantics.md#choose_tokens
#include "machine/barrier.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "params/choose_tokens.h"
#include "params/select_blocks.h"
#include "parts/selection/radix_choice.cuh"
#include "parts/selection/token_digits.cuh"
#include "parts/selection/token_list.cuh"
#include "parts/status.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int WARPS = SALA_SELECT_LIST_WARPS;

struct PiecePlan {
    RadixPlan radix;
    DigitPlan digits;
};

// Scores of a row before some piece that are above the cut, and that are equal to it.
struct Before {
    int better, equal;
};

// Called by whole blocks.
DEVICE Before count_before(DigitPlan& plan, const RowDigits& row, int round, int piece, int bin) {
    uint32_t better = 0, equal = 0;
    for (int earlier = warp_index(); earlier < piece; earlier += WARPS) {
        better += count_better(row, round, earlier, bin) + load_global_constant(row.better + earlier);
        equal += load_global_constant(row.bins_of(round - 1, earlier) + bin);
    }
    if (lane_index() == 0) {
        store_shared(shared_address(plan.better + warp_index()), better);
        store_shared(shared_address(plan.equal + warp_index()), equal);
    }
    sync_block();  // the warps' counts are there
    Before before{0, 0};
    for (int warp = 0; warp < WARPS; ++warp) {
        before.better += static_cast<int>(load_shared<uint32_t>(shared_address(plan.better + warp)));
        before.equal += static_cast<int>(load_shared<uint32_t>(shared_address(plan.equal + warp)));
    }
    return before;
}

DEVICE void write_lists(const sala_choose_tokens_params& p) {
    const TokenList list = find_token_list(p, block_index_z(), block_index_y());
    count_refused_sequence(p.status, list.refusal);
    const int piece = block_index_x();
    if (piece == 0) store_known_tokens(list, thread_index(), RADIX_THREADS);
    if (list.wanted == 0) return;
    auto& plan = dynamic_shared<PiecePlan>();
    const RowDigits row = find_row_digits(p, block_index_z(), block_index_y());
    const KnownDigits known = find_digits(plan.digits, row, p.round, list.wanted);
    const Before before = count_before(plan.digits, row, p.round, piece, known.bin);

    const int first = static_cast<int>(minimum(static_cast<int64_t>(piece) * p.piece, static_cast<int64_t>(list.free)));
    const int count = minimum(list.free - first, p.piece);
    const float* scores = list.scores + first;
    // What equal scores of earlier pieces have left of those that are taken.
    const RadixCut cut{~known.order, maximum(known.equals - before.equal, 0)};
    const int taken = before.better + minimum(before.equal, known.equals);
    if (count <= 0) return;
    visit_taken(plan.radix, all_scores(scores, count), cut, [&](int place, int i) { list.store(taken + place, first + i); });
}

#define INSTANCE(name) \
    KERNEL(name, sala_choose_tokens_params, RADIX_THREADS, 1) { write_lists(p); }
#include "instances/choose_tokens_lists.h"

}  // namespace SALA_VARIANT
}  // namespace sala
