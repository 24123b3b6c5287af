#!/usr/bin/env bash
# Formats the Rust and the C++; with --check only says what is not formatted. `scripts/install_tools.sh` gets the clang-format it takes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

formatter=.venv/packages/clang_format/data/bin/clang-format
mapfile -t sources < <(git ls-files --cached --others --exclude-standard | grep -E '\.(cu|cuh|h|cpp)$')

case ${1:-} in
"") cargo fmt --all && "$formatter" -i "${sources[@]}" ;;
--check) cargo fmt --all --check && "$formatter" --dry-run --Werror "${sources[@]}" ;;
*) echo "usage: scripts/format.sh [--check]" >&2 && exit 1 ;;
esac
