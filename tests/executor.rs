//! The executor must report every bug planted in the files below, naming kernel, file and line, and nothing else.

use std::thread;

use sala_kernels::sys::params::{
    SALA_SWIZZLE_128, SALA_UNIT_TEST_SHARED, sala_tensor_test_params, sala_unit_test_params,
};
use sala_kernels::{
    Buffer, Copies, Device, Error, HostOptions, Kernels, MapAxis, MappedTensor, Result, Schedule, Stream,
};
use sala_testkit::devices::can_detect_races;

const THREADS: u32 = 128;
/// The files with planted bugs.
const SOURCES: [(&str, &str); 4] = [
    ("faults", include_str!("../cuda/tests/faults.cu")),
    ("warpgroup_faults", include_str!("../cuda/tests/warpgroup_faults.cu")),
    ("tensor_faults", include_str!("../cuda/tests/tensor_faults.cu")),
    ("tensor_products", include_str!("../cuda/tests/tensor_products.cu")),
];

/// The file that a kernel is in, and its source.
fn source(name: &str) -> (&'static str, &'static str) {
    let start = format!("DEVICE void {name}(");
    let has = |(_, text): &(&str, &str)| text.contains(&start);
    SOURCES
        .into_iter()
        .find(has)
        .unwrap_or_else(|| panic!("no kernel {name}"))
}

/// Runs one kernel of the file in one block and returns its output.
fn run(options: HostOptions, name: &str) -> Result<Vec<u32>> {
    let device = Device::host_with(options);
    let kernels = Kernels::load(&device)?;
    run_on(&kernels, name)
}

fn run_on(kernels: &Kernels, name: &str) -> Result<Vec<u32>> {
    if source(name).0.starts_with("tensor") {
        return run_with_map(kernels, name);
    }
    let input = Buffer::from_slice(kernels.device(), &input())?;
    let output = Buffer::from_slice(kernels.device(), &[0_u32; THREADS as usize])?;
    let params = sala_unit_test_params {
        input: input.address(),
        second_input: 0,
        output: output.address(),
    };
    launch(kernels, name, THREADS, bytemuck::bytes_of(&params))?;
    output.read()
}

/// With the map of 64 rows of 64 elements, of which a box has 8, or all for products; the other map is missing, or the same.
fn run_with_map(kernels: &Kernels, name: &str) -> Result<Vec<u32>> {
    let is_product = source(name).0 == "tensor_products";
    let threads = if is_product { 3 * THREADS } else { THREADS };
    let input: Vec<u32> = (0..64 * 32).map(|i| i * 40_503 % 1000).collect();
    let input = Buffer::from_slice(kernels.device(), &input)?;
    let output = Buffer::from_slice(kernels.device(), &[0_u32; 64 * 64])?;
    let axis = |size, stride, boxed| MapAxis { size, stride, boxed };
    let rows = MappedTensor {
        address: input.address(),
        axes: [axis(64, 1, 64), axis(64, 64, if is_product { 64 } else { 8 })],
        swizzle: SALA_SWIZZLE_128,
    };
    let map = kernels.tensor_map("input", &rows)?;
    let params = sala_tensor_test_params {
        map,
        second_map: if is_product { map } else { Default::default() },
        input: input.address(),
        output: output.address(),
        ..Default::default()
    };
    launch(kernels, name, threads, bytemuck::bytes_of(&params))?;
    output.read()
}

fn launch(kernels: &Kernels, name: &str, threads: u32, params: &[u8]) -> Result<()> {
    let stream = Stream::new(kernels.device())?;
    // SAFETY: the buffers that `params` names outlive the launch, which has ended when it returns.
    unsafe {
        kernels.launch_named(
            &format!("{}_{name}", source(name).0),
            &stream,
            [1, 1, 1],
            threads,
            SALA_UNIT_TEST_SHARED,
            params,
        )
    }
}

fn input() -> Vec<u32> {
    (0..THREADS).map(|i| i * i * 40_503 % 1000).collect()
}

fn options(change: impl FnOnce(&mut HostOptions)) -> HostOptions {
    let mut options = HostOptions::default();
    change(&mut options);
    options
}

/// The lines of a kernel in the source file that its report may name.
fn marked_lines(name: &str) -> Vec<usize> {
    let start = format!("DEVICE void {name}(");
    let mut lines = source(name)
        .1
        .lines()
        .zip(1..)
        .skip_while(|(text, _)| !text.starts_with(&start));
    let body = lines.by_ref().take_while(|(text, _)| *text != "}");
    body.filter(|(text, _)| text.ends_with("// reported"))
        .map(|(_, line)| line)
        .collect()
}

fn assert_reported(options: HostOptions, name: &str, what: &str) {
    let report = match run(options, name) {
        Err(Error::Execution { report, .. }) => report,
        other => panic!("{name}: expected a report of {what}, got {other:?}"),
    };
    let lines = marked_lines(name);
    assert!(!lines.is_empty(), "{name}: no line is marked");
    assert!(
        report.contains(&format!("kernel {}_{name}, block (0, 0, 0)", source(name).0)),
        "{report}"
    );
    assert!(report.contains(what), "{name}: expected {what}: {report}");
    let place = |line: &usize| report.contains(&format!("/{}.cu:{line}", source(name).0));
    assert!(
        lines.iter().any(place),
        "{name}: expected one of lines {lines:?}: {report}"
    );
}

/// Every legal order of threads and copies that the options can ask for, with some seeds.
fn orders() -> Vec<HostOptions> {
    let mut orders = Vec::new();
    for detect_races in [false, true] {
        for copies in [Copies::Lazy, Copies::Eager, Copies::Random] {
            for (schedule, seeds) in [(Schedule::RoundRobin, 1), (Schedule::Reverse, 1), (Schedule::Random, 5)] {
                orders.extend((0..seeds).map(|seed| {
                    options(|options| {
                        (options.seed, options.schedule, options.copies) = (seed, schedule, copies);
                        options.detect_races = detect_races;
                        options.preempt = if detect_races && seed % 2 == 1 { 3 } else { 0 };
                    })
                }));
            }
        }
    }
    orders.retain(|options| can_detect_races() || !options.detect_races);
    orders
}

#[test]
fn broken_rules_of_the_machine_are_reported() {
    for (name, what) in [
        ("barrier_count_mismatch", "barrier 1: this thread expects"),
        ("skipped_barrier", "deadlock"),
        ("divergent_barrier", "divergent warp"),
        ("missing_arrival", "deadlock"),
        ("missing_mbarrier_arrival", "lacks 1 of 128 arrivals"),
        ("overwritten_mbarrier", "was overwritten"),
        ("unknown_mbarrier", "there is no mbarrier"),
        (
            "too_many_mbarrier_arrivals",
            "1 arrivals that must not complete the phase, but the phase lacks 1",
        ),
        ("divergent_shuffle", "divergent warp"),
        ("early_exit", "ballot"),
        ("misaligned_matrix", "not aligned to 16 bytes"),
        ("misaligned_load_shared", "not aligned to 16 bytes"),
        ("misaligned_load_global", "not aligned to 16 bytes"),
        ("misaligned_copy", "not aligned to 16 bytes"),
        ("null_load", "null pointer"),
        ("shared_out_of_bounds", "out of bounds"),
        (
            "plan_too_large",
            "plan takes 65536 bytes, but the launch gives 32768 of dynamic shared memory: too little",
        ),
        (
            "plan_too_small",
            "plan takes 1616 bytes, but the launch gives 32768 of dynamic shared memory: too much",
        ),
        ("disagreeing_product", "another part of a tile"),
        ("columns_past_tile", "columns 8 to 40 of a tile of 32 columns"),
        ("unfinished_product", "ends without having waited for the product"),
        ("divergent_warpgroup", "divergent warpgroup"),
        ("missing_warp", "divergent warpgroup"),
        ("misaligned_panel", "not aligned to 1024 bytes"),
        ("rows_past_tile", "rows 8 to 72 of a tile of 64 rows"),
        ("missing_announcement", "announced"),
        ("too_many_bytes", "lacks 0 of 1 arrivals and 1024 bytes"),
        ("too_few_bytes", "512 bytes more than were announced"),
        ("unfinished_copy", "the block ends"),
        ("misaligned_target", "not aligned to 128 bytes"),
        ("missing_map", "there is no map"),
        ("indices_of_another_rank", "3 indices, but the map has 2 axes"),
        ("misaligned_bytes", "24 bytes"),
        ("target_out_of_bounds", "out of bounds"),
        ("more_than_a_phase_lacks", "a phase may lack 1048575"),
        ("registers_for_ever", "wait in take_registers"),
        ("fewer_registers_taken", "to 40 registers, but a thread has 168"),
    ] {
        for options in orders() {
            assert_reported(options, name, what);
        }
    }
}

/// The orders of threads; the other options matter little to loops as long as these.
fn schedules() -> [HostOptions; 3] {
    [Schedule::RoundRobin, Schedule::Reverse, Schedule::Random]
        .map(|schedule| options(|options| options.schedule = schedule))
}

#[test]
fn endless_polling_is_reported() {
    for options in schedules() {
        assert_reported(options, "endless_poll", "no progress");
    }
}

#[test]
fn long_loops_are_not_taken_for_endless_polling() {
    let rounds = 5 << 17;
    let sum = input().iter().sum::<u32>().wrapping_mul(rounds / THREADS);
    let expected: Vec<u32> = (0..THREADS).map(|thread| if thread < 32 { sum } else { 0 }).collect();
    for options in schedules() {
        assert_eq!(run(options, "clean_long_wait").as_ref(), Ok(&expected), "{options:?}");
    }
}

#[test]
fn races_are_reported() {
    if !can_detect_races() {
        return;
    }
    for (name, what) in [
        ("missing_barrier", "race"),
        ("missing_second_barrier", "race"),
        ("missing_sync_warp", "race"),
        ("shuffle_for_sync_warp", "race"),
        ("weak_copy_wait", "asynchronous write"),
        ("copy_without_barrier", "race"),
        ("overwriting_copy", "race"),
        ("uninitialised_read", "uninitialised"),
        ("half_atomic", "race"),
        ("stale_mbarrier", "race"),
        ("missing_mbarrier_wait", "race"),
        ("unfinished_mbarrier_copies", "race"),
        ("own_writes_with_copies", "race"),
        ("unsynchronised_mbarrier", "race"),
        ("unpublished_writes", "unpublished"),
        ("unpublished_copies", "unpublished"),
        ("unordered_product", "race"),
        ("overwritten_factor", "race"),
        ("read_before_wait", "race"),
        ("early_refill", "race"),
        ("boxes_over_each_other", "race"),
        ("unpublished_target", "unpublished"),
        ("unpublished_mbarrier", "unpublished"),
        ("unwaited_factor", "race"),
    ] {
        for options in orders().into_iter().filter(|options| options.detect_races) {
            // In some orders a thread reads what nobody has written yet: the same bug.
            let first = run(options, name)
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default();
            let what = if first.contains("uninitialised") {
                "uninitialised"
            } else {
                what
            };
            assert_reported(options, name, what);
        }
    }
}

/// Plain accesses are named by the program's line tables, if there is a tool to read them.
#[test]
fn races_of_plain_accesses_are_reported() {
    if !can_detect_races() {
        return;
    }
    let racy = options(|options| options.detect_races = true);
    let report = run(racy, "missing_barrier_plain")
        .expect_err("the kernel races")
        .to_string();
    assert!(report.contains("race") || report.contains("uninitialised"), "{report}");
    let tool = std::process::Command::new("addr2line").arg("--version").output();
    if tool.is_ok_and(|output| output.status.success()) {
        assert_reported(racy, "missing_barrier_plain", "shared memory");
    }
}

#[test]
fn a_thread_that_ends_before_its_copies_arrive_is_reported() {
    assert_reported(
        HostOptions::default(),
        "ending_before_arrival",
        "the thread ends before its copies",
    );
}

#[test]
fn late_copies_show_a_weak_wait() {
    let lazy = run(HostOptions::default(), "weak_copy_wait").expect("nothing to report without race detection");
    assert!(lazy.iter().all(|word| *word == u32::MAX), "{lazy:?}");
    let eager = options(|options| options.copies = Copies::Eager);
    let mut expected = input();
    expected.rotate_left(32);
    assert_eq!(run(eager, "weak_copy_wait"), Ok(expected));
}

/// Its phase is complete before the copy: some orders show the read, some the bytes that nobody expected.
#[test]
fn late_announcements_are_reported() {
    for options in orders() {
        assert_reported(options, "announced_too_late", "");
    }
}

#[test]
fn late_products_show_a_weak_wait() {
    let lazy = run(HostOptions::default(), "early_sum").expect("nothing to report without race detection");
    assert!(lazy.iter().all(|word| f32::from_bits(*word).is_nan()), "{lazy:?}");
    let eager = options(|options| options.copies = Copies::Eager);
    assert_eq!(run(eager, "early_sum"), Ok(vec![0; THREADS as usize]));
}

#[test]
fn parameters_of_another_size_are_refused() {
    let device = Device::host();
    let kernels = Kernels::load(&device).expect("host kernels");
    let error = launch(&kernels, "clean_pipeline", THREADS, &[0; 16])
        .expect_err("24 bytes are expected")
        .to_string();
    assert!(error.contains("24") && error.contains("16"), "{error}");
}

#[test]
fn correct_kernels_give_the_same_bits_in_every_order() {
    for name in [
        "clean_hand_over",
        "clean_pipeline",
        "clean_ring",
        "clean_sync_warp",
        "clean_atomics",
        "clean_products",
        "clean_refills",
        "clean_mixed_refills",
    ] {
        let expected = run(HostOptions::default(), name).unwrap_or_else(|error| panic!("{error}"));
        for options in orders() {
            assert_eq!(run(options, name).as_ref(), Ok(&expected), "{name}: {options:?}");
        }
    }
}

#[test]
fn exchanges_through_shared_memory_arrive() {
    let sums = run(HostOptions::default(), "clean_sync_warp").expect("a correct kernel");
    let input = input();
    for (warp, values) in input.chunks(32).enumerate() {
        let sum: u32 = values.iter().sum();
        assert_eq!(sums[32 * warp..32 * (warp + 1)], [sum; 32]);
    }
}

#[test]
fn threads_may_launch_at_once() {
    let expected = run(HostOptions::default(), "clean_pipeline").expect("a correct kernel");
    let kernels = Kernels::load(&Device::host()).expect("host kernels");
    let (expected, kernels) = (&expected, &kernels);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(move || {
                for _ in 0..50 {
                    assert_eq!(run_on(kernels, "clean_pipeline").as_ref(), Ok(expected));
                    assert!(run_on(kernels, "skipped_barrier").is_err());
                }
            });
        }
    });
}
