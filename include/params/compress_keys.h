// Key compression: means of keys over the windows of K1 (two spans, one every span) and K2 (eight spans, one
// every four). A span is `stride` neighbouring tokens, a quarter of a block.
#ifndef SALA_PARAMS_COMPRESS_KEYS_H
#define SALA_PARAMS_COMPRESS_KEYS_H

#include <stdint.h>

#include "keys.h"

enum {
    SALA_COMPRESS_THREADS = 256,
    SALA_COMPRESS_TILE_SPANS = 64,  // spans whose windows begin in one block
    SALA_COMPRESS_HALO_SPANS = 4,   // spans past them that the last row of K2 needs
    SALA_COMPRESS_OPEN_SPANS = 7,   // a call reads at most so many spans before its new tokens: those of unfinished windows
};

typedef struct sala_compress_keys_params {
    sala_keys keys;
    sala_key_rows k;
    sala_key_rows k1, k2;  // packed: a sequence's rows begin at its first token / stride (K2: / (4 · stride))
    uint64_t seqlens_old;  // i32 [batch]: keys that earlier calls have compressed; 0: none
    uint64_t status;       // u32 [4]
    int32_t max_new;       // upper bound that the caller knows; a sequence with more new keys is refused and counted
    int32_t stride;        // tokens of a span
} sala_compress_keys_params;

#endif
