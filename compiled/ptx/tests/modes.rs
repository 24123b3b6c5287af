//! The choices that a GPU has: each is seen to make a difference, and to leave right kernels right.

mod kit;

use kit::Case;

#[test]
fn warps_and_blocks_go_in_either_order() {
    let body = "
        mov.u32 %r2, %ctaid.x;
        setp.ne.u32 %p1, %r1, 0;
        @%p1 ret;
        atom.global.add.u32 %r3, [%rd1], 1;
        add.u32 %r2, %r2, 1;
        mul.wide.u32 %rd4, %r2, 4;
        add.s64 %rd5, %rd1, %rd4;
        st.global.u32 [%rd5], %r3;";
    let blocks = |order: &str| {
        let mut case = Case::new(body).option("threads", "1").option("order", order);
        case.grid = [8, 1, 1];
        case.run().unwrap()[1..9].to_vec()
    };
    assert_eq!(blocks("forward"), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(blocks("reversed"), [7, 6, 5, 4, 3, 2, 1, 0]);
}

#[test]
fn many_blocks_go_over_several_threads() {
    let mut case = Case::new(
        "
        mov.u32 %r2, %ctaid.x;
        mov.u32 %r4, 0;
    $L1:
        add.u32 %r4, %r4, 1;
        setp.lt.u32 %p1, %r4, 200;
        @%p1 bra $L1;
        atom.global.add.u32 %r3, [%rd2], %r2;",
    )
    .option("threads", "4");
    case.grid = [100, 20, 1];
    let (output, cost) = case.run_and_count().unwrap();
    assert_eq!(output, [99 * 100 / 2 * 20; 32]);
    // Four at the start, two here, 200 times three, the addition, and the return.
    assert_eq!(cost.executed, 2000 * (4 + 2 + 600 + 1 + 1));
}

/// Sixteen products of the same number, added to 1.
const SUM: &str = "
        mov.b32 %r2, 0x3f803f80;
        mov.b32 %r3, 0x33c033c0;
        mov.f32 %f1, 0f3F800000;
        mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32
            {%f2, %f3, %f4, %f5}, {%r2, %r2, %r2, %r2}, {%r3, %r3}, {%f1, %f1, %f1, %f1};
        st.global.f32 [%rd2], %f5;";

#[test]
fn sums_are_rounded_or_cut_off() {
    let sum = |sums| Case::new(SUM).option("sums", sums).run().unwrap();
    // Each is three quarters of the last bit of 1: twelve bits together, or a half each when they are cut off.
    assert_eq!(sum("nearest"), [1.0_f32.to_bits() + 12; 32]);
    assert_eq!(sum("truncated"), [1.0_f32.to_bits() + 8; 32]);
}

#[test]
fn approximate_functions_are_off() {
    let body = "
        cvt.rn.f32.u32 %f1, %r1;
        fma.rn.f32 %f1, %f1, 0f3DCCCCCD, 0f3F000000;
        ex2.approx.ftz.f32 %f2, %f1;
        st.global.f32 [%rd2], %f2;";
    let results = |functions| Case::new(body).option("functions", functions).run().unwrap();
    let (exact, off) = (results("nearest"), results("off"));
    for (lane, (exact, off)) in exact.iter().zip(&off).enumerate() {
        let x = (lane as f32).mul_add(0.1, 0.5);
        assert_eq!(*exact, x.exp2().to_bits(), "lane {lane}");
        assert!(exact.abs_diff(*off) <= 2, "lane {lane}: {exact:#x} {off:#x}");
    }
    let different = exact.iter().zip(&off).filter(|(exact, off)| exact != off).count();
    assert!(different > 16, "only {different} of 32 are off");
}

#[test]
fn rounded_functions_are_not_off() {
    let body = "
        cvt.rn.f32.u32 %f1, %r1;
        add.f32 %f1, %f1, 0f3FC00000;
        rcp.rn.f32 %f2, %f1;
        sqrt.rn.f32 %f2, %f2;
        st.global.f32 [%rd2], %f2;";
    let output = Case::new(body).option("functions", "off").run().unwrap();
    let expected = (0..32).map(|lane| (1.0 / (lane as f32 + 1.5)).sqrt().to_bits());
    assert_eq!(output, expected.collect::<Vec<_>>());
}
