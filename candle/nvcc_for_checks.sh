#!/usr/bin/env bash
# Stands in for nvcc where code over candle is checked and never linked. candle compiles its own kernels before anything of it can be type-checked,
# eight minutes on two cores; `cargo check` wants no more than that their files are there. Questions about the toolkit go to the real nvcc.
#
#   ln -s …/nvcc_for_checks.sh BIN/nvcc && REAL_NVCC=… PATH=BIN:$PATH cargo check --features cuda
set -euo pipefail

output=""
folder=""
arguments=("$@")
while (($# > 0)); do
    case $1 in
    --version | --list-gpu-*) exec "$REAL_NVCC" "${arguments[@]}" ;;
    -o) output=$2 && shift ;;
    --output-directory) folder=$2 && shift ;;
    esac
    last=$1
    shift
done
if [[ -n $folder ]]; then
    output=$folder/$(basename "${last%.cu}").ptx
fi
: >"$output"
