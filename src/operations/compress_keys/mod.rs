//! Key compression.

pub mod reference;

use super::sparse_layer::Config;
use super::{CompressedStore, Keys, SparseLayer};
use crate::launch::{Arguments, Kernels, Variant, Views, checks};
use crate::sys::params::{
    SALA_COMPRESS_HALO_SPANS, SALA_COMPRESS_OPEN_SPANS, SALA_COMPRESS_THREADS, SALA_COMPRESS_TILE_SPANS,
    sala_compress_keys_params,
};
use crate::{DType, Result, Stream, Tensor, TensorMut};

/// Key compression: means of a sequence's keys over sliding windows, the rows that block selection scores instead of the keys.
///
/// ```text
/// C[c] = mean(K[c·stride .. c·stride + size − 1])      K1: size B/2, stride B/4      K2: size 2·B, stride B      B: the block size
/// ```
///
/// per sequence and kv head, full windows only, as in InfLLM-V2 (Zhao et al. 2025). A call reads the raw keys and writes the rows that they
/// complete; there is no other state, so a sequence is rolled back by giving a smaller length next time. Rows have the same bits however
/// their tokens arrived. [`crate::reference::compress_keys`] is the definition.
///
/// Where rows lie, and what is refused: [`semantics`](crate::semantics#compress_keys).
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) names a view that is not as its field says: `k1` or `k2` with too few rows, with other caches or pages than `k`, or
/// with pages of another number of rows; `compressed` where it is needed, because a page is smaller than a block.
///
/// # Example
/// 128 keys, the numbers of their tokens: a row of K1 is a mean of 32 of them, one of K2 of all.
///
/// ```
/// use half::bf16;
/// use sala_kernels::{AttentionShape, CompressKeysArgs, DType, Device, Kernels, Keys, SparseLayer, Tensor, TensorMut};
/// let kernels = Kernels::load(&Device::host())?;
/// let shape = AttentionShape { heads_q: 1, heads_kv: 1, dim: 64 };
/// let layer = SparseLayer::builder(DType::Bf16, shape, 0).build()?;
/// let k: Vec<_> = (0..128 * 64).map(|i| bf16::from_f32((i / 64) as f32)).collect();
/// let (mut k1, mut k2) = (vec![bf16::ZERO; layer.k1_rows(128) * 64], vec![bf16::ZERO; layer.k2_rows(128) * 64]);
/// let args = CompressKeysArgs::new(
///     Tensor::from_slice(&k, &[1, 128, 1, 64])?,
///     Keys::cached(Tensor::from_slice(&[128], &[1])?),
///     TensorMut::from_slice(&mut k1, &[1, 8, 1, 64])?,
///     TensorMut::from_slice(&mut k2, &[1, 2, 1, 64])?,
/// );
/// kernels.run(&layer, args)?;
/// assert_eq!([k1[0], k1[64], k2[0]].map(f32::from), [15.5, 31.5, 63.5]);
/// # Ok::<(), sala_kernels::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct CompressKeysArgs<'a> {
    /// Keys `[total_k, heads_kv, dim]`, caches `[caches, capacity, heads_kv, dim]` or pages `[pages, page_size, heads_kv, dim]`, as `keys` says;
    /// the layer's type.
    pub k: Tensor<'a>,
    /// How many keys each sequence has, those of this call included.
    pub keys: Keys<'a>,
    /// K1, of at least [`SparseLayer::k1_rows`] rows: `[rows, heads_kv, dim]`, where a sequence's rows begin at its first token divided by the
    /// stride, or for caches `[caches, rows, heads_kv, dim]`. In pages of at least a block of keys `[pages, page_size / stride, heads_kv, dim]`: a
    /// row lies in the page of its window's last token. Rows without a full window are left as they are, and so are those of which a page of
    /// the window is bad.
    pub k1: TensorMut<'a>,
    /// K2, likewise of at least [`SparseLayer::k2_rows`] rows.
    pub k2: TensorMut<'a>,
    /// Where K1 and K2 lie, if not as the keys do.
    pub compressed: Option<CompressedStore<'a>>,
    /// The keys of each sequence that earlier calls have compressed, `[batch]` i32. Absent: none. Rows that they completed are left alone.
    pub seqlens_old: Option<Tensor<'a>>,
    /// No sequence has more keys than this. Absent: what `k` has room for.
    pub max_seqlen_k: Option<usize>,
    /// No sequence has more new keys than this. Sizes the grid. Absent: `max_seqlen_k`.
    pub max_new: Option<usize>,
    /// See [`Status`](crate::Status).
    pub status: Option<TensorMut<'a>>,
}

impl<'a> CompressKeysArgs<'a> {
    /// The compression of all keys.
    pub fn new(k: Tensor<'a>, keys: Keys<'a>, k1: TensorMut<'a>, k2: TensorMut<'a>) -> Self {
        Self {
            k,
            keys,
            k1,
            k2,
            compressed: None,
            seqlens_old: None,
            max_seqlen_k: None,
            max_new: None,
            status: None,
        }
    }
}

/// The kernel of a layer.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    variants: Vec<Variant<sala_compress_keys_params>>,
}

impl Plan {
    pub(super) fn new(config: &Config) -> Result<Self> {
        const KERNEL: &str = "compress_keys";
        let dim = checks::compiled_for("dim", KERNEL, "dim", config.shape.dim)?;
        // `sizeof(CompressPlan<dim>)`: the sums of a block's spans in f32.
        let shared = (SALA_COMPRESS_TILE_SPANS + SALA_COMPRESS_HALO_SPANS) as usize * config.shape.dim * 4;
        let threads = SALA_COMPRESS_THREADS as usize;
        let variant = Variant::base(KERNEL, Some(config.dtype), &[dim], threads, shared, ())?;
        Ok(Self {
            variants: vec![variant],
        })
    }
}

// SAFETY: every view is named, and the parameters are made of nothing else.
unsafe impl Arguments for CompressKeysArgs<'_> {
    type Operation = SparseLayer;

    fn views(&self) -> Views<'_> {
        let Self {
            k,
            keys,
            k1,
            k2,
            compressed,
            seqlens_old,
            max_seqlen_k: _,
            max_new: _,
            status,
        } = self;
        Views::new()
            .read("k", *k)
            .keys(keys)
            .compressed(compressed)
            .written("k1", k1)
            .written("k2", k2)
            .read("seqlens_old", *seqlens_old)
            .written("status", status)
    }

    unsafe fn queue(self, layer: &SparseLayer, kernels: &Kernels, stream: &Stream) -> Result<()> {
        let heads_kv = layer.config.shape.heads_kv;
        let batch = self.keys.batch()?;
        let params = self.params(layer, batch)?;
        let spans = (params.max_new as usize).div_ceil(params.stride as usize) + SALA_COMPRESS_OPEN_SPANS as usize;
        let grid = [spans.div_ceil(SALA_COMPRESS_TILE_SPANS as usize), heads_kv, batch];
        let variant = kernels.pick(&layer.plans.compress.variants, |()| true)?;
        // SAFETY: the parameters describe the views, which were checked against the kernel's reads and writes; the rest is the caller's promise.
        unsafe { kernels.queue(stream, variant, grid, &params) }
    }
}

impl CompressKeysArgs<'_> {
    fn params(&self, layer: &SparseLayer, batch: usize) -> Result<sala_compress_keys_params> {
        let Config { dtype, shape, .. } = layer.config;
        let heads = [shape.heads_kv, shape.dim];
        let k = self.keys.rows("k", &self.k, dtype, batch, heads)?;
        let keys = self.keys.params(batch, k.room(), self.max_seqlen_k)?;
        let compressed = |name, tensor: &TensorMut<'_>, stride: usize| {
            let tensor = tensor.as_tensor();
            let rows = self
                .keys
                .compressed_rows(name, &tensor, &self.compressed, dtype, batch, heads)?;
            match self.compressed {
                Some(_) => rows.has_room_for(name, (keys.max_seqlen as usize / stride).saturating_sub(1))?,
                None if k.is_paged() => {
                    rows.fits_pages(name, k.page_size(), layer.config.block_size, stride)?;
                    rows.has_stores_of(name, &k, "k")?;
                }
                None => {
                    rows.has_room_for(name, k.room().capacity / stride)?;
                    rows.has_stores_of(name, &k, "k")?;
                }
            }
            Ok(rows)
        };
        let k1 = compressed("k1", &self.k1, layer.config.k1_stride())?;
        let k2 = compressed("k2", &self.k2, layer.config.k2_stride())?;
        Ok(sala_compress_keys_params {
            keys,
            k: k.rows,
            k1: k1.rows,
            k2: k2.rows,
            seqlens_old: checks::optional(self.seqlens_old, |old| {
                checks::list("seqlens_old", old, DType::I32, batch)
            })?,
            status: checks::status(self.status.as_ref())?,
            max_new: self
                .max_new
                .map_or(keys.max_seqlen, checks::saturate)
                .min(keys.max_seqlen),
            stride: layer.config.k1_stride() as i32,
        })
    }
}
