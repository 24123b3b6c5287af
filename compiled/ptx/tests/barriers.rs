//! Barriers among the warps of a block.

mod kit;

use kit::{Case, FIRST_LINE};
use sala_ptx::fault::Kind;

#[test]
fn a_barrier_orders_the_warps() {
    for order in ["forward", "reversed"] {
        let output = Case::new(
            "
            setp.ge.u32 %p1, %r1, 16;
            shl.b32 %r2, %r1, 2;
            @!%p1 st.shared.u32 [%r2], %r1;
            bar.sync 0;
            and.b32 %r3, %r1, 15;
            shl.b32 %r3, %r3, 2;
            ld.shared.u32 %r4, [%r3];
            st.global.u32 [%rd2], %r4;",
        )
        .threads(96)
        .option("order", order)
        .run()
        .unwrap();
        assert_eq!(output, (0..96).map(|thread| thread % 16).collect::<Vec<u32>>());
    }
}

#[test]
fn a_missing_barrier_shows_in_one_of_the_orders() {
    let case = |order| {
        Case::new(
            "
            setp.ge.u32 %p1, %r1, 1;
            @!%p1 st.shared.u32 [fixed], %r1;
            ld.shared.u32 %r4, [fixed];",
        )
        .threads(64)
        .option("order", order)
    };
    case("forward").run().unwrap();
    let report = case("reversed").fault();
    assert_eq!(report.kind, Kind::Unwritten, "{report}");
}

#[test]
fn a_barrier_that_a_warp_misses_is_a_fault() {
    let report = Case::new(
        "
        setp.lt.u32 %p1, %r1, 32;
        @%p1 bra $L1;
        bar.sync 1, 64;
    $L1:
        mov.u32 %r5, 0;",
    )
    .threads(64)
    .fault();
    assert_eq!(report.kind, Kind::Deadlock);
    let expected = format!(
        "k block (0, 0, 0): warps wait at barriers for ever\n    barrier 1: 32 of 64 threads have arrived\n        \
         warp 1 at test.ptx:{}\n    finished without it: warps 0",
        FIRST_LINE + 3
    );
    assert_eq!(report.text, expected);
}

#[test]
fn a_barrier_that_half_a_warp_reaches_is_a_fault() {
    let report = Case::new(
        "
        setp.lt.u32 %p1, %r1, 16;
        @%p1 ret;
        bar.sync 0;",
    )
    .fault();
    assert!(
        report
            .text
            .contains("lanes 0x0000ffff have left the kernel and never reach the barrier"),
        "{report}"
    );
    let report = Case::new(
        "
        setp.lt.u32 %p1, %r1, 16;
        @%p1 bra $L1;
        bar.sync 0;
    $L1:
        bar.sync 0;",
    )
    .fault();
    assert!(report.text.contains("lanes that must meet never do"), "{report}");
}

#[test]
fn some_arrive_and_others_wait() {
    let output = Case::new(
        "
        setp.ge.u32 %p1, %r1, 32;
        @%p1 bra $CONSUME;
        setp.eq.u32 %p2, %r1, 0;
        @%p2 st.shared.u32 [fixed], 77;
        bar.arrive 3, 64;
        ret;
    $CONSUME:
        bar.sync 3, 64;
        ld.shared.u32 %r2, [fixed];
        st.global.u32 [%rd2], %r2;",
    )
    .threads(64)
    .option("order", "reversed")
    .run()
    .unwrap();
    assert_eq!((output[0], output[63]), (0, 77));
}

#[test]
fn a_barrier_has_one_number_of_threads() {
    let fault = |body: &str| Case::new(body).threads(64).fault().text;
    let disagreeing = "
        setp.lt.u32 %p1, %r1, 32;
        mov.u32 %r2, 64;
        @%p1 mov.u32 %r2, 32;
        @%p1 bra $L1;
    $L1:
        bar.arrive 2, 64;
        bar.sync 2, %r2;";
    assert!(fault(disagreeing).contains("barrier 2 is to be met by 32 threads, but others expect 64"));
    assert!(fault("bar.sync 2, 48;").contains("barrier 2 is to be met by 48 threads of a block of 64"));
    assert!(fault("bar.sync 2, 96;").contains("barrier 2 is to be met by 96 threads of a block of 64"));
    assert!(fault("bar.sync 16;").contains("barrier 16; there are 16"));
}
