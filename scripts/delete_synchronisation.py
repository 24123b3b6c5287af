#!/usr/bin/env python3
"""Deletes each synchronisation statement of the kernels in turn and checks that some test notices.

    scripts/delete_synchronisation.py [--only NAME] [--list]

Every statement of the kernels that synchronises threads or waits for copies is replaced by nothing, one at a time, in a copy of the tree, and
the tests named after the kernel run there. A mutant that passes them all is a statement that is redundant (remove it) or untested (test it).
Exit status 1 if any survives. Takes about a minute a statement, so it is run by hand when a kernel changes.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
STATEMENT = re.compile(r"\b(?:sync_block|sync_warp|sync_barrier|arrive_barrier|async_copy_commit|async_copy_wait<[^>]*>|memory_fence)\([^;]*\);")

# The integration tests that exercise each kernel file, and the device files that synchronise on a kernel's behalf.
TESTS = {
    "linear_attention_scan": ["linear_attention"],
    "linear_attention_decode": ["linear_attention"],
    "compress_keys": ["compress_keys"],
    "select_blocks": ["select_blocks"],
    "top_k": ["select_blocks"],
    "sparse_attention": ["sparse_attention"],
}


def tests_of(kernel):
    return next((tests for name, tests in TESTS.items() if kernel.startswith(name)), [])


def mutants(only):
    files = [path for folder in ("cuda", "cuda/device") for path in sorted((ROOT / folder).glob("*.cu*"))]
    for path in files:
        text = path.read_text()
        if not tests_of(path.stem) or (only and only not in path.stem):
            continue
        for match in STATEMENT.finditer(text):
            line = text[: match.start()].count("\n") + 1
            code = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
            if "//" not in code:
                yield path, line, match.group(), text[: match.start()] + ";" + text[match.end() :]


def run(tree, kernel):
    command = ["cargo", "test", "--package", "sala-kernels", "--quiet"]
    for test in tests_of(kernel):
        command += ["--test", test]
    environment = dict(os.environ, SALA_CUDA_ARCHS="none", CARGO_TARGET_DIR=str(tree.parent / "build"))
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=1800)


def verdict(result):
    if result.returncode == 0:
        return "SURVIVED"
    output = result.stdout + result.stderr
    reason = re.search(r"(data race|race|deadlock|never written|uninitiali[sz]ed|tolerance|NaN|error(?:\[E\d+\])?:)[^\n]*", output, re.IGNORECASE)
    return f"noticed: {reason.group().strip()[:100]}" if reason else "noticed"


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--only", help="kernel files whose name contains this")
    arguments.add_argument("--list", action="store_true", help="print the statements and stop")
    options = arguments.parse_args()
    if options.list:
        for path, line, statement, _ in mutants(options.only):
            print(f"{path.name}:{line}: {statement}")
        return 0

    survivors = 0
    tree = ROOT / "target" / "deletions" / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    # With new times: a file as it was must look newer than the last mutant that was built of it.
    ignore = shutil.ignore_patterns("target", ".git", ".cuda", ".venv")
    shutil.copytree(ROOT, tree, ignore=ignore, copy_function=shutil.copy)
    for kernel in sorted({path.stem for path, *_ in mutants(options.only)}):
        result = run(tree, kernel)
        if result.returncode != 0:
            sys.exit(f"{kernel}: its tests fail without any deletion\n{result.stdout}{result.stderr}")
    for path, line, statement, text in mutants(options.only):
        target = tree / path.relative_to(ROOT)
        original = target.read_text()
        target.write_text(text)
        try:
            outcome = verdict(run(tree, path.stem))
        except subprocess.TimeoutExpired:
            outcome = "noticed: time limit"
        target.write_text(original)
        survivors += outcome == "SURVIVED"
        print(f"{path.name}:{line}: {statement:32} {outcome}", flush=True)
    print(f"{survivors} survived")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
