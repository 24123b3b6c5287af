// The race detector: finds accesses to one byte of shared memory by two threads, one of them a write, that no
// synchronisation orders.
//
// It keeps vector clocks. A thread's accesses between two releases (arrivals at a barrier, or at sync_warp)
// share an epoch, and each thread knows the latest epoch of every other that happened before its present. The
// asynchronous copies of a thread are an agent of their own: the thread learns of them by waiting. So are the
// products that a warp starts, which only see writes that their thread has published, and the copies that an mbarrier counts,
// of which those learn who wait for its phase. Shuffles, votes and matrix
// instructions order nothing. Only shared memory is watched: global memory, where blocks meet, is not, and neither is
// weak memory order.
#pragma once
#include <memory>
#include <stdint.h>
#include <vector>

#include "host/site.h"

namespace sala::host {

enum class Access : uint8_t { READ, WRITE, ATOMIC };

// Where an access was made: a file and line, or for a plain access in the kernel's code the address of the
// instruction (line < 0).
struct AccessSite {
    const void* where;
    int line;

    static AccessSite at(Site site) { return {site.file, site.line}; }
    static AccessSite instruction(const void* address) { return {address, -1}; }
};

// The latest epoch of every agent that happened before some moment. Agent t is thread t, agent threads + t
// the copies of thread t, agent 2 threads + w the products of warp w, and then come the copies of mbarriers.
using History = std::vector<uint32_t>;
using SharedHistory = std::shared_ptr<const History>;

// What a thread knows. After a barrier its threads share one history; their own epochs, which move on, are
// kept apart.
struct Clock {
    SharedHistory known;
    uint32_t own;
    uint32_t copies_waited;
    uint32_t products_waited;  // of the thread's warp
};

// The threads that have arrived at a barrier, with what each knew.
struct Arrivals {
    struct Arrival {
        int thread;
        Clock clock;
    };

    std::vector<Arrival> arrived;
    uint32_t bulk_agent = 0, bulk_epoch = 0;  // the copies that an mbarrier counts; epoch 0: none
    SharedHistory joined;

    void clear() {
        arrived.clear();
        bulk_epoch = 0;
        joined.reset();
    }
};

class RaceDetector {
  public:
    // So many mbarriers may count copies.
    static constexpr int BULK_AGENTS = 64;

    // Starts a block whose shared memory holds nothing yet.
    void begin(int threads, const unsigned char* memory, uint32_t bytes);

    // Notes an access, which lies in shared memory, and fails if it races or reads what no thread has
    // written.
    void access(int thread, const void* pointer, uint32_t bytes, Access kind, AccessSite site);

    // Notes the write of an asynchronous copy and returns its epoch, by which its thread waits for it.
    uint32_t issue_copy(int thread, const void* pointer, uint32_t bytes, AccessSite site);
    void complete_copy(int thread, uint32_t epoch);

    // The epoch of the last copy that a thread has issued; 0: none.
    uint32_t copies_issued(int thread) const { return copies_issued_[static_cast<size_t>(thread)]; }

    // Notes what a product of the warp that starts at a thread reads. Fails also if what it reads was written and not
    // published.
    void product_read(int first_thread, const void* pointer, uint32_t bytes, uint32_t epoch, AccessSite site);
    void complete_products(int first_thread, uint32_t epoch);

    // Notes the write of a copy that an mbarrier counts, whose number is `slot`, in its phase `epoch`, which begin at 1.
    // Fails also if what it writes was written and not published.
    void bulk_write(int thread, int slot, const void* pointer, uint32_t bytes, uint32_t epoch, AccessSite site);

    // The epoch in which a thread is, and whether it has published what it wrote in one.
    uint32_t epoch(int thread) const { return clocks_[static_cast<size_t>(thread)].own; }
    bool has_published(int thread, uint32_t epoch) const { return published_[static_cast<size_t>(thread)] >= epoch; }

    // Such a copy is there.
    void arrive_bulk(Arrivals& arrivals, int slot, uint32_t epoch) const;

    // A thread publishes its writes, and the copies that it has waited for, to products and such copies.
    void publish(int thread);

    // sync_warp: orders the lanes of the warp that starts at a thread.
    void join_warp(int first_thread);

    // A barrier: threads arrive, it opens once, and those that wait pass.
    void arrive(Arrivals& arrivals, int thread);
    void open(Arrivals& arrivals);
    void pass(const Arrivals& arrivals, int thread);

    // An arrival in the place of a thread's copies, up to an epoch. It says nothing of
    // the thread's own accesses.
    void arrive_copies(Arrivals& arrivals, int thread, uint32_t epoch) const;

    // A thread learns what happened before a phase of an mbarrier ended, at which it need not have arrived.
    void acquire(const SharedHistory& history, int thread);

  private:
    // One access to a granule of 16 bytes.
    struct Cell {
        AccessSite site;
        uint32_t epoch;
        uint16_t agent;
        uint16_t bytes;  // one bit per byte of the granule
        Access kind;
    };

    static constexpr uint32_t GRANULE_BYTES = 16;
    static constexpr int CELLS = 16;

    struct Granule {
        uint32_t block = 0;  // the block that made these accesses; those of earlier blocks are stale
        uint16_t written = 0;
        uint16_t count = 0;
        Cell cells[CELLS];
    };

    bool happened_before(const Cell& cell, int thread) const;
    void note(Granule& granule, const Cell& access, int thread, uint32_t offset);
    void note_bytes(int thread, const void* pointer, uint32_t bytes, const Cell& access);
    std::shared_ptr<History> join(const Arrivals::Arrival* arrivals, size_t count) const;
    uint32_t bulk_agent(int slot) const;
    int thread_of(const Cell& cell) const;
    uint32_t next_victim();
    [[noreturn]] void report(const Cell& access, const Cell& earlier, int thread, uint32_t offset) const;
    void check_published(const Granule& granule, const Cell& access, int thread, uint32_t offset) const;
    [[noreturn]] void report_unwritten(const Cell& access, int thread, uint32_t offset) const;

    int threads_ = 0;
    const unsigned char* memory_ = nullptr;
    uint32_t bytes_ = 0;
    uint32_t block_ = 0;
    uint32_t victim_state_ = 1;
    std::vector<Clock> clocks_;
    std::vector<uint32_t> copies_issued_;
    int bulk_threads_[BULK_AGENTS] = {};  // who started the last copy
    std::vector<uint32_t> published_;     // the last epoch of each thread, and of its copies, that products see
    std::vector<Granule> granules_;
    std::vector<Arrivals::Arrival> warp_;
    SharedHistory nothing_;
    // The last two histories that were merged, and what they gave: the lanes of a warp ask for the same.
    SharedHistory merged_known_, merged_history_, merged_;
};

}  // namespace sala::host
