//! Linear attention with decay: Lightning attention, simple GLA, Mamba-2's scalar gate.
//!
//! Per sequence and head, with a state `S` of `dim_k × dim_v` in f32:
//!
//! ```text
//! S_t = exp(g_t)·S_{t−1} + k_t v_tᵀ          o_t = scale · S_tᵀ q_t
//! ```
//!
//! [`LinearAttention::prefill`] walks whole sequences in chunks of 64 tokens (the chunked form of Lightning Attention-2, Qin et al. 2024,
//! section 3, and of Gated Linear Attention, Yang et al. 2023, section 4); [`LinearAttention::decode`] takes one token a sequence. Both read
//! and write states in a pool of slots that the caller owns. [`crate::reference::linear_attention`] is the definition, token by token.
//!
//! Results are the same bits for a sequence alone and in any batch, and for any chunking at multiples of 64 tokens.

use crate::checks;
use crate::kernels::KernelId;
use crate::sys::params::{self, sala_linear_attention_params};
use crate::{DType, Error, Kernels, Result, Stream, Tensor, TensorMut};

/// Tokens of a chunk.
const CHUNK: usize = 64;
/// Value channels of a warp of the scan, which sets the size of its blocks.
const SCAN_WARP_ROWS: usize = 16;
/// Threads, and value channels, of a decode block.
const DECODE_THREADS: u32 = 128;
const DECODE_COLUMNS: usize = 32;
/// The widths that the scan's blocks cut value channels into: the one that always fits, and wider ones, widest first.
const NARROW_TILE: usize = 32;
const WIDE_TILES: [usize; 2] = [128, 64];

/// How the log decay `g` varies. Values are natural logarithms, at most 0; below −128 counts as −128, and −∞ resets the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Decay {
    /// `g = 0`: plain linear attention.
    None,
    /// One constant a head (Lightning, RetNet): a tensor `[heads]`.
    #[default]
    PerHead,
    /// One a token and head (simple GLA, Mamba-2): a tensor `[tokens, heads]`.
    PerToken,
}

/// The order of the last two axes of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum StateLayout {
    /// `[slots, heads, dim_k, dim_v]`.
    #[default]
    Kv,
    /// `[slots, heads, dim_v, dim_k]`.
    Vk,
}

/// A linear-attention operation: shapes and options, checked once.
///
/// ```
/// use sala_kernels::{DType, LinearAttention};
/// let lightning = LinearAttention::builder(DType::Bf16, 32, 128, 128).scale(128f32.powf(-0.5)).build()?;
/// assert!(LinearAttention::builder(DType::Bf16, 32, 96, 128).build().is_err());
/// # Ok::<(), sala_kernels::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct LinearAttention {
    shape: Shape,
    narrow_scan: Scan,
    /// Of [`WIDE_TILES`], those that these dims allow.
    wide_scans: [Option<Scan>; WIDE_TILES.len()],
    decode: KernelId,
}

/// The scan with blocks of one width.
#[derive(Debug, Clone, Copy)]
struct Scan {
    kernel: KernelId,
    tile: usize,
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    dtype: DType,
    heads: usize,
    dim_k: usize,
    dim_v: usize,
    scale: f32,
    decay: Decay,
    state_layout: StateLayout,
}

/// Describes a [`LinearAttention`].
#[derive(Debug, Clone)]
#[must_use = "call `build` to get the operation"]
pub struct LinearAttentionBuilder {
    shape: Shape,
}

/// Tensors of [`LinearAttention::prefill`]: `tokens` rows of all sequences, one after the other.
#[derive(Debug)]
pub struct PrefillArgs<'a> {
    /// Queries `[tokens, heads, dim_k]`, the operation's type.
    pub q: Tensor<'a>,
    /// Keys `[tokens, heads, dim_k]`.
    pub k: Tensor<'a>,
    /// Values `[tokens, heads, dim_v]`.
    pub v: Tensor<'a>,
    /// Where sequences begin, `[batch + 1]` i32: from 0, non-decreasing, to at most `tokens`. Read on the device: a sequence whose bounds do
    /// not hold is skipped and counted in the status word.
    pub cu_seqlens: Tensor<'a>,
    /// The log decay, f32: `[heads]` or `[tokens, heads]` as [`Decay`] says; absent for [`Decay::None`].
    pub log_decay: Option<Tensor<'a>>,
    /// The pool of states, f32 `[slots, heads, dim_k, dim_v]` or as [`StateLayout`] says. Required with `state_in` or `state_out`.
    pub state: Option<TensorMut<'a>>,
    /// The slot each sequence starts from, `[batch]` i32; −1 or an absent tensor: a state of zero. A sequence that names no slot of the pool
    /// is skipped and counted.
    pub state_in: Option<Tensor<'a>>,
    /// The slot each sequence leaves its state in, `[batch]` i32; −1 or an absent tensor: nowhere. May equal `state_in`. Of two sequences
    /// that name one slot the first has it; that, a slot that another sequence starts from, and an index out of range are refused and counted.
    pub state_out: Option<Tensor<'a>>,
    /// Outputs `[tokens, heads, dim_v]`. Rows of skipped sequences and rows past the last sequence are left as they are.
    pub out: TensorMut<'a>,
    /// The status word, `[4]` u32, added to: refused pages, blocks, lengths and slots.
    pub status: Option<TensorMut<'a>>,
}

/// Tensors of [`LinearAttention::decode`]: one token of each of `batch` sequences.
#[derive(Debug)]
pub struct DecodeArgs<'a> {
    /// Queries `[batch, heads, dim_k]`, the operation's type.
    pub q: Tensor<'a>,
    /// Keys `[batch, heads, dim_k]`.
    pub k: Tensor<'a>,
    /// Values `[batch, heads, dim_v]`.
    pub v: Tensor<'a>,
    /// The log decay, f32: `[heads]` or `[batch, heads]` as [`Decay`] says; absent for [`Decay::None`].
    pub log_decay: Option<Tensor<'a>>,
    /// The pool of states, as in [`PrefillArgs::state`].
    pub state: TensorMut<'a>,
    /// As in [`PrefillArgs::state_in`].
    pub state_in: Option<Tensor<'a>>,
    /// As in [`PrefillArgs::state_out`].
    pub state_out: Option<Tensor<'a>>,
    /// Outputs `[batch, heads, dim_v]`.
    pub out: TensorMut<'a>,
    /// As in [`PrefillArgs::status`].
    pub status: Option<TensorMut<'a>>,
}

impl LinearAttention {
    /// Describes an operation on `heads` heads of `dim_k` key and `dim_v` value channels (64 or 128 each) in bf16 or f16.
    ///
    /// Without further calls: scale 1, [`Decay::PerHead`], [`StateLayout::Kv`].
    pub fn builder(dtype: DType, heads: usize, dim_k: usize, dim_v: usize) -> LinearAttentionBuilder {
        let (decay, state_layout) = (Decay::default(), StateLayout::default());
        LinearAttentionBuilder {
            shape: Shape {
                dtype,
                heads,
                dim_k,
                dim_v,
                scale: 1.0,
                decay,
                state_layout,
            },
        }
    }

    /// Bytes of workspace that a launch needs: none.
    pub fn workspace(&self) -> usize {
        0
    }

    /// Launches the chunked scan over whole sequences on `stream`.
    ///
    /// # Errors
    /// [`Error::Argument`] names the tensor that does not fit; nothing is launched then. On a host device, which has run the kernel by the
    /// time the call returns, also [`Error::Execution`].
    ///
    /// # Safety
    /// Until the launch has finished on `stream`, the memory behind every view must stay alive, inputs must not be written, and outputs,
    /// states and status not be touched, by anything that `stream` does not order.
    pub unsafe fn prefill(&self, kernels: &Kernels, stream: &Stream, args: PrefillArgs<'_>) -> Result<()> {
        let PrefillArgs {
            q,
            k,
            v,
            cu_seqlens,
            log_decay,
            state,
            state_in,
            state_out,
            out,
            status,
        } = args;
        let tokens = first_axis("q", &q)?;
        checks::dtype("cu_seqlens", &cu_seqlens, DType::I32)?;
        checks::rank("cu_seqlens", &cu_seqlens, 1)?;
        checks::last_axis_contiguous("cu_seqlens", &cu_seqlens)?;
        let batch = first_axis("cu_seqlens", &cu_seqlens)?
            .checked_sub(1)
            .ok_or_else(|| Error::argument("cu_seqlens", "shape [batch + 1]", "shape [0]"))?;
        let io = Io {
            rows: tokens,
            batch,
            q,
            k,
            v,
            cu_seqlens: Some(cu_seqlens),
            log_decay,
            state: state.as_ref(),
            state_in,
            state_out,
            out: &out,
            status: status.as_ref(),
        };
        let params = self.params(kernels, &io)?;
        if batch == 0 {
            return Ok(());
        }

        let Scan { kernel, tile } = self.scan(batch, kernels.device().multiprocessors() as usize);
        let grid = [(self.shape.dim_v / tile) as u32, self.shape.heads as u32, batch as u32];
        let threads = (tile / SCAN_WARP_ROWS * 32) as u32;
        // SAFETY: `params` describes views that were checked against this kernel's reads and writes; the caller keeps them alive and ordered.
        unsafe {
            kernels.launch(
                kernel,
                stream,
                grid,
                threads,
                scan_shared_memory(self.shape.dim_k, tile),
                &params,
            )
        }
    }

    /// Launches one step of every sequence on `stream`: the state decays, takes in the token, and is read by its query.
    ///
    /// # Errors
    /// As [`Self::prefill`].
    ///
    /// # Safety
    /// As [`Self::prefill`].
    pub unsafe fn decode(&self, kernels: &Kernels, stream: &Stream, args: DecodeArgs<'_>) -> Result<()> {
        let DecodeArgs {
            q,
            k,
            v,
            log_decay,
            state,
            state_in,
            state_out,
            out,
            status,
        } = args;
        let batch = first_axis("q", &q)?;
        let io = Io {
            rows: batch,
            batch,
            q,
            k,
            v,
            cu_seqlens: None,
            log_decay,
            state: Some(&state),
            state_in,
            state_out,
            out: &out,
            status: status.as_ref(),
        };
        let params = self.params(kernels, &io)?;
        if batch == 0 {
            return Ok(());
        }
        let grid = [
            (self.shape.dim_v / DECODE_COLUMNS) as u32,
            self.shape.heads as u32,
            batch as u32,
        ];
        let shared = decode_shared_memory(self.shape.dim_k);
        // SAFETY: as in `prefill`.
        unsafe { kernels.launch(self.decode, stream, grid, DECODE_THREADS, shared, &params) }
    }

    /// [`Self::prefill`] on the CPU, over host memory.
    ///
    /// # Errors
    /// As [`Self::prefill`]; `kernels` must have been loaded on a host device.
    pub fn prefill_host(&self, kernels: &Kernels, args: PrefillArgs<'_>) -> Result<()> {
        let stream = kernels.host_stream()?;
        // SAFETY: a host launch has finished when it returns, and the views borrow their memory until then.
        unsafe { self.prefill(kernels, &stream, args) }
    }

    /// [`Self::decode`] on the CPU, over host memory.
    ///
    /// # Errors
    /// As [`Self::decode`]; `kernels` must have been loaded on a host device.
    pub fn decode_host(&self, kernels: &Kernels, args: DecodeArgs<'_>) -> Result<()> {
        let stream = kernels.host_stream()?;
        // SAFETY: a host launch has finished when it returns, and the views borrow their memory until then.
        unsafe { self.decode(kernels, &stream, args) }
    }

    /// The scan whose blocks are widest while there is still one for every multiprocessor. The choice changes no bit of the result.
    fn scan(&self, batch: usize, multiprocessors: usize) -> Scan {
        let blocks = |scan: &Scan| batch * self.shape.heads * (self.shape.dim_v / scan.tile);
        let wide = self
            .wide_scans
            .iter()
            .flatten()
            .find(|scan| blocks(scan) >= multiprocessors);
        *wide.unwrap_or(&self.narrow_scan)
    }

    /// Checks everything but the shape of `cu_seqlens`, which only one of the kernels has.
    fn params(&self, kernels: &Kernels, io: &Io<'_, '_>) -> Result<sala_linear_attention_params> {
        let Shape {
            heads, dim_k, dim_v, ..
        } = self.shape;
        for (name, tensor, dim) in [
            ("q", &io.q, dim_k),
            ("k", &io.k, dim_k),
            ("v", &io.v, dim_v),
            ("out", &io.out.as_tensor(), dim_v),
        ] {
            checks::shape(name, tensor, &[io.rows, heads, dim])?;
            checks::rows(name, tensor, self.shape.dtype)?;
        }
        checks::batch("batch", io.batch)?;
        let (decay_token_stride, decay_head_stride) = self.check_decay(io)?;
        let slots = self.check_state(io)?;
        let status = io.status.map(TensorMut::as_tensor);
        checks::vector("status", status.as_ref(), DType::U32, &[4])?;
        checks::memory(
            kernels.device().place(),
            &[
                ("out", Some(io.out.as_tensor())),
                ("state", io.state.map(TensorMut::as_tensor)),
                ("status", status),
            ],
            &[
                ("q", Some(io.q)),
                ("k", Some(io.k)),
                ("v", Some(io.v)),
                ("cu_seqlens", io.cu_seqlens),
                ("log_decay", io.log_decay),
                ("state_in", io.state_in),
                ("state_out", io.state_out),
            ],
        )?;

        let stride = |tensor: &Tensor<'_>, axis: usize| tensor.stride(axis) as i64;
        let state = io.state.map(TensorMut::as_tensor);
        let state_stride = |axis: usize| state.as_ref().map_or(0, |state| stride(state, axis));
        let out = io.out.as_tensor();
        Ok(sala_linear_attention_params {
            q: io.q.address(),
            k: io.k.address(),
            v: io.v.address(),
            out: out.address(),
            cu_seqlens: checks::address(io.cu_seqlens.as_ref()),
            log_decay: checks::address(io.log_decay.as_ref()),
            state: checks::address(state.as_ref()),
            state_in: checks::address(io.state_in.as_ref()),
            state_out: checks::address(io.state_out.as_ref()),
            status: checks::address(status.as_ref()),
            q_token_stride: stride(&io.q, 0),
            q_head_stride: stride(&io.q, 1),
            k_token_stride: stride(&io.k, 0),
            k_head_stride: stride(&io.k, 1),
            v_token_stride: stride(&io.v, 0),
            v_head_stride: stride(&io.v, 1),
            out_token_stride: stride(&out, 0),
            out_head_stride: stride(&out, 1),
            decay_token_stride,
            decay_head_stride,
            state_slot_stride: state_stride(0),
            state_head_stride: state_stride(1),
            state_row_stride: state_stride(2),
            tokens: io.rows as i64,
            slots: slots as i64,
            batch: io.batch as i32,
            heads: heads as i32,
            decay: match self.shape.decay {
                Decay::None => params::SALA_DECAY_NONE,
                Decay::PerHead => params::SALA_DECAY_PER_HEAD,
                Decay::PerToken => params::SALA_DECAY_PER_TOKEN,
            } as i32,
            state_is_vk: i32::from(self.shape.state_layout == StateLayout::Vk),
            scale: self.shape.scale,
            reserved: 0,
        })
    }

    /// Returns the decay tensor's strides along tokens and heads.
    fn check_decay(&self, io: &Io<'_, '_>) -> Result<(i64, i64)> {
        let heads = self.shape.heads;
        let per_head = [heads];
        let per_token = [io.rows, heads];
        let shape: &[usize] = match (self.shape.decay, &io.log_decay) {
            (Decay::None, None) => return Ok((0, 0)),
            (Decay::None, Some(_)) => {
                return Err(Error::argument(
                    "log_decay",
                    "no tensor (the operation has no decay)",
                    "a tensor",
                ));
            }
            (Decay::PerHead, _) => &per_head,
            (Decay::PerToken, _) => &per_token,
        };
        let Some(decay) = &io.log_decay else {
            return Err(Error::argument(
                "log_decay",
                format_args!("a tensor of shape {shape:?}"),
                "none",
            ));
        };
        checks::dtype("log_decay", decay, DType::F32)?;
        checks::shape("log_decay", decay, shape)?;
        Ok(match self.shape.decay {
            Decay::PerToken => (decay.stride(0) as i64, decay.stride(1) as i64),
            _ => (0, decay.stride(0) as i64),
        })
    }

    /// Returns the number of slots of the pool.
    fn check_state(&self, io: &Io<'_, '_>) -> Result<usize> {
        for (name, indices) in [("state_in", &io.state_in), ("state_out", &io.state_out)] {
            let Some(indices) = indices else { continue };
            checks::dtype(name, indices, DType::I32)?;
            checks::shape(name, indices, &[io.batch])?;
            checks::last_axis_contiguous(name, indices)?;
            if io.state.is_none() {
                return Err(Error::argument(
                    "state",
                    format_args!("a pool of states for {name}"),
                    "none",
                ));
            }
        }
        let Some(state) = io.state.map(TensorMut::as_tensor) else {
            return Ok(0);
        };
        let Shape {
            heads,
            dim_k,
            dim_v,
            state_layout,
            ..
        } = self.shape;
        let (rows, columns) = match state_layout {
            StateLayout::Kv => (dim_k, dim_v),
            StateLayout::Vk => (dim_v, dim_k),
        };
        let slots = first_axis("state", &state)?;
        checks::shape("state", &state, &[slots, heads, rows, columns])?;
        checks::rows("state", &state, DType::F32)?;
        Ok(slots)
    }
}

impl LinearAttentionBuilder {
    /// The factor of every output, mostly `1/√dim_k`. Any finite number.
    pub fn scale(mut self, scale: f32) -> Self {
        self.shape.scale = scale;
        self
    }

    /// How the decay varies.
    pub fn decay(mut self, decay: Decay) -> Self {
        self.shape.decay = decay;
        self
    }

    /// The order of a state's axes.
    pub fn state_layout(mut self, layout: StateLayout) -> Self {
        self.shape.state_layout = layout;
        self
    }

    /// Checks the description.
    ///
    /// # Errors
    /// [`Error::Argument`] names what is out of range.
    pub fn build(self) -> Result<LinearAttention> {
        let Shape {
            dtype,
            heads,
            dim_k,
            dim_v,
            scale,
            ..
        } = self.shape;
        checks::operand_type(dtype)?;
        checks::heads("heads", heads)?;
        let key_dim = checks::dim("dim_k", dim_k)?;
        checks::dim("dim_v", dim_v)?;
        checks::finite("scale", scale)?;
        let element = dtype.name();
        let scan = |tile| {
            let kernel = KernelId::find("linear_attention_scan", &[element, key_dim, tile_name(tile)])?;
            Ok(Scan { kernel, tile })
        };
        Ok(LinearAttention {
            shape: self.shape,
            narrow_scan: scan(NARROW_TILE)?,
            wide_scans: WIDE_TILES.map(|tile| {
                if tile <= dim_k.min(dim_v) {
                    scan(tile).ok()
                } else {
                    None
                }
            }),
            decode: KernelId::find("linear_attention_decode", &[element, key_dim])?,
        })
    }
}

/// The log decays of Lightning attention for heads `first_head..first_head + heads` of `total_heads`: `−slope`, with the slopes of ALiBi
/// (Press et al. 2021, section 3): `2^(−8(h+1)/H)` for H a power of two, else those of the power of two below, followed by every other one
/// of the power of two above. They do not depend on the layer.
pub fn lightning_log_decay(first_head: usize, heads: usize, total_heads: usize) -> Vec<f32> {
    let geometric = |head: usize, of: usize| -(-8.0 * (head + 1) as f64 / of as f64).exp2();
    let below = if total_heads.is_power_of_two() {
        total_heads
    } else {
        total_heads.next_power_of_two() / 2
    };
    let slope = |head: usize| {
        if head < below {
            geometric(head, below)
        } else {
            geometric(2 * (head - below), 2 * below)
        }
    };
    (first_head..first_head.saturating_add(heads))
        .map(|head| slope(head) as f32)
        .collect()
}

/// The tensors that both kernels have.
struct Io<'a, 'b> {
    /// First axis of q, k, v and out.
    rows: usize,
    batch: usize,
    q: Tensor<'a>,
    k: Tensor<'a>,
    v: Tensor<'a>,
    /// Of the scan.
    cu_seqlens: Option<Tensor<'a>>,
    log_decay: Option<Tensor<'a>>,
    state: Option<&'b TensorMut<'a>>,
    state_in: Option<Tensor<'a>>,
    state_out: Option<Tensor<'a>>,
    out: &'b TensorMut<'a>,
    status: Option<&'b TensorMut<'a>>,
}

fn first_axis(argument: &'static str, tensor: &Tensor<'_>) -> Result<usize> {
    let length = tensor.shape().first().copied().unwrap_or(0);
    checks::fits_i32(argument, length)?;
    Ok(length)
}

fn tile_name(dim: usize) -> &'static str {
    match dim {
        32 => "32",
        64 => "64",
        _ => "128",
    }
}

/// `sizeof(ScanPlan<dim_k, tile>)`: two stages of Q and K, V, P, two decay tables, the scales of P. The kernel asserts the same sum.
const fn scan_shared_memory(dim_k: usize, tile: usize) -> u32 {
    (2 * CHUNK * dim_k * 2 * 2 + CHUNK * tile * 2 + CHUNK * CHUNK * 2 + 2 * (4 * CHUNK + 2) * 4 + 2 * CHUNK * 8) as u32
}

/// `sizeof(DecodePlan<dim_k>)`: q, k and v in f32, and a partial sum a warp and column. The kernel asserts the same sum.
const fn decode_shared_memory(dim_k: usize) -> u32 {
    (4 * (2 * dim_k + DECODE_COLUMNS + DECODE_THREADS as usize / 32 * DECODE_COLUMNS)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lightning_slopes_follow_alibi() {
        let eight = lightning_log_decay(0, 8, 8);
        assert_eq!(
            eight,
            [
                -0.5,
                -0.25,
                -0.125,
                -0.0625,
                -0.031_25,
                -0.015_625,
                -0.007_812_5,
                -0.003_906_25
            ]
        );
        let six = lightning_log_decay(0, 6, 6);
        assert_eq!(six, [-0.25, -0.0625, -0.015_625, -0.003_906_25, -0.5, -0.125]);
        assert_eq!(lightning_log_decay(2, 3, 6), six[2..5]);
    }

    #[test]
    fn tiles_narrow_until_every_multiprocessor_has_a_block() {
        let op = LinearAttention::builder(DType::Bf16, 32, 128, 128).build().unwrap();
        let tile = |batch, multiprocessors| op.scan(batch, multiprocessors).tile;
        assert_eq!(
            [
                tile(1, 1),
                tile(1, 32),
                tile(1, 33),
                tile(1, 64),
                tile(1, 132),
                tile(5, 132)
            ],
            [128, 128, 64, 64, 32, 128]
        );
        let narrow = LinearAttention::builder(DType::F16, 4, 64, 128).build().unwrap();
        assert_eq!(narrow.scan(1, 1).tile, 64, "a tile wider than dim_k has no kernel");
    }

    #[test]
    fn blocks_fit_every_base_architecture() {
        for dim_k in [64, 128] {
            for tile in [NARROW_TILE].into_iter().chain(WIDE_TILES) {
                assert!(tile > dim_k || scan_shared_memory(dim_k, tile) <= 99 * 1024);
            }
        }
    }

    #[test]
    fn impossible_descriptions_are_refused() {
        let refused = |builder: LinearAttentionBuilder| match builder.build() {
            Err(Error::Argument { argument, .. }) => argument,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(LinearAttention::builder(DType::F32, 1, 64, 64)), "dtype");
        assert_eq!(refused(LinearAttention::builder(DType::F16, 0, 64, 64)), "heads");
        assert_eq!(refused(LinearAttention::builder(DType::F16, 1, 32, 64)), "dim_k");
        assert_eq!(refused(LinearAttention::builder(DType::F16, 1, 64, 256)), "dim_v");
        assert_eq!(
            refused(LinearAttention::builder(DType::F16, 1, 64, 64).scale(f32::NAN)),
            "scale"
        );
    }
}
