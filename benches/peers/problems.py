"""The calls that libraries are compared on: tensors that all of them are given, and what a call gives by its definition, in f64."""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, Dict, List

import numpy as np


@dataclasses.dataclass
class Problem:
    """One call: its tensors, sizes, and its definition on some rows of the output."""

    name: str
    kind: str
    sizes: Dict[str, int]
    tensors: Dict[str, Any]
    # Rows of the output that are compared, and what they are by the definition.
    rows: np.ndarray
    expected: Callable[[], np.ndarray]
    # Multiplications and additions, and bytes that must move, of the least work.
    flops: float
    bytes: float


class Arrays:
    """Where tensors are made: by numpy on the CPU, or by torch."""

    def __init__(self, torch: Any, device: str) -> None:
        self.torch, self.device = torch, device
        self.dtype = "bf16" if device == "cuda" else "f16"

    def place(self, array: np.ndarray, half: bool = False) -> Any:
        """An array where the libraries take it; `half`: in the 16-bit type of the comparison."""
        if self.torch is None:
            return array.astype(np.float16) if half else array
        tensor = self.torch.from_numpy(array).to(self.device)
        return tensor.to(self.torch.bfloat16 if self.dtype == "bf16" else self.torch.float16) if half else tensor

    def numbers(self, random: np.random.Generator, *shape: int) -> Any:
        """Normal numbers in the 16-bit type."""
        return self.place(random.standard_normal(shape, np.float32), half=True)

    @staticmethod
    def to_numpy(tensor: Any, rows: Any = slice(None)) -> np.ndarray:
        """Rows of a tensor in f64; of the parts of one, side by side."""
        if isinstance(tensor, list):
            return np.concatenate([Arrays.to_numpy(part, rows) for part in tensor], axis=1)
        if isinstance(tensor, np.ndarray):
            return tensor[rows].astype(np.float64)
        return tensor[rows].detach().float().cpu().numpy().astype(np.float64)


def softmax_rows(tensors: Dict[str, Any], sizes: Dict[str, int], rows: np.ndarray) -> np.ndarray:
    """Attention of some tokens: `[rows, heads, dim]` over the keys before them, of the blocks that are listed if any are."""
    q, (k, v), lists = Arrays.to_numpy(tensors["q"], rows), (tensors[name] for name in "kv"), tensors.get("lists")
    heads, dim = q.shape[1:]
    out = np.empty(q.shape)
    # A decode step has a sequence for each row, whose query is the newest token.
    is_decode = sizes["batch"] > 1
    for head_kv in range(sizes["heads_kv"]):
        group = range(heads // sizes["heads_kv"] * head_kv, heads // sizes["heads_kv"] * (head_kv + 1))
        if not is_decode:
            keys, values = (Arrays.to_numpy(tensor[:, head_kv]) for tensor in (k, v))
        for index, row in enumerate(rows):
            if is_decode:
                keys, values = (Arrays.to_numpy(tensor[row, :, head_kv]) for tensor in (k, v))
            seen = np.arange(sizes["keys"] if is_decode else sizes["keys"] - sizes["queries"] + row + 1)
            if lists is not None:
                listed = Arrays.to_numpy(lists, row)[head_kv]
                seen = seen[np.isin(seen // sizes["block"], listed)]
            for head in group:
                logits = keys[seen] @ q[index, head] / np.sqrt(dim)
                weights = np.exp(logits - logits.max())
                out[index, head] = weights @ values[seen] / weights.sum()
    return out


def linear_rows(tensors: Dict[str, Any], log_decay: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Linear attention of some tokens of one sequence, without the recurrence: `scale · Σ e^(g·(t − s)) (q_t·k_s) v_s`."""
    q = Arrays.to_numpy(tensors["q"], rows)
    out = np.empty(q.shape)
    for head in range(q.shape[1]):
        k, v = (Arrays.to_numpy(tensors[name][:, head]) for name in "kv")
        for index, row in enumerate(rows):
            ages = row - np.arange(row + 1)
            weights = np.exp(float(log_decay[head]) * ages) * (k[: row + 1] @ q[index, head])
            out[index, head] = weights @ v[: row + 1] / np.sqrt(q.shape[-1])
    return out


def block_lists(random: np.random.Generator, positions: np.ndarray, heads: int, block: int, count: int) -> np.ndarray:
    """Lists as selection makes them, `[tokens, heads, count]`: the first block, the newest, and others, ascending, −1 after the last."""
    lists = np.full((len(positions), heads, count), -1, np.int32)
    for token, position in enumerate(positions):
        blocks = position // block + 1
        local = np.arange(max(blocks - max(count // 3, 1), 0), blocks)
        for head in range(heads):
            forced = np.union1d([0], local)
            others = np.setdiff1d(random.integers(0, blocks, count), forced)[: count - len(forced)]
            chosen = np.union1d(forced, others)
            lists[token, head, : len(chosen)] = chosen
    return lists


def attention(arrays: Arrays, name: str, kind: str, seed: int, **sizes: int) -> Problem:
    """A call of dense or block-sparse attention; `batch` above 1: a decode step over caches."""
    random = np.random.default_rng(seed)
    batch, queries, keys, heads, heads_kv, dim = (
        sizes[size] for size in ("batch", "queries", "keys", "heads", "heads_kv", "dim")
    )
    is_decode = batch > 1
    tokens = batch if is_decode else queries
    tensors = {"q": arrays.numbers(random, tokens, heads, dim)}
    shape = (batch, keys, heads_kv, dim) if is_decode else (keys, heads_kv, dim)
    tensors["k"], tensors["v"] = arrays.numbers(random, *shape), arrays.numbers(random, *shape)
    cu_seqlens = np.arange(batch + 1) * queries
    tensors["cu_seqlens_q"] = arrays.place(cu_seqlens.astype(np.int32))
    tensors["cu_seqlens_k"] = arrays.place((np.arange(batch + 1) * keys).astype(np.int32))
    tensors["seqlens_k"] = arrays.place(np.full(batch, keys, np.int32))
    positions = np.full(batch, keys - 1) if is_decode else keys - queries + np.arange(queries)
    visible = float(positions.sum() + len(positions))
    if "list_len" in sizes:
        lists = block_lists(random, positions, heads_kv, sizes["block"], sizes["list_len"])
        tensors["lists"] = arrays.place(lists)
        visible = float((lists >= 0).sum() * sizes["block"] / heads_kv)
    rows = np.unique(np.linspace(0, tokens - 1, 5).astype(np.int64))
    return Problem(
        name, kind, sizes, tensors, rows,
        lambda: softmax_rows(tensors, sizes, rows),
        flops=4.0 * visible * heads * dim,
        bytes=2.0 * (2 * tokens * heads * dim + 2 * min(visible, float(batch * keys)) * heads_kv * dim),
    )


def linear(arrays: Arrays, name: str, kind: str, seed: int, **sizes: int) -> Problem:
    """A scan of one sequence, or one step of many."""
    random = np.random.default_rng(seed)
    batch, tokens, heads, dim = (sizes[size] for size in ("batch", "tokens", "heads", "dim"))
    tensors = {name: arrays.numbers(random, tokens, heads, dim) for name in ("q", "k", "v")}
    decay = (-(2.0 ** (-8.0 * (np.arange(heads) + 1) / heads))).astype(np.float32)
    tensors["log_decay"] = arrays.place(decay)
    is_decode = batch > 1
    state = random.standard_normal((batch, heads, dim, dim), np.float32) if is_decode else None
    if is_decode:
        tensors["state"] = arrays.place(state)
        tensors["slots"] = arrays.place(np.arange(batch, dtype=np.int32))
    else:
        tensors["cu_seqlens"] = arrays.place(np.array([0, tokens], np.int32))
    rows = np.unique(np.linspace(0, tokens - 1, 5).astype(np.int64))

    def step() -> np.ndarray:
        q, k, v = (Arrays.to_numpy(tensors[name], rows) for name in ("q", "k", "v"))
        new = np.exp(decay.astype(np.float64))[:, None, None] * state[rows] + k[..., :, None] * v[..., None, :]
        return np.einsum("bhkv,bhk->bhv", new, q) / np.sqrt(dim)

    def scan() -> np.ndarray:
        return linear_rows(tensors, decay, rows)

    return Problem(
        name, kind, sizes, tensors, rows, step if is_decode else scan,
        flops=4.0 * tokens * heads * dim * dim,
        bytes=8.0 * tokens * heads * dim + (8.0 * batch * heads * dim * dim if is_decode else 0.0),
    )


def problems(arrays: Arrays) -> List[Callable[[], Problem]]:
    """All of them, made when they are wanted: large on a GPU, small on the CPU, where times say nothing."""
    if arrays.device == "cuda":
        heads, long, prompt, batch, count, wide = 32, 65536, 32768, 8, 96, 16
    else:
        heads, long, prompt, batch, count, wide = 8, 300, 320, 2, 3, 2
    shape = {"heads": heads, "heads_kv": 2, "dim": 128}
    one = {"batch": 1, "queries": prompt, "keys": prompt, **shape}
    step = {"batch": batch, "queries": 1, "keys": long, **shape}
    return [
        lambda: attention(arrays, "dense_prefill", "dense", 1, **one),
        lambda: attention(arrays, "dense_decode", "dense", 2, **step),
        lambda: attention(arrays, "sparse_prefill", "sparse", 3, block=64, list_len=count, **one),
        lambda: attention(arrays, "sparse_decode", "sparse", 4, block=64, list_len=count, **step),
        lambda: attention(arrays, "sparse_prefill_blocks_of_128", "sparse", 5, block=128, list_len=wide, **one),
        lambda: linear(arrays, "linear_prefill", "linear", 6, batch=1, tokens=long, heads=heads, dim=128),
        lambda: linear(arrays, "linear_decode", "linear", 7, batch=8 * batch, tokens=8 * batch, heads=heads, dim=128),
    ]
