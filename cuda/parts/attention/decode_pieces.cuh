// What the two launches of a decode step share: how the keys of a token are cut into pieces, and where the results of a
// piece lie.
//
// A token's keys are the cells of its blocks by place. Pieces are as many keys as a power of two, the shortest that makes
// no more than SALA_DECODE_MAX_PIECES of them, so that they depend on the token alone. For a dense sequence places are
// positions: its tokens have the pieces of a list of all blocks, and the same bits. The drafts of a tree are a piece of their
// own, after those.
#pragma once

#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "params/sparse_attention.h"
#include "parts/attention/query_tile.cuh"
#include "parts/keys/rows.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// The logarithm of the cells of the shortest pieces.
constexpr int SHORTEST_SHIFT = 3;
static_assert(AttentionTile::CELL_KEYS << SHORTEST_SHIFT == SALA_DECODE_PIECE_KEYS, "the logarithm is that of the shortest pieces");

struct DecodePieces {
    int cells;   // of the token's blocks
    int shift;   // a piece has 2^shift; the last may have fewer
    int drafts;  // one more piece, of drafts, or none

    DEVICE int of_blocks() const { return (cells + (1 << shift) - 1) >> shift; }
    DEVICE int count() const { return of_blocks() + drafts; }
    DEVICE bool has_drafts(int piece) const { return piece == of_blocks(); }
    DEVICE int first_cell(int piece) const { return minimum(piece << shift, cells); }
    // How many pieces lie before a cell.
    DEVICE int before(int cell) const { return minimum(cell >> shift, of_blocks()); }
};

// What a token's pieces are merged by: those from `first` on.
struct PieceRange {
    static constexpr int SHIFT = 16;
    static_assert(SALA_DECODE_MAX_PIECES < 1 << SHIFT, "two numbers are stored as one");

    int first, count;

    DEVICE int packed() const { return first << SHIFT | count; }
    static DEVICE PieceRange of(int packed) { return {packed >> SHIFT, packed & ((1 << SHIFT) - 1)}; }
    DEVICE bool has(int piece) const { return first <= piece && piece < count; }
};

// Whether tokens of no more than so many cells have a piece of this number: pieces longer than the shortest are fewer.
DEVICE bool may_have_piece(int cells, int drafts, int piece) { return (piece - drafts) << SHORTEST_SHIFT < cells; }

DEVICE DecodePieces cut_into_pieces(int cells, int drafts) {
    DecodePieces pieces{cells, SHORTEST_SHIFT, drafts};
    while (pieces.count() > SALA_DECODE_MAX_PIECES) ++pieces.shift;
    return pieces;
}

// The row of a query token in the workspace: `row` counts those of its sequence.
DEVICE int64_t workspace_row(const sala_sparse_attention_decode_params& p, int sequence, int row) {
    return static_cast<int64_t>(sequence) * p.attention.sequences.max_seqlen_q + row;
}

// A PieceRange.
DEVICE int* piece_count(const sala_sparse_attention_decode_params& p, int64_t row, int heads_kv, int head_kv) {
    return entry_of<int>(p.counts, row * heads_kv + head_kv);
}

// The score that a piece's weights of a query head are relative to, and their sum.
DEVICE Vector<float, 2>* piece_softmax(const sala_sparse_attention_decode_params& p, int64_t row, int heads_q, int head, int piece) {
    return entry_of<Vector<float, 2>>(p.softmaxes, (row * heads_q + head) * p.pieces + piece);
}

// Its O, not normalised.
template <int DIM>
DEVICE float* piece_out(const sala_sparse_attention_decode_params& p, int64_t row, int heads_q, int head, int piece) {
    return entry_of<float>(p.partials, ((row * heads_q + head) * p.pieces + piece) * DIM);
}

}  // namespace SALA_VARIANT
}  // namespace sala
