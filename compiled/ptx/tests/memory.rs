//! What a GPU would let pass: every rule about memory is seen to fail.

mod kit;

use kit::{Case, FIRST_LINE, run};
use sala_ptx::fault::{Kind, Report};

/// Expects a fault of a kind whose text has a part.
fn expect(report: &Report, kind: Kind, part: &str) {
    assert_eq!(report.kind, kind, "{report}");
    assert!(report.text.contains(part), "{report}");
}

#[test]
fn a_store_past_an_allocation() {
    let report = Case::new("st.global.u32 [%rd2+4], %r1;").fault();
    expect(
        &report,
        Kind::Address,
        "thread 31: 4 bytes at byte 128 of an allocation of 128 bytes",
    );
    assert!(report.text.ends_with(&format!("test.ptx:{FIRST_LINE}")), "{report}");
}

#[test]
fn a_vector_that_ends_past_an_allocation() {
    let report = Case::new(
        "
        setp.ne.u32 %p1, %r1, 0;
        @%p1 ret;
        add.s64 %rd4, %rd1, 128;
        ld.global.v4.u32 {%r2, %r3, %r4, %r5}, [%rd4+-8];",
    )
    .fault();
    expect(&report, Kind::Misaligned, "16 bytes at 0x");
    let report = Case::new("ld.global.v2.u32 {%r2, %r3}, [%rd1+128];").fault();
    expect(
        &report,
        Kind::Address,
        "8 bytes at byte 128 of an allocation of 128 bytes",
    );
}

#[test]
fn a_load_from_nowhere() {
    let report = Case::new("mov.u64 %rd4, 64; ld.global.u32 %r2, [%rd4];").fault();
    expect(&report, Kind::Address, "4 bytes at 0x40, where no memory was allocated");
    let report = Case::new("ld.global.u32 %r2, [%rd1+-4];").fault();
    expect(
        &report,
        Kind::Address,
        "4 bytes at 4 bytes in front of an allocation of 128 bytes",
    );
}

#[test]
fn a_misaligned_access() {
    let report = Case::new("st.global.u32 [%rd2+2], %r1;").fault();
    expect(&report, Kind::Misaligned, "which is not a multiple of 4");
    let report = Case::new("mov.u32 %r2, 4; st.shared.v2.u32 [%r2], {%r1, %r1};").fault();
    expect(
        &report,
        Kind::Misaligned,
        "8 bytes at 0x4, which is not a multiple of 8",
    );
}

#[test]
fn shared_memory_has_the_size_of_the_launch() {
    let mut case = Case::new("st.shared.u32 [dynamic+12], %r1;");
    case.shared = 16;
    case.run().unwrap();
    let mut case = Case::new("st.shared.u32 [dynamic+16], %r1;");
    case.shared = 16;
    expect(
        &case.fault(),
        Kind::Address,
        "4 bytes at byte 80 of 80 bytes of shared memory",
    );
    let report = Case::new("mov.u32 %r2, fixed; st.shared.u32 [%r2+-4], %r1;").fault();
    expect(&report, Kind::Address, "of 64 bytes of shared memory");
}

#[test]
fn shared_memory_must_be_written_before_it_is_read() {
    let body = "
        setp.lt.u32 %p1, %r1, 3;
        shl.b32 %r2, %r1, 2;
        @%p1 st.shared.u32 [%r2], %r1;
        ld.shared.v4.u32 {%r3, %r4, %r5, %r6}, [fixed];";
    let report = Case::new(body).fault();
    expect(
        &report,
        Kind::Unwritten,
        "16 bytes at byte 0 of shared memory, where nobody has written byte 12",
    );
    Case::new(body).option("unwritten", "allowed").run().unwrap();
}

#[test]
fn every_block_has_shared_memory_of_its_own() {
    let mut case = Case::new(
        "
        mov.u32 %r3, %ctaid.x;
        setp.eq.u32 %p1, %r3, 0;
        @%p1 st.shared.u32 [fixed], %r1;
        ld.shared.u32 %r2, [fixed];",
    );
    case.grid = [2, 1, 1];
    expect(
        &case.option("threads", "1").fault(),
        Kind::Unwritten,
        "k block (1, 0, 0) thread 0: ",
    );
}

#[test]
fn matrices_are_read_from_what_was_written() {
    let report = Case::new(
        "
        shl.b32 %r2, %r1, 4;
        setp.lt.u32 %p1, %r1, 3;
        @%p1 st.shared.v4.u32 [%r2], {%r1, %r1, %r1, %r1};
        ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r3}, [%r2];",
    )
    .fault();
    expect(
        &report,
        Kind::Unwritten,
        "thread 3: 16 bytes at byte 48 of shared memory",
    );
    let report = Case::new(
        "
        shl.b32 %r2, %r1, 3;
        ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r3}, [%r2];",
    )
    .option("unwritten", "allowed")
    .fault();
    expect(
        &report,
        Kind::Misaligned,
        "thread 1: 16 bytes at 0x8, which is not a multiple of 16",
    );
}

#[test]
fn parameters_have_their_declared_size() {
    assert_eq!(
        run("ld.param.u32 %r2, [k_output+8]; st.global.u32 [%rd2], %r2;"),
        [0; 32]
    );
    let report = Case::new("ld.param.u32 %r2, [k_number+4];").fault();
    expect(&report, Kind::Address, "4 bytes at byte 12 of 12 bytes of parameters");
    let report = Case::new("mov.u64 %rd4, k_number; ld.param.u64 %rd5, [%rd4];").fault();
    expect(&report, Kind::Address, "8 bytes at byte 8 of 12 bytes of parameters");
    let report = Case::new("st.param.u32 [k_number], %r1;").fault();
    expect(&report, Kind::Address, "a store to the parameters");
}

/// Copies the thread's 4 bytes of the output to shared memory; `%r2` is their address there.
const COPY: &str = "
        shl.b32 %r2, %r1, 1;
        and.b32 %r2, %r2, 0x3c;
        setp.ge.u32 %p1, %r1, 16;
        @%p1 ret;
        shl.b32 %r2, %r1, 2;
        cp.async.ca.shared.global [%r2], [%rd2], 4;
        cp.async.commit_group;";

#[test]
fn a_copy_is_there_after_its_wait() {
    let body = format!(
        "{COPY} cp.async.wait_group 0; ld.shared.u32 %r3, [%r2]; add.u32 %r3, %r3, 1; st.global.u32 [%rd2], %r3;"
    );
    let mut case = Case::new(&body);
    case.output = (100..132).collect();
    let output = case.run().unwrap();
    assert_eq!(output[..16], (101..117).collect::<Vec<_>>());
}

#[test]
fn a_copy_is_not_there_before_its_wait() {
    let body = format!("{COPY} ld.shared.u32 %r3, [%r2];");
    let report = Case::new(&body).fault();
    expect(
        &report,
        Kind::InFlight,
        "thread 0: 4 bytes at byte 0 of shared memory, which an asynchronous copy has yet to bring",
    );
    Case::new(&body).option("copies", "eager").run().unwrap();
}

#[test]
fn a_wait_that_leaves_a_group_is_too_weak() {
    let report = Case::new(&format!("{COPY} cp.async.wait_group 1; ld.shared.u32 %r3, [%r2];")).fault();
    expect(&report, Kind::InFlight, "an asynchronous copy has yet to bring");
    let uncommitted = COPY.replace("cp.async.commit_group;", "");
    let report = Case::new(&format!(
        "{uncommitted} cp.async.wait_group 0; ld.shared.u32 %r3, [%r2];"
    ))
    .fault();
    expect(&report, Kind::InFlight, "an asynchronous copy has yet to bring");
    Case::new(&format!("{uncommitted} cp.async.wait_all; ld.shared.u32 %r3, [%r2];"))
        .run()
        .unwrap();
    let two = format!("{COPY} cp.async.commit_group; cp.async.wait_group 1; ld.shared.u32 %r3, [%r2];");
    Case::new(&two).run().unwrap();
}

#[test]
fn what_a_copy_writes_may_not_be_written() {
    let report = Case::new(&format!("{COPY} st.shared.u32 [%r2], %r1;")).fault();
    expect(
        &report,
        Kind::InFlight,
        "writes 4 bytes at byte 0 of shared memory, which an asynchronous copy is writing",
    );
    let report = Case::new(&format!("{COPY} cp.async.ca.shared.global [%r2], [%rd2], 4;")).fault();
    expect(&report, Kind::InFlight, "which an asynchronous copy is writing");
}

#[test]
fn copies_fill_up_with_zeros() {
    let output = {
        let mut case = Case::new(
            "
            setp.ne.u32 %p1, %r1, 0;
            @%p1 ret;
            mov.u32 %r2, 5;
            cp.async.cg.shared.global [fixed], [%rd1], 16, %r2;
            mov.u64 %rd4, 0;
            cp.async.cg.shared.global [fixed+16], [%rd4], 16, 0;
            cp.async.wait_all;
            ld.shared.v4.u32 {%r3, %r4, %r5, %r6}, [fixed];
            ld.shared.v4.u32 {%r7, %r8, %r9, %r10}, [fixed+16];
            or.b32 %r7, %r7, %r10;
            st.global.v4.u32 [%rd1], {%r3, %r4, %r5, %r7};",
        );
        case.output = vec![u32::MAX; 32];
        case.run().unwrap()
    };
    assert_eq!(output[..5], [u32::MAX, 0xff, 0, 0, u32::MAX]);
}

#[test]
fn copies_are_checked_where_they_are_issued() {
    let copy = |operands: &str| Case::new(&format!("mov.u32 %r2, 17; cp.async.cg.shared.global {operands};")).fault();
    expect(
        &copy("[fixed], [%rd1], 16, %r2"),
        Kind::Instruction,
        "a copy of 16 bytes that reads 17",
    );
    expect(&copy("[fixed+4], [%rd1], 16"), Kind::Misaligned, "16 bytes at 0x4");
    expect(
        &copy("[fixed], [%rd1+4], 16, 4"),
        Kind::Misaligned,
        "which is not a multiple of 16",
    );
    expect(
        &copy("[fixed], [%rd1+128], 16, 4"),
        Kind::Address,
        "4 bytes at byte 128 of an allocation of 128 bytes",
    );
    expect(
        &copy("[fixed+64], [%rd1], 16"),
        Kind::Address,
        "16 bytes at byte 64 of 64 bytes of shared memory",
    );
}

#[test]
fn a_generic_address_reaches_both_memories() {
    let output = run("
        setp.ge.u32 %p1, %r1, 16;
        @%p1 ret;
        mov.u64 %rd4, fixed;
        cvta.shared.u64 %rd5, %rd4;
        add.s64 %rd5, %rd5, %rd3;
        st.u32 [%rd5], %r1;
        ld.shared.u32 %r2, [fixed+8];
        cvta.to.shared.u64 %rd6, %rd5;
        ld.shared.u32 %r3, [%rd6];
        add.u32 %r2, %r2, %r3;
        st.u32 [%rd2], %r2;");
    assert_eq!(output[..16], (2..18).collect::<Vec<u32>>());
}

#[test]
fn atomic_operations_need_something_to_change() {
    let report = Case::new("atom.shared.add.u32 %r2, [fixed], 1;").fault();
    expect(&report, Kind::Unwritten, "nobody has written byte 0");
    let output = run("
        atom.global.add.u32 %r2, [%rd1], 1;
        bar.warp.sync -1;
        setp.eq.u32 %p1, %r1, 0;
        @!%p1 st.global.u32 [%rd2], %r2;");
    assert_eq!(output[0], 32);
    let mut old: Vec<u32> = output[1..].to_vec();
    old.sort_unstable();
    assert_eq!(old, (1..32).collect::<Vec<_>>());
}
