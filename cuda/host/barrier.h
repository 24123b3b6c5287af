// The host half of machine/barrier.cuh.
#pragma once

namespace sala::host {

void sync_barrier(int barrier, int threads, Site site);
void arrive_barrier(int barrier, int threads, Site site);

}  // namespace sala::host

namespace sala {
inline namespace SALA_VARIANT {

DEVICE void sync_block(const char* file, int line) { host::sync_barrier(0, block_threads(), {file, line}); }

DEVICE void sync_barrier(int barrier, int threads, const char* file, int line) { host::sync_barrier(barrier, threads, {file, line}); }

DEVICE void arrive_barrier(int barrier, int threads, const char* file, int line) { host::arrive_barrier(barrier, threads, {file, line}); }

}  // namespace SALA_VARIANT
}  // namespace sala
