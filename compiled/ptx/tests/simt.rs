//! Lanes that part and meet again.

mod kit;

use kit::{Case, FIRST_LINE, run};
use sala_ptx::fault::Kind;

#[test]
fn lanes_meet_again_after_a_loop_of_different_lengths() {
    let output = run("
        mov.u32 %r2, 0;
        mov.u32 %r3, 0;
    $L1:
        setp.ge.u32 %p1, %r3, %r1;
        @%p1 bra $L2;
        add.u32 %r2, %r2, %r3;
        add.u32 %r3, %r3, 1;
        bra.uni $L1;
    $L2:
        shfl.sync.bfly.b32 %r4|%p2, %r2, 1, 31, -1;
        st.global.u32 [%rd2], %r4;");
    let expected: Vec<u32> = (0..32).map(|lane: u32| (0..(lane ^ 1)).sum()).collect();
    assert_eq!(output, expected);
}

#[test]
fn branches_within_branches_keep_their_lanes() {
    let output = run("
        and.b32 %r2, %r1, 1;
        setp.eq.u32 %p1, %r2, 0;
        mov.u32 %r5, 0;
        @%p1 bra $EVEN;
        setp.lt.u32 %p2, %r1, 16;
        @%p2 bra $LOW;
        mov.u32 %r5, 3;
        bra.uni $END;
    $LOW:
        mov.u32 %r5, 2;
        bra.uni $END;
    $EVEN:
        mov.u32 %r5, 1;
    $END:
        vote.sync.ballot.b32 %r6, %p1, -1;
        add.u32 %r5, %r5, %r6;
        st.global.u32 [%rd2], %r5;");
    let value = |lane| {
        0x5555_5555
            + if lane % 2 == 0 {
                1
            } else if lane < 16 {
                2
            } else {
                3
            }
    };
    assert_eq!(output, (0..32).map(value).collect::<Vec<u32>>());
}

#[test]
fn lanes_that_return_are_missed_by_nobody() {
    let output = run("
        setp.ge.u32 %p1, %r1, 20;
        @%p1 ret;
        activemask.b32 %r2;
        shfl.sync.bfly.b32 %r3, %r1, 1, 31, 0xfffff;
        add.u32 %r3, %r3, %r2;
        st.global.u32 [%rd2], %r3;");
    assert_eq!(
        output[..20],
        (0..20).map(|lane| (lane ^ 1) + 0xfffff).collect::<Vec<u32>>()
    );
    assert_eq!(output[20..], [0; 12]);
}

#[test]
fn a_value_of_a_lane_that_has_left_is_a_fault() {
    let report = Case::new(
        "
        setp.ge.u32 %p1, %r1, 20;
        @%p1 ret;
        shfl.sync.idx.b32 %r3, %r1, 20, 31, 0xfffff;",
    )
    .fault();
    assert_eq!(report.kind, Kind::Deadlock);
    assert!(
        report
            .text
            .contains("thread 0: the value of lane 20, which does not take part"),
        "{report}"
    );
}

#[test]
fn guards_keep_the_other_lanes_values() {
    let output = run("
        mov.u32 %r2, 7;
        setp.lt.u32 %p1, %r1, 4;
        @%p1 mov.u32 %r2, 5;
        @!%p1 add.u32 %r2, %r2, %r1;
        @%p1 setp.eq.u32 %p2, %r1, 2;
        @!%p1 setp.ne.u32 %p2, %r1, 5;
        selp.u32 %r3, 100, 0, %p2;
        add.u32 %r2, %r2, %r3;
        st.global.u32 [%rd2], %r2;");
    let value = |lane: u32| {
        let (base, holds) = if lane < 4 {
            (5, lane == 2)
        } else {
            (7 + lane, lane != 5)
        };
        base + if holds { 100 } else { 0 }
    };
    assert_eq!(output, (0..32).map(value).collect::<Vec<_>>());
}

#[test]
fn halves_of_a_warp_vote_by_themselves() {
    let output = run("
        setp.lt.u32 %p1, %r1, 16;
        and.b32 %r2, %r1, 1;
        setp.eq.u32 %p2, %r2, 1;
        @%p1 bra $LOW;
        vote.sync.ballot.b32 %r3, %p2, 0xffff0000;
        vote.sync.any.pred %p3, %p1, 0xffff0000;
        bra.uni $END;
    $LOW:
        vote.sync.ballot.b32 %r3, !%p2, 0x0000ffff;
        vote.sync.all.pred %p3, %p1, 0x0000ffff;
    $END:
        selp.u32 %r4, 1, 0, %p3;
        xor.b32 %r3, %r3, %r4;
        st.global.u32 [%rd2], %r3;");
    assert_eq!(output[..16], [0x0000_5554; 16]);
    assert_eq!(output[16..], [0xaaaa_0000; 16]);
}

#[test]
fn lanes_may_meet_at_several_places() {
    let output = run("
        setp.lt.u32 %p1, %r1, 8;
        mov.u32 %r2, 1;
        @%p1 bra $A;
        bar.warp.sync -1;
        mov.u32 %r2, 2;
        bra.uni $END;
    $A:
        bar.warp.sync -1;
    $END:
        st.global.u32 [%rd2], %r2;");
    assert_eq!(output.iter().sum::<u32>(), 8 + 48);
}

#[test]
fn an_exchange_that_half_a_warp_skips_is_a_fault() {
    let report = Case::new(
        "
        and.b32 %r2, %r1, 1;
        setp.eq.u32 %p1, %r2, 0;
        @%p1 bra $L1;
        shfl.sync.bfly.b32 %r4|%p2, %r2, 1, 31, -1;
    $L1:
        mov.u32 %r5, 0;",
    )
    .fault();
    assert_eq!(report.kind, Kind::Deadlock);
    let expected = format!(
        "lanes that must meet never do: lanes 0xaaaaaaaa at line {}",
        FIRST_LINE + 4
    );
    assert!(
        report.text.contains(&expected) && report.text.contains("lanes 0x55555555 have left"),
        "{report}"
    );
}

#[test]
fn an_exchange_among_others_than_are_named_is_a_fault() {
    let report = Case::new("shfl.sync.idx.b32 %r4, %r1, 0, 31, 0xff;").fault();
    assert!(
        report
            .text
            .contains("lanes 0xffffffff take part, but 0x000000ff are named"),
        "{report}"
    );
    let report = Case::new(
        "
        setp.lt.u32 %p1, %r1, 16;
        @%p1 shfl.sync.idx.b32 %r4, %r1, 0, 31, -1;",
    )
    .fault();
    assert!(
        report
            .text
            .contains("lanes 0x0000ffff take part, but 0xffffffff are named"),
        "{report}"
    );
    let report = Case::new(
        "
        setp.lt.u32 %p1, %r1, 16;
        @%p1 movmatrix.sync.aligned.m8n8.trans.b16 %r4, %r1;",
    )
    .fault();
    assert!(
        report.text.contains("only lanes 0x0000ffff of 0xffffffff take part"),
        "{report}"
    );
}

#[test]
fn a_uniform_branch_that_is_not_is_a_fault() {
    let report = Case::new(
        "
        setp.lt.u32 %p1, %r1, 16;
        @%p1 bra.uni $L1;
    $L1:
        mov.u32 %r5, 0;",
    )
    .fault();
    assert_eq!(report.kind, Kind::Instruction);
    assert!(report.text.contains("a branch that is said to be uniform"), "{report}");
}

#[test]
fn a_loop_without_end_is_a_fault() {
    let report = Case::new("$L1: bra.uni $L1;").option("instructions", "1000").fault();
    assert_eq!(report.kind, Kind::Endless);
    assert!(
        report.text.contains("no end after 1000 instructions of a warp"),
        "{report}"
    );
}

#[test]
fn a_trap_is_told_by_its_thread() {
    let report = Case::new(
        "
        setp.eq.u32 %p1, %r1, 37;
        @%p1 trap;",
    )
    .threads(64)
    .fault();
    assert_eq!(report.kind, Kind::Trap);
    let place = format!(
        "k block (0, 0, 0) thread 37: a trap\n    at test.ptx:{}",
        FIRST_LINE + 2
    );
    assert_eq!(report.text, place);
}

#[test]
fn faults_name_the_lines_of_the_source() {
    let report = Case::new(
        "
        .loc 2 40 3
        .loc 1 12 5, function_name $L__info_string0, inlined_at 2 40 3
        trap;",
    )
    .fault();
    let expected = format!(
        "at test.ptx:{} (cuda/parts/tile.cuh:12, inlined at cuda/base/scan.cu:40)",
        FIRST_LINE + 3
    );
    assert!(report.text.ends_with(&expected), "{report}");
}

#[test]
fn threads_know_their_place() {
    let mut case = Case::new(
        "
        mov.u32 %r2, %tid.y;
        mov.u32 %r3, %ntid.x;
        mad.lo.s32 %r4, %r2, %r3, %r1;
        mov.u32 %r5, %ctaid.y;
        mov.u32 %r6, %nctaid.x;
        mov.u32 %r7, %ctaid.x;
        mad.lo.s32 %r8, %r5, %r6, %r7;
        mad.lo.s32 %r9, %r8, 40, %r4;
        mul.wide.u32 %rd4, %r9, 4;
        add.s64 %rd5, %rd1, %rd4;
        mov.u32 %r10, %laneid;
        mov.u32 %r11, %warpid;
        mad.lo.s32 %r12, %r11, 1000, %r10;
        st.global.u32 [%rd5], %r12;",
    );
    case.threads = [10, 4, 1];
    case.grid = [2, 3, 1];
    case.output = vec![0; 240];
    let output = case.run().unwrap();
    let thread = |index: u32| index % 40 / 32 * 1000 + index % 40 % 32;
    assert_eq!(output, (0..240).map(thread).collect::<Vec<_>>());
}
