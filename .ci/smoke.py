"""What an installed crnn must be able to do, from a folder without its source: smoke.py BACKEND ..."""

import contextlib
import io
import os
import sys
from importlib import resources
from pathlib import Path

import torch

import crnn
from crnn.__main__ import commands, main

assert Path(crnn.__file__).is_relative_to(sys.prefix), crnn.__file__
assert not os.listdir(), "run this from an empty folder"
assert crnn.ops.backends() == tuple(sys.argv[1:]), (crnn.ops.backends(), crnn.ops.backend.why_not)

x = torch.ones(2, 3, 5, 6, requires_grad=True)
rnn = crnn.nn.SpatialRNN(3, 4)
rnn(x).sum().backward()
assert x.grad.shape == x.shape and rnn.weight_hh.grad.shape == (4, 4, 4)

net = crnn.Net(str(resources.files("crnn.prototxt_like") / "demo" / "crnn" / "deploy.prototxt"), phase="TEST")
(scores,) = net(data=torch.zeros(1, 1, 26, 26)).values()
assert torch.isfinite(scores).all()

shown = io.StringIO()
with contextlib.redirect_stdout(shown):
    assert main(["--help"]) == main(["data", "convert", "--help"]) == main(["bench", "--list"]) == 0
assert all(f"\n  {name}" in shown.getvalue() for name in commands()), shown.getvalue()
assert "imageset" in shown.getvalue(), shown.getvalue()
print(f"smoke: {crnn.__file__} computes, reads its nets, and lists {len(commands())} commands")
