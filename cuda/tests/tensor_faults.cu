// Misuses of copies that mbarriers count, which only the executor runs: it has to report each. What is reported is marked.
#include "machine/async_copy.cuh"
#include "machine/barrier.cuh"
#include "machine/machine.cuh"
#include "machine/mbarrier.cuh"
#include "machine/memory.cuh"
#include "machine/tensor_copy.cuh"
#include "machine/warp.cuh"
#include "params/unit_test.h"

namespace sala {
inline namespace SALA_VARIANT {

using Params = sala_tensor_test_params;

// A box of 8 rows of 64 elements.
constexpr uint32_t BOX = 1024;

struct alignas(1024) Plan {
    uint8_t boxes[2 * BOX];
    uint64_t barriers[3];
};

DEVICE Plan& test_plan() { return dynamic_shared<Plan>(static_cast<uint32_t>(SALA_UNIT_TEST_SHARED - sizeof(Plan))); }
DEVICE uint32_t target() { return shared_address(test_plan().boxes); }
DEVICE uint32_t full() { return shared_address(&test_plan().barriers[0]); }
DEVICE uint32_t empty() { return shared_address(&test_plan().barriers[1]); }
DEVICE uint32_t refilled() { return shared_address(&test_plan().barriers[2]); }
DEVICE bool is_producer() { return thread_index() == 0; }

DEVICE void begin() {
    if (is_producer()) {
        init_mbarrier(full(), 1);
        init_mbarrier(refilled(), 1);
        init_mbarrier(empty(), static_cast<int>(block_threads()));
        publish_shared_writes();
    }
    sync_block();
}

DEVICE void start(const Params& p, int row SITE) { start_tensor_copy(target(), p.map, {0, row}, full() FORWARD_SITE); }

DEVICE uint32_t read(SITE_ALONE) { return load_shared<uint32_t>(target() + 8 * static_cast<uint32_t>(thread_index()) FORWARD_SITE); }

DEVICE void store(const Params& p, uint32_t value) { store_global(reinterpret_cast<uint32_t*>(p.output) + thread_index(), value); }

// A box for each of four rounds.
DEVICE void clean_refills(const Params& p) {
    begin();
    uint32_t sum = 0;
    for (uint32_t round = 0; round < 4; ++round) {
        if (is_producer()) {
            if (round != 0) wait_mbarrier(empty(), (round - 1) & 1);
            arrive_mbarrier_expecting(full(), BOX);
            start(p, static_cast<int>(8 * round));
        }
        wait_mbarrier(full(), round & 1);
        sum = 3 * sum + read();
        arrive_mbarrier(empty());
    }
    store(p, sum);
}

// The same where every second box is stored, and copied by threads.
DEVICE void clean_mixed_refills(const Params& p) {
    begin();
    uint32_t sum = 0;
    for (uint32_t round = 0; round < 4; ++round) {
        if (round % 2 == 0) {
            if (is_producer()) {
                arrive_mbarrier_expecting(full(), BOX);
                start(p, static_cast<int>(8 * round));
            }
            wait_mbarrier(full(), round / 2 & 1);
        } else {
            const uint32_t place = target() + 8 * static_cast<uint32_t>(thread_index());
            store_shared(place + 4, 7u);
            async_copy<4>(place, reinterpret_cast<const uint32_t*>(p.input) + thread_index());
            async_copy_commit();
            async_copy_wait<0>();
            publish_shared_writes();
            sync_block();
        }
        sum = 3 * sum + read();
        sync_block();
    }
    store(p, sum);
}

DEVICE void missing_announcement(const Params& p) {
    begin();
    if (is_producer()) {
        start(p, 0);              // reported
        arrive_mbarrier(full());  // reported
    }
    wait_mbarrier(full(), 0);
    store(p, read());
}

// The phase may be complete before.
DEVICE void announced_too_late(const Params& p) {
    begin();
    if (is_producer()) {
        arrive_mbarrier(full());  // reported
        start(p, 0);              // reported
    }
    wait_mbarrier(full(), 0);
    store(p, read());  // reported
}

DEVICE void too_many_bytes(const Params& p) {
    begin();
    if (is_producer()) {
        arrive_mbarrier_expecting(full(), 2 * BOX);
        start(p, 0);
    }
    wait_mbarrier(full(), 0);  // reported
    store(p, read());
}

DEVICE void too_few_bytes(const Params& p) {
    begin();
    if (is_producer()) {
        arrive_mbarrier_expecting(full(), BOX / 2);
        start(p, 0);  // reported
    }
    wait_mbarrier(full(), 0);
    store(p, read());
}

DEVICE void read_before_wait(const Params& p) {
    begin();
    if (is_producer()) {
        arrive_mbarrier_expecting(full(), BOX);
        start(p, 0);  // reported
    }
    const uint32_t value = read();  // reported
    wait_mbarrier(full(), 0);
    store(p, value);
}

DEVICE void unpublished_target(const Params& p) {
    store_shared(target() + 8 * static_cast<uint32_t>(thread_index()), 0u);
    begin();
    if (is_producer()) {
        arrive_mbarrier_expecting(full(), BOX);
        start(p, 0);  // reported
    }
    wait_mbarrier(full(), 0);
    store(p, read());
}

DEVICE void unpublished_mbarrier(const Params& p) {
    if (is_producer()) init_mbarrier(full(), 1);
    sync_block();
    if (is_producer()) {
        arrive_mbarrier_expecting(full(), BOX);
        start(p, 0);  // reported
    }
    wait_mbarrier(full(), 0);
    store(p, read());
}

DEVICE void early_refill(const Params& p) {
    begin();
    if (is_producer()) {
        arrive_mbarrier_expecting(full(), BOX);
        start(p, 0);
    }
    wait_mbarrier(full(), 0);
    const uint32_t value = read();  // reported
    if (is_producer()) {
        arrive_mbarrier_expecting(refilled(), BOX);
        start_tensor_copy(target(), p.map, {0, 8}, refilled());  // reported
    }
    wait_mbarrier(refilled(), 0);
    store(p, value);
}

DEVICE void boxes_over_each_other(const Params& p) {
    begin();
    if (is_producer()) {
        arrive_mbarrier_expecting(full(), 2 * BOX);
        start(p, 0);
        start_tensor_copy(target() + BOX / 2, p.map, {0, 8}, full());  // reported
    }
    wait_mbarrier(full(), 0);
    store(p, read());
}

DEVICE void unfinished_copy(const Params& p) {
    begin();
    if (is_producer()) {
        arrive_mbarrier_expecting(full(), BOX);
        start(p, 0);  // reported
    }
    store(p, 0);
}

DEVICE void misaligned_target(const Params& p) {
    begin();
    if (is_producer()) {
        arrive_mbarrier_expecting(full(), BOX);
        start_tensor_copy(target() + 64, p.map, {0, 0}, full());  // reported
    }
    wait_mbarrier(full(), 0);
    store(p, read());
}

DEVICE void missing_map(const Params& p) {
    begin();
    if (is_producer()) {
        arrive_mbarrier_expecting(full(), BOX);
        start_tensor_copy(target(), p.second_map, {0, 0}, full());  // reported
    }
    wait_mbarrier(full(), 0);
    store(p, read());
}

DEVICE void indices_of_another_rank(const Params& p) {
    begin();
    if (is_producer()) {
        arrive_mbarrier_expecting(full(), BOX);
        start_tensor_copy(target(), p.map, {0, 0, 0}, full());  // reported
    }
    wait_mbarrier(full(), 0);
    store(p, read());
}

DEVICE void misaligned_bytes(const Params& p) {
    begin();
    if (is_producer()) {
        arrive_mbarrier_expecting(full(), 24);
        start_bulk_copy(target(), reinterpret_cast<const void*>(p.input), 24, full());  // reported
    }
    wait_mbarrier(full(), 0);
    store(p, read());
}

DEVICE void target_out_of_bounds(const Params& p) {
    begin();
    if (is_producer()) {
        arrive_mbarrier_expecting(full(), BOX);
        start_tensor_copy(target() + SALA_UNIT_TEST_SHARED - 512, p.map, {0, 0}, full());  // reported
    }
    wait_mbarrier(full(), 0);
    store(p, read());
}

DEVICE void more_than_a_phase_lacks(const Params& p) {
    begin();
    if (is_producer()) arrive_mbarrier_expecting(full(), 1u << 20);  // reported
    store(p, 0);
}

#define INSTANCE(name, fault) \
    KERNEL(name, sala_tensor_test_params, 128, 1) { fault(p); }
#include "instances/tensor_faults.h"

}  // namespace SALA_VARIANT
}  // namespace sala
