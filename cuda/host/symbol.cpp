#include "host/symbol.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern "C" char** environ;

namespace sala::host {

namespace {

// Runs addr2line and takes the first line of what it says; false if it cannot be run.
bool ask_addr2line(const char* module, uintptr_t offset, char* answer, size_t size) {
    int ends[2];
    if (pipe(ends) != 0) return false;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_addclose(&actions, ends[0]);
    char address[32];
    snprintf(address, sizeof(address), "0x%llx", static_cast<unsigned long long>(offset));
    char* const arguments[] = {const_cast<char*>("addr2line"), const_cast<char*>("-e"), const_cast<char*>(module), address, nullptr};
    pid_t process;
    const bool started = posix_spawnp(&process, "addr2line", &actions, nullptr, arguments, environ) == 0;
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    size_t length = 0;
    if (started) {
        for (ssize_t got; length + 1 < size && (got = read(ends[0], answer + length, size - 1 - length)) > 0;) {
            length += static_cast<size_t>(got);
        }
        waitpid(process, nullptr, 0);
    }
    close(ends[0]);
    answer[length] = '\0';
    answer[strcspn(answer, "\n")] = '\0';
    return length > 0;
}

}  // namespace

SourceLine source_line(const void* address) {
    SourceLine result;
    Dl_info module;
    if (dladdr(address, &module) == 0 || module.dli_fname == nullptr) {
        snprintf(result.file, sizeof(result.file), "%p", address);
        return result;
    }
    const auto* header = static_cast<const ElfW(Ehdr)*>(module.dli_fbase);
    const uintptr_t base = header->e_type == ET_DYN ? reinterpret_cast<uintptr_t>(module.dli_fbase) : 0;
    // The address follows the call it stands for.
    const uintptr_t offset = reinterpret_cast<uintptr_t>(address) - 1 - base;
    const char* path =
        access("/proc/self/exe", R_OK) == 0 && strchr(module.dli_fname, '/') == nullptr ? "/proc/self/exe" : module.dli_fname;
    char answer[sizeof(result.file)];
    if (ask_addr2line(path, offset, answer, sizeof(answer)) && answer[0] != '?') {
        char* colon = strrchr(answer, ':');
        if (colon != nullptr) {
            *colon = '\0';
            result.line = atoi(colon + 1);
            memcpy(result.file, answer, sizeof(answer));
            return result;
        }
    }
    snprintf(result.file, sizeof(result.file), "%s+0x%llx", module.dli_fname, static_cast<unsigned long long>(offset));
    return result;
}

}  // namespace sala::host
