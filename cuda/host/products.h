// The products of warpgroups that have been started and not waited for.
#pragma once
#include <deque>
#include <memory>
#include <stdint.h>

#include "host/site.h"

namespace sala::host {

struct Block;
struct StartedProduct;

// Those of a warp, in the order in which they were started.
struct StartedProducts {
    std::deque<std::unique_ptr<StartedProduct>> products;
    std::deque<size_t> batches;  // how many products each batch that has been committed still holds
    size_t open = 0;             // products of the batch that is not committed
    uint32_t epoch = 0;          // the race detector's name for the last product

    StartedProducts();
    ~StartedProducts();

    void clear();
};

// The calls of a warpgroup, which its four warps make alike, each in its own time.
struct Warpgroup {
    std::deque<Site> calls;  // those that not all warps have made yet
    size_t made[4] = {};     // by each warp, of the calls in the deque

    void clear() {
        calls.clear();
        for (size_t& count : made) count = 0;
    }
};

// Fails if the warps of a group have not made the same calls, or not waited for a product.
void check_products_have_ended(Block& block, int warp);

}  // namespace sala::host
