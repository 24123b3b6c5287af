// Appending keys: new rows of K and V go to the ends of their sequences, wherever those lie.
//
//     K[r + Lk − Lq] = k_new[r],   V[r + Lk − Lq] = v_new[r]          r: the sequence's rows of this call
//
// Called once per prefill, chunk or decode step for every sparse layer, before compress_keys. Grid: (new rows ×
// heads, 1, batch). DIM / 8 lanes move one head of one row, 16 bytes each of K and of V; the first of them looks
// up the page:
//
//     lanes 0 … 15      row 0, head 0      | range, page | load k, v | store k, v |          warps run on their own
//     lanes 16 … 31     row 0, head 1
//
// Rows before the sequence's first position, past the room that it has or in a bad page are not written, and
// counted; the others are. Limit: bytes, each read once and written once.
//
// Definition: docs/semantics.md#append_keys
#include "machine/machine.cuh"
#include "machine/memory.cuh"
#include "params/append_keys.h"
#include "parts/keys/key_rows.cuh"
#include "parts/keys/rows.cuh"
#include "parts/keys/sequence.cuh"
#include "parts/status.cuh"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int THREADS = SALA_APPEND_THREADS;
constexpr int VECTOR = 8;  // elements of 16 bytes

DEVICE Words4 load_vector(const sala_rows& tensor, int64_t token, int head, int vector) {
    return load_global_constant(reinterpret_cast<const Words4*>(row_of<const uint16_t>(tensor, token, head) + vector * VECTOR));
}

DEVICE void store_vector(const KeyRows& rows, int page, int position, int vector, const Words4& value) {
    store_global(reinterpret_cast<Words4*>(rows.row_in(page, position) + vector * VECTOR), value);
}

template <int DIM>
DEVICE void append_keys(const sala_append_keys_params& p) {
    constexpr int VECTORS = DIM / VECTOR;
    const SequenceRange sequence = find_sequence(p.sequences, block_index_z());
    const bool fits = sequence.queries <= sequence.keys.count && sequence.keys.count <= p.room;
    const bool is_counted = sequence.refusal == REFUSED_NOTHING && sequence.keys.cache != NO_CACHE && sequence.queries > 0 && !fits;
    count_refused_sequence(p.status, is_counted ? REFUSED_LENGTHS : sequence.refusal);
    if (sequence.refusal != REFUSED_NOTHING || sequence.keys.cache == NO_CACHE) return;

    const int64_t item = static_cast<int64_t>(block_index_x()) * (THREADS / VECTORS) + thread_index() / VECTORS;
    const int vector = thread_index() % VECTORS;
    const int head = static_cast<int>(item % p.heads_kv);
    const int row = static_cast<int>(item / p.heads_kv);
    const int position = sequence.position(row);
    const bool valid = row < sequence.queries && 0 <= position && position < p.room;
    const KeyRows keys = find_key_rows(p.k, sequence.keys, block_index_z(), head, 1);
    const KeyRows values = find_key_rows(p.v, sequence.keys, block_index_z(), head, 1);
    const int page = look_up_pages<VECTORS>(keys, position, valid ? position + 1 : position).page(keys, position);
    if (!valid) return;
    if (page == NO_PAGE) {
        if (vector == 0) count_refused(p.status, REFUSED_PAGES, 1);
        return;
    }
    const int64_t token = sequence.first_query + row;
    const Words4 key = load_vector(p.k_new, token, head, vector);
    const Words4 value = load_vector(p.v_new, token, head, vector);
    store_vector(keys, page, position, vector, key);
    store_vector(values, page, position, vector, value);
}

#define INSTANCE(name, DIM) \
    KERNEL(name, sala_append_keys_params, THREADS, 4) { append_keys<DIM>(p); }
#include "instances/append_keys.h"

}  // namespace SALA_VARIANT
}  // namespace sala
