"""AlexNet's 244 MB of weights: read in seconds, net and all within three times the file's size."""

import os
import subprocess
import sys

import pytest

from crnn.net import weights
from crnn.net.net import Net
from crnn.proto import pb
from crnn.proto.blobs import write_binary
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


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: ru_maxrss counts otherwise elsewhere")
@pytest.mark.parametrize("name", ["net", "old"])
def test_time_and_memory(folder, name):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", MEASURE, DEPLOY, str(folder / f"{name}.caffemodel")]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    times, seconds = map(float, done.stdout.split())
    assert times < 3
    assert seconds < 10  # of the processor, whatever else runs
