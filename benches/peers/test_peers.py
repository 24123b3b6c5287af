"""The comparison on the CPU: this library agrees with the definitions, what is absent is said, and a wrong result is found."""

import json
import pathlib
import sys
import tempfile
import unittest
import xml.etree.ElementTree

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import compare
import libraries


class Wrong(libraries.Sala):
    """A peer that forgets a block of each list."""

    name = "wrong"

    def sparse(self, problem):
        lists = problem.tensors["lists"].copy() if self.torch is None else problem.tensors["lists"].clone()
        lists[:, :, 1:] = -1
        return self._attention(problem, lists)


class Absent(libraries.Library):
    """A peer that nobody has."""

    name, module, distribution = "absent", "sala_kernels_absent_peer", "sala-kernels-absent-peer"


class Failing(libraries.Library):
    """A peer that raises."""

    name, module, distribution, needs_cuda = "failing", "json", "json", False

    def dense(self, problem):
        raise RuntimeError("no image\nfor this device")


class Comparison(unittest.TestCase):
    def compare(self, *arguments, peers=None):
        with tempfile.TemporaryDirectory() as folder:
            status = compare.main(["--device", "cpu", "--out", folder, *arguments], peers)
            texts = {name: (pathlib.Path(folder) / f"peers.{name}").read_text() for name in ("json", "md", "svg")}
        xml.etree.ElementTree.fromstring(texts["svg"])
        return status, json.loads(texts["json"]), texts["md"]

    def test_results_agree_with_the_definitions(self):
        status, found, table = self.compare()
        self.assertEqual(status, 0, table)
        ours = [row for row in found["rows"] if row["library"] == "sala-kernels"]
        self.assertEqual(len(ours), 7)
        self.assertTrue(all(row["status"] == "agrees" and row["milliseconds"] > 0 for row in ours), table)
        names = {row["library"] for row in found["rows"]}
        self.assertEqual(names, {library.name for library in libraries.LIBRARIES})

    def test_what_is_absent_or_fails_is_said(self):
        status, found, table = self.compare("--only", "dense", peers=[libraries.Sala, Absent, Failing])
        self.assertEqual(status, 0)
        statuses = {(row["problem"], row["library"]): row["status"] for row in found["rows"]}
        self.assertEqual(statuses["dense_prefill", "absent"], "not installed")
        self.assertEqual(statuses["dense_decode", "failing"], "failed: RuntimeError: no image for this device")
        self.assertIn("| absent |  | not installed |", table)

    def test_a_wrong_result_is_found(self):
        for only in ("sparse_prefill", "sparse_decode"):
            status, found, _ = self.compare("--only", only, peers=[libraries.Sala, Wrong])
            self.assertEqual(status, 1)
            statuses = {row["library"]: row["status"] for row in found["rows"] if row["problem"] == only}
            self.assertEqual(statuses, {"sala-kernels": "agrees", "wrong": "disagrees"})


if __name__ == "__main__":
    unittest.main()
