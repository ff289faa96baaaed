"""scripts/floor against closed forms: python3 test_floor.py PATH-OF-scripts/floor

The machine of this test multiplies and copies at rates with which each part of the table is one number that can be had
otherwise: from the parameters that transformers counts (a weight is multiplied 3 x 2 T times), from sums over the mask.
"""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

FLOOR = sys.argv.pop(1)
SIZES = {  # params_active: counted on the transformers models
    "qwen3": {"vocab": 2048, "d": 128, "layers": 4, "heads": 8, "kv_heads": 4, "head_dim": 32, "ff": 384, "window": 0,
              "global_every": 1, "params": 1508736, "params_active": 1508736},
    "gemma3": {"vocab": 2048, "d": 128, "layers": 6, "heads": 4, "kv_heads": 1, "head_dim": 32, "ff": 768, "window": 64,
               "global_every": 6, "params": 2543104, "params_active": 2543104},
    "olmoe": {"vocab": 2048, "d": 128, "layers": 4, "heads": 4, "kv_heads": 4, "head_dim": 32, "experts": 16, "top_k": 4,
              "expert_ff": 64, "window": 0, "global_every": 1, "params": 2369664, "params_active": 1190016},
}
VECTORS = {"qwen3": 4 * (2 * 128 + 2 * 32) + 128, "gemma3": 6 * (4 * 128 + 2 * 32) + 128, "olmoe": 4 * (4 * 128) + 128}
SEQ, BATCH = 128, 32
TOKENS = SEQ * BATCH


def limits(mm, bmm, copy, threads=2):
    """Lines of bandwidth.py; mm and bmm: functions of (part, dtype) in GF/s."""
    lines = [{"what": "copy", "threads": threads, "megabytes": 0, "unit": "GB/s", "median": 1000.0, "best": 1000.0},
             {"what": "copy", "threads": threads, "megabytes": 256, "unit": "GB/s", "median": copy, "best": 9 * copy}]
    for dtype in ("float32", "bfloat16"):
        for part in ("forward", "dx", "dw"):
            for rows, out, inner in ((4096, 512, 128), (4096, 2048, 128), (512, 512, 512)):
                lines.append({"what": "mm", "part": part, "threads": threads, "dtype": dtype, "unit": "GF/s", "rows": rows,
                              "out": out, "inner": inner, "median": mm(part, dtype, out), "best": 1e9})
        lines.append({"what": "bmm", "threads": threads, "dtype": dtype, "unit": "GF/s", "batch": 64, "rows": 256,
                      "inner": 32, "columns": 128, "median": bmm, "best": 1e9})
    return lines


class Floor(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = Path(scratch.name)
        (self.folder / "sizes.json").write_text(json.dumps(
            {"batch": {"tiny": {"seq": SEQ, "batch": BATCH}}, "architectures": {a: {"tiny": s} for a, s in SIZES.items()}}))

    def run_floor(self, lines, *flags, steps=None):
        (self.folder / "limits").write_text("".join(json.dumps(line) + "\n" for line in [{"environment": {}}, *lines]))
        steps = steps or {(f"{a}-tiny", p): 100.0 for a in SIZES for p in ("fp32", "bf16")}
        rows = [{"race": "training", "model": m, "contestant": f"equisweep {p}", "precision": p, "threads": 2,
                 "median_ms": ms, "peak_rss_mb": 300.0} for (m, p), ms in steps.items()]
        rows.append({"race": "training", "model": "qwen3-tiny", "contestant": "hf", "precision": "fp32", "median_ms": 1.0})
        (self.folder / "race").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return subprocess.run([sys.executable, FLOOR, str(self.folder), "--race", str(self.folder / "race"), "--limits",
                               str(self.folder / "limits"), "--threads", "2", *flags], capture_output=True, text=True)

    def cells(self, *args, **kwargs):
        done = self.run_floor(*args, **kwargs)
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()[2:]]
        return {(row[0], row[1]): [float(cell) for cell in row[2:8]] for row in rows}

    def test_products_with_weights_are_six_flops_a_weight_and_token(self):
        rate = {"forward": 1.0, "dx": 1.0, "dw": 0.25}  # GF/s: gradients of weights take four times as long
        for (model, _), row in self.cells(limits(lambda part, *_: rate[part], 1e30, 1e30)).items():
            arch = model.split("-")[0]
            shape = SIZES[arch]
            weights = shape["params_active"] - VECTORS[arch] - shape["vocab"] * shape["d"]
            self.assertAlmostEqual(row[0], (1 + 1 + 4) * 2 * TOKENS * weights * 1e-6, delta=0.06, msg=model)

    def test_attention_counts_the_pairs_of_the_mask(self):
        for (model, _), row in self.cells(limits(lambda *_: 1e30, 1.0, 1e30)).items():
            shape = SIZES[model.split("-")[0]]
            allowed = sum(1 for layer in range(shape["layers"]) for i in range(SEQ) for j in range(i + 1)
                          if not shape["window"] or layer % shape["global_every"] == shape["global_every"] - 1
                          or i - j < shape["window"])
            flops = 7 * 2 * shape["head_dim"] * shape["heads"] * BATCH * allowed
            self.assertAlmostEqual(row[0], flops * 1e-6, delta=0.06, msg=model)

    def test_bytes_are_those_of_weights_and_kept_activations(self):
        cells = self.cells(limits(lambda *_: 1e30, 1e30, 1.0))
        kept = {"qwen3": 4 * (128 + 16 * 32 + 256 + 128 + 768) + 128,
                "gemma3": 6 * (128 + 6 * 32 + 128 + 128 + 128 + 1536 + 128) + 128,
                "olmoe": 4 * (128 + 3 * 128 + 128 + 128 + 16 + 4 * 128) + 128}
        for (model, precision), row in cells.items():
            arch, size = model.split("-")[0], 4 if precision == "fp32" else 2
            expected = (SIZES[arch]["params"] * (32 + 2 * size) + 2 * size * TOKENS * kept[arch]) * 1e-6
            self.assertAlmostEqual(row[1], expected, delta=0.06, msg=model)
            self.assertEqual(row[0], 0)

    def test_the_floor_is_the_sum_and_the_ratio_that_of_the_step(self):
        steps = {("qwen3-tiny", "bf16"): 250.0}
        row = self.cells(limits(lambda *_: 500.0, 300.0, 20.0), steps=steps)["qwen3-tiny", "bf16"]
        self.assertAlmostEqual(row[0] + row[1], row[2], delta=0.11)
        self.assertEqual(row[3], 250)
        self.assertAlmostEqual(row[4], 250 / row[2], delta=0.02)
        self.assertEqual(row[5], 300)

    def test_rates_are_of_the_precision_and_of_the_nearest_shape(self):
        only = lambda wanted: lambda part, dtype, out: 1.0 if (dtype, out) == wanted else 1e30
        steps = {("qwen3-tiny", "fp32"): 1.0, ("qwen3-tiny", "bf16"): 1.0}
        cells = self.cells(limits(only(("bfloat16", 2048)), 1e30, 1e30), steps=steps)
        self.assertEqual(cells["qwen3-tiny", "fp32"][0], 0)
        head = 6 * TOKENS * 2048 * 128 * 1e-6  # nearest to 2048 columns: the head alone
        self.assertAlmostEqual(cells["qwen3-tiny", "bf16"][0], head, delta=0.06)

    def test_what_is_wrong_is_said(self):
        good = limits(lambda *_: 1.0, 1.0, 1.0)
        for flags, what in ((["--models", "llama-tiny"], "--models llama-tiny: one of qwen3-tiny"),
                            (["--race", "/nowhere"], "no /nowhere"), (["--threads", "7"], "pass --threads 2")):
            done = self.run_floor(good, *flags)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(what, done.stderr)
        done = self.run_floor(limits(lambda *_: 1.0, 1.0, 1.0, threads=4))
        self.assertIn("no rates for 2 threads", done.stderr)


if __name__ == "__main__":
    unittest.main()
