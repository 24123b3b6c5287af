#!/usr/bin/env bash
# Runs the tests that drive kernels on the CPU with AddressSanitizer and UndefinedBehaviorSanitizer in the kernels and the executor.
# Races between CUDA threads are another matter: the tests look for them themselves, with `HostOptions::detect_races`.
#
#   scripts/sanitize.sh [CARGO TEST ARGUMENTS]      default: the kernel tests, a few cases of each property
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cxx=${CXX:-c++}
target=$(rustc -vV | sed -n 's/^host: //p')
runtime=$(realpath "$("$cxx" -print-file-name=libasan.so)")
runner=CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<<"$target")_RUNNER

tests=("$@")
if [[ ${#tests[@]} == 0 ]]; then
    tests=(--test executor --test primitives --test linear_attention --test compress_keys --test select_blocks --test sparse_attention --test bad_input)
fi

# The runtime has to be the first library of the process. Fibers leave their stacks to the executor, so leaks would be false alarms.
export "$runner=env LD_PRELOAD=$runtime ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1"
export PROPTEST_CASES=${PROPTEST_CASES:-8}
export SALA_CUDA_ARCHS=none
export SALA_HOST_SANITIZER=address

# The instrumentation for races excludes this one.
cargo test --locked --release --package sala-kernels "${tests[@]}" -- --skip race
