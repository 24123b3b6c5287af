// Gathering: the rows of K and V at chosen tokens, and their scores, to tensors of their own.
//
//     K_out[i] = K[index[i]],   V likewise,   score_out[i] = score[index[i]]          per sequence and kv head; no token: 0, −∞
//
// Called once per pass of a method that passes tokens on, behind choose_tokens. Grid: (chosen tokens / rows of a block, kv heads,
// batch). DIM / 8 lanes take a row, 16 bytes each of K and of V, of four rows at once:
//
//     lanes 0 … 15      rows 0, 16, 32, 48    | index | page | load k, v | store k, v |          warps run on their own
//     lanes 16 … 31     rows 1, 17, 33, 49
//
// Limit: bytes, each row read once and written once.
//
// Definition: docs/semantics.md#gather_rows
#include "machine/machine.cuh"
#include "machine/math.cuh"
#include "machine/memory.cuh"
#include "params/gather_rows.h"
#include "parts/keys/key_rows.cuh"
#include "parts/keys/rows.cuh"
#include "parts/keys/sequence.cuh"
#include "parts/status.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int THREADS = SALA_GATHER_THREADS;
constexpr int AT_ONCE = SALA_GATHER_ROWS;
constexpr int VECTOR = 8;  // elements of 16 bytes
constexpr int NO_TOKEN = -1;

template <int DIM>
DEVICE void gather_rows(const sala_gather_rows_params& p) {
    constexpr int LANES = DIM / VECTOR, ROWS = THREADS / LANES;
    const int sequence = block_index_z(), head = block_index_y();
    const int channel = thread_index() % LANES * VECTOR;
    const bool counts = thread_index() % LANES == 0;
    const KeyRange range = find_keys(p.keys, sequence);
    count_refused_sequence(p.status, range.refusal);
    const KeyRows keys = find_key_rows(p.k, range, sequence, head, 1), values = find_key_rows(p.v, range, sequence, head, 1);
    // The results of a sequence are a cache of its own, whatever its keys are.
    const KeyRange own{0, p.chosen, sequence, REFUSED_NOTHING};
    const KeyRows keys_out = find_key_rows(p.k_out, own, sequence, head, 1), values_out = find_key_rows(p.v_out, own, sequence, head, 1);
    const int64_t first = static_cast<int64_t>(block_index_x()) * (ROWS * AT_ONCE) + thread_index() / LANES;

    int tokens[AT_ONCE];
    Words4 loaded[AT_ONCE][2];
    UNROLL
    for (int i = 0; i < AT_ONCE; ++i) {
        const int64_t entry = first + i * ROWS;
        const int* index = row_of<const int>(p.indices, sequence, head) + entry;
        const int token = entry < p.chosen && range.refusal == REFUSED_NOTHING ? load_global_constant(index) : NO_TOKEN;
        const bool is_token = 0 <= token && token < range.count;
        if (counts && !is_token && token != NO_TOKEN) count_refused(p.status, REFUSED_BLOCKS, 1);
        tokens[i] = is_token ? token : NO_TOKEN;
    }
    UNROLL
    for (int i = 0; i < AT_ONCE; ++i) {
        const int token = maximum(tokens[i], 0);
        const int page = look_up_pages<LANES>(keys, token, tokens[i] == NO_TOKEN ? token : token + 1).page(keys, token);
        loaded[i][0] = loaded[i][1] = Words4{};
        if (tokens[i] == NO_TOKEN) continue;
        if (page == NO_PAGE) {
            if (counts) count_refused(p.status, REFUSED_PAGES, 1);
            continue;
        }
        loaded[i][0] = load_global_constant(reinterpret_cast<const Words4*>(keys.row_in(page, token) + channel));
        loaded[i][1] = load_global_constant(reinterpret_cast<const Words4*>(values.row_in(page, token) + channel));
    }
    UNROLL
    for (int i = 0; i < AT_ONCE; ++i) {
        const int64_t entry = first + i * ROWS;
        if (entry >= p.chosen) continue;
        const int row = static_cast<int>(entry);
        store_global(reinterpret_cast<Words4*>(keys_out.row_in(0, row) + channel), loaded[i][0]);
        store_global(reinterpret_cast<Words4*>(values_out.row_in(0, row) + channel), loaded[i][1]);
        if (p.scores.address == 0 || !counts) continue;
        const float* score = row_of<const float>(p.scores, sequence, head) + tokens[i];
        store_global(row_of<float>(p.scores_out, sequence, head) + row, tokens[i] == NO_TOKEN ? -INFINITE : load_global_constant(score));
    }
}

#define INSTANCE(name, DIM) \
    KERNEL(name, sala_gather_rows_params, THREADS, 4) { gather_rows<DIM>(p); }
#include "instances/gather_rows.h"

}  // namespace SALA_VARIANT
}  // namespace sala
