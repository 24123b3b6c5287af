//! A description that no longer fits is an error that says what to edit.

mod support;

use std::fs;
use std::path::Path;

use sala_model::description::{self, Description, Descriptions};
use sala_model::sass::Function;
use sala_model::{Gpu, Unit};

use support::function;

const LISTING: &str = r#"
.text.kernel:
	//## File "kernel.cu", line 2
        /*0000*/                   S2R R0, SR_TID.X ;
.L_x_0:
	//## File "kernel.cu", line 3
        /*0010*/                   LDSM.16.M88.4 R4, [R0] ;
	//## File "kernel.cu", line 4
        /*0020*/               @P0 BRA `(.L_x_1) ;
        /*0030*/                   MUFU.EX2 R1, R1 ;
.L_x_1:
	//## File "kernel.cu", line 5
        /*0040*/                   HMMA.16816.F32.BF16 R8, R4, R20, R8 ;
        /*0050*/               @P1 BRA `(.L_x_0) ;
        /*0060*/                   EXIT ;
"#;

const SOURCE: &str = "DEVICE void kernel() {\nstart();\nload();\nif (rare) repair();\nmultiply();\n}";

const FITS: &str = r#"
    kernel = "kernel"
    has = ["HMMA", "kernel: load"]
    cold = ["kernel: rare"]
    expect = { HMMA = 1 }
    warps = [{ count = 4 }]
"#;

fn kernel() -> Function {
    function(LISTING, &[("kernel.cu", SOURCE)])
}

fn description(text: &str) -> Description {
    let all = format!("[assume]\n[other]\n[unit.step]\n{text}");
    Descriptions::parse(&all).unwrap().unit.remove("step").unwrap()
}

fn misfit(from: &str, to: &str) -> String {
    assert!(FITS.contains(from));
    let description = description(&FITS.replace(from, to));
    let kernel = kernel();
    let problem = Unit::new("step", &description, &kernel)
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert!(problem.contains("step"), "{problem}");
    problem
}

#[test]
fn a_description_that_fits_has_a_price() {
    let (kernel, description) = (kernel(), description(FITS));
    let unit = Unit::new("step", &description, &kernel).unwrap();
    assert_eq!(unit.lengths().collect::<Vec<_>>(), [(4, 4, 4)]);
    let clocks = unit.on(Gpu::find("H100").unwrap()).unwrap().clocks().unwrap();
    assert!(clocks > 33.0 && clocks < 100.0, "{clocks}");
}

#[test]
fn a_loop_that_is_gone_is_named() {
    for (from, to) in [("\"HMMA\", ", "\"HGMMA\", "), ("kernel: load", "kernel: read_rows")] {
        let problem = misfit(from, to);
        assert!(
            problem.contains("0 innermost loops") && problem.contains("edit `has`"),
            "{problem}"
        );
    }
}

#[test]
fn cold_code_has_to_be_there_and_left_out() {
    let renamed = misfit("kernel: rare", "kernel: seldom");
    assert!(
        renamed.contains("matches 0 instructions") && renamed.contains("Edit `cold`"),
        "{renamed}"
    );
}

#[test]
fn a_changed_tile_is_noticed() {
    let problem = misfit("HMMA = 1", "HMMA = 2");
    assert!(problem.contains("the path has 1 HMMA, expected 2"), "{problem}");
    let problem = misfit("HMMA = 1", "HAMMER = 1");
    assert!(problem.contains("`HAMMER`, which is no class"), "{problem}");
}

#[test]
fn a_unit_needs_warps() {
    assert!(misfit("warps = [{ count = 4 }]", "").contains("`warps`"));
}

#[test]
fn an_unknown_field_is_an_error() {
    let problem = Descriptions::parse("[assume]\n[other]\n[unit.step]\nkernel = \"k\"\nwarp = []\n").unwrap_err();
    let problem = problem.to_string();
    assert!(
        problem.contains(description::FILE) && problem.contains("warp"),
        "{problem}"
    );
}

#[test]
fn a_ring_has_the_stages_that_fit() {
    let description = description(
        "kernel = \"k\"
         warps = [{ count = 8 }]
         sync = [{ name = \"full\", arrive = \"fill\", wait = \"wait\", count = 1, lead = 1, stage_lead = 2 }]
         refill = { code = \"fill\" }
         ring = { stage_bytes = 32_928, other_bytes = 2048 }",
    );
    for (gpu, stages) in [("A100", 5), ("H100", 6), ("RTX5090", 3)] {
        let (syncs, refill) = description.with_stages(Gpu::find(gpu).unwrap());
        assert_eq!(
            (syncs[0].lead, refill.unwrap().stages),
            (1 + 2 * stages, stages),
            "{gpu}"
        );
    }
}

#[test]
fn the_committed_descriptions_can_be_read() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels.toml");
    let descriptions = Descriptions::parse(&fs::read_to_string(file).unwrap()).unwrap();
    assert!(
        descriptions
            .unit
            .values()
            .all(|unit| unit.warp_count() > 0 && !unit.kernel.is_empty())
    );
}
