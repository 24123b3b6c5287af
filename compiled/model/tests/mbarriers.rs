//! Rings of mbarriers: phases belong to rounds, and refills to the last reader.

mod support;

use sala_model::Gpu;
use sala_model::machine::{Free, Memory, Pipe, Program, Refill, Setting, Sync, Workload};
use sala_model::sass::Function;

use support::function;

const SOURCES: [(&str, &str); 1] = [(
    "ring.cu",
    "DEVICE void multiply() {\n\
     mma();\n\
     }\n\
     DEVICE void arrive() {\n\
     mbarrier_arrive();\n\
     }\n\
     DEVICE void wait() {\n\
     mbarrier_wait();\n\
     }\n\
     DEVICE void refill() {\n\
     start_copy();\n\
     }",
)];

/// A straight line of code, each instruction with the line of `ring.cu` that it came from.
fn code(lines: &[(usize, &str)]) -> Function {
    let mut listing = String::from(".text.ring:\n");
    for (line, instruction) in lines {
        listing += &format!("//## File \"ring.cu\", line {line}\n/*0000*/ {instruction} ;\n");
    }
    function(&listing, &SOURCES)
}

const ARRIVE: (usize, &str) = (5, "SYNCS.ARRIVE.TRANS64.A1T0 RZ, [UR4], RZ");
const WAIT: (usize, &str) = (8, "SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [UR4], R3");

fn products(count: usize) -> Vec<(usize, &'static str)> {
    vec![(2, "HMMA.16816.F32.BF16 R8, R4, R20, R8"); count]
}

fn gpu() -> &'static Gpu {
    Gpu::find("H100").unwrap()
}

fn program(lines: &[(usize, &str)], syncs: &[Sync], refill: Option<&Refill>) -> Program {
    let function = code(lines);
    let path: Vec<usize> = (0..function.code.len()).collect();
    let setting = Setting {
        gpu: gpu(),
        memory: Memory::L2,
        bulk_bytes: 4096,
        syncs,
        refill,
    };
    Program::of_path(&function, &path, &setting).unwrap()
}

fn sync(count: u32, lead: usize, copies: bool) -> Sync {
    Sync {
        name: "full".to_owned(),
        arrive: "arrive".to_owned(),
        wait: "wait".to_owned(),
        count,
        lead,
        stage_lead: 0,
        copies,
    }
}

fn end(warps: Vec<Vec<&Program>>, syncs: &[Sync], refilled: bool) -> f64 {
    let workload = Workload {
        late: Vec::new(),
        warps,
        blocks: 1,
        syncs,
        refilled,
    };
    workload.run(gpu(), Free::default()).unwrap().end()
}

#[test]
fn a_phase_takes_an_arrival_of_every_warp_in_its_round() {
    let syncs = [sync(2, 0, false)];
    let fast = program(&[ARRIVE, WAIT], &syncs, None);
    let slow = program(&[products(20), vec![ARRIVE, WAIT]].concat(), &syncs, None);
    let rounds = 5;
    let slow_alone = rounds as f64 * 20.0 * gpu().product_latency;
    // Two arrivals of the fast warp would be a phase, if arrivals were only counted.
    let both = end(vec![vec![&fast; rounds], vec![&slow; rounds]], &syncs, false);
    assert!(
        both > 0.9 * slow_alone && both < 1.2 * slow_alone,
        "{both} of {slow_alone}"
    );
}

#[test]
fn stages_let_a_producer_run_ahead() {
    // The consumer frees a stage; the producer waits for it before it fills the stage again.
    let producer = [vec![WAIT], products(10)].concat();
    let consumer = [products(10), vec![ARRIVE]].concat();
    let rounds = 8;
    let ended = |stages: usize| {
        let syncs = [sync(1, stages, false)];
        let (producer, consumer) = (program(&producer, &syncs, None), program(&consumer, &syncs, None));
        end(vec![vec![&producer; rounds], vec![&consumer; rounds]], &syncs, false)
    };
    let work = rounds as f64 * 10.0 * gpu().product_latency;
    assert!(ended(2) < 1.15 * work, "{} of {work}", ended(2));
    // Without a stage that is free at first it takes its turn after the consumer.
    assert!(ended(0) > work + 7.0 * gpu().product_latency, "{} of {work}", ended(0));
}

#[test]
fn a_warp_that_a_round_spares_counts_as_arrived() {
    let syncs = [sync(2, 0, false)];
    let work = program(&[ARRIVE, WAIT], &syncs, None);
    let spared = program(&[(2, "NOP")], &syncs, None);
    let together = vec![vec![&work, &work, &work], vec![&work, &spared, &work]];
    assert!(end(together, &syncs, false) < 500.0);
}

#[test]
fn an_arrival_may_wait_for_copies() {
    let copy = (11, "LDGSTS.E.BYPASS.128 [R0], [R2.64]");
    let ended = |copies: bool| {
        let syncs = [sync(1, 0, copies)];
        let program = program(&[copy, ARRIVE, WAIT, products(1)[0]], &syncs, None);
        end(vec![vec![&program]], &syncs, false)
    };
    assert!(ended(true) > gpu().l2_latency && ended(false) < 100.0);
    // A bulk copy completes the phase itself when the description names it.
    let mut bulk = sync(1, 0, false);
    bulk.arrive = "refill: start_copy".to_owned();
    let syncs = [bulk];
    let program = program(
        &[(11, "UBLKCP.S.G [UR4], [UR8], UR5"), WAIT, products(1)[0]],
        &syncs,
        None,
    );
    assert!(end(vec![vec![&program]], &syncs, false) > gpu().l2_latency + 4096.0 / gpu().l2_rate);
}

#[test]
fn the_last_reader_fills_a_stage_again() {
    let syncs = [sync(1, 2, false)];
    let again = Refill {
        code: "refill".to_owned(),
        stages: 2,
    };
    let refill = (11, "MUFU.EX2 R30, R31");
    let reader = program(
        &[vec![WAIT], products(3), vec![refill, (5, ARRIVE.1)]].concat(),
        &syncs,
        Some(&again),
    );
    let rounds = 6;
    let workload = Workload {
        late: Vec::new(),
        warps: vec![vec![&reader; rounds]; 4],
        blocks: 1,
        syncs: &syncs,
        refilled: true,
    };
    // The arrival is not part of what the last reader alone runs, so every reader arrives; one of four refills.
    let run = workload.run(gpu(), Free::default()).unwrap();
    let refilled = run.busy(Pipe::Mufu) * 4.0 / 8.0;
    assert_eq!(refilled, (rounds - 2) as f64);
}

#[test]
fn a_ring_that_nobody_fills_is_an_error() {
    let syncs = [sync(1, 0, false)];
    let waits = program(&[WAIT], &syncs, None);
    let workload = Workload {
        late: Vec::new(),
        warps: vec![vec![&waits]],
        blocks: 1,
        syncs: &syncs,
        refilled: false,
    };
    let problem = workload.run(gpu(), Free::default()).unwrap_err().to_string();
    assert!(problem.contains("`sync` entries"), "{problem}");
}
