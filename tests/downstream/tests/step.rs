//! The engine runs a step on the CPU where it was built to, and says so where it was not.

use std::ptr::null_mut;

use downstream::Engine;
use sala_kernels::{Device, Kernels};

/// A crate that ships to GPUs alone builds, and says what it holds.
#[cfg(not(feature = "host"))]
#[test]
fn without_the_host_there_are_only_gpus() {
    // SAFETY: a null stream.
    let error = unsafe { Engine::new(&Device::host(), null_mut()) }
        .err()
        .expect("no kernels for the CPU");
    assert!(matches!(error, sala_kernels::Error::Unsupported { .. }), "{error}");
    assert!(error.to_string().contains("host"), "{error}");
    println!("images for {:?}", Kernels::embedded_architectures());
}

#[cfg(feature = "host")]
mod host {
    use downstream::{DIM, HEADS, Memory, PAGE, Sizes};
    use half::bf16;

    use super::*;

    fn at<T>(memory: &mut [T]) -> u64 {
        memory.as_mut_ptr().expose_provenance() as u64
    }

    /// Keys alike and values that count make the mean of the values; a state of one step makes its own value.
    #[test]
    fn a_step_gives_what_it_should() {
        // SAFETY: a null stream.
        let engine = unsafe { Engine::new(&Device::host(), null_mut()) }.expect("an engine");
        assert!(Kernels::embedded_architectures().iter().all(|name| name.contains('_')));
        // Two sequences of 130 and 1 keys, the new one included, over three pages and one.
        let sizes = Sizes {
            batch: 2,
            pages: 4,
            pages_each: 3,
        };
        let (rows, page) = (2 * HEADS * DIM, PAGE * DIM);
        let mut q = vec![bf16::ONE; rows];
        let mut kv_new = [vec![bf16::ONE; 2 * DIM], vec![bf16::from_f32(2.0); 2 * DIM]];
        let mut kv = [vec![bf16::ONE; 4 * page], vec![bf16::ONE; 4 * page]];
        let mut compressed = [vec![bf16::ONE; 4 * 4 * DIM], vec![bf16::ONE; 4 * DIM]];
        let (mut cu_seqlens, mut old, mut new) = ([0u32, 1, 2], [129u32, 0], [130u32, 1]);
        let (mut table, mut slots, mut log_decay) = ([3u32, 1, 0, 2, 9, 9], [0u32, 1], [-1f32; HEADS]);
        let mut states = vec![1f32; 2 * HEADS * DIM * DIM];
        let mut lists = vec![-1i32; 2 * engine.list_len()];
        let mut outs = [vec![bf16::ZERO; rows], vec![bf16::ZERO; rows]];
        let (mut status, mut workspace) = ([0u32; 4], vec![0u128; engine.workspace_size(sizes).div_ceil(16)]);
        let memory = Memory {
            q: at(&mut q),
            kv_new: kv_new.each_mut().map(|tensor| at(tensor)),
            kv: kv.each_mut().map(|tensor| at(tensor)),
            compressed: compressed.each_mut().map(|tensor| at(tensor)),
            cu_seqlens: at(&mut cu_seqlens),
            seqlens: [at(&mut old), at(&mut new)],
            page_table: at(&mut table),
            log_decay: at(&mut log_decay),
            states: at(&mut states),
            slots: at(&mut slots),
            lists: at(&mut lists),
            outs: outs.each_mut().map(|tensor| at(tensor)),
            status: at(&mut status),
            workspace: at(&mut workspace),
        };
        // SAFETY: all of it is memory of this test, as large as `Memory` says.
        unsafe { engine.step(&memory, sizes) }.expect("a step");
        Engine::check(status).expect("nothing is refused");

        assert_eq!(lists[..4], [0, 1, 2, -1]);
        assert_eq!(lists[engine.list_len()..][..2], [0, -1]);
        let [sparse, linear] = &outs;
        let expected = [(129.0 + 2.0) / 130.0, 2.0].map(bf16::from_f32);
        for (sequence, expected) in expected.into_iter().enumerate() {
            let rows = &sparse[sequence * HEADS * DIM..][..HEADS * DIM];
            assert!(rows.iter().all(|&out| out == expected), "{expected} {:?}", &rows[..4]);
        }
        // (e^−1 + 1) · 64 channels / 8.
        let expected = bf16::from_f32(((-1f32).exp() + 1.0) * 8.0);
        assert!(
            linear.iter().all(|&out| out == expected),
            "{expected} {:?}",
            &linear[..4]
        );
    }
}
