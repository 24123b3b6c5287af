// Random choices of the executor.
#pragma once
#include <stdint.h>

namespace sala::host {

// xorshift64*: small, fast, and the same everywhere.
struct Random {
    uint64_t state = 1;

    // `stream` tells apart the sequences of one seed.
    void seed(uint64_t seed, uint64_t stream) {
        state = ((seed + 1) * 0x9e3779b97f4a7c15u) ^ (stream * 0xd1b54a32d192ed03u + 7);
        if (state == 0) state = 1;
        next();
    }

    uint32_t next() {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        return static_cast<uint32_t>((state * 0x2545f4914f6cdd1du) >> 32);
    }

    uint32_t below(uint32_t bound) { return next() % bound; }
};

}  // namespace sala::host
