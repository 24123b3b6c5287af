#!/usr/bin/env bash
# Runs what scripts/device_bundle.sh packed, on this machine's GPU, or on its CPU alone where there is no GPU.
#
#   run.sh check [LOG FOLDER]    every test and the recorded vectors; ends with a table and, if one failed, with status 1
#   run.sh bench [LOG FOLDER]    every bench; prints the times and keeps what criterion makes of them in LOG FOLDER/criterion
#   run.sh peers [LOG FOLDER]    this library beside PyTorch, fla, FlashInfer and InfLLM-V2, what there is of them; tables and a plot in LOG FOLDER/peers.
#                                Takes Python with numpy and apache-tvm-ffi, and for times torch
#
# On Hopper, which has kernels of its own, bench and peers run once more with those that every GPU runs: timed-base, and peers-base in LOG FOLDER.
#
# LIMIT=seconds (300; peers: 1800) for each program; what it printed is in LOG FOLDER (logs).
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/payload
command=${1:-}
logs=${2:-logs}
limit=${LIMIT:-300}

unpack() {
    local archive=$here.tar.xz
    [[ $here/unpacked -nt $archive ]] && return
    rm -rf "$here"
    mkdir "$here"
    if command -v xz >/dev/null; then
        tar -C "$here" -xJf "$archive"
    else
        python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' "$archive" "$here"
    fi && touch "$here/unpacked"
}

export SALA_TEST_DATA=$here/data
if ! ldconfig -p 2>/dev/null | grep -q 'libstdc++\.so\.6'; then
    export LD_LIBRARY_PATH=$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi

failures=0
table=""
has_cuda=false
is_hopper=false

announce_device() {
    if nvidia-smi -L 2>/dev/null; then
        has_cuda=true
        if [[ $(nvidia-smi --query-gpu=compute_cap --format=csv,noheader --id=0) == 9.0 ]]; then
            is_hopper=true
        fi
    else
        echo "CUDA is absent: everything runs on the CPU only."
    fi
}

# run NAME PROGRAM ARGUMENTS...: one row of the table.
run() {
    local name=$1 log=$logs/$1.log start=$SECONDS status passed failed skipped
    shift
    echo "== $name"
    timeout --kill-after=10 "$limit" "$@" >"$log" 2>&1
    status=$?
    passed=$(grep -oE '[0-9]+ passed' "$log" | awk '{ sum += $1 } END { print sum + 0 }')
    failed=$(grep -oE '[0-9]+ failed' "$log" | awk '{ sum += $1 } END { print sum + 0 }')
    skipped=$(grep -c 'skipped on CUDA' "$log")
    case $status in
    0) verdict=ok ;;
    124 | 137) verdict="time limit" ;;
    *) verdict="status $status" ;;
    esac
    if ((status != 0)); then
        failures=$((failures + 1))
        tail -n 40 "$log"
    fi
    table+=$(printf '%-28s %7s %7s %13s %8s  %s' "$name" "$passed" "$failed" "$skipped" "$((SECONDS - start))" "$verdict")$'\n'
}

run_all() {
    local folder=$here/$1 program
    shift
    for program in "$folder"/*; do
        [[ -x $program ]] && run "$(basename "$program")" "$program" "$@"
    done
}

check() {
    announce_device
    run_all tests --show-output
    run replay-host "$here/demos/replay" --device host
    $has_cuda && run replay-cuda "$here/demos/replay" --device cuda
}

bench() {
    announce_device
    export CRITERION_HOME=$logs/criterion
    run_all benches --bench
    if $is_hopper; then
        CRITERION_HOME=$logs/criterion-base SALA_KERNELS=base run timed-base "$here/benches/timed" --bench
    fi
    grep -vhE '^Benchmarking|outliers|(low|high) (mild|severe)|^$' "$logs"/timed*.log
}

peers() {
    announce_device
    if ! python3 -c 'import numpy, tvm_ffi'; then
        echo "peers: expected Python with numpy and apache-tvm-ffi (pip install numpy apache-tvm-ffi)" >&2
        exit 1
    fi
    # Some of the others compile at their first call.
    limit=${LIMIT:-1800}
    export PYTHONPATH=$here/python
    run peers python3 "$here/peers/compare.py" --out "$logs/peers"
    if $is_hopper; then
        SALA_KERNELS=base run peers-base python3 "$here/peers/compare.py" --out "$logs/peers-base"
    fi
    cat "$logs"/peers*.log
}

case $command in
check | bench | peers) ;;
*)
    echo "usage: run.sh check|bench|peers [LOG FOLDER]" >&2
    exit 2
    ;;
esac
mkdir -p "$logs"
unpack || exit 1
"$command"
echo
printf '%-28s %7s %7s %13s %8s\n' name passed failed "without CUDA" seconds
printf '%s' "$table"
if ((failures > 0)); then
    echo "$failures of the programs failed"
    exit 1
fi
