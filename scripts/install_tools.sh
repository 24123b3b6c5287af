#!/usr/bin/env bash
# Installs what only contributors need, from PyPI, into `.venv/` of the repository: clang-format (the style of cuda/ and include/) and libclang
# (for `cargo xtask bindgen`). Needs python3 with pip or venv. Done in no time when already there.
set -euo pipefail

requirements=("clang-format==19.*" "libclang==18.*")

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
folder=$repository/.venv
stamp=$folder/installed

if [[ $(cat "$stamp" 2>/dev/null) != "${requirements[*]}" ]]; then
    rm -rf "$folder"
    mkdir -p "$folder"
    pip=(python3 -m pip)
    if ! "${pip[@]}" --version >/dev/null 2>&1; then
        python3 -m venv "$folder/python"
        pip=("$folder/python/bin/python" -m pip)
    fi
    "${pip[@]}" install --quiet --disable-pip-version-check --root-user-action=ignore --target "$folder/packages" "${requirements[@]}"
    echo "${requirements[*]}" >"$stamp"
fi

echo "clang-format: $folder/packages/clang_format/data/bin/clang-format"
echo "libclang: $folder/packages/clang/native"
