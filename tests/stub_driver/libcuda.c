/* A CUDA driver without a GPU, for the tests: device memory is the process's, a launch is handed to a function of the test, any call can be
   made to fail, and the calls are counted. It keeps the rules of contexts that the real one has: what needs a current context fails without
   one, and a launch fails unless function, stream and current context belong together.

   -DSTUB_WITHOUT_LAUNCH leaves cuLaunchKernel out, as a driver that is too old would. */
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef int CUresult;
typedef int CUdevice;
typedef uint64_t CUdeviceptr;

enum {
    CUDA_SUCCESS = 0,
    CUDA_ERROR_INVALID_VALUE = 1,
    CUDA_ERROR_OUT_OF_MEMORY = 2,
    CUDA_ERROR_INVALID_DEVICE = 101,
    CUDA_ERROR_INVALID_IMAGE = 200,
    CUDA_ERROR_INVALID_CONTEXT = 201,
    CUDA_ERROR_INVALID_HANDLE = 400,
};

enum { CALLS = 64, NAME = 64, DEVICES = 2, DEPTH = 16, DEFAULT_DYNAMIC_SHARED = 48 * 1024 };

typedef struct Context {
    CUdevice device;
    int retained;
} Context;

typedef struct {
    Context* context;
} Stream;

typedef struct {
    Context* context;
    const void* image;
} Module;

typedef struct Function {
    Context* context;
    char name[128];
    int dynamic_shared;
    struct Function* next; /* the stub keeps every function to its end */
} Function;

typedef int (*LaunchHook)(const char* kernel, const uint32_t* grid, uint32_t threads, uint32_t shared, const void* params);

/* ---- state ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct {
    char name[NAME];
    uint64_t calls;
    uint64_t fail_at; /* the call that fails, counted from 1; 0: none */
    CUresult result;
} counted[CALLS];

static struct {
    int major, minor, multiprocessors, shared;
} device = {8, 0, 108, 166912};

static Context primary[DEVICES] = {{0, 0}, {1, 0}};
static int static_shared;
static Function* functions;
static LaunchHook hook;
static int64_t live; /* streams, modules and allocations not yet released, and retained contexts */

static _Thread_local Context* stack[DEPTH] = {NULL};
static _Thread_local int top;

static void count_live(int change) {
    pthread_mutex_lock(&lock);
    live += change;
    pthread_mutex_unlock(&lock);
}

static int find(const char* name) {
    for (int i = 0; i < CALLS; ++i) {
        if (counted[i].name[0] == 0) snprintf(counted[i].name, NAME, "%s", name);
        if (strcmp(counted[i].name, name) == 0) return i;
    }
    abort();
}

/* Counts a call and says whether it is to fail. */
static CUresult enter(const char* name) {
    pthread_mutex_lock(&lock);
    int i = find(name);
    counted[i].calls += 1;
    CUresult result = counted[i].calls == counted[i].fail_at ? counted[i].result : CUDA_SUCCESS;
    pthread_mutex_unlock(&lock);
    return result;
}

#define ENTER(name)                       \
    do {                                  \
        CUresult failed = enter(name);    \
        if (failed) return failed;        \
    } while (0)

#define NEED_CONTEXT \
    if (!stack[top]) return CUDA_ERROR_INVALID_CONTEXT

/* ---- what the test asks of the stub ---- */

/* Forgets calls, faults and the hook; the pretended device is an A100 again. */
EXPORT void stub_reset(void) {
    pthread_mutex_lock(&lock);
    memset(counted, 0, sizeof counted);
    device.major = 8, device.minor = 0, device.multiprocessors = 108, device.shared = 166912;
    static_shared = 0;
    hook = NULL;
    pthread_mutex_unlock(&lock);
}

EXPORT void stub_set_device(int major, int minor, int multiprocessors, int shared) {
    device.major = major, device.minor = minor, device.multiprocessors = multiprocessors, device.shared = shared;
}

EXPORT void stub_set_static_shared(int bytes) { static_shared = bytes; }

/* Makes the nth call of a function fail, counted from 1 since the reset. */
EXPORT void stub_fail(const char* name, uint64_t nth, int result) {
    pthread_mutex_lock(&lock);
    int i = find(name);
    counted[i].fail_at = nth;
    counted[i].result = result;
    pthread_mutex_unlock(&lock);
}

/* The name of the i-th function that was called, or null; and how often it was. */
EXPORT const char* stub_called(uint32_t i, uint64_t* calls) {
    if (i >= CALLS || counted[i].name[0] == 0) return NULL;
    *calls = counted[i].calls;
    return counted[i].name;
}

EXPORT void stub_on_launch(LaunchHook function) { hook = function; }

EXPORT int64_t stub_live(void) { return live; }

/* The shared memory that launches of a function may ask for; -1 if no such function was looked up. */
EXPORT int stub_dynamic_shared(const char* name) {
    for (Function* f = functions; f; f = f->next)
        if (strcmp(f->name, name) == 0) return f->dynamic_shared;
    return -1;
}

/* A context beside the primary ones. */
EXPORT void* stub_context(void) {
    static Context other = {0, 0};
    return &other;
}

EXPORT void* stub_current(void) { return stack[top]; }

/* ---- the driver ---- */

EXPORT CUresult cuInit(unsigned flags) {
    (void)flags;
    ENTER("cuInit");
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGetErrorName(CUresult code, const char** name) {
    ENTER("cuGetErrorName");
    switch (code) {
        case CUDA_ERROR_INVALID_VALUE: *name = "CUDA_ERROR_INVALID_VALUE"; return CUDA_SUCCESS;
        case CUDA_ERROR_OUT_OF_MEMORY: *name = "CUDA_ERROR_OUT_OF_MEMORY"; return CUDA_SUCCESS;
        case CUDA_ERROR_INVALID_CONTEXT: *name = "CUDA_ERROR_INVALID_CONTEXT"; return CUDA_SUCCESS;
        case CUDA_ERROR_INVALID_HANDLE: *name = "CUDA_ERROR_INVALID_HANDLE"; return CUDA_SUCCESS;
        default: *name = NULL; return CUDA_ERROR_INVALID_VALUE;
    }
}

EXPORT CUresult cuGetErrorString(CUresult code, const char** text) { return cuGetErrorName(code, text); }

EXPORT CUresult cuDeviceGetCount(int* count) {
    ENTER("cuDeviceGetCount");
    *count = DEVICES;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGet(CUdevice* out, int ordinal) {
    ENTER("cuDeviceGet");
    if (ordinal < 0 || ordinal >= DEVICES) return CUDA_ERROR_INVALID_DEVICE;
    *out = ordinal;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetName(char* name, int length, CUdevice which) {
    ENTER("cuDeviceGetName");
    snprintf(name, (size_t)length, "Stub %d", which);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetAttribute(int* value, int attribute, CUdevice which) {
    (void)which;
    ENTER("cuDeviceGetAttribute");
    switch (attribute) {
        case 16: *value = device.multiprocessors; break;
        case 75: *value = device.major; break;
        case 76: *value = device.minor; break;
        case 97: *value = device.shared; break;
        default: *value = 0; /* no memory pools, which is all that others ask for */
    }
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDevicePrimaryCtxRetain(Context** context, CUdevice which) {
    ENTER("cuDevicePrimaryCtxRetain");
    primary[which].retained += 1;
    count_live(1);
    *context = &primary[which];
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice which) {
    ENTER("cuDevicePrimaryCtxRelease_v2");
    if (primary[which].retained == 0) return CUDA_ERROR_INVALID_CONTEXT;
    primary[which].retained -= 1;
    count_live(-1);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxPushCurrent_v2(Context* context) {
    ENTER("cuCtxPushCurrent_v2");
    if (!context || top + 1 >= DEPTH) return CUDA_ERROR_INVALID_CONTEXT;
    stack[++top] = context;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxPopCurrent_v2(Context** context) {
    ENTER("cuCtxPopCurrent_v2");
    NEED_CONTEXT;
    if (context) *context = stack[top];
    if (top > 0)
        --top;
    else
        stack[0] = NULL;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxSetCurrent(Context* context) {
    ENTER("cuCtxSetCurrent");
    stack[top] = context;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxGetCurrent(Context** context) {
    ENTER("cuCtxGetCurrent");
    *context = stack[top];
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxGetDevice(CUdevice* out) {
    ENTER("cuCtxGetDevice");
    NEED_CONTEXT;
    *out = stack[top]->device;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxSynchronize(void) {
    ENTER("cuCtxSynchronize");
    NEED_CONTEXT;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamCreate(Stream** stream, unsigned flags) {
    (void)flags;
    ENTER("cuStreamCreate");
    NEED_CONTEXT;
    *stream = malloc(sizeof **stream);
    (*stream)->context = stack[top];
    count_live(1);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamDestroy_v2(Stream* stream) {
    ENTER("cuStreamDestroy_v2");
    NEED_CONTEXT;
    free(stream);
    count_live(-1);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamSynchronize(Stream* stream) {
    (void)stream;
    ENTER("cuStreamSynchronize");
    NEED_CONTEXT;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamGetCtx(Stream* stream, Context** context) {
    ENTER("cuStreamGetCtx");
    NEED_CONTEXT;
    *context = stream ? stream->context : stack[top];
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamWaitEvent(Stream* stream, void* event, unsigned flags) {
    (void)stream, (void)event, (void)flags;
    ENTER("cuStreamWaitEvent");
    NEED_CONTEXT;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuEventCreate(void** event, unsigned flags) {
    (void)flags;
    ENTER("cuEventCreate");
    NEED_CONTEXT;
    *event = malloc(1);
    count_live(1);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuEventRecord(void* event, Stream* stream) {
    (void)event, (void)stream;
    ENTER("cuEventRecord");
    NEED_CONTEXT;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuEventDestroy_v2(void* event) {
    ENTER("cuEventDestroy_v2");
    free(event);
    count_live(-1);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuModuleLoadData(Module** module, const void* image) {
    static const unsigned char fatbin[4] = {0x50, 0xed, 0x55, 0xba};
    ENTER("cuModuleLoadData");
    NEED_CONTEXT;
    if ((uintptr_t)image % 64 != 0 || memcmp(image, fatbin, sizeof fatbin) != 0) return CUDA_ERROR_INVALID_IMAGE;
    *module = malloc(sizeof **module);
    (*module)->context = stack[top];
    (*module)->image = image;
    count_live(1);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuModuleUnload(Module* module) {
    ENTER("cuModuleUnload");
    NEED_CONTEXT;
    free(module);
    count_live(-1);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuModuleGetFunction(Function** function, Module* module, const char* name) {
    ENTER("cuModuleGetFunction");
    NEED_CONTEXT;
    Function* found = calloc(1, sizeof *found);
    found->context = module->context;
    found->dynamic_shared = DEFAULT_DYNAMIC_SHARED;
    snprintf(found->name, sizeof found->name, "%s", name);
    pthread_mutex_lock(&lock);
    found->next = functions;
    functions = found;
    pthread_mutex_unlock(&lock);
    *function = found;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuFuncLoad(Function* function) {
    (void)function;
    ENTER("cuFuncLoad");
    return CUDA_SUCCESS;
}

EXPORT CUresult cuFuncGetAttribute(int* value, int attribute, Function* function) {
    ENTER("cuFuncGetAttribute");
    *value = attribute == 1 ? static_shared : attribute == 8 ? function->dynamic_shared : 0;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuFuncSetAttribute(Function* function, int attribute, int value) {
    ENTER("cuFuncSetAttribute");
    if (attribute != 8 || value < 0 || value + static_shared > device.shared) return CUDA_ERROR_INVALID_VALUE;
    function->dynamic_shared = value;
    return CUDA_SUCCESS;
}

#ifndef STUB_WITHOUT_LAUNCH
EXPORT CUresult cuLaunchKernel(Function* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                               unsigned block_z, unsigned shared, Stream* stream, void** params, void** extra) {
    ENTER("cuLaunchKernel");
    NEED_CONTEXT;
    Context* context = stream ? stream->context : stack[top];
    if (context != stack[top] || context != function->context) return CUDA_ERROR_INVALID_HANDLE;
    const int empty = grid_x == 0 || grid_y == 0 || grid_z == 0 || block_x == 0;
    const int too_large = grid_y > 65535 || grid_z > 65535 || block_x * block_y * block_z > 1024;
    if (empty || too_large || (int)shared > function->dynamic_shared || extra) return CUDA_ERROR_INVALID_VALUE;
    const uint32_t grid[3] = {grid_x, grid_y, grid_z};
    return hook ? hook(function->name, grid, block_x, shared, params[0]) : CUDA_SUCCESS;
}
#endif

EXPORT CUresult cuMemAlloc_v2(CUdeviceptr* address, size_t bytes) {
    ENTER("cuMemAlloc_v2");
    NEED_CONTEXT;
    *address = (uintptr_t)aligned_alloc(256, (bytes + 255) / 256 * 256);
    count_live(1);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemFree_v2(CUdeviceptr address) {
    ENTER("cuMemFree_v2");
    NEED_CONTEXT;
    free((void*)(uintptr_t)address);
    count_live(-1);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t bytes) {
    ENTER("cuMemcpyHtoD_v2");
    NEED_CONTEXT;
    memcpy((void*)(uintptr_t)to, from, bytes);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes, Stream* stream) {
    (void)stream;
    ENTER("cuMemcpyHtoDAsync_v2");
    NEED_CONTEXT;
    memcpy((void*)(uintptr_t)to, from, bytes);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t bytes) {
    ENTER("cuMemcpyDtoH_v2");
    NEED_CONTEXT;
    memcpy(to, (const void*)(uintptr_t)from, bytes);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, Stream* stream) {
    (void)stream;
    ENTER("cuMemcpyDtoHAsync_v2");
    NEED_CONTEXT;
    memcpy(to, (const void*)(uintptr_t)from, bytes);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char byte, size_t bytes) {
    ENTER("cuMemsetD8_v2");
    NEED_CONTEXT;
    memset((void*)(uintptr_t)to, byte, bytes);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char byte, size_t bytes, Stream* stream) {
    (void)stream;
    ENTER("cuMemsetD8Async");
    NEED_CONTEXT;
    memset((void*)(uintptr_t)to, byte, bytes);
    return CUDA_SUCCESS;
}
