#include "host/wavefronts.h"

#include <algorithm>

namespace sala::host {

namespace {

constexpr int LANES = 32;
constexpr uint32_t BANKS = 32;
constexpr uint32_t BANK_BYTES = 4;

// Lanes that one pass can serve: the whole warp with up to 4 bytes per lane, a half with 8, a quarter with
// 16.
int lanes_per_pass(uint32_t bytes) { return bytes <= 4 ? LANES : static_cast<int>(BANKS * BANK_BYTES / bytes); }

// The largest number of distinct words that some bank has to serve for lanes [first, first + count).
uint32_t passes(const uint32_t* addresses, uint32_t active, int first, int count, uint32_t bytes) {
    uint32_t words[LANES];
    int distinct = 0;
    uint32_t served[BANKS] = {};
    uint32_t most = 0;
    for (int lane = first; lane < first + count; ++lane) {
        if ((active >> lane & 1) == 0) continue;
        const uint32_t word = addresses[lane] / BANK_BYTES;
        for (uint32_t w = word; w < word + std::max(bytes / BANK_BYTES, 1u); ++w) {
            if (std::find(words, words + distinct, w) != words + distinct) continue;
            words[distinct++] = w;
            most = std::max(most, ++served[w % BANKS]);
        }
    }
    return most;
}

}  // namespace

WavefrontLog::Line& WavefrontLog::line_of(Site site) {
    for (Line& known : lines_) {
        if (known.site.line == site.line && known.site.file == site.file) return known;
    }
    lines_.push_back({site, {}, {}});
    return lines_.back();
}

void WavefrontLog::record(int lane, uint32_t address, uint32_t bytes, Site site) {
    Line& here = line_of(site);
    const uint32_t execution = here.executions[lane]++;
    if (here.instructions.size() <= execution) here.instructions.resize(execution + 1);
    Instruction& instruction = here.instructions[execution];
    instruction.lanes |= 1u << lane;
    instruction.bytes = std::max(instruction.bytes, bytes);
    instruction.addresses[lane] = address;
}

void WavefrontLog::flush(sala_host_counters& counters) {
    for (Line& here : lines_) {
        for (const Instruction& instruction : here.instructions) {
            const int step = lanes_per_pass(instruction.bytes);
            for (int first = 0; first < LANES; first += step) {
                const uint32_t taken = passes(instruction.addresses, instruction.lanes, first, step, instruction.bytes);
                counters.shared_wavefronts += taken;
                counters.shared_wavefronts_ideal += taken > 0 ? 1 : 0;
            }
        }
        here.instructions.clear();
        std::fill(std::begin(here.executions), std::end(here.executions), 0u);
    }
}

void WavefrontLog::clear() { lines_.clear(); }

}  // namespace sala::host
