// A step of a sparse layer and a linear layer on the CPU, in C11 and in C++17. Prints the bits of what they give, which the test compares with Rust's.
#include "sala_kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Ends the program where a call fails.
static void check(int32_t status, const char* call) {
    if (status == SALA_OK) return;
    fprintf(stderr, "%s gave %d: %s\n", call, (int)status, sala_last_error());
    exit(1);
}
#define CHECK(call) check(call, #call)

// Numbers in bf16: the upper half of an f32.
static uint16_t bf16(int step) {
    const float number = (float)(step % 17 - 8) / 8.0f;
    uint32_t bits;
    memcpy(&bits, &number, sizeof bits);
    return (uint16_t)(bits >> 16);
}

static sala_tensor tensor(void* data, int32_t dtype, int32_t ndim, const int64_t* shape) {
    sala_tensor view;
    memset(&view, 0, sizeof view);
    view.data = data;
    view.dtype = dtype;
    view.ndim = ndim;
    view.device = SALA_HOST;
    view.shape = shape;
    return view;
}

static void print(const char* name, const uint16_t* numbers, int count) {
    int index;
    printf("%s", name);
    for (index = 0; index < count; index++) printf(" %04x", (unsigned)numbers[index]);
    printf("\n");
}

enum { KEYS = 1000, DIM = 64, HEADS = 4, LIST = 6, TOKENS = 100 };

static uint16_t numbers[KEYS * DIM], k1[62 * DIM], k2[15 * DIM], out[TOKENS * HEADS * DIM];

static void sparse_layer(const sala_kernels* kernels) {
    sala_sparse_layer_config config;
    sala_sparse_layer* layer;
    int32_t starts[2] = {0, 1}, length = KEYS, list[LIST];
    uint32_t counts[4] = {0, 0, 0, 0};
    const int64_t one[] = {1}, two[] = {2}, four[] = {4}, q_shape[] = {1, HEADS, DIM}, list_shape[] = {1, 1, LIST};
    const int64_t k_shape[] = {1, KEYS, 1, DIM}, k1_shape[] = {1, 62, 1, DIM}, k2_shape[] = {1, 15, 1, DIM};
    sala_tensor q = tensor(numbers, SALA_BF16, 3, q_shape), k = tensor(numbers, SALA_BF16, 4, k_shape);
    sala_tensor k1_rows = tensor(k1, SALA_BF16, 4, k1_shape), k2_rows = tensor(k2, SALA_BF16, 4, k2_shape);
    sala_tensor lists = tensor(list, SALA_I32, 3, list_shape), o = tensor(out, SALA_BF16, 3, q_shape);
    sala_tensor cu_seqlens_q = tensor(starts, SALA_I32, 1, two), seqlens_k = tensor(&length, SALA_I32, 1, one);
    sala_tensor status = tensor(counts, SALA_U32, 1, four);
    static sala_key_store keys;
    static sala_compress_keys_args compress;
    static sala_select_blocks_args select;
    static sala_sparse_attention_args attend;

    sala_sparse_layer_config_init(&config);
    config.dtype = SALA_BF16;
    config.heads_q = HEADS;
    config.heads_kv = 1;
    config.dim = DIM;
    config.dense_len = 0;
    config.topk = 4;
    config.local_blocks = 2;
    CHECK(sala_sparse_layer_supported(kernels, &config));
    CHECK(sala_sparse_layer_create(&config, &layer));
    if (sala_sparse_layer_list_len(layer) != LIST || sala_sparse_layer_k1_rows(layer, KEYS) != 62) exit(2);

    keys.size = sizeof keys;
    keys.store = SALA_CACHED;
    keys.seqlens_k = &seqlens_k;
    compress.size = sizeof compress;
    compress.k = &k;
    compress.keys = &keys;
    compress.k1 = &k1_rows;
    compress.k2 = &k2_rows;
    compress.status = &status;
    CHECK(sala_compress_keys(kernels, layer, NULL, &compress));

    select.size = sizeof select;
    select.q = &q;
    select.k1 = &k1_rows;
    select.k2 = &k2_rows;
    select.cu_seqlens_q = &cu_seqlens_q;
    select.keys = &keys;
    select.block_indices = &lists;
    select.status = &status;
    CHECK(sala_select_blocks(kernels, layer, NULL, &select));

    attend.size = sizeof attend;
    attend.q = &q;
    attend.k = &k;
    attend.v = &k;
    attend.block_indices = &lists;
    attend.cu_seqlens_q = &cu_seqlens_q;
    attend.keys = &keys;
    attend.out = &o;
    attend.status = &status;
    CHECK(sala_sparse_attention(kernels, layer, NULL, &attend));
    CHECK(sala_status_check(counts));
    print("sparse", out, HEADS * DIM);

    attend.q = NULL;
    if (sala_sparse_attention(kernels, layer, NULL, &attend) != SALA_ERROR_ARGUMENT) exit(3);
    printf("refused %s\n", sala_last_error());
    sala_sparse_layer_destroy(layer);
}

static void linear_layer(const sala_kernels* kernels) {
    static sala_linear_attention_config config;
    sala_linear_attention* layer;
    int32_t starts[3] = {0, 30, TOKENS};
    float decay[HEADS];
    const int64_t three[] = {3}, heads[] = {HEADS}, shape[] = {TOKENS, HEADS, DIM};
    sala_tensor qkv = tensor(numbers, SALA_BF16, 3, shape), o = tensor(out, SALA_BF16, 3, shape);
    sala_tensor cu_seqlens = tensor(starts, SALA_I32, 1, three), log_decay = tensor(decay, SALA_F32, 1, heads);
    static sala_linear_prefill_args prefill;
    size_t bytes = 1;

    config.size = sizeof config;
    config.dtype = SALA_BF16;
    config.decay = SALA_DECAY_OF_HEADS;
    config.heads_q = config.heads_kv = HEADS;
    config.dim_k = config.dim_v = DIM;
    CHECK(sala_linear_attention_supported(kernels, &config));
    CHECK(sala_linear_attention_create(&config, &layer));
    CHECK(sala_linear_attention_workspace_size(layer, 2, TOKENS, 70, &bytes));
    if (bytes != 0) exit(4);
    CHECK(sala_lightning_log_decay(0, HEADS, HEADS, decay));
    prefill.size = sizeof prefill;
    prefill.q = prefill.k = prefill.v = &qkv;
    prefill.cu_seqlens = &cu_seqlens;
    prefill.log_decay = &log_decay;
    prefill.out = &o;
    CHECK(sala_linear_prefill(kernels, layer, NULL, &prefill));
    print("linear", out, TOKENS * HEADS * DIM);
    sala_linear_attention_destroy(layer);
}

int main(void) {
    sala_kernels* kernels;
    int index;
    for (index = 0; index < KEYS * DIM; index++) numbers[index] = bf16(index);
    if (sala_abi_version() != SALA_ABI_VERSION) return 5;
    CHECK(sala_kernels_load(SALA_HOST, &kernels));
    sparse_layer(kernels);
    linear_layer(kernels);
    sala_kernels_destroy(kernels);
    return 0;
}
