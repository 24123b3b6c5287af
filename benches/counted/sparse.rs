//! The launches of the sparse path that are counted: key compression, block selection, sparse attention.

use crate::case::{Case, Machine};
use crate::floors::{self, Attention, BLOCK};
use sala_kernels::{
    CompressKeys, CompressKeysArgs, Counters, DType, KeyLengths, Result, SelectBlocks, SelectBlocksArgs, Sequences,
    SparseAttention, SparseAttentionArgs,
};
use sala_testkit::cases::{Numbers, cumulative};

/// Batches to compress: element, lengths, key heads, channels.
const COMPRESSIONS: [(DType, &[usize], usize, usize); 3] = [
    (DType::Bf16, &[8192], 2, 128),
    (DType::Bf16, &[1000, 33, 0, 2000], 2, 128),
    (DType::F16, &[4096], 1, 64),
];

/// SALA: 96 blocks a token, of them 34 that it need not choose.
const SALA: Attention = Attention {
    queries: 1,
    keys: 8192,
    heads_q: 32,
    heads_kv: 2,
    dim: 128,
    list_len: 96,
    init_blocks: 1,
    local_blocks: 32,
};

/// Four query heads a key head, short lists.
const SMALL: Attention = Attention {
    queries: 128,
    keys: 8192,
    heads_q: 4,
    heads_kv: 1,
    dim: 64,
    list_len: 32,
    init_blocks: 1,
    local_blocks: 8,
};

const SELECTIONS: [Attention; 5] = [
    Attention { queries: 64, ..SALA },
    Attention {
        queries: 64,
        keys: 32768,
        ..SALA
    },
    SALA,
    Attention { keys: 32768, ..SALA },
    SMALL,
];

/// Which free blocks the tokens of a test have in their lists.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lists {
    /// Neighbours choose the same.
    Shared,
    /// Every token chooses by itself.
    Random,
    /// No lists: every block.
    Dense,
}

const ATTENTIONS: [(Attention, Lists); 7] = [
    (Attention { queries: 64, ..SALA }, Lists::Shared),
    (Attention { queries: 64, ..SALA }, Lists::Random),
    (SALA, Lists::Shared),
    (
        Attention {
            queries: 256,
            keys: 256,
            ..SALA
        },
        Lists::Dense,
    ),
    (Attention { keys: 4096, ..SALA }, Lists::Dense),
    (SMALL, Lists::Shared),
    (SMALL, Lists::Random),
];

/// Decode steps that are split over this many multiprocessors.
const SPLITS: [(Attention, Lists); 2] = [(SALA, Lists::Shared), (Attention { keys: 4096, ..SALA }, Lists::Dense)];
const MULTIPROCESSORS: u32 = 132;

/// All launches.
pub fn cases() -> Result<Vec<Case>> {
    let compressions = COMPRESSIONS
        .into_iter()
        .map(|(dtype, lengths, heads, dim)| compression(dtype, lengths, heads, dim));
    let selections = SELECTIONS.into_iter().map(selection);
    let attentions = ATTENTIONS
        .into_iter()
        .map(|(shape, lists)| attention(shape, lists, None));
    let splits = SPLITS
        .into_iter()
        .map(|(shape, lists)| attention(shape, lists, Some(MULTIPROCESSORS)));
    compressions.chain(selections).chain(attentions).chain(splits).collect()
}

fn compression(dtype: DType, lengths: &'static [usize], heads_kv: usize, dim: usize) -> Result<Case> {
    let operation = CompressKeys::builder(dtype, heads_kv, dim).block_size(BLOCK).build()?;
    Ok(Case {
        kernel: "compress_keys",
        shape: format!("{dtype} lengths {lengths:?} key heads {heads_kv} dim {dim}"),
        floor: floors::compress_keys(lengths, heads_kv, dim),
        workspace: operation.workspace(),
        run: Box::new(move || run_compression(&operation, dtype, lengths, heads_kv, dim)),
    })
}

fn run_compression(
    operation: &CompressKeys,
    dtype: DType,
    lengths: &[usize],
    heads_kv: usize,
    dim: usize,
) -> Result<Counters> {
    let machine = Machine::new(1)?;
    let tokens = lengths.iter().sum::<usize>();
    let rows = |rows: usize| [rows, heads_kv, dim];
    let (k1_rows, k2_rows) = (operation.k1_rows(tokens), operation.k2_rows(tokens));
    let k = machine.normals(dtype, tokens * heads_kv * dim, 1)?;
    let mut k1 = machine.space(dtype, k1_rows * heads_kv * dim)?;
    let mut k2 = machine.space(dtype, k2_rows * heads_kv * dim)?;
    let cu_seqlens_k = machine.buffer(&cumulative(lengths))?;
    let args = CompressKeysArgs {
        k: k.tensor(dtype, &rows(tokens))?,
        keys: KeyLengths::Packed {
            cu_seqlens_k: cu_seqlens_k.tensor(DType::I32, &[lengths.len() + 1])?,
        },
        seqlens_old: None,
        max_seqlen_k: None,
        max_new: None,
        k1: k1.tensor_mut(dtype, &rows(k1_rows))?,
        k2: k2.tensor_mut(dtype, &rows(k2_rows))?,
        status: None,
    };
    // SAFETY: a host launch has finished when it returns, and the buffers outlive it.
    unsafe { operation.launch(&machine.kernels, &machine.stream, args)? };
    Ok(machine.stream.take_counters())
}

/// How a shape is printed.
fn describe(shape: &Attention) -> String {
    let Attention {
        queries,
        keys,
        heads_q,
        heads_kv,
        dim,
        ..
    } = shape;
    format!("bf16 {queries} of {keys} tokens, heads {heads_q}/{heads_kv}, dim {dim}")
}

fn selection(shape: Attention) -> Result<Case> {
    let operation = SelectBlocks::builder(DType::Bf16, shape.heads_q, shape.heads_kv, shape.dim)
        .block_size(BLOCK)
        .topk(shape.list_len - shape.local_blocks)
        .init_blocks(shape.init_blocks)
        .local_blocks(shape.local_blocks)
        .scale((shape.dim as f32).sqrt().recip())
        .build()?;
    Ok(Case {
        kernel: "select_blocks",
        shape: format!("{}, {} blocks", describe(&shape), shape.list_len),
        floor: floors::select_blocks(&shape),
        workspace: operation.workspace(),
        run: Box::new(move || run_selection(&operation, shape)),
    })
}

fn run_selection(operation: &SelectBlocks, shape: Attention) -> Result<Counters> {
    let Attention {
        queries,
        keys,
        heads_q,
        heads_kv,
        dim,
        list_len,
        ..
    } = shape;
    let machine = Machine::new(1)?;
    let lengths = Lengths::new(&machine, &shape)?;
    let (k1_rows, k2_rows) = (keys / (BLOCK / 4), keys / BLOCK);
    let q = machine.normals(DType::Bf16, queries * heads_q * dim, 1)?;
    let k1 = machine.normals(DType::Bf16, k1_rows * heads_kv * dim, 2)?;
    let k2 = machine.normals(DType::Bf16, k2_rows * heads_kv * dim, 3)?;
    let mut lists = machine.space(DType::I32, queries * heads_kv * list_len)?;
    let args = SelectBlocksArgs {
        q: q.tensor(DType::Bf16, &[queries, heads_q, dim])?,
        k1: k1.tensor(DType::Bf16, &[k1_rows, heads_kv, dim])?,
        k2: Some(k2.tensor(DType::Bf16, &[k2_rows, heads_kv, dim])?),
        sequences: lengths.sequences()?,
        scale_factor: None,
        block_indices: lists.tensor_mut(DType::I32, &[queries, heads_kv, list_len])?,
        scores: None,
        status: None,
    };
    // SAFETY: a host launch has finished when it returns, and the buffers outlive it.
    unsafe { operation.launch(&machine.kernels, &machine.stream, args)? };
    Ok(machine.stream.take_counters())
}

/// One launch, or the launches of a step split over `multiprocessors`.
fn attention(shape: Attention, lists: Lists, multiprocessors: Option<u32>) -> Result<Case> {
    let operation = SparseAttention::builder(DType::Bf16, shape.heads_q, shape.heads_kv, shape.dim)
        .block_size(BLOCK)
        .scale((shape.dim as f32).sqrt().recip())
        .build()?;
    let indices: Option<Vec<i32>> = match lists {
        Lists::Dense => None,
        Lists::Shared | Lists::Random => Some(make_lists(&shape, lists)),
    };
    let blocks = match lists {
        Lists::Shared => format!("{} blocks, alike", shape.list_len),
        Lists::Random => format!("{} blocks, at random", shape.list_len),
        Lists::Dense => "dense".to_owned(),
    };
    let split = multiprocessors.map_or(String::new(), |count| format!(", split over {count} SMs"));
    let list_len = indices.as_ref().map(|_| shape.list_len);
    let workspace = match multiprocessors {
        None => operation.workspace(),
        Some(_) => operation.decode_workspace(1, shape.queries, shape.keys, list_len),
    };
    Ok(Case {
        kernel: "sparse_attention",
        shape: format!("{}, {blocks}{split}", describe(&shape)),
        floor: floors::sparse_attention(&shape, indices.as_deref()),
        workspace,
        run: Box::new(move || run_attention(&operation, shape, indices.as_deref(), multiprocessors, workspace)),
    })
}

fn run_attention(
    operation: &SparseAttention,
    shape: Attention,
    lists: Option<&[i32]>,
    multiprocessors: Option<u32>,
    workspace: usize,
) -> Result<Counters> {
    let Attention {
        queries,
        keys,
        heads_q,
        heads_kv,
        dim,
        list_len,
        ..
    } = shape;
    let machine = Machine::new(multiprocessors.unwrap_or(1))?;
    let lengths = Lengths::new(&machine, &shape)?;
    let rows = [queries, heads_q, dim];
    let cache = [keys, heads_kv, dim];
    let q = machine.normals(DType::Bf16, queries * heads_q * dim, 1)?;
    let k = machine.normals(DType::Bf16, keys * heads_kv * dim, 2)?;
    let v = machine.normals(DType::Bf16, keys * heads_kv * dim, 3)?;
    let mut out = machine.space(DType::Bf16, queries * heads_q * dim)?;
    let lists = lists.map(|lists| machine.buffer(lists)).transpose()?;
    let block_indices = lists
        .as_ref()
        .map(|lists| lists.tensor(DType::I32, &[queries, heads_kv, list_len]))
        .transpose()?;
    let args = SparseAttentionArgs {
        q: q.tensor(DType::Bf16, &rows)?,
        k: k.tensor(DType::Bf16, &cache)?,
        v: v.tensor(DType::Bf16, &cache)?,
        sequences: lengths.sequences()?,
        block_indices,
        scale_factor: None,
        gate: None,
        out: out.tensor_mut(DType::Bf16, &rows)?,
        lse: None,
        status: None,
    };
    let Machine { kernels, stream, .. } = &machine;
    let words = workspace / DType::U32.size();
    let mut workspace = machine.space(DType::U32, words)?;
    match multiprocessors {
        // SAFETY: a host launch has finished when it returns, and the buffers outlive it.
        None => unsafe { operation.launch(kernels, stream, args)? },
        // SAFETY: as above.
        Some(_) => unsafe { operation.decode(kernels, stream, args, workspace.tensor_mut(DType::U32, &[words])?)? },
    }
    Ok(machine.stream.take_counters())
}

/// Full lists, ascending: the blocks that are always read, and others by chance.
fn make_lists(shape: &Attention, lists: Lists) -> Vec<i32> {
    let mut numbers = Numbers::new(4);
    let rows = (0..shape.queries * shape.heads_kv).map(|row| {
        if lists == Lists::Shared {
            numbers = Numbers::new(4 + (row % shape.heads_kv) as u64);
        }
        let position = shape.keys - shape.queries + row / shape.heads_kv;
        list(shape, position / BLOCK, &mut numbers)
    });
    rows.flatten().collect()
}

fn list(shape: &Attention, own: usize, numbers: &mut Numbers) -> Vec<i32> {
    let mut chosen: Vec<usize> = (0..shape.init_blocks).chain(own - shape.local_blocks..=own).collect();
    while chosen.len() < shape.list_len {
        let block = numbers.below(own - shape.local_blocks);
        if !chosen.contains(&block) {
            chosen.push(block);
        }
    }
    chosen.sort_unstable();
    chosen.into_iter().map(|block| block as i32).collect()
}

/// The lengths of the one sequence, as kernels read them.
struct Lengths {
    cu_seqlens_q: sala_kernels::Buffer,
    cu_seqlens_k: sala_kernels::Buffer,
}

impl Lengths {
    fn new(machine: &Machine, shape: &Attention) -> Result<Lengths> {
        Ok(Lengths {
            cu_seqlens_q: machine.buffer(&[0, shape.queries as i32])?,
            cu_seqlens_k: machine.buffer(&[0, shape.keys as i32])?,
        })
    }

    fn sequences(&self) -> Result<Sequences<'_>> {
        Ok(Sequences {
            cu_seqlens_q: self.cu_seqlens_q.tensor(DType::I32, &[2])?,
            keys: KeyLengths::Packed {
                cu_seqlens_k: self.cu_seqlens_k.tensor(DType::I32, &[2])?,
            },
            switch_len: None,
            max_seqlen_q: None,
            max_seqlen_k: None,
        })
    }
}
