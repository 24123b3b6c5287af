//! Copies of boxes of tensors, by the unit kernels of `cuda/tests/tensor_copies.cu` and `cuda/tests/tensor_products.cu`: on the CPU in several
//! orders, with race detection, and on every GPU that has them.

use half::bf16;
use sala_kernels::sys::params::{
    SALA_SWIZZLE_32, SALA_SWIZZLE_64, SALA_SWIZZLE_128, SALA_SWIZZLE_NONE, SALA_UNIT_TEST_SHARED,
    sala_tensor_test_params,
};
use sala_kernels::{Buffer, Error, MapAxis, MappedTensor, Result, Schedule};
use sala_testkit::devices::{
    Machine, can_detect_races, counting_host, cuda, host, host_with, reversed_host, shuffled_host,
};

/// The CPU in four ways, and a GPU with such copies where there is one.
fn machines() -> Vec<Machine> {
    let mut machines = vec![host(), shuffled_host(3), reversed_host()];
    if can_detect_races() {
        machines.push(host_with("host, shuffled, detecting races", |options| {
            options.seed = 5;
            options.schedule = Schedule::Random;
            options.detect_races = true;
            options.preempt = 3;
        }));
    }
    let has_copies = |machine: &Machine| machine.device.compute_capability() >= Some((9, 0));
    machines.extend(cuda().filter(has_copies));
    machines
}

/// Numbers without a pattern, the same in every run.
fn elements(count: usize, mut seed: u32) -> Vec<u16> {
    let next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 13) as u16
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// A tensor in memory: its elements from `base` on, and the axes, the contiguous one first.
#[derive(Clone)]
struct Tensor<const AXES: usize> {
    elements: Vec<u16>,
    base: usize,
    axes: [MapAxis; AXES],
    swizzle: u32,
}

fn axis(size: usize, stride: i64, boxed: usize) -> MapAxis {
    MapAxis { size, stride, boxed }
}

impl<const AXES: usize> Tensor<AXES> {
    /// Of axes `(size, stride, boxed)`, in memory that has some elements before and behind it.
    fn new(axes: [(usize, i64, usize); AXES], swizzle: u32, seed: u32) -> Self {
        let axes = axes.map(|(size, stride, boxed)| axis(size, stride, boxed));
        let last: usize = axes.iter().map(|axis| (axis.size - 1) * axis.stride as usize).sum();
        Self {
            elements: elements(last + 1 + 64, seed),
            base: 32,
            axes,
            swizzle,
        }
    }

    fn box_bytes(&self) -> usize {
        2 * self.axes.iter().map(|axis| axis.boxed).product::<usize>()
    }

    /// The element at an index; zero outside.
    fn at(&self, index: [i64; AXES]) -> u16 {
        let mut offset = self.base;
        for (axis, index) in self.axes.iter().zip(index) {
            match usize::try_from(index) {
                Ok(index) if index < axis.size => offset += index * axis.stride as usize,
                _ => return 0,
            }
        }
        self.elements[offset]
    }

    /// The box from an index on as it lies in shared memory from a multiple of 1024 bytes on, of which `offset` are left out.
    fn expected(&self, first: [i32; AXES], offset: usize) -> Vec<u16> {
        let row = self.axes[0].boxed;
        let mut memory = vec![0; self.box_bytes() / 2];
        for number in 0..memory.len() {
            let (mut rest, mut index) = (number, [0; AXES]);
            for (axis, (index, first)) in self.axes.iter().zip(index.iter_mut().zip(first)) {
                *index = i64::from(first) + (rest % axis.boxed) as i64;
                rest /= axis.boxed;
            }
            // Vectors of a row change places by the number of the 128 bytes that they are in.
            let line = (2 * number + offset) / 128;
            let vectors = 1 << self.swizzle;
            let (start, column) = (number / row * row, number % row);
            let vector = if self.swizzle == SALA_SWIZZLE_NONE {
                column / 8
            } else {
                (column / 8) ^ (line % vectors)
            };
            memory[start + 8 * vector + column % 8] = self.at(index);
        }
        memory
    }

    fn mapped(&self, input: &Buffer) -> MappedTensor<AXES> {
        MappedTensor {
            address: input.address() + 2 * self.base as u64,
            axes: self.axes,
            swizzle: self.swizzle,
        }
    }
}

fn upload(machine: &Machine, elements: &[u16]) -> Buffer {
    let words = elements
        .chunks(2)
        .map(|pair| u32::from(pair[0]) | u32::from(*pair.last().unwrap()) << 16);
    Buffer::from_slice(&machine.device, &words.collect::<Vec<_>>()).unwrap()
}

fn download(buffer: &Buffer) -> Vec<u16> {
    bytemuck::cast_slice(&buffer.read::<u32>().unwrap()).to_vec()
}

/// Launches a kernel in one block.
fn launch(machine: &Machine, name: &str, threads: u32, params: &sala_tensor_test_params) -> Result<()> {
    // SAFETY: the buffers that the callers name live until the stream has run, and are as large as the kernels need.
    unsafe {
        machine.kernels.launch_named(
            name,
            &machine.stream,
            [1, 1, 1],
            threads,
            SALA_UNIT_TEST_SHARED,
            bytemuck::bytes_of(params),
        )?
    };
    machine.stream.synchronize()
}

/// A box is copied as it lies, from every index given.
fn boxes_are_copied<const AXES: usize>(tensor: &Tensor<AXES>, firsts: &[[i32; AXES]], offset: usize) {
    for machine in machines() {
        let input = upload(&machine, &tensor.elements);
        let map = machine.kernels.tensor_map("input", &tensor.mapped(&input)).unwrap();
        for first in firsts {
            let expected = tensor.expected(*first, offset);
            let output = upload(&machine, &vec![0_u16; expected.len()]);
            let mut params = sala_tensor_test_params {
                map,
                output: output.address(),
                bytes: tensor.box_bytes() as u32,
                offset: offset as u32,
                ..Default::default()
            };
            params.first[..AXES].copy_from_slice(first);
            let name = format!("tensor_copies_box_{AXES}");
            launch(&machine, &name, 128, &params).unwrap_or_else(|error| panic!("{name} on {}: {error}", machine.name));
            assert_eq!(download(&output), expected, "{name} on {} from {first:?}", machine.name);
        }
    }
}

#[test]
fn rows_of_a_matrix_are_copied_with_every_swizzle() {
    for (swizzle, columns) in [
        (SALA_SWIZZLE_NONE, 64),
        (SALA_SWIZZLE_NONE, 24),
        (SALA_SWIZZLE_32, 16),
        (SALA_SWIZZLE_64, 32),
        (SALA_SWIZZLE_128, 64),
    ] {
        let tensor = Tensor::new([(128, 1, columns), (40, 136, 24)], swizzle, 1);
        boxes_are_copied(&tensor, &[[0, 0], [64, 3], [32, 16]], 0);
    }
}

/// Beyond the last row and column, before the first, and wholly outside.
#[test]
fn elements_outside_are_zero() {
    let tensor = Tensor::new([(72, 1, 64), (20, 80, 16)], SALA_SWIZZLE_128, 2);
    let firsts = [
        [0, 12],
        [64, 0],
        [-8, -3],
        [8, 19],
        [70, 18],
        [0, 20],
        [200, 0],
        [0, -16],
        [-64, 5],
        [3, 7],
    ];
    boxes_are_copied(&tensor, &firsts, 0);
}

/// Swizzles follow addresses, so that boxes of few rows lie as the rows of a larger tile.
#[test]
fn boxes_may_begin_within_a_pattern() {
    let tensor = Tensor::new([(64, 1, 64), (32, 64, 4)], SALA_SWIZZLE_128, 3);
    for offset in [0, 128, 512, 640] {
        boxes_are_copied(&tensor, &[[0, 8]], offset);
    }
    let narrow = Tensor::new([(32, 1, 32), (32, 32, 4)], SALA_SWIZZLE_64, 3);
    boxes_are_copied(&narrow, &[[0, 8]], 256);
}

/// Heads of packed tokens, and pages with keys and values interleaved, heads first or tokens first; one head of some rows is a box.
#[test]
fn keys_of_every_storage_are_copied() {
    let packed = Tensor::new([(128, 1, 64), (3, 128, 1), (50, 3 * 128, 32)], SALA_SWIZZLE_128, 4);
    boxes_are_copied(&packed, &[[64, 2, 11], [0, 0, 40]], 0);
    let pages = Tensor::new(
        [(128, 1, 64), (2, 128, 1), (16, 512, 16), (5, 16 * 512, 1)],
        SALA_SWIZZLE_128,
        5,
    );
    boxes_are_copied(&pages, &[[0, 1, 0, 3], [64, 0, 0, 4], [64, 1, 0, -1], [0, 0, 0, 5]], 0);
    let heads_first = Tensor::new(
        [(64, 1, 64), (2, 16 * 64, 1), (16, 64, 8), (5, 2 * 16 * 64, 1)],
        SALA_SWIZZLE_128,
        6,
    );
    boxes_are_copied(&heads_first, &[[0, 1, 8, 3], [0, 0, 0, 0]], 0);
    // Queries: four tokens of eight heads.
    let queries = Tensor::new([(128, 1, 64), (16, 128, 8), (9, 16 * 128, 4)], SALA_SWIZZLE_128, 7);
    boxes_are_copied(&queries, &[[64, 8, 4], [0, 0, 7]], 0);
}

#[test]
fn bytes_are_copied() {
    let bytes = elements(1024, 8);
    for machine in machines() {
        let input = upload(&machine, &bytes);
        let output = upload(&machine, &vec![0_u16; 1024]);
        let params = sala_tensor_test_params {
            input: input.address(),
            output: output.address(),
            bytes: 2048,
            ..Default::default()
        };
        launch(&machine, "tensor_copies_bulk", 128, &params)
            .unwrap_or_else(|error| panic!("{}: {error}", machine.name));
        assert_eq!(download(&output), bytes, "{}", machine.name);
    }
}

/// Pages of 16 rows of two heads of 64.
fn pages(seed: u32) -> Tensor<4> {
    Tensor::new(
        [(64, 1, 64), (2, 64, 1), (16, 128, 16), (8, 16 * 128, 1)],
        SALA_SWIZZLE_128,
        seed,
    )
}

#[test]
fn stages_are_refilled_after_all_have_read() {
    let tensor = pages(9);
    for machine in machines() {
        let input = upload(&machine, &tensor.elements);
        let output = Buffer::from_slice(&machine.device, &[0_u32; 3 * 64]).unwrap();
        let params = sala_tensor_test_params {
            map: machine.kernels.tensor_map("input", &tensor.mapped(&input)).unwrap(),
            output: output.address(),
            first: [0, 1, 0, 0],
            ..Default::default()
        };
        launch(&machine, "tensor_copies_ring", 128, &params)
            .unwrap_or_else(|error| panic!("{}: {error}", machine.name));
        for (place, sum) in output.read::<u32>().unwrap().iter().enumerate() {
            let rows = (0..8 * 16).map(|row| tensor.at([(place % 64) as i64, 1, row % 16, row / 16]));
            let expected = rows.fold(0_u32, |sum, element| sum.wrapping_mul(3).wrapping_add(element.into()));
            assert_eq!(*sum, expected, "{}: {place}", machine.name);
        }
    }
}

#[test]
fn boxes_are_read_as_factors() {
    let tensor = Tensor::new(
        [(128, 1, 64), (2, 128, 1), (32, 256, 16), (3, 32 * 256, 1)],
        SALA_SWIZZLE_128,
        10,
    );
    for machine in machines() {
        let input = upload(&machine, &tensor.elements);
        let output = upload(&machine, &[0_u16; 32 * 128]);
        let params = sala_tensor_test_params {
            map: machine.kernels.tensor_map("input", &tensor.mapped(&input)).unwrap(),
            output: output.address(),
            first: [0, 1, 0, 2],
            ..Default::default()
        };
        launch(&machine, "tensor_copies_panels", 128, &params)
            .unwrap_or_else(|error| panic!("{}: {error}", machine.name));
        for (place, element) in download(&output).iter().enumerate() {
            let expected = tensor.at([(place % 128) as i64, 1, (place / 128) as i64, 2]);
            assert_eq!(*element, expected, "{}: {place}", machine.name);
        }
    }
}

#[test]
fn products_read_what_was_copied() {
    let integers = |seed| -> Vec<u16> {
        let of = |n: u16| bf16::from_f32(f32::from(n % 17) - 8.0).to_bits();
        elements(64 * 64, seed).into_iter().map(of).collect()
    };
    let (left, right) = (integers(11), integers(12));
    let is_hopper = |machine: &Machine| {
        machine
            .device
            .compute_capability()
            .is_none_or(|capability| capability == (9, 0))
    };
    for machine in machines().into_iter().filter(is_hopper) {
        let map = |buffer: &Buffer| {
            let factor = MappedTensor {
                address: buffer.address(),
                axes: [axis(64, 1, 64), axis(64, 64, 64)],
                swizzle: SALA_SWIZZLE_128,
            };
            machine.kernels.tensor_map("factor", &factor).unwrap()
        };
        let a = upload(&machine, &left);
        let b = upload(&machine, &right);
        for name in ["copied_factors", "registers"] {
            let output = Buffer::from_slice(&machine.device, &[0_f32; 64 * 64]).unwrap();
            let params = sala_tensor_test_params {
                map: map(&a),
                second_map: map(&b),
                output: output.address(),
                ..Default::default()
            };
            let name = format!("tensor_products_{name}");
            launch(&machine, &name, 384, &params).unwrap_or_else(|error| panic!("{name} on {}: {error}", machine.name));
            let wide = |bits: u16| bf16::from_bits(bits).to_f32();
            for (place, sum) in output.read::<f32>().unwrap().iter().enumerate() {
                let term = |k: usize| wide(left[place / 64 * 64 + k]) * wide(right[place % 64 * 64 + k]);
                assert_eq!(
                    *sum,
                    (0..64).map(term).sum::<f32>(),
                    "{name} on {}: {place}",
                    machine.name
                );
            }
        }
    }
}

#[test]
fn bytes_inside_the_tensor_are_counted() {
    let machine = counting_host(1);
    let tensor = Tensor::new([(64, 1, 64), (20, 64, 16)], SALA_SWIZZLE_128, 13);
    let input = upload(&machine, &tensor.elements);
    let output = upload(&machine, &[0_u16; 1024]);
    let params = sala_tensor_test_params {
        map: machine.kernels.tensor_map("input", &tensor.mapped(&input)).unwrap(),
        output: output.address(),
        first: [0, 12, 0, 0],
        bytes: 2048,
        ..Default::default()
    };
    launch(&machine, "tensor_copies_box_2", 128, &params).unwrap();
    assert_eq!(machine.stream.take_counters().global_bytes_read, 8 * 128);
}

#[test]
fn tensors_that_no_map_holds_are_refused_by_name() {
    let machine = host();
    let tensor = MappedTensor {
        address: 4096,
        axes: [axis(64, 1, 64), axis(8, 60, 8)],
        swizzle: SALA_SWIZZLE_128,
    };
    let error = machine.kernels.tensor_map("k", &tensor).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }));
    assert!(error.to_string().contains("a tensor map of k"), "{error}");
    let empty = MappedTensor {
        axes: [axis(64, 1, 64), axis(0, 64, 8)],
        ..tensor
    };
    assert_eq!(machine.kernels.tensor_map("k", &empty).unwrap().words, [0; 16]);
}
