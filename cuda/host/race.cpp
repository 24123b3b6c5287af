#include "host/race.h"

#include <algorithm>

#include "machine/machine.cuh"
#include "host/report.h"
#include "host/symbol.h"

namespace sala::host {

namespace {

constexpr const char* name(Access kind) { return kind == Access::READ ? "read" : kind == Access::WRITE ? "write" : "atomic access"; }

bool conflict(Access a, Access b) { return !(a == Access::READ && b == Access::READ) && !(a == Access::ATOMIC && b == Access::ATOMIC); }

Site site_of(AccessSite made_at, SourceLine& storage) {
    if (made_at.line >= 0) return {static_cast<const char*>(made_at.where), made_at.line};
    storage = source_line(made_at.where);
    return {storage.file, storage.line};
}

}  // namespace

void RaceDetector::begin(int threads, const unsigned char* memory, uint32_t bytes) {
    threads_ = threads;
    memory_ = memory;
    bytes_ = bytes;
    const size_t granules = (bytes + GRANULE_BYTES - 1) / GRANULE_BYTES;
    ++block_;
    if (granules_.size() < granules || block_ == 0) {
        granules_.assign(granules, Granule{});
        block_ = 1;
    }
    nothing_ = std::make_shared<const History>(static_cast<size_t>(bulk_agent(BULK_AGENTS)), 0u);
    clocks_.assign(static_cast<size_t>(threads), Clock{nothing_, 1, 0, 0});
    merged_known_ = merged_history_ = merged_ = nothing_;
    copies_issued_.assign(static_cast<size_t>(threads), 0);
    published_.assign(2 * static_cast<size_t>(threads), 0);
}

bool RaceDetector::happened_before(const Cell& cell, int thread) const {
    const Clock& clock = clocks_[static_cast<size_t>(thread)];
    if (cell.agent == thread) return true;
    if (cell.agent == threads_ + thread) return clock.copies_waited >= cell.epoch;
    if (cell.agent == 2 * threads_ + thread / WARP_SIZE) return clock.products_waited >= cell.epoch;
    return (*clock.known)[cell.agent] >= cell.epoch;
}

uint32_t RaceDetector::next_victim() {
    victim_state_ = victim_state_ * 1664525u + 1013904223u;
    return (victim_state_ >> 16) % CELLS;
}

// Checks the access against those kept and keeps it, instead of those that it makes superfluous.
void RaceDetector::note(Granule& granule, const Cell& access, int thread, uint32_t offset) {
    if (granule.block != block_) {
        granule.block = block_;
        granule.written = 0;
        granule.count = 0;
    }
    if (access.kind != Access::WRITE && (access.bytes & ~granule.written) != 0) report_unwritten(access, thread, offset);
    if (access.kind != Access::READ) granule.written |= access.bytes;

    int kept = 0;
    for (int i = 0; i < granule.count; ++i) {
        const Cell& earlier = granule.cells[i];
        // Copies that one mbarrier counts may come in any order.
        const bool in_order = earlier.agent == access.agent && earlier.agent < bulk_agent(0);
        const bool ordered = in_order || happened_before(earlier, thread);
        if (!ordered && (earlier.bytes & access.bytes) != 0 && conflict(earlier.kind, access.kind)) report(access, earlier, thread, offset);
        // Whatever races with the earlier access will race with this one as well.
        const bool superfluous =
            ordered && (earlier.bytes & ~access.bytes) == 0 && (access.kind == Access::WRITE || earlier.kind == access.kind);
        if (!superfluous) granule.cells[kept++] = earlier;
    }
    // A full granule forgets an access by chance: a race is missed only if no access that shows it is left.
    const int slot = kept < CELLS ? kept++ : static_cast<int>(next_victim());
    granule.cells[slot] = access;
    granule.count = static_cast<uint16_t>(kept);
}

void RaceDetector::check_published(const Granule& granule, const Cell& access, int thread, uint32_t offset) const {
    for (int i = 0; i < granule.count && granule.block == block_; ++i) {
        const Cell& write = granule.cells[i];
        const bool asynchronous = write.agent >= bulk_agent(0);
        if (asynchronous || write.kind == Access::READ || (write.bytes & access.bytes) == 0) continue;
        if (published_[write.agent] >= write.epoch) continue;
        SourceLine here, there;
        const Site before = site_of(write.site, there);
        fail_thread(thread, site_of(access.site, here), "unpublished: a %s offset %u of shared memory, which thread %d wrote at %s:%d",
                    access.kind == Access::READ ? "product reads" : "copy writes", offset, thread_of(write), before.file, before.line);
    }
}

void RaceDetector::note_bytes(int thread, const void* pointer, uint32_t bytes, const Cell& access) {
    uint32_t offset = static_cast<uint32_t>(static_cast<const unsigned char*>(pointer) - memory_);
    const uint32_t end = std::min(offset + bytes, bytes_);
    Cell part = access;
    while (offset < end) {
        const uint32_t first = offset % GRANULE_BYTES;
        const uint32_t count = std::min(GRANULE_BYTES - first, end - offset);
        part.bytes = static_cast<uint16_t>(((1u << count) - 1) << first);
        if (part.agent >= 2 * threads_) check_published(granules_[offset / GRANULE_BYTES], part, thread, offset);
        note(granules_[offset / GRANULE_BYTES], part, thread, offset);
        offset += count;
    }
}

void RaceDetector::access(int thread, const void* pointer, uint32_t bytes, Access kind, AccessSite site) {
    const Cell access{site, clocks_[static_cast<size_t>(thread)].own, static_cast<uint16_t>(thread), 0, kind};
    note_bytes(thread, pointer, bytes, access);
}

uint32_t RaceDetector::issue_copy(int thread, const void* pointer, uint32_t bytes, AccessSite site) {
    const uint32_t epoch = ++copies_issued_[static_cast<size_t>(thread)];
    const Cell access{site, epoch, static_cast<uint16_t>(threads_ + thread), 0, Access::WRITE};
    note_bytes(thread, pointer, bytes, access);
    return epoch;
}

void RaceDetector::complete_copy(int thread, uint32_t epoch) {
    Clock& clock = clocks_[static_cast<size_t>(thread)];
    clock.copies_waited = std::max(clock.copies_waited, epoch);
}

void RaceDetector::product_read(int first_thread, const void* pointer, uint32_t bytes, uint32_t epoch, AccessSite site) {
    const auto agent = static_cast<uint16_t>(2 * threads_ + first_thread / WARP_SIZE);
    note_bytes(first_thread, pointer, bytes, Cell{site, epoch, agent, 0, Access::READ});
}

void RaceDetector::complete_products(int first_thread, uint32_t epoch) {
    for (int thread = first_thread; thread < first_thread + WARP_SIZE; ++thread) {
        Clock& clock = clocks_[static_cast<size_t>(thread)];
        clock.products_waited = std::max(clock.products_waited, epoch);
    }
}

void RaceDetector::bulk_write(int thread, int slot, const void* pointer, uint32_t bytes, uint32_t epoch, AccessSite site) {
    bulk_threads_[slot] = thread;
    note_bytes(thread, pointer, bytes, Cell{site, epoch, static_cast<uint16_t>(bulk_agent(slot)), 0, Access::WRITE});
}

void RaceDetector::arrive_bulk(Arrivals& arrivals, int slot, uint32_t epoch) const {
    arrivals.bulk_agent = bulk_agent(slot);
    arrivals.bulk_epoch = epoch;
}

void RaceDetector::publish(int thread) {
    Clock& clock = clocks_[static_cast<size_t>(thread)];
    published_[static_cast<size_t>(thread)] = clock.own++;
    published_[static_cast<size_t>(threads_ + thread)] = clock.copies_waited;
}

std::shared_ptr<History> RaceDetector::join(const Arrivals::Arrival* arrivals, size_t count) const {
    auto joined = std::make_shared<History>(*arrivals[0].clock.known);
    const History* last = arrivals[0].clock.known.get();
    for (size_t i = 0; i < count; ++i) {
        const History* known = arrivals[i].clock.known.get();
        if (known == last) continue;  // most threads share one history
        last = known;
        for (size_t agent = 0; agent < joined->size(); ++agent) (*joined)[agent] = std::max((*joined)[agent], (*known)[agent]);
    }
    for (size_t i = 0; i < count; ++i) {
        const size_t thread = static_cast<size_t>(arrivals[i].thread);
        const size_t copies = thread + static_cast<size_t>(threads_);
        const size_t products = 2 * static_cast<size_t>(threads_) + thread / WARP_SIZE;
        (*joined)[thread] = std::max((*joined)[thread], arrivals[i].clock.own);
        (*joined)[copies] = std::max((*joined)[copies], arrivals[i].clock.copies_waited);
        (*joined)[products] = std::max((*joined)[products], arrivals[i].clock.products_waited);
    }
    return joined;
}

void RaceDetector::join_warp(int first_thread) {
    warp_.clear();
    for (int thread = first_thread; thread < first_thread + WARP_SIZE; ++thread) {
        warp_.push_back({thread, clocks_[static_cast<size_t>(thread)]});
    }
    const SharedHistory joined = join(warp_.data(), warp_.size());
    for (int thread = first_thread; thread < first_thread + WARP_SIZE; ++thread) {
        Clock& clock = clocks_[static_cast<size_t>(thread)];
        clock.known = joined;
        ++clock.own;
    }
    warp_.clear();
}

void RaceDetector::arrive(Arrivals& arrivals, int thread) {
    Clock& clock = clocks_[static_cast<size_t>(thread)];
    arrivals.arrived.push_back({thread, clock});
    ++clock.own;
}

void RaceDetector::open(Arrivals& arrivals) {
    const std::shared_ptr<History> joined = join(arrivals.arrived.data(), arrivals.arrived.size());
    if (arrivals.bulk_epoch != 0) (*joined)[arrivals.bulk_agent] = arrivals.bulk_epoch;
    arrivals.joined = joined;
}

void RaceDetector::pass(const Arrivals& arrivals, int thread) { clocks_[static_cast<size_t>(thread)].known = arrivals.joined; }

void RaceDetector::arrive_copies(Arrivals& arrivals, int thread, uint32_t epoch) const {
    arrivals.arrived.push_back({thread, {nothing_, 0, epoch, 0}});
}

void RaceDetector::acquire(const SharedHistory& history, int thread) {
    Clock& clock = clocks_[static_cast<size_t>(thread)];
    clock.copies_waited = std::max(clock.copies_waited, (*history)[static_cast<size_t>(threads_ + thread)]);
    if (clock.known != merged_known_ || history != merged_history_) {
        auto merged = std::make_shared<History>(*clock.known);
        for (size_t agent = 0; agent < merged->size(); ++agent) (*merged)[agent] = std::max((*merged)[agent], (*history)[agent]);
        merged_known_ = clock.known;
        merged_history_ = history;
        merged_ = merged;
    }
    clock.known = merged_;
}

uint32_t RaceDetector::bulk_agent(int slot) const { return static_cast<uint32_t>(2 * threads_ + threads_ / WARP_SIZE + slot); }

// The thread that made an access or started what did, or the first of its warp.
int RaceDetector::thread_of(const Cell& cell) const {
    if (cell.agent >= bulk_agent(0)) return bulk_threads_[cell.agent - bulk_agent(0)];
    return cell.agent < 2 * threads_ ? cell.agent % threads_ : (cell.agent - 2 * threads_) * WARP_SIZE;
}

void RaceDetector::report(const Cell& access, const Cell& earlier, int thread, uint32_t offset) const {
    SourceLine here, there;
    const Site now = site_of(access.site, here);
    const Site before = site_of(earlier.site, there);
    const int other = thread_of(earlier);
    fail_thread(thread, now, "race: %s%s at offset %u of shared memory, not ordered after the %s%s by thread %d (warp %d) at %s:%d",
                access.agent >= threads_ ? "asynchronous " : "", name(access.kind), offset,
                earlier.agent >= threads_ ? "asynchronous " : "", name(earlier.kind), other, other / WARP_SIZE, before.file, before.line);
}

void RaceDetector::report_unwritten(const Cell& access, int thread, uint32_t offset) const {
    SourceLine here;
    fail_thread(thread, site_of(access.site, here), "uninitialised: %s at offset %u of shared memory, which no thread has written",
                name(access.kind), offset);
}

}  // namespace sala::host
