"""The package over torch, where there is one: bf16 against formulas in f64, f16 against numpy's bits, and what is refused."""

import importlib.util
import unittest

import numpy as np
import sala_kernels as sala
from sala_kernels.compat import fla

if importlib.util.find_spec("torch"):
    import torch


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float16)


def tensor(array):
    """The numbers of an array in a tensor of its dtype. By bytes: torch need not know this numpy."""
    dtype = {"float16": "float16", "float32": "float32", "int32": "int32"}[array.dtype.name]
    return torch.frombuffer(bytearray(array.tobytes()), dtype=getattr(torch, dtype)).reshape(array.shape)


def bits(given):
    """The bytes of a contiguous tensor or array."""
    if isinstance(given, np.ndarray):
        return given.tobytes()
    return bytes(given.contiguous().view(torch.uint8).flatten().tolist())


def relative(given, expected):
    return float((given.double() - expected).norm() / expected.norm())


@unittest.skipUnless(importlib.util.find_spec("torch"), "torch is not installed")
class Torch(unittest.TestCase):
    def sparse(self, dtype, q, k, v, like):
        """Compressed rows, lists and attention of one prompt; `like` makes a tensor of a numpy array."""
        layer = sala.SparseLayer(dtype, 4, 2, 64, dense_len=0, topk=3, local_blocks=1)
        tokens = len(q)
        cu = like(np.array([0, tokens], np.int32))
        keys = sala.Packed(cu)
        rows = [np.zeros((rows, 2, 64), np.float16) for rows in (layer.k1_rows(tokens), layer.k2_rows(tokens))]
        k1, k2 = (like(row) if dtype == "f16" else like(row).to(torch.bfloat16) for row in rows)
        layer.compress(k, k1, k2, keys=keys)
        lists = layer.select(q, k1, k2, cu_seqlens_q=cu, keys=keys, switch_len=None)
        return lists, *layer.attend(q, k, v, lists, cu_seqlens_q=cu, keys=keys, switch_len=None)

    def test_f16_has_the_bits_of_numpy(self):
        arrays = normal(1, 300, 4, 64), normal(2, 300, 2, 64), normal(3, 300, 2, 64)
        from_numpy = self.sparse("f16", *arrays, np.asarray)
        from_torch = self.sparse("f16", *map(tensor, arrays), tensor)
        for a, b in zip(from_numpy, from_torch):
            self.assertIsInstance(b, torch.Tensor)
            self.assertEqual(bits(a), bits(b))

    def test_bf16_agrees_with_softmax(self):
        q, k, v = (tensor(normal(seed, 300, heads, 64)).to(torch.bfloat16) for seed, heads in ((1, 4), (2, 2), (3, 2)))
        lists, out, lse = self.sparse("bf16", q, k, v, tensor)
        self.assertEqual((out.dtype, lse.dtype, lists.dtype), (torch.bfloat16, torch.float32, torch.int32))
        for token in (0, 63, 64, 299):
            for head in range(4):
                blocks = set(lists[token, head // 2].tolist())
                seen = [t for t in range(token + 1) if t // 64 in blocks]
                s = k[seen, head // 2].double() @ q[token, head].double() / 8
                expected = s.softmax(0) @ v[seen, head // 2].double()
                self.assertLess(relative(out[token, head], expected), 1e-2)
                self.assertAlmostEqual(float(lse[token, head]), float(s.logsumexp(0)), places=3)

    def test_bf16_agrees_with_the_recurrence(self):
        q, k, v = (tensor(normal(seed, 150, 4, 64)).to(torch.bfloat16) for seed in (4, 5, 6))
        decay = tensor(sala.lightning_log_decay(0, 4, 4))
        layer = sala.LinearAttention("bf16", 4, 4, 64, 64, decay="per_head")
        out = layer.prefill(q, k, v, cu_seqlens=tensor(np.array([0, 150], np.int32)), log_decay=decay)
        state = torch.zeros(4, 64, 64, dtype=torch.float64)
        expected = torch.empty(150, 4, 64, dtype=torch.float64)
        for t in range(150):
            state = decay.double().exp()[:, None, None] * state + k[t].double()[:, :, None] * v[t].double()[:, None, :]
            expected[t] = torch.einsum("hkv,hk->hv", state, q[t].double()) / 8
        self.assertLess(relative(out, expected), 1e-2)

    def test_fla_takes_bf16(self):
        q, k, v = (tensor(normal(seed, 1, 40, 4, 64)).to(torch.bfloat16) for seed in (7, 8, 9))
        decay = tensor(sala.lightning_log_decay(0, 4, 4))
        out, state = fla.chunk_simple_gla(q, k, v, g_gamma=decay, output_final_state=True)
        self.assertEqual((out.dtype, out.shape, state.dtype), (torch.bfloat16, q.shape, torch.float32))
        first, middle = fla.chunk_simple_gla(*(x[:, :17] for x in (q, k, v)), g_gamma=decay, output_final_state=True)
        second, last = fla.chunk_simple_gla(*(x[:, 17:] for x in (q, k, v)), g_gamma=decay, initial_state=middle, output_final_state=True)
        self.assertLess(relative(torch.cat([first, second], 1), out.double()), 1e-2)
        self.assertLess(relative(last, state.double()), 1e-2)

    def test_messages_name_what_is_wrong(self):
        layer = sala.LinearAttention("bf16", 4, 4, 64, 64, decay="per_head")
        cu, decay = tensor(np.array([0, 8], np.int32)), torch.zeros(4)
        q = torch.zeros(8, 4, 64, dtype=torch.bfloat16)
        for name, arguments in {
            "q": (q.half(), q, q),
            "k": (q, torch.zeros(8, 4, 128, dtype=torch.bfloat16)[:, :, ::2], q),
            "v": (q, q, q[:4]),
        }.items():
            with self.assertRaisesRegex(Exception, f"^{name}: expected"):
                layer.prefill(*arguments, cu_seqlens=cu, log_decay=decay)


if __name__ == "__main__":
    unittest.main()
