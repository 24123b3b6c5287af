//! No spills, registers and shared memory that let a block start, and the parameters that Rust passes.

use crate::{cuobjdump, images, run};
use sala_kernels::shapes::{KernelFile, Machine};
use sala_kernels::sys::params::SIZES;
use std::collections::BTreeMap;
use std::fs;

/// Registers of a multiprocessor, and the unit in which a warp takes them; the same from compute capability 8.0 to 12.1.
const REGISTERS: u32 = 65_536;
const REGISTER_UNIT: u32 = 256;
const WARP_SIZE: u32 = 32;
/// What a block has of static shared memory.
const STATIC_SHARED_MEMORY: u32 = 48 << 10;

/// One kernel instance as compiled for one architecture.
#[derive(Debug, Default)]
struct Compiled {
    registers: u32,
    stack: u32,
    local: u32,
    shared: u32,
    parameters: u32,
    threads: u32,
}

type ByArchAndName = BTreeMap<(String, String), Compiled>;

#[test]
fn ptxas_spills_nothing() {
    for (file, fatbin) in images() {
        let log = fs::read_to_string(fatbin.with_extension("log")).expect("ptxas log beside the image");
        let mut function = "";
        for line in log.lines() {
            if let Some((_, name)) = line.split_once("Function properties for ") {
                function = name;
            } else if line.contains("spill stores") {
                let (stack, spills) = line.trim().split_once(" bytes stack frame, ").unwrap_or_default();
                assert_eq!(
                    spills, "0 bytes spill stores, 0 bytes spill loads",
                    "{}: {function}",
                    file.name
                );
                let stack: u32 = stack.parse().expect("a number of bytes");
                assert!(stack <= most_stack(file), "{}: {function}: {line}", file.name);
            }
        }
        assert!(!function.is_empty(), "{}: ptxas reported no function", file.name);
    }
}

/// Bytes of stack that a kernel may have: none. For a tensor copy ptxas takes a word, on compute capability 10.0 and later, where unit kernels alone have such
/// copies so far.
fn most_stack(file: &KernelFile) -> u32 {
    if file.machine == Machine::Sm90Tests { 8 } else { 0 }
}

#[test]
fn every_instance_is_in_every_machine_code() {
    for_each_compiled_file(|file, compiled| {
        let mut archs: Vec<_> = compiled.keys().map(|(arch, _)| arch).collect();
        archs.dedup();
        for arch in archs {
            for instance in file.instances() {
                let key = (arch.clone(), instance.name);
                assert!(compiled.contains_key(&key), "{}: not in the image for {arch}", key.1);
            }
        }
    });
}

#[test]
fn a_block_gets_the_registers_and_the_shared_memory_it_asks_for() {
    for_each_kernel(|place, file, kernel| {
        assert_eq!(kernel.local, 0, "{place}: local memory");
        assert!(
            kernel.stack <= most_stack(file),
            "{place}: {} bytes of stack",
            kernel.stack
        );
        assert!(kernel.threads > 0, "{place}: no launch bounds");
        let by_warp = (kernel.registers * WARP_SIZE).next_multiple_of(REGISTER_UNIT);
        let by_block = by_warp * kernel.threads.div_ceil(WARP_SIZE);
        assert!(by_block <= REGISTERS, "{place}: {by_block} registers a block");
        assert!(
            kernel.shared <= STATIC_SHARED_MEMORY,
            "{place}: {} bytes of static shared memory",
            kernel.shared
        );
    });
}

#[test]
fn parameters_are_what_rust_passes() {
    for_each_kernel(|place, file, kernel| {
        let size = SIZES.iter().find(|(name, _)| *name == file.params);
        let (_, size) = size.unwrap_or_else(|| panic!("{place}: no Rust struct is called {}", file.params));
        assert_eq!(kernel.parameters as usize, *size, "{place}: bytes of parameters");
    });
}

fn for_each_kernel(check: impl Fn(&str, &KernelFile, &Compiled)) {
    for_each_compiled_file(|file, compiled| {
        for ((arch, name), kernel) in compiled {
            check(&format!("{name} for {arch}"), file, kernel);
        }
    });
}

fn for_each_compiled_file(check: impl Fn(&KernelFile, &ByArchAndName)) {
    let Some(cuobjdump) = cuobjdump() else { return };
    for (file, fatbin) in images() {
        let mut compiled = ByArchAndName::new();
        read_usage(&run(&cuobjdump, "-res-usage", &fatbin), &mut compiled);
        read_attributes(&run(&cuobjdump, "-elf", &fatbin), &mut compiled);
        assert!(!compiled.is_empty(), "{}: no machine code", file.name);
        check(file, &compiled);
    }
}

/// Reads ` Function NAME:` and, below it, `  REG:76 STACK:0 SHARED:0 LOCAL:0 ...`.
fn read_usage(text: &str, compiled: &mut ByArchAndName) {
    let mut arch = String::new();
    let mut name = String::new();
    for line in text.lines().map(str::trim) {
        if let Some(value) = line.strip_prefix("arch = ") {
            arch = value.to_owned();
        } else if let Some(value) = line.strip_prefix("Function ") {
            name = value.trim_end_matches(':').to_owned();
        } else if line.starts_with("REG:") {
            let kernel = compiled.entry((arch.clone(), name.clone())).or_default();
            for (what, value) in line.split(' ').filter_map(|field| field.split_once(':')) {
                let value = value.parse().expect("a number");
                match what {
                    "REG" => kernel.registers = value,
                    "STACK" => kernel.stack = value,
                    "LOCAL" => kernel.local = value,
                    "SHARED" => kernel.shared = value,
                    _ => {}
                }
            }
        }
    }
}

/// Reads the section `.nv.info.NAME` of every kernel: `Attribute: EIATTR_...`, and two lines below it `Value: 0x...`.
fn read_attributes(text: &str, compiled: &mut ByArchAndName) {
    let mut arch = String::new();
    let mut name = String::new();
    let mut attribute = "";
    for line in text.lines() {
        if let Some(value) = line.strip_prefix("arch = ") {
            arch = value.to_owned();
        } else if let Some(value) = line.strip_prefix(".nv.info.") {
            name = value.to_owned();
        } else if let Some(value) = line.trim().strip_prefix("Attribute:") {
            attribute = value.trim();
        } else if let Some(value) = line.trim().strip_prefix("Value:") {
            let kernel = compiled.get_mut(&(arch.clone(), name.clone()));
            let first = value
                .trim()
                .split([' ', '\t'])
                .next()
                .and_then(|number| number.strip_prefix("0x"));
            let number = first.and_then(|digits| u32::from_str_radix(digits, 16).ok());
            let size = value
                .rsplit_once("Size    : 0x")
                .map(|(_, digits)| u32::from_str_radix(digits.trim(), 16));
            match (kernel, attribute, number) {
                (Some(kernel), "EIATTR_KPARAM_INFO", _) => kernel.parameters = size.and_then(Result::ok).unwrap_or(0),
                (Some(kernel), "EIATTR_MAX_THREADS", Some(number)) => kernel.threads = number,
                _ => {}
            }
        }
    }
}
