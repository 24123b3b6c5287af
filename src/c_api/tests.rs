//! Whatever is wrong with an argument is refused by its name: every field of every struct of the header, which is read here as a text, on its own.

use std::ffi::{CStr, c_void};
use std::ptr::{null, null_mut};

use super::*;
use crate::sys::c_api::*;

/// A field of a struct in the header.
#[derive(Debug, Clone)]
struct Field {
    kind: String,
    name: String,
    comment: String,
    offset: usize,
}

/// The fields of a struct but for its size, where a compiler puts them.
fn fields(name: &str) -> Vec<Field> {
    const HEADER: &str = include_str!("../../include/sala_kernels.h");
    let (_, body) = HEADER
        .split_once(&format!("typedef struct {name} {{\n"))
        .expect("the struct is in the header");
    let (body, _) = body.split_once('}').expect("the struct ends");
    let mut offset = 0;
    let mut fields = Vec::new();
    for line in body.lines() {
        let (code, comment) = line.split_once("//").unwrap_or((line, ""));
        let Some((kind, name)) = code.trim().trim_end_matches(';').rsplit_once(' ') else {
            continue;
        };
        let bytes = if ["int32_t", "float"].contains(&kind) { 4 } else { 8 };
        fields.push(Field {
            kind: kind.to_owned(),
            name: name.to_owned(),
            comment: comment.trim().to_owned(),
            offset: usize::next_multiple_of(offset, bytes),
        });
        offset = offset.next_multiple_of(bytes) + bytes;
    }
    assert_eq!(fields.first().map(|field| field.name.as_str()), Some("size"));
    fields.split_off(1)
}

/// A struct of arguments as bytes.
#[derive(Clone)]
struct Args {
    name: &'static str,
    words: Vec<u64>,
}

impl Args {
    fn put(&mut self, offset: usize, bytes: &[u8]) {
        bytemuck::cast_slice_mut(&mut self.words)[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn with<T>(&self, field: &Field, pointer: *const T) -> Self {
        let mut args = self.clone();
        args.put(field.offset, &(pointer as usize).to_ne_bytes());
        args
    }
}

/// What all calls are made of. One tensor stands for every other: it is a good view of some memory, and of no use to any operation.
struct Call {
    tensor: Box<sala_tensor>,
    keys: Box<sala_key_store>,
    kernels: *mut KernelsHandle,
    sparse: *mut SparseLayerHandle,
    linear: *mut LinearAttentionHandle,
}

static SHAPE: [i64; 1] = [4];
static MEMORY: [u32; 4] = [0; 4];
static NAN: f32 = f32::NAN;

impl Call {
    fn new() -> Self {
        let tensor = Box::new(sala_tensor {
            data: MEMORY.as_ptr().cast_mut().cast(),
            dtype: SALA_F32 as i32,
            ndim: 1,
            device: SALA_HOST,
            reserved: 0,
            shape: SHAPE.as_ptr(),
            strides: null(),
        });
        let keys = Box::new(sala_key_store {
            size: size_of::<sala_key_store>(),
            store: SALA_PACKED as i32,
            reserved: 0,
            cu_seqlens_k: &raw const *tensor,
            seqlens_k: null(),
            cache_index: null(),
            page_table: null(),
        });
        let (mut kernels, mut sparse, mut linear) = (null_mut(), null_mut(), null_mut());
        // SAFETY: places for handles, and whole configs.
        unsafe {
            assert_eq!(sala_kernels_load(SALA_HOST, &mut kernels), 0);
            assert_eq!(sala_sparse_layer_create(&sparse_config(), &mut sparse), 0);
            assert_eq!(sala_linear_attention_create(&linear_config(), &mut linear), 0);
        }
        Self {
            tensor,
            keys,
            kernels,
            sparse,
            linear,
        }
    }

    /// Arguments of which every tensor is there and no number is wrong.
    fn args(&self, name: &'static str) -> Args {
        let fields = fields(name);
        let last = fields.last().expect("a struct has fields");
        let size = (last.offset + 8) / 8 * 8;
        let mut args = Args {
            name,
            words: vec![0; size / 8],
        };
        args.put(0, &size.to_ne_bytes());
        for field in &fields {
            args = match (field.kind.as_str(), field.name.as_str()) {
                ("const sala_tensor*", "parent") if name != "sala_linear_verify_args" => args,
                ("const sala_tensor*", _) => args.with(field, &raw const *self.tensor),
                ("const sala_key_store*", _) => args.with(field, &raw const *self.keys),
                _ => args,
            };
            match field.name.as_str() {
                "switch_by" => args.put(field.offset, &SALA_SWITCH_LENGTHS.to_ne_bytes()),
                "eps" => args.put(field.offset, &1e-6f32.to_ne_bytes()),
                "channels" => args.put(field.offset, &8i64.to_ne_bytes()),
                _ => {}
            }
        }
        args
    }

    /// Calls the function that takes the arguments.
    fn call(&self, args: &Args) -> i32 {
        let function = args.name.strip_suffix("_args");
        macro_rules! of {
            ($($name:ident($($layer:ident)?))*) => {$(
                if function == Some(stringify!($name)) {
                    // SAFETY: live handles; the bytes say their size, and hold addresses of live tensors or what is refused before it is used.
                    return unsafe { $name(self.kernels, $(self.$layer,)? null_mut(), args.words.as_ptr().cast()) };
                }
            )*};
        }
        of! {
            sala_append_keys(sparse) sala_compress_keys(sparse) sala_select_blocks(sparse) sala_choose_blocks(sparse)
            sala_sparse_attention(sparse) sala_dense_attention(sparse) sala_commit_keys(sparse)
            sala_score_keys(sparse) sala_choose_tokens(sparse) sala_gather_rows(sparse) sala_compact_keys(sparse)
            sala_linear_prefill(linear) sala_linear_decode(linear) sala_linear_verify(linear) sala_linear_commit(linear)
            sala_sum_decay(linear) sala_linear_correct(linear)
            sala_merge() sala_copy_states() sala_merge_states() sala_norm_rope() sala_norm_gate() sala_sum_squares()
        }
        panic!("{}", args.name)
    }

    /// The argument that the call blames, and what it says.
    fn blames(&self, args: &Args) -> (String, String) {
        let status = self.call(args);
        assert_eq!(status, SALA_ERROR_ARGUMENT as i32, "{}: {}", args.name, last_error());
        (last_argument(), last_error())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and used no more.
        unsafe {
            sala_sparse_layer_destroy(self.sparse);
            sala_linear_attention_destroy(self.linear);
            sala_kernels_destroy(self.kernels);
        }
    }
}

const ALL: [&str; 23] = [
    "sala_append_keys_args",
    "sala_compress_keys_args",
    "sala_select_blocks_args",
    "sala_choose_blocks_args",
    "sala_sparse_attention_args",
    "sala_dense_attention_args",
    "sala_commit_keys_args",
    "sala_score_keys_args",
    "sala_choose_tokens_args",
    "sala_gather_rows_args",
    "sala_compact_keys_args",
    "sala_merge_args",
    "sala_linear_prefill_args",
    "sala_linear_decode_args",
    "sala_linear_verify_args",
    "sala_linear_commit_args",
    "sala_copy_states_args",
    "sala_sum_decay_args",
    "sala_merge_states_args",
    "sala_linear_correct_args",
    "sala_norm_rope_args",
    "sala_norm_gate_args",
    "sala_sum_squares_args",
];

fn text(text: *const std::ffi::c_char) -> String {
    // SAFETY: this thread's last error, and no call comes between.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

fn last_error() -> String {
    text(sala_last_error())
}

fn last_argument() -> String {
    let argument = sala_last_error_argument();
    if argument.is_null() {
        "none".to_owned()
    } else {
        text(argument)
    }
}

fn sparse_config() -> sala_sparse_layer_config {
    let mut config = std::mem::MaybeUninit::uninit();
    // SAFETY: a place for a config, which is then filled.
    let mut config = unsafe {
        sala_sparse_layer_config_init(config.as_mut_ptr());
        config.assume_init()
    };
    (
        config.dtype,
        config.heads_q,
        config.heads_kv,
        config.dim,
        config.dense_len,
    ) = (SALA_F16 as i32, 4, 2, 64, 100);
    config
}

fn linear_config() -> sala_linear_attention_config {
    sala_linear_attention_config {
        size: size_of::<sala_linear_attention_config>(),
        dtype: SALA_F16 as i32,
        decay: SALA_NO_DECAY as i32,
        heads_q: 4,
        heads_kv: 2,
        dim_k: 64,
        dim_v: 64,
        state_layout: 0,
        split: 0,
        scale: null(),
    }
}

/// Tensors with something wrong, each with what.
fn broken(good: &sala_tensor) -> Vec<(&'static str, sala_tensor)> {
    static NEGATIVE: [i64; 1] = [-1];
    static HUGE: [i64; 4] = [i64::MAX; 4];
    let good = *good;
    vec![
        ("dtype 0", sala_tensor { dtype: 0, ..good }),
        ("dtype 99", sala_tensor { dtype: 99, ..good }),
        ("dtype -1", sala_tensor { dtype: -1, ..good }),
        ("no axes", sala_tensor { ndim: 0, ..good }),
        ("five axes", sala_tensor { ndim: 5, ..good }),
        ("-1 axes", sala_tensor { ndim: -1, ..good }),
        ("device 0", sala_tensor { device: 0, ..good }),
        ("device -2", sala_tensor { device: -2, ..good }),
        ("reserved", sala_tensor { reserved: 1, ..good }),
        ("no shape", sala_tensor { shape: null(), ..good }),
        (
            "odd shape",
            sala_tensor {
                shape: SHAPE.as_ptr().wrapping_byte_add(4),
                ..good
            },
        ),
        (
            "negative shape",
            sala_tensor {
                shape: NEGATIVE.as_ptr(),
                ..good
            },
        ),
        (
            "negative stride",
            sala_tensor {
                strides: NEGATIVE.as_ptr(),
                ..good
            },
        ),
        (
            "odd strides",
            sala_tensor {
                strides: SHAPE.as_ptr().wrapping_byte_add(4),
                ..good
            },
        ),
        (
            "no memory",
            sala_tensor {
                data: null_mut(),
                ..good
            },
        ),
        (
            "odd memory",
            sala_tensor {
                data: good.data.wrapping_byte_add(1),
                ..good
            },
        ),
        (
            "more than there is",
            sala_tensor {
                ndim: 4,
                shape: HUGE.as_ptr(),
                ..good
            },
        ),
    ]
}

#[test]
fn every_tensor_is_refused_by_its_name() {
    let call = Call::new();
    for name in ALL {
        let args = call.args(name);
        for field in fields(name).iter().filter(|field| field.kind == "const sala_tensor*") {
            for (what, tensor) in broken(&call.tensor) {
                let (blamed, said) = call.blames(&args.with(field, &raw const tensor));
                assert_eq!(blamed, field.name, "{name} with {what} as {}: {said}", field.name);
                assert!(said.starts_with(&format!("{}: expected ", field.name)), "{said}");
            }
            let odd = (&raw const *call.tensor).wrapping_byte_add(1);
            assert_eq!(call.blames(&args.with(field, odd)).0, field.name, "{name}");
        }
    }
}

#[test]
fn what_is_needed_and_missing_is_refused_by_its_name() {
    let call = Call::new();
    for name in ALL {
        let args = call.args(name);
        for field in fields(name).iter().filter(|field| field.kind.ends_with('*')) {
            let conditions = [
                "NULL",
                "for SALA_DECODE",
                "for long sequences",
                "as the layer's decay says",
                "as they were verified",
            ];
            let is_conditional = conditions.iter().any(|words| field.comment.contains(words))
                || [
                    ("sala_norm_rope_args", "positions"),
                    ("sala_linear_verify_args", "log_decay"),
                ]
                .contains(&(name, &field.name));
            if !is_conditional {
                let (blamed, said) = call.blames(&args.with(field, null::<c_void>()));
                assert_eq!(blamed, field.name, "{name}: {said}");
                assert!(said.ends_with(", got NULL"), "{said}");
            }
        }
    }
}

#[test]
fn numbers_out_of_range_are_refused_by_their_names() {
    let call = Call::new();
    for name in ALL {
        for field in fields(name) {
            let mut args = call.args(name);
            match field.kind.as_str() {
                "int64_t" => args.put(field.offset, &(-1i64).to_ne_bytes()),
                "int32_t" => args.put(field.offset, &99i32.to_ne_bytes()),
                "float" => args.put(field.offset, &0f32.to_ne_bytes()),
                _ => continue,
            }
            let (blamed, said) = call.blames(&args);
            // The one tensor that stands for all is of no type that a norm takes, and that is found first.
            let expected = if field.kind == "float" { "out" } else { &field.name };
            assert_eq!(blamed, expected, "{name}: {said}");
        }
    }
}

#[test]
fn sizes_handles_and_streams_are_refused_by_their_names() {
    let call = Call::new();
    for name in ALL {
        let args = call.args(name);
        for size in [0, 8, args.words.len() * 8 - 8, args.words.len() * 8 + 4] {
            let mut short = args.clone();
            short.put(0, &size.to_ne_bytes());
            assert_eq!(call.blames(&short).0, "size", "{name} of {size} bytes");
        }
        let mut newer = args.clone();
        newer.words.push(1);
        newer.put(0, &(newer.words.len() * 8).to_ne_bytes());
        assert_eq!(call.blames(&newer).0, "args", "{name}");
    }
    let args = call.args("sala_merge_args").words.as_ptr().cast();
    let sparse_args = call.args("sala_append_keys_args");
    let sparse_args = sparse_args.words.as_ptr().cast();
    // SAFETY: live handles or null, which is refused before the rest is used.
    unsafe {
        assert_eq!(sala_merge(null(), null_mut(), args), SALA_ERROR_ARGUMENT as i32);
        assert_eq!(last_error(), "kernels: expected a pointer, got NULL");
        assert_eq!(sala_merge(call.kernels, null_mut(), null()), SALA_ERROR_ARGUMENT as i32);
        assert_eq!(last_error(), "args: expected a pointer, got NULL");
        sala_append_keys(call.kernels, null(), null_mut(), sparse_args);
        assert_eq!(last_error(), "layer: expected a pointer, got NULL");
        sala_append_keys(call.kernels, call.sparse, 64 as *mut c_void, sparse_args);
        assert_eq!(last_error(), "stream: expected null, for a host device, got 0x40");
        assert_eq!(sala_kernels_load(SALA_HOST, null_mut()), SALA_ERROR_ARGUMENT as i32);
        let mut kernels = null_mut();
        assert_eq!(sala_kernels_load(-2, &mut kernels), SALA_ERROR_ARGUMENT as i32);
        assert_eq!((last_argument().as_str(), kernels.is_null()), ("ordinal", true));
        assert_eq!(
            sala_kernels_load_context(null_mut(), &mut kernels),
            SALA_ERROR_ARGUMENT as i32
        );
        assert_eq!(last_argument(), "cu_context");
        assert_eq!(sala_status_check(null()), SALA_ERROR_ARGUMENT as i32);
        assert_eq!(sala_status_check([0, 2, 0, 0].as_ptr()), SALA_ERROR_REFUSED as i32);
        assert_eq!(sala_status_check([0; 4].as_ptr()), 0);
    }
}

#[test]
fn stores_are_refused_by_their_fields() {
    let call = Call::new();
    let blamed = |change: &dyn Fn(&mut sala_key_store)| {
        let mut keys = *call.keys;
        change(&mut keys);
        let args = call.args("sala_append_keys_args");
        let fields = fields(args.name);
        let field = fields
            .iter()
            .find(|field| field.name == "keys")
            .expect("the field is there");
        call.blames(&args.with(field, &raw const keys)).0
    };
    let tensor = &raw const *call.tensor;
    assert_eq!(blamed(&|keys| keys.size = 8), "size");
    assert_eq!(blamed(&|keys| keys.store = 0), "keys");
    assert_eq!(blamed(&|keys| keys.store = 4), "keys");
    assert_eq!(blamed(&|keys| keys.reserved = 4), "reserved");
    assert_eq!(blamed(&|keys| keys.cu_seqlens_k = null()), "cu_seqlens_k");
    assert_eq!(blamed(&|keys| keys.seqlens_k = tensor), "seqlens_k");
    assert_eq!(blamed(&|keys| keys.page_table = tensor), "page_table");
    let cached = |keys: &mut sala_key_store| (keys.store, keys.cu_seqlens_k) = (SALA_CACHED as i32, null());
    assert_eq!(blamed(&|keys| keys.store = SALA_CACHED as i32), "cu_seqlens_k");
    assert_eq!(blamed(&cached), "seqlens_k");
    let paged = |keys: &mut sala_key_store| {
        (keys.store, keys.cu_seqlens_k, keys.seqlens_k) = (SALA_PAGED as i32, null(), tensor);
    };
    assert_eq!(blamed(&paged), "page_table");
}

#[test]
fn configs_are_refused_by_their_fields() {
    let mut layer = null_mut();
    let mut sparse = |change: fn(&mut sala_sparse_layer_config)| {
        let mut config = sparse_config();
        change(&mut config);
        // SAFETY: a whole config, and a place for the handle.
        assert_ne!(unsafe { sala_sparse_layer_create(&config, &mut layer) }, 0);
        assert!(layer.is_null());
        last_argument()
    };
    assert_eq!(sparse(|config| config.size = 0), "size");
    assert_eq!(sparse(|config| config.dtype = 0), "dtype");
    assert_eq!(sparse(|config| config.dtype = SALA_F32 as i32), "dtype");
    assert_eq!(sparse(|config| config.lse = 2), "lse");
    assert_eq!(sparse(|config| config.heads_q = 5), "heads_q");
    assert_eq!(sparse(|config| config.heads_kv = 0), "heads_kv");
    assert_eq!(sparse(|config| config.dim = -64), "dim");
    assert_eq!(sparse(|config| config.dense_len = -1), "dense_len");
    assert_eq!(sparse(|config| config.block_size = 0), "block_size");
    assert_eq!(sparse(|config| config.topk = 0), "topk");
    assert_eq!(sparse(|config| config.init_blocks = -1), "init_blocks");
    assert_eq!(sparse(|config| config.local_blocks = i64::MAX), "local_blocks");
    assert_eq!(sparse(|config| config.scale = &raw const NAN), "scale");
}

#[test]
fn configs_of_linear_layers_are_refused_by_their_fields() {
    let mut layer = null_mut();
    let mut linear = |change: fn(&mut sala_linear_attention_config)| {
        let mut config = linear_config();
        change(&mut config);
        // SAFETY: a whole config, and a place for the handle.
        assert_ne!(unsafe { sala_linear_attention_create(&config, &mut layer) }, 0);
        last_argument()
    };
    assert_eq!(linear(|config| config.dtype = 6), "dtype");
    assert_eq!(linear(|config| config.decay = 0), "decay");
    assert_eq!(linear(|config| config.heads_q = 0), "heads_q");
    assert_eq!(linear(|config| config.heads_kv = 3), "heads_q");
    assert_eq!(linear(|config| config.dim_k = 65), "dim_k");
    assert_eq!(linear(|config| config.dim_v = 65), "dim_v");
    assert_eq!(linear(|config| config.state_layout = 2), "state_layout");
    assert_eq!(linear(|config| config.split = -1), "split");
    assert_eq!(linear(|config| config.scale = &raw const NAN), "scale");
}
