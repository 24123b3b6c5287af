// Which tokens of a sequence a list takes whatever their scores, and which it chooses among.
//
//     n ≤ entries     0 … n − 1, −1 …
//     otherwise       0 … init − 1  |  the best of the free tokens, init … n − local − 1  |  n − local … n − 1
#pragma once

#include "machine/machine.cuh"
#include "machine/memory.cuh"
#include "params/choose_tokens.h"
#include "parts/keys/rows.cuh"
#include "parts/keys/sequence.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// One list.
struct TokenList {
    int* entries;
    const float* scores;  // of the free tokens
    int count;            // tokens of the sequence
    int chosen;           // entries
    int init, local;      // tokens at either end that are taken
    int free, wanted;     // tokens to choose among, and how many of them; 0: no score is read
    Refusal refusal;

    // Writes the free token that comes in place `place` of those taken.
    DEVICE void store(int place, int token) const { store_global(entries + init + place, init + token); }
};

// A refused sequence has no tokens.
DEVICE TokenList find_token_list(const sala_choose_tokens_params& p, int sequence, int head) {
    const KeyRange range = find_keys(p.keys, sequence);
    const bool must_choose = range.count > p.chosen;
    const int forced = p.init_tokens + p.local_tokens;
    return {row_of<int>(p.indices, sequence, head),
            row_of<const float>(p.scores, sequence, head) + p.init_tokens,
            range.count,
            p.chosen,
            p.init_tokens,
            p.local_tokens,
            must_choose ? range.count - forced : 0,
            must_choose ? p.chosen - forced : 0,
            range.refusal};
}

// Writes this thread's share, of `threads`, of the entries that depend on no score.
DEVICE void store_known_tokens(const TokenList& list, int thread, int threads) {
    const int behind = list.init + list.wanted;  // entries before the last tokens
    for (int i = thread; i < list.chosen; i += threads) {
        if (list.count <= list.chosen) {
            store_global(list.entries + i, i < list.count ? i : -1);
        } else if (i < list.init || i >= behind) {
            store_global(list.entries + i, i < list.init ? i : list.count - list.chosen + i);
        }
    }
}

}  // namespace SALA_VARIANT
}  // namespace sala
