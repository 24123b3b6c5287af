// What stands around linear attention: norms, rotary embedding, gate.
#ifndef SALA_PARAMS_NORMS_H
#define SALA_PARAMS_NORMS_H

#include <stdint.h>

#include "rows.h"

enum {
    SALA_NORM_THREADS = 256,
    SALA_NORM_ROPE_HEADS = 4,  // of a token, that the same lanes take
};

typedef struct sala_norm_rope_params {
    sala_rows x, out;    // 16-bit [tokens, heads, dim]
    sala_rows cos_sin;   // f32 [count, dim]; absent: nothing turns
    uint64_t weight;     // 16-bit [dim]; 0: absent
    uint64_t positions;  // i32 [tokens]
    uint64_t status;     // u32 [4]
    int64_t tokens;
    int32_t heads;
    int32_t count;  // positions that cos_sin has
    float eps;
    int32_t reserved;
} sala_norm_rope_params;

// One token per block.
typedef struct sala_norm_gate_params {
    sala_rows x, gate, out;  // 16-bit [tokens, channels]
    uint64_t weight;         // 16-bit [channels]
    uint64_t sum_squares;    // f32 [tokens]: written by sum_squares; read by norm_gate, unless it is 0
    int32_t channels;
    int32_t covered;  // channels that the sums are of
    float eps;
    int32_t reserved;
} sala_norm_gate_params;

#endif
