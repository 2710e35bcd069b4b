"""Every layer against the real Caffe: forward, gradients of bottoms and of blobs (goldens/README.md)."""

import numpy as np
import pytest
import torch

from crnn.net.net import Net
from crnn.testing import assert_near, golden


def tolerance(case):
    return 1e-5 if case.startswith(("lrn", "batchnorm", "alexnet")) else 2e-6


@pytest.mark.parametrize("case", sorted(folder.name for folder in golden("layers").iterdir()))
def test_layer_equals_caffe(case):
    folder = golden(f"layers/{case}")
    arrays = {key: torch.from_numpy(value) for key, value in np.load(folder / "golden.npz").items()}

    def of(kind):
        return {key[len(kind) + 1 :]: value for key, value in arrays.items() if key.startswith(f"{kind}/")}

    net = Net(str(folder / "net.prototxt"), phase="TEST" if "test_phase" in case else "TRAIN")

    def blob(key):
        layer, index = key.rsplit("/", 1)
        return net.layer(layer).blobs[int(index)]

    with torch.no_grad():
        for key, value in of("param").items():
            blob(key).copy_(value)
    net(**of("in"))
    for name, want in of("out").items():
        assert_near(net.blobs[name], want, tolerance(case), name)

    if not (net.force_backward or net.loss_weights):
        return  # Caffe runs no layer backward that is under no loss: the golden's gradients are zeros
    objective = [(net.blobs[name] * dtop).sum() for name, dtop in of("dtop").items()]
    objective += [net.loss()] if net.loss_weights else []
    if objective:
        sum(objective).backward()
    gradients = {**of("din"), **of("dparam")}
    for key, want in gradients.items():
        got = (net.blobs[key] if key in net.blobs else blob(key)).grad
        assert_near(torch.zeros_like(want) if got is None else got, want, tolerance(case), f"d {key}")
