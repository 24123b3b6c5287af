//! What the device primitives do, by the unit kernels of `cuda/tests/primitives.cu`: on the CPU in several orders of threads, with race
//! detection, and on every GPU there is.

use half::{bf16, f16};
use sala_kernels::sys::params::{SALA_UNIT_TEST_SHARED, sala_unit_test_params};
use sala_kernels::{Buffer, Counters, Result, Schedule};
use sala_testkit::devices::{Machine, can_detect_races, counting_host, cuda, host, host_with, shuffled_host};

const WARP: usize = 32;

/// A launch of a unit kernel.
struct Case<'a> {
    /// The file that it is in.
    file: &'a str,
    name: &'a str,
    grid: [u32; 3],
    threads: usize,
    input: Vec<u8>,
    second_input: Vec<u8>,
    output_bytes: usize,
}

impl<'a> Case<'a> {
    fn new(name: &'a str, threads: usize, output_bytes: usize) -> Self {
        Self {
            file: "primitives",
            name,
            grid: [1, 1, 1],
            threads,
            input: vec![0; 16],
            second_input: vec![0; 16],
            output_bytes,
        }
    }

    fn input<T: bytemuck::NoUninit>(mut self, values: &[T]) -> Self {
        self.input = bytemuck::cast_slice(values).to_vec();
        self
    }

    fn second_input<T: bytemuck::NoUninit>(mut self, values: &[T]) -> Self {
        self.second_input = bytemuck::cast_slice(values).to_vec();
        self
    }

    /// Of a warpgroup.
    fn of_warpgroup(mut self) -> Self {
        self.file = "warpgroup";
        self
    }

    /// Runs it on every device that has it, and gives each output to `check`.
    fn check(&self, check: impl Fn(&[u32])) {
        let has = |machine: &Machine| {
            let capability = machine.device.compute_capability();
            self.file == "primitives" || capability.is_none_or(|capability| capability == (9, 0))
        };
        for machine in machines().into_iter().filter(has) {
            check(&self.run(&machine).0);
        }
    }

    fn run(&self, machine: &Machine) -> (Vec<u32>, Counters) {
        let context = |error| panic!("{} on {}: {error}", self.name, machine.name);
        self.try_run(machine).unwrap_or_else(context)
    }

    fn try_run(&self, machine: &Machine) -> Result<(Vec<u32>, Counters)> {
        let Machine {
            device,
            kernels,
            stream,
            ..
        } = machine;
        let input = Buffer::from_slice(device, &words(&self.input))?;
        let second_input = Buffer::from_slice(device, &words(&self.second_input))?;
        let output = Buffer::from_slice(device, &vec![0_u32; self.output_bytes.div_ceil(4)])?;
        let params = sala_unit_test_params {
            input: input.address(),
            second_input: second_input.address(),
            output: output.address(),
        };
        let name = format!("{}_{}", self.file, self.name);
        let threads = u32::try_from(self.threads).expect("a block size");
        // SAFETY: the buffers live until the stream has run, and are as large as the kernel needs.
        unsafe {
            kernels.launch_named(
                &name,
                stream,
                self.grid,
                threads,
                SALA_UNIT_TEST_SHARED,
                bytemuck::bytes_of(&params),
            )?
        };
        stream.synchronize()?;
        Ok((output.read()?, stream.take_counters()))
    }
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks(4).map(bytemuck::pod_read_unaligned).collect()
}

/// The CPU in three ways, and the GPU where there is one.
fn machines() -> Vec<Machine> {
    let mut machines = vec![host(), shuffled_host(7)];
    if can_detect_races() {
        machines.push(host_with("host, reversed, detecting races", |options| {
            options.schedule = Schedule::Reverse;
            options.detect_races = true;
        }));
    }
    machines.extend(cuda());
    machines
}

/// Numbers without a pattern, the same in every run.
fn numbers(count: usize, mut seed: u32) -> Vec<u32> {
    let next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed >> 8
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// Between -2 and 2.
fn reals(count: usize, seed: u32) -> Vec<f32> {
    numbers(count, seed)
        .iter()
        .map(|n| *n as f32 / (1 << 22) as f32 - 2.0)
        .collect()
}

trait Narrow: bytemuck::Pod {
    fn narrow(value: f32) -> Self;
    fn widen(self) -> f32;
}

impl Narrow for bf16 {
    fn narrow(value: f32) -> Self {
        Self::from_f32(value)
    }
    fn widen(self) -> f32 {
        self.to_f32()
    }
}

impl Narrow for f16 {
    fn narrow(value: f32) -> Self {
        Self::from_f32(value)
    }
    fn widen(self) -> f32 {
        self.to_f32()
    }
}

fn narrow_reals<T: Narrow>(count: usize, seed: u32) -> Vec<T> {
    reals(count, seed).into_iter().map(T::narrow).collect()
}

fn float(bits: u32) -> f32 {
    f32::from_bits(bits)
}

fn assert_close(got: f32, expected: f64, tolerance: f64, what: &str) {
    let error = (f64::from(got) - expected).abs();
    let bound = tolerance * expected.abs().max(1.0);
    assert!(error <= bound, "{what}: got {got}, expected {expected}");
}

#[test]
fn threads_know_their_place() {
    let (grid, threads) = ([5, 3, 2], 64);
    let count = 30 * threads;
    let mut case = Case::new("indices", threads, 4 * count);
    case.grid = grid;
    case.check(|output| {
        for (thread, value) in output.iter().enumerate() {
            assert_eq!(*value as usize, thread + 2000);
        }
    });
    assert_eq!(case.run(&host()).1.blocks, 30);
}

#[test]
fn loads_and_stores_move_every_size() {
    let input = numbers(128 * 30 / 4, 1);
    Case::new("vectors", 128, 128 * 30)
        .input(&input)
        .check(|output| assert_eq!(output, input));
}

#[test]
fn global_bytes_are_counted() {
    let case = Case::new("vectors", 128, 128 * 30).input(&numbers(128 * 30 / 4, 1));
    let counters = case.run(&counting_host(1)).1;
    assert_eq!(counters.global_bytes_read, 128 * 30);
    assert_eq!(counters.global_bytes_written, 128 * 30);
    // Two buffers, whose ends may share a sector of 32 bytes with other memory.
    let sectors = counters.global_bytes_distinct / 32;
    assert!((2 * 120..=2 * 121).contains(&sectors), "{sectors} sectors");
}

#[test]
fn copies_arrive_in_groups() {
    let input = numbers(4 * 128, 2);
    Case::new("async_copies", 128, 4 * 4 * 128)
        .input(&input)
        .check(|output| {
            for thread in 0..128 {
                let neighbour = (thread + 33) % 128;
                let word16 = |thread: usize, i: usize| {
                    if thread.is_multiple_of(4) {
                        0
                    } else {
                        input[4 * thread + i]
                    }
                };
                assert_eq!(output[thread], if thread % 3 == 0 { 0 } else { input[thread] });
                assert_eq!(output[128 + thread], input[2 * thread + 1]);
                assert_eq!(output[256 + thread], word16(thread, 3));
                assert_eq!(output[384 + thread], word16(neighbour, 2));
            }
        });
}

#[test]
fn atomics_lose_nothing() {
    Case::new("atomics", 128, 4 * 9).check(|output| {
        let (all_bits, top) = ((1 << 20) - 1, 1 << 31);
        // The signed maximum starts from zero, which no thread exceeds.
        assert_eq!(output[..4], [128, all_bits, top + 7 * 127, 0]);
        assert_eq!(output[4].cast_signed(), -256);
        let sum = 127 * 128 / 2;
        assert_eq!(output[5..], [sum, (1 << 10) - 2, top + 3 * 127, sum]);
    });
}

/// The value that `combine` makes of the lanes whose numbers differ from `lane` in the bits [stride, stride * lanes).
fn over_group<T: Copy>(values: &[T], lane: usize, lanes: usize, stride: usize, combine: impl Fn(T, T) -> T) -> T {
    let first = lane & !((lanes - 1) * stride);
    let members = (0..lanes).map(|i| values[first + i * stride]);
    members.reduce(combine).expect("a group has lanes")
}

#[test]
fn lanes_exchange_values() {
    let input = numbers(WARP, 3);
    Case::new("exchanges", WARP, 4 * 23 * WARP)
        .input(&input)
        .check(|output| {
            let floats: Vec<f32> = input.iter().map(|value| (value % 1000) as f32 - 500.0).collect();
            let ints: Vec<i32> = floats.iter().map(|value| *value as i32).collect();
            let thirds = (0..WARP)
                .filter(|lane| input[*lane].is_multiple_of(3))
                .fold(0, |bits, lane| bits | 1_u32 << lane);
            let larger = |a: f32, b: f32| a.max(b);
            for lane in 0..WARP {
                let got = |index: usize| output[index * WARP + lane];
                assert_eq!(got(0), input[lane * 7 % WARP]);
                assert_eq!(got(1), input[lane ^ 5]);
                assert_eq!(got(2), input[if lane < 3 { lane } else { lane - 3 }]);
                assert_eq!(got(3), input[if lane + 6 < WARP { lane + 6 } else { lane }]);
                assert_eq!(float(got(4)), floats[31 - lane]);
                assert_eq!(got(5), input[lane ^ 16]);
                assert_eq!(got(6), thirds);
                assert_eq!(got(7), 2 | 4);
                assert_eq!(float(got(8)), over_group(&floats, lane, 4, 1, larger));
                assert_eq!(got(9), input.iter().sum::<u32>());
                assert_eq!(got(10).cast_signed(), over_group(&ints, lane, 8, 4, |a, b| a + b));
                let thousandths: Vec<f64> = floats.iter().map(|value| f64::from(*value) * 0.001).collect();
                let sum = over_group(&thousandths, lane, 16, 1, |a, b| a + b);
                assert_close(float(got(11)), sum, 1e-6, "sum of floats");
                assert_eq!(float(got(12)), floats.iter().copied().fold(f32::MIN, larger));
                assert_eq!(float(got(13)), floats.iter().map(|value| -value).fold(f32::MIN, larger));
                assert_eq!(got(14), input[lane] + input[lane ^ 16]);
                assert_eq!(got(15), input[lane] / 2 + input[lane ^ 16] / 2);
                // Lane bits 0, 1, 2 … are the highest bits of the share's number, in this order.
                let share = [0, 2, 1, 3][lane % 4];
                assert_eq!(got(16), got(19 + share), "the bits of sums that all lanes get");
                let second = share * 2 + 1;
                let sum = over_group(&thousandths, lane, 4, 1, |a, b| a + b) + (4 * second) as f64;
                assert_close(float(got(17)), sum, 1e-6, "share of sums");
                assert_eq!(got(18), (lane as u32 % 8).reverse_bits() >> 29);
            }
        });
}

#[test]
fn named_barriers_hand_over() {
    let input = numbers(4 * WARP, 4);
    Case::new("hand_over", 128, 4 * 128).input(&input).check(|output| {
        for (thread, sum) in output.iter().enumerate() {
            let (warp, lane) = (thread / WARP, thread % WARP);
            let term = |sum: u32, round: usize| {
                sum.wrapping_mul(3)
                    .wrapping_add(input[32 * round + (lane + warp) % WARP])
            };
            let expected = if warp == 0 { 0 } else { (0..4).fold(0, term) };
            assert_eq!(*sum, expected);
        }
    });
}

#[test]
fn mbarriers_hand_over() {
    const READERS: u32 = 0x8ef2_1c5b;
    let input = numbers(8 * WARP, 14);
    for kernel in ["mbarrier_ring", "mbarrier_ring_branchless"] {
        Case::new(kernel, 128, 4 * 128).input(&input).check(|output| {
            for (thread, sum) in output.iter().enumerate() {
                let (warp, lane) = (thread / WARP, thread % WARP);
                let rows = (0..8).filter(|row| READERS >> (4 * row + warp) & 1 == 1);
                let expected = rows.fold(0_u32, |sum, row| {
                    sum.wrapping_mul(3).wrapping_add(input[32 * row + (lane + warp) % WARP])
                });
                assert_eq!(*sum, expected);
            }
        });
    }
}

#[test]
fn functions_are_accurate() {
    let x = reals(128, 5);
    let y: Vec<f32> = reals(128, 6).iter().map(|value| value + 2.5).collect();
    let case = Case::new("functions", 128, 4 * 13 * 128).input(&x).second_input(&y);
    case.check(|output| {
        for thread in 0..128 {
            let got = |index: usize| output[index * 128 + thread];
            let (x, y) = (x[thread], y[thread]);
            let (wide_x, wide_y) = (f64::from(x), f64::from(y));
            assert_close(float(got(0)), wide_x.exp2(), 1e-6, "exp2");
            assert_close(float(got(1)), wide_y.log2(), 1e-6, "log2");
            assert_close(float(got(2)), wide_x.exp_m1(), 1e-6, "expm1");
            assert_close(float(got(3)), wide_y.recip(), 1e-6, "fast_reciprocal");
            assert_eq!(float(got(4)), x.max(y));
            assert_eq!(float(got(5)), x.min(y));
            assert_eq!(float(got(6)), x.mul_add(y, x));
            let bits = x.to_bits();
            assert_eq!(got(7), bits.count_ones());
            assert_eq!(got(8), bits.trailing_zeros() + 1);
            assert_eq!(got(9), bits.leading_zeros());
            assert_eq!(got(10) as usize, thread.clamp(5, 20) + thread.div_ceil(7));
            assert_close(float(got(11)), wide_y.sqrt().recip(), 1e-6, "reciprocal_sqrt");
            let denormal = f64::from(y * f32::MIN_POSITIVE / 16.0);
            assert_close(
                float(got(12)),
                denormal.sqrt().recip(),
                1e-6,
                "reciprocal_sqrt of a denormal",
            );
        }
    });
    assert_eq!(case.run(&host()).1.exponentials, 128);
}

/// Numbers with awkward roundings: halves of units in the last place, overflows, denormals, infinities, NaN.
fn awkward_numbers() -> Vec<f32> {
    let special = [
        0.0,
        -0.0,
        1.0 + 1.0 / 256.0,
        1.0 + 3.0 / 256.0,
        -1.0 - 1.0 / 2048.0,
        1.0 + 3.0 / 2048.0,
        65_504.0,
        65_519.0,
        65_520.0,
        -70_000.0,
        3.39e38,
        f32::MAX,
        1e-8,
        5.96e-8,
        2.98e-8,
        6.1e-5,
        f32::MIN_POSITIVE,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
    ];
    special.into_iter().chain(reals(128 - special.len(), 7)).collect()
}

fn conversions_round<T: Narrow>(name: &str) {
    let x = awkward_numbers();
    let y: Vec<f32> = x.iter().rev().copied().collect();
    let same = |bits: u32, expected: f32, what: &str| {
        let got = float(bits);
        assert!(
            got == expected || got.is_nan() && expected.is_nan(),
            "{what}: got {got}, expected {expected}"
        );
    };
    Case::new(name, 128, 4 * 4 * 128)
        .input(&x)
        .second_input(&y)
        .check(|output| {
            for thread in 0..128 {
                let lo = T::narrow(x[thread]).widen();
                let hi = T::narrow(y[thread]).widen();
                let pair: [T; 2] = bytemuck::cast(output[thread]);
                same(pair[0].widen().to_bits(), lo, "low half");
                same(pair[1].widen().to_bits(), hi, "high half");
                same(output[128 + thread], lo, "unpacked low half");
                same(output[256 + thread], hi, "unpacked high half");
                same(output[384 + thread], lo, "one element");
            }
        });
}

#[test]
fn conversions_round_to_nearest_even() {
    conversions_round::<bf16>("conversions_bf16");
    conversions_round::<f16>("conversions_f16");
}

fn mma_multiplies<T: Narrow>(name: &str) {
    let a: Vec<T> = narrow_reals(16 * 16, 8);
    let b: Vec<T> = narrow_reals(16 * 8, 9);
    Case::new(name, WARP, 4 * 16 * 8)
        .input(&a)
        .second_input(&b)
        .check(|output| {
            for row in 0..16 {
                for column in 0..8 {
                    let term = |k: usize| f64::from(a[row * 16 + k].widen()) * f64::from(b[k * 8 + column].widen());
                    let expected = (0..16).map(term).sum::<f64>() + row as f64 - column as f64;
                    assert_close(float(output[row * 8 + column]), expected, 1e-5, "C");
                }
            }
        });
}

#[test]
fn mma_follows_the_fragment_layouts() {
    mma_multiplies::<bf16>("mma_bf16");
    mma_multiplies::<f16>("mma_f16");
}

/// Element (row, column) of matrix `index` in rows of eight.
fn element(rows: &[u16], index: usize, row: usize, column: usize) -> u32 {
    u32::from(rows[(8 * index + row) * 8 + column])
}

#[test]
fn matrices_are_loaded_to_the_lanes() {
    let rows: Vec<u16> = numbers(32 * 8, 10).iter().map(|value| *value as u16).collect();
    Case::new("load_matrices", WARP, 4 * 14 * WARP)
        .input(&rows)
        .check(|output| {
            for lane in 0..WARP {
                let (g, t) = (lane / 4, lane % 4 * 2);
                let plain = |i: usize| element(&rows, i, g, t) | element(&rows, i, g, t + 1) << 16;
                let transposed = |i: usize| element(&rows, i, t, g) | element(&rows, i, t + 1, g) << 16;
                // One, two and four matrices are loaded, each from the first on.
                for (register, i) in [0, 0, 1, 0, 1, 2, 3].into_iter().enumerate() {
                    assert_eq!(
                        output[register * WARP + lane],
                        plain(i),
                        "register {register} of lane {lane}"
                    );
                    assert_eq!(
                        output[(7 + register) * WARP + lane],
                        transposed(i),
                        "register {register} of lane {lane}"
                    );
                }
            }
        });
}

#[test]
fn matrices_are_stored_from_the_lanes() {
    Case::new("store_matrices", WARP, 4 * (256 + WARP)).check(|output| {
        let stored: &[u16] = bytemuck::cast_slice(&output[..256]);
        for i in 0..4 {
            for (row, column) in (0..8).flat_map(|row| (0..8).map(move |column| (row, column))) {
                let index = |i: usize| (64 * i + 8 * row + column) as u32;
                assert_eq!(element(stored, i, row, column), index(i));
                assert_eq!(element(&stored[256..], i, column, row), index(i));
            }
        }
        for lane in 0..WARP {
            let (g, t) = ((lane / 4) as u32, (lane % 4 * 2) as u32);
            assert_eq!(output[256 + lane], (8 * t + g) | (8 * (t + 1) + g) << 16);
        }
    });
}

/// Element (row, column) of the operand A that a lane's register holds, low half.
fn place_in_a(lane: usize, register: usize) -> (usize, usize) {
    let (step, i) = (register / 4, register % 4);
    (lane / 4 + i % 2 * 8, 16 * step + lane % 4 * 2 + i / 2 * 8)
}

fn tile_keeps_its_elements(cols: usize) {
    let rows: Vec<u16> = numbers(64 * cols, 11).iter().map(|value| *value as u16).collect();
    let at = |row: usize, column: usize| u32::from(rows[row * cols + column]);
    let registers = cols / 4;
    let name = format!("tile_{cols}");
    let case = Case::new(&name, 128, 64 * cols * 2 + 4 * 128 * (registers + 4)).input(&rows);
    case.check(|output| {
        let (copied, fragments) = output.split_at(64 * cols / 2);
        assert_eq!(copied, bytemuck::cast_slice::<u16, u32>(&rows));
        for thread in 0..128 {
            let (warp, lane) = (thread / WARP, thread % WARP);
            for register in 0..registers {
                let (row, column) = place_in_a(lane, register);
                let row = 16 * warp + row;
                let expected = at(row, column) | at(row, column + 1) << 16;
                assert_eq!(
                    fragments[register * 128 + thread],
                    expected,
                    "register {register} of thread {thread}"
                );
            }
            for register in 0..4 {
                let (m, k) = place_in_a(lane, register);
                let (m, k) = (cols - 16 + m, 16 * warp + k);
                let expected = at(k, m) | at(k + 1, m) << 16;
                assert_eq!(
                    fragments[(registers + register) * 128 + thread],
                    expected,
                    "transposed register {register}"
                );
            }
        }
    });

    let counters = case.run(&counting_host(1)).1;
    // Row-wise stores and loads; ldmatrix of all of it; the 64 x 16 transposed part.
    let passes = 2 * 64 * cols * 2 / 128 + 64 * cols / 64 + 64 * 16 / 64;
    assert_eq!(counters.shared_wavefronts_ideal, passes as u64, "{name}");
    assert_eq!(
        counters.shared_wavefronts, counters.shared_wavefronts_ideal,
        "{name}: bank conflicts"
    );
}

#[test]
fn tiles_keep_their_elements_without_conflicts() {
    for cols in [32, 64, 128] {
        tile_keeps_its_elements(cols);
    }
}

/// The fused product, the instructions it stands for, and the sum in 64 bits agree.
fn product_agrees<T: Narrow>(
    name: &str,
    a_at: impl Fn(usize, usize) -> (usize, usize),
    b_at: impl Fn(usize, usize) -> (usize, usize),
) {
    const M: usize = 64;
    const N: usize = 40;
    const K: usize = 48;
    let a: Vec<T> = narrow_reals(64 * 64, 12);
    let b: Vec<T> = narrow_reals(64 * 128, 13);
    let case = Case::new(name, 128, 2 * 4 * M * N).input(&a).second_input(&b);
    case.check(|output| {
        let (fused, steps) = output.split_at(M * N);
        assert_eq!(fused, steps, "{name}: the fused product and its instructions");
        for (m, n) in (0..M).flat_map(|m| (0..N).map(move |n| (m, n))) {
            let term = |k: usize| {
                let (a_row, a_col) = a_at(m, k);
                let (b_row, b_col) = b_at(k, n);
                f64::from(a[a_row * 64 + a_col].widen()) * f64::from(b[b_row * 128 + b_col].widen())
            };
            let expected = 1.0 + (0..K).map(term).sum::<f64>();
            assert_close(float(fused[m * N + n]), expected, 1e-4, name);
        }
    });
    let counters = case.run(&host()).1;
    assert_eq!(counters.tensor_flops, 2 * 2 * (M * N * K) as u64);
    assert_eq!(
        counters.shared_wavefronts, counters.shared_wavefronts_ideal,
        "{name}: bank conflicts"
    );
}

#[test]
fn fused_products_equal_their_instructions() {
    let a = |m, k| (m, 16 + k);
    let nk = |k, n| (8 + n, 32 + k);
    let kn = |k, n| (16 + k, 40 + n);
    product_agrees::<bf16>("product_nk_bf16", a, nk);
    product_agrees::<f16>("product_nk_f16", a, nk);
    product_agrees::<bf16>("product_shared_nk", a, nk);
    product_agrees::<bf16>("product_shared_a_bf16", a, nk);
    product_agrees::<f16>("product_shared_a_f16", a, nk);
    product_agrees::<bf16>("product_kn_bf16", a, kn);
    product_agrees::<f16>("product_kn_f16", a, kn);
    product_agrees::<bf16>("product_shared_kn", a, kn);
    product_agrees::<bf16>("product_place_nk", a, |k, n| (8 + n, k));
    product_agrees::<f16>("product_place_kn", a, |k, n| (8 + k, n));
    // Each half of the output has every row, as the first operand of its warp and as the second of another.
    product_agrees::<bf16>("product_made_nk", a, |k, n| (8 + n, k));
    product_agrees::<f16>("product_made_kn", a, |k, n| (8 + k, n));
    product_agrees::<bf16>("product_shared_trans_kn", |m, k| (16 + k, m), kn);
}

/// A (64 x 64) and B, of small integers, which every way of summing gets right; `b` says where B(k, n) lies.
fn group_product_agrees<T: Narrow>(name: &str, columns: usize, times: f32, b: impl Fn(usize, usize) -> usize) {
    let integers = |count, seed| -> Vec<T> {
        let of = |n: u32| T::narrow((n % 17) as f32 - 8.0);
        numbers(count, seed).into_iter().map(of).collect()
    };
    let (left, right) = (integers(64 * 64, 31), integers(64 * columns, 32));
    let case = Case::new(name, 128, 4 * 64 * columns).input(&left).second_input(&right);
    case.of_warpgroup().check(|output| {
        for m in 0..64 {
            for n in 0..columns {
                let term = |k: usize| left[64 * m + k].widen() * right[b(k, n)].widen();
                let expected = times * (0..64).map(term).sum::<f32>();
                assert_eq!(float(output[m * columns + n]), expected, "{name}: ({m}, {n})");
            }
        }
    });
}

#[test]
fn products_of_warpgroups_agree() {
    let nk = |k, n| 64 * n + k;
    let kn = |k, n| 128 * k + n;
    group_product_agrees::<bf16>("nk_bf16", 64, 2.0, nk);
    group_product_agrees::<f16>("nk_f16", 64, 2.0, nk);
    group_product_agrees::<bf16>("kn_bf16", 128, 1.0, kn);
    group_product_agrees::<f16>("kn_f16", 128, 1.0, kn);
    group_product_agrees::<bf16>("shared_nk", 64, 1.0, nk);
}

fn accumulator_becomes_operand<T: Narrow>(name: &str) {
    let values = reals(16 * 64, 14);
    let identity: Vec<T> = (0..64 * 64)
        .map(|i| T::narrow(if i / 64 == i % 64 { 1.0 } else { 0.0 }))
        .collect();
    let case = Case::new(name, WARP, 2 * 4 * 16 * 64)
        .input(&values)
        .second_input(&identity);
    case.check(|output| {
        for row in 0..16 {
            for column in 0..64 {
                let rounded = |column: usize| T::narrow(values[row * 64 + column]).widen();
                let sign = if row < 8 { 1.0 } else { -1.0 };
                assert_eq!(float(output[row * 64 + column]), sign * rounded(column));
                let part = if column < 32 { rounded(32 + column) } else { 0.0 };
                assert_eq!(float(output[(16 + row) * 64 + column]), part);
            }
        }
    });
}

#[test]
fn accumulators_become_operands() {
    accumulator_becomes_operand::<bf16>("operand_bf16");
    accumulator_becomes_operand::<f16>("operand_f16");
}
