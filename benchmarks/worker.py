"""One tree's side of `run.py --base`: reads requests as JSON lines, answers with JSON lines.

Runs as a program with the tree first in PYTHONPATH; takes nothing from crnn but `crnn.ops.scan`, so that old
commits can answer. The inputs and the truth come in a file of the parent's.
"""

import json
import sys
from functools import partial
from pathlib import Path

import torch
from timing import eager  # this folder's, whatever tree crnn comes from

import crnn
from crnn.ops import Direction, LineBreak, scan


def load(request: dict):
    """The function that runs the case once, and its errors against the truth."""
    data = torch.load(request["file"])
    torch.set_float32_matmul_precision("high" if request["dtype"] == "tf32" else "highest")
    leaves = [t.requires_grad_() for t in data["inputs"].values()]
    order = [Direction(*d[:5], LineBreak(d[5])) for d in data["plan"]]

    def forward_backward():
        h = scan(*leaves[:2], order, data["cell"], *leaves[2:])
        return h, torch.autograd.grad(h, leaves, data["gradient"])

    def forward():
        with torch.set_grad_enabled(request["mode"] != "inference"):
            scan(*leaves[:2], order, data["cell"], *leaves[2:])

    h, grads = forward_backward()
    got = [h.detach(), *grads]
    errors = {
        name: float((g.double() - want).norm() / want.norm())
        for g, (name, want) in zip(got, data["truth"].items(), strict=True)
    }
    return forward_backward if request["mode"] == "forward+backward" else forward, errors


def main() -> None:
    answer = partial(print, flush=True)
    answer(json.dumps({"crnn": str(Path(crnn.__file__).resolve().parents[1])}))
    timer = None
    for line in sys.stdin:
        request = json.loads(line)
        if "file" in request:
            try:
                function, errors = load(request)
                timer = eager(function, request["device"])
                answer(json.dumps({"errors": errors}))
            except (RuntimeError, ValueError, TypeError) as error:  # an old tree may lack the cell or dtype
                answer(json.dumps({"na": str(error).split("\n")[0]}))
        else:
            answer(json.dumps({"ms": timer()}))


if __name__ == "__main__":
    main()
