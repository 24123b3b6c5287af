//! GPUs are found by the names that people give them, and hold the blocks that fit.

use sala_model::{GPUS, Gpu};

#[test]
fn names_may_leave_out_the_family() {
    for (name, full) in [
        ("5090", "RTX5090"),
        ("rtx4090", "RTX4090"),
        ("RTX PRO 6000", "PRO6000"),
        ("h200", "H200"),
    ] {
        assert_eq!(Gpu::find(name).unwrap().name, full);
    }
    let problem = Gpu::find("V100").unwrap_err().to_string();
    assert!(GPUS.iter().all(|gpu| problem.contains(gpu.name)), "{problem}");
}

#[test]
fn products_take_the_clocks_of_the_published_rates() {
    let clocks = |name: &str| Gpu::find(name).unwrap().product_clocks();
    assert_eq!(
        ["A100", "H100", "RTX5090", "PRO6000"].map(clocks),
        [8.0, 6.4, 32.0, 16.0]
    );
}

#[test]
fn blocks_fit_by_registers_and_shared_memory() {
    let resident = |name: &str, registers: u32, warps: usize, kib: u32| {
        let gpu = Gpu::find(name).unwrap();
        gpu.resident_blocks(registers, warps, kib << 10)
    };
    // Nine warps get no more than 168 registers each: warps are dealt to four sub-partitions.
    assert_eq!(resident("H100", 168, 9, 0), 1);
    assert_eq!(resident("H100", 176, 9, 0), 0);
    assert_eq!(resident("H100", 224, 4, 83), 2);
    assert_eq!(resident("RTX5090", 224, 4, 83), 1);
    assert_eq!(resident("A100", 32, 4, 164), 0);
    assert_eq!(resident("RTX4090", 32, 16, 0), 3);
}
