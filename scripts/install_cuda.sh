#!/usr/bin/env bash
# Installs the CUDA compiler that the build finds by itself: nvcc 13.0 with its headers, cuobjdump and nvdisasm, from PyPI, into `.cuda/` of
# the repository (about 300 MB; nothing else on the machine changes). Needs python3 with pip or venv. Done in no time when already there.
#
#   scripts/install_cuda.sh [FOLDER]      another folder, to be named to the build as CUDA_HOME (printed at the end)
set -euo pipefail

# The meta-package pins every part to one release; the single packages do not pin each other, and mixed parts refuse each other's files.
# The disassemblers read the cubins of older releases, so theirs is any version.
requirements=("cuda-toolkit[nvcc,cudart,cccl]==13.0.*" nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm)

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
folder=${1:-$repository/.cuda}
cuda_home=$folder/packages/nvidia/cu13
stamp=$folder/installed

if [[ $(cat "$stamp" 2>/dev/null) != "${requirements[*]}" || ! -x $cuda_home/bin/nvcc ]]; then
    rm -rf "$folder"
    mkdir -p "$folder"
    pip=(python3 -m pip)
    if ! "${pip[@]}" --version >/dev/null 2>&1; then
        python3 -m venv "$folder/python"
        pip=("$folder/python/bin/python" -m pip)
    fi
    "${pip[@]}" install --quiet --disable-pip-version-check --root-user-action=ignore --target "$folder/packages" "${requirements[@]}"
    echo "${requirements[*]}" >"$stamp"
    # A build that found no nvcc watches this file: it is worth another look now.
    touch "${BASH_SOURCE[0]}"
fi

"$cuda_home/bin/nvcc" --version | sed -n 's/^Cuda compilation tools, /nvcc: /p'
echo "CUDA_HOME: $cuda_home"
