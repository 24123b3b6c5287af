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

/// Products of a warpgroup start one after the other, in order and without more fences than there are batches, and weights are made while they run:
/// between the wait for scores and the wait for outputs. The compiler has moved them behind both before.
#[test]
fn weights_are_made_while_products_run() {
    /// Of 34, by kernel: 64 weights of 16 rows are 32 of a lane, and there are two factors of rescaling.
    const WEIGHTS: [(&str, usize); 2] = [("sparse_attention", 33), ("dense_attention", 30)];
    const PRODUCTS_OF_FENCE: usize = 4;
    let Some(cuobjdump) = cuobjdump() else { return };
    for (file, fatbin) in images() {
        let Some((_, wanted)) = WEIGHTS
            .into_iter()
            .find(|(kernel, _)| file.machine == Machine::Sm90a && file.name == *kernel)
        else {
            continue;
        };
        let code = run(&cuobjdump, "-sass", &fatbin);
        for function in code.split("Function : ").skip(1) {
            let name = function.lines().next().unwrap_or_default();
            let count = |code: &str, what: &str| code.matches(what).count();
            assert_eq!(
                count(function, "LDL") + count(function, "STL"),
                0,
                "{name}: local memory"
            );
            let (fences, products) = (count(function, "WARPGROUP.ARRIVE"), count(function, "HGMMA."));
            assert!(
                fences * PRODUCTS_OF_FENCE <= products,
                "{name}: {fences} fences for {products} products"
            );
            let (_, rest) = function
                .split_once("WARPGROUP.DEPBAR.LE gsb0, 0x1")
                .expect("a wait for scores");
            let (between, _) = rest
                .split_once("WARPGROUP.DEPBAR.LE gsb0, 0x0")
                .expect("a wait for outputs");
            let weights = count(between, "MUFU.EX2");
            assert!(
                weights >= wanted,
                "{name}: {weights} weights are made while products run"
            );
        }
    }
}
