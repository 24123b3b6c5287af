//! The instructions that a kernel is about.

use crate::{cuobjdump, images, run};
use sala_kernels::shapes::{KERNELS, KernelFile, Machine};
use std::fs;
use std::path::Path;

/// What a header of primitives stands for in the machine code of a base kernel that includes it: products on tensor cores, copies to shared memory
/// that pass by the registers.
const PRIMITIVES: [(&str, &str); 2] = [("machine/tile.cuh", "HMMA"), ("machine/async_copy.cuh", "LDGSTS")];

/// What must be in each instance of a kernel. A kernel includes the headers of all that it uses, and no others.
fn instructions_of(file: &KernelFile) -> Vec<&'static str> {
    if file.machine != Machine::Base {
        return Vec::new();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file.source());
    let source = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let is_included = |header: &str| source.contains(&format!("#include \"{header}\"\n"));
    let primitives = PRIMITIVES.into_iter().filter(|(header, _)| is_included(header));
    primitives.map(|(_, instruction)| instruction).collect()
}

#[test]
fn kernels_have_the_instructions_of_their_primitives() {
    let Some(cuobjdump) = cuobjdump() else { return };
    for (file, fatbin) in images() {
        let instructions = instructions_of(file);
        if instructions.is_empty() {
            continue;
        }
        let code = run(&cuobjdump, "-sass", &fatbin);
        let mut archs = code.split("\tcode for ").skip(1).peekable();
        assert!(archs.peek().is_some(), "{}: no machine code", file.name);
        for arch_code in archs {
            let arch = arch_code.lines().next().unwrap_or_default();
            for function in arch_code.split("Function : ").skip(1) {
                let name = function.lines().next().unwrap_or_default();
                for instruction in &instructions {
                    assert!(function.contains(instruction), "{name} for {arch}: no {instruction}");
                }
            }
        }
    }
}

/// Otherwise the check above would be about nothing.
#[test]
fn every_primitive_has_a_kernel() {
    let found: Vec<_> = KERNELS.iter().flat_map(instructions_of).collect();
    for (header, instruction) in PRIMITIVES {
        assert!(found.contains(&instruction), "no kernel includes {header}");
    }
}
