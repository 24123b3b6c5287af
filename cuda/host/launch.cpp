// Launches: checks, and the blocks of a grid over OS threads.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <stdio.h>
#include <system_error>
#include <thread>
#include <vector>

#include "host/block.h"
#include "host/executor.h"
#include "host/random.h"
#include "host/registry.h"

namespace sala::host {

namespace {

constexpr uint64_t MAX_GRID_X = (uint64_t{1} << 31) - 1;
constexpr uint64_t MAX_GRID_YZ = 65535;

// A launch that takes longer than this gets more OS threads; starting them costs about as much.
constexpr auto TIME_ALONE = std::chrono::microseconds(200);

// Blocks are kept between launches with their stacks and shared memory, so that a small launch costs no
// allocation.
class BlockPool {
  public:
    std::unique_ptr<Block> take() {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (blocks_.empty()) return std::make_unique<Block>();
        std::unique_ptr<Block> block = std::move(blocks_.back());
        blocks_.pop_back();
        return block;
    }

    void give_back(std::unique_ptr<Block> block) {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (blocks_.size() < MAX_BLOCKS) blocks_.push_back(std::move(block));
    }

  private:
    static constexpr size_t MAX_BLOCKS = 16;

    std::mutex mutex_;
    std::vector<std::unique_ptr<Block>> blocks_;
};

// Never destroyed: threads may still launch while the program ends.
BlockPool& pool() {
    static BlockPool& blocks = *new BlockPool;
    return blocks;
}

void add(sala_host_counters& sum, const sala_host_counters& part) {
    sum.tensor_flops += part.tensor_flops;
    sum.exponentials += part.exponentials;
    sum.global_bytes_read += part.global_bytes_read;
    sum.global_bytes_written += part.global_bytes_written;
    sum.global_bytes_distinct += part.global_bytes_distinct;
    sum.shared_wavefronts += part.shared_wavefronts;
    sum.shared_wavefronts_ideal += part.shared_wavefronts_ideal;
    sum.collectives += part.collectives;
    sum.switches += part.switches;
    sum.blocks += part.blocks;
}

// One grid in execution.
class Grid {
  public:
    Grid(const Launch& launch, uint32_t max_workers)
        : launch_(launch),
          block_count_(uint64_t{launch.grid[0]} * launch.grid[1] * launch.grid[2]),
          max_workers_(max_workers),
          start_(std::chrono::steady_clock::now()) {}

    // Runs all blocks, helped by other threads if that takes long.
    void run() {
        work(true);
        for (std::thread& helper : helpers_) helper.join();
    }

    bool failed() const { return failed_; }
    const char* report() const { return report_; }
    const sala_host_counters& counters() const { return counters_; }

  private:
    void work(bool may_call_helpers) {
        std::unique_ptr<Block> block = pool().take();
        if (!block->adopt(launch_)) {
            set_failed("no memory for the block's stacks or shared memory");
            return;
        }
        for (uint64_t index = next_block_++; index < block_count_ && !failed_; index = next_block_++) {
            if (!block->run(nth_block(index))) set_failed(block->report);
            if (may_call_helpers) call_helpers();
        }
        const std::lock_guard<std::mutex> lock(mutex_);
        add(counters_, block->counters);
        pool().give_back(std::move(block));
    }

    // The block that begins as the `index`-th: on a GPU any may. Shuffled, they begin with any of them, in either direction.
    uint64_t nth_block(uint64_t index) const {
        const sala_host_options& options = launch_.options;
        const uint64_t last = block_count_ - 1;
        if (options.schedule == SALA_HOST_REVERSE) return last - index;
        if (options.schedule != SALA_HOST_RANDOM) return index;
        Random random;
        random.seed(options.seed, block_count_);
        const bool is_reversed = random.below(2) == 0;
        const uint64_t first = random.below(static_cast<uint32_t>(std::min<uint64_t>(block_count_, UINT32_MAX)));
        const uint64_t place = (first + index) % block_count_;
        return is_reversed ? last - place : place;
    }

    void call_helpers() {
        if (!helpers_.empty() || max_workers_ <= 1 || std::chrono::steady_clock::now() - start_ < TIME_ALONE) return;
        const uint64_t next = next_block_;
        const uint64_t left = next < block_count_ ? block_count_ - next : 0;
        try {
            for (uint64_t i = 0; i + 1 < max_workers_ && i < left; ++i) helpers_.emplace_back([this] { work(false); });
        } catch (const std::system_error&) {
            max_workers_ = 1;  // the system has no more threads: go on with those there are
        }
    }

    void set_failed(const char* report) {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (failed_) return;
        snprintf(report_, sizeof(report_), "%s", report);
        failed_ = true;
    }

    const Launch& launch_;
    const uint64_t block_count_;
    uint32_t max_workers_;
    const std::chrono::steady_clock::time_point start_;
    std::atomic<uint64_t> next_block_{0};
    std::atomic<bool> failed_{false};
    std::vector<std::thread> helpers_;
    std::mutex mutex_;
    sala_host_counters counters_{};
    char report_[sizeof(Block::report)] = {};
};

// What is wrong with the launch, or an empty text.
void check(const sala_host_kernel& kernel, const uint32_t grid[3], uint32_t threads, uint32_t dynamic_shared, uint64_t params_size,
           const sala_host_options& options, char* problem, size_t size) {
    problem[0] = '\0';
    if (params_size != kernel.params_size) {
        snprintf(problem, size, "parameters: expected %llu bytes, got %llu", static_cast<unsigned long long>(kernel.params_size),
                 static_cast<unsigned long long>(params_size));
    } else if (grid[0] == 0 || grid[1] == 0 || grid[2] == 0 || grid[0] > MAX_GRID_X || grid[1] > MAX_GRID_YZ || grid[2] > MAX_GRID_YZ) {
        snprintf(problem, size, "grid: expected 1 to 2^31 - 1, 65535, 65535 blocks, got (%u, %u, %u)", grid[0], grid[1], grid[2]);
    } else if (threads == 0 || threads % WARP_SIZE != 0 || threads > kernel.threads || threads > MAX_THREADS) {
        snprintf(problem, size, "block: expected a multiple of %d threads, at most %u, got %u", WARP_SIZE, kernel.threads, threads);
    } else if (dynamic_shared > MAX_DYNAMIC_SHARED_BYTES) {
        snprintf(problem, size, "dynamic shared memory: expected at most %u bytes, got %u", MAX_DYNAMIC_SHARED_BYTES, dynamic_shared);
    } else if (options.schedule > SALA_HOST_REVERSE || options.copies > SALA_HOST_EITHER) {
        snprintf(problem, size, "options: no such schedule or order of copies: %u, %u", options.schedule, options.copies);
    } else if (options.detect_races != 0 && kernel.race == nullptr) {
        snprintf(problem, size, "race detection: the kernel was not compiled for it");
    } else if (options.detect_races == 0 && kernel.plain == nullptr) {
        snprintf(problem, size, "the kernel was compiled for race detection only");
    }
}

uint32_t workers(const sala_host_options& options) {
    // The race detector's clocks and the sets of distinct sectors belong to one thread.
    if (options.detect_races != 0 || options.count != 0) return 1;
    if (options.threads != 0) return options.threads;
    const uint32_t cores = std::thread::hardware_concurrency();
    return cores == 0 ? 1 : cores;
}

}  // namespace

}  // namespace sala::host

int sala_host_launch(const sala_host_kernel* kernel, const uint32_t grid[3], uint32_t threads, uint32_t dynamic_shared, const void* params,
                     uint64_t params_size, const sala_host_options* options, sala_host_counters* counters, char* report,
                     uint64_t report_size) {
    using namespace sala::host;
    char problem[256];
    check(*kernel, grid, threads, dynamic_shared, params_size, *options, problem, sizeof(problem));
    if (problem[0] != '\0') {
        snprintf(report, report_size, "kernel %s: %s", kernel->name, problem);
        return 1;
    }
    Launch launch;
    launch.kernel = kernel->name;
    launch.entry = options->detect_races != 0 ? kernel->race : kernel->plain;
    launch.params = params;
    for (int axis = 0; axis < 3; ++axis) launch.grid[axis] = grid[axis];
    launch.threads = static_cast<int>(threads);
    launch.dynamic_shared = dynamic_shared;
    launch.options = *options;

    Grid execution(launch, workers(*options));
    execution.run();
    if (counters != nullptr) add(*counters, execution.counters());
    if (!execution.failed()) return 0;
    snprintf(report, report_size, "%s", execution.report());
    return 1;
}
