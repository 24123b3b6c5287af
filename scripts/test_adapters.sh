#!/usr/bin/env bash
# Tests what uses the crate from outside its workspace, each with a lock file of its own: the crates over tensors of candle and buffers of cust, and
# an engine without default features. Builds into the target folder of the workspace, whose compiled kernels they share.
#
#   scripts/test_adapters.sh [candle] [candle_cuda] [cust] [downstream]      all of them without a name
#
# No GPU is needed. The half of candle for GPUs is type-checked and linted, with a stand-in for the compilation of candle's own kernels. cust is linked to
# the driver of compiled/ptx, and runs the PTX of the kernels if the build kept it (SALA_KEEP_PTX=1); without nvcc both are left out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
export CARGO_TARGET_DIR=$target

# Where nvcc is. Without one, what needs it is left out, with a note, or fails if tools are required.
find_nvcc() {
    local nvcc
    for nvcc in "${CUDA_HOME:-}/bin/nvcc" "$PWD/.cuda/packages/nvidia/cu13/bin/nvcc" "$(command -v nvcc || true)"; do
        if [[ -x $nvcc ]]; then
            echo "$nvcc"
            return
        fi
    done
    echo "left out: there is no nvcc" >&2
    [[ -z ${SALA_REQUIRE_TOOLS:-} ]]
}

# What is tested here builds fast, and runs little of its own. The driver of compiled/ptx looks for PTX among builds of its own profile, release.
test_in() {
    local folder=$1
    shift
    cargo clippy --locked --quiet --manifest-path "$folder/Cargo.toml" --all-targets "$@" -- -D warnings
    cargo test --locked --quiet --manifest-path "$folder/Cargo.toml" "$@"
}

candle() {
    SALA_CUDA_ARCHS=none test_in candle
}

candle_cuda() {
    local nvcc bin=$target/nvcc_for_checks
    nvcc=$(find_nvcc)
    [[ -n $nvcc ]] || return 0
    mkdir -p "$bin"
    ln -sf "$PWD/candle/nvcc_for_checks.sh" "$bin/nvcc"
    PATH=$bin:$PATH REAL_NVCC=$nvcc CUDA_COMPUTE_CAP=80 SALA_CUDA_ARCHS=none \
        cargo clippy --locked --quiet --manifest-path candle/Cargo.toml --no-default-features --features cuda -- -D warnings
}

cust() {
    local nvcc
    nvcc=$(find_nvcc)
    [[ -n $nvcc ]] || return 0
    cargo build --locked --quiet --release --package sala-ptx
    # The library that cust looks for and links.
    local libraries=$target/cust_cuda/lib64
    mkdir -p "$libraries"
    ln -sf "$target/release/libsala_ptx.so" "$libraries/libcuda.so"
    CUDA_LIBRARY_PATH=$target/cust_cuda LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} \
        SALA_CUDA_DRIVER=$libraries/libcuda.so SALA_KEEP_PTX=1 test_in cust --release
}

downstream() {
    SALA_CUDA_ARCHS=none test_in tests/downstream
    SALA_CUDA_ARCHS=none test_in tests/downstream --features host
}

names=("$@")
((${#names[@]} > 0)) || names=(candle candle_cuda cust downstream)
for name in "${names[@]}"; do
    started=$SECONDS
    "$name"
    echo "$name: $((SECONDS - started)) s"
done
