// Second half of a decode step: merges what sparse_attention_decode left of the pieces of a token's keys.
//
//     m = max mᵢ    wᵢ = 2^(c (mᵢ − m))    l = Σ wᵢ lᵢ    O = Σ wᵢ Oᵢ / l    LSE = ln l + c m ln 2     over the pieces i, in order
//
// Called right after sparse_attention_decode, with the same parameters; writes every output, of refused sequences too.
// Grid: (query heads, query tokens of a sequence, batch). A warp takes a head of a token. Lane i weighs piece i, 32 at a
// time; then every lane adds up its four columns (two at dim 64) of O:
//
//     warp    | m, l of the pieces (lane = piece) | w | O of 8 pieces ▶ | O of 8 ▶ | … | gate, round, store
//
// Limit: latency; a list of 96 blocks has 24 pieces, 12 KiB for each head, which come from L2. Blocks are single warps, so
// that few heads spread over many multiprocessors.
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "machine/warp.cuh"
#include "params/sparse_attention.h"
#include "parts/attention/decode_pieces.cuh"
#include "parts/attention/merge.cuh"
#include "parts/attention/online_softmax.cuh"
#include "parts/attention/query_tile.cuh"
#include "parts/keys/sequence.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int THREADS = WARP_SIZE;
constexpr int ROUNDS = SALA_DECODE_MAX_PIECES / WARP_SIZE;  // pieces that a lane weighs
constexpr int AT_ONCE = 8;                                  // pieces whose O is on its way at a time
static_assert(SALA_DECODE_MAX_PIECES % WARP_SIZE == 0, "lanes weigh whole rounds");

// Finishes the softmax over all pieces; weights[i] becomes that of piece 32 i + lane.
DEVICE void weigh_pieces(OnlineSoftmax& softmax, float (&weights)[ROUNDS], const Vector<float, 2>* pieces, int count) {
    float maxima[ROUNDS], sums[ROUNDS], largest = LOWEST;
    UNROLL
    for (int i = 0; i < ROUNDS; ++i) {
        const int piece = i * WARP_SIZE + lane_index();
        maxima[i] = LOWEST;
        sums[i] = 0.0f;
        if (piece < count) {
            const Vector<float, 2> part = load_global_constant(pieces + piece);
            maxima[i] = part[0];
            sums[i] = part[1];
        }
        largest = maximum(largest, maxima[i]);
    }
    softmax.maximum[0] = reduce_max<WARP_SIZE>(largest);
    UNROLL
    for (int i = 0; i < ROUNDS; ++i) {
        weights[i] = merge_weight(softmax.factor[0], maxima[i], softmax.maximum[0]);
        sums[i] *= weights[i];
    }
    reduce_add_each<WARP_SIZE>(sums);
    softmax.sum[0] = 0.0f;
    UNROLL
    for (int i = 0; i < ROUNDS; ++i) softmax.sum[0] += sums[i];
    // A factor of NaN makes the row NaN, whatever it sees.
    if (softmax.factor[0] != softmax.factor[0]) softmax.sum[0] = softmax.factor[0];
}

// This lane's columns of O over all pieces.
template <int DIM>
DEVICE MergedColumns<DIM / WARP_SIZE> add_pieces(const float* pieces, const float (&weights)[ROUNDS], int count) {
    using Columns = Vector<float, DIM / WARP_SIZE>;
    MergedColumns<DIM / WARP_SIZE> out;
    out.fill(0.0f);
    const auto* mine = reinterpret_cast<const Columns*>(pieces) + lane_index();
    UNROLL
    for (int round = 0; round < ROUNDS; ++round) {
        const int end = minimum(count - round * WARP_SIZE, WARP_SIZE);
        NO_UNROLL
        for (int first = 0; first < end; first += AT_ONCE) {
            Columns parts[AT_ONCE];
            UNROLL
            for (int i = 0; i < AT_ONCE; ++i) {
                const int piece = round * WARP_SIZE + minimum(first + i, end - 1);
                parts[i] = load_global_constant(mine + piece * WARP_SIZE);
            }
            UNROLL
            for (int i = 0; i < AT_ONCE; ++i) {
                const float weight = shuffle(weights[round], first + i);
                if (first + i < end) out.add(weight, parts[i]);
            }
        }
    }
    return out;
}

template <class T, int DIM>
DEVICE void sparse_attention_merge(const sala_sparse_attention_decode_params& p) {
    constexpr int COLUMNS = DIM / WARP_SIZE;
    const sala_sparse_attention_params& a = p.attention;
    const int head = block_index_x(), row = block_index_y(), heads_q = grid_size_x();
    const int head_kv = head / a.group;
    const SequenceRange sequence = find_sequence(a.sequences, block_index_z());
    if (sequence.refusal != REFUSED_NOTHING) {
        if (head % a.group == 0) store_refused<THREADS, DIM>(a, sequence, head_kv, row, grid_size_y(), 0);
        return;
    }
    if (row >= sequence.queries) return;
    const QueryTile tile = find_query_tile(a, cut_tile(sequence, row, 1), head_kv);
    const int64_t at = workspace_row(p, block_index_z(), row);
    const int count = load_global_constant(piece_count(p, at, heads_q / a.group, head_kv));

    OnlineSoftmax softmax;
    start_row(softmax, 0, find_scale(a, tile, 0, true).factor);
    float weights[ROUNDS];
    weigh_pieces(softmax, weights, piece_softmax(p, at, heads_q, head, 0), count);
    const MergedColumns<COLUMNS> out = add_pieces<DIM>(piece_out<DIM>(p, at, heads_q, head, 0), weights, count);

    const int column = lane_index() * COLUMNS;
    const uint16_t* gate = row_of<const uint16_t>(a.gate, tile.row(0), head) + column;
    const float factor = inverse_sum(softmax, 0);
    Vector<uint32_t, COLUMNS / 2> rounded;
    UNROLL
    for (int i = 0; i < COLUMNS; i += 2) rounded[i / 2] = round_gated<T>({out.values[i] * factor, out.values[i + 1] * factor}, a, gate + i);
    store_global(reinterpret_cast<Vector<uint32_t, COLUMNS / 2>*>(row_of<uint16_t>(a.out, tile.row(0), head) + column), rounded);
    if (a.lse.address != 0 && lane_index() == 0) store_global(row_of<float>(a.lse, tile.row(0), head), log_sum_exp<T>(softmax, 0));
}

#define INSTANCE(name, T, DIM) \
    KERNEL(name, sala_sparse_attention_decode_params, THREADS, 16) { sparse_attention_merge<T, DIM>(p); }
#include "instances/sparse_attention_merge.h"

}  // namespace SALA_VARIANT
}  // namespace sala
