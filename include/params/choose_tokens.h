// The tokens with the highest scores.
#ifndef SALA_PARAMS_CHOOSE_TOKENS_H
#define SALA_PARAMS_CHOOSE_TOKENS_H

#include <stdint.h>

#include "keys.h"
#include "rows.h"

enum {
    SALA_TOKENS_PIECE = 16384,    // scores of a piece, or more where there would be more pieces than
    SALA_TOKENS_MAX_PIECES = 64,  // so many of a row
    SALA_TOKENS_DIGITS = 4,       // of a score's order, one of which a launch counts
    SALA_TOKENS_BINS = 256,       // values of a digit
};

typedef struct sala_choose_tokens_params {
    sala_keys keys;     // how many tokens each sequence has
    sala_rows scores;   // f32 [batch, heads_kv, ...]
    sala_rows indices;  // i32 [batch, heads_kv, chosen]
    uint64_t status;    // u32 [4]
    // Of rows that are cut into pieces, each [batch, heads_kv, ...] of u32:
    uint64_t bins;  // [2, pieces, bins]: scores of a piece by a digit, of those that agree with the cut above it; even rounds, and odd ones
    uint64_t better;  // [pieces]: scores of a piece that are above the cut's known digits
    uint64_t cuts;    // [digits, 2]: the digits of the cut that are known, and how many of the scores that have them are taken
    int32_t pieces;
    int32_t piece;         // scores of a piece
    int32_t chosen;        // entries of a list
    int32_t init_tokens;   // at the start of a sequence, always taken
    int32_t local_tokens;  // at its end, always taken; both together at most `chosen`
    int32_t round;         // digits that earlier launches have counted
} sala_choose_tokens_params;

#endif
