// One block in execution: its fibers, warps, barriers and shared memory. One OS thread runs it.
#pragma once
#include <memory>
#include <stdint.h>
#include <string.h>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "machine/machine.cuh"
#include "host/bulk_copies.h"
#include "host/executor.h"
#include "host/fiber.h"
#include "host/products.h"
#include "host/race.h"
#include "host/random.h"
#include "host/site.h"
#include "host/wavefronts.h"

namespace sala::host {

constexpr int MAX_THREADS = 1024;
constexpr int MAX_WARPS = MAX_THREADS / WARP_SIZE;
constexpr int BARRIERS = 16;
constexpr uint32_t ALL_LANES = 0xffffffffu;

// Fills shared memory that no thread has written: NaN in every element type.
constexpr int POISON = 0xff;

// Shared memory has 32-bit addresses. None is below 1024, so that 0 is an error; static shared memory comes
// before dynamic.
constexpr uint32_t SHARED_BASE = 1024;
constexpr uint32_t STATIC_SHARED_BYTES = 4096;

// Registers of a multiprocessor, and the most of a thread.
constexpr int REGISTERS = 65536;
constexpr int MOST_REGISTERS = 256;

// The most dynamic shared memory of any GPU.
constexpr uint32_t MAX_DYNAMIC_SHARED_BYTES = 227 * 1024;

struct Block;
struct Warp;

// An asynchronous copy that its thread has not waited for yet.
struct Copy {
    uint32_t shared;
    const void* global;
    uint32_t bytes;
    bool valid;
    bool done;
    uint32_t epoch;  // the race detector's name for it
};

// A group of a thread's copies.
struct CopyGroup {
    size_t end;      // the number of copies up to its end
    uint32_t epoch;  // of the last of them
};

// A thread's copies in order of issue.
struct CopyQueue {
    std::vector<Copy> copies;
    std::vector<CopyGroup> groups;
    size_t waited_copies = 0;
    size_t waited_groups = 0;
    size_t forgotten = 0;  // copies that are no longer in the queue

    // How many copies the thread has started.
    size_t started() const { return forgotten + copies.size(); }

    void clear() {
        copies.clear();
        groups.clear();
        waited_copies = 0;
        waited_groups = 0;
        forgotten = 0;
    }

    // Drops what has been waited for, once that is most of the queue: a pipelined kernel's queue is never
    // empty.
    void forget_waited() {
        if (waited_copies * 2 < copies.size()) return;
        copies.erase(copies.begin(), copies.begin() + static_cast<ptrdiff_t>(waited_copies));
        groups.erase(groups.begin(), groups.begin() + static_cast<ptrdiff_t>(waited_groups));
        for (CopyGroup& group : groups) group.end -= waited_copies;
        forgotten += waited_copies;
        waited_copies = 0;
        waited_groups = 0;
    }
};

// The last few addresses that were noted of a thread's accesses.
struct NotedAddresses {
    static constexpr int COUNT = 32;
    uint64_t addresses[COUNT] = {};
    int oldest = 0;

    void clear() { *this = {}; }

    // Whether the address is a new one; it then takes the place of the oldest.
    bool add(uint64_t address) {
        for (const uint64_t known : addresses) {
            if (known == address) return false;
        }
        addresses[oldest] = address;
        oldest = (oldest + 1) % COUNT;
        return true;
    }
};

// One CUDA thread.
struct Fiber {
    Context context;
    int thread = 0;
    int lane = 0;
    Warp* warp = nullptr;
    bool exited = false;
    const char* waits_in = nullptr;  // the primitive that blocks it
    Site waits_at{};
    bool waits_for_registers = false;
    CopyQueue copies;
    NotedAddresses noted;
};

// What a meeting of a warp does, run once by the last lane to arrive; arguments[i] is what lane i brought, on
// its own stack.
using Operation = void (*)(Block& block, Warp& warp, void* const* arguments);

struct Warp {
    int index = 0;
    uint32_t alive = 0;
    uint32_t ready = 0;
    // The meeting in progress.
    uint32_t arrived = 0;
    Operation operation = nullptr;
    const char* name = nullptr;
    Site site{};
    void* arguments[WARP_SIZE] = {};
    // The lanes that wait at a barrier, and where: all lanes of the warp must come to the same one.
    uint32_t at_barrier = 0;
    int barrier = 0;
    Site barrier_site{};
    // Of each thread, as its warpgroup asked for them.
    int registers = 0;
    int registers_wanted = 0;
    // Accesses to shared memory not yet matched over the lanes (while counting).
    WavefrontLog wavefronts;
};

struct Barrier {
    int expected = 0;
    int arrived = 0;
    std::vector<Fiber*> waiting;
    Arrivals arrivals;
};

// A barrier in shared memory.
struct Mbarrier {
    int expected = 0;
    int lacks = 0;            // arrivals that the phase still lacks
    uint32_t phase = 0;       // its parity
    uint32_t phases = 0;      // that are complete
    int64_t bytes = 0;        // that copies have yet to bring; negative: that they have brought and nobody has announced yet
    int copies = 0;           // of the phase that have not happened
    bool has_copied = false;  // copies of the phase have happened
    bool unwaited = false;    // copies of the last phase have, and nobody has waited for it yet
    Site bytes_site{};        // what changed `bytes` last, and the thread that did
    int bytes_thread = 0;
    int bulk_slot = -1;  // the race detector's name for its copies
    int begun_by = 0;    // the thread that did, where, and when as the race detector counts
    Site begun_at{};
    uint32_t begun = 0;
    std::vector<Fiber*> waiting;
    Arrivals arrivals;
    SharedHistory completed;  // what happened before the end of the last phase
};

// An arrival that waits for copies.
struct LateArrival {
    int thread;
    uint32_t barrier;
    size_t copies;   // the thread had started so many
    uint32_t epoch;  // of the last of them
    Site site;
};

struct StaticVariable {
    const void* key;
    uint32_t offset;
};

// What all blocks of a launch have in common.
struct Launch {
    const char* kernel = nullptr;
    void (*entry)(const void* params) = nullptr;
    const void* params = nullptr;
    uint32_t grid[3] = {};
    int threads = 0;
    uint32_t dynamic_shared = 0;
    sala_host_options options{};
};

struct Block {
    Launch launch;
    std::vector<Fiber> fibers;
    Warp warps[MAX_WARPS];
    int warp_count = 0;
    int alive = 0;
    uint32_t ready_warps = 0;

    Fiber scheduler;  // the OS thread's own context: where a block starts and ends
    Fiber* current = nullptr;
    Stacks stacks;
    Random random;

    Barrier barriers[BARRIERS];
    std::unordered_map<uint32_t, Mbarrier> mbarriers;  // by shared address
    std::vector<LateArrival> late_arrivals;
    std::vector<BulkCopy> bulk_copies;
    int bulk_slots = 0;
    int elected_lane = 0;    // of every warp
    int free_registers = 0;  // given up and not taken, times warps
    StartedProducts started_products[MAX_WARPS];
    Warpgroup warpgroups[MAX_WARPS / 4];
    std::unique_ptr<unsigned char, void (*)(void*)> shared{nullptr, nullptr};
    uint32_t shared_bytes = 0;
    std::vector<StaticVariable> statics;
    uint32_t static_bytes = 0;

    RaceDetector* race = nullptr;  // null unless the launch asks for it
    std::unique_ptr<RaceDetector> race_detector;
    std::vector<float> product_scratch;

    sala_host_counters counters{};
    std::unordered_set<uint64_t> sectors;  // those of global memory that were touched (while counting)
    uint64_t calls_without_progress = 0;

    bool failed = false;
    char report[4096] = {};

    // Takes over a launch; false if there is no memory for it.
    bool adopt(const Launch& launch);

    // Runs one block to its end; false if it failed, and then `report` says how.
    bool run(uint64_t index);
};

// The compiler may keep one file name in several places.
inline bool same_site(Site a, Site b) { return a.line == b.line && (a.file == b.file || strcmp(a.file, b.file) == 0); }

// The block that this OS thread runs.
extern SALA_THREAD_LOCAL Block* running;

}  // namespace sala::host
