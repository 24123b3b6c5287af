// Keys and values of accepted drafts move to the places of the tokens that they become.
#ifndef SALA_PARAMS_COMMIT_KEYS_H
#define SALA_PARAMS_COMMIT_KEYS_H

#include <stdint.h>

#include "keys.h"

enum {
    SALA_COMMIT_THREADS = 128,
    SALA_COMMIT_MAX_DRAFTS = 16,  // of a sequence
};

typedef struct sala_commit_keys_params {
    sala_keys keys;  // with the drafts, which are the last of a sequence
    sala_key_rows k, v;
    uint64_t base;        // i32 [batch]: keys before the drafts
    uint64_t accepted;    // i32 [batch]: how many drafts were accepted
    uint64_t path;        // i32 [batch, drafts]: which ones, ascending
    int64_t path_stride;  // entries from one sequence's to the next
    uint64_t status;      // u32 [4]
    int32_t drafts;
    int32_t heads_kv;
} sala_commit_keys_params;

#endif
