"""Block-sparse attention."""

from __future__ import annotations

import weakref
from typing import Any, Optional, Tuple, Union

from . import _library
from ._library import choice, empty, launch, need

_ENTRIES = {"prefill": 0, "decode": 1}


class Packed:
    """Keys of one sequence after the other, `[total_k, heads_kv, dim]`, cut by `cu_seqlens_k`, i32 `[batch + 1]`."""

    def __init__(self, cu_seqlens_k: Any) -> None:
        self._fields = {"store": 1, "cu_seqlens_k": cu_seqlens_k}


class Cached:
    """Keys in caches `[caches, capacity, heads_kv, dim]`: `seqlens_k`, i32 `[batch]`, and the cache of each sequence, i32 `[batch]` (absent: in order).

    As a store of compressed keys only `cache_index` counts.
    """

    def __init__(self, seqlens_k: Any = None, cache_index: Any = None) -> None:
        self._fields = {"store": 2, "seqlens_k": seqlens_k, "cache_index": cache_index}


class Paged:
    """Keys in pages `[pages, page_size, heads_kv, dim]`: `seqlens_k`, i32 `[batch]`, and `page_table`, i32 `[batch, max_pages]`.

    As a store of compressed keys `page_table` and `rows_per_page` count.
    """

    def __init__(self, seqlens_k: Any = None, page_table: Any = None, rows_per_page: Optional[int] = None) -> None:
        self._fields = {"store": 3, "seqlens_k": seqlens_k, "page_table": page_table}
        self._rows_per_page = rows_per_page


Keys = Union[Packed, Cached, Paged]


def _keys(keys: Any) -> dict:
    if not isinstance(keys, (Packed, Cached, Paged)):
        raise TypeError(f"keys: expected Packed, Cached or Paged, got {type(keys).__name__}")
    return keys._fields


def _compressed(store: Any) -> dict:
    if store is None:
        return {}
    if not isinstance(store, (Cached, Paged)):
        raise TypeError(f"compressed: expected Cached or Paged, got {type(store).__name__}")
    fields = {name: value for name, value in store._fields.items() if name != "seqlens_k"}
    if isinstance(store, Paged):
        fields["rows_per_page"] = store._rows_per_page
    return {f"compressed.{name}": value for name, value in fields.items()}


def _switch(switch_len: Any) -> dict:
    if switch_len is None:
        return {"switch_by": 0}
    if isinstance(switch_len, str):
        return {"switch_by": choice("switch_len", switch_len, {"keys": 1})}
    return {"switch_by": 2, "switch_len": switch_len}


class SparseLayer:
    """A layer of block-sparse attention (InfLLM-V2): compress the keys, score blocks of them, attend to the best.

    `dtype` is "bf16" or "f16"; `dense_len`: sequences below it are attended densely (0: none). All operations take `cu_seqlens_q`, i32 `[batch + 1]`, and
    upper bounds `max_seqlen_q`, `max_seqlen_k` of lengths.
    """

    def __init__(
        self,
        dtype: Any,
        heads_q: int,
        heads_kv: int,
        dim: int,
        *,
        dense_len: int,
        scale: Optional[float] = None,
        block_size: int = 64,
        topk: int = 64,
        init_blocks: int = 1,
        local_blocks: int = 32,
        lse: str = "coarse",
    ) -> None:
        numbers = {
            "dtype": _library.dtype_number(dtype),
            "heads_q": heads_q,
            "heads_kv": heads_kv,
            "dim": dim,
            "dense_len": dense_len,
            "block_size": block_size,
            "topk": topk,
            "init_blocks": init_blocks,
            "local_blocks": local_blocks,
            "lse": choice("lse", lse, {"coarse": 0, "exact": 1}),
        }
        self._layer = _library.create("sparse", scale, *(part for pair in numbers.items() for part in pair))
        weakref.finalize(self, _library.destroy, self._layer)
        self._heads_kv, self._block_size = heads_kv, block_size
        self.list_len: int = _library.number("list_len", self._layer)

    def k1_rows(self, tokens: int) -> int:
        """Rows of K1 for so many keys, of all packed sequences together or of one cache."""
        return _library.number("k1_rows", self._layer, tokens)

    def k2_rows(self, tokens: int) -> int:
        """Rows of K2, likewise."""
        return _library.number("k2_rows", self._layer, tokens)

    def workspace_size(
        self, entry: str, batch: int, max_seqlen_q: int, max_seqlen_k: int, list_len: Optional[int] = None
    ) -> int:
        """Bytes of workspace that serve select and attend of an entry."""
        number = choice("entry", entry, _ENTRIES)
        return _library.number("sparse_workspace", self._layer, number, batch, max_seqlen_q, max_seqlen_k, list_len or 0)

    def append(
        self, k_new: Any, v_new: Any, k: Any, v: Any, *, cu_seqlens_q: Any, keys: Keys,
        max_seqlen_q: Optional[int] = None, max_seqlen_k: Optional[int] = None, status: Any = None,
    ) -> None:
        """Writes `k_new`, `v_new` `[total_q, heads_kv, dim]` to where the sequences' keys and values are, `k` and `v`."""
        launch(
            "append_keys", self._layer, k_new=k_new, v_new=v_new, k=k, v=v, cu_seqlens_q=cu_seqlens_q,
            max_seqlen_q=max_seqlen_q, max_seqlen_k=max_seqlen_k, status=status, **_keys(keys),
        )

    def compress(
        self, k: Any, k1: Any, k2: Any, *, keys: Keys, seqlens_old: Any = None, compressed: Any = None,
        max_seqlen_k: Optional[int] = None, max_new: Optional[int] = None, status: Any = None,
    ) -> None:
        """Writes means of the keys over windows to `k1` and `k2`, of those that `seqlens_old`, i32 `[batch]`, does not count."""
        launch(
            "compress_keys", self._layer, k=k, k1=k1, k2=k2, seqlens_old=seqlens_old, max_seqlen_k=max_seqlen_k,
            max_new=max_new, status=status, **_keys(keys), **_compressed(compressed),
        )

    def select(
        self, q: Any, k1: Any, k2: Any, *, cu_seqlens_q: Any, keys: Keys, switch_len: Any, entry: str = "prefill",
        compressed: Any = None, parent: Any = None, scale_factor: Any = None, scores_out: Any = None, out: Any = None,
        workspace: Any = None, max_seqlen_q: Optional[int] = None, max_seqlen_k: Optional[int] = None, status: Any = None,
    ) -> Any:
        """The blocks that each token of `q` `[total_q, heads_q, dim]` attends to: i32 `[total_q, heads_kv, list_len]`, −1 after the last.

        `switch_len` is "keys" or i32 `[batch]` where the layer has a `dense_len`, else None. `scores_out`: f32 `[total_q, heads_kv, blocks]`.
        """
        tokens = need("q", q, 3)[0]
        out = empty(q, (tokens, self._heads_kv, self.list_len), "int32") if out is None else out
        if workspace is None and entry == "decode":
            workspace = self._workspace(q, cu_seqlens_q, k1, max_seqlen_q, max_seqlen_k, self._block_size // 4)
        launch(
            "select_blocks", self._layer, q=q, k1=k1, k2=k2, cu_seqlens_q=cu_seqlens_q,
            entry=choice("entry", entry, _ENTRIES), parent=parent, scale_factor=scale_factor, scores=scores_out,
            block_indices=out, workspace=workspace, max_seqlen_q=max_seqlen_q, max_seqlen_k=max_seqlen_k, status=status,
            **_keys(keys), **_compressed(compressed), **_switch(switch_len),
        )
        return out

    def choose(
        self, scores: Any, *, cu_seqlens_q: Any, keys: Keys, switch_len: Any, out: Any = None,
        max_seqlen_q: Optional[int] = None, max_seqlen_k: Optional[int] = None, status: Any = None,
    ) -> Any:
        """The blocks by given scores, f32 `[total_q, heads_kv, blocks]`."""
        tokens = need("scores", scores, 3)[0]
        out = empty(scores, (tokens, self._heads_kv, self.list_len), "int32") if out is None else out
        launch(
            "choose_blocks", self._layer, scores=scores, cu_seqlens_q=cu_seqlens_q, block_indices=out,
            max_seqlen_q=max_seqlen_q, max_seqlen_k=max_seqlen_k, status=status, **_keys(keys), **_switch(switch_len),
        )
        return out

    def attend(
        self, q: Any, k: Any, v: Any, block_indices: Any, *, cu_seqlens_q: Any, keys: Keys, switch_len: Any,
        entry: str = "prefill", parent: Any = None, scale_factor: Any = None, gate: Any = None, out: Any = None,
        lse: Any = None, workspace: Any = None, max_seqlen_q: Optional[int] = None, max_seqlen_k: Optional[int] = None,
        status: Any = None,
    ) -> Tuple[Any, Any]:
        """Attention over each token's list: outputs `[total_q, heads_q, dim]` and their LSE, f32 `[total_q, heads_q]`."""
        return self._attend(
            "sparse_attention", q, k, v, entry, out, lse, workspace, cu_seqlens_q, max_seqlen_q, max_seqlen_k,
            block_indices=block_indices, parent=parent, scale_factor=scale_factor, gate=gate, status=status,
            **_keys(keys), **_switch(switch_len),
        )

    def attend_dense(
        self, q: Any, k: Any, v: Any, *, cu_seqlens_q: Any, keys: Keys, entry: str = "prefill", parent: Any = None,
        first_key: Any = None, scale_factor: Any = None, gate: Any = None, out: Any = None, lse: Any = None,
        workspace: Any = None, max_seqlen_q: Optional[int] = None, max_seqlen_k: Optional[int] = None, status: Any = None,
    ) -> Tuple[Any, Any]:
        """Attention over all keys, as `attend`; with `first_key`, i32 `[total_q]`, over those from there to each token's own."""
        return self._attend(
            "dense_attention", q, k, v, entry, out, lse, workspace, cu_seqlens_q, max_seqlen_q, max_seqlen_k,
            parent=parent, first_key=first_key, scale_factor=scale_factor, gate=gate, status=status, **_keys(keys),
        )

    def commit(self, k: Any, v: Any, *, keys: Keys, base: Any, accepted: Any, path: Any, status: Any = None) -> None:
        """Moves keys and values of accepted drafts to where the tokens that they become belong: rows `base + path[i]` to `base + i`.

        `base` and `accepted`: i32 `[batch]`; `path`: i32 `[batch, drafts]` of up to 16 drafts, the accepted ones first, ascending.
        """
        launch(
            "commit_keys", self._layer, k=k, v=v, base=base, accepted=accepted, path=path, status=status, **_keys(keys),
        )

    def tokens_workspace_size(self, batch: int, max_seqlen_q: int, tokens: int) -> int:
        """Bytes of workspace that serve score_keys and choose_tokens."""
        return _library.number("tokens_workspace", self._layer, batch, max_seqlen_q, tokens)

    def score_keys(
        self, q: Any, k: Any, tokens: int, *, cu_seqlens_q: Any, keys: Keys, pool: int, out: Any = None, workspace: Any = None,
        max_seqlen_q: Optional[int] = None, max_seqlen_k: Optional[int] = None, status: Any = None,
    ) -> Any:
        """Of each key the mean of its products with the queries, and of `pool` neighbouring keys the largest: f32 `[batch, heads_kv, tokens]`."""
        batch = max(need("cu_seqlens_q", cu_seqlens_q, 1)[0] - 1, 0)
        out = empty(q, (batch, self._heads_kv, tokens), "float32") if out is None else out
        if workspace is None:
            queries = need("q", q, 3)[0] if max_seqlen_q is None else max_seqlen_q
            workspace = _library.workspace(q, self.tokens_workspace_size(batch, queries, 0), None)
        launch(
            "score_keys", self._layer, q=q, k=k, cu_seqlens_q=cu_seqlens_q, scores=out, workspace=workspace, pool=pool,
            max_seqlen_q=max_seqlen_q, max_seqlen_k=max_seqlen_k, status=status, **_keys(keys),
        )
        return out

    def choose_tokens(
        self, scores: Any, chosen: int, *, keys: Keys, init_tokens: int = 0, local_tokens: int = 0, out: Any = None,
        workspace: Any = None, status: Any = None,
    ) -> Any:
        """The `chosen` tokens with the highest scores, f32 `[batch, heads_kv, tokens]`, and those at either end: i32, −1 after the last."""
        batch, _, tokens = need("scores", scores, 3)
        out = empty(scores, (batch, self._heads_kv, chosen), "int32") if out is None else out
        if workspace is None:
            workspace = _library.workspace(scores, self.tokens_workspace_size(batch, 0, tokens), None)
        launch(
            "choose_tokens", self._layer, scores=scores, token_indices=out, init_tokens=init_tokens, local_tokens=local_tokens,
            workspace=workspace, status=status, **_keys(keys),
        )
        return out

    def gather(
        self, k: Any, v: Any, token_indices: Any, *, keys: Keys, k_out: Any = None, v_out: Any = None, scores: Any = None,
        scores_out: Any = None, status: Any = None,
    ) -> Tuple[Any, Any]:
        """The rows of `k` and `v` at `token_indices`, i32 `[batch, heads_kv, chosen]`: `[batch, chosen, heads_kv, dim]` each, zero at −1."""
        batch, heads, chosen = need("token_indices", token_indices, 3)
        shape = (batch, chosen, heads, tuple(k.shape)[-1])
        k_out, v_out = (empty(k, shape) if given is None else given for given in (k_out, v_out))
        launch(
            "gather_rows", self._layer, k=k, v=v, token_indices=token_indices, k_out=k_out, v_out=v_out, scores=scores,
            scores_out=scores_out, status=status, **_keys(keys),
        )
        return k_out, v_out

    def compact(self, k: Any, v: Any, token_indices: Any, *, keys: Keys, scores: Any = None, status: Any = None) -> None:
        """Moves the rows of `k`, `v` and `scores` at `token_indices`, i32 `[batch, heads_kv, kept]`, ascending, to the front of their sequences."""
        launch("compact_keys", self._layer, k=k, v=v, token_indices=token_indices, scores=scores, status=status, **_keys(keys))

    def _attend(self, operation, q, k, v, entry, out, lse, workspace, cu_seqlens_q, max_seqlen_q, max_seqlen_k, **rest):
        shape = need("q", q, 3)
        out = empty(q, shape) if out is None else out
        lse = empty(q, shape[:2], "float32") if lse is None else lse
        if workspace is None and entry == "decode":
            workspace = self._workspace(q, cu_seqlens_q, k, max_seqlen_q, max_seqlen_k, 1)
        launch(
            operation, self._layer, q=q, k=k, v=v, out=out, lse=lse, workspace=workspace, cu_seqlens_q=cu_seqlens_q,
            entry=choice("entry", entry, _ENTRIES), max_seqlen_q=max_seqlen_q, max_seqlen_k=max_seqlen_k, **rest,
        )
        return out, lse

    def _workspace(self, q, cu_seqlens_q, rows, max_seqlen_q, max_seqlen_k, unit):
        """A workspace for every call of the decode entry; `rows`, each of `unit` keys, bound these where `max_seqlen_k` does not."""
        if max_seqlen_q is None:
            raise ValueError('max_seqlen_q: expected a bound with entry="decode", got None')
        batch = max(need("cu_seqlens_q", cu_seqlens_q, 1)[0] - 1, 0)
        if max_seqlen_k is None:
            shape = tuple(rows.shape)
            max_seqlen_k = ((shape[0] * shape[1] if len(shape) == 4 else shape[0]) + 2) * unit
        return _library.workspace(q, self.workspace_size("decode", batch, max_seqlen_q, max_seqlen_k), None)
