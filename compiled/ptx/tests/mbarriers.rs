//! Barriers in shared memory.

mod kit;

use kit::{Case, compile};
use sala_ptx::fault::Kind;

/// One barrier of so many arrivals, in `fixed`.
fn begin(arrivals: u32) -> String {
    format!(
        "
        setp.ne.u32 %p1, %r1, 0;
        @!%p1 mbarrier.init.shared.b64 [fixed], {arrivals};
        bar.sync 0;"
    )
}

const WAIT: &str = "
    $WAIT:
        mbarrier.try_wait.parity.shared.b64 %p3, [fixed], 0;
        @!%p3 bra $WAIT;";

#[test]
fn a_wait_ends_when_all_have_arrived() {
    for order in ["forward", "reversed"] {
        // Each thread's word, read by the thread 32 further; thread 0 arrives for one thread more.
        let body = format!(
            "{}
            shl.b32 %r2, %r1, 2;
            mov.u32 %r3, dynamic;
            add.u32 %r2, %r2, %r3;
            st.shared.u32 [%r2], %r1;
            @!%p1 mbarrier.arrive.noComplete.shared.b64 %rd5, [fixed], 1;
            mbarrier.arrive.shared.b64 %rd5, [fixed];
            mbarrier.pending_count.b64 %r4, %rd5;
            {WAIT}
            add.u32 %r2, %r1, 32;
            and.b32 %r2, %r2, 63;
            shl.b32 %r2, %r2, 2;
            add.u32 %r2, %r2, %r3;
            ld.shared.u32 %r5, [%r2];
            shl.b32 %r4, %r4, 8;
            or.b32 %r5, %r5, %r4;
            st.global.u32 [%rd2], %r5;",
            begin(65)
        );
        let mut case = Case::new(&body).threads(64).option("order", order);
        case.shared = 1024;
        let output = case.run().unwrap();
        let threads: Vec<u32> = output.iter().map(|word| word & 255).collect();
        assert_eq!(threads, (0..64).map(|thread| (thread + 32) % 64).collect::<Vec<u32>>());
        let mut lacked: Vec<u32> = output.iter().map(|word| word >> 8).collect();
        lacked.sort_unstable();
        let expected: Vec<u32> = if order == "forward" {
            (1..=64).collect()
        } else {
            (1..=32).chain(34..=65).collect()
        };
        assert_eq!(lacked, expected, "{order}");
    }
}

/// Lanes that wait do not hold up the lane of their warp that arrives, though their code comes first.
#[test]
fn lanes_that_wait_hold_up_no_other() {
    let body = format!(
        "{}
        @!%p1 bra $ARRIVE;
        {WAIT}
        mov.u32 %r5, 7;
        st.global.u32 [%rd2], %r5;
        bra $END;
    $ARRIVE:
        mbarrier.arrive.shared.b64 %rd5, [fixed];
        bra $WAIT;
    $END:",
        begin(1)
    );
    let output = Case::new(&body).threads(64).run().unwrap();
    assert_eq!(output, vec![7; 64]);
}

#[test]
fn copies_arrive() {
    for copies in ["late", "eager"] {
        let body = format!(
            "
            st.global.u32 [%rd2], %r1;
            {}
            shl.b32 %r2, %r1, 2;
            mov.u32 %r3, dynamic;
            add.u32 %r2, %r2, %r3;
            cp.async.ca.shared.global [%r2], [%rd2], 4;
            cp.async.mbarrier.arrive.noinc.shared.b64 [fixed];
            {WAIT}
            xor.b32 %r2, %r1, 33;
            shl.b32 %r2, %r2, 2;
            add.u32 %r2, %r2, %r3;
            ld.shared.u32 %r5, [%r2];
            bar.sync 0;
            st.global.u32 [%rd2], %r5;",
            begin(64)
        );
        let mut case = Case::new(&body).threads(64).option("copies", copies);
        case.shared = 256;
        let output = case.run().unwrap();
        assert_eq!(output, (0..64).map(|thread| thread ^ 33).collect::<Vec<u32>>());
    }
}

#[test]
fn an_arrival_without_copies_does_not_bring_them() {
    let body = format!(
        "
        st.global.u32 [%rd2], %r1;
        {}
        shl.b32 %r2, %r1, 2;
        mov.u32 %r3, dynamic;
        add.u32 %r2, %r2, %r3;
        cp.async.ca.shared.global [%r2], [%rd2], 4;
        mbarrier.arrive.shared.b64 %rd5, [fixed];
        {WAIT}
        ld.shared.u32 %r5, [%r2];",
        begin(32)
    );
    let mut case = Case::new(&body);
    case.shared = 256;
    assert_eq!(case.fault().kind, Kind::InFlight);
}

#[test]
fn a_phase_that_nobody_completes_is_a_fault() {
    let body = format!(
        "{}
        @%p1 mbarrier.arrive.shared.b64 %rd5, [fixed];
        {WAIT}",
        begin(32)
    );
    let report = Case::new(&body).fault();
    assert_eq!(report.kind, Kind::Deadlock);
    assert!(
        report
            .text
            .contains("an mbarrier that nobody completes: warp 0 at test.ptx:"),
        "{report}"
    );
}

#[test]
fn misuse_is_a_fault() {
    let kind = |body: &str| {
        let report = Case::new(body).fault();
        (report.kind, report.text)
    };
    let (found, text) = kind(&format!(
        "{} @!%p1 mbarrier.arrive.noComplete.shared.b64 %rd5, [fixed], 1;",
        begin(1)
    ));
    assert_eq!(found, Kind::Instruction);
    assert!(text.contains("1 arrivals at an mbarrier that lacks 1"), "{text}");
    let (found, text) = kind("st.shared.u64 [fixed], 5; mbarrier.arrive.shared.b64 %rd5, [fixed];");
    assert_eq!(found, Kind::Instruction);
    assert!(text.contains("there is no mbarrier at byte 0"), "{text}");
    assert_eq!(kind("mbarrier.init.shared.b64 [fixed], 0;").0, Kind::Instruction);
    assert_eq!(kind("mbarrier.init.shared.b64 [fixed + 4], 1;").0, Kind::Misaligned);
    assert_eq!(kind("mbarrier.arrive.shared.b64 %rd5, [fixed];").0, Kind::Unwritten);
    assert!(compile("mbarrier.inval.shared.b64 [fixed];").is_err());
    assert!(compile("mbarrier.init.shared [fixed], 1;").is_err());
}
