//! The launch path is bare: no operation allocates or calls the driver but for the launches of its kernels.

use super::driver::Driver;
use super::{ALLOCATIONS, ARCHS, DIM, FATBIN, HEADS, layer, message};
use DType::{Bf16, F32, I32, U32};
use sala_kernels::shapes::KERNELS;
use sala_kernels::{
    Arguments, AttentionShape, ChooseBlocksArgs, CompressKeysArgs, DType, Decay, DenseAttentionArgs, Device, Entry,
    Image, Kernels, Keys, LinearDecodeArgs, LinearPrefillArgs, SelectBlocksArgs, Sequences, SparseAttentionArgs,
    SparseLayer, Stream, SwitchLen,
};
use sala_testkit::refusals::Spare;
use std::sync::LazyLock;

/// One for every kernel.
pub static ALL_IMAGES: LazyLock<Vec<Image>> = LazyLock::new(|| {
    let image = |name| Image {
        name,
        archs: ARCHS,
        bytes: FATBIN.as_slice(),
    };
    KERNELS.iter().map(|file| image(file.name)).collect()
});

struct Launches<'a> {
    driver: &'a Driver,
    kernels: Kernels,
    stream: Stream,
}

impl Launches<'_> {
    #[track_caller]
    fn assert_bare<A: Arguments>(&self, layer: &A::Operation, args: A, launches: u64) {
        let before = self.driver.calls();
        let allocations = ALLOCATIONS.get();
        // SAFETY: the driver drops launches without a hook.
        unsafe { self.kernels.launch(&self.stream, layer, args) }.unwrap();
        assert_eq!(ALLOCATIONS.get(), allocations, "allocations");
        let mut expected = before.clone();
        *expected.entry("cuLaunchKernel".to_owned()).or_default() += launches;
        assert_eq!(self.driver.calls(), expected);
    }
}

impl<'a> Launches<'a> {
    fn new(driver: &'a Driver, device: &Device) -> Self {
        Self {
            driver,
            kernels: Kernels::load_images(device, &ALL_IMAGES).unwrap(),
            stream: Stream::new(device).unwrap(),
        }
    }
}

#[test]
fn a_linear_launch_is_one_driver_call_and_no_allocation() {
    let driver = Driver::get();
    let device = Device::cuda(0).unwrap();
    let (spare, launches) = (Spare::new(&device), Launches::new(&driver, &device));
    let (rows, slots) = ([3, HEADS, DIM], spare.list(&[2, 0, 1]));
    let [q, k, v] = [(); 3].map(|()| spare.tensor(Bf16, &rows));
    let states = || spare.tensor_mut(F32, &[3, HEADS, DIM, DIM]);
    let out = || spare.tensor_mut(Bf16, &rows);

    let mut prefill = LinearPrefillArgs::new(q, k, v, spare.list(&[0, 1, 3]), None, out());
    prefill.state = Some(states());
    prefill.status = Some(spare.tensor_mut(U32, &[4]));
    launches.assert_bare(&layer(Decay::None).unwrap(), prefill, 1);

    let log_decay = Some(spare.tensor(F32, &[HEADS]));
    let mut decode = LinearDecodeArgs::new(q, k, v, log_decay, states(), slots, out());
    decode.state_out = Some(slots);
    decode.status = Some(spare.tensor_mut(U32, &[4]));
    launches.assert_bare(&layer(Decay::PerHead).unwrap(), decode, 1);
}

#[test]
fn only_a_host_runs_without_a_stream() {
    let driver = Driver::get();
    let kernels = Kernels::load_images(&Device::cuda(0).unwrap(), &ALL_IMAGES).unwrap();
    let spare = Spare::new(&Device::host());
    let rows = [3, HEADS, DIM];
    let [q, k, v] = [(); 3].map(|()| spare.tensor(Bf16, &rows));
    let args = LinearPrefillArgs::new(q, k, v, spare.list(&[0, 3]), None, spare.tensor_mut(Bf16, &rows));
    let error = message(kernels.run(&layer(Decay::None).unwrap(), args));
    assert_eq!(
        error,
        "kernels: expected kernels loaded on a host device, got Interpreted sm_80 0"
    );
    assert!(!driver.calls().contains_key("cuLaunchKernel"));
}

#[test]
fn a_sparse_launch_is_its_kernels_and_no_allocation() {
    let driver = Driver::get();
    let device = Device::cuda(0).unwrap();
    let (spare, launches) = (Spare::new(&device), Launches::new(&driver, &device));
    let (heads_q, heads_kv, dim, tokens) = (32, 2, 64, 8192);
    let shape = AttentionShape { heads_q, heads_kv, dim };
    let layer = SparseLayer::builder(Bf16, shape, 1).build().unwrap();
    let rows = |rows| [rows, heads_kv, dim];
    let [k1_rows, k2_rows] = [layer.k1_rows(tokens), layer.k2_rows(tokens)].map(rows);
    let [k, v] = [(); 2].map(|()| spare.tensor(Bf16, &rows(tokens)));
    let q = spare.tensor(Bf16, &[1, heads_q, dim]);
    let keys = || Keys::packed(spare.list(&[0, tokens as i32]));
    let sequences = || Sequences::new(spare.list(&[0, 1]), keys());
    let switch_len = || Some(SwitchLen::Lengths(spare.list(&[tokens as i32])));
    let lists = [1, heads_kv, layer.list_len()];
    let out = || spare.tensor_mut(Bf16, &[1, heads_q, dim]);
    let status = || Some(spare.tensor_mut(U32, &[4]));

    let [k1, k2] = [k1_rows, k2_rows].map(|shape| spare.tensor_mut(Bf16, &shape));
    let mut compress = CompressKeysArgs::new(k, keys(), k1, k2);
    compress.status = status();
    launches.assert_bare(&layer, compress, 1);

    let [k1, k2] = [k1_rows, k2_rows].map(|shape| spare.tensor(Bf16, &shape));
    let indices = spare.tensor_mut(I32, &lists);
    let mut select = SelectBlocksArgs::new(q, k1, Some(k2), sequences(), switch_len(), indices);
    select.status = status();
    launches.assert_bare(&layer, select, 1);

    let (scores, indices) = (
        spare.tensor(F32, &[1, heads_kv, tokens / 64]),
        spare.tensor_mut(I32, &lists),
    );
    let mut choose = ChooseBlocksArgs::new(scores, sequences(), switch_len(), indices);
    choose.status = status();
    launches.assert_bare(&layer, choose, 1);

    for (entry, kernels) in [(Entry::Prefill, 1), (Entry::Decode, 2)] {
        let bytes = layer.workspace_size(entry, 1, 1, tokens, None);
        let workspace = || (bytes > 0).then(|| spare.tensor_mut(U32, &[bytes / 4]));
        let mut sparse = SparseAttentionArgs::new(q, k, v, sequences(), switch_len(), spare.tensor(I32, &lists), out());
        (sparse.entry, sparse.workspace, sparse.status) = (entry, workspace(), status());
        launches.assert_bare(&layer, sparse, kernels);

        let mut dense = DenseAttentionArgs::new(q, k, v, sequences(), out());
        (dense.entry, dense.workspace, dense.status) = (entry, workspace(), status());
        launches.assert_bare(&layer, dense, kernels);
    }
}
