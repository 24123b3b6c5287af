#!/usr/bin/env bash
# Formats the Rust and the C++; with --check only says what is not formatted. `scripts/install_tools.sh` gets the clang-format it takes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

formatter=.venv/packages/clang_format/data/bin/clang-format
mapfile -t sources < <(git ls-files --cached --others --exclude-standard | grep -E '\.(cu|cuh|h|cpp)$')

# The workspace, and the packages that are workspaces of their own.
format_rust() {
    cargo fmt --all "$@"
    for package in candle cust tests/downstream; do
        cargo fmt --manifest-path "$package/Cargo.toml" "$@"
    done
}

case ${1:-} in
"")
    format_rust
    "$formatter" -i "${sources[@]}"
    ;;
--check)
    format_rust --check
    "$formatter" --dry-run --Werror "${sources[@]}"
    ;;
*)
    echo "usage: scripts/format.sh [--check]" >&2
    exit 1
    ;;
esac
