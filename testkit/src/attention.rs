//! Sparse-attention calls as data: run one on a device, or on the reference.

use crate::devices::Machine;
use crate::memory::{Arena, POISON, Packing, Placement};
use crate::tolerance::{Judgement, attention_out, lse};
use crate::values::Values;
use sala_kernels::reference::select_blocks::positions;
use sala_kernels::reference::sparse_attention::{self as reference, Attention, Blocks, Config};
use sala_kernels::{
    Buffer, DType, Device, Element, KeyLengths, Result, Sequences, SparseAttention, SparseAttentionArgs, Tensor,
};
use std::time::{Duration, Instant};

/// Lists of blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct Lists {
    /// `[total_q, heads_kv, list_len]`.
    pub indices: Vec<i32>,
    /// Entries of a list.
    pub list_len: usize,
}

/// Where keys and values lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyStorage {
    /// One sequence after the other.
    #[default]
    Packed,
    /// In a cache for each sequence, of this capacity; the rest of a cache is NaN.
    Cached(usize),
}

/// One call with its inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionProblem {
    /// Shapes and constants; `dim_v` is `dim`.
    pub config: Config,
    /// `[total_q, heads_q, dim]`.
    pub q: Values,
    /// `[total_k, heads_kv, dim]`, however they are stored.
    pub k: Values,
    /// As `k`.
    pub v: Values,
    /// `[batch + 1]`.
    pub cu_seqlens_q: Vec<i32>,
    /// `[batch + 1]`.
    pub cu_seqlens_k: Vec<i32>,
    /// What each token attends to; all blocks without it.
    pub lists: Option<Lists>,
    /// Sequences shorter than this are attended densely.
    pub dense_len: usize,
    /// `[batch]`: the lengths that are compared with `dense_len`, if not those of the keys.
    pub switch_len: Option<Vec<i32>>,
    /// `[total_q]`.
    pub scale_factor: Option<Vec<f32>>,
    /// `[total_q, heads_q, dim]`.
    pub gate: Option<Values>,
    /// Where keys and values lie.
    pub storage: KeyStorage,
    /// How the tensors of query tokens, and those of keys, lie in memory.
    pub packing: Packing,
    /// The upper bounds that the call gives.
    pub max_seqlens: [Option<usize>; 2],
}

/// What a call on a device leaves behind.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionRun {
    /// `[total_q, heads_q, dim]`; poison where nothing was written.
    pub out: Values,
    /// `[total_q, heads_q]`; NaN where nothing was written.
    pub lse: Vec<f32>,
    /// The status word; it starts at zero.
    pub status: [u32; 4],
    /// Whether memory between and beside the tensors is as it was.
    pub is_intact: bool,
    /// From the launch to its end.
    pub elapsed: Duration,
}

impl AttentionProblem {
    /// Query tokens of the call.
    pub fn total_q(&self) -> usize {
        self.q.len() / (self.config.heads_q * self.config.dim)
    }

    /// Key tokens of the call.
    pub fn total_k(&self) -> usize {
        self.k.len() / (self.config.heads_kv * self.config.dim)
    }

    /// Sequences of the call.
    pub fn batch(&self) -> usize {
        self.cu_seqlens_q.len() - 1
    }

    /// The number of keys of each sequence.
    pub fn key_lengths(&self) -> Vec<i32> {
        self.cu_seqlens_k.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    /// For each sequence whether it is attended densely.
    pub fn dense(&self) -> Vec<bool> {
        let lengths = self.switch_len.clone().unwrap_or_else(|| self.key_lengths());
        lengths
            .iter()
            .map(|&length| i64::from(length) < self.dense_len as i64)
            .collect()
    }

    /// The operation that the call is one of.
    pub fn operation(&self) -> Result<SparseAttention> {
        let Config {
            heads_q,
            heads_kv,
            dim,
            scale,
            block_size,
            ..
        } = self.config;
        let builder = SparseAttention::builder(self.q.dtype(), heads_q, heads_kv, dim);
        builder
            .scale(scale)
            .block_size(block_size)
            .dense_len(self.dense_len)
            .build()
    }

    /// Runs the call in f64.
    pub fn run_on_reference(&self) -> Attention {
        let dense = self.dense();
        let blocks = match &self.lists {
            None => Blocks::Dense,
            Some(Lists { indices, list_len }) => Blocks::Listed {
                indices,
                list_len: *list_len,
                dense: &dense,
            },
        };
        let (q, k, v) = (self.q.to_f64(), self.k.to_f64(), self.v.to_f64());
        let gate = self.gate.as_ref().map(Values::to_f64);
        reference::sparse_attention(
            &self.config,
            &q,
            &k,
            &v,
            &self.cu_seqlens_k,
            &positions(&self.cu_seqlens_q, &self.cu_seqlens_k, self.total_q(), self.total_k()),
            blocks,
            self.scale_factor.as_deref(),
            gate.as_deref(),
        )
    }

    /// Judges outputs and logarithms against the reference.
    pub fn judge(&self, run: &AttentionRun, reference: &Attention) -> Judgement {
        let logarithms: Vec<f64> = run.lse.iter().map(|&x| f64::from(x)).collect();
        let out = attention_out(
            self.q.precision(),
            self.config.dim,
            &run.out.to_f64(),
            &reference.out,
            &reference.magnitude,
        );
        out.and(lse(&logarithms, &reference.lse))
    }

    /// Runs the call on a device.
    pub fn run(&self, machine: &Machine) -> Result<AttentionRun> {
        self.launch(machine, None)
    }

    /// Runs the call on a device as one of few tokens, with a workspace.
    pub fn decode(&self, machine: &Machine) -> Result<AttentionRun> {
        self.launch(machine, Some(self.workspace()?))
    }

    /// Bytes of workspace that let the call be split.
    pub fn workspace(&self) -> Result<usize> {
        let capacity = match self.storage {
            KeyStorage::Packed => self.total_k(),
            KeyStorage::Cached(capacity) => capacity,
        };
        let [queries, keys] = self.max_seqlens;
        let (queries, keys) = (queries.unwrap_or(self.total_q()), keys.unwrap_or(capacity));
        let operation = self.operation()?;
        let list_len = self.lists.as_ref().map(|lists| lists.list_len);
        // With lengths of its own to decide by, a sequence of any length may be dense.
        let list_len = list_len.filter(|_| self.switch_len.is_none());
        Ok(operation.decode_workspace(self.batch(), queries, keys, list_len))
    }

    /// Runs the call, with a workspace of some bytes if it is to be split.
    pub fn launch(&self, machine: &Machine, workspace: Option<usize>) -> Result<AttentionRun> {
        const GUARD: usize = 16;
        const POISONED: u32 = POISON as u32 * 0x1_0001;
        let operation = self.operation()?;
        let queries = self.query_arena(&machine.device)?;
        let mut outputs = self.output_arena(&machine.device)?;
        let keys = self.key_arena(&machine.device)?;
        let upload = Uploads::new(self, &machine.device)?;
        let rows = [self.total_q(), self.config.heads_q];
        let mut lse = Buffer::from_slice(&machine.device, &vec![f32::NAN; rows[0] * rows[1]])?;
        let mut status = Buffer::from_slice(&machine.device, &[0u32; 4])?;
        let words = workspace.unwrap_or(0) / 4;
        let mut scratch = Buffer::from_slice(&machine.device, &vec![POISONED; words + GUARD])?;

        let gate = self.gate.as_ref().map(|_| queries.tensor(1)).transpose()?;
        let args = SparseAttentionArgs {
            q: queries.tensor(0)?,
            k: self.key_tensor(&machine.device, &keys, 0)?,
            v: self.key_tensor(&machine.device, &keys, 1)?,
            sequences: self.sequences(&upload)?,
            block_indices: upload.lists.tensor()?,
            scale_factor: upload.scale_factor.tensor()?,
            gate,
            out: outputs.tensor_mut(0)?,
            lse: Some(lse.tensor_mut(DType::F32, &rows)?),
            status: Some(status.tensor_mut(DType::U32, &[4])?),
        };
        machine.stream.synchronize()?;
        let started = Instant::now();
        match workspace {
            // SAFETY: the stream is synchronized before the buffers are touched again.
            None => unsafe { operation.launch(&machine.kernels, &machine.stream, args)? },
            Some(_) => {
                let scratch = scratch.tensor_mut(DType::U32, &[words])?;
                // SAFETY: as above.
                unsafe { operation.decode(&machine.kernels, &machine.stream, args, scratch)? };
            }
        }
        machine.stream.synchronize()?;
        let elapsed = started.elapsed();
        let status: Vec<u32> = status.read()?;
        let lse: Vec<f32> = lse.read()?;
        let scratch: Vec<u32> = scratch.read()?;
        let is_guard_intact = scratch[words..].iter().all(|&word| word == POISONED);
        Ok(AttentionRun {
            out: outputs.read(0)?,
            lse: lse.into_iter().take(rows[0] * rows[1]).collect(),
            status: [status[0], status[1], status[2], status[3]],
            is_intact: queries.is_intact()? && outputs.is_intact()? && keys.is_intact()? && is_guard_intact,
            elapsed,
        })
    }

    fn query_arena(&self, device: &Device) -> Result<Arena> {
        let Config { heads_q, dim, .. } = self.config;
        let ([q, gate], length) = self.packing.place(self.total_q(), heads_q, [dim; 2]);
        let tensors = [(q, Some(&self.q)), (gate, self.gate.as_ref())];
        Arena::new(device, self.q.precision(), length, &tensors)
    }

    fn output_arena(&self, device: &Device) -> Result<Arena> {
        let Config { heads_q, dim, .. } = self.config;
        let ([out], length) = self.packing.place(self.total_q(), heads_q, [dim]);
        Arena::new(device, self.q.precision(), length, &[(out, None::<&Values>)])
    }

    fn key_arena(&self, device: &Device) -> Result<Arena> {
        let (places, length) = self.key_places();
        let [k, v] = [&self.k, &self.v].map(|values| self.stored(values));
        let tensors = [(places[0], Some(&k)), (places[1], Some(&v))];
        Arena::new(device, self.k.precision(), length, &tensors)
    }

    fn key_places(&self) -> ([Placement; 2], usize) {
        let Config { heads_kv, dim, .. } = self.config;
        let rows = match self.storage {
            KeyStorage::Packed => self.total_k(),
            KeyStorage::Cached(capacity) => self.batch() * capacity,
        };
        self.packing.place(rows, heads_kv, [dim; 2])
    }

    /// Keys or values in the order that they lie in.
    fn stored(&self, values: &Values) -> Values {
        let KeyStorage::Cached(capacity) = self.storage else {
            return values.clone();
        };
        let row = self.config.heads_kv * self.config.dim;
        let mut bits = vec![POISON; self.batch() * capacity * row];
        let packed = values.to_bits();
        for (sequence, pair) in self.cu_seqlens_k.windows(2).enumerate() {
            let end = pair[1].min(pair[0] + capacity as i32);
            let tokens = &packed[pair[0] as usize * row..end as usize * row];
            bits[sequence * capacity * row..][..tokens.len()].copy_from_slice(tokens);
        }
        Values::from_bits(values.precision(), bits)
    }

    fn key_tensor<'a>(&self, device: &Device, arena: &'a Arena, index: usize) -> Result<Tensor<'a>> {
        let tensor = arena.tensor(index)?;
        let KeyStorage::Cached(capacity) = self.storage else {
            return Ok(tensor);
        };
        let Config { heads_kv, dim, .. } = self.config;
        let strides = [capacity * tensor.stride(0), tensor.stride(0), tensor.stride(1), 1];
        let shape = [self.batch(), capacity, heads_kv, dim];
        // SAFETY: the same elements as those of `tensor`, which borrows the arena.
        unsafe { Tensor::from_raw(device, tensor.address(), tensor.dtype(), &shape, &strides) }
    }

    fn sequences<'a>(&self, upload: &'a Uploads) -> Result<Sequences<'a>> {
        let given = "every call has it";
        let cu_seqlens_k = upload.cu_seqlens_k.tensor()?.expect(given);
        let seqlens_k = upload.seqlens_k.tensor()?.expect(given);
        Ok(Sequences {
            cu_seqlens_q: upload.cu_seqlens_q.tensor()?.expect(given),
            keys: match self.storage {
                KeyStorage::Packed => KeyLengths::Packed { cu_seqlens_k },
                KeyStorage::Cached(_) => KeyLengths::Cached { seqlens_k },
            },
            switch_len: upload.switch_len.tensor()?,
            max_seqlen_q: self.max_seqlens[0],
            max_seqlen_k: self.max_seqlens[1],
        })
    }
}

/// The small tensors of a call, on its device.
struct Uploads {
    cu_seqlens_q: Upload,
    cu_seqlens_k: Upload,
    seqlens_k: Upload,
    switch_len: Upload,
    lists: Upload,
    scale_factor: Upload,
}

impl Uploads {
    fn new(problem: &AttentionProblem, device: &Device) -> Result<Uploads> {
        let vector = |values: &[i32]| Upload::new(device, Some(values), &[values.len()]);
        let (batch, total_q) = (problem.batch(), problem.total_q());
        let lists = problem.lists.as_ref();
        let list_shape = [
            total_q,
            problem.config.heads_kv,
            lists.map_or(0, |lists| lists.list_len),
        ];
        Ok(Uploads {
            cu_seqlens_q: vector(&problem.cu_seqlens_q)?,
            cu_seqlens_k: vector(&problem.cu_seqlens_k)?,
            seqlens_k: vector(&problem.key_lengths())?,
            switch_len: Upload::new(device, problem.switch_len.as_deref(), &[batch])?,
            lists: Upload::new(device, lists.map(|lists| &lists.indices[..]), &list_shape)?,
            scale_factor: Upload::new(device, problem.scale_factor.as_deref(), &[total_q])?,
        })
    }
}

/// A contiguous tensor on a device, if the call has it.
struct Upload {
    tensor: Option<(Buffer, DType, Vec<usize>)>,
}

impl Upload {
    fn new<T: Element>(device: &Device, values: Option<&[T]>, shape: &[usize]) -> Result<Upload> {
        let upload = |values: &[T]| Ok((Buffer::from_slice(device, values)?, T::DTYPE, shape.to_vec()));
        Ok(Upload {
            tensor: values.map(upload).transpose()?,
        })
    }

    fn tensor(&self) -> Result<Option<Tensor<'_>>> {
        match &self.tensor {
            None => Ok(None),
            Some((buffer, dtype, shape)) => buffer.tensor(*dtype, shape).map(Some),
        }
    }
}
