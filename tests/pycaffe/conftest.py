"""Nets of a few lines for pycaffe's tests; no log."""

import numpy as np
import pytest

import crnn.pycaffe as caffe
from crnn.pycaffe.blob import Mirror

SPLIT_NET = """
name: "split" force_backward: true
input: "data" input_shape { dim: 2 dim: 3 }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 3 } }
layer { name: "relu" type: "ReLU" bottom: "ip" top: "ip" }
layer { name: "double" type: "Power" bottom: "ip" top: "double" power_param { scale: 2 } }
layer { name: "sum" type: "Eltwise" bottom: "ip" bottom: "double" top: "sum" }
"""


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("GLOG_minloglevel", "2")


@pytest.fixture
def make_net(tmp_path):
    """make_net(text) -> a Net, its weights drawn from a fixed seed."""

    def make(text, phase=caffe.TRAIN, **more):
        path = tmp_path / "net.prototxt"
        path.write_text(text)
        net, random = caffe.Net(str(path), phase, **more), np.random.RandomState(0)
        for blobs in net.params.values():
            for blob in blobs:
                blob.data[...] = random.uniform(-1, 1, blob.shape)
        return net

    return make


@pytest.fixture(params=["views", "copies"])
def memory(request, monkeypatch):
    """Both ways that arrays can be a net's memory: views of it, and copies as from a GPU."""
    monkeypatch.setattr(Mirror, "always_copies", request.param == "copies")
    return request.param
