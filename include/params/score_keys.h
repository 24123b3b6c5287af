// Scores of keys by the mean of the queries.
#ifndef SALA_PARAMS_SCORE_KEYS_H
#define SALA_PARAMS_SCORE_KEYS_H

#include <stdint.h>

#include "keys.h"
#include "rows.h"
#include "sequences.h"

enum {
    SALA_SCORE_THREADS = 256,    // of a block of either launch
    SALA_SCORE_TILE = 512,       // keys whose products a block forms, those that only its neighbours' scores need included
    SALA_SCORE_MAX_POOL = 31,    // keys of a window
    SALA_SCORE_PIECE = 64,       // query tokens of a piece, or a multiple of that where there would be more pieces than
    SALA_SCORE_MAX_PIECES = 32,  // so many
};

typedef struct sala_score_keys_params {
    sala_sequences sequences;
    sala_rows q;  // 16-bit [total_q, heads_q, dim]
    sala_key_rows k;
    sala_rows scores;  // f32 [batch, heads_kv, scored]
    uint64_t sums;     // f32 [batch, heads_kv, pieces, dim]: of the queries of each piece
    uint64_t status;   // u32 [4]
    int32_t pieces;    // that there is room for, of each sequence and head
    int32_t group;     // query heads of a kv head
    int32_t scored;    // keys that a sequence has room for scores of
    int32_t pool;      // an odd number of keys
} sala_score_keys_params;

#endif
