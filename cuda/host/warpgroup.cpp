// The host half of machine/warpgroup.cuh.
#include "machine/warpgroup.cuh"

#include <string.h>

#include "host/collective.h"
#include "host/copies.h"
#include "host/fragments.h"
#include "host/report.h"
#include "host/scheduler.h"
#include "host/shared_memory.h"

namespace sala::host {

struct StartedProduct {
    GroupProduct product;
    Site site;
    uint32_t epoch;
    bool done;
    float* c[WARP_SIZE];        // the lanes' accumulators
    std::vector<float> before;  // C when the product was started, [n][16]; empty: what the product before it left
    std::vector<float> a;       // A in registers, [k][16]
};

StartedProducts::StartedProducts() = default;
StartedProducts::~StartedProducts() = default;

void StartedProducts::clear() {
    products.clear();
    batches.clear();
    open = 0;
    epoch = 0;
}

namespace {

constexpr int M = FRAGMENT_ROWS;
constexpr int GROUP_WARPS = 4;
constexpr int GROUP_ROWS = M * GROUP_WARPS;
constexpr int PANEL_COLS = 64;
constexpr int VECTOR_COLS = 8;
constexpr uint32_t VECTOR_BYTES = 16;

// All warps of a group make the same calls in the same order.
void follow_group(Block& block, Warp& warp) {
    Warpgroup& group = block.warpgroups[warp.index / GROUP_WARPS];
    size_t& made = group.made[warp.index % GROUP_WARPS];
    if (block.warp_count % GROUP_WARPS != 0 && warp.index / GROUP_WARPS == block.warp_count / GROUP_WARPS) {
        fail(warp.site, "%s needs a warpgroup, but the last has %d warps", warp.name, block.warp_count % GROUP_WARPS);
    }
    if (made == group.calls.size()) {
        group.calls.push_back(warp.site);
    } else if (!same_site(group.calls[made], warp.site)) {
        fail(warp.site, "divergent warpgroup: the warp calls %s where another called the one at %s:%d", warp.name, group.calls[made].file,
             group.calls[made].line);
    }
    ++made;
    for (const size_t count : group.made) {
        if (count == 0) return;
    }
    group.calls.pop_front();
    for (size_t& count : group.made) --count;
}

void check_part(const Warp& warp, const PanelPart& part, int rows) {
    if (part.base % 1024 != 0) fail(warp.site, "%s: panel base 0x%x is not aligned to 1024 bytes", warp.name, part.base);
    if (part.row0 < 0 || part.row0 % 8 != 0 || part.row0 + rows > part.rows) {
        fail(warp.site, "%s: rows %d to %d of a tile of %d rows: expected a multiple of 8 within it", warp.name, part.row0,
             part.row0 + rows, part.rows);
    }
}

// Visits the vectors of 16 bytes of rows x cols elements: use(row, first column, address).
template <class Use>
void for_vectors(const PanelPart& part, int first_row, int rows, int cols, Use use) {
    const uint32_t panel_bytes = static_cast<uint32_t>(part.rows * SharedTile<PANEL_COLS>::ROW_BYTES);
    for (int row = 0; row < rows; ++row) {
        for (int col = 0; col < cols; col += VECTOR_COLS) {
            const SharedTile<PANEL_COLS> panel{part.base + static_cast<uint32_t>(col / PANEL_COLS) * panel_bytes};
            use(row, col, panel.address(part.row0 + first_row + row, col % PANEL_COLS / VECTOR_COLS));
        }
    }
}

int b_rows(const GroupProduct& product) { return product.b_rows_are_k ? product.k : product.n; }
int b_cols(const GroupProduct& product) { return product.b_rows_are_k ? product.n : product.k; }

// Visits all vectors that the warp's quarter reads: of B all, of A its rows.
template <class Use>
void for_read_vectors(const GroupProduct& product, int warp, Use use) {
    const auto address = [&](int, int, uint32_t at) { use(at); };
    for_vectors(product.b_part, 0, b_rows(product), b_cols(product), address);
    if (product.a_shared) for_vectors(product.a_part, warp % GROUP_WARPS * M, M, product.k, address);
}

const uint16_t* elements_at(Block& block, const StartedProduct& started, int warp, uint32_t address) {
    return reinterpret_cast<const uint16_t*>(shared_pointer(block, address, VECTOR_BYTES, warp * WARP_SIZE, started.site));
}

void gather_shared_a(Block& block, StartedProduct& started, int warp) {
    started.a.resize(static_cast<size_t>(started.product.k * M));
    for_vectors(started.product.a_part, warp % GROUP_WARPS * M, M, started.product.k, [&](int m, int k, uint32_t address) {
        float wide[VECTOR_COLS];
        widen(started.product.element, wide, elements_at(block, started, warp, address));
        for (int i = 0; i < VECTOR_COLS; ++i) started.a[static_cast<size_t>((k + i) * M + m)] = wide[i];
    });
}

// C as [n][16] floats, to or from the lanes.
void read_sums(const StartedProduct& started, float* c) {
    for (int lane = 0; lane < WARP_SIZE; ++lane) {
        for_accumulator(lane, started.c[lane], started.product.n, c, [](const float& value, float& element) { element = value; });
    }
}

void write_sums(const StartedProduct& started, float* c) {
    for (int lane = 0; lane < WARP_SIZE; ++lane) {
        for_accumulator(lane, started.c[lane], started.product.n, c, [](float& value, const float& element) { value = element; });
    }
}

void perform(Block& block, StartedProduct& started, int warp) {
    if (started.done) return;
    started.done = true;
    const GroupProduct& product = started.product;
    const int rows = b_rows(product), cols = b_cols(product);
    std::vector<float> b(static_cast<size_t>(rows * cols)), c = std::move(started.before);
    for_vectors(product.b_part, 0, rows, cols, [&](int row, int col, uint32_t address) {
        widen(product.element, b.data() + row * cols + col, elements_at(block, started, warp, address));
    });
    if (product.a_shared) gather_shared_a(block, started, warp);
    if (c.empty()) {
        c.resize(static_cast<size_t>(product.n * M));
        read_sums(started, c.data());
    }
    if (!product.adds) std::fill(c.begin(), c.end(), 0.0f);
    accumulate_product(c.data(), started.a.data(), b.data(), product.n, product.k, product.b_rows_are_k ? product.n : 1,
                       product.b_rows_are_k ? 1 : product.k);
    write_sums(started, c.data());
    block.counters.tensor_flops += static_cast<uint64_t>(2 * M * product.n) * static_cast<uint64_t>(product.k);
}

struct StartArgument {
    GroupProduct product;
    float* c;
    const uint32_t* a;
};

bool same_part(const PanelPart& a, const PanelPart& b) { return a.base == b.base && a.row0 == b.row0; }

void check_agreement(const Warp& warp, void* const* arguments) {
    const GroupProduct& first = static_cast<const StartArgument*>(arguments[0])->product;
    for (int lane = 1; lane < WARP_SIZE; ++lane) {
        const GroupProduct& other = static_cast<const StartArgument*>(arguments[lane])->product;
        if (!same_part(first.b_part, other.b_part) || !same_part(first.a_part, other.a_part) || first.adds != other.adds) {
            fail_thread(warp.index * WARP_SIZE + lane, warp.site, "%s: the lane names another product than lane 0", warp.name);
        }
    }
}

void note_reads(Block& block, const Warp& warp, StartedProduct& started) {
    started.epoch = ++block.started_products[warp.index].epoch;
    for_read_vectors(started.product, warp.index, [&](uint32_t address) {
        const unsigned char* pointer = shared_pointer(block, address, VECTOR_BYTES, warp.index * WARP_SIZE, started.site);
        if (block.race == nullptr) return;
        block.race->product_read(warp.index * WARP_SIZE, pointer, VECTOR_BYTES, started.epoch, AccessSite::at(started.site));
    });
}

// Whether a product before the last, which has not happened, has the same C.
bool follows_another(const StartedProducts& mine) {
    const auto& last = mine.products.back();
    for (const auto& other : mine.products) {
        if (other != last && !other->done && other->c[0] == last->c[0]) return true;
    }
    return false;
}

void perform_start(Block& block, Warp& warp, void* const* arguments) {
    follow_group(block, warp);
    check_agreement(warp, arguments);
    StartedProducts& mine = block.started_products[warp.index];
    const GroupProduct& product = static_cast<const StartArgument*>(arguments[0])->product;
    mine.products.push_back(std::make_unique<StartedProduct>(StartedProduct{product, warp.site, 0, false, {}, {}, {}}));
    StartedProduct& started = *mine.products.back();
    ++mine.open;
    check_part(warp, product.b_part, b_rows(product));
    if (product.a_shared) check_part(warp, product.a_part, GROUP_ROWS);
    if (!product.a_shared) started.a.resize(static_cast<size_t>(product.k * M));
    for (int lane = 0; lane < WARP_SIZE; ++lane) {
        const auto& argument = *static_cast<const StartArgument*>(arguments[lane]);
        started.c[lane] = argument.c;
        if (!product.a_shared) gather_fragment_a(product.element, lane, argument.a, product.k, started.a.data());
    }
    note_reads(block, warp, started);
    if (follows_another(mine)) return;
    if (performed_at_once(block)) {
        perform(block, started, warp.index);
        return;
    }
    started.before.resize(static_cast<size_t>(product.n * M));
    read_sums(started, started.before.data());
    // C is nobody's until the batch has been waited for.
    std::vector<float> nothing(started.before.size(), __builtin_nanf(""));
    write_sums(started, nothing.data());
}

void perform_fence(Block& block, Warp& warp, void* const*) { follow_group(block, warp); }

void perform_commit(Block& block, Warp& warp, void* const*) {
    follow_group(block, warp);
    StartedProducts& mine = block.started_products[warp.index];
    mine.batches.push_back(mine.open);
    mine.open = 0;
}

void perform_wait(Block& block, Warp& warp, void* const* arguments) {
    follow_group(block, warp);
    StartedProducts& mine = block.started_products[warp.index];
    const uint32_t pending = *static_cast<const uint32_t*>(arguments[0]);
    uint32_t epoch = 0;
    for (; mine.batches.size() > pending; mine.batches.pop_front()) {
        for (size_t i = 0; i < mine.batches.front(); ++i) {
            StartedProduct& product = *mine.products.front();
            perform(block, product, warp.index);
            epoch = product.epoch;
            mine.products.pop_front();
        }
    }
    if (block.race != nullptr && epoch != 0) block.race->complete_products(warp.index * WARP_SIZE, epoch);
}

struct RegistersArgument {
    int count;
    bool more;
};

// Gives warps what they wait for while there is enough. Registers go to all lanes of a warp alike.
void deal_registers(Block& block) {
    for (int index = 0; index < block.warp_count; ++index) {
        Warp& warp = block.warps[index];
        const int needed = warp.registers_wanted - warp.registers;
        if (needed == 0 || needed > block.free_registers) continue;
        block.free_registers -= needed;
        warp.registers = warp.registers_wanted;
        for (int lane = 0; lane < WARP_SIZE; ++lane) {
            Fiber& fiber = block.fibers[static_cast<size_t>(index * WARP_SIZE + lane)];
            if (fiber.waits_for_registers) wake(fiber);
            fiber.waits_for_registers = false;
        }
    }
}

void perform_change(Block& block, Warp& warp, void* const* arguments) {
    follow_group(block, warp);
    const auto [count, more] = *static_cast<const RegistersArgument*>(arguments[0]);
    if (more ? count < warp.registers : count > warp.registers) {
        fail(warp.site, "%s: to %d registers, but a thread has %d", warp.name, count, warp.registers);
    }
    warp.registers_wanted = count;
    if (!more) {
        block.free_registers += warp.registers - count;
        warp.registers = count;
    }
    deal_registers(block);
}

}  // namespace

void check_products_have_ended(Block& block, int warp) {
    const StartedProducts& mine = block.started_products[warp];
    if (!mine.products.empty()) fail(mine.products.front()->site, "the warp ends without having waited for the product");
    const Warpgroup& group = block.warpgroups[warp / GROUP_WARPS];
    const size_t made = group.made[warp % GROUP_WARPS];
    if (made < group.calls.size()) {
        fail(group.calls[made], "divergent warpgroup: warp %d ends without the call, which another warp of its group has made", warp);
    }
}

void fence_products(Site site) { meet(perform_fence, "fence_products", nullptr, site); }

void start_product(const GroupProduct& product, float* c, const uint32_t* a, Site site) {
    StartArgument argument{product, c, a};
    meet(perform_start, "start_product", &argument, site);
}

void commit_products(Site site) { meet(perform_commit, "commit_products", nullptr, site); }

void change_registers(int count, bool more, Site site) {
    const char* name = more ? "take_registers" : "give_up_registers";
    RegistersArgument argument{count, more};
    meet(perform_change, name, &argument, site);
    Fiber& fiber = *running->current;
    if (fiber.warp->registers == fiber.warp->registers_wanted) return;
    fiber.waits_for_registers = true;
    wait(name, site);
}

void wait_products(uint32_t pending, Site site) { meet(perform_wait, "wait_products", &pending, site); }

}  // namespace sala::host
