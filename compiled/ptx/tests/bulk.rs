//! Copies that barriers in shared memory count.

mod kit;

use kit::{Case, compile};
use sala_ptx::fault::Kind;
use sala_ptx::tensor_map::TensorMap;

/// Words of the output before the tensor: the map, from a multiple of 64 bytes on.
const TENSOR: usize = 64;

/// A matrix of 5 rows of 16 elements, and boxes of 4 rows of 16.
fn map() -> TensorMap {
    TensorMap {
        axes: 2,
        address: 0,
        element: 2,
        sizes: [16, 5, 0, 0, 0],
        strides: [32, 0, 0, 0],
        boxes: [16, 4, 0, 0, 0],
        permuted: 2,
    }
}

/// A launch of one warp on the map and the matrix, whose words are numbers from 1000 on. The map learns where the matrix lies, and lane 0 begins
/// the barrier, of one arrival.
fn case<'b>(map: &TensorMap, body: &'b str) -> Case<'b> {
    let mut case = Case::new(body);
    case.shared = 1024;
    case.output = map
        .words()
        .iter()
        .flat_map(|&word| [word as u32, (word >> 32) as u32])
        .collect();
    case.output.resize(TENSOR, 0);
    case.output.extend(1000..1040);
    case
}

/// The box goes to byte 256 of shared memory.
const BEGIN: &str = "
    setp.ne.u32 %p1, %r1, 0;
    mov.u32 %r10, dynamic;
    add.u32 %r10, %r10, 192;
    mov.u32 %r11, 128;
    @!%p1 mbarrier.init.shared.b64 [fixed], 1;
    add.s64 %rd8, %rd1, 256;
    @!%p1 st.global.u64 [%rd1 + 8], %rd8;
    fence.proxy.async.shared::cta;
    bar.sync 0;";

const WAIT: &str = "
    $WAIT:
        mbarrier.try_wait.parity.shared.b64 %p3, [fixed], 0;
        @!%p3 bra $WAIT;";

/// A copy of the box from a row on.
fn copy(row: i32) -> String {
    format!(
        "mov.b32 %r12, 0;
        mov.b32 %r13, {row};
        @!%p1 cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r10], [%rd1, {{%r12, %r13}}], [fixed];"
    )
}

const ANNOUNCE: &str = "@!%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [fixed], %r11;";

/// Each lane's word of the box.
const STORE: &str = "
    shl.b32 %r14, %r1, 2;
    add.u32 %r14, %r14, %r10;
    ld.shared.u32 %r15, [%r14];
    st.global.u32 [%rd2], %r15;";

#[test]
fn a_box_arrives_permuted_and_filled_with_zeros() {
    for copies in ["late", "eager"] {
        for row in [0, 3, -2, 7] {
            let body = [BEGIN, ANNOUNCE, &copy(row), WAIT, STORE].join("\n");
            let output = case(&map(), &body).option("copies", copies).run().unwrap();
            for (word, &found) in output.iter().enumerate().take(32) {
                // Rows are 8 words, vectors of 4 change places where bit 7 of the address is set: nowhere in 128 bytes.
                let from = row + (word / 8) as i32;
                let expected = if (0..5).contains(&from) {
                    1000 + 8 * from as u32 + word as u32 % 8
                } else {
                    0
                };
                assert_eq!(found, expected, "{copies}, row {row}: word {word}");
            }
        }
    }
}

#[test]
fn vectors_change_places_by_their_address() {
    let further = BEGIN.replace("%r10, 192;", "%r10, 320;");
    let body = [&further, ANNOUNCE, &copy(1), WAIT, STORE].join("\n");
    let output = case(&map(), &body).run().unwrap();
    // The whole box lies in the second 128 bytes.
    for (word, &found) in output.iter().enumerate().take(32) {
        assert_eq!(found, 1008 + (word as u32 ^ 4), "word {word}");
    }
}

#[test]
fn bytes_arrive_and_are_announced_apart() {
    for copies in ["late", "eager"] {
        let body = [
            BEGIN,
            "@!%p1 mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [fixed], %r11;
            @!%p1 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r10], [%rd8], %r11, [fixed];
            @!%p1 mbarrier.arrive.shared.b64 %rd9, [fixed];",
            WAIT,
            STORE,
        ]
        .join("\n");
        let output = case(&map(), &body).option("copies", copies).run().unwrap();
        assert_eq!(output[..32], (1000..1032).collect::<Vec<u32>>(), "{copies}");
    }
}

#[test]
fn parameters_have_generic_addresses() {
    // The second parameter, read as a map: too few bytes, and no map.
    let body = "mov.b64 %rd9, k_number; cvta.param.u64 %rd10, %rd9; prefetch.tensormap [%rd10];";
    assert_eq!(Case::new(body).fault().kind, Kind::Misaligned);
    let body = "mov.b64 %rd9, k_output; cvta.param.u64 %rd10, %rd9; prefetch.tensormap [%rd10];";
    let report = Case::new(body).fault();
    assert_eq!(report.kind, Kind::Address);
    assert!(report.text.contains("of parameters"), "{report}");
}

#[test]
fn one_lane_is_elected() {
    for (order, lane) in [("forward", 0), ("reversed", 31)] {
        let body = "elect.sync _|%p2, 0xffffffff; selp.u32 %r2, 1, 0, %p2; st.global.u32 [%rd2], %r2;";
        let output = Case::new(body).option("order", order).run().unwrap();
        let elected: Vec<_> = (0..32).filter(|&lane| output[lane] == 1).collect();
        assert_eq!(elected, [lane], "{order}");
    }
}

fn fault(map: &TensorMap, parts: &[&str]) -> (Kind, String) {
    let report = case(map, &parts.join("\n")).fault();
    (report.kind, report.text)
}

#[test]
fn misuse_is_a_fault() {
    let box_0 = copy(0);
    let assert_fault = |map: &TensorMap, parts: &[&str], kind: Kind, what: &str| {
        let (found, text) = fault(map, parts);
        assert_eq!(found, kind, "{text}");
        assert!(text.contains(what), "expected {what}: {text}");
    };
    let map = map();
    assert_fault(
        &map,
        &[BEGIN, ANNOUNCE, &box_0, STORE, WAIT],
        Kind::InFlight,
        "has yet to bring",
    );
    let arrive = "@!%p1 mbarrier.arrive.shared.b64 %rd9, [fixed];";
    assert_fault(&map, &[BEGIN, &box_0, arrive, WAIT], Kind::Instruction, "not announced");
    let more = ANNOUNCE.replace("%r11", "256");
    assert_fault(&map, &[BEGIN, &more, &box_0, WAIT], Kind::Deadlock, "lacks 128 bytes");
    let fewer = ANNOUNCE.replace("%r11", "64");
    assert_fault(
        &map,
        &[BEGIN, &fewer, &box_0, WAIT],
        Kind::Instruction,
        "64 bytes too many",
    );
    assert_fault(
        &map,
        &[BEGIN, ANNOUNCE, &box_0],
        Kind::InFlight,
        "the block ends before the copy",
    );
    let misaligned = box_0.replace("[%r10]", "[%r10 + 64]");
    assert_fault(
        &map,
        &[BEGIN, ANNOUNCE, &misaligned, WAIT],
        Kind::Misaligned,
        "the target of a box",
    );
    let outside = box_0.replace("[%r10]", "[%r10 + 1024]");
    assert_fault(
        &map,
        &[BEGIN, ANNOUNCE, &outside, WAIT],
        Kind::Address,
        "of shared memory",
    );
    let three = TensorMap { axes: 3, ..map };
    assert_fault(
        &three,
        &[BEGIN, ANNOUNCE, &box_0, WAIT],
        Kind::Instruction,
        "2 indices, but the map has 3 axes",
    );
    let no_map = box_0.replace("[%rd1,", "[%rd8,");
    assert_fault(
        &map,
        &[BEGIN, ANNOUNCE, &no_map, WAIT],
        Kind::Instruction,
        "in the place of a tensor map",
    );
    let longer = TensorMap {
        sizes: [16, 50, 0, 0, 0],
        ..map
    };
    assert_fault(
        &longer,
        &[BEGIN, ANNOUNCE, &copy(40), WAIT],
        Kind::Address,
        "a copy of a box",
    );
    let no_barrier = box_0.replace("[fixed]", "[fixed + 8]");
    assert_fault(
        &map,
        &[BEGIN, "@!%p1 st.shared.u64 [fixed + 8], 5;", &no_barrier],
        Kind::Instruction,
        "there is no mbarrier",
    );
}

#[test]
fn what_is_not_known_is_refused() {
    let refused = |body: &str, what: &str| {
        let error = compile(body).expect_err(body);
        assert!(error.contains(what), "{error}");
    };
    let tile = "global.tile.mbarrier::complete_tx::bytes";
    refused(
        &format!("cp.async.bulk.tensor.3d.shared::cluster.{tile} [%r1], [%rd1, {{%r1, %r1}}], [fixed];"),
        "2 indices for other axes",
    );
    refused(
        "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%rd1, {%r1, %r1}], [%r1];",
        "counted by an mbarrier",
    );
    refused("setmaxnreg.inc.sync.aligned.u32 250;", "a multiple of 8");
    refused("setmaxnreg.sync.aligned.u32 240;", "expected `.inc` or `.dec`");
    refused(
        "elect.sync %r2|%p1, 0xffffffff;",
        "only known without the lane's number",
    );
    assert!(compile("setmaxnreg.dec.sync.aligned.u32 40;").is_ok());
}
