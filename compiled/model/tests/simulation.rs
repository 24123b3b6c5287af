//! The simulation has the properties that a multiprocessor has.

use sala_model::Gpu;
use sala_model::machine::{BARRIER, Free, Pipe, Program, Run, Workload};

const CHAIN: &str = "HMMA.16816.F32.BF16 R8, R4, R20, R8\n";

fn gpu(name: &str) -> &'static Gpu {
    Gpu::find(name).unwrap()
}

fn program(text: &str) -> Program {
    Program::of_text(text, gpu("H100")).unwrap()
}

/// Products that do not wait for each other, at most 60.
fn independent_products(count: usize) -> String {
    (0..count)
        .map(|i| format!("HMMA.16816.F32.BF16 R{}, R4, R0, RZ\n", 8 + 4 * i))
        .collect()
}

/// Each warp runs its text once, in one block.
fn run(texts: &[&str], free: Free) -> Run {
    let programs: Vec<Program> = texts.iter().map(|text| program(text)).collect();
    let workload = Workload {
        late: Vec::new(),
        warps: programs.iter().map(|program| vec![program]).collect(),
        blocks: 1,
        syncs: &[],
        refilled: false,
    };
    workload.run(gpu("H100"), free).unwrap()
}

fn end(texts: &[&str]) -> f64 {
    run(texts, Free::default()).end()
}

fn assert_near(value: f64, expected: f64, slack: f64) {
    assert!((value - expected).abs() <= slack, "{value} is not {expected} ± {slack}");
}

#[test]
fn a_pipe_bounds_independent_work() {
    let count = 60;
    let products = independent_products(count);
    let bound = count as f64 * gpu("H100").product_clocks();
    assert_near(end(&[&products]), bound, 10.0);
    // Warps of one sub-partition share it; those of others have their own.
    assert_near(end(&[&products, "", "", "", &products]), 2.0 * bound, 10.0);
    assert_near(end(&[&products, &products, &products, &products]), bound, 10.0);
}

#[test]
fn a_dependent_chain_takes_its_latencies() {
    let count = 32;
    let chain = CHAIN.repeat(count);
    let latency = gpu("H100").product_latency;
    assert_near(end(&[&chain]), count as f64 * latency, latency);
    // A second warp hides in its gaps.
    assert_near(
        end(&[&chain, "", "", "", &chain]),
        count as f64 * latency,
        latency + 10.0,
    );
}

#[test]
fn a_load_is_waited_for_where_it_is_used() {
    let used_late = "LDS R1, [R0]\nMOV R5, R6\nMOV R7, R1\n";
    let latency = gpu("H100").shared_latency;
    assert_near(end(&[used_late]), latency, 2.0);
    assert_near(end(&["LDS R1, [R0]\nMOV R5, R6\nMOV R7, R5\n"]), 5.5, 2.0);
}

#[test]
fn a_sub_partition_issues_one_instruction_per_clock() {
    let moves = "NOP\nEXIT\n".repeat(50);
    assert_near(end(&[&moves]), 100.0, 2.0);
    assert_near(end(&[&moves, "", "", "", &moves]), 200.0, 2.0);
}

#[test]
fn the_multiprocessor_has_one_shared_pipe() {
    let loads: String = (2..22).map(|i| format!("LDSM.16.M88.4 R{}, [R0]\n", 4 * i)).collect();
    for warps in [1, 4, 16] {
        let expected = warps as f64 * 20.0 * 4.0;
        assert_near(end(&vec![loads.as_str(); warps]), expected, 15.0);
    }
}

#[test]
fn a_barrier_makes_all_wait_for_the_slowest() {
    let slow = format!("{}BAR.SYNC.DEFER_BLOCKING 0x0\nNOP\n", CHAIN.repeat(10));
    let fast = "BAR.SYNC.DEFER_BLOCKING 0x0\nNOP\n";
    let slow_part = 9.0 * gpu("H100").product_latency;
    assert_near(end(&[fast, &slow, fast, fast]), slow_part + BARRIER, 5.0);
    let free = Free {
        barriers: true,
        ..Free::default()
    };
    assert_near(run(&[fast, &slow], free).end(), slow_part, 5.0);
}

#[test]
fn a_named_barrier_meets_the_threads_that_it_counts() {
    let producer = format!("{}BAR.ARV 0x1, 0x40\n{}", CHAIN.repeat(4), CHAIN.repeat(40));
    let consumer = "BAR.SYNC 0x1, 0x40\nNOP\n";
    let run = run(&[&producer, consumer], Free::default());
    // The producer goes on, and the consumer does not wait for its end.
    assert_near(run.end(), 43.0 * gpu("H100").product_latency, 10.0);
    let consumer = program(consumer);
    let alone = Workload {
        late: Vec::new(),
        warps: vec![vec![&consumer]],
        blocks: 1,
        syncs: &[],
        refilled: false,
    };
    let problem = alone.run(gpu("H100"), Free::default()).unwrap_err().to_string();
    assert!(problem.contains("wait for each other for ever"), "{problem}");
}

#[test]
fn copies_take_the_latency_and_their_share_of_the_bandwidth() {
    let gpu = gpu("H100");
    let copies = "LDGSTS.E.BYPASS.128 [R0], [R2.64]\n".repeat(8);
    let text = format!("{copies}LDGDEPBAR\nDEPBAR.LE SB0, 0x0\nNOP\n");
    let bytes = 8.0 * 512.0;
    assert_near(end(&[&text]), bytes / gpu.l2_rate + gpu.l2_latency, 10.0);
    assert_near(end(&[&text, &text]), 2.0 * bytes / gpu.l2_rate + gpu.l2_latency, 20.0);
    // A group that may stay under way is not waited for, and what is never waited for costs nothing.
    let lenient = text.replace("0x0\n", "0x1\n");
    assert!(end(&[&lenient]) < 60.0);
    let free = Free {
        copies: true,
        ..Free::default()
    };
    assert!(run(&[&text], free).end() < 60.0);
}

#[test]
fn products_of_a_warpgroup_are_waited_for_in_groups() {
    let product = "HGMMA.64x128x16.F32.BF16 R24, gdesc[UR4], R24, gsb0\n";
    let clocks = 128.0 * 2.0 * 64.0 * 16.0 / gpu("H100").warpgroup_product_rate;
    let all = format!("{}WARPGROUP.DEPBAR.LE gsb0, 0x0\nNOP\n", product.repeat(4));
    let latency = gpu("H100").product_latency;
    assert_near(end(&[&all]), 4.0 * clocks + latency, 4.0);
    let but_one = all.replace("0x0\n", "0x1\n");
    assert_near(end(&[&but_one]), 3.0 * clocks + latency, 4.0);
    assert!(Program::of_text(product, gpu("A100")).is_err());
}

#[test]
fn a_period_is_that_of_the_steady_state() {
    let round = program(&format!("{}BAR.SYNC.DEFER_BLOCKING 0x0\n", CHAIN.repeat(10)));
    let workload = Workload {
        late: Vec::new(),
        warps: vec![vec![&round; 6]; 4],
        blocks: 1,
        syncs: &[],
        refilled: false,
    };
    let run = workload.run(gpu("H100"), Free::default()).unwrap();
    let latency = gpu("H100").product_latency;
    assert_near(run.period().unwrap(), 10.0 * latency.max(BARRIER), latency);
    assert_near(run.busy(Pipe::Tensor), 60.0 * gpu("H100").product_clocks(), 0.1);
    assert_near(run.issued(), 66.0, 0.1);
}

#[test]
fn late_warps_begin_so_many_clocks_after_the_others() {
    let count = 60;
    let program = program(&independent_products(count));
    let end = |late: Vec<f64>, warps: usize| {
        let workload = Workload {
            late,
            warps: vec![vec![&program]; warps],
            blocks: 1,
            syncs: &[],
            refilled: false,
        };
        workload.run(gpu("H100"), Free::default()).unwrap().end()
    };
    let bound = count as f64 * gpu("H100").product_clocks();
    assert_near(end(vec![0.0, 500.0], 2), 500.0 + bound, 10.0);
    // One that shares a pipe has what the other leaves.
    assert_near(end(vec![0.0, 0.0, 0.0, 0.0, bound], 5), 2.0 * bound, 10.0);
    assert_near(end(vec![0.0, 0.0, 0.0, 0.0, bound / 2.0], 5), 2.0 * bound, 10.0);
}

#[test]
fn the_same_code_is_slower_where_the_pipe_is() {
    let products = independent_products(60);
    let clocks = |name: &str| {
        let program = Program::of_text(&products, gpu(name)).unwrap();
        let workload = Workload {
            late: Vec::new(),
            warps: vec![vec![&program]],
            blocks: 1,
            syncs: &[],
            refilled: false,
        };
        workload.run(gpu(name), Free::default()).unwrap().end()
    };
    assert!(clocks("5090") > 1.9 * clocks("PRO6000"));
    assert!(clocks("PRO6000") > 1.9 * clocks("A100"));
    assert!(clocks("A100") > clocks("H200"));
}
