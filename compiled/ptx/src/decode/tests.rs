//! Decoding, beside what tests/instructions.rs shows by running it.

use std::sync::Arc;

use super::{Interface, decode, decode_all};
use crate::code::Kernel;
use crate::parse::File;

fn file(body: &str) -> Arc<File> {
    let text = format!(
        ".version 9.0\n.target sm_80\n.extern .shared .align 1024 .b8 more[];\n.visible .entry k(.param .u32 a, .param .align 8 .b8 b[12])\n\
         {{\n.shared .align 4 .b8 one[6];\n.shared .align 8 .b8 two[8];\n.reg .pred %p<8>;\n.reg .b32 %r<100>;\n.reg .b64 %rd<8>;\n{body}\n}}\n"
    );
    Arc::new(File::new("test.ptx", text).unwrap())
}

fn kernel(body: &str) -> Kernel {
    let file = file(body);
    decode(&file, &file.entries[0]).unwrap()
}

#[test]
fn variables_lie_one_behind_the_other() {
    let file = file("mov.u32 %r1, two; mov.u32 %r2, more; ret;");
    let interface = Interface::new(&file, &file.entries[0]).unwrap();
    assert_eq!(interface.layout.parameters, [(0, 4), (8, 12)]);
    assert_eq!((interface.layout.bytes, interface.static_shared), (20, 16));
    let kernel = decode(&file, &file.entries[0]).unwrap();
    assert_eq!(kernel.dynamic_shared, 1024);
    let constants: Vec<u32> = kernel.constants.iter().map(|slot| slot.0[0]).collect();
    assert_eq!(constants, [8, 1024]);
}

#[test]
fn registers_share_slots_when_their_lives_do_not_meet() {
    let chain: String = (1..99).map(|r| format!("add.s32 %r{}, %r{r}, 1;\n", r + 1)).collect();
    assert_eq!(kernel(&format!("mov.u32 %r1, 0;\n{chain}ret;")).slots, 1);
    let pairs = "mov.u32 %r1, 1; mov.u32 %r2, 2; add.s32 %r3, %r1, %r2; st.global.u32 [%rd1], %r3; ret;";
    assert_eq!(
        kernel(pairs).slots,
        2 + 2,
        "two registers at a time, and an address of 64 bits"
    );
}

#[test]
fn what_a_loop_needs_lives_as_long_as_the_loop() {
    let looped = "mov.u32 %r1, 1; mov.u32 %r2, 0; $L: add.s32 %r2, %r2, %r1; mov.u32 %r3, 7; \
                  setp.lt.s32 %p1, %r2, %r3; @%p1 bra $L; ret;";
    assert_eq!(kernel(looped).slots, 3, "%r1 is read again after %r3 was written");
    let straight = looped.replace("@%p1 bra $L;", "");
    assert_eq!(kernel(&straight).slots, 2);
}

#[test]
fn a_guarded_write_keeps_the_old_value_alive() {
    let guarded = "mov.u32 %r1, 1; mov.u32 %r2, 5; st.global.u32 [%rd1], %r2; @%p1 mov.u32 %r1, 2; st.global.u32 [%rd1], %r1; ret;";
    assert_eq!(kernel(guarded).slots, 2 + 2);
}

#[test]
fn every_kernel_of_a_file_is_tried() {
    assert_eq!(decode_all(&file("ret;")), Ok(1));
    let failed = decode_all(&file("wgmma.fence.sync.aligned; ret;")).unwrap_err();
    assert_eq!(failed.len(), 1);
    assert!(
        failed[0].starts_with("k: `wgmma.fence.sync.aligned`: there is one on sm_90a alone"),
        "{failed:?}"
    );
}
