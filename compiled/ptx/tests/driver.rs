//! The driver's rules, and its strictness where the real one leaves a choice.

#[path = "kit/cuda.rs"]
mod cuda;
mod kit;

use cuda::*;

/// Adds the second parameter to the output's first word.
const ADD: &str = "
    setp.ne.u32 %p1, %r1, 0;
    @%p1 ret;
    ld.param.u32 %r2, [k_number];
    ld.global.u32 %r3, [%rd1];
    add.u32 %r3, %r3, %r2;
    st.global.u32 [%rd1], %r3;";

#[test]
fn contexts_are_a_stack_of_each_thread() {
    let cuda = Cuda::get();
    let other = cuda.retain(1).unwrap();
    assert_ne!(cuda.context, other);
    assert_eq!(cuda.retain(1), Ok(other), "a device has one primary context");
    cuda.push(other).unwrap();
    assert_eq!(cuda.current(), Ok(other));
    assert_eq!((cuda.pop(), cuda.current()), (Ok(other), Ok(cuda.context)));
    assert_eq!((cuda.pop(), cuda.pop()), (Ok(cuda.context), Err(INVALID_CONTEXT)));
    assert_eq!(cuda.push(0), Err(INVALID_CONTEXT));
    assert_eq!(cuda.synchronize(), Err(INVALID_CONTEXT));
    assert_eq!(
        (cuda.new_stream(0), cuda.allocate(4)),
        (Err(INVALID_CONTEXT), Err(INVALID_CONTEXT))
    );
    cuda.push(cuda.context).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(cuda.current(), Ok(0), "another thread has its own"));
    });
}

#[test]
fn a_released_context_is_gone() {
    let cuda = Cuda::get();
    let other = cuda.retain(1).unwrap();
    cuda.set_current(other).unwrap();
    let _stream = cuda.new_stream(NON_BLOCKING).unwrap();
    let _memory = cuda.allocate(100).unwrap();
    cuda.release(1).unwrap();
    assert_eq!(
        cuda.report(),
        "a context was released with 1 streams, 1 allocations in it"
    );
    assert_eq!(cuda.synchronize(), Err(CONTEXT_IS_DESTROYED));
    assert_eq!(cuda.push(other), Err(CONTEXT_IS_DESTROYED));
    assert_eq!(cuda.release(1), Err(INVALID_CONTEXT));
}

#[test]
fn handles_are_looked_up() {
    let cuda = Cuda::get();
    let stream = cuda.new_stream(0).unwrap();
    let event = cuda.new_event(0).unwrap();
    assert_eq!(cuda.record(stream, stream), Err(INVALID_HANDLE));
    assert_eq!(cuda.synchronize_stream(event), Err(INVALID_HANDLE));
    cuda.destroy_stream(stream).unwrap();
    assert_eq!(cuda.destroy_stream(stream), Err(INVALID_HANDLE));
    assert_eq!(cuda.record(event, stream), Err(INVALID_HANDLE));
    cuda.destroy_event(event).unwrap();
    assert_eq!(cuda.destroy_event(event), Err(INVALID_HANDLE));
    assert_eq!(cuda.unload(7), Err(INVALID_HANDLE));
    assert_eq!(cuda.new_stream(6), Err(INVALID_VALUE));
}

#[test]
fn work_is_done_when_somebody_waits() {
    let cuda = Cuda::get();
    let (kernel, word) = (cuda.kernel(ADD), cuda.word());
    let stream = cuda.new_stream(NON_BLOCKING).unwrap();
    cuda.launch(kernel, word, 5, stream).unwrap();
    assert_eq!(cuda.read(word), Ok(0), "the default stream does not wait for this one");
    cuda.synchronize_stream(stream).unwrap();
    assert_eq!(cuda.read(word), Ok(5));
    cuda.launch(kernel, word, 5, stream).unwrap();
    cuda.synchronize().unwrap();
    assert_eq!(cuda.read(word), Ok(10));
    cuda.driver.set_option("launches", "eager");
    cuda.launch(kernel, word, 5, stream).unwrap();
    assert_eq!(cuda.read(word), Ok(15));
}

#[test]
fn the_default_stream_takes_turns_with_blocking_ones() {
    let cuda = Cuda::get();
    let (kernel, word) = (cuda.kernel(ADD), cuda.word());
    let (one, two) = (cuda.new_stream(0).unwrap(), cuda.new_stream(0).unwrap());
    cuda.launch(kernel, word, 5, one).unwrap();
    cuda.launch(kernel, word, 100, 0).unwrap();
    cuda.launch(kernel, word, 1000, two).unwrap();
    cuda.synchronize_stream(0).unwrap();
    assert_eq!(
        cuda.driver.executed()["k"].instructions,
        2 * 11,
        "what was queued behind the default stream waits"
    );
    assert_eq!(cuda.read(word), Ok(1105), "a copy waits for blocking streams");
}

#[test]
fn asking_makes_work_go_on() {
    let cuda = Cuda::get();
    let (kernel, word) = (cuda.kernel(ADD), cuda.word());
    let stream = cuda.new_stream(NON_BLOCKING).unwrap();
    cuda.launch(kernel, word, 1, stream).unwrap();
    cuda.launch(kernel, word, 1, stream).unwrap();
    assert_eq!(
        (cuda.query_stream(stream), cuda.query_stream(stream)),
        (Err(NOT_READY), Ok(()))
    );
    assert_eq!(cuda.read(word), Ok(2));
}

#[test]
fn copies_and_fills_wait_in_their_stream() {
    let cuda = Cuda::get();
    let word = cuda.word();
    let stream = cuda.new_stream(NON_BLOCKING).unwrap();
    let mut value = 7_u32;
    cuda.write_async(word, (&raw const value).cast(), 4, stream).unwrap();
    value = 8;
    assert_eq!((cuda.read(word), value), (Ok(0), 8));
    cuda.synchronize_stream(stream).unwrap();
    assert_eq!(
        cuda.read(word),
        Ok(7),
        "the program's memory was free when the call returned"
    );
    cuda.fill_async(word, 1, 4, stream).unwrap();
    assert_eq!(cuda.read(word), Ok(7));
    cuda.synchronize_stream(stream).unwrap();
    assert_eq!(cuda.read(word), Ok(0x0101_0101));
}

#[test]
fn events_order_streams() {
    let cuda = Cuda::get();
    let (kernel, word) = (cuda.kernel(ADD), cuda.word());
    let copy = cuda.kernel(&ADD.replace("add.u32 %r3, %r3, %r2", "mul.lo.u32 %r3, %r3, %r2"));
    let (one, two) = (
        cuda.new_stream(NON_BLOCKING).unwrap(),
        cuda.new_stream(NON_BLOCKING).unwrap(),
    );
    let event = cuda.new_event(0).unwrap();
    cuda.wait(two, event, 0).unwrap();
    cuda.launch(kernel, word, 3, one).unwrap();
    cuda.record(event, one).unwrap();
    cuda.launch(kernel, word, 100, one).unwrap();
    cuda.wait(two, event, 0).unwrap();
    cuda.launch(copy, word, 5, two).unwrap();
    assert_eq!(cuda.query_event(event), Err(NOT_READY));
    cuda.synchronize_stream(two).unwrap();
    assert_eq!((cuda.read(word), cuda.query_event(event)), (Ok(15), Ok(())));
    cuda.synchronize_stream(one).unwrap();
    assert_eq!(cuda.read(word), Ok(115));
    cuda.launch(kernel, word, 1, one).unwrap();
    cuda.record(event, one).unwrap();
    cuda.synchronize_event(event).unwrap();
    assert_eq!(cuda.read(word), Ok(116));
}

#[test]
fn threads_wait_for_one_another() {
    let cuda = Cuda::get();
    let (kernel, word) = (cuda.kernel(ADD), cuda.word());
    let streams: Vec<_> = (0..4).map(|_| cuda.new_stream(NON_BLOCKING).unwrap()).collect();
    let events: Vec<_> = (0..100).map(|_| cuda.new_event(0).unwrap()).collect();
    for (round, &event) in events.iter().enumerate() {
        let stream = streams[round % 4];
        cuda.launch(kernel, word, 1, stream).unwrap();
        cuda.record(event, stream).unwrap();
        cuda.wait(streams[(round + 1) % 4], event, 0).unwrap();
    }
    std::thread::scope(|scope| {
        for &stream in &streams {
            let cuda = &cuda;
            scope.spawn(move || {
                cuda.set_current(cuda.context).unwrap();
                cuda.synchronize_stream(stream).unwrap();
            });
        }
    });
    assert_eq!(cuda.read(word), Ok(100), "each launch sees the one before");
}

#[test]
fn a_fault_is_told_to_who_waits() {
    let cuda = Cuda::get();
    let (kernel, word) = (cuda.kernel("st.global.u32 [%rd2], %r1;"), cuda.word());
    let (stream, other) = (
        cuda.new_stream(NON_BLOCKING).unwrap(),
        cuda.new_stream(NON_BLOCKING).unwrap(),
    );
    cuda.launch(kernel, word, 0, stream).unwrap();
    cuda.synchronize_stream(other).unwrap();
    assert_eq!(cuda.synchronize_stream(stream), Err(ILLEGAL_ADDRESS));
    assert!(
        cuda.report()
            .starts_with("k block (0, 0, 0) thread 1: 4 bytes at byte 4 of an allocation of 4 bytes")
    );
    cuda.synchronize_stream(stream).unwrap();
    cuda.launch(kernel, word, 0, stream).unwrap();
    assert_eq!((cuda.synchronize(), cuda.synchronize()), (Err(ILLEGAL_ADDRESS), Ok(())));
}

#[test]
fn a_fault_may_stay_for_ever() {
    let cuda = Cuda::get();
    cuda.driver.set_option("sticky", "1");
    let (kernel, word) = (cuda.kernel("trap;"), cuda.word());
    cuda.launch(kernel, word, 0, 0).unwrap();
    assert_eq!(cuda.synchronize(), Err(LAUNCH_FAILED));
    assert_eq!(cuda.allocate(4), Err(LAUNCH_FAILED));
    assert_eq!(cuda.launch(kernel, word, 0, 0), Err(LAUNCH_FAILED));
    cuda.release(0).unwrap();
    assert_eq!(cuda.retain(0), Ok(cuda.context));
    assert!(cuda.allocate(4).is_ok(), "a context that is made again is whole");
}

#[test]
fn memory_is_used_while_it_lives() {
    let cuda = Cuda::get();
    let (kernel, word) = (cuda.kernel(ADD), cuda.word());
    cuda.free(word).unwrap();
    cuda.launch(kernel, word, 0, 0).unwrap();
    assert_eq!(cuda.synchronize(), Err(ILLEGAL_ADDRESS));
    assert!(
        cuda.report()
            .contains("4 bytes at byte 0 of an allocation of 4 bytes that was freed")
    );
    assert_eq!(cuda.free(word), Err(INVALID_VALUE));
    assert!(cuda.driver.reports()[1].ends_with("was freed before"));
    assert_eq!((cuda.allocate(0), cuda.free(0)), (Err(INVALID_VALUE), Ok(())));
}

#[test]
fn freeing_waits_for_what_uses_the_memory() {
    let cuda = Cuda::get();
    let (kernel, word) = (cuda.kernel(ADD), cuda.word());
    let stream = cuda.new_stream(NON_BLOCKING).unwrap();
    cuda.launch(kernel, word, 0, stream).unwrap();
    cuda.free(word).unwrap();
    cuda.synchronize_stream(stream).unwrap();
}

#[test]
fn memory_belongs_to_a_context() {
    let cuda = Cuda::get();
    let word = cuda.word();
    let other = cuda.retain(1).unwrap();
    cuda.set_current(other).unwrap();
    cuda.launch(cuda.kernel(ADD), word, 0, 0).unwrap();
    assert_eq!(cuda.synchronize(), Err(ILLEGAL_ADDRESS));
    assert!(cuda.report().contains("of an allocation of 4 bytes of another context"));
}

#[test]
fn copies_stay_within_allocations() {
    let cuda = Cuda::get();
    let word = cuda.word();
    assert_eq!(cuda.write_raw(word, [0_u8; 5].as_ptr().cast(), 5), Err(INVALID_VALUE));
    assert_eq!(
        cuda.report(),
        "a copy to the device: 5 bytes at byte 0 of an allocation of 4 bytes"
    );
    assert_eq!(
        (cuda.fill(word + 1, 0, 4), cuda.fill(word + 1, 0, 3)),
        (Err(INVALID_VALUE), Ok(()))
    );
    assert_eq!(cuda.read(word + 4), Err(INVALID_VALUE));
}

#[test]
fn memory_from_the_device_must_be_written_by_somebody() {
    let cuda = Cuda::get();
    let word = cuda.allocate(4).unwrap();
    let kernel = cuda.kernel(ADD);
    cuda.launch(kernel, word, 0, 0).unwrap();
    assert_eq!(cuda.synchronize(), Err(LAUNCH_FAILED));
    assert!(
        cuda.report()
            .contains("4 bytes at byte 0 of an allocation of 4 bytes, which nobody has written")
    );
    cuda.driver.set_option("unwritten", "allowed");
    cuda.launch(kernel, word, 0, 0).unwrap();
    cuda.synchronize().unwrap();
}

#[test]
fn launches_that_cannot_be_are_refused() {
    let cuda = Cuda::get();
    let (kernel, word) = (cuda.kernel(ADD), cuda.word());
    let launch = |grid, threads, shared| cuda.launch_of(kernel, grid, threads, shared, word, 0, 0);
    assert_eq!(launch([0, 1, 1], 32, 0), Err(INVALID_VALUE));
    assert_eq!(launch([1, 65_536, 1], 32, 0), Err(INVALID_VALUE));
    assert_eq!(launch([1, 1, 1], 1025, 0), Err(INVALID_VALUE));
    assert_eq!(
        (launch([1, 1, 1], 32, 48 << 10), launch([1, 1, 1], 32, (48 << 10) + 1)),
        (Ok(()), Err(INVALID_VALUE))
    );
    assert_eq!(cuda.attribute(1, kernel), Ok(64), "static shared memory");
    assert_eq!(cuda.set_attribute(kernel, 8, 166_912 - 63), Err(INVALID_VALUE));
    cuda.set_attribute(kernel, 8, 166_912 - 64).unwrap();
    launch([1, 1, 1], 32, 166_912 - 64).unwrap();
    assert_eq!(cuda.driver.dynamic_shared("k"), Some(166_912 - 64));
    let other = cuda.retain(1).unwrap();
    cuda.set_current(other).unwrap();
    assert_eq!(
        launch([1, 1, 1], 32, 0),
        Err(INVALID_HANDLE),
        "a function of another context"
    );
    assert_eq!(cuda.driver.launches().len(), 2);
}

#[test]
fn launch_bounds_bind() {
    let cuda = Cuda::get();
    let text = kit::text(ADD).replace(")\n{", ")\n.maxntid 64, 1, 1\n{");
    let module = cuda.load(&text).unwrap();
    let kernel = cuda.function(module, "k").unwrap();
    let word = cuda.word();
    assert_eq!(cuda.launch_of(kernel, [1, 1, 1], 96, 0, word, 0, 0), Err(INVALID_VALUE));
    assert_eq!(
        cuda.report(),
        "k: 96 threads a block, but it was compiled for at most 64"
    );
    cuda.launch_of(kernel, [1, 1, 1], 64, 0, word, 0, 0).unwrap();
}

#[test]
fn modules_are_what_they_hold() {
    let cuda = Cuda::get();
    let module = cuda.load(&kit::text(ADD)).unwrap();
    assert_eq!(cuda.function(module, "nothing"), Err(NOT_FOUND));
    assert_eq!(cuda.load("this is no image"), Err(200));
    let unknown = cuda.kernel("frobnicate.b32 %r1, %r1;");
    assert_eq!(cuda.launch(unknown, cuda.word(), 0, 0), Err(218));
    let report = cuda.driver.reports().pop().unwrap();
    assert!(
        report.starts_with("k: `frobnicate.b32`: unknown instruction\n    at image.ptx:"),
        "{report}"
    );
    let (kernel, word) = (cuda.function(module, "k").unwrap(), cuda.word());
    let stream = cuda.new_stream(NON_BLOCKING).unwrap();
    cuda.launch(kernel, word, 0, stream).unwrap();
    cuda.unload(module).unwrap();
    assert_eq!(cuda.synchronize_stream(stream), Err(LAUNCH_FAILED));
    let report = cuda.driver.reports().pop().unwrap();
    assert_eq!(report, "k: its module was unloaded before the launch had run");
    assert_eq!(cuda.launch(kernel, word, 0, stream), Err(INVALID_HANDLE));
}

#[test]
fn tensor_maps_are_checked_and_made() {
    let cuda = Cuda::get();
    cuda.driver.set_devices(sala_ptx::client::Devices::of_capability(9, 0));
    let mut words = [0_u64; 32];
    let start = words.as_ptr() as usize;
    let aligned = (start.next_multiple_of(64) - start) / 8;
    let map = |words: &mut [u64; 32], offset: usize| std::ptr::from_mut(&mut words[aligned + offset]).cast();
    let encode = |map, axes, sizes: *const u64| {
        let (strides, boxes, steps) = ([256, 512], [64, 8, 1], [1; 3]);
        cuda.encode_map(
            map,
            1,
            axes,
            4096 as *mut _,
            sizes,
            strides.as_ptr(),
            boxes.as_ptr(),
            steps.as_ptr(),
            0,
            3,
            3,
            0,
        )
    };
    let sizes = [128_u64, 50, 3];
    assert_eq!(encode(map(&mut words, 0), 3, sizes.as_ptr()), Ok(()));
    let made = sala_ptx::tensor_map::TensorMap::of(words[aligned..][..16].try_into().unwrap()).unwrap();
    assert_eq!((made.axes, made.address, made.permuted), (3, 4096, 8));
    assert_eq!((made.sizes, made.strides), ([128, 50, 3, 0, 0], [256, 512, 0, 0]));
    assert_eq!(made.boxes, [64, 8, 1, 0, 0]);

    let refused = [
        encode(map(&mut words, 4), 3, sizes.as_ptr()),
        encode(map(&mut words, 0), 0, sizes.as_ptr()),
        encode(map(&mut words, 0), 6, sizes.as_ptr()),
        encode(map(&mut words, 0), 3, std::ptr::null()),
        encode(std::ptr::null_mut(), 3, sizes.as_ptr()),
    ];
    assert_eq!(refused, [Err(INVALID_VALUE); 5]);
    cuda.set_current(0).unwrap();
    assert_eq!(encode(map(&mut words, 0), 3, sizes.as_ptr()), Err(INVALID_CONTEXT));
}
