//! How long every operation takes on a fixed list of shapes, on the first GPU, or on the executor where there is none.
//!
//! ```text
//! cargo bench --bench timed                       # all
//! cargo bench --bench timed -- sparse_attention   # what criterion finds that in
//! ```
//!
//! Benchmarks are called after the operations in C. On a GPU events take the times, of launches one after the other, over as many copies of the
//! call's memory as its L2 has no room for. `elem/s` are FLOP/s and `B/s` bytes per second, both of the least work that the result takes
//! (`sala_testkit::floors`); a call that does not multiply has bytes alone. Of a GPU that `sala_model` knows, a line says which part of the time
//! that least work would take. Times on the executor are of a tool for tests, and say nothing of a GPU.

#[path = "../cases/mod.rs"]
mod cases;
mod clock;
mod floor;

use cases::{Call, Names, Visitor};
use clock::{Clock, Copies};
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use sala_kernels::Device;
use sala_testkit::devices::Machine;
use sala_testkit::problem::Problem;
use std::time::Duration;

/// Times every call that it is shown.
struct Timed<'a> {
    criterion: &'a mut Criterion,
    machine: &'a Machine,
    clock: &'a Clock,
}

impl Visitor for Timed<'_> {
    fn visit<P: Problem + 'static>(&mut self, names: Names, make: impl FnOnce() -> Call<P> + 'static) {
        let Call {
            shape, problem, floor, ..
        } = make();
        let mut group = self.criterion.benchmark_group(names.operation);
        let bytes = floor.bytes();
        group.throughput(match floor.flops {
            0 => Throughput::BytesDecimal(bytes),
            elements => Throughput::ElementsAndBytes { elements, bytes },
        });
        if self.machine.device.is_host() {
            group.sampling_mode(SamplingMode::Flat);
        }
        let mut fastest = None;
        group.bench_with_input(BenchmarkId::from_parameter(&shape), &problem, |bencher, problem| {
            let mut copies = Copies::new(problem, self.machine);
            bencher.iter_custom(|launches| {
                let time = self.clock.time(self.machine, launches, |launch| copies.submit(launch));
                let each = time.as_secs_f64() / launches as f64;
                fastest = Some(fastest.map_or(each, |fastest: f64| fastest.min(each)));
                time
            });
        });
        group.finish();
        if let (Some(seconds), Some(least)) = (fastest, floor::seconds(self.machine.device.name(), &floor)) {
            println!("{:24}floor: {}", "", floor::sentence(seconds, least));
        }
    }
}

fn main() {
    let device = Device::cuda(0).and_then(|device| Machine::open("cuda", device));
    let machine = device.unwrap_or_else(|error| {
        println!("no GPU ({error}): times are those of the executor");
        Machine::open("host", Device::host()).expect("benches are built with the executor")
    });
    let clock = Clock::of(&machine);
    println!("on {}, timed by {}", machine.device.name(), clock.name());
    let criterion = match machine.device.is_host() {
        true => Criterion::default()
            .sample_size(10)
            .warm_up_time(Duration::from_millis(1))
            .measurement_time(Duration::from_millis(500)),
        false => Criterion::default()
            .sample_size(50)
            .warm_up_time(Duration::from_millis(500))
            .measurement_time(Duration::from_secs(2)),
    };
    let mut criterion = criterion.without_plots().configure_from_args();
    cases::visit_all(&mut Timed {
        criterion: &mut criterion,
        machine: &machine,
        clock: &clock,
    });
    criterion.final_summary();
}
