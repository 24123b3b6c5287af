// The host half of machine/tensor_copy.cuh.
#include "machine/tensor_copy.cuh"

#include <algorithm>
#include <string.h>

#include "host/copies.h"
#include "host/phases.h"
#include "host/report.h"
#include "host/scheduler.h"
#include "host/shared_memory.h"

namespace sala::host {

namespace {

constexpr uint32_t ELEMENT_BYTES = 2;
constexpr uint32_t VECTOR_BYTES = 16;
constexpr uint32_t MOST_BYTES = (1u << 20) - 1;  // that a phase may lack
constexpr uint32_t MOST_IN_BOX = 256;

uint32_t row_bytes(const sala_tensor_shape& shape) { return shape.boxes[0] * ELEMENT_BYTES; }

uint32_t box_bytes(const sala_tensor_shape& shape) {
    uint32_t bytes = row_bytes(shape);
    for (uint32_t axis = 1; axis < shape.axes; ++axis) bytes *= shape.boxes[axis];
    return bytes;
}

// Where the elements of a row of the box that the tensor has lie: `count` of them, from element `skipped` of the row on.
struct Row {
    const unsigned char* source;
    uint32_t skipped, count;
};

Row find_row(const BulkCopy& copy, uint32_t index) {
    const sala_tensor_shape& shape = copy.shape;
    auto address = shape.address;
    for (uint32_t axis = 1; axis < shape.axes; ++axis) {
        const int64_t at = int64_t{copy.first[axis]} + index % shape.boxes[axis];
        index /= shape.boxes[axis];
        if (at < 0 || at >= int64_t{shape.sizes[axis]}) return {nullptr, 0, 0};
        address += static_cast<uint64_t>(at) * shape.strides[axis - 1];
    }
    const int64_t begin = copy.first[0];
    const int64_t from = std::max<int64_t>(begin, 0), to = std::min<int64_t>(begin + shape.boxes[0], shape.sizes[0]);
    if (from >= to) return {nullptr, 0, 0};
    return {reinterpret_cast<const unsigned char*>(address) + from * ELEMENT_BYTES, static_cast<uint32_t>(from - begin),
            static_cast<uint32_t>(to - from)};
}

// Elements [first, first + 8) of a row of the box.
void copy_vector(unsigned char* to, const Row& row, uint32_t first) {
    constexpr uint32_t COUNT = VECTOR_BYTES / ELEMENT_BYTES;
    const uint32_t begin = std::max(first, row.skipped), end = std::min(first + COUNT, row.skipped + row.count);
    if (begin == first && end == first + COUNT) {
        memcpy(to, row.source + (first - row.skipped) * ELEMENT_BYTES, VECTOR_BYTES);
        return;
    }
    memset(to, 0, VECTOR_BYTES);
    if (begin >= end) return;
    memcpy(to + (begin - first) * ELEMENT_BYTES, row.source + (begin - row.skipped) * ELEMENT_BYTES, (end - begin) * ELEMENT_BYTES);
}

// The vectors of 16 bytes of 2, 4 or 8 neighbours change places by the address bits from 7 on.
uint32_t swizzled(uint32_t address, uint32_t swizzle) {
    const uint32_t mask = (1u << swizzle) - 1;
    return address ^ (address >> 7 & mask) << 4;
}

void check_map(const sala_tensor_map& map, const sala_tensor_shape& shape, int rank, Site site) {
    if (reinterpret_cast<uint64_t>(&map) % alignof(sala_tensor_map) != 0) fail(site, "tensor copy: the map is not aligned to 64 bytes");
    if (shape.mark == 0) fail(site, "tensor copy: there is no map");
    if (shape.mark != SALA_MAP_MARK) fail(site, "tensor copy: not a map that this machine reads");
    if (shape.axes != static_cast<uint32_t>(rank)) fail(site, "tensor copy: %d indices, but the map has %u axes", rank, shape.axes);
    for (uint32_t axis = 0; axis < shape.axes; ++axis) {
        const bool stride_is_good = axis == 0 || shape.strides[axis - 1] % VECTOR_BYTES == 0;
        if (shape.sizes[axis] == 0 || shape.boxes[axis] == 0 || shape.boxes[axis] > MOST_IN_BOX || !stride_is_good) {
            fail(site, "tensor copy: axis %u of the map has size %u and box %u, and strides are multiples of 16", axis, shape.sizes[axis],
                 shape.boxes[axis]);
        }
    }
    const bool fits = shape.swizzle == SALA_SWIZZLE_NONE
                          ? row_bytes(shape) % VECTOR_BYTES == 0
                          : shape.swizzle <= SALA_SWIZZLE_128 && row_bytes(shape) == VECTOR_BYTES << shape.swizzle;
    if (!fits || shape.address % VECTOR_BYTES != 0) {
        fail(site, "tensor copy: rows of %u bytes of a box with swizzle %u, or a tensor at 0x%llx", row_bytes(shape), shape.swizzle,
             static_cast<unsigned long long>(shape.address));
    }
}

// What a copy reads, as AddressSanitizer and the counters have to know when it starts.
void note_source(Block& block, const BulkCopy& copy) {
    const uint32_t rows = box_bytes(copy.shape) / row_bytes(copy.shape);
    for (uint32_t index = 0; index < rows; ++index) {
        const Row row = find_row(copy, index);
        const uint32_t bytes = row.count * ELEMENT_BYTES;
        if (bytes == 0) continue;
        if (is_shared(block, row.source)) fail(copy.site, "tensor copy: %p is not in global memory", static_cast<const void*>(row.source));
#if defined(__SANITIZE_ADDRESS__)
        const unsigned char ends = row.source[0] ^ row.source[bytes - 1];
        asm volatile("" ::"r"(ends) : "memory");
#endif
        block.counters.global_bytes_read += bytes;
        count_sectors(block, row.source, bytes);
    }
}

// The race detector's name for the copies that an mbarrier counts.
int bulk_slot(Block& block, Mbarrier& state, Site site) {
    if (state.bulk_slot < 0) {
        if (block.bulk_slots == RaceDetector::BULK_AGENTS) fail(site, "more than %d mbarriers count copies", RaceDetector::BULK_AGENTS);
        state.bulk_slot = block.bulk_slots++;
    }
    return state.bulk_slot;
}

void start(const BulkCopy& copy) {
    Block& block = *running;
    Mbarrier& state = checked_mbarrier(block, copy.barrier, copy.site);
    const uint32_t bytes = box_bytes(copy.shape);
    unsigned char* target = shared_pointer(block, copy.target, bytes, copy.thread, copy.site);
    note_source(block, copy);
    if (block.race != nullptr) {
        const AccessSite site = AccessSite::at(copy.site);
        if (!block.race->has_published(state.begun_by, state.begun)) {
            fail(copy.site, "unpublished: a copy counts at an mbarrier that thread %d began at %s:%d", state.begun_by, state.begun_at.file,
                 state.begun_at.line);
        }
        block.race->bulk_write(copy.thread, bulk_slot(block, state, copy.site), target, bytes, state.phases + 1, site);
    }
    memset(target, POISON, bytes);
    ++state.copies;
    block.bulk_copies.push_back(copy);
    if (performed_at_once(block)) perform_bulk_copy(block, block.bulk_copies.size() - 1);
    maybe_yield(2);
}

}  // namespace

void perform_bulk_copy(Block& block, size_t index) {
    const BulkCopy copy = block.bulk_copies[index];
    block.bulk_copies.erase(block.bulk_copies.begin() + static_cast<ptrdiff_t>(index));
    const uint32_t bytes = box_bytes(copy.shape), pitch = row_bytes(copy.shape);
    for (uint32_t from = 0; from < bytes; from += pitch) {
        const Row row = find_row(copy, from / pitch);
        for (uint32_t at = 0; at < pitch; at += VECTOR_BYTES) {
            const uint32_t to = swizzled(copy.target + from + at, copy.shape.swizzle);
            copy_vector(block.shared.get() + (to - SHARED_BASE), row, at / ELEMENT_BYTES);
        }
    }
    Mbarrier& state = block.mbarriers[copy.barrier];
    --state.copies;
    state.has_copied = true;
    state.bytes -= bytes;
    state.bytes_site = copy.site;
    state.bytes_thread = copy.thread;
    if (block.race != nullptr) block.race->arrive_bulk(state.arrivals, state.bulk_slot, state.phases + 1);
    advance(block, copy.barrier, state, copy.thread, copy.site);
}

void check_bulk_copies_have_ended(Block& block) {
    if (!block.bulk_copies.empty()) {
        const BulkCopy& copy = block.bulk_copies.front();
        fail_thread(copy.thread, copy.site, "the block ends without having waited for the copy");
    }
    for (const auto& [address, state] : block.mbarriers) {
        if (state.unwaited) fail_thread(state.bytes_thread, state.bytes_site, "the block ends without having waited for the copy");
        if (state.bytes == 0) continue;
        fail_thread(state.bytes_thread, state.bytes_site, "the block ends, but at the mbarrier at shared address 0x%x %lld bytes %s",
                    address, static_cast<long long>(state.bytes < 0 ? -state.bytes : state.bytes),
                    state.bytes < 0 ? "came that were not announced" : "were announced that did not come");
    }
}

void start_tensor_copy(uint32_t target, const sala_tensor_map& map, const int* first, int rank, uint32_t barrier, Site site) {
    BulkCopy copy{target, barrier, {}, {}, running->current->thread, site};
    memcpy(&copy.shape, &map, sizeof(copy.shape));
    check_map(map, copy.shape, rank, site);
    if (target % 128 != 0) fail(site, "tensor copy: shared address 0x%x is not aligned to 128 bytes", target);
    for (int axis = 0; axis < rank; ++axis) copy.first[axis] = first[axis];
    start(copy);
}

void start_bulk_copy(uint32_t target, const void* global, uint32_t bytes, uint32_t barrier, Site site) {
    const auto address = reinterpret_cast<uint64_t>(global);
    if (target % VECTOR_BYTES != 0 || address % VECTOR_BYTES != 0 || bytes % VECTOR_BYTES != 0 || bytes == 0) {
        fail(site, "bulk copy: %u bytes from %p to shared address 0x%x: all are to be multiples of 16", bytes, global, target);
    }
    if (global == nullptr) fail(site, "bulk copy: from a null pointer");
    BulkCopy copy{target, barrier, {}, {}, running->current->thread, site};
    copy.shape.address = address;
    copy.shape.axes = 1;
    copy.shape.sizes[0] = copy.shape.boxes[0] = bytes / ELEMENT_BYTES;
    start(copy);
}

void expect_copied_bytes(uint32_t barrier, uint32_t bytes, bool arrives, Site site) {
    Block& block = *running;
    Mbarrier& state = checked_mbarrier(block, barrier, site);
    if (bytes > MOST_BYTES || state.bytes + bytes > int64_t{MOST_BYTES}) {
        fail(site, "mbarrier: %u bytes announced: a phase may lack %u", bytes, MOST_BYTES);
    }
    if (state.lacks == 0) fail(site, "mbarrier: %u bytes announced, but the phase lacks no arrival", bytes);
    state.bytes += bytes;
    state.bytes_site = site;
    state.bytes_thread = block.current->thread;
    if (arrives) arrive_mbarrier(barrier, 1, true, site);
}

}  // namespace sala::host
