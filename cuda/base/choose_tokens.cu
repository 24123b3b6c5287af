// Choice of tokens: those at either end of a sequence that are always taken, and of the others the best by scores, in ascending order.
//
//     list = [ 0 … init − 1 | the best by score[t] among the free tokens t | n − local … n − 1 ]
//
// Called once per chunk or pass of a method that keeps or passes on tokens by their scores. Grid: (1, kv heads, batch); a block of 8
// warps fills one list (parts/selection/radix_choice.cuh).
//
//     | histogram of 11 bits ■ the scores left ■ 11 bits ■ (10 bits) ■ write          ■ up to three block barriers
//                              └ of more than 2048 ┘
//
// Shared memory: 19.2 KiB. Limit: latency, about nine barriers, and of more than 2048 scores two reads to four, by one multiprocessor:
// rows too long for that are taken apart by choose_tokens_digits.cu.
//
// Definition: docs/semantics.md#choose_tokens
#include "machine/machine.cuh"
#include "params/choose_tokens.h"
#include "parts/selection/radix_choice.cuh"
#include "parts/selection/token_list.cuh"
#include "parts/status.cuh"

namespace sala {
inline namespace SALA_VARIANT {

DEVICE void choose_from_row(const sala_choose_tokens_params& p) {
    const TokenList list = find_token_list(p, block_index_z(), block_index_y());
    count_refused_sequence(p.status, list.refusal);
    store_known_tokens(list, thread_index(), RADIX_THREADS);
    if (list.wanted == 0) return;
    auto& plan = dynamic_shared<RadixPlan>();
    RadixScores free_scores = all_scores(list.scores, list.free);
    const RadixCut cut = find_cut(plan, free_scores, list.wanted);
    visit_taken(plan, free_scores, cut, [&](int place, int i) { list.store(place, i); });
}

#define INSTANCE(name) \
    KERNEL(name, sala_choose_tokens_params, RADIX_THREADS, 1) { choose_from_row(p); }
#include "instances/choose_tokens.h"

}  // namespace SALA_VARIANT
}  // namespace sala
