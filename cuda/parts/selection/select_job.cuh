// What a block does that selects for a tile of query tokens: its tokens, and the rows of compressed keys that they need in
// either pass.
#pragma once

#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "params/select_blocks.h"
#include "parts/keys/key_rows.cuh"
#include "parts/keys/sequence.cuh"
#include "parts/keys/token_tile.cuh"
#include "parts/keys/windows.cuh"
#include "parts/selection/score_rows.cuh"
#include "parts/selection/token_columns.cuh"

namespace sala {
inline namespace SALA_VARIANT {

struct SelectJob {
    TokenTile tile;
    TokenRows rows;
};

DEVICE SelectJob find_job(const sala_select_blocks_params& p, const SequenceRange& sequence, int block_tokens) {
    const int index = last_tiles_first(sequence, block_index_x(), block_tokens);
    SelectJob job{cut_tile(sequence, index, block_tokens), {0, 0, 0}};
    if (job.tile.tokens > 0 && !sequence.dense) job.rows = find_token_rows(p, job.tile.last_position());
    return job;
}

// Field by field, so that they stay in registers.
DEVICE NeededRows choose_rows(bool first, const NeededRows& a, const NeededRows& b) {
    const KeyRows& x = a.rows;
    const KeyRows& y = b.rows;
    const KeyRows rows{first ? x.first : y.first,
                       first ? x.stride : y.stride,
                       first ? x.table : y.table,
                       first ? x.page_stride : y.page_stride,
                       first ? x.pages : y.pages,
                       first ? x.page_shift : y.page_shift,
                       x.first_row};
    return {rows, first ? a.begin : b.begin, first ? a.end : b.end};
}

// The rows of the pass that sums up m and Z, and of the one that scores.
struct NeededKeys {
    NeededRows summed, scored;

    DEVICE NeededRows of_pass(bool sums) const { return choose_rows(sums, summed, scored); }
};

DEVICE NeededKeys find_needed_keys(const sala_select_blocks_params& p, const SelectJob& job) {
    const KeyRange& keys = job.tile.sequence.keys;
    const int stride = p.lists.block_size / ScoreTile::BLOCK_ROWS;
    const KeyRows k1 = find_key_rows(p.k1, keys, block_index_z(), block_index_y(), stride);
    const NeededRows scored{k1, job.rows.score_begin, minimum(job.rows.score_end, full_windows(keys.count, stride))};
    NeededRows summed{k1, 0, job.rows.sum_rows};
    if (!p.exact_lse) summed.rows = find_key_rows(p.k2, keys, block_index_z(), block_index_y(), p.lists.block_size);
    return {summed, scored};
}

}  // namespace SALA_VARIANT
}  // namespace sala
