// Copies that mbarriers count, which have been started and have not happened.
#pragma once
#include <stdint.h>

#include "params/tensor_map.h"
#include "host/site.h"

namespace sala::host {

struct Block;

struct BulkCopy {
    uint32_t target;
    uint32_t barrier;
    sala_tensor_shape shape;   // of bytes as they lie: a row
    int first[SALA_MAP_AXES];  // where the box begins
    int thread;                // that started it
    Site site;
};

// Performs one of them, and lets its mbarrier know.
void perform_bulk_copy(Block& block, size_t index);

// Fails if the block, which ends, has not waited for a copy, or if what came is not what was announced.
void check_bulk_copies_have_ended(Block& block);

}  // namespace sala::host
