// The sums of a sequence's queries, piece by piece: pieces are cut by its own number of query tokens, so that a sum has the same
// bits in every batch.
#pragma once

#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "params/score_keys.h"
#include "parts/keys/rows.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// Query tokens of each piece but the last.
DEVICE int tokens_of_piece(int queries) {
    return maximum(ceil_div(ceil_div(queries, +SALA_SCORE_MAX_PIECES), +SALA_SCORE_PIECE), 1) * SALA_SCORE_PIECE;
}

// In shared memory each lane's eight neighbouring channels lie as two times four, DIM / 2 apart, so that lanes which move four at a
// time meet no bank conflicts. The channel at a place, and the place of the four channels from a multiple of four on.
template <int DIM>
DEVICE int channel_at(int place) {
    return place % (DIM / 2) / 4 * 8 + place / (DIM / 2) * 4 + place % 4;
}
template <int DIM>
DEVICE int place_of_four(int channel) {
    return channel / 4 % 2 * (DIM / 2) + channel / 8 * 4;
}

// The sums of piece 0 of a sequence and kv head; those of the next are `dim` numbers further.
DEVICE float* sums_of(const sala_score_keys_params& p, int sequence, int head, int heads, int dim) {
    return entry_of<float>(p.sums, (static_cast<int64_t>(sequence) * heads + head) * p.pieces * dim);
}

}  // namespace SALA_VARIANT
}  // namespace sala
