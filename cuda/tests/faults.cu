// Kernels with one bug each, which the executor must report, and their correct relatives, which it must not.
// Never run on a GPU.
//
// A line that a report must name ends in the comment "reported" (tests/executor.rs looks for it); of two such
// lines either will do. Every kernel runs in one block of 128 threads with SALA_UNIT_TEST_SHARED bytes of
// dynamic shared memory, and one 4-byte input and output per thread.
#include "machine/async_copy.cuh"
#include "machine/atomic.cuh"
#include "machine/barrier.cuh"
#include "machine/machine.cuh"
#include "machine/mbarrier.cuh"
#include "machine/memory.cuh"
#include "machine/tile.cuh"
#include "machine/warp.cuh"
#include "params/unit_test.h"

namespace sala {
inline namespace SALA_VARIANT {

constexpr int THREADS = 128;

struct Plan {
    uint32_t values[THREADS];
    uint32_t more[2][THREADS];
    uint64_t barriers[2];
};

// The plan of all kernels but those whose plan is the fault. The rest of the launch's shared memory is its
// tail.
DEVICE Plan& test_plan(SITE_ALONE) {
    return dynamic_shared<Plan>(static_cast<uint32_t>(SALA_UNIT_TEST_SHARED - sizeof(Plan)) FORWARD_SITE);
}

DEVICE const uint32_t* input(const sala_unit_test_params& p) { return reinterpret_cast<const uint32_t*>(p.input); }

DEVICE void store_output(const sala_unit_test_params& p, uint32_t value) {
    store_global(reinterpret_cast<uint32_t*>(p.output) + thread_index(), value);
}

DEVICE uint32_t value_address(int index) { return shared_address(&test_plan().values[index]); }

// The neighbour's value is read before the neighbour has surely written it.
DEVICE void missing_barrier(const sala_unit_test_params& p) {
    store_shared(value_address(thread_index()), load_global(input(p) + thread_index()));     // reported
    store_output(p, load_shared<uint32_t>(value_address((thread_index() + 32) % THREADS)));  // reported
}

// The same through plain C++, whose lines come from the program's line tables.
DEVICE void missing_barrier_plain(const sala_unit_test_params& p) {
    Plan& plan = test_plan();
    plan.values[thread_index()] = load_global(input(p) + thread_index());  // reported
    store_output(p, plan.values[(thread_index() + 32) % THREADS]);         // reported
}

// The value is overwritten before the neighbour has surely read it.
DEVICE void missing_second_barrier(const sala_unit_test_params& p) {
    store_shared(value_address(thread_index()), load_global(input(p) + thread_index()));
    sync_block();
    const uint32_t value = load_shared<uint32_t>(value_address((thread_index() + 32) % THREADS));  // reported
    store_shared(value_address(thread_index()), 0u);                                               // reported
    store_output(p, value);
}

DEVICE void missing_sync_warp(const sala_unit_test_params& p) {
    store_shared(value_address(thread_index()), load_global(input(p) + thread_index()));  // reported
    store_output(p, load_shared<uint32_t>(value_address(thread_index() ^ 1)));            // reported
}

// A shuffle brings the lanes together, but orders no memory.
DEVICE void shuffle_for_sync_warp(const sala_unit_test_params& p) {
    store_shared(value_address(thread_index()), load_global(input(p) + thread_index()));  // reported
    const uint32_t zero = shuffle_xor(0u, 1);
    store_output(p, zero + load_shared<uint32_t>(value_address(thread_index() ^ 1)));  // reported
}

// Waits for the older of two groups and reads what the newer brings.
DEVICE void weak_copy_wait(const sala_unit_test_params& p) {
    Plan& plan = test_plan();
    for (int i = 0; i < 2; ++i) {
        async_copy<4>(shared_address(&plan.more[i][thread_index()]), input(p) + thread_index());  // reported
        async_copy_commit();
    }
    async_copy_wait<1>();
    sync_block();
    store_output(p, load_shared<uint32_t>(shared_address(&plan.more[1][(thread_index() + 32) % THREADS])));  // reported
}

// Waits for its own copies, and reads those of another thread.
DEVICE void copy_without_barrier(const sala_unit_test_params& p) {
    async_copy<4>(value_address(thread_index()), input(p) + thread_index());  // reported
    async_copy_commit();
    async_copy_wait<0>();
    store_output(p, load_shared<uint32_t>(value_address((thread_index() + 32) % THREADS)));  // reported
}

// Copies into a buffer that others still read.
DEVICE void overwriting_copy(const sala_unit_test_params& p) {
    store_shared(value_address(thread_index()), load_global(input(p) + thread_index()));
    sync_block();
    const uint32_t value = load_shared<uint32_t>(value_address((thread_index() + 32) % THREADS));  // reported
    async_copy<4>(value_address(thread_index()), input(p));                                        // reported
    async_copy_commit();
    async_copy_wait<0>();
    store_output(p, value);
}

DEVICE void uninitialised_read(const sala_unit_test_params& p) {
    if (thread_index() != 77) store_shared(value_address(thread_index()), 1u);
    sync_block();
    store_output(p, load_shared<uint32_t>(value_address(thread_index())));  // reported
}

// Atomic and plain accesses to one word.
DEVICE void half_atomic(const sala_unit_test_params& p) {
    if (thread_index() == 0) store_shared(value_address(0), 0u);
    sync_block();
    if (thread_index() < 64) atomic_add_shared(value_address(0), 1u);                    // reported
    store_output(p, thread_index() < 64 ? 0 : load_shared<uint32_t>(value_address(0)));  // reported
}

DEVICE void barrier_count_mismatch(const sala_unit_test_params& p) {
    if (warp_index() == 0) {
        sync_barrier(1, 64);  // reported
    } else {
        sync_barrier(1, 128);  // reported
    }
    store_output(p, 0);
}

DEVICE void skipped_barrier(const sala_unit_test_params& p) {
    if (warp_index() != 2) sync_block();  // reported
    store_output(p, 0);
}

// The halves of a warp wait in different places.
DEVICE void divergent_barrier(const sala_unit_test_params& p) {
    if (lane_index() < 16) {
        sync_block();  // reported
    } else {
        sync_block();  // reported
    }
    store_output(p, 0);
}

// Waits for a flag that nobody sets, with two other accesses in every round.
DEVICE void endless_poll(const sala_unit_test_params& p) {
    if (thread_index() == 0) store_shared(value_address(0), 0u);
    sync_block();
    uint32_t sum = 0;
    while (atomic_or_shared(value_address(0), 0u) == 0) {                           // reported
        sum += load_global(input(p) + thread_index());                              // reported
        store_global(reinterpret_cast<uint32_t*>(p.output) + thread_index(), sum);  // reported
    }
}

// Waits for 64 threads where 32 arrive.
DEVICE void missing_arrival(const sala_unit_test_params& p) {
    if (warp_index() == 1) sync_barrier(3, 64);  // reported
    store_output(p, 0);
}

DEVICE void divergent_shuffle(const sala_unit_test_params& p) {
    uint32_t value = load_global(input(p) + thread_index());
    if (lane_index() < 16) {
        value = shuffle_xor(value, 1);  // reported
    } else {
        value = shuffle_xor(value, 2);  // reported
    }
    store_output(p, value);
}

DEVICE void early_exit(const sala_unit_test_params& p) {
    if (thread_index() == 37) return;
    store_output(p, ballot(true));  // reported
}

DEVICE void misaligned_matrix(const sala_unit_test_params& p) {
    uint32_t r[4];
    store_shared(value_address(thread_index()), 0u);
    sync_block();
    load_matrix_x4(r, value_address(0) + static_cast<uint32_t>(lane_index() == 9 ? 24 : 0));  // reported
    store_output(p, r[0]);
}

DEVICE void misaligned_load_shared(const sala_unit_test_params& p) {
    store_output(p, load_shared<Words4>(value_address(1))[0]);  // reported
}

DEVICE void misaligned_load_global(const sala_unit_test_params& p) {
    store_output(p, load_global(reinterpret_cast<const Words4*>(input(p) + 1))[0]);  // reported
}

DEVICE void misaligned_copy(const sala_unit_test_params& p) {
    async_copy<16>(value_address(0), input(p) + 1);  // reported
    store_output(p, 0);
}

DEVICE void null_load(const sala_unit_test_params& p) {
    store_output(p, load_global(reinterpret_cast<const uint32_t*>(p.second_input) + thread_index()));  // reported
}

DEVICE void shared_out_of_bounds(const sala_unit_test_params& p) {
    const uint32_t first = value_address(0) + SALA_UNIT_TEST_SHARED - 4 * 64;
    store_shared(first + 4 * static_cast<uint32_t>(thread_index()), 1u);  // reported
    store_output(p, 0);
}

struct LargePlan {
    uint32_t values[1 << 14];
};

DEVICE void plan_too_large(const sala_unit_test_params& p) {
    store_output(p, dynamic_shared<LargePlan>().values[thread_index()]);  // reported
}

// The launch gives more than plan and tail take.
DEVICE void plan_too_small(const sala_unit_test_params& p) {
    Plan& plan = dynamic_shared<Plan>(64);  // reported
    plan.values[thread_index()] = 0;
    store_output(p, plan.values[thread_index()]);
}

// Lanes that name different parts of a tile.
DEVICE void disagreeing_product(const sala_unit_test_params& p) {
    Accumulator<8> c;
    FragmentA<16> a;
    c.fill(0.0f);
    for (int i = 0; i < 4; ++i) a.registers[0][i] = 0;
    multiply_nk<bf16>(c, a, SharedTile<32>{value_address(0)}, lane_index() == 3 ? 8 : 0, 0);  // reported
    store_output(p, float_bits(c.values[0][0]));
}

DEVICE void columns_past_tile(const sala_unit_test_params& p) {
    Accumulator<8> c;
    FragmentA<32> a;
    c.fill(0.0f);
    for (int i = 0; i < 8; ++i) a.registers[i / 4][i % 4] = 0;
    multiply_nk<bf16>(c, a, SharedTile<32>{value_address(0)}, 0, 8);  // reported
    store_output(p, float_bits(c.values[0][0]));
}

DEVICE uint32_t barrier_address(int index) { return shared_address(&test_plan().barriers[index]); }

// Two barriers of so many arrivals.
DEVICE void begin_barriers(int arrivals) {
    if (thread_index() < 2) init_mbarrier(barrier_address(thread_index()), arrivals);
    sync_block();
}

// Waits for the first phase once more, and not for the second.
DEVICE void stale_mbarrier(const sala_unit_test_params& p) {
    begin_barriers(THREADS);
    for (uint32_t round = 0; round < 2; ++round) {
        store_shared(value_address(thread_index()), load_global(input(p) + thread_index()));  // reported
        arrive_mbarrier(barrier_address(0));
        wait_mbarrier(barrier_address(0), 0);
        store_output(p, load_shared<uint32_t>(value_address((thread_index() + 32) % THREADS)));  // reported
        arrive_mbarrier(barrier_address(1));
        wait_mbarrier(barrier_address(1), round);
    }
}

DEVICE void missing_mbarrier_wait(const sala_unit_test_params& p) {
    begin_barriers(THREADS);
    store_shared(value_address(thread_index()), load_global(input(p) + thread_index()));  // reported
    arrive_mbarrier(barrier_address(0));
    store_output(p, load_shared<uint32_t>(value_address((thread_index() + 32) % THREADS)));  // reported
}

DEVICE void missing_mbarrier_arrival(const sala_unit_test_params& p) {
    begin_barriers(THREADS);
    if (thread_index() != 77) arrive_mbarrier(barrier_address(0));
    wait_mbarrier(barrier_address(0), 0);  // reported
    store_output(p, 0);
}

// Arrives at once, not when the copies are there.
DEVICE void unfinished_mbarrier_copies(const sala_unit_test_params& p) {
    begin_barriers(THREADS);
    async_copy<4>(value_address(thread_index()), input(p) + thread_index());  // reported
    arrive_mbarrier(barrier_address(0));
    wait_mbarrier(barrier_address(0), 0);
    store_output(p, load_shared<uint32_t>(value_address((thread_index() + 32) % THREADS)));  // reported
}

// An arrival with copies does not order what the thread itself wrote.
DEVICE void own_writes_with_copies(const sala_unit_test_params& p) {
    Plan& plan = test_plan();
    begin_barriers(THREADS);
    store_shared(value_address(thread_index()), 5u);  // reported
    async_copy<4>(shared_address(&plan.more[0][thread_index()]), input(p) + thread_index());
    arrive_mbarrier_with_copies(barrier_address(0));
    wait_mbarrier(barrier_address(0), 0);
    store_output(p, load_shared<uint32_t>(value_address((thread_index() + 32) % THREADS)));  // reported
}

// Nothing orders the beginning of the barrier and its use.
DEVICE void unsynchronised_mbarrier(const sala_unit_test_params& p) {
    if (thread_index() == 0) init_mbarrier(barrier_address(0), THREADS);  // reported
    arrive_mbarrier(barrier_address(0));                                  // reported
    wait_mbarrier(barrier_address(0), 0);
    store_output(p, 0);
}

DEVICE void overwritten_mbarrier(const sala_unit_test_params& p) {
    begin_barriers(THREADS);
    if (thread_index() == 0) store_shared(barrier_address(0), 0u);
    sync_block();
    arrive_mbarrier(barrier_address(0));  // reported
    store_output(p, 0);
}

DEVICE void unknown_mbarrier(const sala_unit_test_params& p) {
    if (thread_index() == 0) store_shared(barrier_address(0), Words2{});
    sync_block();
    wait_mbarrier(barrier_address(0), 0);  // reported
    store_output(p, 0);
}

DEVICE void too_many_mbarrier_arrivals(const sala_unit_test_params& p) {
    begin_barriers(1);
    if (thread_index() == 0) arrive_mbarrier_for(barrier_address(0), 1);  // reported
    store_output(p, 0);
}

// The copies of a thread that has ended never arrive.
DEVICE void ending_before_arrival(const sala_unit_test_params& p) {
    begin_barriers(THREADS);
    async_copy<4>(value_address(thread_index()), input(p) + thread_index());
    arrive_mbarrier_with_copies(barrier_address(0));  // reported
    store_output(p, 0);
}

// Warp 0 hands values to the others, one barrier for "full" and one for "empty".
DEVICE void clean_hand_over(const sala_unit_test_params& p) {
    constexpr int FULL = 1;
    constexpr int EMPTY = 2;
    uint32_t sum = 0;
    for (int round = 0; round < 4; ++round) {
        if (warp_index() == 0) {
            if (round > 0) sync_barrier(EMPTY, THREADS);
            store_shared(value_address(lane_index()), load_global(input(p) + lane_index() + 32 * round));
            arrive_barrier(FULL, THREADS);
        } else {
            sync_barrier(FULL, THREADS);
            sum = 3 * sum + load_shared<uint32_t>(value_address((lane_index() + warp_index()) % WARP_SIZE));
            if (round < 3) arrive_barrier(EMPTY, THREADS);
        }
    }
    store_output(p, sum);
}

// Two buffers filled by asynchronous copies one round ahead.
DEVICE void clean_pipeline(const sala_unit_test_params& p) {
    Plan& plan = test_plan();
    const int thread = thread_index();
    async_copy<4>(shared_address(&plan.more[0][thread]), input(p) + thread);
    async_copy_commit();
    uint32_t sum = 0;
    for (int round = 0; round < 6; ++round) {
        async_copy<4>(shared_address(&plan.more[(round + 1) % 2][thread]), input(p) + (thread + round) % THREADS, round % 2 == 0);
        async_copy_commit();
        async_copy_wait<1>();
        sync_block();
        sum = 5 * sum + plan.more[round % 2][(thread + 17) % THREADS];
        sync_block();
    }
    async_copy_wait<0>();
    store_output(p, sum);
}

// Copies a round ahead; arrivals at one barrier bring them, those at the other free their place.
DEVICE void clean_ring(const sala_unit_test_params& p) {
    Plan& plan = test_plan();
    begin_barriers(THREADS);
    uint32_t sum = 0;
    for (uint32_t round = 0; round < 6; ++round) {
        const int thread = thread_index();
        async_copy<4>(shared_address(&plan.more[0][thread]), input(p) + (thread + static_cast<int>(round)) % THREADS, round % 2 == 0);
        arrive_mbarrier_with_copies(barrier_address(0));
        wait_mbarrier(barrier_address(0), round % 2);
        sum = 5 * sum + load_shared<uint32_t>(shared_address(&plan.more[0][(thread + 17) % THREADS]));
        arrive_mbarrier(barrier_address(1));
        wait_mbarrier(barrier_address(1), round % 2);
    }
    store_output(p, sum);
}

DEVICE void clean_sync_warp(const sala_unit_test_params& p) {
    uint32_t value = load_global(input(p) + thread_index());
    for (int step = 1; step < WARP_SIZE; step *= 2) {
        store_shared(value_address(thread_index()), value);
        sync_warp();
        value += load_shared<uint32_t>(value_address(thread_index() ^ step));
        sync_warp();
    }
    store_output(p, value);
}

// Warps 1 to 3 poll a flag that warp 0 sets after a long loop without meetings.
DEVICE void clean_long_wait(const sala_unit_test_params& p) {
    constexpr int ROUNDS = 5 << 17;
    if (thread_index() == 0) store_shared(value_address(0), 0u);
    sync_block();
    uint32_t sum = 0;
    if (warp_index() == 0) {
        for (int i = 0; i < ROUNDS; ++i) sum += load_global(input(p) + (thread_index() + i) % THREADS);
        sync_warp();
        if (lane_index() == 0) atomic_add_shared(value_address(0), 1u);
    } else {
        while (atomic_or_shared(value_address(0), 0u) == 0) {
        }
    }
    store_output(p, sum);
}

DEVICE void clean_atomics(const sala_unit_test_params& p) {
    Plan& plan = test_plan();
    plan.values[thread_index()] = 0;
    sync_block();
    atomic_add_shared(shared_address(&plan.values[load_global(input(p) + thread_index()) % 8]), 1u);
    atomic_max(&plan.values[8], static_cast<uint32_t>(thread_index()));
    sync_block();
    store_output(p, plan.values[thread_index() % 16]);
}

#define INSTANCE(name, fault) \
    KERNEL(name, sala_unit_test_params, THREADS, 1) { fault(p); }
#include "instances/faults.h"

}  // namespace SALA_VARIANT
}  // namespace sala
