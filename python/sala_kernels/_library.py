"""The library, and the tensors that it is given and gives."""

from __future__ import annotations

import os
import pathlib
from typing import Any, Optional

import tvm_ffi

_PATH = os.environ.get("SALA_KERNELS_LIBRARY") or pathlib.Path(__file__).with_name("libsala_kernels.so")
_module = tvm_ffi.load_module(str(_PATH))
_launch = _module.sala_launch
create = _module.sala_create
destroy = _module.sala_destroy
number = _module.sala_number
table = _module.sala_table

DTYPES = {"bf16": 1, "bfloat16": 1, "f16": 2, "float16": 2}


def launch(operation: str, layer: int, **arguments: Any) -> None:
    """Queues an operation on the caller's current stream; on the CPU it has run when it returns."""
    given = []
    for name, value in arguments.items():
        if value is not None:
            given += (name, value)
    _launch(operation, layer, *given)


def dtype_number(dtype: Any) -> int:
    """The library's number of "bf16", "f16", or a dtype of numpy, torch or jax of that name."""
    name = getattr(dtype, "__name__", None) or str(dtype)
    number = DTYPES.get(name.rsplit(".", 1)[-1])
    if number is None:
        raise ValueError(f"dtype: expected bf16 or f16, got {dtype}")
    return number


def choice(name: str, value: Any, values: dict) -> int:
    """The library's number of a word."""
    try:
        return values[value]
    except (KeyError, TypeError):
        raise ValueError(f"{name}: expected {' or '.join(map(repr, values))}, got {value!r}") from None


def need(name: str, tensor: Any, rank: int) -> tuple:
    """The shape of a tensor."""
    shape = getattr(tensor, "shape", None)
    if shape is None:
        raise TypeError(f"{name}: expected a tensor, got {type(tensor).__name__}")
    if len(shape) != rank:
        raise ValueError(f"{name}: expected {rank} axes, got shape {list(shape)}")
    return tuple(int(length) for length in shape)


def is_torch(tensor: Any) -> bool:
    """Whether torch allocates what goes with a tensor."""
    return type(tensor).__module__.partition(".")[0] == "torch"


def empty(like: Any, shape: tuple, dtype: Optional[str] = None) -> Any:
    """An uninitialised tensor where `like` is, by torch if that is torch's, else by numpy; of its dtype, or "float32", "int32"."""
    if is_torch(like):
        import torch

        return torch.empty(shape, dtype=getattr(torch, dtype) if dtype else like.dtype, device=like.device)
    device = getattr(like, "__dlpack_device__", lambda: (1, 0))()
    if device[0] != 1:
        raise ValueError("out: expected a tensor (only torch's memory on a GPU is allocated here), got None")
    import numpy

    return numpy.empty(shape, dtype or like.dtype)


def workspace(like: Any, size: int, given: Any) -> Any:
    """The workspace that is given, or one of so many bytes; None if there need be none."""
    if given is not None or size == 0:
        return given
    return empty(like, ((size + 3) // 4,), "int32")
