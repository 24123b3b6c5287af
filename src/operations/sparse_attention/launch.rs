//! What both kinds of attention launch: the kernels, their geometry and their parameters.

use super::{Entry, decode};
use crate::launch::{Kernels, Variant, Views, checks};
use crate::operations::keys::KeyRows;
use crate::operations::sparse_layer::Config;
use crate::operations::{Sequences, SparseLayer, SwitchLen};
use crate::shapes::Machine;
use crate::sys::params::{
    SALA_ATTENTION_BARRIER_BYTES, SALA_ATTENTION_LIST_BYTES, SALA_ATTENTION_MAX_STAGES, SALA_ATTENTION_MIN_STAGES,
    SALA_ATTENTION_STEP, SALA_ATTENTION_WARP_ROWS, SALA_ATTENTION_WARPS, SALA_DENSE_ROWS, SALA_DENSE_SCRATCH_BYTES,
    SALA_DENSE_STAGES, SALA_DENSE_WARPS, SALA_GROUP_ATTENTION_SHARED_BYTES, SALA_GROUP_ATTENTION_WARPS,
    SALA_GROUP_DENSE_SHARED_BYTES, SALA_WIDE_DENSE_ROWS, SALA_WIDE_DENSE_SCRATCH_BYTES, sala_rows, sala_sequences,
    sala_sparse_attention_decode_params, sala_sparse_attention_group_params, sala_sparse_attention_params, sala_trees,
};
use crate::{DType, Error, Result, Stream, Tensor, TensorMut};

/// The kernels of a layer, and how they cut their work.
#[derive(Debug, Clone)]
pub(in crate::operations) struct Plan {
    tiling: Tiling,
    /// By warpgroups, where the device has them.
    hopper: Hopper,
    /// By stages of the ring of keys and values, the most first.
    pub(super) listed: Vec<Variant<sala_sparse_attention_params, i32>>,
    pub(super) dense: Vec<Variant<sala_sparse_attention_params, DenseTile>>,
    pub(super) decode: decode::Plan,
}

/// How the rows of a group (one query head of one token each) are dealt to the warps of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tiling {
    tokens_per_warp: usize,
    pub(super) warps_per_token: usize,
    tile_tokens: usize,
}

impl Tiling {
    fn of(group: usize) -> Self {
        let rows = SALA_ATTENTION_WARP_ROWS as usize;
        let tokens_per_warp = (rows / group).max(1);
        let warps_per_token = group.div_ceil(rows);
        Self {
            tokens_per_warp,
            warps_per_token,
            tile_tokens: SALA_ATTENTION_WARPS as usize / warps_per_token * tokens_per_warp,
        }
    }
}

/// The tile of a block of dense prefill.
#[derive(Debug, Clone, Copy)]
pub(super) struct DenseTile {
    /// Its query tokens, whose rows are dealt to warps one after the other.
    tokens: usize,
    /// It is for calls that give every multiprocessor one. Every tile gives the same bits.
    is_wide: bool,
}

impl DenseTile {
    /// Blocks of a call.
    fn grid(&self, config: &Config, sequences: &sala_sequences) -> [usize; 3] {
        let tiles = (sequences.max_seqlen_q as usize).div_ceil(self.tokens);
        [tiles, config.shape.heads_kv, sequences.batch as usize]
    }

    /// Whether all multiprocessors get a block of the grid if they have to.
    fn suits(&self, grid: [usize; 3], multiprocessors: u32) -> bool {
        let blocks = grid.into_iter().fold(1, usize::saturating_mul);
        !self.is_wide || blocks >= multiprocessors as usize
    }
}

/// The kernels of a plan for warpgroups.
#[derive(Debug, Clone)]
struct Hopper {
    listed: Variant<sala_sparse_attention_group_params>,
    dense: Variant<sala_sparse_attention_group_params, DenseTile>,
}

impl Plan {
    pub(in crate::operations) fn new(config: &Config) -> Result<Self> {
        let dim = checks::compiled_for("dim", "sparse_attention", "dim", config.shape.dim)?;
        let element = Some(config.dtype);
        let row = config.shape.dim * 2;
        // Keys and values of a step.
        let stage = 2 * SALA_ATTENTION_STEP as usize * row;
        let listed = |stages: u32| {
            let threads = SALA_ATTENTION_WARPS as usize * 32;
            let stage = stage + SALA_ATTENTION_BARRIER_BYTES as usize;
            let shared = SALA_ATTENTION_LIST_BYTES as usize + stages as usize * stage;
            Variant::base("sparse_attention", element, &[dim], threads, shared, stages as i32)
        };
        let tile = |rows: u32, is_wide| DenseTile {
            tokens: rows as usize / config.group(),
            is_wide,
        };
        let dense = |file, other: usize, tile| {
            let threads = SALA_DENSE_WARPS as usize * 32;
            let shared = SALA_DENSE_STAGES as usize * stage + other;
            Variant::base(file, element, &[dim], threads, shared, tile)
        };
        let queries = SALA_WIDE_DENSE_ROWS as usize * row;
        let [wide, narrow] = [
            SALA_WIDE_DENSE_SCRATCH_BYTES as usize + queries,
            SALA_DENSE_SCRATCH_BYTES as usize,
        ];
        Ok(Self {
            tiling: Tiling::of(config.group()),
            hopper: Hopper {
                listed: by_warpgroups("sparse_attention", config, dim, SALA_GROUP_ATTENTION_SHARED_BYTES, ())?,
                dense: by_warpgroups(
                    "dense_attention",
                    config,
                    dim,
                    SALA_GROUP_DENSE_SHARED_BYTES,
                    tile(SALA_DENSE_ROWS, false),
                )?,
            },
            listed: (SALA_ATTENTION_MIN_STAGES..=SALA_ATTENTION_MAX_STAGES)
                .rev()
                .map(listed)
                .collect::<Result<_>>()?,
            dense: vec![
                dense("dense_attention_wide", wide, tile(SALA_WIDE_DENSE_ROWS, true))?,
                dense("dense_attention", narrow, tile(SALA_DENSE_ROWS, false))?,
            ],
            decode: decode::Plan::new(config, dim)?,
        })
    }
}

fn by_warpgroups<T>(
    file: &str,
    config: &Config,
    dim: u32,
    shared: u32,
    tile: T,
) -> Result<Variant<sala_sparse_attention_group_params, T>> {
    let threads = SALA_GROUP_ATTENTION_WARPS as usize * 32;
    Variant::of(
        Machine::Sm90a,
        file,
        Some(config.dtype),
        &[dim],
        threads,
        shared as usize,
        tile,
    )
}

/// A call over lists or over all keys.
pub(super) struct Call<'a> {
    pub(super) q: Tensor<'a>,
    pub(super) k: Tensor<'a>,
    pub(super) v: Tensor<'a>,
    pub(super) sequences: Sequences<'a>,
    /// Absent: every sequence is attended densely.
    pub(super) lists: Option<Lists<'a>>,
    pub(super) out: &'a TensorMut<'a>,
    pub(super) entry: Entry,
    pub(super) parent: Option<Tensor<'a>>,
    /// Of a call without lists.
    pub(super) first_key: Option<Tensor<'a>>,
    pub(super) scale_factor: Option<Tensor<'a>>,
    pub(super) gate: Option<Tensor<'a>>,
    pub(super) lse: Option<&'a TensorMut<'a>>,
    pub(super) workspace: Option<&'a TensorMut<'a>>,
    pub(super) status: Option<&'a TensorMut<'a>>,
}

/// What only a call over lists has.
pub(super) struct Lists<'a> {
    pub(super) block_indices: Tensor<'a>,
    pub(super) switch_len: Option<SwitchLen<'a>>,
}

impl<'a> Call<'a> {
    pub(super) fn views(&self) -> Views<'a> {
        let Self {
            q,
            k,
            v,
            sequences,
            lists,
            out,
            entry: _,
            parent,
            first_key,
            scale_factor,
            gate,
            lse,
            workspace,
            status,
        } = self;
        let views = Views::new()
            .read("q", *q)
            .read("k", *k)
            .read("v", *v)
            .sequences(sequences);
        let views = match lists {
            None => views,
            Some(Lists {
                block_indices,
                switch_len,
            }) => views.read("block_indices", *block_indices).switch_len(switch_len),
        };
        views
            .written("out", *out)
            .read("parent", *parent)
            .read("first_key", *first_key)
            .read("scale_factor", *scale_factor)
            .read("gate", *gate)
            .written("lse", *lse)
            .written("workspace", *workspace)
            .written("status", *status)
    }

    /// # Safety
    /// As [`Kernels::launch`].
    pub(super) unsafe fn queue(self, layer: &SparseLayer, kernels: &Kernels, stream: &Stream) -> Result<()> {
        let (config, plan) = (&layer.config, &layer.plans.attend);
        let (params, [k, v]) = self.params(config, plan.tiling)?;
        let trees = sala_trees::of(self.parent, self.entry, &params.sequences)?;
        // SAFETY: the parameters describe the views, which were checked against the kernels' reads and writes; the rest is the caller's promise.
        unsafe {
            match self.entry {
                Entry::Decode => {
                    let (decode, tiling) = (&plan.decode, plan.tiling);
                    let params = sala_sparse_attention_decode_params {
                        attention: params,
                        trees,
                        ..Default::default()
                    };
                    decode.queue(kernels, stream, config, tiling, params, self.workspace)
                }
                Entry::Prefill if self.lists.is_some() => {
                    let tiles = (params.sequences.max_seqlen_q as usize).div_ceil(params.tile_tokens as usize);
                    let grid = [tiles, config.shape.heads_kv, params.sequences.batch as usize];
                    if kernels.runs(&plan.hopper.listed) {
                        let params = with_maps(kernels, config, params, [&k, &v])?;
                        return kernels.queue(stream, &plan.hopper.listed, grid, &params);
                    }
                    let variant = kernels.pick(&plan.listed, |_| true)?;
                    let params = sala_sparse_attention_params {
                        ring_stages: variant.tile,
                        ..params
                    };
                    kernels.queue(stream, variant, grid, &params)
                }
                Entry::Prefill => {
                    let grid = |tile: &DenseTile| tile.grid(config, &params.sequences);
                    let cut = |tile: &DenseTile| sala_sparse_attention_params {
                        tile_tokens: tile.tokens as i32,
                        ..params
                    };
                    let hopper = &plan.hopper.dense;
                    if kernels.runs(hopper) {
                        let params = with_maps(kernels, config, cut(&hopper.tile), [&k, &v])?;
                        return kernels.queue(stream, hopper, grid(&hopper.tile), &params);
                    }
                    let multiprocessors = kernels.device().multiprocessors();
                    let variant = kernels.pick(&plan.dense, |tile| tile.suits(grid(tile), multiprocessors))?;
                    kernels.queue(stream, variant, grid(&variant.tile), &cut(&variant.tile))
                }
            }
        }
    }

    /// The parameters, and where keys and values lie.
    fn params(&self, config: &Config, tiling: Tiling) -> Result<(sala_sparse_attention_params, [KeyRows; 2])> {
        let Config { dtype, shape, .. } = *config;
        checks::rank("q", &self.q, 3)?;
        let total_q = checks::first_axis(&self.q);
        let query_rows =
            |name, tensor: &Tensor<'_>| checks::rows(name, tensor, dtype, &[total_q, shape.heads_q, shape.dim]);
        let q = query_rows("q", &self.q)?;
        let batch = self.sequences.batch()?;
        let key_rows = |name, tensor: &Tensor<'_>| {
            let heads = [shape.heads_kv, shape.dim];
            self.sequences.keys.rows(name, tensor, dtype, batch, heads)
        };
        let k = key_rows("k", &self.k)?;
        checks::shape("v", &self.v, self.k.shape())?;
        let v = key_rows("v", &self.v)?;
        let sequences = self.sequences.params(total_q, k.room())?;
        let (sequences, block_indices, list_len) = match &self.lists {
            None => (sequences, sala_rows::default(), 0),
            Some(Lists {
                block_indices,
                switch_len,
            }) => {
                let (rows, list_len) = check_lists(block_indices, total_q, shape.heads_kv)?;
                let sequences = sequences.with_dense_len(config.dense_len, switch_len)?;
                (sequences, rows, list_len)
            }
        };
        let params = sala_sparse_attention_params {
            sequences,
            q,
            out: query_rows("out", &self.out.as_tensor())?,
            gate: checks::optional(self.gate, |gate| query_rows("gate", gate))?,
            lse: checks::optional(self.lse.map(TensorMut::as_tensor), |lse| {
                checks::numbers("lse", lse, DType::F32, &[total_q, shape.heads_q])
            })?,
            block_indices,
            k: k.rows,
            v: v.rows,
            scale_factor: checks::optional(self.scale_factor, |factor| {
                checks::list("scale_factor", factor, DType::F32, total_q)
            })?,
            first_key: checks::optional(self.first_key, |first| {
                checks::list("first_key", first, DType::I32, total_q)
            })?,
            status: checks::status(self.status)?,
            all_dense: i32::from(self.lists.is_none()),
            list_len: list_len as i32,
            block_size: config.block_size as i32,
            group: config.group() as i32,
            tokens_per_warp: tiling.tokens_per_warp as i32,
            warps_per_token: tiling.warps_per_token as i32,
            tile_tokens: tiling.tile_tokens as i32, // but of dense prefill
            ring_stages: 0,                         // but of prefill with lists
            scale: config.scale,
            reserved: 0,
        };
        Ok((params, [k, v]))
    }
}

/// The parameters of a call with maps of keys and values, if maps can say where they lie. The kernel does without them too, slowly: that its bits are
/// the same wherever keys lie is worth more than another kernel there.
fn with_maps(
    kernels: &Kernels,
    config: &Config,
    attention: sala_sparse_attention_params,
    rows: [&KeyRows; 2],
) -> Result<sala_sparse_attention_group_params> {
    let [k, v] = rows.map(|rows| rows.mapped([config.shape.heads_kv, config.shape.dim], SALA_ATTENTION_STEP as usize));
    let mut params = sala_sparse_attention_group_params {
        attention,
        ..Default::default()
    };
    if k.is_mappable() && v.is_mappable() {
        params.k_map = kernels.tensor_map("k", &k)?;
        params.v_map = kernels.tensor_map("v", &v)?;
        params.is_mapped = 1;
    }
    Ok(params)
}

/// The lists, and the entries of one.
fn check_lists(lists: &Tensor<'_>, total_q: usize, heads_kv: usize) -> Result<(sala_rows, usize)> {
    let list_len = checks::last_axis(lists);
    let rows = checks::numbers("block_indices", lists, DType::I32, &[total_q, heads_kv, list_len])?;
    if list_len > SparseLayer::MAX_LIST {
        let expected = format!("at most {} entries per list", SparseLayer::MAX_LIST);
        return Err(Error::argument("block_indices", expected, list_len));
    }
    Ok((rows, list_len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_fill_warps() {
        let tiling = |group| {
            let Tiling {
                tokens_per_warp,
                warps_per_token,
                tile_tokens,
            } = Tiling::of(group);
            [tokens_per_warp, warps_per_token, tile_tokens]
        };
        assert_eq!(tiling(1), [16, 1, 128]);
        assert_eq!(tiling(3), [5, 1, 40]);
        assert_eq!(tiling(7), [2, 1, 16]);
        assert_eq!(tiling(16), [1, 1, 8]);
        assert_eq!(tiling(17), [1, 2, 4]);
        assert_eq!(tiling(48), [1, 3, 2]);
        assert_eq!(tiling(64), [1, 4, 2]);
    }

    #[test]
    fn tiles_are_wide_where_they_keep_a_device_busy() {
        let tile = |is_wide| DenseTile { tokens: 16, is_wide };
        assert!(tile(true).suits([54, 2, 1], 108));
        assert!(!tile(true).suits([53, 2, 1], 108));
        assert!(tile(true).suits([usize::MAX, 2, 1], 108));
        assert!(tile(false).suits([1, 1, 1], 108));
    }
}
