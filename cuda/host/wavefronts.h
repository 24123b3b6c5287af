// Wavefronts: the passes over the banks of shared memory that an access of a warp takes. There are 32 banks
// of 4 bytes, each of which serves one word per pass.
#pragma once
#include <stdint.h>
#include <vector>

#include "host/executor.h"
#include "host/site.h"

namespace sala::host {

// Passes for eight rows of 16 bytes at the given addresses, an 8 x 8 matrix of 16-bit elements; the ideal is
// one.
inline uint32_t matrix_wavefronts(const uint32_t (&rows)[8]) {
    // A row lies in one of eight groups of four banks. Eight counters of 8 bits share a register.
    uint64_t rows_in_group = 0;
    uint64_t most = 0;
    for (const uint32_t row : rows) {
        const uint32_t shift = (row / 16 % 8) * 8;
        rows_in_group += uint64_t{1} << shift;
        const uint64_t count = rows_in_group >> shift & 0xff;
        most = count > most ? count : most;
    }
    return static_cast<uint32_t>(most);
}

// Matches the lanes' loads and stores into warp accesses: the n-th access of each lane on one line of the
// kernel, since the last time that the warp was together, is taken as one instruction. So kernels need not
// meet at loads, and divergent code is counted too.
class WavefrontLog {
  public:
    void record(int lane, uint32_t address, uint32_t bytes, Site site);

    // Counts what was recorded, and forgets it.
    void flush(sala_host_counters& counters);

    void clear();

  private:
    struct Instruction {
        uint32_t lanes = 0;
        uint32_t bytes = 0;
        uint32_t addresses[32];
    };

    // The accesses made on one line.
    struct Line {
        Site site;
        uint32_t executions[32];
        std::vector<Instruction> instructions;
    };

    Line& line_of(Site site);

    std::vector<Line> lines_;
};

}  // namespace sala::host
