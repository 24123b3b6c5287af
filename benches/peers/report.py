"""What was measured, as JSON, as tables in Markdown and as bars."""

from __future__ import annotations

import html
import json
import pathlib
from typing import Any, Dict, List

Row = Dict[str, Any]


def line(row: Row) -> str:
    """A row for a terminal."""
    label = f"{row['problem']:<30} {row['library']:<14}"
    if "milliseconds" not in row:
        return f"{label} {row['status']}"
    return f"{label} {row['status']:<10} {row['milliseconds']:>10.3f} ms  error {row['error']:.1e}"


def write(folder: pathlib.Path, machine: Dict[str, Any], rows: List[Row]) -> None:
    """All three files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "peers.json").write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")
    (folder / "peers.md").write_text(markdown(machine, rows))
    (folder / "peers.svg").write_text(svg(machine, rows))


def about(machine: Dict[str, Any]) -> str:
    """What the times are of, in a line."""
    if machine["device"] != "cuda":
        return f"On the CPU, in {machine['dtype']}: whether results agree. Times there say nothing of a GPU."
    parts = [machine["gpu"], f"driver {machine['driver']}", f"CUDA {machine['cuda']}", f"torch {machine['torch']}", machine["dtype"]]
    return "Measured: " + ", ".join(str(part) for part in parts) + "; medians, cold L2, with launches."


def markdown(machine: Dict[str, Any], rows: List[Row]) -> str:
    """A table for each problem."""
    text = ["# This library beside others", "", about(machine)]
    for problem in dict.fromkeys(row["problem"] for row in rows):
        text += ["", f"## {problem}", "", "| library | version | result | error | ms | TFLOP/s | GB/s |", "|---|---|---|---|---|---|---|"]
        for row in (row for row in rows if row["problem"] == problem):
            cells = [row["library"], row["version"] or "", row["status"].replace("|", "/")]
            if "milliseconds" in row:
                cells += [f"{row['error']:.1e}", f"{row['milliseconds']:.3f}", f"{row['tflops']:.1f}", f"{row['gigabytes_per_second']:.0f}"]
            else:
                cells += [""] * 4
            text.append("| " + " | ".join(cells) + " |")
    return "\n".join(text) + "\n"


def svg(machine: Dict[str, Any], rows: List[Row]) -> str:
    """Bars of the times of each problem, each problem to its own scale. What has no time has its status instead."""
    width, bar, gap, label = 760, 18, 34, 150
    parts, y = [], 48
    for problem in dict.fromkeys(row["problem"] for row in rows):
        group = [row for row in rows if row["problem"] == problem]
        slowest = max((row["milliseconds"] for row in group if "milliseconds" in row), default=1.0)
        parts.append(f'<text x="8" y="{y}" font-weight="bold">{html.escape(problem)}</text>')
        for row in group:
            y += bar
            parts.append(f'<text x="{label}" y="{y}" text-anchor="end">{html.escape(row["library"])}</text>')
            if "milliseconds" in row:
                length = max((width - label - 120) * row["milliseconds"] / slowest, 1)
                colour = "#b03a2e" if row["status"] != "agrees" else "#1f618d" if row["library"] == "sala-kernels" else "#99a3a4"
                parts.append(f'<rect x="{label + 8}" y="{y - 11}" width="{length:.1f}" height="{bar - 5}" fill="{colour}"/>')
                parts.append(f'<text x="{label + 14 + length:.1f}" y="{y}">{row["milliseconds"]:.3f} ms</text>')
            else:
                parts.append(f'<text x="{label + 8}" y="{y}" fill="#777">{html.escape(row["status"][:80])}</text>')
        y += gap
    title = f'<text x="8" y="20">{html.escape(about(machine))}</text>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y}" font-family="sans-serif" font-size="12">'
    return "\n".join([head, title, *parts, "</svg>"]) + "\n"
