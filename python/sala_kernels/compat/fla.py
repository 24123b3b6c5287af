"""Simple GLA under the names and with the layouts of flash-linear-attention, forward only.

`q`, `k` `[B, T, H, K]`, `v` `[B, T, H, V]` in bf16 or f16; log decays `g` `[B, T, H]` and `g_gamma` `[H]`, which add up; states f32 `[N, H, K, V]`. With `cu_seqlens`
`[N + 1]` the batch is 1, and holds N sequences one after the other. All three functions give `(o, final_state)`.
"""

from __future__ import annotations

from typing import Any, Optional, Tuple

from .. import LinearAttention
from .._library import empty, is_torch, need

_layers: dict = {}


def _layer(*description: Any) -> LinearAttention:
    """The layer of a description, made once."""
    if description not in _layers:
        dtype, heads, dim_k, dim_v, decay, scale, layout = description
        _layers[description] = LinearAttention(
            dtype, heads, heads, dim_k, dim_v, decay=decay, scale=scale, state_layout=layout
        )
    return _layers[description]


def _to(tensor: Any, dtype: str) -> Any:
    """A compact tensor of another type."""
    if is_torch(tensor):
        import torch

        return tensor.to(getattr(torch, dtype)).contiguous()
    import numpy

    return numpy.ascontiguousarray(tensor, dtype)


def _range(like: Any, count: int, step: int = 1) -> Any:
    """0, step, … of i32 where `like` is."""
    if is_torch(like):
        import torch

        return torch.arange(0, count * step, step or 1, dtype=torch.int32, device=like.device) if step else torch.zeros(
            count, dtype=torch.int32, device=like.device
        )
    import numpy

    return numpy.arange(count, dtype=numpy.int32) * numpy.int32(step)


def chunk_simple_gla(
    q: Any,
    k: Any,
    v: Any,
    g: Any = None,
    g_gamma: Any = None,
    scale: Optional[float] = None,
    initial_state: Any = None,
    output_final_state: bool = False,
    state_v_first: bool = False,
    cu_seqlens: Any = None,
    **options: Any,
) -> Tuple[Any, Any]:
    """Simple GLA: `S_t = exp(g_t)·S_{t−1} + k_t v_tᵀ`, `o_t = scale · S_tᵀ q_t`. Gives `(o [B, T, H, V], final_state or None)`."""
    # What only tells how to compute changes no result; cu_seqlens on the host says what cu_seqlens says.
    unknown = set(options) - {"cu_seqlens_cpu", "chunk_indices", "chunk_size"}
    if unknown:
        raise TypeError(f"{sorted(unknown)[0]}: expected an argument of simple GLA, got another name")
    for name, tensor in [("q", q), ("k", k), ("v", v), ("g", g), ("g_gamma", g_gamma), ("initial_state", initial_state)]:
        if getattr(tensor, "requires_grad", False) and _grad_is_on():
            raise NotImplementedError(f"{name}: expected a tensor without requires_grad (there is no backward pass)")
    batch, tokens, heads, dim_k = need("q", q, 4)
    dim_v = need("v", v, 4)[3]
    if need("k", k, 4) != (batch, tokens, heads, dim_k):
        raise ValueError(f"k: expected shape {[batch, tokens, heads, dim_k]}, got {list(k.shape)}")
    if need("v", v, 4)[:3] != (batch, tokens, heads):
        raise ValueError(f"v: expected shape {[batch, tokens, heads, dim_v]}, got {list(v.shape)}")
    if cu_seqlens is not None and batch != 1:
        raise ValueError(f"q: expected a batch of 1 with cu_seqlens, got {batch}")
    cu = _range(q, batch + 1, tokens) if cu_seqlens is None else _to(cu_seqlens, "int32")
    count = need("cu_seqlens", cu, 1)[0] - 1
    decay, log_decay = "none", None
    if g is not None:
        if need("g", g, 3) != (batch, tokens, heads):
            raise ValueError(f"g: expected shape {[batch, tokens, heads]}, got {list(g.shape)}")
        decay, log_decay = "per_token", _to(g, "float32").reshape(batch * tokens, heads)
    if g_gamma is not None:
        if need("g_gamma", g_gamma, 1) != (heads,):
            raise ValueError(f"g_gamma: expected shape {[heads]}, got {list(g_gamma.shape)}")
        gamma = _to(g_gamma, "float32")
        decay, log_decay = ("per_head", gamma) if log_decay is None else (decay, log_decay + gamma)
    layer = _layer(q.dtype, heads, dim_k, dim_v, decay, scale, "vk" if state_v_first else "kv")
    shape = (count, heads, dim_v, dim_k) if state_v_first else (count, heads, dim_k, dim_v)
    if initial_state is not None and tuple(initial_state.shape) != shape:
        raise ValueError(f"initial_state: expected shape {list(shape)}, got {list(initial_state.shape)}")
    slots = _range(q, count)
    state = None
    if initial_state is not None:
        state = _to(initial_state, "float32")
        if output_final_state:
            state = state.clone() if is_torch(state) else state.copy()
    elif output_final_state:
        state = empty(q, shape, "float32")
    out = layer.prefill(
        *(tensor.reshape(batch * tokens, heads, -1 if tokens else tensor.shape[3]) for tensor in (q, k, v)),
        cu_seqlens=cu,
        log_decay=log_decay,
        state=state,
        state_in=None if initial_state is None else slots,
        state_out=slots if output_final_state else None,
    )
    return out.reshape(batch, tokens, heads, dim_v), state if output_final_state else None


def _grad_is_on() -> bool:
    import torch

    return torch.is_grad_enabled()


fused_chunk_simple_gla = chunk_simple_gla


def fused_recurrent_simple_gla(
    q: Any,
    k: Any,
    v: Any,
    g: Any = None,
    g_gamma: Any = None,
    scale: Optional[float] = None,
    initial_state: Any = None,
    output_final_state: bool = False,
    reverse: bool = False,
    state_v_first: bool = False,
    cu_seqlens: Any = None,
) -> Tuple[Any, Any]:
    """The same, as fla's recurrent form takes its arguments."""
    if reverse:
        raise NotImplementedError("reverse: expected False, got True")
    return chunk_simple_gla(q, k, v, g, g_gamma, scale, initial_state, output_final_state, state_v_first, cu_seqlens)
