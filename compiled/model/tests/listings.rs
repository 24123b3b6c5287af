//! Listings are read as they are meant: instructions, sources, registers, loops, and the path of a warp.

mod support;

use sala_model::Gpu;
use sala_model::machine::pipe_of;
use sala_model::sass::{Class, Function, Instruction, PathFinder, Pattern, REGISTERS, Registers};

use support::function;

/// A kernel of two nested loops, a rare branch, and a call to another function.
const LISTING: &str = r#"
	.section	.text.kernel,"ax",@progbits
kernel:
.text.kernel:
	//## File "kernel.cu", line 2
        /*0000*/                   S2R R0, SR_TID.X ;
.L_x_0:
	//## File "part.cuh", line 2 inlined at "kernel.cu", line 4
	//## File "kernel.cu", line 4
        /*0010*/                   LDSM.16.M88.4 R4, [R0] ;
        /*0020*/                   ISETP.NE.AND P0, PT, R0, RZ, PT ;
        /*0030*/               @P0 BRA `(.L_x_1) ;
	//## File "kernel.cu", line 5
        /*0040*/                   MUFU.EX2 R1, R1 ;
        /*0050*/                   CALL.REL.NOINC `(slow_path) ;
.L_x_1:
	//## File "kernel.cu", line 7
        /*0060*/                   HMMA.16816.F32.BF16 R8, R4, R20, R8 ;
        /*0070*/               @P1 BRA `(.L_x_1) ;
	//## File "kernel.cu", line 8
        /*0080*/               @P2 BRA `(.L_x_0) ;
        /*0090*/                   EXIT ;
.L_x_2:
        /*00a0*/                   BRA `(.L_x_2);
"#;

const SOURCES: [(&str, &str); 2] = [
    (
        "kernel.cu",
        "__global__ void __launch_bounds__(32) kernel(Params p) {\n\
         const int lane = threadIdx.x;\n\
         for (;;) {\n\
         load(p);\n\
         if (rare) repair();\n\
         for (;;)\n\
         multiply(p);\n\
         }",
    ),
    ("part.cuh", "DEVICE void load(const Params& p) {\n    read_rows(p);\n}"),
];

fn kernel() -> Function {
    function(LISTING, &SOURCES)
}

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().map(|text| Pattern::parse(text).unwrap()).collect()
}

#[test]
fn an_instruction_falls_apart() {
    let instruction = Instruction::parse("@!UP2 LDG.E.128 R4, desc[UR4][R2.64+0x10]", 7);
    assert_eq!(
        (instruction.guard.as_str(), instruction.opcode.as_str()),
        ("@!UP2", "LDG.E.128")
    );
    assert_eq!(instruction.operands, ["R4", "desc[UR4][R2.64+0x10]"]);
    assert_eq!(
        (instruction.class, instruction.width(), instruction.origin),
        (Class::Ldg, 4, 7)
    );
    let jump = Instruction::parse("@P0 BRA `(.L_x_1)", 0);
    assert_eq!((jump.class, jump.label.as_deref()), (Class::Ctrl, Some(".L_x_1")));
    assert!(Instruction::parse("@!PT LDS RZ, [RZ]", 0).never_runs());
}

#[test]
fn opcodes_have_classes() {
    let classes = [
        ("LDSM.16.M88.4", Class::Ldsm),
        ("LDS.128", Class::Lds),
        ("LDGSTS.E.BYPASS.128", Class::Ldgsts),
        ("LDGDEPBAR", Class::Commit),
        ("LDG.E", Class::Ldg),
        ("DEPBAR.LE", Class::Wait),
        ("WARPGROUP.DEPBAR.LE", Class::GmmaWait),
        ("WARPGROUP.ARRIVE", Class::Ctrl),
        ("HGMMA.64x128x16.F32.BF16", Class::Hgmma),
        ("ATOMS.ARRIVE.64", Class::Syncs),
        ("ATOMS.OR", Class::Atoms),
        ("SYNCS.PHASECHK.TRANS64.TRYWAIT", Class::Syncs),
        ("REDUX.MAX", Class::Vote),
        ("RED.E.ADD", Class::Stg),
        ("CGAERRBAR", Class::Ctrl),
        ("UISETP.GE.AND", Class::Int),
        ("IMAD.WIDE", Class::Imad),
        ("QUUX", Class::Other),
    ];
    for (opcode, class) in classes {
        assert_eq!(Class::of(opcode), class, "{opcode}");
    }
    assert_eq!(Class::named(Class::Ldgsts.name()), Some(Class::Ldgsts));
}

#[test]
fn an_unknown_opcode_has_no_price_and_says_where_to_give_it_one() {
    let gpu = Gpu::find("H100").unwrap();
    let problem = pipe_of(&Instruction::parse("QUUX R0, R1", 0), gpu)
        .unwrap_err()
        .to_string();
    assert!(problem.contains("QUUX") && problem.contains("class.rs"), "{problem}");
}

#[test]
fn registers_are_those_that_an_instruction_reads_and_writes() {
    let of = |text: &str| {
        let mut registers = Registers::of(&Instruction::parse(text, 0));
        registers.reads.sort_unstable();
        (registers.reads, registers.writes)
    };
    let uniform = |number: u16| 256 + number;
    let predicate = |number: u16| 512 + number;
    assert!(usize::from(predicate(15)) < REGISTERS);
    assert_eq!(
        of("HMMA.16816.F32.BF16 R8, R4, R20, RZ"),
        (vec![4, 5, 6, 7, 20, 21], vec![8, 9, 10, 11])
    );
    assert_eq!(
        of("LDSM.16.M88.4 R4, [R0+UR6]"),
        (vec![0, uniform(6)], vec![4, 5, 6, 7])
    );
    assert_eq!(of("@P0 STS.64 [R3], R10"), (vec![3, 10, 11, predicate(0)], vec![]));
    assert_eq!(
        of("ISETP.NE.AND P0, PT, R6, RZ, P1"),
        (vec![6, predicate(1)], vec![predicate(0)])
    );
    assert_eq!(of("IADD3 R0, P2, R1, R2, RZ"), (vec![1, 2], vec![0, predicate(2)]));
    assert_eq!(of("IMAD.WIDE R4, R1, R2, R6"), (vec![1, 2, 6], vec![4, 5]));
    assert_eq!(of("SHFL.BFLY PT, R5, R4, 0x2, 0x1f"), (vec![4], vec![5]));
}

#[test]
fn code_is_known_by_the_functions_that_it_came_from() {
    let kernel = kernel();
    let load = &kernel.code[1];
    let frames: Vec<_> = kernel.origins[load.origin]
        .iter()
        .map(|frame| (frame.function.as_str(), frame.line.as_str()))
        .collect();
    assert_eq!(frames, [("load", "read_rows(p);"), ("kernel", "load(p);")]);
    let fits = |pattern: &str| Pattern::parse(pattern).unwrap().fits(&kernel.origins[load.origin]);
    assert!(fits("load") && fits("kernel: ^load") && fits("load: rows|columns"));
    assert!(!fits("kernel: multiply") && !fits("loa") && !fits("read_rows"));
    assert!(Pattern::parse("kernel: (").is_err());
    assert!(kernel.describe(load).contains("read_rows"));
}

#[test]
fn loops_are_found_with_their_nesting() {
    let kernel = kernel();
    let lengths = kernel
        .loops
        .iter()
        .map(|inner| kernel.code_of(inner.blocks.iter().copied()).count());
    // The loop that nothing leads to is none.
    assert_eq!(lengths.collect::<Vec<_>>(), [8, 2]);
    assert_eq!(
        kernel.loops.iter().map(|inner| kernel.depth(inner)).collect::<Vec<_>>(),
        [0, 1]
    );
}

#[test]
fn a_path_leaves_out_what_is_cold_and_goes_round_inner_loops() {
    let kernel = kernel();
    let trips = vec![(Pattern::parse("kernel: multiply").unwrap(), 3)];
    // A call out of the function is a slow path.
    let path = PathFinder::new(&kernel, Some(&kernel.loops[0]), &[], &trips, "test")
        .find()
        .unwrap();
    assert_eq!(path, [1, 2, 3, 6, 7, 6, 7, 6, 7, 8]);
    // From entry to exit, with the outer loop taken twice and the branch away from it named cold.
    let trips = vec![
        (Pattern::parse("load").unwrap(), 2),
        (Pattern::parse("kernel: multiply").unwrap(), 1),
    ];
    let whole = PathFinder::new(&kernel, None, &patterns(&["kernel: rare"]), &trips, "test")
        .find()
        .unwrap();
    assert_eq!(whole, [0, 1, 2, 3, 6, 7, 8, 1, 2, 3, 6, 7, 8, 9]);
}

/// Compilers move what another part needs too before a fork, whose sides are both cold.
#[test]
fn a_path_leaves_out_a_fork_of_two_cold_sides() {
    const LISTING: &str = r#"
.text.kernel:
	//## File "kernel.cu", line 2
        /*0000*/                   S2R R0, SR_TID.X ;
        /*0010*/               @P0 BRA `(.L_x_1) ;
        /*0020*/                   IADD3 R1, R0, 0x1, RZ ;
        /*0030*/                   IADD3 R2, R0, 0x2, RZ ;
        /*0040*/                   IADD3 R3, R0, 0x3, RZ ;
	//## File "kernel.cu", line 3
        /*0050*/               @P1 BRA `(.L_x_0) ;
        /*0060*/                   MUFU.EX2 R4, R1 ;
        /*0070*/                   MUFU.EX2 R5, R1 ;
        /*0080*/                   BRA `(.L_x_1) ;
.L_x_0:
        /*0090*/                   MUFU.EX2 R4, R2 ;
        /*00a0*/                   MUFU.EX2 R5, R2 ;
.L_x_1:
	//## File "kernel.cu", line 4
        /*00b0*/                   EXIT ;
"#;
    let source = "DEVICE void kernel() {\nstart();\nif (next) load_next();\n}";
    let kernel = function(LISTING, &[("kernel.cu", source)]);
    let cold = patterns(&["kernel: next"]);
    let path = PathFinder::new(&kernel, None, &cold, &Vec::new(), "test").find();
    assert_eq!(path.unwrap(), [0, 1, 11]);
}

#[test]
fn a_path_that_is_not_clear_says_what_to_edit() {
    let kernel = kernel();
    let outer = Some(&kernel.loops[0]);
    let problem = |cold: &[&str], trips: &[(&str, u32)]| {
        let trips = trips
            .iter()
            .map(|(pattern, count)| (Pattern::parse(pattern).unwrap(), *count))
            .collect();
        let found = PathFinder::new(&kernel, outer, &patterns(cold), &trips, "test").find();
        found.unwrap_err().to_string()
    };
    let unknown = problem(&[], &[]);
    assert!(
        unknown.contains("how many rounds") && unknown.contains("`trips`"),
        "{unknown}"
    );
    let endless = problem(&["kernel"], &[("kernel: multiply", 1)]);
    assert!(
        endless.contains("does not end") && endless.contains("`cold`"),
        "{endless}"
    );
}
