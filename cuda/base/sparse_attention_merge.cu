// Second half of a decode step: merges what sparse_attention_decode left of the pieces of a token's keys.
//
//     m = max mᵢ    wᵢ = 2^(c (mᵢ − m))    l = Σ wᵢ lᵢ    O = Σ wᵢ Oᵢ / l    LSE = ln l + c m ln 2     over the pieces i
//
// Called right after sparse_attention_decode, with the same parameters; writes every output, of refused sequences too.
// Grid: (query heads, query tokens of a sequence, batch). A block of four warps takes a head of a token: thread i weighs
// piece i, and warp w adds up pieces w, w + 4, …, of which a lane takes four columns (two at dim 64). The first warp adds
// the four sums in order. So the order follows from the number of pieces alone, which is the token's own.
//
//     4 warps      | O of 8 pieces each ───────────▶|
//                  | m, l ■ w ■                     | Σ w O ■ | Σ of 4, gate, round, store         ■ block barrier
//
// Limit: latency; a list of 96 blocks has 24 pieces, 12 KiB for each head, which come from L2 and are all on their way at
// once. Dropped: one warp for each head, which waits three times for eight pieces.
//
// Definition: docs/semantics.md#sparse_attention
#include "machine/barrier.cuh"
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/warp.cuh"
#include "params/sparse_attention.h"
#include "parts/attention/decode_pieces.cuh"
#include "parts/attention/merge.cuh"
#include "parts/attention/online_softmax.cuh"
#include "parts/attention/query_tile.cuh"
#include "parts/keys/drafts.cuh"
#include "parts/keys/sequence.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int THREADS = SALA_DECODE_MAX_PIECES;
constexpr int WARPS = THREADS / WARP_SIZE;
constexpr int AT_ONCE = 8;  // pieces of a warp whose O is on its way at a time

template <int DIM>
struct MergePlan {
    using Columns = Vector<float, DIM / WARP_SIZE>;  // of a lane

    Columns out[WARPS - 1][WARP_SIZE];  // sums of the warps but the first
    float weights[THREADS];
    float largest[WARPS], sums[WARPS];
};

// Finishes the softmax over all pieces, and leaves their weights in the plan. Each thread gives the softmax of its piece.
template <int DIM>
DEVICE void weigh_pieces(OnlineSoftmax& softmax, MergePlan<DIM>& plan, const Vector<float, 2>& piece) {
    const float largest = reduce_max<WARP_SIZE>(piece[0]);
    if (lane_index() == 0) plan.largest[warp_index()] = largest;
    sync_block();  // the maxima of all warps are there
    softmax.maximum[0] = plan.largest[0];
    UNROLL
    for (int warp = 1; warp < WARPS; ++warp) softmax.maximum[0] = maximum(softmax.maximum[0], plan.largest[warp]);
    const float weight = merge_weight(softmax.factor[0], piece[0], softmax.maximum[0]);
    plan.weights[thread_index()] = weight;
    const float sum = reduce_add<WARP_SIZE>(weight * piece[1]);
    if (lane_index() == 0) plan.sums[warp_index()] = sum;
    sync_block();  // weights and sums of all warps are there
    softmax.sum[0] = 0.0f;
    UNROLL
    for (int warp = 0; warp < WARPS; ++warp) softmax.sum[0] += plan.sums[warp];
    // A factor of NaN makes the row NaN, whatever it sees.
    if (softmax.factor[0] != softmax.factor[0]) softmax.sum[0] = softmax.factor[0];
}

// Some of the pieces that the warp adds up: O in this lane's columns.
template <int DIM>
struct PartsOfWarp {
    using Columns = typename MergePlan<DIM>::Columns;

    Columns values[AT_ONCE];

    DEVICE static int piece(int first, int i) { return (first + i) * WARPS + warp_index(); }

    DEVICE void load(const Columns* pieces, int first, const PieceRange& range) {
        UNROLL
        for (int i = 0; i < AT_ONCE; ++i) {
            if (range.has(piece(first, i))) values[i] = load_global_constant(pieces + piece(first, i) * WARP_SIZE + lane_index());
        }
    }

    DEVICE void add_to(MergedColumns<DIM / WARP_SIZE>& out, const MergePlan<DIM>& plan, int first, const PieceRange& range) const {
        UNROLL
        for (int i = 0; i < AT_ONCE; ++i) {
            if (range.has(piece(first, i))) out.add(plan.weights[piece(first, i)], values[i]);
        }
    }
};

template <class T, int DIM>
DEVICE void store_merged(const sala_sparse_attention_params& p, const QueryTile& tile, int head, const OnlineSoftmax& softmax,
                         const MergedColumns<DIM / WARP_SIZE>& out) {
    constexpr int COLUMNS = DIM / WARP_SIZE;
    const int column = lane_index() * COLUMNS;
    const uint16_t* gate = row_of<const uint16_t>(p.gate, tile.row(0), head) + column;
    const float factor = inverse_sum(softmax, 0);
    Vector<uint32_t, COLUMNS / 2> rounded;
    UNROLL
    for (int i = 0; i < COLUMNS; i += 2) rounded[i / 2] = round_gated<T>({out.values[i] * factor, out.values[i + 1] * factor}, p, gate + i);
    store_global(reinterpret_cast<Vector<uint32_t, COLUMNS / 2>*>(row_of<uint16_t>(p.out, tile.row(0), head) + column), rounded);
    if (p.lse.address != 0 && lane_index() == 0) store_global(row_of<float>(p.lse, tile.row(0), head), log_sum_exp<T>(softmax, 0));
}

template <class T, int DIM>
DEVICE void sparse_attention_merge(const sala_sparse_attention_decode_params& p) {
    using Parts = PartsOfWarp<DIM>;
    const sala_sparse_attention_params& a = p.attention;
    const int head = block_index_x(), row = block_index_y(), heads_q = grid_size_x();
    const int head_kv = head / a.group;
    int parent;
    const SequenceRange sequence = find_drafts(a.sequences, p.trees, block_index_z(), parent);
    if (sequence.refusal != REFUSED_NOTHING && head == head_kv * a.group) {
        store_refused<THREADS, DIM>(a, sequence, head_kv, row, grid_size_y(), 0);
    }
    if (sequence.refusal != REFUSED_NOTHING || row >= sequence.queries) return;
    const QueryTile tile = find_query_tile(a, cut_tile(sequence, row, 1), head_kv);
    const int64_t at = workspace_row(p, block_index_z(), row);
    const PieceRange range = PieceRange::of(load_global_constant(piece_count(p, at, heads_q / a.group, head_kv)));
    Vector<float, 2> piece{{LOWEST, 0.0f}};
    if (range.has(thread_index())) piece = load_global_constant(piece_softmax(p, at, heads_q, head, thread_index()));
    const auto* pieces = reinterpret_cast<const typename Parts::Columns*>(piece_out<DIM>(p, at, heads_q, head, 0));
    auto& plan = dynamic_shared<MergePlan<DIM>>();
    OnlineSoftmax softmax;
    start_row(softmax, 0, find_scale(a, tile, 0, find_draft(p.trees, sequence, row, parent).position >= 0).factor);
    MergedColumns<DIM / WARP_SIZE> out;
    out.fill(0.0f);
    int first = 0;
    NO_UNROLL
    do {
        Parts parts;
        parts.load(pieces, first, range);
        // While the first of them are on their way.
        if (first == 0) weigh_pieces(softmax, plan, piece);
        parts.add_to(out, plan, first, range);
        first += AT_ONCE;
    } while (first * WARPS < range.count);
    if (warp_index() > 0) plan.out[warp_index() - 1][lane_index()] = out.packed();
    sync_block();  // the sums of all warps are there
    if (warp_index() > 0) return;
    UNROLL
    for (int warp = 1; warp < WARPS; ++warp) out.add(1.0f, plan.out[warp - 1][lane_index()]);
    store_merged<T, DIM>(a, tile, head, softmax, out);
}

#define INSTANCE(name, T, DIM) \
    KERNEL(name, sala_sparse_attention_decode_params, THREADS, 5) { sparse_attention_merge<T, DIM>(p); }
#include "instances/sparse_attention_merge.h"

}  // namespace SALA_VARIANT
}  // namespace sala
