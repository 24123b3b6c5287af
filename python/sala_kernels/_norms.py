"""Norms, and merging."""

from __future__ import annotations

from typing import Any, Optional, Tuple

from . import _library
from ._library import empty, launch, need


def merge(out1: Any, lse1: Any, out2: Any, lse2: Any, *, out: Any = None, lse: Any = None) -> Tuple[Any, Any]:
    """Attention over two sets of keys that share none, made one: `[tokens, heads, dim]` with LSE f32 `[tokens, heads]`; `out` and `lse` may be those of a side."""
    shape = need("out1", out1, 3)
    sides = [(out1, lse1), (out2, lse2)]
    # A side that is written is in place.
    sides = [(None, None) if out is not None and side[0] is out and side[1] is lse else side for side in sides]
    out = empty(out1, shape) if out is None else out
    lse = empty(out1, shape[:2], "float32") if lse is None else lse
    (out1, lse1), (out2, lse2) = sides
    launch("merge", 0, out1=out1, lse1=lse1, out2=out2, lse2=lse2, out=out, lse=lse)
    return out, lse


def norm_rope(
    x: Any, weight: Any, cos_sin: Any, positions: Any, *, eps: float = 1e-6, out: Any = None, status: Any = None
) -> Any:
    """The norm of each head of `x` `[tokens, heads, dim]`, times `weight` `[dim]`, then rotary embedding by rows `positions`, i32 `[tokens]`, of `cos_sin`, f32 `[count, dim]`."""
    shape = need("x", x, 3)
    in_place = out is x
    out = empty(x, shape) if out is None else out
    launch(
        "norm_rope", 0, x=None if in_place else x, weight=weight, cos_sin=cos_sin, positions=positions, eps=float(eps),
        out=out, status=status,
    )
    return out


def norm_gate(
    x: Any, weight: Any, gate: Any, *, eps: float = 1e-6, sum_squares: Any = None, channels: Optional[int] = None,
    out: Any = None,
) -> Any:
    """The norm over all channels of `x` `[tokens, channels]`, times `weight` `[channels]`, times sigmoid of `gate`.

    With `sum_squares`, f32 `[tokens]`, the sums are given, over `channels` of them.
    """
    shape = need("x", x, 2)
    in_place = out is x
    out = empty(x, shape) if out is None else out
    launch(
        "norm_gate", 0, x=None if in_place else x, weight=weight, gate=gate, sum_squares=sum_squares,
        channels=channels, eps=float(eps), out=out,
    )
    return out


def sum_squares(x: Any, *, out: Any = None) -> Any:
    """The sums of squares of `x` `[tokens, channels]`: f32 `[tokens]`."""
    out = empty(x, need("x", x, 2)[:1], "float32") if out is None else out
    launch("sum_squares", 0, x=x, out=out)
    return out


def rotary_cos_sin(count: int, dim: int, *, theta: float = 10000.0) -> Any:
    """Cosines and sines of rotary embedding: f32 `[count, dim]`, by numpy."""
    import numpy

    out = numpy.empty((max(count, 0), max(dim, 0)), numpy.float32)
    _library.table("rotary_cos_sin", out, count, dim, float(theta))
    return out
