//! The same operations as tvm-ffi functions, for Python: `sala_launch`, `sala_create`, `sala_destroy`, `sala_number` and `sala_table`.
//!
//! Arguments go by name: `sala_launch(operation, layer, "q", q, "k", k, …)`, with the names of the structs of the header. tvm-ffi is not linked:
//! its functions are looked up in the process that calls. Errors are raised there as `ValueError` (an argument), `TypeError` or `RuntimeError`.

use std::any::Any;
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null;
use std::sync::{Arc, Mutex, PoisonError};

use super::handles::{self, KernelsHandle};
use super::launch::{Free, launch};
use super::operations::Call;
use super::structs::{self, Versioned};
use crate::sys::c_api::*;
use crate::{Arguments, Device, Error, LinearAttention, SparseLayer, lightning_log_decay, rotary_cos_sin};

/// `TVMFFIAny`: a value with its type.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TvmAny {
    type_index: i32,
    /// Of a short text; otherwise 0.
    length: u32,
    value: [u8; 8],
}

/// `DLTensor`.
#[repr(C)]
#[derive(Clone, Copy)]
struct DlTensor {
    data: *mut c_void,
    device_type: i32,
    device_id: i32,
    ndim: i32,
    code: u8,
    bits: u8,
    lanes: u16,
    shape: *const i64,
    strides: *const i64,
    byte_offset: u64,
}

// The types of values that are understood, as tvm-ffi numbers them.
const NONE: i32 = 0;
const INT: i32 = 1;
const BOOL: i32 = 2;
const FLOAT: i32 = 3;
const TENSOR_POINTER: i32 = 7;
const RAW_TEXT: i32 = 8;
const SHORT_TEXT: i32 = 11;
const TEXT: i32 = 65;
const TENSOR: i32 = 70;
/// Bytes before what an object of tvm-ffi holds.
const OBJECT_HEADER: usize = 24;

// Kinds of memory, as DLPack numbers them.
const CPU: i32 = 1;
const CUDA: i32 = 2;
const CUDA_HOST: i32 = 3;
const CUDA_MANAGED: i32 = 13;

/// What is raised.
struct Raised {
    kind: &'static CStr,
    text: String,
}

type Result<T> = std::result::Result<T, Raised>;

impl From<Error> for Raised {
    fn from(error: Error) -> Self {
        let kind = match error {
            Error::Argument { .. } => c"ValueError",
            _ => c"RuntimeError",
        };
        Self {
            kind,
            text: error.to_string(),
        }
    }
}

fn type_error(name: &str, expected: &str, got: impl std::fmt::Display) -> Raised {
    Raised {
        kind: c"TypeError",
        text: format!("{name}: expected {expected}, got {got}"),
    }
}

impl TvmAny {
    fn address(&self) -> *const u8 {
        usize::from_ne_bytes(self.value) as *const u8
    }

    fn integer(&self, name: &str) -> Result<i64> {
        match self.type_index {
            INT | BOOL => Ok(i64::from_ne_bytes(self.value)),
            _ => Err(type_error(name, "an integer", self.what())),
        }
    }

    fn float(&self, name: &str) -> Result<f64> {
        match self.type_index {
            FLOAT => Ok(f64::from_ne_bytes(self.value)),
            _ => self.integer(name).map(|number| number as f64),
        }
    }

    /// # Safety
    /// The value is as its type says.
    unsafe fn text(&self, name: &str) -> Result<String> {
        let bytes = match self.type_index {
            SHORT_TEXT => self.value.get(..self.length as usize).unwrap_or_default(),
            // SAFETY: a text that ends with a zero.
            RAW_TEXT => unsafe { CStr::from_ptr(self.address().cast()) }.to_bytes(),
            // SAFETY: an object that holds address and length.
            TEXT => unsafe {
                let parts = self.address().add(OBJECT_HEADER).cast::<usize>();
                std::slice::from_raw_parts(parts.read() as *const u8, parts.add(1).read())
            },
            _ => return Err(type_error(name, "a text", self.what())),
        };
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    /// # Safety
    /// The value is as its type says.
    unsafe fn tensor(&self, name: &str) -> Result<sala_tensor> {
        let offset = match self.type_index {
            TENSOR_POINTER => 0,
            TENSOR => OBJECT_HEADER,
            _ => return Err(type_error(name, "a tensor", self.what())),
        };
        // SAFETY: the value is a tensor, or an object that holds one.
        let tensor = unsafe { *self.address().add(offset).cast::<DlTensor>() };
        let device = match tensor.device_type {
            CPU | CUDA_HOST => SALA_HOST,
            CUDA | CUDA_MANAGED => tensor.device_id,
            other => {
                let got = format!("a tensor of DLPack device type {other}");
                return Err(type_error(name, "a tensor on the CPU or a CUDA device", got));
            }
        };
        let dtype = match (tensor.code, tensor.bits, tensor.lanes) {
            (4, 16, 1) => SALA_BF16,
            (2, 16, 1) => SALA_F16,
            (2, 32, 1) => SALA_F32,
            (0, 32, 1) => SALA_I32,
            (1, 32, 1) => SALA_U32,
            (code, bits, lanes) => {
                let kind = ["int", "uint", "float", "opaque", "bfloat", "complex", "bool"].get(usize::from(code));
                let got = format!("{}{bits} elements (x{lanes})", kind.unwrap_or(&"type "));
                return Err(type_error(name, "bf16, f16, f32, i32 or u32 elements", got));
            }
        };
        Ok(sala_tensor {
            data: tensor.data.wrapping_byte_add(tensor.byte_offset as usize),
            dtype: dtype as i32,
            ndim: tensor.ndim,
            device,
            reserved: 0,
            shape: tensor.shape,
            strides: tensor.strides,
        })
    }

    fn what(&self) -> String {
        match self.type_index {
            NONE => "None".to_owned(),
            INT => "an integer".to_owned(),
            BOOL => "a bool".to_owned(),
            FLOAT => "a float".to_owned(),
            TENSOR_POINTER | TENSOR => "a tensor".to_owned(),
            RAW_TEXT | SHORT_TEXT | TEXT => "a text".to_owned(),
            other => format!("a value of tvm-ffi type {other}"),
        }
    }
}

/// A place in a struct of the header.
enum Slot<'a> {
    Tensor(&'a mut *const sala_tensor),
    Long(&'a mut i64),
    Int(&'a mut i32),
    Float(&'a mut f32),
}

/// A struct whose fields go by name.
trait Named: Versioned {
    fn slot(&mut self, name: &str) -> Option<Slot<'_>>;

    fn set_size(&mut self);

    /// Where its keys and its compressed keys lie, if it has any.
    fn stores(&mut self, _keys: &sala_key_store, _compressed: Option<&sala_compressed_store>) {}
}

macro_rules! named {
    ($($name:ident { $($tensor:ident)*; $($long:ident)*; $($int:ident)*; $($float:ident)*; $($keys:ident)?; $($compressed:ident)? })*) => {$(
        impl Named for $name {
            fn slot(&mut self, name: &str) -> Option<Slot<'_>> {
                match name {
                    $(stringify!($tensor) => Some(Slot::Tensor(&mut self.$tensor)),)*
                    $(stringify!($long) => Some(Slot::Long(&mut self.$long)),)*
                    $(stringify!($int) => Some(Slot::Int(&mut self.$int)),)*
                    $(stringify!($float) => Some(Slot::Float(&mut self.$float)),)*
                    _ => None,
                }
            }

            fn set_size(&mut self) {
                self.size = size_of::<Self>();
            }

            #[allow(unused_variables, reason = "most have no keys")]
            fn stores(&mut self, keys: &sala_key_store, compressed: Option<&sala_compressed_store>) {
                $(self.$keys = keys;)?
                $(self.$compressed = compressed.map_or(null(), |store| store);)?
            }
        }
    )*};
}

// Tensors; 64-bit numbers; 32-bit numbers; floats; keys; compressed keys.
named! {
    sala_key_store { cu_seqlens_k seqlens_k cache_index page_table; ; store; ; ; }
    sala_compressed_store { cache_index page_table; rows_per_page; store; ; ; }
    sala_append_keys_args { k_new v_new k v cu_seqlens_q status; max_seqlen_q max_seqlen_k; ; ; keys; }
    sala_compress_keys_args { k k1 k2 seqlens_old status; max_seqlen_k max_new; ; ; keys; compressed }
    sala_select_blocks_args {
        q k1 k2 cu_seqlens_q switch_len parent scale_factor scores block_indices workspace status;
        max_seqlen_q max_seqlen_k; switch_by entry; ; keys; compressed
    }
    sala_choose_blocks_args { scores cu_seqlens_q switch_len block_indices status; max_seqlen_q max_seqlen_k; switch_by; ; keys; }
    sala_sparse_attention_args {
        q k v block_indices cu_seqlens_q switch_len parent scale_factor gate out lse workspace status;
        max_seqlen_q max_seqlen_k; switch_by entry; ; keys;
    }
    sala_dense_attention_args {
        q k v cu_seqlens_q parent scale_factor gate out lse workspace status first_key; max_seqlen_q max_seqlen_k; entry; ; keys;
    }
    sala_commit_keys_args { k v base accepted path status; ; ; ; keys; }
    sala_score_keys_args { q k cu_seqlens_q scores workspace status; max_seqlen_q max_seqlen_k pool; ; ; keys; }
    sala_choose_tokens_args { scores token_indices workspace status; init_tokens local_tokens; ; ; keys; }
    sala_gather_rows_args { k v token_indices k_out v_out scores scores_out status; ; ; ; keys; }
    sala_compact_keys_args { k v token_indices scores status; ; ; ; keys; }
    sala_merge_args { out1 lse1 out2 lse2 out lse; ; ; ; ; }
    sala_linear_prefill_args {
        q k v cu_seqlens log_decay out state state_in state_out checkpoint_slots workspace status;
        checkpoint_every max_seqlen_q; ; ; ;
    }
    sala_linear_decode_args { q k v log_decay state state_in state_out out status; ; ; ; ; }
    sala_linear_verify_args { q k v log_decay state state_in parent out status; ; ; ; ; }
    sala_linear_commit_args { k v log_decay state state_in state_out accepted path status; ; ; ; ; }
    sala_copy_states_args { state sources destinations status; ; ; ; ; }
    sala_sum_decay_args { cu_seqlens log_decay cumulative total status; max_seqlen_q; ; ; ; }
    sala_merge_states_args { adds total state state_in state_out status; ; ; ; ; }
    sala_linear_correct_args { q cumulative cu_seqlens state state_in out status; max_seqlen_q; ; ; ; }
    sala_norm_rope_args { x weight cos_sin positions out status; ; ; eps; ; }
    sala_norm_gate_args { x weight gate sum_squares out; channels; ; eps; ; }
    sala_sum_squares_args { x out; ; ; ; ; }
    sala_sparse_layer_config { ; heads_q heads_kv dim dense_len block_size topk init_blocks local_blocks; dtype lse; ; ; }
    sala_linear_attention_config { ; heads_q heads_kv dim_k dim_v; dtype decay state_layout split; ; ; }
}

/// What a call was given, with the tensors that its pointers point to.
struct Given<'a> {
    pairs: &'a [TvmAny],
    /// Boxed, so that they stay where they are.
    #[allow(clippy::vec_box, reason = "pointers to them outlive the growth of the list")]
    tensors: Vec<Box<sala_tensor>>,
}

impl Given<'_> {
    /// Fills a struct, and gives the device of the first tensor.
    ///
    /// # Safety
    /// Values are as their types say.
    unsafe fn fill<T: Named>(
        &mut self,
        args: &mut T,
        keys: &mut sala_key_store,
        compressed: &mut sala_compressed_store,
    ) -> Result<()> {
        args.set_size();
        keys.set_size();
        compressed.set_size();
        for pair in self.pairs.chunks(2) {
            let [name, value] = pair else {
                return Err(type_error("arguments", "names with values", "a name alone"));
            };
            // SAFETY: the caller's promise.
            let name = unsafe { name.text("a name")? };
            if value.type_index == NONE {
                continue;
            }
            let slot = match name.strip_prefix("compressed.") {
                Some(field) => compressed.slot(field),
                None => match args.slot(&name) {
                    Some(slot) => Some(slot),
                    None => keys.slot(&name),
                },
            };
            match slot {
                Some(Slot::Tensor(pointer)) => {
                    // SAFETY: the caller's promise.
                    let tensor = Box::new(unsafe { value.tensor(&name)? });
                    *pointer = &raw const *tensor;
                    self.tensors.push(tensor);
                }
                Some(Slot::Long(number)) => *number = value.integer(&name)?,
                Some(Slot::Int(number)) => {
                    let given = value.integer(&name)?;
                    *number = i32::try_from(given).map_err(|_| type_error(&name, "a number of 32 bits", given))?;
                }
                // A plain zero is one that a caller in C forgot.
                Some(Slot::Float(number)) => {
                    *number = Some(value.float(&name)? as f32).filter(|&x| x != 0.0).unwrap_or(-0.0)
                }
                None => return Err(type_error(&name, "an argument of the operation", "another name")),
            }
        }
        Ok(())
    }
}

/// Layers by number, and kernels by ordinal, which stay loaded.
#[derive(Default)]
struct Registry {
    layers: HashMap<i64, Layer>,
    next: i64,
    kernels: HashMap<i32, Arc<KernelsHandle>>,
}

#[derive(Clone)]
enum Layer {
    Sparse(Arc<SparseLayer>),
    Linear(Arc<LinearAttention>),
}

static REGISTRY: Mutex<Option<Registry>> = Mutex::new(None);

fn registry<T>(work: impl FnOnce(&mut Registry) -> T) -> T {
    let mut registry = REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
    work(registry.get_or_insert_default())
}

fn kernels_on(ordinal: i32) -> Result<Arc<KernelsHandle>> {
    registry(|registry| {
        if let Some(kernels) = registry.kernels.get(&ordinal) {
            return Ok(Arc::clone(kernels));
        }
        let device = match usize::try_from(ordinal) {
            Ok(ordinal) => Device::cuda(ordinal)?,
            Err(_) => Device::host(),
        };
        let kernels = Arc::new(KernelsHandle::load(&device)?);
        registry.kernels.insert(ordinal, Arc::clone(&kernels));
        Ok(kernels)
    })
}

fn layer(number: i64) -> Result<Layer> {
    let layer = registry(|registry| registry.layers.get(&number).cloned());
    layer.ok_or_else(|| Raised::from(Error::argument("layer", "a live layer", number)))
}

fn add_layer(layer: Layer) -> i64 {
    registry(|registry| {
        registry.next += 1;
        registry.layers.insert(registry.next, layer);
        registry.next
    })
}

fn sparse(number: i64) -> Result<Arc<SparseLayer>> {
    match layer(number)? {
        Layer::Sparse(layer) => Ok(layer),
        Layer::Linear(_) => Err(Error::argument("layer", "a SparseLayer", "a LinearAttention").into()),
    }
}

fn linear(number: i64) -> Result<Arc<LinearAttention>> {
    match layer(number)? {
        Layer::Linear(layer) => Ok(layer),
        Layer::Sparse(_) => Err(Error::argument("layer", "a LinearAttention", "a SparseLayer").into()),
    }
}

/// A function of tvm-ffi, if the process has loaded it.
///
/// # Safety
/// `T` is the type of the function of that name.
unsafe fn function_of_tvm<T: Copy>(name: &CStr) -> Option<T> {
    let process = libloading::os::unix::Library::this();
    // SAFETY: the caller's promise.
    unsafe { process.get::<T>(name.to_bytes_with_nul()) }
        .ok()
        .map(|symbol| *symbol)
}

/// The caller's current stream on a device.
fn current_stream(ordinal: i32) -> *mut c_void {
    if ordinal == SALA_HOST {
        return std::ptr::null_mut();
    }
    type GetStream = unsafe extern "C" fn(i32, i32) -> *mut c_void;
    // SAFETY: its type in tvm-ffi, which takes any device.
    match unsafe { function_of_tvm::<GetStream>(c"TVMFFIEnvGetStream") } {
        // SAFETY: it takes any device.
        Some(get_stream) => unsafe { get_stream(CUDA, ordinal) },
        None => std::ptr::null_mut(),
    }
}

/// Fills the struct of an operation, and hands it to `launch` with kernels and stream.
///
/// # Safety
/// Values are as their types say.
unsafe fn with_args<C: Named>(
    pairs: &[TvmAny],
    launch: impl FnOnce(&C, &KernelsHandle, *mut c_void) -> crate::Result<()>,
) -> Result<()> {
    let (mut args, mut keys, mut compressed) = (C::zeroed(), sala_key_store::zeroed(), sala_compressed_store::zeroed());
    let mut given = Given {
        pairs,
        tensors: Vec::new(),
    };
    // SAFETY: the caller's promise.
    unsafe { given.fill(&mut args, &mut keys, &mut compressed)? };
    args.stores(&keys, Some(&compressed).filter(|store| store.store != 0));
    let ordinal = given.tensors.first().map_or(SALA_HOST, |tensor| tensor.device);
    let kernels = kernels_on(ordinal)?;
    Ok(launch(&args, &kernels, current_stream(ordinal))?)
}

/// An operation of a layer.
///
/// # Safety
/// Values are as their types say.
unsafe fn of_layer<C: Named + Call>(
    pairs: &[TvmAny],
    layer: &<C::Args<'static> as Arguments>::Operation,
) -> Result<()> {
    // SAFETY: tvm-ffi keeps tensors for as long as the call; later the caller does, as for every launch on a stream.
    unsafe {
        with_args::<C>(pairs, |args, kernels, stream| {
            launch::<C>(kernels, layer, stream, args.arguments(kernels.place())?)
        })
    }
}

/// An operation without a layer.
///
/// # Safety
/// Values are as their types say.
unsafe fn free<C: Named + Free>(pairs: &[TvmAny]) -> Result<()> {
    // SAFETY: as above.
    unsafe { with_args::<C>(pairs, |args, kernels, stream| Free::launch(args, kernels, stream)) }
}

/// `sala_launch(operation, layer, name, value, …)`.
unsafe fn launch_by_name(args: &[TvmAny]) -> Result<Option<i64>> {
    let [operation, layer, pairs @ ..] = args else {
        return Err(type_error("sala_launch", "an operation and a layer", "fewer arguments"));
    };
    // SAFETY: the caller's promise.
    let operation = unsafe { operation.text("operation")? };
    let layer = layer.integer("layer")?;
    // SAFETY: the caller's promise.
    unsafe {
        match operation.as_str() {
            "append_keys" => of_layer::<sala_append_keys_args>(pairs, &*sparse(layer)?),
            "commit_keys" => of_layer::<sala_commit_keys_args>(pairs, &*sparse(layer)?),
            "compress_keys" => of_layer::<sala_compress_keys_args>(pairs, &*sparse(layer)?),
            "select_blocks" => of_layer::<sala_select_blocks_args>(pairs, &*sparse(layer)?),
            "choose_blocks" => of_layer::<sala_choose_blocks_args>(pairs, &*sparse(layer)?),
            "sparse_attention" => of_layer::<sala_sparse_attention_args>(pairs, &*sparse(layer)?),
            "dense_attention" => of_layer::<sala_dense_attention_args>(pairs, &*sparse(layer)?),
            "score_keys" => of_layer::<sala_score_keys_args>(pairs, &*sparse(layer)?),
            "choose_tokens" => of_layer::<sala_choose_tokens_args>(pairs, &*sparse(layer)?),
            "gather_rows" => of_layer::<sala_gather_rows_args>(pairs, &*sparse(layer)?),
            "compact_keys" => of_layer::<sala_compact_keys_args>(pairs, &*sparse(layer)?),
            "linear_prefill" => of_layer::<sala_linear_prefill_args>(pairs, &*linear(layer)?),
            "linear_decode" => of_layer::<sala_linear_decode_args>(pairs, &*linear(layer)?),
            "linear_verify" => of_layer::<sala_linear_verify_args>(pairs, &*linear(layer)?),
            "linear_commit" => of_layer::<sala_linear_commit_args>(pairs, &*linear(layer)?),
            "merge" => free::<sala_merge_args>(pairs),
            "copy_states" => free::<sala_copy_states_args>(pairs),
            "sum_decay" => of_layer::<sala_sum_decay_args>(pairs, &*linear(layer)?),
            "merge_states" => free::<sala_merge_states_args>(pairs),
            "linear_correct" => of_layer::<sala_linear_correct_args>(pairs, &*linear(layer)?),
            "norm_rope" => free::<sala_norm_rope_args>(pairs),
            "norm_gate" => free::<sala_norm_gate_args>(pairs),
            "sum_squares" => free::<sala_sum_squares_args>(pairs),
            other => Err(type_error("operation", "one of the header", other)),
        }?;
    }
    Ok(None)
}

/// `sala_create(kind, scale, name, value, …)`, which gives a layer's number. A scale of None is the default.
unsafe fn create(args: &[TvmAny]) -> Result<Option<i64>> {
    let [kind, scale, pairs @ ..] = args else {
        return Err(type_error("sala_create", "a kind and a scale", "fewer arguments"));
    };
    // SAFETY: the caller's promise.
    let kind = unsafe { kind.text("kind")? };
    let number = match scale.type_index {
        NONE => None,
        _ => Some(scale.float("scale")? as f32),
    };
    let scale = number.as_ref().map_or(null(), |number| &raw const *number);
    let mut given = Given {
        pairs,
        tensors: Vec::new(),
    };
    let (mut keys, mut compressed) = (sala_key_store::zeroed(), sala_compressed_store::zeroed());
    // SAFETY: the caller's promise; whole configs.
    let layer = unsafe {
        match kind.as_str() {
            "sparse" => {
                let mut config = sala_sparse_layer_config::zeroed();
                given.fill(&mut config, &mut keys, &mut compressed)?;
                config.scale = scale;
                Layer::Sparse(Arc::new(handles::sparse_layer(&config)?))
            }
            _ => {
                let mut config = sala_linear_attention_config::zeroed();
                given.fill(&mut config, &mut keys, &mut compressed)?;
                config.scale = scale;
                Layer::Linear(Arc::new(handles::linear_attention(&config)?))
            }
        }
    };
    Ok(Some(add_layer(layer)))
}

/// `sala_destroy(layer)`.
unsafe fn destroy(args: &[TvmAny]) -> Result<Option<i64>> {
    let number = args.first().map_or(Ok(0), |number| number.integer("layer"))?;
    drop(registry(|registry| registry.layers.remove(&number)));
    Ok(None)
}

/// `sala_number(what, layer, …)`: a size that a layer knows.
unsafe fn number(args: &[TvmAny]) -> Result<Option<i64>> {
    let [what, layer, rest @ ..] = args else {
        return Err(type_error("sala_number", "a name and a layer", "fewer arguments"));
    };
    // SAFETY: the caller's promise.
    let what = unsafe { what.text("what")? };
    let layer = layer.integer("layer")?;
    let at = |place: usize, name: &'static str| -> Result<usize> {
        let Some(value) = rest.get(place) else { return Ok(0) };
        Ok(structs::count(name, value.integer(name)?)?)
    };
    let number = match what.as_str() {
        "list_len" => sparse(layer)?.list_len(),
        "k1_rows" => sparse(layer)?.k1_rows(at(0, "tokens")?),
        "k2_rows" => sparse(layer)?.k2_rows(at(0, "tokens")?),
        "sparse_workspace" => {
            let entry = handles::entry(i32::try_from(at(0, "entry")?).unwrap_or(-1))?;
            let list_len = Some(at(4, "list_len")?).filter(|&entries| entries > 0);
            let (batch, queries, keys) = (at(1, "batch")?, at(2, "max_seqlen_q")?, at(3, "max_seqlen_k")?);
            sparse(layer)?.workspace_size(entry, batch, queries, keys, list_len)
        }
        "tokens_workspace" => {
            sparse(layer)?.tokens_workspace_size(at(0, "batch")?, at(1, "max_seqlen_q")?, at(2, "tokens")?)
        }
        "linear_workspace" => linear(layer)?.workspace_size(at(0, "batch")?, at(1, "total_q")?, at(2, "max_seqlen_q")?),
        other => return Err(type_error("what", "a size of a layer", other)),
    };
    Ok(Some(i64::try_from(number).unwrap_or(i64::MAX)))
}

/// `sala_table(name, out, …)`: numbers computed on the host, to a compact f32 tensor of just as many.
unsafe fn table(args: &[TvmAny]) -> Result<Option<i64>> {
    let [name, out, rest @ ..] = args else {
        return Err(type_error("sala_table", "a name and a tensor", "fewer arguments"));
    };
    // SAFETY: the caller's promise.
    let (name, out) = unsafe { (name.text("name")?, out.tensor("out")?) };
    let at = |place: usize, name: &'static str| -> Result<usize> {
        let value = rest
            .get(place)
            .ok_or_else(|| type_error(name, "an integer", "nothing"))?;
        Ok(structs::count(name, value.integer(name)?)?)
    };
    let numbers = match name.as_str() {
        "lightning_log_decay" => lightning_log_decay(at(0, "first_head")?, at(1, "heads")?, at(2, "total_heads")?)?,
        _ => {
            let theta = rest.get(2).map_or(Ok(10_000.0), |theta| theta.float("theta"))?;
            rotary_cos_sin(at(0, "count")?, at(1, "dim")?, theta)?
        }
    };
    let kernels = kernels_on(SALA_HOST)?;
    // SAFETY: the caller's promise.
    let view = unsafe { kernels.place().written("out", &out)? };
    let elements: usize = view.shape().iter().product();
    let is_compact = view.as_tensor().extent() == size_of_val(numbers.as_slice()) as u64;
    if view.dtype() != crate::DType::F32 || elements != numbers.len() || !is_compact {
        let expected = format!("a compact f32 tensor of {} elements", numbers.len());
        return Err(Error::argument("out", expected, view.as_tensor()).into());
    }
    // SAFETY: so many numbers have room there.
    unsafe {
        out.data
            .cast::<f32>()
            .copy_from_nonoverlapping(numbers.as_ptr(), numbers.len())
    };
    Ok(None)
}

/// Calls `work` with the arguments, gives its result, or raises its error.
///
/// # Safety
/// `args` has as many values as `count` says, each as its type says; `result` is a place for one.
unsafe fn safe_call(
    args: *const TvmAny,
    count: i32,
    result: *mut TvmAny,
    work: unsafe fn(&[TvmAny]) -> Result<Option<i64>>,
) -> c_int {
    let args = match usize::try_from(count) {
        // SAFETY: the caller's promise.
        Ok(count) if count > 0 => unsafe { std::slice::from_raw_parts(args, count) },
        _ => &[],
    };
    // SAFETY: the caller's promise.
    let outcome = catch_unwind(AssertUnwindSafe(|| unsafe { work(args) }));
    let raised = match outcome {
        Ok(Ok(number)) => {
            let value = TvmAny {
                type_index: if number.is_some() { INT } else { NONE },
                length: 0,
                value: number.unwrap_or(0).to_ne_bytes(),
            };
            // SAFETY: the caller's promise.
            unsafe { result.write(value) };
            return 0;
        }
        Ok(Err(raised)) => raised,
        Err(panic) => bug(panic.as_ref()),
    };
    type SetRaised = unsafe extern "C" fn(*const c_char, *const c_char);
    // SAFETY: its type in tvm-ffi.
    if let Some(set_raised) = unsafe { function_of_tvm::<SetRaised>(c"TVMFFIErrorSetRaisedFromCStr") } {
        let text = CString::new(raised.text.replace('\0', " ")).unwrap_or_default();
        // SAFETY: two texts.
        unsafe { set_raised(raised.kind.as_ptr(), text.as_ptr()) };
    }
    -1
}

fn bug(panic: &(dyn Any + Send)) -> Raised {
    Raised {
        kind: c"RuntimeError",
        text: format!("a bug of sala-kernels: {}", super::errors::what_of(panic)),
    }
}

macro_rules! exported {
    ($($name:ident = $work:ident;)*) => {$(
        #[doc = concat!("The tvm-ffi function `", stringify!($work), "` of this file.")]
        ///
        /// # Safety
        /// As tvm-ffi calls it.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(_: *mut c_void, args: *const TvmAny, count: i32, result: *mut TvmAny) -> c_int {
            // SAFETY: the caller's promise.
            unsafe { safe_call(args, count, result, $work) }
        }
    )*};
}

exported! {
    __tvm_ffi_sala_launch = launch_by_name;
    __tvm_ffi_sala_create = create;
    __tvm_ffi_sala_destroy = destroy;
    __tvm_ffi_sala_number = number;
    __tvm_ffi_sala_table = table;
}
