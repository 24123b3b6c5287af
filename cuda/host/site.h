// A place in a kernel's source: where it called a primitive.
#pragma once

namespace sala::host {

struct Site {
    const char* file;
    int line;
};

}  // namespace sala::host
