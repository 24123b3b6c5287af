//! One rank: its device, its layer, and its end of the exchange.

use crate::layout::Layout;
use crate::prompt::{Prompt, SHAPE, rows};
use demos::Failure;
use demos::array::Array;
use demos::exchange::Exchange;
use demos::meter::Meter;
use half::bf16;
use sala_kernels::{
    AppendKeysArgs, DType, DenseAttentionArgs, Device, Element, Entry, Keys, Result, Sequences, SparseLayer, Tensor,
};
use std::ops::Range;

pub struct Rank<'p> {
    pub prompt: &'p Prompt,
    pub layout: Layout,
    pub meter: Meter,
    pub exchange: Exchange,
    pub layer: SparseLayer,
}

/// What a rank's work has cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Bytes from other ranks.
    pub received: u64,
    /// FLOPs of tensor cores, which the CPU counts; 0 on a GPU.
    pub flops: u64,
}

/// Keys and values, `[tokens, heads_kv, dim]` each.
pub struct KeyRows {
    pub k: Array,
    pub v: Array,
}

impl<'p> Rank<'p> {
    pub fn new(prompt: &'p Prompt, layout: Layout, device: Device, exchange: Exchange) -> Result<Rank<'p>> {
        Ok(Rank {
            prompt,
            layout,
            meter: Meter::new(device)?,
            exchange,
            layer: SparseLayer::builder(DType::Bf16, SHAPE, 0).build()?,
        })
    }

    pub fn index(&self) -> usize {
        self.exchange.rank()
    }

    /// The tokens of its parts.
    pub fn ranges(&self) -> Vec<Range<usize>> {
        let parts = self.layout.parts_of(self.index());
        parts.into_iter().map(|part| self.layout.range(part)).collect()
    }

    pub fn array<T: Element>(&self, values: &[T], shape: &[usize]) -> Result<Array> {
        Array::of(&self.meter.device, values, shape)
    }

    pub fn list(&self, values: impl IntoIterator<Item = usize>) -> Result<Array> {
        let values: Vec<i32> = values.into_iter().map(|value| value as i32).collect();
        self.array(&values, &[values.len()])
    }

    /// Rows of the prompt's queries.
    pub fn queries(&self, ranges: &[Range<usize>]) -> Result<Array> {
        let q = rows(&self.prompt.q, self.prompt.tokens, ranges);
        self.array(&q, &[q.len() / (SHAPE.heads_q * SHAPE.dim), SHAPE.heads_q, SHAPE.dim])
    }

    /// Rows of its keys and values.
    pub fn keys(&self, ranges: &[Range<usize>]) -> Result<KeyRows> {
        let of = |values: &[bf16]| {
            let values = rows(values, self.prompt.tokens, ranges);
            self.array(
                &values,
                &[values.len() / (SHAPE.heads_kv * SHAPE.dim), SHAPE.heads_kv, SHAPE.dim],
            )
        };
        Ok(KeyRows {
            k: of(&self.prompt.k)?,
            v: of(&self.prompt.v)?,
        })
    }

    /// Keys and values of all ranks, in the order of ranks.
    pub fn gather(&mut self, keys: &KeyRows) -> std::result::Result<KeyRows, Failure> {
        Ok(KeyRows {
            k: self.exchange.gather::<bf16>(&keys.k)?,
            v: self.exchange.gather::<bf16>(&keys.v)?,
        })
    }

    /// Room for so many keys of one sequence.
    pub fn room(&self, tokens: usize) -> Result<KeyRows> {
        let zeros = || Array::zeros::<bf16>(&self.meter.device, &[tokens, SHAPE.heads_kv, SHAPE.dim]);
        Ok(KeyRows {
            k: zeros()?,
            v: zeros()?,
        })
    }

    /// Appends some rows of others to the first `filled` of a sequence; how many there are then.
    pub fn append(&mut self, to: &mut KeyRows, filled: usize, from: &KeyRows, range: Range<usize>) -> Result<usize> {
        let end = filled + range.len();
        let (total, cut) = (self.list([0, end])?, self.list([0, range.len()])?);
        let sequences = Sequences::new(cut.view()?, Keys::packed(total.view()?));
        let (k, v) = (from.k.rows(&range)?, from.v.rows(&range)?);
        let args = AppendKeysArgs::new(k, v, to.k.view_mut()?, to.v.view_mut()?, sequences);
        self.meter.run("append_keys", &self.layer, args)?;
        Ok(end)
    }

    /// Attention of queries, the last tokens of the first `count` keys of one sequence, each from its first key on.
    pub fn attend(&mut self, q: &Array, keys: &KeyRows, count: usize, first_key: Option<&Array>) -> Result<Array> {
        let (cut, total) = (self.list([0, q.shape()[0]])?, self.list([0, count])?);
        let sequences = Sequences::new(cut.view()?, Keys::packed(total.view()?));
        let mut out = Array::zeros::<bf16>(&self.meter.device, q.shape())?;
        let mut status = Array::zeros::<u32>(&self.meter.device, &[4])?;
        let mut args = DenseAttentionArgs::new(q.view()?, keys.k.view()?, keys.v.view()?, sequences, out.view_mut()?);
        args.first_key = first_key.map(Array::view).transpose()?;
        args.status = Some(status.view_mut()?);
        self.meter.run("dense_attention", &self.layer, args)?;
        status.check_status()?;
        Ok(out)
    }

    /// Outputs and logarithms.
    pub fn attend_as(
        &mut self,
        q: &Array,
        k: Tensor<'_>,
        v: Tensor<'_>,
        sequences: Sequences<'_>,
        entry: Entry,
    ) -> Result<[Array; 2]> {
        let device = &self.meter.device;
        let tokens = q.shape()[0];
        let mut out = Array::zeros::<bf16>(device, q.shape())?;
        let mut lse = Array::zeros::<f32>(device, &[tokens, SHAPE.heads_q])?;
        let mut status = Array::zeros::<u32>(device, &[4])?;
        let bytes = self.layer.workspace_size(entry, 1, tokens, self.prompt.tokens, None);
        let mut workspace = Array::zeros::<u32>(device, &[bytes.div_ceil(4)])?;
        let mut args = DenseAttentionArgs::new(q.view()?, k, v, sequences, out.view_mut()?);
        args.lse = Some(lse.view_mut()?);
        args.entry = entry;
        if entry == Entry::Decode {
            args.workspace = Some(workspace.view_mut()?);
        }
        args.status = Some(status.view_mut()?);
        self.meter.run("dense_attention", &self.layer, args)?;
        status.check_status()?;
        Ok([out, lse])
    }

    /// What its work has cost since the last call.
    pub fn take_cost(&mut self) -> Cost {
        Cost {
            received: self.exchange.take_received(),
            flops: self.meter.take().iter().map(|operation| operation.tensor_flops).sum(),
        }
    }
}
