"""Large weights: read in seconds, net and all within three times the file's size, however written."""

import os
import subprocess
import sys

import numpy as np
import pytest

from crnn.net import weights
from crnn.net.net import Net
from crnn.proto import pb
from crnn.proto.blobs import head, write_binary
from crnn.testing import ROOT

DEPLOY = str(ROOT / "prototxt_like/alexnet/deploy.prototxt")
MEASURE = """
import os, resource, sys, time
from crnn.net import weights
from crnn.net.net import Net
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
net = Net(sys.argv[1], phase="TEST")
start = time.process_time()
weights.load(net, sys.argv[2])
print((peak() - before) / os.path.getsize(sys.argv[2]), time.process_time() - start)
"""


ONE = """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: SIZE } } }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y"
  inner_product_param { num_output: SIZE bias_term: false } }"""
needs_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="needs Linux: ru_maxrss counts otherwise elsewhere"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """net.caffemodel of today, and old.caffemodel: V1 with legacy extents, as bvlc_alexnet.caffemodel is."""
    folder = tmp_path_factory.mktemp("alexnet")
    net = weights.to_message(Net(DEPLOY, phase="TEST"))
    write_binary(folder / "net.caffemodel", net)
    old, types = pb.NetParameter(), {"Convolution": 4, "InnerProduct": 14}
    for layer in (layer for layer in net.layer if layer.blobs):
        blobs = old.layers.add(name=layer.name, type=types[layer.type], blobs=layer.blobs).blobs
        for blob in blobs:
            extents = [1] * (4 - len(blob.shape.dim)) + list(blob.shape.dim)
            blob.num, blob.channels, blob.height, blob.width = extents
            blob.ClearField("shape")
    write_binary(folder / "old.caffemodel", old)
    yield folder
    for file in folder.iterdir():
        file.unlink()


@needs_linux
@pytest.mark.parametrize("name", ["net", "old"])
def test_time_and_memory(folder, name):
    times, seconds = measured(DEPLOY, folder / f"{name}.caffemodel")
    assert times < 3
    assert seconds < 10  # of the processor, whatever else runs


@needs_linux
@pytest.mark.parametrize("form", ["V0", "V1"])
def test_one_layer_of_values_with_a_tag_each(tmp_path, form):
    """84 MB in one blob, 5 bytes a value: as messages they took five times the file."""
    size = 4096
    values = np.zeros(size * size, [("tag", "u1"), ("value", "<f4")])
    values["tag"] = 5 << 3 | 5
    values["value"] = np.arange(size * size)
    blob = pb.BlobProto(num=1, channels=1, height=size, width=size).SerializeToString() + values.tobytes()
    layer = pb.V1LayerParameter(name="fc").SerializeToString() + head(6, len(blob)) + blob
    if form == "V0":
        inner = pb.V0LayerParameter(name="fc").SerializeToString() + head(50, len(blob)) + blob
        layer = head(1, len(inner)) + inner
    (tmp_path / "x.caffemodel").write_bytes(head(2, len(layer)) + layer)
    (tmp_path / "net").write_text(ONE.replace("SIZE", str(size)))
    times, seconds = measured(tmp_path / "net", tmp_path / "x.caffemodel")
    net = Net(str(tmp_path / "net"), weights=str(tmp_path / "x.caffemodel"))
    (tmp_path / "x.caffemodel").unlink()
    assert net.layers[1].blobs[0].flatten()[-3:].tolist() == [
        size * size - 3,
        size * size - 2,
        size * size - 1,
    ]
    assert times < 2.5
    assert seconds < 5


def measured(net, path) -> tuple[float, float]:
    """(peak memory of a process that loads the weights, by the file's size; seconds of the processor)."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", MEASURE, str(net), str(path)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    times, seconds = map(float, done.stdout.split())
    return times, seconds
