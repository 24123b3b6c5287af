#!/usr/bin/env bash
# Installs the Python package with numpy below the target folder, as pip installs it for a user, and runs its tests and those of the comparison with
# other libraries (benches/peers); what is over torch where there is one. Needs python3 with pip or venv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder=$(realpath -m "${CARGO_TARGET_DIR:-target}")/python
rm -rf "$folder"
mkdir -p "$folder"
pip=(python3 -m pip)
if ! "${pip[@]}" --version >/dev/null 2>&1; then
    python3 -m venv "$folder/python"
    pip=("$folder/python/bin/python" -m pip)
fi
"${pip[@]}" install --quiet --disable-pip-version-check --root-user-action=ignore --target "$folder/packages" ./python numpy
PYTHONPATH=$folder/packages python3 -m unittest discover --start-directory python/tests
PYTHONPATH=$folder/packages python3 -m unittest discover --start-directory benches/peers
