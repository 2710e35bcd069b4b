"""C-HRNN-style nets for ILSVRC at full size: AlexNet with recurrent layers on four scales."""

from pathlib import Path

import pytest
import torch

from crnn.net.net import Net
from crnn.proto.upgrade import read_net

README = Path(__file__).resolve().parents[2] / "prototxt_like" / "chrnn" / "README.md"
HRNN = {"chrnn": 2_887_680, "chrnn/hlstm": 11_550_720}
NETS = {"chrnn": 78_532_968, "chrnn/hlstm": 87_196_008}

pytestmark = pytest.mark.usefixtures("here")


@pytest.mark.parametrize("system", NETS)
def test_number_of_parameters_and_probabilities(system, images, randomise):
    """L K G D (C + 1 + D) + (L - 1) K G D D values in the layer, for L = 4 scales, K = 4, C = D = 256."""
    net = Net(f"prototxt_like/{system}/deploy.prototxt", phase="TEST")
    G = 4 if system == "chrnn/hlstm" else 1
    count = 4 * 4 * G * 256 * (256 + 1 + 256) + 3 * 4 * G * 256 * 256
    assert sum(blob.numel() for blob in net.layer("hrnn").blobs) == count == HRNN[system]
    assert sum(blob.numel() for blob in net.parameters()) == NETS[system]
    assert net.shapes["hrnn"][1:] == (256 * (36 + 9 + 4 + 1),)
    assert f"| {count:,} | {NETS[system]:,} |" in README.read_text()
    with torch.no_grad():
        prob = randomise(net)(images(1))["prob"]
    torch.testing.assert_close(prob.sum(1), torch.ones(1))


@pytest.mark.parametrize("system", NETS)
def test_all_else_is_c_rnn(system):
    """Every layer but the new one and its dropout; fc6 reads "hrnn" for "rnn"."""
    mine, crnn = (read_net(f"prototxt_like/{s}/train_val.prototxt").message for s in (system, "crnn"))
    own, theirs = (
        [layer for layer in net.layer if layer.name not in ("rnn", "drop_rnn", "hrnn", "drop_hrnn")]
        for net in (mine, crnn)
    )
    next(layer for layer in own if layer.name == "fc6").bottom[0] = "rnn"
    assert own == theirs


def test_hlstm_is_hsrn_with_another_cell():
    hsrn, hlstm = (read_net(f"prototxt_like/{s}/train_val.prototxt").message for s in NETS)
    next(layer for layer in hlstm.layer if layer.name == "hrnn").spatial_rnn_param.cell = "relu"
    assert list(hsrn.layer) == list(hlstm.layer)
