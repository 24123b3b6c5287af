//! Instructions, one by one, against what Rust makes of them; and those that are refused.

mod kit;

use std::sync::Arc;

use kit::{Case, compile, run};
use sala_ptx::decode::decode;
use sala_ptx::parse::File;

/// Runs an instruction for pairs of words: `%r2` and `%f2` are the first, `%r3` and `%f3` the second, and the result goes to `%r4` or `%f4`.
fn binary(instruction: &str, pairs: &[(u32, u32)]) -> Vec<u32> {
    let result = if instruction.contains("%f4") {
        "st.global.f32 [%rd2], %f4;"
    } else {
        "st.global.u32 [%rd2], %r4;"
    };
    let mut output = Vec::new();
    for &(first, second) in pairs {
        let body = format!(
            "mov.b32 %r2, {first:#x}; mov.b32 %r3, {second:#x}; mov.b32 %f2, {first:#x}; mov.b32 %f3, {second:#x};\n{instruction}\n{result}"
        );
        output.push(run(&body)[0]);
    }
    output
}

const PAIRS: [(u32, u32); 6] = [
    (7, 3),
    (0xffff_fff9, 3),
    (0x8000_0000, 0xffff_ffff),
    (5, 40),
    (0x1234_5678, 0x9abc_def0),
    (0, 0),
];

fn check(instruction: &str, expected: impl Fn(u32, u32) -> u32) {
    let results: Vec<u32> = PAIRS.iter().map(|&(first, second)| expected(first, second)).collect();
    assert_eq!(binary(instruction, &PAIRS), results, "{instruction}");
}

#[test]
fn integers_of_32_bits() {
    check("add.s32 %r4, %r2, %r3;", u32::wrapping_add);
    check("sub.s32 %r4, %r2, %r3;", u32::wrapping_sub);
    check("mul.lo.s32 %r4, %r2, %r3;", u32::wrapping_mul);
    check("mul.hi.u32 %r4, %r2, %r3;", |a, b| {
        ((u64::from(a) * u64::from(b)) >> 32) as u32
    });
    check("mul.hi.s32 %r4, %r2, %r3;", |a, b| {
        ((i64::from(a as i32) * i64::from(b as i32)) >> 32) as u32
    });
    check("mad.lo.s32 %r4, %r2, %r3, 5;", |a, b| a.wrapping_mul(b).wrapping_add(5));
    check("div.s32 %r4, %r2, %r3;", |a, b| {
        if b == 0 {
            !0
        } else {
            (a as i32).wrapping_div(b as i32) as u32
        }
    });
    check("div.u32 %r4, %r2, %r3;", |a, b| a.checked_div(b).unwrap_or(!0));
    check("rem.s32 %r4, %r2, %r3;", |a, b| {
        if b == 0 {
            a
        } else {
            (a as i32).wrapping_rem(b as i32) as u32
        }
    });
    check("min.s32 %r4, %r2, %r3;", |a, b| (a as i32).min(b as i32) as u32);
    check("max.u32 %r4, %r2, %r3;", u32::max);
    check("and.b32 %r4, %r2, %r3;", |a, b| a & b);
    check("xor.b32 %r4, %r2, %r3;", |a, b| a ^ b);
    check("not.b32 %r4, %r2;", |a, _| !a);
    check("neg.s32 %r4, %r2;", |a, _| a.wrapping_neg());
    check("abs.s32 %r4, %r2;", |a, _| (a as i32).wrapping_abs() as u32);
    check("shl.b32 %r4, %r2, %r3;", |a, b| a.checked_shl(b).unwrap_or(0));
    check("shr.s32 %r4, %r2, %r3;", |a, b| ((a as i32) >> b.min(31)) as u32);
    check("shr.u32 %r4, %r2, %r3;", |a, b| a.checked_shr(b).unwrap_or(0));
    check("popc.b32 %r4, %r2;", |a, _| a.count_ones());
    check("clz.b32 %r4, %r2;", |a, _| a.leading_zeros());
    check("brev.b32 %r4, %r2;", |a, _| a.reverse_bits());
    check("bfind.u32 %r4, %r2;", |a, _| a.checked_ilog2().unwrap_or(!0));
    check("bfind.shiftamt.u32 %r4, %r2;", |a, _| {
        if a == 0 { !0 } else { a.leading_zeros() }
    });
    check("lop3.b32 %r4, %r2, %r3, 0xff00ff00, 0xca;", |a, b| {
        (a & b) | (!a & 0xff00_ff00)
    });
    check("shf.l.wrap.b32 %r4, %r2, %r3, 8;", |a, b| b << 8 | a >> 24);
    check("prmt.b32 %r4, %r2, %r3, 0x4321;", |a, b| a >> 8 | b << 24);
}

#[test]
fn integers_of_other_widths() {
    check(
        "mul.wide.s32 %rd4, %r2, %r3; shr.u64 %rd4, %rd4, 20; cvt.u32.u64 %r4, %rd4;",
        |a, b| ((i64::from(a as i32) * i64::from(b as i32)) >> 20) as u32,
    );
    check(
        "mov.b64 %rd4, {%r2, %r3}; add.s64 %rd4, %rd4, %rd4; mov.b64 {%r5, %r4}, %rd4;",
        |a, b| b << 1 | a >> 31,
    );
    check("mov.b32 {%rs1, %rs2}, %r2; mul.wide.s16 %r4, %rs1, %rs2;", |a, _| {
        (i32::from(a as i16) * i32::from((a >> 16) as i16)) as u32
    });
    check(
        "cvt.u16.u32 %rs1, %r2; shr.s16 %rs2, %rs1, 3; mov.b32 %r4, {%rs2, %rs1};",
        |a, _| u32::from(((a as i16) >> 3) as u16) | a << 16,
    );
    check(
        "cvt.s64.s32 %rd4, %r2; setp.lt.s64 %p1, %rd4, 0; selp.b32 %r4, %r3, 9, %p1;",
        |a, b| {
            if (a as i32) < 0 { b } else { 9 }
        },
    );
    check(
        "mul.wide.s32 %rd4, %r2, 3; cvt.s64.s32 %rd4, %rd4; cvt.u32.u64 %r4, %rd4;",
        |a, _| a.wrapping_mul(3),
    );
    check("mul.wide.s32 %rd4, %r2, 3; cvt.s32.s16 %r4, %rd4;", |a, _| {
        a.wrapping_mul(3) as i16 as i32 as u32
    });
    check("cvt.s32.s8 %r4, %r2;", |a, _| a as u8 as i8 as u32);
    check("cvt.u16.u32 %rs1, %r2; cvt.s32.s16 %r4, %rs1;", |a, _| {
        a as u16 as i16 as u32
    });
}

#[test]
fn comparisons() {
    check("setp.lt.s32 %p1, %r2, %r3; selp.u32 %r4, 1, 0, %p1;", |a, b| {
        u32::from((a as i32) < b as i32)
    });
    check("setp.lo.u32 %p1, %r2, %r3; selp.u32 %r4, 1, 0, %p1;", |a, b| {
        u32::from(a < b)
    });
    check("setp.ne.b32 %p1, %r2, %r3; selp.u32 %r4, 1, 0, %p1;", |a, b| {
        u32::from(a != b)
    });
}

#[test]
fn comparisons_with_another_predicate() {
    check(
        "setp.gt.u32 %p2, %r2, 6; setp.le.and.s32 %p1|%p3, %r2, %r3, !%p2; selp.u32 %r4, 1, 0, %p1; @%p3 add.u32 %r4, %r4, 2;",
        |a, b| {
            let (less, small) = (a as i32 <= b as i32, a <= 6);
            u32::from(less && small) + 2 * u32::from(!less && small)
        },
    );
    check(
        "setp.gt.u32 %p1, %r2, 6; xor.pred %p1, %p1, -1; not.pred %p2, %p1; or.pred %p3, %p1, %p2; mov.pred %p4, 0; \
           @%p3 mov.u32 %r4, 3; @%p4 mov.u32 %r4, 4; @!%p1 add.u32 %r4, %r4, 1;",
        |a, _| 3 + u32::from(a > 6),
    );
}

fn check_floats(instruction: &str, expected: impl Fn(f32, f32) -> f32) {
    let values = [
        (1.5, -2.0),
        (0.1, 0.3),
        (f32::NAN, 1.0),
        (f32::MAX, f32::MAX),
        (-0.0, 0.0),
        (1e-40, 3.0),
    ];
    let pairs: Vec<(u32, u32)> = values
        .iter()
        .map(|(a, b): &(f32, f32)| (a.to_bits(), b.to_bits()))
        .collect();
    let results = binary(instruction, &pairs);
    for ((a, b), result) in values.into_iter().zip(results) {
        let wanted = expected(a, b);
        let wanted = if wanted.is_nan() { 0x7fff_ffff } else { wanted.to_bits() };
        assert_eq!(result, wanted, "{instruction} of {a} and {b}");
    }
}

#[test]
fn floats() {
    check_floats("add.f32 %f4, %f2, %f3;", |a, b| a + b);
    check_floats("mul.f32 %f4, %f2, %f3;", |a, b| a * b);
    check_floats(
        "mul.ftz.f32 %f4, %f2, %f3;",
        |a, b| if a == 1e-40 { 0.0 } else { a * b },
    );
    check_floats("fma.rn.f32 %f4, %f2, %f3, %f2;", |a, b| a.mul_add(b, a));
    check_floats("div.rn.f32 %f4, %f2, %f3;", |a, b| a / b);
    check_floats("min.f32 %f4, %f2, %f3;", |a, b| {
        if a == b { -0.0 * a.abs().min(1.0) + a } else { a.min(b) }
    });
    check_floats(
        "max.NaN.f32 %f4, %f2, %f3;",
        |a, b| if a.is_nan() { a } else { a.max(b) },
    );
    check_floats("rcp.approx.ftz.f32 %f4, %f2;", |a, _| {
        if a == 1e-40 { f32::INFINITY } else { flushed(1.0 / a) }
    });
    check_floats("cvt.rni.f32.f32 %f4, %f2;", |a, _| a.round_ties_even());
    check("cvt.rn.f32.s32 %f4, %r2;", |a, _| (a as i32 as f32).to_bits());
    check("cvt.rzi.s32.f32 %r4, 0fC0266666;", |_, _| -2_i32 as u32);
    check("cvt.rn.bf16x2.f32 %r4, 0f3F800000, 0f40000000;", |_, _| 0x3f80_4000);
    check("cvt.rn.f16.f32 %rs1, 0f3F800000; mov.b32 %r4, {%rs1, %rs1};", |_, _| {
        0x3c00_3c00
    });
    check("mov.b32 {%rs1, %rs2}, 0x3c00c000; cvt.f32.f16 %f4, %rs1;", |_, _| {
        (-2.0_f32).to_bits()
    });
}

fn flushed(value: f32) -> f32 {
    if value.is_subnormal() { 0.0 } else { value }
}

#[test]
fn lanes_reduce_and_match() {
    let sum = run("redux.sync.add.s32 %r2, %r1, -1; st.global.u32 [%rd2], %r2;");
    assert_eq!(sum, [496; 32]);
    let largest = run("not.b32 %r2, %r1; redux.sync.max.u32 %r2, %r2, -1; st.global.u32 [%rd2], %r2;");
    assert_eq!(largest, [u32::MAX; 32]);
}

#[test]
fn matrices_move_between_lanes_and_memory() {
    // Row r of the matrix is at 16 r: element (r, c) is 256 r + c.
    let fill = "
        shl.b32 %r2, %r1, 1;
        shr.u32 %r3, %r1, 2;
        and.b32 %r4, %r1, 3;
        shl.b32 %r5, %r3, 8;
        shl.b32 %r6, %r4, 1;
        add.u32 %r7, %r5, %r6;
        add.u32 %r8, %r7, 1;
        shl.b32 %r8, %r8, 16;
        or.b32 %r9, %r7, %r8;
        shl.b32 %r10, %r1, 2;
        st.shared.u32 [dynamic], %r9;
        mov.u32 %r11, dynamic;
        add.u32 %r12, %r11, %r10;
        st.shared.u32 [%r12], %r9;
        bar.warp.sync -1;
        and.b32 %r13, %r1, 7;
        shl.b32 %r13, %r13, 4;
        add.u32 %r13, %r11, %r13;";
    let run = |rest: &str| {
        let body = format!("{fill}\n{rest}\nst.global.u32 [%rd2], %r20;");
        let mut case = Case::new(&body);
        case.shared = 128;
        case.run().unwrap()
    };
    let at = |row: u32, column: u32| 256 * row + column;
    let plain: Vec<u32> = (0..32)
        .map(|lane| at(lane / 4, lane % 4 * 2) | at(lane / 4, lane % 4 * 2 + 1) << 16)
        .collect();
    let turned: Vec<u32> = (0..32)
        .map(|lane| at(lane % 4 * 2, lane / 4) | at(lane % 4 * 2 + 1, lane / 4) << 16)
        .collect();
    assert_eq!(run("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r20}, [%r13];"), plain);
    assert_eq!(
        run("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%r20}, [%r13];"),
        turned
    );
    assert_eq!(run("movmatrix.sync.aligned.m8n8.trans.b16 %r20, %r9;"), turned);
    let stored =
        "stmatrix.sync.aligned.m8n8.x1.trans.shared.b16 [%r13], {%r9}; bar.warp.sync -1; ld.shared.u32 %r20, [%r12];";
    assert_eq!(run(stored), turned);
}

fn refused(body: &str, part: &str) {
    let error = compile(body).unwrap_err();
    assert!(error.contains(part), "{error}");
}

#[test]
fn instructions_of_later_machines_are_refused() {
    let text = kit::text("stmatrix.sync.aligned.m8n8.x1.shared.b16 [fixed], {%r1};").replace("sm_90a", "sm_80");
    let file = Arc::new(File::new("old.ptx", text).unwrap());
    let error = decode(&file, &file.entries[0]).unwrap_err();
    assert!(
        error.contains("there is none before sm_90, but the file is for sm_80"),
        "{error}"
    );
    for body in [
        "mbarrier.try_wait.parity.shared.b64 %p1, [fixed], 0;",
        "mbarrier.arrive.shared.b64 %rd5, [fixed], 2;",
    ] {
        let file = Arc::new(File::new("old.ptx", kit::text(body).replace("sm_90a", "sm_80")).unwrap());
        let error = decode(&file, &file.entries[0]).unwrap_err();
        assert!(error.contains("before sm_90"), "{error}");
        assert!(compile(body).is_ok());
    }
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    refused(
        "wgmma.fence.sync.aligned 1;",
        "k: `wgmma.fence.sync.aligned`: not known with these operands\n    at test.ptx:21",
    );
    refused(
        "mbarrier.inval.shared.b64 [%r1];",
        "k: `mbarrier.inval.shared.b64`: not known with these operands",
    );
    refused("call.uni (%r1), f, (%r2);", "expected an operand, got `(`");
    refused(
        "add.sat.s32 %r2, %r1, %r1;",
        "k: `add.sat.s32`: `.sat` is not known here",
    );
    refused("add.rz.f32 %f2, %f1, %f1;", "`.rz` is not known here");
    refused("add.f64 %fd1, %fd1, %fd1;", "`.f64` is not known here");
    refused("fence.proxy.async;", "`.proxy` is not known here");
    refused("ld.local.u32 %r2, [%r1];", "`.local` is not known here");
    refused(
        "ld.global.L2::cache_hint.u32 %r2, [%rd1];",
        "`.L2::cache_hint` is not known here",
    );
    refused(
        "cp.async.bulk.commit_group;",
        "only known from global to shared memory, counted by an mbarrier",
    );
    refused(
        "mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%f2}, {%r2}, {%r3}, {%f2};",
        "not known here",
    );
}

#[test]
fn operands_must_fit() {
    refused("add.s32 %r2, %rd1, 1;", "%rd1 has 64 bits, expected 32 bits");
    refused("add.s64 %rd4, %rd1, %r1;", "%r1 has 32 bits, expected 64 bits");
    refused("ld.global.u64 %r2, [%rd1];", "%r2 has 32 bits, expected at least 64");
    refused("add.s32 %r2, %r1;", "expected 2 sources, got 1");
    refused("mov.u32 %r64, 0;", "%r64 is not declared");
    refused("mov.u32 %p1, 0;", "%p1 is a predicate");
    refused("@%r1 ret;", "%r1 is no predicate");
    refused("ld.global.v2.u32 %r1, [%rd1];", "expected 2 elements, got 1");
    refused(
        "ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%r2}, [%r1];",
        "expected 2 registers, got 1",
    );
    refused(
        "cp.async.cg.shared.global [%r1], [%rd1], 8;",
        "copies of 8 bytes do not exist",
    );
    refused("bra $NOWHERE;", "no label $NOWHERE");
    refused("mov.u32 %r2, %smid;", "%smid is not declared");
}
