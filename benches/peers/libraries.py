"""The libraries: each gives, for a problem that it has an operation for, a function that computes it on the problem's own tensors.

A function returns what can be compared, `[tokens, heads, dim]`, or parts of it with some of the heads each. What it can prepare once, outside of what is timed, it prepares before it is returned:
plans, masks, permutations that a caller of that library would have made long ago.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import Any, Callable, Dict, Optional

from problems import Arrays, Problem

Run = Callable[[], Any]


class Library:
    """One of them. `missing` says why it cannot be used, in words."""

    name = ""
    module = ""
    distribution = ""
    needs_cuda = True

    def __init__(self, arrays: Arrays) -> None:
        self.arrays, self.torch = arrays, arrays.torch
        self.missing: Optional[str] = None
        try:
            self.package = importlib.import_module(self.module)
        except Exception as error:  # A library that cannot be loaded is reported, whatever it raises.
            absent = isinstance(error, ModuleNotFoundError) and error.name == self.module.partition(".")[0]
            self.missing = "not installed" if absent else f"cannot be loaded: {type(error).__name__}: {error}"
            return
        if self.needs_cuda and arrays.device != "cuda":
            self.missing = "needs a GPU"

    def version(self) -> Optional[str]:
        """What is installed, if it is."""
        try:
            return importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            return None

    def run(self, problem: Problem) -> Optional[Run]:
        """A function for a problem, or none where the library has no such operation."""
        make = getattr(self, problem.name, None) or getattr(self, problem.kind, None)
        return make(problem) if make else None


class Sala(Library):
    name, module, distribution, needs_cuda = "sala-kernels", "sala_kernels", "sala-kernels", False

    def dense(self, problem: Problem) -> Run:
        return self._attention(problem, None)

    def sparse(self, problem: Problem) -> Run:
        return self._attention(problem, problem.tensors["lists"])

    def _attention(self, problem: Problem, lists: Any) -> Run:
        sizes, tensors = problem.sizes, problem.tensors
        is_decode = sizes["batch"] > 1
        layer = self.package.SparseLayer(
            self.arrays.dtype, sizes["heads"], sizes["heads_kv"], sizes["dim"], dense_len=0, block_size=sizes.get("block", 64)
        )
        rest = {"cu_seqlens_q": tensors["cu_seqlens_q"], "max_seqlen_q": sizes["queries"], "max_seqlen_k": sizes["keys"]}
        if is_decode:
            rest.update(keys=self.package.Cached(tensors["seqlens_k"]), entry="decode")
        else:
            rest.update(keys=self.package.Packed(tensors["cu_seqlens_k"]))
        q, k, v = tensors["q"], tensors["k"], tensors["v"]
        if lists is None:
            return lambda: layer.attend_dense(q, k, v, **rest)[0]
        return lambda: layer.attend(q, k, v, lists, switch_len=None, **rest)[0]

    def _layer(self, problem: Problem) -> Any:
        heads, dim = problem.sizes["heads"], problem.sizes["dim"]
        return self.package.LinearAttention(self.arrays.dtype, heads, heads, dim, dim, decay="per_head")

    def linear_prefill(self, problem: Problem) -> Run:
        layer, (q, k, v) = self._layer(problem), (problem.tensors[name] for name in "qkv")
        rest = {name: problem.tensors[name] for name in ("cu_seqlens", "log_decay")}
        return lambda: layer.prefill(q, k, v, **rest)

    def linear_decode(self, problem: Problem) -> Run:
        layer, (q, k, v) = self._layer(problem), (problem.tensors[name] for name in "qkv")
        state = problem.tensors["state"].copy() if self.torch is None else problem.tensors["state"].clone()
        slots, decay = problem.tensors["slots"], problem.tensors["log_decay"]
        # The state that comes out lies in slots of its own, so that every call starts from the same.
        pool = self._twice(state)
        after = slots + len(state)
        return lambda: layer.decode(q, k, v, log_decay=decay, state=pool, state_in=slots, state_out=after)

    def _twice(self, state: Any) -> Any:
        import numpy

        return numpy.concatenate([state, state]) if self.torch is None else self.torch.cat([state, state])


class Torch(Library):
    name, module, distribution, needs_cuda = "torch SDPA", "torch", "torch", False

    def dense(self, problem: Problem) -> Run:
        attend = self.torch.nn.functional.scaled_dot_product_attention
        is_decode = problem.sizes["batch"] > 1
        q, k, v = (heads_first(problem.tensors[name], is_decode and name != "q") for name in "qkv")
        if is_decode:
            q = problem.tensors["q"].unsqueeze(2)
        run = lambda: attend(q, k, v, is_causal=not is_decode, enable_gqa=True)
        return (lambda: run().squeeze(2)) if is_decode else (lambda: run().squeeze(0).transpose(0, 1))

    def sparse(self, problem: Problem) -> Optional[Run]:
        """With the lists as a mask: what attention costs that reads everything. On the CPU alone: a GPU lacks the memory for the mask."""
        if self.arrays.device == "cuda":
            return None
        sizes, is_decode = problem.sizes, problem.sizes["batch"] > 1
        keys = self.torch.arange(sizes["keys"])
        listed = (problem.tensors["lists"].long()[..., None] == keys // sizes["block"]).any(2)
        positions = self.torch.full((sizes["batch"],), sizes["keys"] - 1) if is_decode else keys[-sizes["queries"] :]
        mask = listed & (keys[None, None] <= positions[:, None, None])
        mask = mask.repeat_interleave(sizes["heads"] // sizes["heads_kv"], 1)
        mask = mask[:, :, None] if is_decode else mask.transpose(0, 1)[None]
        q, k, v = (heads_first(problem.tensors[name], is_decode and name != "q") for name in "qkv")
        if is_decode:
            q = problem.tensors["q"].unsqueeze(2)
        attend = self.torch.nn.functional.scaled_dot_product_attention
        run = lambda: attend(q, k, v, attn_mask=mask, enable_gqa=True)
        return (lambda: run().squeeze(2)) if is_decode else (lambda: run().squeeze(0).transpose(0, 1))


class Fla(Library):
    name, module, distribution = "fla", "fla.ops.simple_gla", "fla-core"

    def linear_prefill(self, problem: Problem) -> Run:
        q, k, v = (problem.tensors[name].unsqueeze(0) for name in "qkv")
        scan, decay = self.package.chunk_simple_gla, problem.tensors["log_decay"]
        return lambda: scan(q, k, v, g_gamma=decay)[0].squeeze(0)

    def linear_decode(self, problem: Problem) -> Run:
        q, k, v = (problem.tensors[name].unsqueeze(1) for name in "qkv")
        step, decay, state = self.package.fused_recurrent_simple_gla, problem.tensors["log_decay"], problem.tensors["state"]
        return lambda: step(q, k, v, g_gamma=decay, initial_state=state, output_final_state=True)[0].squeeze(1)


class FlashInfer(Library):
    name, module, distribution = "FlashInfer", "flashinfer", "flashinfer-python"

    def dense_prefill(self, problem: Problem) -> Run:
        q, k, v = (problem.tensors[name] for name in "qkv")
        return lambda: self.package.single_prefill_with_kv_cache(q, k, v, causal=True)

    def dense_decode(self, problem: Problem) -> Run:
        sizes, tensors, page = problem.sizes, problem.tensors, 64
        wrapper = self.package.BatchDecodeWithPagedKVCacheWrapper(self._workspace(), "NHD", use_tensor_cores=True)
        pages = sizes["keys"] // page
        counts = self.torch.arange(sizes["batch"] + 1, dtype=self.torch.int32, device="cuda") * pages
        indices = self.torch.arange(sizes["batch"] * pages, dtype=self.torch.int32, device="cuda")
        last = self.torch.full((sizes["batch"],), page, dtype=self.torch.int32, device="cuda")
        k, v = (tensors[name].reshape(-1, page, sizes["heads_kv"], sizes["dim"]) for name in "kv")
        dtype = tensors["q"].dtype
        wrapper.plan(
            counts, indices, last, sizes["heads"], sizes["heads_kv"], sizes["dim"], page, q_data_type=dtype, kv_data_type=dtype
        )
        return lambda: wrapper.run(tensors["q"], (k, v))

    def sparse_prefill(self, problem: Problem) -> Run:
        """A matrix of blocks of one query and 64 keys, one for each kv head: the heads of a call share their blocks."""
        sizes, tensors, torch = problem.sizes, problem.tensors, self.torch
        block, group, dtype = sizes["block"], sizes["heads"] // sizes["heads_kv"], tensors["q"].dtype
        calls = []
        for head in range(sizes["heads_kv"]):
            lists = tensors["lists"][:, head]
            listed = lists >= 0
            counts = listed.sum(1)
            starts = torch.nn.functional.pad(counts.cumsum(0), (1, 0)).int()
            indices = lists[listed]
            columns = indices[:, None] * block + torch.arange(block, device="cuda")
            positions = sizes["keys"] - sizes["queries"] + torch.arange(sizes["queries"], device="cuda")
            mask = columns <= positions.repeat_interleave(counts)[:, None]
            wrapper = self.package.BlockSparseAttentionWrapper(self._workspace())
            wrapper.plan(
                starts, indices, sizes["queries"], sizes["keys"], 1, block, group, 1, sizes["dim"], mask=mask[:, None],
                q_data_type=dtype, kv_data_type=dtype, o_data_type=dtype,
            )
            q = tensors["q"][:, head * group : (head + 1) * group].contiguous()
            k, v = (tensors[name][:, head : head + 1].contiguous() for name in "kv")
            calls.append((wrapper, q, k, v))
        return lambda: [wrapper.run(q, k, v) for wrapper, q, k, v in calls]

    def sparse_prefill_blocks_of_128(self, problem: Problem) -> Run:
        """MSA: the one operation there with a list for each token and kv head, of blocks of 128."""
        msa = importlib.import_module("flashinfer.msa_ops")
        tensors = problem.tensors
        q, k, v, lists = tensors["q"], tensors["k"], tensors["v"], tensors["lists"].transpose(0, 1).contiguous()
        lengths = tensors["cu_seqlens_q"], tensors["cu_seqlens_k"]
        return lambda: first(msa.msa_sparse_attention(q, k, v, lists, *lengths, causal=True))

    def _workspace(self) -> Any:
        return self.torch.empty(256 << 20, dtype=self.torch.uint8, device="cuda")


class Infllm(Library):
    name, module, distribution = "InfLLM-V2", "infllm_v2", "infllm-v2"

    def sparse_prefill(self, problem: Problem) -> Run:
        return self._varlen(problem, problem.tensors["k"], problem.tensors["v"], causal=True)

    def sparse_decode(self, problem: Problem) -> Run:
        """As its model decodes: the varlen kernel, with one query for each sequence."""
        k, v = (problem.tensors[name].flatten(0, 1) for name in "kv")
        return self._varlen(problem, k, v, causal=False)

    def _varlen(self, problem: Problem, k: Any, v: Any, causal: bool) -> Run:
        sizes, tensors = problem.sizes, problem.tensors
        lists = tensors["lists"].transpose(0, 1).contiguous()
        rest = {
            "cu_seqlens_q": tensors["cu_seqlens_q"], "cu_seqlens_k": tensors["cu_seqlens_k"], "max_seqlen_q": sizes["queries"],
            "max_seqlen_k": sizes["keys"], "causal": causal, "topk_idx": lists,
        }
        return lambda: first(self.package.infllmv2_attn_varlen_func(tensors["q"], k, v, **rest))


# Why a library has nothing to compare, where that is not plain.
NOTHING: Dict[tuple, str] = {
    ("FlashInfer", "linear"): "its gated delta rule is another formula",
    ("FlashInfer", "sparse"): "no decode step over lists of blocks of 64",
}

LIBRARIES = [Sala, Torch, Fla, FlashInfer, Infllm]


def heads_first(tensor: Any, is_cache: bool) -> Any:
    """`[1, heads, tokens, dim]`, or `[batch, heads, tokens, dim]` of caches, as a view."""
    return tensor.transpose(1, 2) if is_cache else tensor.transpose(0, 1).unsqueeze(0)


def first(result: Any) -> Any:
    """The outputs, where a library gives more beside them."""
    return result[0] if isinstance(result, (tuple, list)) else result
