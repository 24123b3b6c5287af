#!/usr/bin/env bash
# Packs what another machine needs to test this crate on its GPU into target/device-bundle: run.sh, and an archive of release builds of the tests,
# demos and benches with the test vectors and the Python package, which run.sh unpacks beside itself. The other machine needs glibc 2.36, the NVIDIA driver, and xz or
# Python; no compiler and no cargo.
#
#   scripts/device_bundle.sh && target/device-bundle/run.sh check
#
# SALA_CUDA_ARCHS=90 keeps only the images for that GPU and makes the bundle smaller.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

limit_mib=60
bundle=target/device-bundle
payload=target/device-bundle-payload
# They need the tools, the sources or the debug information of the machine that builds.
build_machine_only='/(building|compiled|driver|executor|house|bindings|xtask)-[0-9a-f]+$'

# Copies executables into a folder of the bundle, without symbols and without the hash in their names.
pack() {
    local folder=$payload/$1 executable name
    mkdir -p "$folder"
    while read -r executable; do
        name=$(basename "$executable" | sed -E 's/-[0-9a-f]{16}$//')
        strip --strip-all -o "$folder/$name" "$executable"
    done
}

# The executables that a cargo command built; cargo names them in parentheses.
executables() {
    "$@" 2>&1 | tee /dev/stderr | sed -nE 's/^ *Executable .*\((.*)\)$/\1/p'
}

rm -rf "$bundle" "$payload"
mkdir -p "$bundle" "$payload"

executables cargo test --release --workspace --exclude xtask --exclude sala-ptx --lib --tests --no-run | grep -vE "$build_machine_only" | pack tests
cargo build --release --package demos --bins
for demo in demos/src/bin/*/; do
    echo "target/release/$(basename "$demo")"
done | pack demos
if compgen -G 'benches/*' >/dev/null; then
    executables cargo bench --no-run | grep -vE "$build_machine_only" | grep -v '/sala_kernels-' | pack benches
fi

# For the comparison with other libraries.
cargo build --release --package sala-kernels-c
mkdir "$payload/python"
cp -r python/sala_kernels "$payload/python/"
cp -r benches/peers "$payload/peers"
find "$payload/python" "$payload/peers" -name __pycache__ -prune -exec rm -r {} +
strip --strip-unneeded -o "$payload/python/sala_kernels/libsala_kernels.so" target/release/libsala_kernels.so

cp -r tests/data "$payload/data"
cp scripts/device_bundle_run.sh "$bundle/run.sh"
# For machines that have no C++ runtime of their own.
mkdir "$payload/lib"
for library in libstdc++.so.6 libgcc_s.so.1; do
    cp -L "$("${CXX:-c++}" -print-file-name="$library")" "$payload/lib/"
done
strip --strip-debug "$payload"/lib/*

# The programs share most of their bytes: a dictionary larger than them all keeps one copy.
tar -C "$payload" -c . | xz -T1 --lzma2=preset=3,dict=128MiB >"$bundle/payload.tar.xz"
unpacked_mib=$(du -sm "$payload" | cut -f 1)
rm -rf "$payload"
size_mib=$(du -sm "$bundle" | cut -f 1)
echo "$bundle: $size_mib MiB ($unpacked_mib MiB when run.sh has unpacked it)"
if ((size_mib > limit_mib)); then
    echo "larger than $limit_mib MiB: name fewer architectures in SALA_CUDA_ARCHS" >&2
    exit 1
fi
