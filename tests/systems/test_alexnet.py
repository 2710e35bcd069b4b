"""AlexNet for ILSVRC at full size: bvlc_alexnet's shapes, rates and weight files."""

import time

import pytest
import torch

from crnn.net import weights
from crnn.net.net import Net
from crnn.proto import pb
from crnn.proto.blobs import from_array, write_binary

DEPLOY = "prototxt_like/alexnet/deploy.prototxt"
LEARNT = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]
MAPS = {
    "data": (3, 227, 227),
    "conv1": (96, 55, 55),
    "pool1": (96, 27, 27),
    "conv2": (256, 27, 27),
    "pool2": (256, 13, 13),
    "conv3": (384, 13, 13),
    "conv4": (384, 13, 13),
    "conv5": (256, 13, 13),
    "pool5": (256, 6, 6),
    "fc6": (4096,),
    "fc7": (4096,),
    "fc8": (1000,),
}

pytestmark = pytest.mark.usefixtures("here")


@pytest.mark.parametrize("file", ["train_val", "deploy"])
def test_shapes_and_number_of_parameters(file):
    net = Net(f"prototxt_like/alexnet/{file}.prototxt", phase="TEST")
    assert {name: net.shapes[name][1:] for name in MAPS} == MAPS
    assert [layer.name for layer in net.layers if len(layer.blobs)] == LEARNT
    assert sum(blob.numel() for blob in net.parameters()) == 60_965_224


def test_one_step_of_its_solver_moves_every_blob(solver, moved):
    training = solver("alexnet")
    assert {(p.index, p.lr_mult, p.decay_mult) for p in training.net.params} == {(0, 1, 1), (1, 2, 0)}
    assert moved(training) == [f"{layer}[{i}]" for layer in LEARNT for i in (0, 1)]
    assert training.smoothed_loss == pytest.approx(6.91, abs=0.3)  # ln 1000: it knows nothing yet
    assert training.test_nets[0].layer("fc8").blobs[0] is training.net.layer("fc8").blobs[0]


def test_deploy_gives_probabilities(images, randomise):
    net = randomise(Net(DEPLOY, phase="TEST"))
    with torch.no_grad():
        prob = net(images(10))["prob"]
    assert prob.shape == net.shapes["prob"] == (10, 1000)
    torch.testing.assert_close(prob.sum(1), torch.ones(10))


@pytest.fixture
def released(tmp_path, randomise):
    """(net, path): a net and its weights in the format of bvlc_alexnet.caffemodel, 244 MB.

    That is V1 layers, whose blobs have num, channels, height and width.
    """
    v1 = pb.V1LayerParameter
    types = {"Convolution": v1.CONVOLUTION, "InnerProduct": v1.INNER_PRODUCT}
    net, message = randomise(Net(DEPLOY, phase="TEST")), pb.NetParameter(name="AlexNet")
    message.layers.add(name="data", type=pb.V1LayerParameter.DATA)
    for layer in net.layers:
        if len(layer.blobs):
            old = message.layers.add(name=layer.name, type=types[layer.type])
            old.blobs.extend(legacy(blob.detach().numpy()) for blob in layer.blobs)
    path = tmp_path / "bvlc_alexnet.caffemodel"
    write_binary(path, message)
    yield net, path
    path.unlink()  # pytest keeps the folders of several runs


def legacy(array):
    """A BlobProto with four extents in place of a shape; missing axes are 1, in front."""
    blob = from_array(array)
    blob.ClearField("shape")
    blob.num, blob.channels, blob.height, blob.width = (1,) * (4 - array.ndim) + array.shape
    return blob


def test_a_v1_caffemodel_loads_in_seconds(released):
    theirs, path = released
    net = Net(DEPLOY, phase="TEST")
    start = time.process_time()
    report = weights.load(net, path)
    assert time.process_time() - start < 5  # about 0.5 s; one Python step for each value would take over 10 s
    assert report.copied == LEARNT
    assert report.filled == report.ignored == report.misshapen == []
    assert all(mine.equal(blob) for mine, blob in zip(net.parameters(), theirs.parameters(), strict=True))
