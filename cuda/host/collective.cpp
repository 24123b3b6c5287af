#include "host/collective.h"

#include "host/report.h"
#include "host/scheduler.h"

namespace sala::host {

namespace {

void check_company(const Warp& warp, Operation operation, const char* name, Site site) {
    if (warp.operation != operation || !same_site(warp.site, site)) {
        fail(site, "divergent warp: the lane calls %s while %d lanes of its warp wait in %s at %s:%d", name,
             __builtin_popcount(warp.arrived), warp.name, warp.site.file, warp.site.line);
    }
}

}  // namespace

void meet(Operation operation, const char* name, void* argument, Site site) {
    Block& block = *running;
    Fiber& fiber = *block.current;
    Warp& warp = *fiber.warp;
    if (warp.alive != ALL_LANES) {
        fail(site, "%s needs the whole warp, but %d of its lanes have ended", name, __builtin_popcount(~warp.alive));
    }
    if (warp.arrived == 0) {
        warp.operation = operation;
        warp.name = name;
        warp.site = site;
    } else {
        check_company(warp, operation, name, site);
    }
    warp.arguments[fiber.lane] = argument;
    warp.arrived |= 1u << fiber.lane;
    if (warp.arrived != ALL_LANES) {
        wait(name, site);
        return;
    }
    operation(block, warp, warp.arguments);
    ++block.counters.collectives;
    block.calls_without_progress = 0;
    if (block.launch.options.count != 0) warp.wavefronts.flush(block.counters);
    warp.arrived = 0;
    warp.ready = ALL_LANES;
    block.ready_warps |= 1u << warp.index;
    maybe_yield(4);
}

}  // namespace sala::host
