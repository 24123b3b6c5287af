/* The executor's interface for callers outside C++: runs kernels compiled for the host. Plain C. */
#ifndef SALA_HOST_EXECUTOR_H
#define SALA_HOST_EXECUTOR_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* In what order the ready threads of a block run. */
enum { SALA_HOST_ROUND_ROBIN = 0, SALA_HOST_RANDOM = 1, SALA_HOST_REVERSE = 2 };

/* When an asynchronous copy is performed: as late as it may be, at once, or either by chance. */
enum { SALA_HOST_LAZY = 0, SALA_HOST_EAGER = 1, SALA_HOST_EITHER = 2 };

struct sala_host_options {
    uint64_t seed;         /* of every random choice; a launch repeats exactly for one seed */
    uint32_t schedule;     /* SALA_HOST_ROUND_ROBIN, _RANDOM or _REVERSE */
    uint32_t copies;       /* SALA_HOST_LAZY, _EAGER or _EITHER */
    uint32_t threads;      /* OS threads that run blocks; 0: one for each core */
    uint32_t detect_races; /* run the instrumented build of the kernel, on one OS thread */
    uint32_t preempt;      /* n: switch threads at one in n of the accesses to shared memory; 0: never */
    uint32_t count;        /* also count distinct global bytes and the shared wavefronts of loads and stores (on one OS thread) */
};

struct sala_host_counters {
    uint64_t tensor_flops;            /* two for each multiply-add of the matrix products */
    uint64_t exponentials;            /* calls of exp2 */
    uint64_t global_bytes_read;       /* bytes asked of global memory by loads and asynchronous copies */
    uint64_t global_bytes_written;    /* bytes given to global memory by stores */
    uint64_t global_bytes_distinct;   /* bytes in the distinct 32-byte sectors touched (`count`) */
    uint64_t shared_wavefronts;       /* passes over the banks taken by accesses to shared memory */
    uint64_t shared_wavefronts_ideal; /* passes that they would take without bank conflicts */
    uint64_t collectives;             /* meetings of a warp */
    uint64_t switches;                /* context switches between threads */
    uint64_t blocks;                  /* blocks run */
};

struct sala_host_kernel;

/* The kernel of that name, or null. Valid for the life of the process. */
const struct sala_host_kernel* sala_host_find(const char* name);

uint32_t sala_host_kernel_count(void);
const char* sala_host_kernel_name(uint32_t index);

/* Bytes of the kernel's parameters, and the largest block it allows. */
uint64_t sala_host_params_size(const struct sala_host_kernel* kernel);
uint32_t sala_host_threads(const struct sala_host_kernel* kernel);

/* Runs a grid to its end. Returns 0, or another number after writing to `report` what went wrong: kernel, block, thread, file and line.
   Adds to `counters` (which may be null). May be called from several threads at once. */
int sala_host_launch(const struct sala_host_kernel* kernel, const uint32_t grid[3], uint32_t threads, uint32_t dynamic_shared,
                     const void* params, uint64_t params_size, const struct sala_host_options* options, struct sala_host_counters* counters,
                     char* report, uint64_t report_size);

#ifdef __cplusplus
}
#endif

#endif
