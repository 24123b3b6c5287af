// Where the keys of each sequence lie, raw or compressed, and how many there are.
#ifndef SALA_PARAMS_KEYS_H
#define SALA_PARAMS_KEYS_H

#include <stdint.h>

enum {
    SALA_BLOCK_ROWS = 4,  // rows of K1 from one block of keys to the next, and so from one row of K2 to the next
    SALA_ONE_PAGE = 31,   // a page of all rows that an index can name
};

// How many keys each sequence has. They are packed, one sequence after the other and cut by cu_seqlens, or each
// sequence has a cache, or pages that a table names (sala_key_rows). An address that does not apply is 0.
typedef struct sala_keys {
    uint64_t cu_seqlens;   // packed: i32 [batch + 1]
    uint64_t seqlens;      // caches and pages: i32 [batch], the filled part, this call's tokens included
    uint64_t cache_index;  // caches: i32 [batch], the cache of each sequence, -1 for none; 0: they are in order
    int64_t capacity;      // packed: tokens in the tensor; caches and pages: tokens that a sequence has room for
    int32_t max_seqlen;    // upper bound that the caller knows; a longer sequence is refused and counted
    int32_t caches;        // with cache_index: how many there are
} sala_keys;

// A tensor of keys, values or compressed keys: packed [rows, heads_kv, dim], caches [caches, rows, heads_kv, dim]
// or pages [pages, rows, heads_kv, dim], where rows of a page are a power of two. Compressed keys may lie in
// another way than the keys.
typedef struct sala_key_rows {
    uint64_t address;      // 16-bit elements
    uint64_t page_table;   // i32 [batch, ...], the pages of each sequence; 0: its rows lie one after the other
    int64_t table_stride;  // entries from one sequence's to the next
    int64_t store_stride;  // elements from one cache or page to the next; 0: packed
    int64_t row_stride;    // elements from one row to the next
    int64_t head_stride;   // elements from one head to the next
    int32_t pages;         // how many the tensor has
    int32_t page_shift;    // log2 of the rows of a page; SALA_ONE_PAGE where a sequence has one: its cache
    int32_t first_row;     // row 0 is this one of the pages: 1 where compressed keys lie in the pages of their keys
    int32_t by_sequence;   // caches that are in order, whatever cache_index says of those of the keys
} sala_key_rows;

#endif
