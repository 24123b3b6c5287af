// The source line of an instruction, for reports about plain accesses to shared memory.
#pragma once

namespace sala::host {

struct SourceLine {
    char file[512] = "";
    int line = 0;
};

// Asks the tool addr2line, which needs the program's line tables. Without either, the file is the module and
// its offset in it.
SourceLine source_line(const void* address);

}  // namespace sala::host
