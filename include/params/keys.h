// Where the keys of each sequence lie, raw or compressed, and how many there are.
#ifndef SALA_PARAMS_KEYS_H
#define SALA_PARAMS_KEYS_H

#include <stdint.h>

enum {
    SALA_BLOCK_ROWS = 4,  // rows of K1 from one block of keys to the next, and so from one row of K2 to the next
};

// How keys are stored: packed, one sequence after the other and cut by cu_seqlens, or one cache of equal
// capacity per sequence. The address that does not apply is 0.
typedef struct sala_keys {
    uint64_t cu_seqlens;  // packed: i32 [batch + 1]
    uint64_t seqlens;     // caches: i32 [batch], the filled part, this call's tokens included
    int64_t capacity;     // packed: tokens in the tensor; caches: tokens that each has room for
    int32_t max_seqlen;   // upper bound that the caller knows; a longer sequence is refused and counted
    int32_t reserved;
} sala_keys;

// A tensor of keys, values or compressed keys that lie as sala_keys says: packed [rows, heads_kv, dim],
// caches [batch, rows, heads_kv, dim].
typedef struct sala_key_rows {
    uint64_t address;      // 16-bit elements
    int64_t store_stride;  // elements from one cache to the next; 0: packed
    int64_t row_stride;    // elements from one row to the next
    int64_t head_stride;   // elements from one head to the next
} sala_key_rows;

#endif
