//! Captures and graphs.

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

/// `CU_STREAM_CAPTURE_MODE_GLOBAL`, `_THREAD_LOCAL`, `_RELAXED`
const MODES: [i32; 3] = [0, 1, 2];

#[test]
fn captured_work_is_done_as_often_as_its_graph_is_launched() {
    let cuda = Cuda::get();
    let (kernel, word) = (cuda.kernel(ADD), cuda.word());
    let stream = cuda.new_stream(NON_BLOCKING).unwrap();
    cuda.begin_capture(stream, MODES[0]).unwrap();
    cuda.launch(kernel, word, 3, stream).unwrap();
    cuda.fill_async(word, 0, 1, stream).unwrap();
    cuda.launch(kernel, word, 4, stream).unwrap();
    let before = cuda.driver.live().graphs;
    let graph = cuda.end_capture(stream).unwrap();
    cuda.synchronize_stream(stream).unwrap();
    assert_eq!(cuda.read(word), Ok(0));
    let executable = cuda.instantiate(graph, 0).unwrap();
    cuda.destroy_graph(graph).unwrap();
    cuda.launch(kernel, word, 0x100, stream).unwrap();
    for _ in 0..2 {
        cuda.launch_graph(executable, stream).unwrap();
    }
    cuda.synchronize_stream(stream).unwrap();
    assert_eq!(cuda.read(word), Ok(0x104));
    cuda.destroy_executable(executable).unwrap();
    assert_eq!(cuda.driver.live().graphs, before);
}

#[test]
fn branches_must_join() {
    let cuda = Cuda::get();
    let (kernel, word) = (cuda.kernel(ADD), cuda.word());
    let (main, side) = (
        cuda.new_stream(NON_BLOCKING).unwrap(),
        cuda.new_stream(NON_BLOCKING).unwrap(),
    );
    let (fork, join) = (cuda.new_event(0).unwrap(), cuda.new_event(0).unwrap());
    let branch = |joins: bool, after: bool| {
        cuda.begin_capture(main, MODES[0]).unwrap();
        cuda.launch(kernel, word, 1, main).unwrap();
        cuda.record(fork, main).unwrap();
        cuda.wait(side, fork, 0).unwrap();
        cuda.launch(kernel, word, 2, side).unwrap();
        cuda.record(join, side).unwrap();
        if after {
            cuda.launch(kernel, word, 2, side).unwrap();
        }
        if joins {
            cuda.wait(main, join, 0).unwrap();
        }
        cuda.end_capture(main)
    };
    assert!(branch(true, false).is_ok());
    assert_eq!(branch(false, false), Err(CAPTURE_UNJOINED));
    assert_eq!(branch(true, true), Err(CAPTURE_UNJOINED), "work behind the event");
    cuda.launch(kernel, word, 5, side).unwrap();
    cuda.synchronize().unwrap();
    assert_eq!(cuda.read(word), Ok(5), "a stream is free again after the capture");
}

#[test]
fn waiting_for_what_is_captured_breaks_the_capture() {
    let cuda = Cuda::get();
    let (kernel, word) = (cuda.kernel(ADD), cuda.word());
    let stream = cuda.new_stream(NON_BLOCKING).unwrap();
    let event = cuda.new_event(0).unwrap();
    let broken = |breaks: &dyn Fn() -> Result| {
        cuda.begin_capture(stream, MODES[2]).unwrap();
        cuda.launch(kernel, word, 1, stream).unwrap();
        cuda.record(event, stream).unwrap();
        let status = breaks();
        assert_eq!(cuda.launch(kernel, word, 1, stream), Err(CAPTURE_INVALIDATED));
        assert_eq!(cuda.end_capture(stream), Err(CAPTURE_INVALIDATED));
        status
    };
    assert_eq!(broken(&|| cuda.synchronize_stream(stream)), Err(CAPTURE_UNSUPPORTED));
    assert_eq!(broken(&|| cuda.query_stream(stream)), Err(CAPTURE_UNSUPPORTED));
    assert_eq!(broken(&|| cuda.synchronize_event(event)), Err(CAPTURED_EVENT));
    assert_eq!(broken(&|| cuda.synchronize()), Err(CAPTURE_UNSUPPORTED));
    assert_eq!(
        broken(&|| cuda.write_async(word, (&raw const word).cast(), 4, stream)),
        Err(CAPTURE_UNSUPPORTED)
    );
    cuda.launch(kernel, word, 1, stream).unwrap();
}

#[test]
fn a_capture_does_not_wait_for_what_is_outside() {
    let cuda = Cuda::get();
    let (inside, outside) = (
        cuda.new_stream(NON_BLOCKING).unwrap(),
        cuda.new_stream(NON_BLOCKING).unwrap(),
    );
    let (recorded, never) = (cuda.new_event(0).unwrap(), cuda.new_event(0).unwrap());
    cuda.record(recorded, outside).unwrap();
    cuda.begin_capture(inside, MODES[0]).unwrap();
    cuda.wait(inside, never, 0).unwrap();
    assert_eq!(cuda.wait(inside, recorded, 0), Err(CAPTURE_ISOLATION));
    assert_eq!(cuda.end_capture(inside), Err(CAPTURE_INVALIDATED));
}

#[test]
fn unsafe_calls_are_forbidden_to_whom_the_mode_says() {
    let cuda = Cuda::get();
    let stream = cuda.new_stream(NON_BLOCKING).unwrap();
    let allocate = || {
        cuda.set_current(cuda.context).unwrap();
        cuda.allocate(4).map(drop)
    };
    for (mode, here, elsewhere) in [(0, false, false), (1, false, true), (2, true, true)] {
        for (in_thread, allowed) in [(false, here), (true, elsewhere)] {
            cuda.begin_capture(stream, mode).unwrap();
            let result = if in_thread {
                std::thread::scope(|scope| scope.spawn(allocate).join().unwrap())
            } else {
                allocate()
            };
            let expected = if allowed { Ok(()) } else { Err(CAPTURE_UNSUPPORTED) };
            assert_eq!(result, expected, "mode {mode}, another thread: {in_thread}");
            let expected = if allowed { Ok(()) } else { Err(CAPTURE_INVALIDATED) };
            assert_eq!(cuda.end_capture(stream).map(drop), expected);
        }
    }
}

#[test]
fn the_default_stream_keeps_away_from_captures() {
    let cuda = Cuda::get();
    let (kernel, word) = (cuda.kernel(ADD), cuda.word());
    assert_eq!(cuda.begin_capture(0, MODES[0]), Err(CAPTURE_UNSUPPORTED));
    for (flags, expected) in [(0, Err(CAPTURE_IMPLICIT)), (NON_BLOCKING, Ok(()))] {
        let stream = cuda.new_stream(flags).unwrap();
        cuda.begin_capture(stream, MODES[2]).unwrap();
        assert_eq!(cuda.launch(kernel, word, 1, 0), expected, "flags {flags}");
        let _ = cuda.end_capture(stream);
    }
}
