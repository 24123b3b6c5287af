// The query tokens that a block takes.
#pragma once

#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "parts/keys/sequence.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// Neighbouring query tokens of one sequence.
struct TokenTile {
    SequenceRange sequence;
    int first_row;  // the first token's row among the sequence's queries
    int tokens;     // 0: nothing to do

    DEVICE int position(int token) const { return sequence.position(first_row + token); }
    DEVICE int last_position() const { return position(tokens - 1); }
    // The row of q, and of all that is shaped as q.
    DEVICE int64_t row(int token) const { return sequence.first_query + first_row + token; }
};

// Tile `index` of a sequence cut into tiles of `tile_tokens`. A negative index, or one past the end, gives a
// tile without tokens.
DEVICE TokenTile cut_tile(const SequenceRange& sequence, int index, int tile_tokens) {
    const int first_row = index * tile_tokens;
    const int left = index < 0 ? 0 : maximum(sequence.queries - first_row, 0);
    return {sequence, first_row, minimum(left, tile_tokens)};
}

// The index of the tile that the block at `block` on the x axis takes: the last tokens have the longest past,
// so they go first.
DEVICE int last_tiles_first(const SequenceRange& sequence, int block, int tile_tokens) {
    return ceil_div(sequence.queries, tile_tokens) - 1 - block;
}

}  // namespace SALA_VARIANT
}  // namespace sala
