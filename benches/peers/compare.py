"""Times this library beside others that compute the same, in one process on the same tensors, and checks that all of them agree.

    python benches/peers/compare.py [--device cuda|cpu] [--out FOLDER] [--repeats N] [--only PROBLEM]

Takes numpy and the package `sala_kernels`; with torch and a GPU it compares there, in bf16, else on the CPU in f16, where times say nothing of a GPU and only the
agreement counts. Writes `peers.json`, `peers.md` and `peers.svg`. What is not installed stands in the tables as such. The status is 1 if a result that should agree with the
definition does not.
"""

from __future__ import annotations

import argparse
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from typing import Any, Callable, Dict, List, Optional

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import numpy as np
import report
from libraries import LIBRARIES, NOTHING, Library
from problems import Arrays, Problem, problems

# The root of the mean square of the difference to the definition, over that of the definition.
TOLERANCE = {"f16": 0.004, "bf16": 0.02}


def find_torch(device: Optional[str]) -> Any:
    """torch, if it is there, exchanges arrays with this numpy, and has the device."""
    try:
        import torch

        torch.zeros(1).numpy()
    except (ImportError, RuntimeError):
        return None
    return torch if device != "cuda" or torch.cuda.is_available() else None


def seconds(run: Callable[[], Any], arrays: Arrays, repeats: int) -> List[float]:
    """How long each of some calls takes, after others that are not timed: by events on a GPU, with a cold cache."""
    if arrays.device != "cuda":
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        return times
    torch = arrays.torch
    cache = torch.empty(256 << 20, dtype=torch.uint8, device="cuda")
    for _ in range(3):
        run()
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repeats)]
    for start, end in events:
        cache.zero_()
        start.record()
        run()
        end.record()
    torch.cuda.synchronize()
    return [start.elapsed_time(end) / 1e3 for start, end in events]


def measure(library: Library, problem: Problem, expected: np.ndarray, repeats: int) -> Dict[str, Any]:
    """One row of the table."""
    row: Dict[str, Any] = {"problem": problem.name, "library": library.name, "version": library.version()}
    if library.missing:
        return {**row, "status": library.missing}
    try:
        run = library.run(problem)
        if run is None:
            return {**row, "status": NOTHING.get((library.name, problem.kind), "no such operation")}
        out = Arrays.to_numpy(run(), problem.rows)
        error = float(np.linalg.norm(out - expected) / np.linalg.norm(expected))
        agrees = out.shape == expected.shape and error <= TOLERANCE[library.arrays.dtype]
        times = seconds(run, library.arrays, repeats)
    except Exception as failure:  # Another library's failure costs its own row only.
        return {**row, "status": f"failed: {type(failure).__name__}: {' '.join(str(failure).split())[:200]}"}
    median = statistics.median(times)
    return {
        **row, "status": "agrees" if agrees else "disagrees", "error": error, "milliseconds": median * 1e3,
        "fastest_milliseconds": min(times) * 1e3, "tflops": problem.flops / median / 1e12,
        "gigabytes_per_second": problem.bytes / median / 1e9,
    }


def machine(arrays: Arrays) -> Dict[str, Optional[str]]:
    """What the times are of."""
    about: Dict[str, Optional[str]] = {
        "device": arrays.device, "dtype": arrays.dtype, "python": platform.python_version(), "numpy": np.__version__,
        "torch": arrays.torch.__version__ if arrays.torch else None, "gpu": None, "driver": None, "cuda": None,
    }
    if arrays.device == "cuda":
        about["gpu"] = arrays.torch.cuda.get_device_name()
        about["cuda"] = arrays.torch.version.cuda
        query = ["nvidia-smi", "--query-gpu=driver_version,clocks.max.sm", "--format=csv,noheader", "--id=0"]
        answer = subprocess.run(query, capture_output=True, text=True, check=False)
        about["driver"] = answer.stdout.strip() or None
    return about


def is_bad(row: Dict[str, Any]) -> bool:
    """Whether a row says that something is wrong: here, if this library has no result, or anywhere a wrong one."""
    return row["status"] == "disagrees" or (row["library"] == "sala-kernels" and row["status"] != "agrees")


def main(arguments: Optional[List[str]] = None, libraries: Any = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], help="default: a GPU if torch finds one")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("target/peers"), help="default: target/peers")
    parser.add_argument("--repeats", type=int, help="timed calls: 21 on a GPU, 1 on the CPU")
    parser.add_argument("--only", help="problems whose name contains this")
    options = parser.parse_args(arguments)
    torch = find_torch(options.device)
    has_gpu = torch is not None and torch.cuda.is_available()
    if options.device == "cuda" and not has_gpu:
        parser.error("--device cuda takes torch and a GPU")
    arrays = Arrays(torch, options.device or ("cuda" if has_gpu else "cpu"))
    repeats = options.repeats or (21 if arrays.device == "cuda" else 1)

    present = [library(arrays) for library in libraries or LIBRARIES]
    rows: List[Dict[str, Any]] = []
    for make in problems(arrays):
        problem = make()
        if options.only and options.only not in problem.name:
            continue
        expected = problem.expected()
        rows += [measure(library, problem, expected, repeats) for library in present]
        for row in rows[-len(present) :]:
            print(report.line(row), flush=True)
    report.write(options.out, machine(arrays), rows)
    print(f"{options.out}: peers.json, peers.md, peers.svg")
    bad = [row for row in rows if is_bad(row)]
    return 1 if bad or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
