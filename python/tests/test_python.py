"""The package over numpy: results against formulas in f64 and the C API, messages, leaks and threads. Run by `python -m unittest` where it is installed."""

import concurrent.futures
import ctypes
import pathlib
import resource
import unittest

import numpy as np
import sala_kernels as sala
from sala_kernels import _library
from sala_kernels.compat import fla


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float16)


def recurrence(q, k, v, g, scale, state=None):
    """The definition of linear attention, `[T, H, D]`, in f64."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    state = np.zeros((q.shape[1], q.shape[2], v.shape[2])) if state is None else state.astype(np.float64)
    out = np.empty(v.shape)
    for t in range(len(q)):
        state = np.exp(g[t].astype(np.float64))[:, None, None] * state + k[t][:, :, None] * v[t][:, None, :]
        out[t] = scale * np.einsum("hkv,hk->hv", state, q[t])
    return out, state


def relative(given, expected):
    return np.linalg.norm(given - expected) / np.linalg.norm(expected)


class Sparse(unittest.TestCase):
    def layer(self, **options):
        return sala.SparseLayer("f16", 4, 2, 64, dense_len=0, topk=3, local_blocks=1, **options)

    def test_a_layer_agrees_with_softmax(self):
        layer = self.layer()
        tokens = 300
        q, k, v = normal(1, tokens, 4, 64), normal(2, tokens, 2, 64), normal(3, tokens, 2, 64)
        cu = np.array([0, tokens], np.int32)
        keys = sala.Packed(cu)
        k1, k2 = (np.zeros((rows, 2, 64), np.float16) for rows in (layer.k1_rows(tokens), layer.k2_rows(tokens)))
        status = np.zeros(4, np.uint32)
        layer.compress(k, k1, k2, keys=keys, status=status)
        lists = layer.select(q, k1, k2, cu_seqlens_q=cu, keys=keys, switch_len=None, status=status)
        out, lse = layer.attend(q, k, v, lists, cu_seqlens_q=cu, keys=keys, switch_len=None, status=status)
        self.assertFalse(status.any())
        for token in (0, 63, 64, 299):
            for head in range(4):
                seen = [t for t in range(token + 1) if t // 64 in lists[token, head // 2]]
                s = k[seen, head // 2].astype(np.float64) @ q[token, head].astype(np.float64) / 8
                p = np.exp(s - s.max())
                expected = p @ v[seen, head // 2].astype(np.float64) / p.sum()
                self.assertLess(np.linalg.norm(out[token, head] - expected), 2e-3 * np.linalg.norm(expected) + 1e-3)
                self.assertAlmostEqual(lse[token, head], s.max() + np.log(p.sum()), places=3)

    def test_dense_decode_pages_and_merge(self):
        layer = self.layer()
        q, new = normal(4, 1, 4, 64), normal(5, 1, 2, 64)
        k, v = normal(6, 4, 64, 2, 64), normal(7, 4, 64, 2, 64)
        cu = np.array([0, 1], np.int32)
        keys = sala.Paged(np.array([200], np.int32), np.array([[2, 0, 3, 1]], np.int32))
        layer.append(new, new, k, v, cu_seqlens_q=cu, keys=keys)
        self.assertTrue((k[1, 199 - 192] == new[0]).all())
        out, lse = layer.attend_dense(q, k, v, cu_seqlens_q=cu, keys=keys)
        decoded, _ = layer.attend_dense(q, k, v, cu_seqlens_q=cu, keys=keys, entry="decode", max_seqlen_q=1)
        self.assertLess(relative(decoded.astype(np.float64), out.astype(np.float64)), 1e-3)
        both, both_lse = sala.merge(out, lse, out, lse)
        self.assertTrue((both == out).all())
        np.testing.assert_allclose(both_lse, lse + np.log(2), atol=1e-5)

    def test_messages_name_arguments(self):
        layer = self.layer()
        q, k = normal(1, 5, 4, 64), normal(2, 5, 2, 64)
        cu = np.array([0, 5], np.int32)
        lists = np.zeros((5, 2, 4), np.int32)

        def attend(q=q, k=k, lists=lists, keys=sala.Packed(cu), switch_len=None, **rest):
            return layer.attend(q, k, k, lists, cu_seqlens_q=cu, keys=keys, switch_len=switch_len, **rest)

        attend()
        for error, name, call in [
            (ValueError, "q: ", lambda: attend(q=q[:, :3])),
            (TypeError, "q: ", lambda: attend(q=3)),
            (TypeError, "q: ", lambda: attend(q=q.astype(np.float64))),
            (ValueError, "k: ", lambda: attend(k=k.astype(np.float32))),
            (ValueError, "block_indices: ", lambda: attend(lists=None)),
            (TypeError, "keys: ", lambda: attend(keys=cu)),
            (ValueError, "switch_len: ", lambda: attend(switch_len="keys")),
            (ValueError, "switch_len: ", lambda: attend(switch_len="Keys")),
            (ValueError, "entry: ", lambda: attend(entry="verify")),
            (ValueError, "max_seqlen_q: ", lambda: attend(entry="decode")),
            (ValueError, "parent: ", lambda: attend(parent=lists)),
            (ValueError, "out: ", lambda: attend(out=q)),
            (ValueError, "heads_q: ", lambda: sala.SparseLayer("f16", 3, 2, 64, dense_len=0)),
            (ValueError, "dtype: ", lambda: sala.SparseLayer("f32", 4, 2, 64, dense_len=0)),
            (ValueError, "lse: ", lambda: self.layer(lse="fine")),
        ]:
            with self.assertRaises(error) as raised:
                call()
            self.assertTrue(str(raised.exception).startswith(name), raised.exception)


    def test_accepted_drafts_move(self):
        k, v = normal(1, 2, 8, 2, 64), normal(2, 2, 8, 2, 64)
        expected = [x.copy() for x in (k, v)]
        for x, old in zip(expected, (k, v)):
            x[0, 3], x[0, 4] = old[0, 4], old[0, 6]
        i32 = lambda *numbers: np.array(numbers, np.int32)
        self.layer().commit(
            k, v, keys=sala.Cached(i32(7, 8)), base=i32(3, 4), accepted=i32(2, 0), path=i32([1, 3, -1, -1], [-1, -1, -1, -1])
        )
        np.testing.assert_array_equal(k, expected[0])
        np.testing.assert_array_equal(v, expected[1])


class Tokens(unittest.TestCase):
    def test_what_scores_best_is_kept(self):
        layer = sala.SparseLayer("f16", 4, 2, 64, dense_len=0)
        q, k, v = normal(1, 9, 4, 64), normal(2, 1, 300, 2, 64), normal(3, 1, 300, 2, 64)
        keys = sala.Cached(np.array([290], np.int32))
        scores = layer.score_keys(q, k, 300, cu_seqlens_q=np.array([0, 9], np.int32), keys=keys, pool=5)
        mean = q.astype(np.float64).reshape(9, 2, 2, 64).mean(axis=(0, 2))
        products = np.einsum("htd,hd->ht", k[0, :290].astype(np.float64).transpose(1, 0, 2), mean)
        padded = np.pad(products, ((0, 0), (2, 2)), constant_values=-np.inf)
        expected = np.max([padded[:, i : i + 290] for i in range(5)], axis=0)
        np.testing.assert_allclose(scores[0, :, :290], expected, atol=1e-4)
        self.assertTrue(np.isneginf(scores[0, :, 290:]).all())

        lists = layer.choose_tokens(scores, 100, keys=keys, init_tokens=4, local_tokens=10)
        for head in range(2):
            free = scores[0, head, 4:280]
            best = 4 + np.argsort(-free, kind="stable")[:86]
            self.assertEqual(sorted([*range(4), *best, *range(280, 290)]), lists[0, head].tolist())

        k_out, v_out = layer.gather(k, v, lists, keys=keys)
        rows = lambda x: np.stack([x[0, lists[0, head], head] for head in range(2)], axis=1)
        np.testing.assert_array_equal(k_out[0], rows(k))
        np.testing.assert_array_equal(v_out[0], rows(v))
        layer.compact(k, v, lists, keys=keys, scores=scores)
        np.testing.assert_array_equal(k[0, :100], k_out[0])
        np.testing.assert_array_equal(v[0, :100], v_out[0])


class Linear(unittest.TestCase):
    def test_steps_agree_with_the_recurrence(self):
        layer = sala.LinearAttention("f16", 2, 2, 64, 64, decay="per_head")
        q, k, v = (normal(seed, 105, 2, 64) for seed in (1, 2, 3))
        decay = sala.lightning_log_decay(0, 2, 2)
        expected, final = recurrence(q, k, v, np.tile(decay, (105, 1)), 0.125)
        state, slot = np.zeros((2, 2, 64, 64), np.float32), np.zeros(1, np.int32)
        out = layer.prefill(
            q[:100], k[:100], v[:100], cu_seqlens=np.array([0, 100], np.int32), log_decay=decay, state=state, state_out=slot
        )
        self.assertLess(relative(out, expected[:100]), 6e-4)
        sala.copy_states(state, slot, slot + 1)
        pool = dict(log_decay=decay, state=state, state_in=slot)
        drafts = [x[None, 100:104] for x in (q, k, v)]
        self.assertLess(relative(layer.verify(*drafts, **pool)[0], expected[100:104]), 9e-4)
        layer.commit(*drafts[1:], **pool, accepted=np.array([4], np.int32))
        last = layer.decode(q[104:], k[104:], v[104:], **pool)
        self.assertLess(relative(last, expected[104:]), 9e-4)
        self.assertLess(relative(state[0], final), 4e-4)

    def test_parts_agree_with_the_whole(self):
        layer = sala.LinearAttention("f16", 2, 2, 64, 64, decay="per_token")
        q, k, v = (normal(seed, 130, 2, 64) for seed in (1, 2, 3))
        g = -np.abs(normal(4, 130, 2).astype(np.float32)) / 20
        expected, final = recurrence(q, k, v, g, 0.125)
        bounds, slots = np.array([0, 50, 130], np.int32), np.array([0, 1], np.int32)
        adds = np.zeros((2, 2, 64, 64), np.float32)
        out = layer.prefill(q, k, v, cu_seqlens=bounds, log_decay=g, state=adds, state_out=slots)
        cumulative, total = layer.sum_decay(cu_seqlens=bounds, log_decay=g)
        before = np.zeros((3, 2, 64, 64), np.float32)
        sala.merge_states(
            adds, total, state=before, state_in=np.array([-1], np.int32), state_out=np.array([[0], [1], [2]], np.int32)
        )
        layer.correct(q, cumulative, out, cu_seqlens=bounds, state=before, state_in=slots)
        self.assertLess(relative(out, expected), 6e-4)
        self.assertLess(relative(before[2], final), 4e-4)

    def test_fla(self):
        for heads, shape, packed in [(2, (2, 63), False), (2, (1, 100), True)]:
            q, k, v = (normal(seed, *shape, heads, 64) for seed in (1, 2, 3))
            g = -np.abs(normal(4, *shape, heads).astype(np.float32)) / 10
            gamma = np.array([-0.1, -0.01], np.float32)
            cu = np.array([0, 30, 30, 100], np.int64) if packed else None
            cuts = [(0, a, b) for a, b in zip(cu, cu[1:])] if packed else [(b, 0, shape[1]) for b in range(shape[0])]
            initial = normal(5, len(cuts), heads, 64, 64).astype(np.float32) / 10
            kept = initial.copy()
            for gates in [dict(), dict(g=g), dict(g_gamma=gamma), dict(g=g, g_gamma=gamma)]:
                total = np.zeros((*shape, heads)) + gates.get("g", 0) + gates.get("g_gamma", 0)
                for function in (fla.chunk_simple_gla, fla.fused_chunk_simple_gla, fla.fused_recurrent_simple_gla):
                    out, final = function(q, k, v, **gates, scale=0.1, initial_state=initial, output_final_state=True, cu_seqlens=cu)
                    for n, (b, start, end) in enumerate(cuts):
                        rows = [x[b, start:end] for x in (q, k, v, total)]
                        expected, state = recurrence(*rows, 0.1, initial[n])
                        if end > start:
                            self.assertLess(relative(out[b, start:end], expected), 6e-4)
                        self.assertLess(relative(final[n], state), 4e-4)
            self.assertTrue((initial == kept).all(), "the initial state is the caller's")
            self.assertIsNone(fla.chunk_simple_gla(q, k, v)[1])
        with self.assertRaisesRegex(ValueError, "^g: expected shape"):
            fla.chunk_simple_gla(q, k, v, g=gamma[None, None])
        with self.assertRaisesRegex(NotImplementedError, "^reverse: "):
            fla.fused_recurrent_simple_gla(q, k, v, reverse=True)


class Norms(unittest.TestCase):
    def test_they_agree_with_formulas(self):
        x, weight, gate = normal(1, 7, 128), normal(2, 128), normal(3, 7, 128)
        wide = x.astype(np.float64)
        normal_x = wide / np.sqrt((wide**2).mean(1, keepdims=True) + 1e-6)
        expected = normal_x * weight / (1 + np.exp(-gate.astype(np.float64)))
        np.testing.assert_allclose(sala.norm_gate(x, weight, gate), expected, rtol=4e-3, atol=1e-4)
        sums = sala.sum_squares(x)
        np.testing.assert_allclose(sums, (wide**2).sum(1), rtol=1e-5)
        halves = sala.norm_gate(x, weight, gate, sum_squares=sums, channels=128)
        np.testing.assert_allclose(halves, expected, rtol=4e-3, atol=1e-4)
        table = sala.rotary_cos_sin(10, 64)
        positions = np.full(7, 3, np.int32)
        turned = sala.norm_rope(x.reshape(7, 2, 64), weight[:64], table, positions, eps=0.0)
        heads = wide.reshape(7, 2, 64)
        first, second = np.split(heads / np.sqrt((heads**2).mean(2, keepdims=True)) * weight[:64], 2, axis=2)
        cos, sin = np.split(table[3].astype(np.float64), 2)
        expected = np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=2)
        np.testing.assert_allclose(turned, expected, rtol=4e-3, atol=6e-3)


class Bits(unittest.TestCase):
    """The C API, which the tests of c_api compare with Rust, gives the same bits."""

    class Tensor(ctypes.Structure):
        _fields_ = [("data", ctypes.c_void_p), *((name, ctypes.c_int32) for name in ("dtype", "ndim", "device", "reserved")),
                    ("shape", ctypes.c_void_p), ("strides", ctypes.c_void_p)]

    def view(self, array):
        """A tensor of the header, by its address; what it points to is kept with it."""
        shape = (ctypes.c_int64 * array.ndim)(*array.shape)
        dtype = {"float16": 2, "float32": 3, "int32": 4}[array.dtype.name]
        tensor = self.Tensor(array.ctypes.data, dtype, array.ndim, -1, 0, ctypes.addressof(shape), None)
        self.kept += [array, shape, tensor]
        return ctypes.addressof(tensor)

    def test_a_prefill(self):
        self.kept = []
        library = ctypes.CDLL(str(_library._PATH))
        kernels, layer = ctypes.c_void_p(), ctypes.c_void_p()
        self.assertEqual(library.sala_kernels_load(ctypes.c_int32(-1), ctypes.byref(kernels)), 0)

        class Config(ctypes.Structure):
            _fields_ = [("size", ctypes.c_size_t), ("dtype", ctypes.c_int32), ("decay", ctypes.c_int32),
                        *((name, ctypes.c_int64) for name in ("heads_q", "heads_kv", "dim_k", "dim_v")),
                        ("state_layout", ctypes.c_int32), ("split", ctypes.c_int32), ("scale", ctypes.c_void_p)]

        config = Config(ctypes.sizeof(Config), 2, 2, 4, 2, 64, 128)
        self.assertEqual(library.sala_linear_attention_create(ctypes.byref(config), ctypes.byref(layer)), 0)
        q, k, v = normal(1, 150, 4, 64), normal(2, 150, 2, 64), normal(3, 150, 2, 128)
        cu, decay, out = np.array([0, 50, 150], np.int32), sala.lightning_log_decay(0, 4, 4), np.empty((150, 4, 128), np.float16)
        # The size, six tensors, and nine fields that are absent.
        args = (ctypes.c_uint64 * 15)(120, *map(self.view, (q, k, v, cu, decay, out)))
        self.assertEqual(library.sala_linear_prefill(kernels, layer, None, args), 0)
        library.sala_linear_attention_destroy(layer)
        library.sala_kernels_destroy(kernels)
        python = sala.LinearAttention("f16", 4, 2, 64, 128, decay="per_head").prefill(q, k, v, cu_seqlens=cu, log_decay=decay)
        self.assertEqual(out.tobytes(), python.tobytes())
        self.assertTrue(np.isfinite(out).all() and out.any())


class Readme(unittest.TestCase):
    def test_first_lines_run_as_printed(self):
        readme = pathlib.Path(__file__).resolve().parents[2] / "README.md"
        lines = readme.read_text().split("```python\n")[1].split("```")[0]
        names = {}
        exec(lines, names)
        self.assertEqual(names["out"].shape, (300, 4, 64))
        self.assertTrue(np.isfinite(names["out"]).all() and names["out"].any())


class Process(unittest.TestCase):
    def test_nothing_leaks(self):
        x, out = normal(1, 2, 64), np.empty(2, np.float32)

        def calls(count):
            for _ in range(count):
                sala.sum_squares(x, out=out)
                layer = sala.LinearAttention("f16", 1, 1, 64, 64, decay="none")
                try:
                    layer.workspace_size(-1, 0, 0)
                except ValueError:
                    pass
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        before = calls(1000)
        self.assertLess(calls(10_000) - before, 4096, "KiB")

    def test_threads_call_at_once(self):
        layer = sala.LinearAttention("f16", 2, 2, 64, 64, decay="none")
        q = normal(1, 200, 2, 64)
        cu = np.array([0, 200], np.int32)
        call = lambda _: layer.prefill(q, q, q, cu_seqlens=cu, log_decay=None).tobytes()
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            self.assertEqual(len(set(pool.map(call, range(40)))), 1)


if __name__ == "__main__":
    unittest.main()
