//! Wrong arguments of sparse attention.

use super::{Spare, assert_blamed, contiguous};
use sala_kernels::{
    Buffer, DType, KeyLengths, Result, Sequences, SparseAttention, SparseAttentionArgs, Tensor, TensorMut,
};
use sala_testkit::devices::{Machine, all};

const QUERIES: usize = 10;
const KEYS: usize = 70;
const HEADS_Q: usize = 4;
const HEADS_KV: usize = 2;
const DIM: usize = 64;
const LIST: usize = 3;
const BATCH: usize = 2;

const Q_SHAPE: [usize; 3] = [QUERIES, HEADS_Q, DIM];
const K_SHAPE: [usize; 3] = [KEYS, HEADS_KV, DIM];
const LISTS: [usize; 3] = [QUERIES, HEADS_KV, LIST];

/// The memory of a good call: one buffer a tensor.
struct Scene {
    q: Buffer,
    k: Buffer,
    v: Buffer,
    cu_seqlens_q: Buffer,
    cu_seqlens_k: Buffer,
    block_indices: Buffer,
    scale_factor: Buffer,
    gate: Buffer,
    out: Buffer,
    lse: Buffer,
    status: Buffer,
    spare: Spare,
}

type Fault = fn(&mut SparseAttentionArgs<'static>, &Scene);

impl Scene {
    fn new(machine: &Machine) -> Result<Self> {
        let device = &machine.device;
        let bytes = |shape: &[usize], element: usize| Buffer::new(device, shape.iter().product::<usize>() * element);
        Ok(Scene {
            q: bytes(&Q_SHAPE, 2)?,
            k: bytes(&K_SHAPE, 2)?,
            v: bytes(&K_SHAPE, 2)?,
            cu_seqlens_q: Buffer::from_slice(device, &[0, 4, QUERIES as i32])?,
            cu_seqlens_k: Buffer::from_slice(device, &[0, 30, KEYS as i32])?,
            block_indices: bytes(&LISTS, 4)?,
            scale_factor: bytes(&[QUERIES], 4)?,
            gate: bytes(&Q_SHAPE, 2)?,
            out: bytes(&Q_SHAPE, 2)?,
            lse: bytes(&[QUERIES, HEADS_Q], 4)?,
            status: bytes(&[4], 4)?,
            spare: Spare::new(device)?,
        })
    }

    fn tensor(&self, buffer: &Buffer, dtype: DType, shape: &[usize]) -> Tensor<'static> {
        // SAFETY: the scene outlives the launch.
        let view = unsafe { Tensor::from_raw(&self.spare.device, buffer.address(), dtype, shape, &contiguous(shape)) };
        view.expect("a possible view")
    }

    fn tensor_mut(&self, buffer: &Buffer, dtype: DType, shape: &[usize]) -> TensorMut<'static> {
        self.spare.view_mut(buffer.address(), dtype, shape)
    }

    fn arguments(&self) -> SparseAttentionArgs<'static> {
        use DType::{Bf16, F32, I32, U32};
        SparseAttentionArgs {
            q: self.tensor(&self.q, Bf16, &Q_SHAPE),
            k: self.tensor(&self.k, Bf16, &K_SHAPE),
            v: self.tensor(&self.v, Bf16, &K_SHAPE),
            sequences: Sequences {
                cu_seqlens_q: self.tensor(&self.cu_seqlens_q, I32, &[BATCH + 1]),
                keys: KeyLengths::Packed {
                    cu_seqlens_k: self.tensor(&self.cu_seqlens_k, I32, &[BATCH + 1]),
                },
                switch_len: None,
                max_seqlen_q: None,
                max_seqlen_k: None,
            },
            block_indices: Some(self.tensor(&self.block_indices, I32, &LISTS)),
            scale_factor: Some(self.tensor(&self.scale_factor, F32, &[QUERIES])),
            gate: Some(self.tensor(&self.gate, Bf16, &Q_SHAPE)),
            out: self.tensor_mut(&self.out, Bf16, &Q_SHAPE),
            lse: Some(self.tensor_mut(&self.lse, F32, &[QUERIES, HEADS_Q])),
            status: Some(self.tensor_mut(&self.status, U32, &[4])),
        }
    }

    /// Runs a good call after `change`.
    fn launch(&self, machine: &Machine, change: Fault) -> Result<()> {
        let operation = SparseAttention::builder(DType::Bf16, HEADS_Q, HEADS_KV, DIM).build()?;
        let mut args = self.arguments();
        change(&mut args, self);
        // SAFETY: the stream is synchronized before any buffer is read, written or dropped.
        let result = unsafe { operation.launch(&machine.kernels, &machine.stream, args) };
        machine.stream.synchronize()?;
        result
    }

    fn assert_untouched(&self, what: &str) {
        for (name, buffer) in [
            ("out", &self.out),
            ("lse", &self.lse),
            ("status", &self.status),
            ("q", &self.q),
            ("k", &self.k),
        ] {
            let words: Vec<u32> = buffer.read().expect("it can be read");
            assert!(words.iter().all(|&x| x == 0), "{what}: {name} has changed");
        }
    }
}

/// The argument that each fault must be blamed on.
fn faults() -> Vec<(&'static str, Fault)> {
    use DType::{Bf16, F16, F32, I32, U32};
    vec![
        ("q", |args, scene| args.q = scene.spare.dense(F16, &Q_SHAPE)),
        ("q", |args, scene| {
            args.q = scene.spare.dense(Bf16, &[QUERIES, HEADS_Q * DIM])
        }),
        ("q", |args, scene| {
            args.q = scene.spare.dense(Bf16, &[QUERIES, HEADS_Q + 2, DIM])
        }),
        ("q", |args, scene| {
            args.q = scene.spare.view(Bf16, &Q_SHAPE, &[260, 64, 1], 0)
        }),
        ("q", |args, scene| {
            args.q = scene.spare.view(Bf16, &Q_SHAPE, &[256, 64, 1], 1)
        }),
        ("q", |args, scene| {
            args.q = scene.spare.view(Bf16, &Q_SHAPE, &[512, 128, 2], 0)
        }),
        ("k", |args, scene| {
            args.k = scene.spare.dense(Bf16, &[KEYS, HEADS_KV + 1, DIM])
        }),
        ("k", |args, scene| {
            args.k = scene.spare.dense(Bf16, &[1, KEYS, HEADS_KV, DIM])
        }),
        ("k", |args, scene| args.k = scene.spare.dense(F16, &K_SHAPE)),
        ("v", |args, scene| {
            args.v = scene.spare.dense(Bf16, &[KEYS + 1, HEADS_KV, DIM])
        }),
        ("v", |args, scene| {
            args.v = scene.spare.dense(Bf16, &[KEYS, HEADS_KV, 128])
        }),
        ("v", |args, scene| {
            args.v = scene.spare.view(Bf16, &K_SHAPE, &[132, 64, 1], 0)
        }),
        ("cu_seqlens_q", |args, scene| {
            args.sequences.cu_seqlens_q = scene.spare.dense(F32, &[BATCH + 1])
        }),
        ("cu_seqlens_q", |args, scene| {
            args.sequences.cu_seqlens_q = scene.spare.dense(I32, &[0])
        }),
        ("cu_seqlens_k", |args, scene| {
            args.sequences.keys = KeyLengths::Packed {
                cu_seqlens_k: scene.spare.dense(I32, &[BATCH + 2]),
            };
        }),
        ("cu_seqlens_k", |args, scene| {
            args.sequences.keys = KeyLengths::Packed {
                cu_seqlens_k: scene.spare.dense(U32, &[BATCH + 1]),
            };
        }),
        ("k", |args, scene| {
            // Keys of a cache have four axes.
            args.sequences.keys = KeyLengths::Cached {
                seqlens_k: scene.spare.dense(I32, &[BATCH]),
            };
        }),
        ("switch_len", |args, scene| {
            args.sequences.switch_len = Some(scene.spare.dense(I32, &[BATCH + 1]))
        }),
        ("block_indices", |args, scene| {
            args.block_indices = Some(scene.spare.dense(U32, &LISTS))
        }),
        ("block_indices", |args, scene| {
            args.block_indices = Some(scene.spare.dense(I32, &[QUERIES, HEADS_KV + 1, LIST]));
        }),
        ("block_indices", |args, scene| {
            args.block_indices = Some(scene.spare.dense(I32, &[QUERIES, HEADS_KV]))
        }),
        ("scale_factor", |args, scene| {
            args.scale_factor = Some(scene.spare.dense(F32, &[QUERIES - 1]))
        }),
        ("scale_factor", |args, scene| {
            args.scale_factor = Some(scene.spare.dense(Bf16, &[QUERIES]))
        }),
        ("gate", |args, scene| {
            args.gate = Some(scene.spare.dense(Bf16, &[QUERIES, HEADS_Q, 128]))
        }),
        ("gate", |args, scene| args.gate = Some(scene.spare.dense(F32, &Q_SHAPE))),
        ("out", |args, scene| {
            args.out = scene.spare.dense_mut(Bf16, &[QUERIES + 1, HEADS_Q, DIM])
        }),
        ("out", |args, scene| args.out = scene.spare.dense_mut(F16, &Q_SHAPE)),
        ("out", |args, scene| {
            args.out = scene.tensor_mut(&scene.q, Bf16, &Q_SHAPE)
        }),
        ("out", |args, scene| {
            args.out = scene.tensor_mut(&scene.k, Bf16, &Q_SHAPE)
        }),
        ("lse", |args, scene| {
            args.lse = Some(scene.spare.dense_mut(F32, &[QUERIES, HEADS_KV]))
        }),
        ("lse", |args, scene| {
            args.lse = Some(scene.spare.dense_mut(Bf16, &[QUERIES, HEADS_Q]))
        }),
        ("lse", |args, scene| {
            args.lse = Some(scene.tensor_mut(&scene.q, F32, &[QUERIES, HEADS_Q]))
        }),
        ("status", |args, scene| {
            args.status = Some(scene.spare.dense_mut(U32, &[5]))
        }),
        ("status", |args, scene| {
            args.status = Some(scene.spare.dense_mut(F32, &[4]))
        }),
    ]
}

#[test]
fn a_wrong_argument_of_sparse_attention_is_refused_by_name() -> Result<()> {
    for machine in all() {
        Scene::new(&machine)?.launch(&machine, |_, _| {})?;
        for (index, (argument, change)) in faults().into_iter().enumerate() {
            let what = format!("fault {index} on {}", machine.name);
            let scene = Scene::new(&machine)?;
            assert_blamed(scene.launch(&machine, change), argument, &what);
            scene.assert_untouched(&what);
        }
    }
    Ok(())
}
