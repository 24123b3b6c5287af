//! Key compression: means of keys over sliding windows, the rows that [`SelectBlocks`](crate::SelectBlocks) scores instead of the keys.
//!
//! ```text
//! C[c] = mean(K[c·stride .. c·stride + size − 1])      K1: size B/2, stride B/4      K2: size 2·B, stride B      B: the block size
//! ```
//!
//! per sequence and kv head, full windows only, as in InfLLM-V2 (Zhao et al. 2025). A call reads the raw keys and writes the rows that they
//! complete; there is no other state, so a sequence is rolled back by giving a smaller length next time. Rows have the same bits however
//! their tokens arrived. [`crate::reference::compress_keys`] is the definition.

use crate::checks;
use crate::kernels::KernelId;
use crate::sequences::{KeyLengths, KeyRows, saturate};
use crate::sys::params::sala_compress_keys_params;
use crate::{DType, Error, Kernels, Result, Stream, Tensor, TensorMut};

/// Threads of a block.
const THREADS: u32 = 256;
/// Groups of `stride` tokens that a block sums for rows of its own, and those past them that its last row of K2 needs.
const TILE: usize = 64;
const HALO: usize = 4;
/// Before its new tokens a call reads at most this many groups, those of unfinished windows.
const OPEN_GROUPS: usize = 7;

/// A key-compression operation: shapes, checked once.
///
/// ```
/// use sala_kernels::{CompressKeys, DType};
/// let op = CompressKeys::builder(DType::Bf16, 2, 128).build()?;
/// assert_eq!((op.k1_rows(8192), op.k2_rows(8192)), (512, 128));
/// # Ok::<(), sala_kernels::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct CompressKeys {
    shape: Shape,
    kernel: KernelId,
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    dtype: DType,
    heads_kv: usize,
    dim: usize,
    block_size: usize,
}

/// Describes a [`CompressKeys`].
#[derive(Debug, Clone)]
#[must_use = "call `build` to get the operation"]
pub struct CompressKeysBuilder {
    shape: Shape,
}

/// Tensors of [`CompressKeys::launch`].
#[derive(Debug)]
pub struct CompressKeysArgs<'a> {
    /// Keys `[total_k, heads_kv, dim]`, or caches `[batch, capacity, heads_kv, dim]`, as `keys` says; the operation's type.
    pub k: Tensor<'a>,
    /// How many keys each sequence has, those of this call included.
    pub keys: KeyLengths<'a>,
    /// The keys of each sequence that earlier calls have compressed, `[batch]` i32. Absent: none. Rows that they completed are left alone.
    pub seqlens_old: Option<Tensor<'a>>,
    /// No sequence has more keys than this. Absent: what `k` has room for.
    pub max_seqlen_k: Option<usize>,
    /// No sequence has more new keys than this. Sizes the grid. Absent: `max_seqlen_k`.
    pub max_new: Option<usize>,
    /// K1, of at least [`CompressKeys::k1_rows`] rows: `[rows, heads_kv, dim]`, where a sequence's rows begin at its first token divided by the
    /// stride, or for caches `[batch, rows, heads_kv, dim]`. Rows without a full window are left as they are.
    pub k1: TensorMut<'a>,
    /// K2, likewise of at least [`CompressKeys::k2_rows`] rows.
    pub k2: TensorMut<'a>,
    /// The status word, `[4]` u32, added to: refused pages, blocks, lengths and slots.
    pub status: Option<TensorMut<'a>>,
}

impl CompressKeys {
    /// Describes an operation on `heads_kv` heads of `dim` channels (64 or 128) in bf16 or f16. Without further calls, blocks have 64 tokens.
    pub fn builder(dtype: DType, heads_kv: usize, dim: usize) -> CompressKeysBuilder {
        CompressKeysBuilder {
            shape: Shape {
                dtype,
                heads_kv,
                dim,
                block_size: 64,
            },
        }
    }

    /// Rows of K1 for `tokens` keys: of all packed sequences together, or of one cache.
    pub fn k1_rows(&self, tokens: usize) -> usize {
        tokens / (self.shape.block_size / 4)
    }

    /// Rows of K2 for `tokens` keys.
    pub fn k2_rows(&self, tokens: usize) -> usize {
        tokens / self.shape.block_size
    }

    /// Bytes of workspace that a launch needs: none.
    pub fn workspace(&self) -> usize {
        0
    }

    /// Launches the compression of every sequence's new keys on `stream`.
    ///
    /// # Errors
    /// [`Error::Argument`] names the tensor that does not fit; nothing is launched then. On a host device, which has run the kernel by the
    /// time the call returns, also [`Error::Execution`].
    ///
    /// # Safety
    /// Until the launch has finished on `stream`, the memory behind every view must stay alive, inputs must not be written, and outputs and
    /// status not be touched, by anything that `stream` does not order.
    pub unsafe fn launch(&self, kernels: &Kernels, stream: &Stream, args: CompressKeysArgs<'_>) -> Result<()> {
        let params = self.params(kernels, &args)?;
        let groups = (params.max_new as usize).div_ceil(params.stride as usize) + OPEN_GROUPS;
        let batch = args.keys.batch()?;
        let grid = [groups.div_ceil(TILE) as u32, self.shape.heads_kv as u32, batch as u32];
        // SAFETY: `params` describes views that were checked against this kernel's reads and writes; the caller keeps them alive and ordered.
        unsafe {
            kernels.launch(
                self.kernel,
                stream,
                grid,
                THREADS,
                shared_memory(self.shape.dim),
                &params,
            )
        }
    }

    /// [`Self::launch`] on the CPU, over host memory.
    ///
    /// # Errors
    /// As [`Self::launch`]; `kernels` must have been loaded on a host device.
    pub fn launch_host(&self, kernels: &Kernels, args: CompressKeysArgs<'_>) -> Result<()> {
        let stream = kernels.host_stream()?;
        // SAFETY: a host launch has finished when it returns, and the views borrow their memory until then.
        unsafe { self.launch(kernels, &stream, args) }
    }

    fn params(&self, kernels: &Kernels, args: &CompressKeysArgs<'_>) -> Result<sala_compress_keys_params> {
        let Shape {
            dtype,
            heads_kv,
            dim,
            block_size,
        } = self.shape;
        let (k1, k2) = (args.k1.as_tensor(), args.k2.as_tensor());
        let status = args.status.as_ref().map(TensorMut::as_tensor);
        let batch = args.keys.batch()?;
        checks::batch("keys", batch)?;
        let rows = |name, tensor: &Tensor<'_>, needed: usize| -> Result<KeyRows> {
            checks::rows(name, tensor, dtype)?;
            let rows = args.keys.key_rows(name, tensor, batch, heads_kv, dim)?;
            if rows.rows < needed {
                return Err(Error::argument(name, format_args!("at least {needed} rows"), rows.rows));
            }
            Ok(rows)
        };
        let k_rows = rows("k", &args.k, 0)?;
        let k1_rows = rows("k1", &k1, self.k1_rows(k_rows.rows))?;
        let k2_rows = rows("k2", &k2, self.k2_rows(k_rows.rows))?;
        let (lengths_name, lengths) = args.keys.view();
        checks::vector(lengths_name, Some(&lengths), DType::I32, lengths.shape())?;
        checks::vector("seqlens_old", args.seqlens_old.as_ref(), DType::I32, &[batch])?;
        checks::vector("status", status.as_ref(), DType::U32, &[4])?;
        checks::memory(
            kernels.device().place(),
            &[("k1", Some(k1)), ("k2", Some(k2)), ("status", status)],
            &[
                ("k", Some(args.k)),
                (lengths_name, Some(lengths)),
                ("seqlens_old", args.seqlens_old),
            ],
        )?;

        let max_seqlen_k = args.max_seqlen_k.unwrap_or(k_rows.rows).min(k_rows.rows);
        let max_new = args.max_new.unwrap_or(max_seqlen_k).min(max_seqlen_k);
        let (cu_seqlens_k, seqlens_k) = args.keys.addresses();
        Ok(sala_compress_keys_params {
            k: args.k.address(),
            k1: k1.address(),
            k2: k2.address(),
            cu_seqlens_k,
            seqlens_k,
            seqlens_old: checks::address(args.seqlens_old.as_ref()),
            status: checks::address(status.as_ref()),
            k_batch_stride: k_rows.batch_stride,
            k_token_stride: k_rows.row_stride,
            k_head_stride: k_rows.head_stride,
            k1_batch_stride: k1_rows.batch_stride,
            k1_row_stride: k1_rows.row_stride,
            k1_head_stride: k1_rows.head_stride,
            k2_batch_stride: k2_rows.batch_stride,
            k2_row_stride: k2_rows.row_stride,
            k2_head_stride: k2_rows.head_stride,
            capacity_k: k_rows.rows as i64,
            max_seqlen_k: saturate(max_seqlen_k),
            max_new: saturate(max_new),
            stride: (block_size / 4) as i32,
            reserved: 0,
        })
    }
}

impl CompressKeysBuilder {
    /// Tokens of a block: 32, 64 or 128.
    pub fn block_size(mut self, tokens: usize) -> Self {
        self.shape.block_size = tokens;
        self
    }

    /// Checks the description.
    ///
    /// # Errors
    /// [`Error::Argument`] names what is out of range.
    pub fn build(self) -> Result<CompressKeys> {
        let Shape {
            dtype,
            heads_kv,
            dim,
            block_size,
        } = self.shape;
        checks::operand_type(dtype)?;
        checks::heads("heads_kv", heads_kv)?;
        let channels = checks::dim("dim", dim)?;
        checks::block_size(block_size)?;
        let kernel = KernelId::find("compress_keys", &[dtype.name(), channels])?;
        Ok(CompressKeys {
            shape: self.shape,
            kernel,
        })
    }
}

/// `sizeof(CompressPlan<dim>)`: the sums of a block in f32.
const fn shared_memory(dim: usize) -> u32 {
    ((TILE + HALO) * dim * 4) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_descriptions_are_refused() {
        let refused = |builder: CompressKeysBuilder| match builder.build() {
            Err(Error::Argument { argument, .. }) => argument,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(CompressKeys::builder(DType::I32, 1, 64)), "dtype");
        assert_eq!(refused(CompressKeys::builder(DType::F16, 0, 64)), "heads_kv");
        assert_eq!(refused(CompressKeys::builder(DType::F16, 1, 32)), "dim");
        assert_eq!(
            refused(CompressKeys::builder(DType::F16, 1, 64).block_size(48)),
            "block_size"
        );
    }
}
