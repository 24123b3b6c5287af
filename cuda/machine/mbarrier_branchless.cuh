// Arrivals and waits of mbarrier.cuh with fewer branches, so that the instructions around them can move.
#pragma once
#include "machine/mbarrier.cuh"

namespace sala {
inline namespace SALA_VARIANT {

// arrive_mbarrier if `run`, else returns 0.
DEVICE int arrive_mbarrier_if(bool run, uint32_t barrier SITE);

// Waits for a phase of one barrier and then for one of a second, in the time of one wait where both are complete.
DEVICE void wait_mbarriers(uint32_t first, uint32_t first_parity, uint32_t second, uint32_t second_parity SITE);

#if defined(SALA_HOST)

DEVICE int arrive_mbarrier_if(bool run, uint32_t barrier, const char* file, int line) {
    return run ? arrive_mbarrier(barrier, file, line) : 0;
}

DEVICE void wait_mbarriers(uint32_t first, uint32_t first_parity, uint32_t second, uint32_t second_parity, const char* file, int line) {
    wait_mbarrier(first, first_parity, file, line);
    wait_mbarrier(second, second_parity, file, line);
}

#else

DEVICE int arrive_mbarrier_if(bool run, uint32_t barrier) {
    int lacked;
    asm volatile(
        "{\n\t.reg .b64 state;\n\t"
        ".reg .pred run;\n\t"
        "setp.ne.s32 run, %2, 0;\n\t"
        "mov.u32 %0, 0;\n\t"
        "@run mbarrier.arrive.shared.b64 state, [%1];\n\t"
        "@run mbarrier.pending_count.b64 %0, state;\n\t}"
        : "=&r"(lacked)
        : "r"(barrier), "r"(static_cast<int>(run))
        : "memory");
    return lacked;
}

DEVICE void wait_mbarriers(uint32_t first, uint32_t first_parity, uint32_t second, uint32_t second_parity) {
    bool complete;
    do {
        const bool first_is_complete = is_complete(first, first_parity);
        // Looked at after the first, so that it says something if that one was complete.
        complete = is_complete(second, second_parity) && first_is_complete;
    } while (!complete);
}

#endif

}  // namespace SALA_VARIANT
}  // namespace sala
