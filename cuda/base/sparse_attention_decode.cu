// First half of a decode step: attention of one query token over one piece of its keys, for up to 16 query heads.
//
//     P = 2^(c (S − m)),   S = Q Kᵀ,   O = P V,   l = Σ P         m: the largest score, O not normalised
//
// Called for 1 to 16 query tokens per sequence, before sparse_attention_merge, which merges the pieces in order. Grid:
// (row groups of tokens × pieces, kv heads, batch). A token's blocks lie by place (its list in ascending order, or all
// blocks), cut into pieces of 256 keys, longer ones where there would be more than 128. A piece depends on its token
// alone: neither the batch, nor the other tokens of a chain, nor the GPU changes a bit.
// Of a tree of drafts, a list ends before the first of them, and those that the token sees are one piece more, a cell of
// their own.
//
//     place        0    1    2    3  | 4    5    6    7  | 8 …           S: warp w has the keys of cell w (32 keys)
//                  ─────── block 0 ───  ─── block 1 ─────               O: warp w has columns dim/8 · w …, of all keys
//     cell of      0 1  2 3  4 5  6 7
//
// Warps meet where a block's 256 keys do: each finds the scores of its own keys, they exchange the maxima of rows, and
// each then multiplies the weights of all with its own columns of V. So K and V are read once, and O needs no sum over
// warps. Half of V takes the place of K, whose other half the weights take:
//
//     shared memory, bytes at dim 128:   K 8 × 8 KiB (then V, second halves of cells 32 KiB; weights 8 KiB)
//                                        V, first halves of cells 32 KiB; maxima 512; list 128;    96.6 KiB in all
//
//     copies    | K ─────▶| V first halves ──▶| V second halves ──▶|
//     warps               | S, maxima ■ weights     ■ O += P V      ■ O += P V   ■         ■ block barrier
//
// Limit: bytes. All copies but the second halves of V are on their way before anything is waited for. At batch 1 a list of
// 96 blocks gives 24 pieces for each kv head, and latencies are most of the time. Results are 6.3 % of the bytes of K and
// V. Dropped: one launch in which the last block to arrive merges (one multiprocessor reads what all have written, counters
// have to be zeroed, and no test on a CPU can tell whether fences suffice); pieces of two blocks (twice the results).
// Groups of more than 16 heads read K and V once for each sixteen, from L2.
//
// Definition: docs/semantics.md#sparse_attention
#include "machine/async_copy.cuh"
#include "machine/barrier.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/tile.cuh"
#include "machine/warp.cuh"
#include "params/sparse_attention.h"
#include "parts/attention/decode_pieces.cuh"
#include "parts/attention/key_cell.cuh"
#include "parts/attention/online_softmax.cuh"
#include "parts/attention/query_tile.cuh"
#include "parts/attention/token_blocks.cuh"
#include "parts/keys/drafts.cuh"
#include "parts/keys/sequence.cuh"
#include "parts/status.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int WARPS = SALA_DECODE_WARPS;
constexpr int THREADS = WARPS * WARP_SIZE;
constexpr int CELL = KeyCell::KEYS;
constexpr int HALF = CELL / 2;  // keys of a cell whose V is loaded at a time
constexpr int ROWS = AttentionTile::WARP_ROWS;
static_assert(WARPS * CELL == SALA_DECODE_PIECE_KEYS, "a block takes the shortest pieces at once");

template <int DIM>
struct DecodePlan {
    // K of a cell; then V of its second half in the first half of this, and in the other half its weights.
    uint16_t key[WARPS][CELL * DIM];
    uint16_t value[WARPS][HALF * DIM];
    float maxima[ROWS][WARPS];  // of rows, over the keys of a warp; in the end the sums of weights
    ListScratch<THREADS, WARPS> list;

    DEVICE SharedTile<DIM> key_tile(int warp) { return {shared_address(key[warp])}; }
    DEVICE SharedTile<DIM> first_values(int warp) { return {shared_address(value[warp])}; }
    DEVICE SharedTile<DIM> second_values(int warp) { return key_tile(warp); }
    // Of the keys of one half of a cell, as an operand A.
    DEVICE uint32_t weights(int warp, int half) {
        return shared_address(key[warp]) + HALF * DIM * 2 + static_cast<uint32_t>(half * WARP_SIZE + lane_index()) * 16;
    }
    DEVICE BlockBits bits() { return {reinterpret_cast<uint32_t*>(key), static_cast<int>(sizeof(key) / 4)}; }
};
static_assert(sizeof(DecodePlan<128>) <= 99 * 1024, "the plan fits every base architecture");
static_assert(2 * WARP_SIZE * 16 <= HALF * 64 * 2, "half of K has room for the weights");

// What a block takes.
struct DecodeWork {
    int row;        // of a token, among those of its sequence
    int row_group;  // of the token
    int piece;

    // Whether this thread does what is done once for a token and kv head.
    DEVICE bool speaks_for_token() const { return piece == 0 && row_group == 0 && thread_index() == 0; }
};

DEVICE DecodeWork find_work(const sala_sparse_attention_decode_params& p) {
    const int group = block_index_x() / p.pieces, row = group / p.attention.warps_per_token;
    return {row, group - row * p.attention.warps_per_token, block_index_x() - group * p.pieces};
}

// The head of its group that accumulator row 8·side + lane / 4 stands for: those of a token follow each other. There may
// be no such head.
DEVICE int head_in_group(int row_group, int side) { return row_group * ROWS + accumulator_row(2 * side); }

// The rows of the token as operand A, and their softmax before the first key.
template <int DIM>
DEVICE FragmentA<DIM> load_token_rows(OnlineSoftmax& softmax, const sala_sparse_attention_params& p, const QueryTile& tile, int row_group) {
    const SignedScale scale = find_scale(p, tile, 0, true);
    const uint32_t flip = scale.sign_flip();
    FragmentA<DIM> query{};
    UNROLL
    for (int side = 0; side < 2; ++side) {
        start_row(softmax, side, scale.factor);
        const int head = head_in_group(row_group, side);
        if (head >= p.group) continue;
        const auto* elements = row_of<const uint16_t>(p.q, tile.row(0), tile.head_kv * p.group + head);
        const auto* source = reinterpret_cast<const uint32_t*>(elements) + lane_index() % 4;
        UNROLL
        for (int i = 0; i < DIM / 8; ++i) query.registers[i / 2][side + i % 2 * 2] = load_global_constant(source + 4 * i) ^ flip;
    }
    return query;
}

// The first key of a cell of the token, by place; −1 behind the last. Called by all threads of the block, each warp with
// its own cell of the eight that begin at `first`, at a time when K and the scratch are free. A block has 2^shift cells.
template <int DIM>
DEVICE int first_key(DecodePlan<DIM>& plan, const TokenBlocks& blocks, int first, int end, int shift) {
    if (blocks.must_sort()) sort_blocks(plan.list, plan.bits(), blocks, first >> shift);
    const int cell = first + warp_index();
    if (cell >= end) return -1;
    const int place = cell >> shift;
    int block = place;
    if (blocks.must_sort()) {
        block = plan.list.blocks[place - (first >> shift)];
    } else if (blocks.list != nullptr) {
        block = load_global(blocks.list + place);
    }
    return ((block << shift) + (cell & ((1 << shift) - 1))) * CELL;
}

// The cell of the warp: from its first key on by place, of keys before `end`; or in a piece of drafts those that the token sees,
// which follow `end` and which the first warp takes; none before `first_visible`.
DEVICE KeyCell find_warp_cell(const KeyRows& keys, int first, int end, uint32_t drafts, int first_visible) {
    const bool has_drafts = drafts != 0;
    const uint32_t of_warp = warp_index() == 0 ? drafts : 0;
    const int from = has_drafts ? end : first;
    return find_cell(keys, from, (has_drafts ? of_warp : keys_before(first, end)) & keys_from(from, first_visible), !has_drafts);
}

// The row maxima of a block's keys, from those of this warp's.
DEVICE void exchange_maxima(float (&largest)[2], float (&maxima)[ROWS][WARPS]) {
    UNROLL
    for (int side = 0; side < 2; ++side) {
        if (lane_index() % 4 == 0) maxima[accumulator_row(2 * side)][warp_index()] = largest[side];
    }
    sync_block();  // the maxima of all warps are there
    UNROLL
    for (int side = 0; side < 2; ++side) {
        UNROLL
        for (int warp = 0; warp < WARPS; ++warp) largest[side] = maximum(largest[side], maxima[accumulator_row(2 * side)][warp]);
    }
}

// Adds the keys of one half of every cell to this warp's columns of O.
template <class T, int DIM>
DEVICE void add_values(Accumulator<DIM / WARPS>& out, DecodePlan<DIM>& plan, int half) {
    UNROLL
    for (int warp = 0; warp < WARPS; ++warp) {
        const Words4 words = load_shared<Words4>(plan.weights(warp, half));
        const FragmentA<HALF> weights{{{words[0], words[1], words[2], words[3]}}};
        multiply_kn<T>(out, weights, half == 0 ? plan.first_values(warp) : plan.second_values(warp), 0, warp_index() * (DIM / WARPS));
    }
}

// How many pieces there are. After the results: what the address is made of would take registers until then.
DEVICE void store_count(const sala_sparse_attention_decode_params& p, const DecodeWork& work, const PieceRange& range) {
    store_global(piece_count(p, workspace_row(p, block_index_z(), work.row), grid_size_y(), block_index_y()), range.packed());
}

// What a block does whose piece there is not, or whose keys the token does not see.
DEVICE void leave_piece(const sala_sparse_attention_decode_params& p, const DecodeWork& work, const PieceRange& range) {
    if (work.speaks_for_token()) store_count(p, work, range);
}

template <int DIM>
DEVICE void store_piece(const sala_sparse_attention_decode_params& p, const DecodeWork& work, const QueryTile& tile, OnlineSoftmax& softmax,
                        const Accumulator<DIM / WARPS>& out, float (&sums)[ROWS][WARPS]) {
    constexpr int COLUMNS = DIM / WARPS;
    const int heads_q = grid_size_y() * p.attention.group;
    const int64_t at = workspace_row(p, block_index_z(), work.row);
    int head[2];
    bool exists[2];
    UNROLL
    for (int side = 0; side < 2; ++side) {
        const int in_group = head_in_group(work.row_group, side);
        exists[side] = in_group < p.attention.group;
        head[side] = tile.head_kv * p.attention.group + in_group;
    }
    reduce_add_each<4>(softmax.sum);
    UNROLL
    for (int side = 0; side < 2; ++side) {
        if (lane_index() % 4 == 0) sums[accumulator_row(2 * side)][warp_index()] = softmax.sum[side];
        if (!exists[side]) continue;
        float* to = piece_out<DIM>(p, at, heads_q, head[side], work.piece) + warp_index() * COLUMNS;
        UNROLL
        for (int j = 0; j < COLUMNS / 8; ++j) {
            const float(&v)[4] = out.values[j];
            store_global(reinterpret_cast<Vector<float, 2>*>(to + accumulator_col(j, 0)), {{v[2 * side], v[2 * side + 1]}});
        }
    }
    sync_block();  // the sums of all warps are there
    if (warp_index() != 0 || lane_index() % 4 != 0) return;
    UNROLL
    for (int side = 0; side < 2; ++side) {
        if (!exists[side]) continue;
        float sum = 0.0f;
        UNROLL
        for (int warp = 0; warp < WARPS; ++warp) sum += sums[accumulator_row(2 * side)][warp];
        store_global(piece_softmax(p, at, heads_q, head[side], work.piece), {{softmax.maximum[side], sum}});
    }
}

template <class T, int DIM>
DEVICE void sparse_attention_decode(const sala_sparse_attention_decode_params& p) {
    const sala_sparse_attention_params& a = p.attention;
    const DecodeWork work = find_work(p);
    int parent;
    const SequenceRange sequence = find_drafts(a.sequences, p.trees, block_index_z(), parent);
    count_refused_sequence(a.status, sequence.refusal);
    if (sequence.refusal != REFUSED_NOTHING) return;
    const QueryTile tile = find_query_tile(a, cut_tile(sequence, work.row, 1), block_index_y());
    if (tile.tokens == 0) return;
    const Draft draft = find_draft(p.trees, sequence, work.row, parent);
    const int drafts = draft.tree != 0 ? 1 : 0;
    // Where sequences may be dense, most blocks of those with lists find nothing to do: they leave before they read a list.
    const int shift = cell_shift(a.block_size);
    if (work.piece > 0 && !may_have_piece(most_blocks(a, tile, draft.end) << shift, drafts, work.piece)) return;
    auto& plan = dynamic_shared<DecodePlan<DIM>>();
    int refused;
    const TokenBlocks blocks = find_token_blocks(plan.list, plan.bits(), a, tile, draft, refused);
    const DecodePieces pieces = cut_into_pieces(blocks.count << shift, drafts);
    if (work.speaks_for_token()) count_refused(a.status, REFUSED_BLOCKS, refused);
    const int first_visible = find_first_key(a, tile, 0), first_cell = first_visible / CELL;
    const PieceRange range{pieces.before(first_cell), pieces.count()};
    if (!range.has(work.piece)) {
        leave_piece(p, work, range);
        return;
    }

    const int warp = warp_index(), end = pieces.first_cell(work.piece + 1);
    const uint32_t taken = pieces.has_drafts(work.piece) ? draft.tree : 0;
    OnlineSoftmax softmax;
    FragmentA<DIM> query;
    Accumulator<DIM / WARPS> out;
    out.fill(0.0f);
    if (blocks.must_sort()) sync_block();  // the scratch is free
    int first = pieces.first_cell(work.piece);
    if (!pieces.has_drafts(work.piece)) first += maximum(first_cell - first, 0) / WARPS * WARPS;
    bool is_first = true;
    NO_UNROLL
    do {
        // Found anew for each eight cells: between them they would take registers.
        const KeyRows keys = find_tile_keys(a, tile, block_index_z());
        const KeyCell cell = find_warp_cell(keys, first_key(plan, blocks, first, end, shift), draft.end, taken, first_visible);
        load_cell_rows<CELL>(plan.key_tile(warp), keys, cell, 0);
        async_copy_commit();
        if (is_first) {
            // Not earlier: the first keys need not wait for them.
            is_first = false;
            query = load_token_rows<DIM>(softmax, a, tile, work.row_group);
        }
        const KeyRows values = find_tile_values(a, tile, block_index_z());
        load_cell_rows<HALF>(plan.first_values(warp), values, cell, 0);
        async_copy_commit();
        if (lane_index() == 0) count_bad_pages(a.status, cell);

        Accumulator<CELL> scores;
        scores.fill(0.0f);
        async_copy_wait<1>();
        sync_warp();  // K of the warp's cell is in shared memory
        multiply_nk<T>(scores, query, plan.key_tile(warp), 0, 0);
        sync_warp();  // it is free
        load_cell_rows<HALF>(plan.second_values(warp), values, cell, HALF);
        async_copy_commit();
        hide_keys(scores, cell);

        float maxima[2], sums[2];
        find_row_maxima(maxima, scores);
        exchange_maxima(maxima, plan.maxima);
        const Rescale rescale = raise_maxima(softmax, maxima);
        make_weights<T>(sums, scores, softmax);
        advance(softmax, out, rescale, sums);
        const FragmentA<CELL> weights = to_fragment_a<T>(scores);
        UNROLL
        for (int half = 0; half < 2; ++half) {
            const uint32_t(&r)[4] = weights.registers[half];
            store_shared(plan.weights(warp, half), Words4{{r[0], r[1], r[2], r[3]}});
        }
        async_copy_wait<1>();
        sync_block();  // weights and the first halves of V are in shared memory
        add_values<T>(out, plan, 0);
        async_copy_wait<0>();
        sync_block();  // so are the second halves
        add_values<T>(out, plan, 1);
        sync_block();  // all of it is free
        first += WARPS;
    } while (first < end);
    store_piece<DIM>(p, work, tile, softmax, out, plan.maxima);
    if (work.speaks_for_token()) store_count(p, work, range);
}

#define INSTANCE(name, T, DIM) \
    KERNEL(name, sala_sparse_attention_decode_params, THREADS, (DIM == 64 ? 2 : BLOCKS_OF_99_KIB)) { sparse_attention_decode<T, DIM>(p); }
#include "instances/sparse_attention_decode.h"

}  // namespace SALA_VARIANT
}  // namespace sala
