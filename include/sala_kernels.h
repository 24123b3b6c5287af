// sala-kernels in C: kernels for hybrid block-sparse and linear attention, on CUDA GPUs and on the CPU. C11 and C++17.
//
//     sala_kernels* kernels;
//     if (sala_kernels_load(SALA_HOST, &kernels) != SALA_OK) puts(sala_last_error());
//
// How a call goes: kernels are loaded once per device, a layer is described once, and each launch takes both with a stream and a struct of
// arguments. Tensors are views of memory that the caller owns. A launch checks them, queues its kernels and returns; it allocates nothing and
// reads nothing back. On the CPU it has run when it returns. Until a launch has finished on its stream, the memory of its tensors must stay alive,
// and nothing that the stream does not order may write what it reads or touch what it writes. The arguments themselves are not kept.
//
// Every struct of arguments begins with its size, `sizeof` it: a library that knows more fields takes those that are missing as absent. All else
// that is left at zero is absent too. Callers begin with zeros, from `static`, memset or `= {.size = sizeof args}`.
//
// Functions give a sala_status. Where it is not SALA_OK nothing was launched, and sala_last_error says why: it names the argument, what was expected and
// what came. What only the device knows (lengths, slots, block indices) is checked there, and counted in `status`. All functions may be called from
// any thread; handles may be shared, and are destroyed when no call uses them.
//
// What operations compute, and what each tensor holds where it says less here: docs/semantics.md.
#ifndef SALA_KERNELS_H
#define SALA_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// ---- Values

// What functions return.
enum sala_status {
    SALA_OK = 0,
    SALA_ERROR_ARGUMENT = 1,       // an argument breaks a rule; sala_last_error_argument names it
    SALA_ERROR_UNSUPPORTED = 2,    // this build or this device cannot do it
    SALA_ERROR_NO_KERNELS = 3,     // the library holds no kernels for the device
    SALA_ERROR_DRIVER = 4,         // there is no CUDA driver, or one of its functions failed
    SALA_ERROR_OUT_OF_MEMORY = 5,  // a device, or the host, has not so much memory
    SALA_ERROR_REFUSED = 6,        // sala_status_check: kernels met values that they refused
    SALA_ERROR_EXECUTION = 7,      // a kernel that ran on the CPU broke a rule of the machine
    SALA_ERROR_INTERNAL = 8,       // a bug of this library
};

// The type of a tensor's elements. Indices and lengths may be u32 where i32 is asked for.
enum sala_dtype { SALA_BF16 = 1, SALA_F16 = 2, SALA_F32 = 3, SALA_I32 = 4, SALA_U32 = 5 };

// As a device: the CPU. Others are ordinals of CUDA devices.
enum { SALA_HOST = -1 };

// A view of memory that the caller owns. The last axis is contiguous; the others take any stride that is a multiple of 16 bytes for 16-bit tensors
// and states, and any at all for the rest.
typedef struct sala_tensor {
    void* data;              // the first element; may be NULL if there is none
    int32_t dtype;           // sala_dtype
    int32_t ndim;            // axes: 1 to 4
    int32_t device;          // SALA_HOST or an ordinal: that of the kernels
    int32_t reserved;        // 0
    const int64_t* shape;    // [ndim]
    const int64_t* strides;  // [ndim], in elements; NULL: compact, the last axis fastest
} sala_tensor;

// Where keys lie: one sequence after the other, each in a cache, or in pages.
enum sala_store { SALA_PACKED = 1, SALA_CACHED = 2, SALA_PAGED = 3 };

// Where the keys of each sequence lie, and how many it has.
typedef struct sala_key_store {
    size_t size;
    int32_t store;                    // sala_store
    int32_t reserved;                 // 0
    const sala_tensor* cu_seqlens_k;  // packed: i32 [batch + 1]; keys are [total_k, heads_kv, dim]
    const sala_tensor* seqlens_k;     // caches and pages: i32 [batch], this call's tokens included
    const sala_tensor* cache_index;   // caches [caches, capacity, heads_kv, dim]: i32 [batch], -1 for none; NULL: sequence b has cache b
    const sala_tensor* page_table;    // pages [pages, page_size, heads_kv, dim]: i32 [batch, max_pages]
} sala_key_store;

// A store of compressed keys apart from the keys: caches or pages.
typedef struct sala_compressed_store {
    size_t size;
    int32_t store;                   // SALA_CACHED or SALA_PAGED
    int32_t reserved;                // 0
    const sala_tensor* cache_index;  // caches [caches, rows, heads_kv, dim]: i32 [batch]; NULL: sequence b has cache b
    const sala_tensor* page_table;   // pages [pages, rows_per_page, heads_kv, dim]: i32 [batch, max_pages]
    int64_t rows_per_page;           // a power of two up to 1024
} sala_compressed_store;

// How work is spread over a GPU: for prompts, or for up to 16 query tokens per sequence, which takes a workspace.
enum sala_entry { SALA_PREFILL = 0, SALA_DECODE = 1 };

// Which length decides whether a sequence is attended densely. Said at each call of a layer with a dense_len, and of no other.
enum sala_switch { SALA_SWITCH_NONE = 0, SALA_SWITCH_KEYS = 1, SALA_SWITCH_LENGTHS = 2 };

// Which compressed keys normalise the scores of blocks: K2, or K1 itself.
enum sala_lse { SALA_LSE_COARSE = 0, SALA_LSE_EXACT = 1 };

// How the log decay of linear attention varies: not at all (there is none), f32 [heads_q], or f32 [tokens, heads_q].
enum sala_decay_kind { SALA_NO_DECAY = 1, SALA_DECAY_OF_HEADS = 2, SALA_DECAY_OF_TOKENS = 3 };

// The order of a state's axes: [slots, heads_q, dim_k, dim_v] or [slots, heads_q, dim_v, dim_k].
enum sala_state_layout { SALA_STATE_KV = 0, SALA_STATE_VK = 1 };

// Whether long sequences are scanned in several places at a time.
enum sala_split { SALA_SPLIT_AUTO = 0, SALA_SPLIT_NEVER = 1 };

// ---- Library

// Changes when a caller has to be compiled again.
enum { SALA_ABI_VERSION = 1 };
int32_t sala_abi_version(void);

// What the last call of this thread that failed says, and the argument that it refused: NULL if it was about none. Both live until the
// thread's next call that fails. Never NULL: an empty text if none has failed.
const char* sala_last_error(void);
const char* sala_last_error_argument(void);

// SALA_OK if the status word of launches, copied to the host, is all zero: pages, blocks, lengths, slots that were refused.
int32_t sala_status_check(const uint32_t status[4]);

// ---- Kernels, loaded on a device

typedef struct sala_kernels sala_kernels;

// On a CUDA device, through its primary context, or for SALA_HOST on the CPU.
int32_t sala_kernels_load(int32_t ordinal, sala_kernels** kernels);

// On a CUDA device, through a CUcontext, which outlives the kernels.
int32_t sala_kernels_load_context(void* cu_context, sala_kernels** kernels);

// Waits for all work of the context. NULL is nothing to do.
void sala_kernels_destroy(sala_kernels* kernels);

// ---- Block-sparse attention (InfLLM-V2)

typedef struct sala_sparse_layer sala_sparse_layer;

typedef struct sala_sparse_layer_config {
    size_t size;
    int32_t dtype;         // SALA_BF16 or SALA_F16
    int32_t lse;           // sala_lse
    int64_t heads_q;       // 1 to 64 times heads_kv
    int64_t heads_kv;      //
    int64_t dim;           // 64 or 128
    int64_t dense_len;     // sequences below it are attended densely; 0: none
    int64_t block_size;    // 32, 64 or 128 tokens
    int64_t topk;          // blocks of a list besides the local ones
    int64_t init_blocks;   // at the start, always taken
    int64_t local_blocks;  // before a token's own, always taken
    const float* scale;    // NULL: 1 / sqrt(dim)
} sala_sparse_layer_config;

// Fills a config with what SALA has: blocks of 64, topk 64, 1 initial and 32 local blocks, coarse LSE. dtype, heads_q, heads_kv, dim and dense_len
// remain to be said; without them a layer is refused.
void sala_sparse_layer_config_init(sala_sparse_layer_config* config);

int32_t sala_sparse_layer_create(const sala_sparse_layer_config* config, sala_sparse_layer** layer);
void sala_sparse_layer_destroy(sala_sparse_layer* layer);

// SALA_OK if these kernels run every operation of such a layer.
int32_t sala_sparse_layer_supported(const sala_kernels* kernels, const sala_sparse_layer_config* config);

// Entries of a list; rows of K1 and K2 for so many keys, of all packed sequences together or of one cache. 0 for a negative number.
int64_t sala_sparse_layer_list_len(const sala_sparse_layer* layer);
int64_t sala_sparse_layer_k1_rows(const sala_sparse_layer* layer, int64_t tokens);
int64_t sala_sparse_layer_k2_rows(const sala_sparse_layer* layer, int64_t tokens);

// Bytes of workspace that serve selection and attention of an entry. list_len 0: any call, else those over lists of that many entries with
// SALA_SWITCH_KEYS or SALA_SWITCH_NONE.
int32_t sala_sparse_layer_workspace_size(const sala_sparse_layer* layer, int32_t entry, int64_t batch, int64_t max_seqlen_q,
                                         int64_t max_seqlen_k, int64_t list_len, size_t* bytes);

// New keys and values to where the sequence's are.
typedef struct sala_append_keys_args {
    size_t size;
    const sala_tensor* k_new;         // [total_q, heads_kv, dim]
    const sala_tensor* v_new;         //
    const sala_tensor* k;             // written, as keys says
    const sala_tensor* v;             // written; may interleave with k
    const sala_tensor* cu_seqlens_q;  // i32 [batch + 1]
    const sala_key_store* keys;       //
    int64_t max_seqlen_q;             // 0: the rows of k_new
    int64_t max_seqlen_k;             // 0: what k has room for
    const sala_tensor* status;        // or NULL: u32 [4], added to
} sala_append_keys_args;
int32_t sala_append_keys(const sala_kernels* kernels, const sala_sparse_layer* layer, void* stream, const sala_append_keys_args* args);

// Means of the keys over windows: K1 and K2.
typedef struct sala_compress_keys_args {
    size_t size;
    const sala_tensor* k;                     // as keys says
    const sala_key_store* keys;               //
    const sala_tensor* k1;                    // written
    const sala_tensor* k2;                    // written
    const sala_compressed_store* compressed;  // or NULL: K1 and K2 lie as the keys do
    const sala_tensor* seqlens_old;           // or NULL: i32 [batch], the keys that earlier calls have compressed
    int64_t max_seqlen_k;                     // 0: what k has room for
    int64_t max_new;                          // 0: max_seqlen_k
    const sala_tensor* status;                // or NULL
} sala_compress_keys_args;
int32_t sala_compress_keys(const sala_kernels* kernels, const sala_sparse_layer* layer, void* stream, const sala_compress_keys_args* args);

// Scores of blocks by K1 and K2, and each token's list of the best.
typedef struct sala_select_blocks_args {
    size_t size;
    const sala_tensor* q;                     // [total_q, heads_q, dim]
    const sala_tensor* k1;                    //
    const sala_tensor* k2;                    // may be NULL with SALA_LSE_EXACT
    const sala_compressed_store* compressed;  // or NULL
    const sala_tensor* cu_seqlens_q;          // i32 [batch + 1]
    const sala_key_store* keys;               //
    int64_t max_seqlen_q;                     // 0: the rows of q
    int64_t max_seqlen_k;                     // 0: what k1 and k2 have room for
    int32_t switch_by;                        // sala_switch
    int32_t entry;                            // sala_entry
    const sala_tensor* switch_len;            // with SALA_SWITCH_LENGTHS: i32 [batch]
    const sala_tensor* parent;                // with SALA_DECODE, i32 [batch, max_seqlen_q]; NULL: drafts are a chain
    const sala_tensor* scale_factor;          // or NULL: f32 [total_q]
    const sala_tensor* scores;                // or NULL; written: f32 [total_q, heads_kv, blocks]
    const sala_tensor* block_indices;         // written: i32 [total_q, heads_kv, list_len]
    const sala_tensor* workspace;             // for SALA_DECODE: one axis of any type
    const sala_tensor* status;                // or NULL
} sala_select_blocks_args;
int32_t sala_select_blocks(const sala_kernels* kernels, const sala_sparse_layer* layer, void* stream, const sala_select_blocks_args* args);

// The lists by scores that the caller has.
typedef struct sala_choose_blocks_args {
    size_t size;
    const sala_tensor* scores;         // f32 [total_q, heads_kv, blocks]
    const sala_tensor* cu_seqlens_q;   // i32 [batch + 1]
    const sala_key_store* keys;        //
    int64_t max_seqlen_q;              // 0: the rows of scores
    int64_t max_seqlen_k;              // 0: any
    int32_t switch_by;                 // sala_switch
    int32_t reserved;                  // 0
    const sala_tensor* switch_len;     // with SALA_SWITCH_LENGTHS: i32 [batch]
    const sala_tensor* block_indices;  // written: i32 [total_q, heads_kv, list_len]
    const sala_tensor* status;         // or NULL
} sala_choose_blocks_args;
int32_t sala_choose_blocks(const sala_kernels* kernels, const sala_sparse_layer* layer, void* stream, const sala_choose_blocks_args* args);

// Attention over each token's list.
typedef struct sala_sparse_attention_args {
    size_t size;
    const sala_tensor* q;              // [total_q, heads_q, dim]
    const sala_tensor* k;              // as keys says
    const sala_tensor* v;              // shaped as k
    const sala_tensor* block_indices;  // i32 [total_q, heads_kv, any]
    const sala_tensor* cu_seqlens_q;   // i32 [batch + 1]
    const sala_key_store* keys;        //
    int64_t max_seqlen_q;              // 0: the rows of q
    int64_t max_seqlen_k;              // 0: what k has room for
    int32_t switch_by;                 // sala_switch
    int32_t entry;                     // sala_entry
    const sala_tensor* switch_len;     // with SALA_SWITCH_LENGTHS: i32 [batch]
    const sala_tensor* parent;         // with SALA_DECODE, i32 [batch, max_seqlen_q]; NULL: drafts are a chain
    const sala_tensor* scale_factor;   // or NULL: f32 [total_q]
    const sala_tensor* gate;           // or NULL: as out
    const sala_tensor* out;            // written: [total_q, heads_q, dim]
    const sala_tensor* lse;            // or NULL; written: f32 [total_q, heads_q]
    const sala_tensor* workspace;      // for SALA_DECODE
    const sala_tensor* status;         // or NULL
} sala_sparse_attention_args;
int32_t sala_sparse_attention(const sala_kernels* kernels, const sala_sparse_layer* layer, void* stream,
                              const sala_sparse_attention_args* args);

// Attention over all keys.
typedef struct sala_dense_attention_args {
    size_t size;
    const sala_tensor* q;             // [total_q, heads_q, dim]
    const sala_tensor* k;             // as keys says
    const sala_tensor* v;             // shaped as k
    const sala_tensor* cu_seqlens_q;  // i32 [batch + 1]
    const sala_key_store* keys;       //
    int64_t max_seqlen_q;             // 0: the rows of q
    int64_t max_seqlen_k;             // 0: what k has room for
    int32_t entry;                    // sala_entry
    int32_t reserved;                 // 0
    const sala_tensor* parent;        // with SALA_DECODE, i32 [batch, max_seqlen_q]; NULL: drafts are a chain
    const sala_tensor* scale_factor;  // or NULL: f32 [total_q]
    const sala_tensor* gate;          // or NULL: as out
    const sala_tensor* out;           // written: [total_q, heads_q, dim]
    const sala_tensor* lse;           // or NULL; written: f32 [total_q, heads_q]
    const sala_tensor* workspace;     // for SALA_DECODE
    const sala_tensor* status;        // or NULL
    const sala_tensor* first_key;     // or NULL: i32 [total_q], the first key that a token sees
} sala_dense_attention_args;
int32_t sala_dense_attention(const sala_kernels* kernels, const sala_sparse_layer* layer, void* stream,
                             const sala_dense_attention_args* args);

// The keys of accepted drafts to where the tokens that they become belong.
typedef struct sala_commit_keys_args {
    size_t size;
    const sala_tensor* k;         // read and written, as keys says; the drafts are the last of their sequences
    const sala_tensor* v;         // read and written; may interleave with k
    const sala_key_store* keys;   // lengths with the drafts
    const sala_tensor* base;      // i32 [batch]: keys before the drafts
    const sala_tensor* accepted;  // i32 [batch]
    const sala_tensor* path;      // i32 [batch, drafts], up to 16 drafts: the accepted ones first, ascending
    const sala_tensor* status;    // or NULL
} sala_commit_keys_args;
int32_t sala_commit_keys(const sala_kernels* kernels, const sala_sparse_layer* layer, void* stream, const sala_commit_keys_args* args);

// Bytes of workspace that serve sala_score_keys and sala_choose_tokens; max_seqlen_q 0: the latter alone.
int32_t sala_sparse_layer_tokens_workspace_size(const sala_sparse_layer* layer, int64_t batch, int64_t max_seqlen_q, int64_t tokens,
                                                size_t* bytes);

// Scores of keys by the mean of the queries.
typedef struct sala_score_keys_args {
    size_t size;
    const sala_tensor* q;             // [total_q, heads_q, dim]
    const sala_tensor* k;             // as keys says
    const sala_tensor* cu_seqlens_q;  // i32 [batch + 1]
    const sala_key_store* keys;       //
    int64_t max_seqlen_q;             // 0: the rows of q
    int64_t max_seqlen_k;             // 0: what k and scores have room for
    int64_t pool;                     // keys of the window that a score is the largest product of: odd, 1 to 31
    const sala_tensor* scores;        // written: f32 [batch, heads_kv, tokens]
    const sala_tensor* workspace;     // or NULL without query tokens; one axis of any type
    const sala_tensor* status;        // or NULL
} sala_score_keys_args;
int32_t sala_score_keys(const sala_kernels* kernels, const sala_sparse_layer* layer, void* stream, const sala_score_keys_args* args);

// The tokens with the highest scores, and those at either end.
typedef struct sala_choose_tokens_args {
    size_t size;
    const sala_tensor* scores;         // f32 [batch, heads_kv, tokens]
    const sala_key_store* keys;        // how many tokens each sequence has
    int64_t init_tokens;               // at the start of a sequence, always taken
    int64_t local_tokens;              // at its end, always taken; both at most the entries of a list
    const sala_tensor* token_indices;  // written: i32 [batch, heads_kv, any], ascending, -1 after the last
    const sala_tensor* workspace;      // or NULL, which is slower for long rows
    const sala_tensor* status;         // or NULL
} sala_choose_tokens_args;
int32_t sala_choose_tokens(const sala_kernels* kernels, const sala_sparse_layer* layer, void* stream, const sala_choose_tokens_args* args);

// The rows of K and V at chosen tokens, and their scores, to tensors of their own.
typedef struct sala_gather_rows_args {
    size_t size;
    const sala_tensor* k;              // as keys says
    const sala_tensor* v;              // shaped as k
    const sala_key_store* keys;        //
    const sala_tensor* token_indices;  // i32 [batch, heads_kv, chosen]; -1: a row of zeros
    const sala_tensor* k_out;          // written: [batch, chosen, heads_kv, dim]
    const sala_tensor* v_out;          // written; may interleave with k_out
    const sala_tensor* scores;         // or NULL: f32 [batch, heads_kv, tokens]
    const sala_tensor* scores_out;     // with scores; written: f32 [batch, heads_kv, chosen]
    const sala_tensor* status;         // or NULL
} sala_gather_rows_args;
int32_t sala_gather_rows(const sala_kernels* kernels, const sala_sparse_layer* layer, void* stream, const sala_gather_rows_args* args);

// Kept rows of K and V, and their scores, to the front of their sequences.
typedef struct sala_compact_keys_args {
    size_t size;
    const sala_tensor* k;              // read and written, as keys says
    const sala_tensor* v;              // read and written; may interleave with k
    const sala_key_store* keys;        // lengths before
    const sala_tensor* token_indices;  // i32 [batch, heads_kv, kept], ascending, -1 after the last
    const sala_tensor* scores;         // or NULL; read and written: f32 [batch, heads_kv, tokens]
    const sala_tensor* status;         // or NULL
} sala_compact_keys_args;
int32_t sala_compact_keys(const sala_kernels* kernels, const sala_sparse_layer* layer, void* stream, const sala_compact_keys_args* args);

// Attention over two sets of keys made one. The elements of out say the type.
typedef struct sala_merge_args {
    size_t size;
    const sala_tensor* out1;  // [tokens, heads, dim]; NULL, with lse1: what out and lse hold
    const sala_tensor* lse1;  // f32 [tokens, heads]
    const sala_tensor* out2;  // likewise
    const sala_tensor* lse2;  //
    const sala_tensor* out;   // written
    const sala_tensor* lse;   // written
} sala_merge_args;
int32_t sala_merge(const sala_kernels* kernels, void* stream, const sala_merge_args* args);

// ---- Linear attention with decay (Lightning, simple GLA)

typedef struct sala_linear_attention sala_linear_attention;

typedef struct sala_linear_attention_config {
    size_t size;
    int32_t dtype;         // SALA_BF16 or SALA_F16
    int32_t decay;         // sala_decay_kind
    int64_t heads_q;       // of q, outputs, decays and states: 1 to 64 times heads_kv
    int64_t heads_kv;      // of k and v
    int64_t dim_k;         // 64 or 128
    int64_t dim_v;         // 64, 128 or 256
    int32_t state_layout;  // sala_state_layout
    int32_t split;         // sala_split
    const float* scale;    // NULL: 1 / sqrt(dim_k)
} sala_linear_attention_config;

int32_t sala_linear_attention_create(const sala_linear_attention_config* config, sala_linear_attention** layer);
void sala_linear_attention_destroy(sala_linear_attention* layer);

// SALA_OK if these kernels run every operation of such a layer.
int32_t sala_linear_attention_supported(const sala_kernels* kernels, const sala_linear_attention_config* config);

// Bytes of workspace of a prefill; 0 unless a sequence is long enough to be split.
int32_t sala_linear_attention_workspace_size(const sala_linear_attention* layer, int64_t batch, int64_t total_q, int64_t max_seqlen_q,
                                             size_t* bytes);

// Whole sequences, one after the other.
typedef struct sala_linear_prefill_args {
    size_t size;
    const sala_tensor* q;                 // [tokens, heads_q, dim_k]
    const sala_tensor* k;                 // [tokens, heads_kv, dim_k]
    const sala_tensor* v;                 // [tokens, heads_kv, dim_v]
    const sala_tensor* cu_seqlens;        // i32 [batch + 1]
    const sala_tensor* log_decay;         // f32, as the layer's decay says
    const sala_tensor* out;               // written: [tokens, heads_q, dim_v]
    const sala_tensor* state;             // or NULL; written: the pool of states, f32
    const sala_tensor* state_in;          // or NULL: i32 [batch], -1: from zero
    const sala_tensor* state_out;         // or NULL: i32 [batch], -1: nowhere
    int64_t checkpoint_every;             // a multiple of 64; 0 without checkpoint_slots
    const sala_tensor* checkpoint_slots;  // or NULL: i32 [batch, max_checkpoints]
    const sala_tensor* workspace;         // for long sequences
    int64_t max_seqlen_q;                 // 0: tokens
    const sala_tensor* status;            // or NULL
} sala_linear_prefill_args;
int32_t sala_linear_prefill(const sala_kernels* kernels, const sala_linear_attention* layer, void* stream,
                            const sala_linear_prefill_args* args);

// One token of each sequence.
typedef struct sala_linear_decode_args {
    size_t size;
    const sala_tensor* q;          // [batch, heads_q, dim_k]
    const sala_tensor* k;          // [batch, heads_kv, dim_k]
    const sala_tensor* v;          // [batch, heads_kv, dim_v]
    const sala_tensor* log_decay;  // f32, as the layer's decay says
    const sala_tensor* state;      // written
    const sala_tensor* state_in;   // i32 [batch]
    const sala_tensor* state_out;  // NULL: state_in
    const sala_tensor* out;        // written: [batch, heads_q, dim_v]
    const sala_tensor* status;     // or NULL
} sala_linear_decode_args;
int32_t sala_linear_decode(const sala_kernels* kernels, const sala_linear_attention* layer, void* stream,
                           const sala_linear_decode_args* args);

// Outputs of up to 16 drafts of each sequence; states stay as they are.
typedef struct sala_linear_verify_args {
    size_t size;
    const sala_tensor* q;          // [batch, drafts, heads_q, dim_k]
    const sala_tensor* k;          // [batch, drafts, heads_kv, dim_k]
    const sala_tensor* v;          // [batch, drafts, heads_kv, dim_v]
    const sala_tensor* log_decay;  // f32 [heads_q] or [batch, drafts, heads_q]
    const sala_tensor* state;      // read
    const sala_tensor* state_in;   // i32 [batch]
    const sala_tensor* parent;     // i32 [batch, drafts]; NULL: a chain
    const sala_tensor* out;        // written: [batch, drafts, heads_q, dim_v]
    const sala_tensor* status;     // or NULL
} sala_linear_verify_args;
int32_t sala_linear_verify(const sala_kernels* kernels, const sala_linear_attention* layer, void* stream,
                           const sala_linear_verify_args* args);

// The states after the drafts that were accepted.
typedef struct sala_linear_commit_args {
    size_t size;
    const sala_tensor* k;          // [batch, drafts, heads_kv, dim_k]
    const sala_tensor* v;          // [batch, drafts, heads_kv, dim_v]
    const sala_tensor* log_decay;  // as they were verified
    const sala_tensor* state;      // written
    const sala_tensor* state_in;   // i32 [batch]
    const sala_tensor* state_out;  // NULL: state_in
    const sala_tensor* accepted;   // i32 [batch]: 0 to drafts
    const sala_tensor* path;       // i32 [batch, drafts]; NULL: a chain
    const sala_tensor* status;     // or NULL
} sala_linear_commit_args;
int32_t sala_linear_commit(const sala_kernels* kernels, const sala_linear_attention* layer, void* stream,
                           const sala_linear_commit_args* args);

// States from slot to slot.
typedef struct sala_copy_states_args {
    size_t size;
    const sala_tensor* state;         // written: f32 [slots, heads, rows, columns]
    const sala_tensor* sources;       // i32 [pairs]; -1: a state of zero
    const sala_tensor* destinations;  // i32 [pairs]; -1: nowhere
    const sala_tensor* status;        // or NULL
} sala_copy_states_args;
int32_t sala_copy_states(const sala_kernels* kernels, void* stream, const sala_copy_states_args* args);

// ---- Sequences whose parts are on several ranks

// The log decay added up over each sequence.
typedef struct sala_sum_decay_args {
    size_t size;
    const sala_tensor* cu_seqlens;  // i32 [batch + 1]
    const sala_tensor* log_decay;   // f32, as the layer's decay says
    const sala_tensor* cumulative;  // written: f32 [tokens, heads_q]
    const sala_tensor* total;       // written: f32 [batch, heads_q]
    int64_t max_seqlen_q;           // 0: tokens
    const sala_tensor* status;      // or NULL
} sala_sum_decay_args;
int32_t sala_sum_decay(const sala_kernels* kernels, const sala_linear_attention* layer, void* stream, const sala_sum_decay_args* args);

// What the parts of sequences add to their states, merged in order: the state before each part, and after all.
typedef struct sala_merge_states_args {
    size_t size;
    const sala_tensor* adds;       // f32 [parts * batch, heads, rows, columns]
    const sala_tensor* total;      // f32 [parts * batch, heads]
    const sala_tensor* state;      // written: f32 [slots, heads, rows, columns]
    const sala_tensor* state_in;   // i32 [batch]; -1: from zero
    const sala_tensor* state_out;  // i32 [parts + 1, batch]; -1: nowhere
    const sala_tensor* status;     // or NULL
} sala_merge_states_args;
int32_t sala_merge_states(const sala_kernels* kernels, void* stream, const sala_merge_states_args* args);

// Outputs that were made from zero, corrected by the state that their sequence begins with.
typedef struct sala_linear_correct_args {
    size_t size;
    const sala_tensor* q;           // [tokens, heads_q, dim_k]
    const sala_tensor* cumulative;  // f32 [tokens, heads_q]
    const sala_tensor* cu_seqlens;  // i32 [batch + 1]
    const sala_tensor* state;       // read
    const sala_tensor* state_in;    // i32 [batch]; -1: nothing to correct
    const sala_tensor* out;         // written: [tokens, heads_q, dim_v]
    int64_t max_seqlen_q;           // 0: tokens
    const sala_tensor* status;      // or NULL
} sala_linear_correct_args;
int32_t sala_linear_correct(const sala_kernels* kernels, const sala_linear_attention* layer, void* stream,
                            const sala_linear_correct_args* args);

// ---- Norms, whose type is that of the elements of out (sala_sum_squares: of x)

// The norm of each head, then rotary embedding.
typedef struct sala_norm_rope_args {
    size_t size;
    const sala_tensor* x;          // [tokens, heads, dim]; NULL: what out holds
    const sala_tensor* weight;     // or NULL: [dim]
    const sala_tensor* cos_sin;    // or NULL: f32 [count, dim]
    const sala_tensor* positions;  // with cos_sin: i32 [tokens]
    const sala_tensor* out;        // written
    const sala_tensor* status;     // or NULL
    float eps;                     // added to the mean of squares
    int32_t reserved;              // 0
} sala_norm_rope_args;
int32_t sala_norm_rope(const sala_kernels* kernels, void* stream, const sala_norm_rope_args* args);

// The norm over all channels of a token, then a gate.
typedef struct sala_norm_gate_args {
    size_t size;
    const sala_tensor* x;            // [tokens, channels]; NULL: what out holds
    const sala_tensor* weight;       // [channels]
    const sala_tensor* gate;         // [tokens, channels]
    const sala_tensor* sum_squares;  // or NULL: f32 [tokens], of channels channels
    const sala_tensor* out;          // written
    int64_t channels;                // with sum_squares; else 0
    float eps;                       // added to the mean of squares
    int32_t reserved;                // 0
} sala_norm_gate_args;
int32_t sala_norm_gate(const sala_kernels* kernels, void* stream, const sala_norm_gate_args* args);

// The sums of squares alone, for norms whose channels lie on several ranks.
typedef struct sala_sum_squares_args {
    size_t size;
    const sala_tensor* x;    // [tokens, channels]
    const sala_tensor* out;  // written: f32 [tokens]
} sala_sum_squares_args;
int32_t sala_sum_squares(const sala_kernels* kernels, void* stream, const sala_sum_squares_args* args);

// ---- Tables, computed on the host

// The log decays of Lightning attention for heads first_head … first_head + heads - 1 of total_heads: out [heads].
int32_t sala_lightning_log_decay(int64_t first_head, int64_t heads, int64_t total_heads, float* out);

// Cosines and sines of rotary embedding: out [count, dim].
int32_t sala_rotary_cos_sin(int64_t count, int64_t dim, double theta, float* out);

#ifdef __cplusplus
}
#endif

#endif
