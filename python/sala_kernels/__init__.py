"""Kernels for hybrid block-sparse and linear attention, on CUDA GPUs and on the CPU.

Tensors are anything with DLPack, such as those of torch and numpy, on the CPU or a CUDA device; launches go to the caller's current stream. Nothing
is copied. Results are allocated only where `out` is absent. A wrong argument is a `ValueError` or `TypeError` that names it; a failure of the driver
or of a kernel a `RuntimeError`. docs/semantics.md says what each operation computes; `status`, u32 `[4]`, counts what kernels refused.
"""

from __future__ import annotations

from ._linear import LinearAttention, copy_states, lightning_log_decay, merge_states
from ._norms import merge, norm_gate, norm_rope, rotary_cos_sin, sum_squares
from ._sparse import Cached, Packed, Paged, SparseLayer

__all__ = [
    "Cached",
    "LinearAttention",
    "Packed",
    "Paged",
    "SparseLayer",
    "copy_states",
    "lightning_log_decay",
    "merge",
    "merge_states",
    "norm_gate",
    "norm_rope",
    "rotary_cos_sin",
    "sum_squares",
]
