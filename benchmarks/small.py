"""Every CUDA kernel, cell and line break on small shapes, both ways: what compute-sanitizer watches.

  compute-sanitizer --tool memcheck --error-exitcode 9 python benchmarks/small.py

One kernel launch under the sanitizer takes as long as thousands without, so the shapes are the smallest that
reach a second tile.
"""

import itertools
import sys
from pathlib import Path

if not __package__:  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = "benchmarks"
import torch

from crnn.ops import lrn, plan, scan, spatial_scan, update, use_backend
from crnn.ops.reference import CELLS
from crnn.testing import FOUR, ScanCase, lrn_cases, spatial_scan_cases, update_cases

from . import cases, peers

SHAPES = ((2, 2, 3, 16), (9, 3, 2, 72))  # N, H, W, D
DTYPES = ("fp32", "bf16", "fp16")


def main() -> int:
    if not torch.cuda.is_available():
        sys.exit("benchmarks/small.py: torch sees no GPU here")
    ran, skipped = 0, {}
    for variant in peers.variants("cuda"):
        for cell in CELLS:
            for line_break in ("carry", "carry_value", "reset"):
                for shape in SHAPES:
                    for dtype in DTYPES:
                        case = ScanCase(cell, line_break, FOUR, *shape)
                        try:
                            once(case, dtype, variant)
                            ran += 1
                        except RuntimeError as error:
                            if "variant" not in str(error):  # only "does not fit" is an answer
                                raise
                            skipped[f"{variant}: {str(error).splitlines()[0][-80:]}"] = None
    ran += fused(skipped)
    passes()
    torch.cuda.synchronize()
    print(f"{ran} scans forward and backward; does not fit: {'; '.join(skipped) or 'none'}")
    return 0 if ran else 1


def once(case: ScanCase, dtype: str, variant: str) -> None:
    inputs, gradient = cases.inputs(case, "scan", dtype, "cuda")
    order = plan(case.directions, case.H, case.W, case.line_break)
    with use_backend("cuda"):
        h = scan(inputs["z"], inputs["w_hh"], order, case.cell, inputs.get("cell_params"), variant=variant)
        torch.autograd.grad(h, list(inputs.values()), gradient)


def fused(skipped: dict) -> int:
    """spatial_scan both ways; how many cases ran."""
    ran = 0
    for dtype, case in itertools.product(("bf16", "fp16"), spatial_scan_cases()):
        inputs = {k: v for k, v in case.inputs(cases.DTYPES[dtype], device="cuda").items() if v is not None}
        leaves = {k: v.requires_grad_() for k, v in inputs.items()}
        rest = {"plan": case.scan.plan, "cell": case.scan.cell, "combine": case.combine}
        try:
            y, h = spatial_scan(**{"w_ih": None, "bias": None, **leaves}, **rest)
        except RuntimeError as error:
            if "crnn::spatial_scan on cuda: it " not in str(error):
                raise
            skipped[f"spatial_scan: {str(error).splitlines()[0][-80:]}"] = None
            continue
        out = h if case.combine == "concat" else y
        torch.autograd.grad(out, list(leaves.values()), torch.ones_like(out))
        ran += 1
    return ran


def passes() -> None:
    """lrn both ways and every update rule, in each dtype."""
    with use_backend("cuda"):
        for dtype in map(cases.DTYPES.get, DTYPES):
            for case in lrn_cases():
                x, dy = case.inputs(dtype, device="cuda").values()
                torch.autograd.grad(lrn(x.requires_grad_(), *case.numbers), x, dy)
            for case in update_cases():
                update(*case.inputs(dtype, device="cuda"), *case.options)


if __name__ == "__main__":
    sys.exit(main())
