"""Linear attention with decay."""

from __future__ import annotations

import weakref
from typing import Any, Optional

from . import _library
from ._library import choice, empty, launch, need


class LinearAttention:
    """A layer of linear attention: `S_t = exp(g_t)·S_{t−1} + k_t v_tᵀ`, `o_t = scale · S_tᵀ q_t`.

    `dtype` is "bf16" or "f16"; `decay` says what `log_decay` is: "none", "per_head" (f32 `[heads_q]`) or "per_token" (f32 `[tokens, heads_q]`). States
    lie in a pool, f32 `[slots, heads_q, dim_k, dim_v]` (`state_layout="vk"`: the last two the other way round); `state_in` and `state_out`, i32 `[batch]`, name
    slots, −1 for none.
    """

    def __init__(
        self, dtype: Any, heads_q: int, heads_kv: int, dim_k: int, dim_v: int, *, decay: str,
        scale: Optional[float] = None, state_layout: str = "kv", split: str = "auto",
    ) -> None:
        numbers = {
            "dtype": _library.dtype_number(dtype),
            "decay": choice("decay", decay, {"none": 1, "per_head": 2, "per_token": 3}),
            "heads_q": heads_q,
            "heads_kv": heads_kv,
            "dim_k": dim_k,
            "dim_v": dim_v,
            "state_layout": choice("state_layout", state_layout, {"kv": 0, "vk": 1}),
            "split": choice("split", split, {"auto": 0, "never": 1}),
        }
        self._layer = _library.create("linear", scale, *(part for pair in numbers.items() for part in pair))
        weakref.finalize(self, _library.destroy, self._layer)
        self._heads_q, self._dim_v = heads_q, dim_v

    def workspace_size(self, batch: int, total_q: int, max_seqlen_q: int) -> int:
        """Bytes of workspace of a prefill; 0 unless a sequence is long enough to be split."""
        return _library.number("linear_workspace", self._layer, batch, total_q, max_seqlen_q)

    def prefill(
        self, q: Any, k: Any, v: Any, *, cu_seqlens: Any, log_decay: Any, state: Any = None, state_in: Any = None,
        state_out: Any = None, checkpoint_every: int = 0, checkpoint_slots: Any = None, out: Any = None,
        workspace: Any = None, max_seqlen_q: Optional[int] = None, status: Any = None,
    ) -> Any:
        """Whole sequences: `q` `[tokens, heads_q, dim_k]`, `k`, `v` with kv heads; gives `[tokens, heads_q, dim_v]`."""
        tokens = need("q", q, 3)[0]
        batch = max(need("cu_seqlens", cu_seqlens, 1)[0] - 1, 0)
        out = empty(q, (tokens, self._heads_q, self._dim_v)) if out is None else out
        bound = tokens if max_seqlen_q is None else max_seqlen_q
        workspace = _library.workspace(q, self.workspace_size(batch, tokens, bound), workspace)
        launch(
            "linear_prefill", self._layer, q=q, k=k, v=v, cu_seqlens=cu_seqlens, log_decay=log_decay, state=state,
            state_in=state_in, state_out=state_out, checkpoint_every=checkpoint_every,
            checkpoint_slots=checkpoint_slots, out=out, workspace=workspace, max_seqlen_q=max_seqlen_q, status=status,
        )
        return out

    def decode(
        self, q: Any, k: Any, v: Any, *, log_decay: Any, state: Any, state_in: Any, state_out: Any = None,
        out: Any = None, status: Any = None,
    ) -> Any:
        """One token of each sequence, `q` `[batch, heads_q, dim_k]`; without `state_out` states stay in their slots."""
        out = empty(q, (need("q", q, 3)[0], self._heads_q, self._dim_v)) if out is None else out
        launch(
            "linear_decode", self._layer, q=q, k=k, v=v, log_decay=log_decay, state=state, state_in=state_in,
            state_out=state_out, out=out, status=status,
        )
        return out

    def verify(
        self, q: Any, k: Any, v: Any, *, log_decay: Any, state: Any, state_in: Any, parent: Any = None,
        out: Any = None, status: Any = None,
    ) -> Any:
        """Outputs of up to 16 drafts, `q` `[batch, T, heads_q, dim_k]`; `parent`, i32 `[batch, T]`, makes them a tree. States stay as they are."""
        shape = need("q", q, 4)
        out = empty(q, (*shape[:2], self._heads_q, self._dim_v)) if out is None else out
        launch(
            "linear_verify", self._layer, q=q, k=k, v=v, log_decay=log_decay, state=state, state_in=state_in,
            parent=parent, out=out, status=status,
        )
        return out

    def commit(
        self, k: Any, v: Any, *, log_decay: Any, state: Any, state_in: Any, state_out: Any = None, accepted: Any,
        path: Any = None, status: Any = None,
    ) -> None:
        """Advances states by the first `accepted`, i32 `[batch]`, drafts, or those of `path`, i32 `[batch, T]`."""
        launch(
            "linear_commit", self._layer, k=k, v=v, log_decay=log_decay, state=state, state_in=state_in,
            state_out=state_out, accepted=accepted, path=path, status=status,
        )

    def sum_decay(
        self, *, cu_seqlens: Any, log_decay: Any, tokens: Optional[int] = None, cumulative: Any = None, total: Any = None,
        max_seqlen_q: Optional[int] = None, status: Any = None,
    ) -> tuple[Any, Any]:
        """The log decay added up over each sequence: f32 `[tokens, heads_q]`, and of all tokens `[batch, heads_q]`.

        `tokens` is needed where neither `log_decay` nor `cumulative` says how many there are.
        """
        batch = max(need("cu_seqlens", cu_seqlens, 1)[0] - 1, 0)
        if cumulative is None:
            if tokens is None:
                tokens = need("log_decay", log_decay, 2)[0]
            cumulative = empty(cu_seqlens, (tokens, self._heads_q), "float32")
        total = empty(cu_seqlens, (batch, self._heads_q), "float32") if total is None else total
        launch(
            "sum_decay", self._layer, cu_seqlens=cu_seqlens, log_decay=log_decay, cumulative=cumulative, total=total,
            max_seqlen_q=max_seqlen_q, status=status,
        )
        return cumulative, total

    def correct(
        self, q: Any, cumulative: Any, out: Any, *, cu_seqlens: Any, state: Any, state_in: Any,
        max_seqlen_q: Optional[int] = None, status: Any = None,
    ) -> Any:
        """Corrects `out`, made by a prefill from zero, by the state that each sequence begins with; gives `out`."""
        launch(
            "linear_correct", self._layer, q=q, cumulative=cumulative, cu_seqlens=cu_seqlens, state=state,
            state_in=state_in, out=out, max_seqlen_q=max_seqlen_q, status=status,
        )
        return out


def merge_states(adds: Any, total: Any, *, state: Any, state_in: Any, state_out: Any, status: Any = None) -> None:
    """Merges what the parts of sequences add to their states: `adds` f32 `[parts · batch, heads, rows, columns]`, `total` `[parts · batch, heads]`.

    `state_out`, i32 `[parts + 1, batch]`, names the slots of the states before each part, and after all.
    """
    launch(
        "merge_states", 0, adds=adds, total=total, state=state, state_in=state_in, state_out=state_out, status=status
    )


def copy_states(state: Any, sources: Any, destinations: Any, *, status: Any = None) -> None:
    """Copies states from slot to slot, `sources` and `destinations` i32 `[pairs]`."""
    launch("copy_states", 0, state=state, sources=sources, destinations=destinations, status=status)


def lightning_log_decay(first_head: int, heads: int, total_heads: int) -> Any:
    """The log decays of Lightning attention for some heads of a layer: f32 `[heads]`, by numpy."""
    import numpy

    out = numpy.empty(max(heads, 0), numpy.float32)
    _library.table("lightning_log_decay", out, first_head, heads, total_heads)
    return out
