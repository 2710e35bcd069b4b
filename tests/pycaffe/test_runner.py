"""python -m crnn.pycaffe: scripts that say `import caffe`, in a process of their own."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

LAYER = """
import caffe

class Scale(caffe.Layer):
    def setup(self, bottom, top):
        self.factor = float(self.param_str)
    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)
    def forward(self, bottom, top):
        top[0].data[...] = self.factor * bottom[0].data
    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = self.factor * top[0].diff
"""
SCRIPT = """
import sys
from pathlib import Path
import caffe, caffe.draw
from caffe import layers as L, params as P
from caffe.proto import caffe_pb2
from caffe.coord_map import crop
import crnn.pycaffe

assert caffe is crnn.pycaffe and caffe.draw is crnn.pycaffe.draw
assert caffe.proto.caffe_pb2 is caffe_pb2 and caffe_pb2.TRAIN == caffe.TRAIN
assert caffe_pb2.Phase.Value("TEST") == caffe.TEST and caffe_pb2.Phase.Name(0) == "TRAIN"
from caffe._caffe import Blob, Layer, Solver
from caffe.pycaffe import Net, SGDSolver
assert Net is caffe.Net and Layer is caffe.Layer is caffe._caffe.Layer and issubclass(SGDSolver, Solver)
n = caffe.NetSpec()
n.data = L.Input(shape=dict(dim=[2, 3]))
n.out = L.Python(n.data, module="my_layer", layer="Scale", param_str="3")
open("net.prototxt", "w").write("force_backward: true " + str(n.to_proto()))
net = caffe.Net("net.prototxt", caffe.TRAIN)
net.blobs["data"].data[...] = 2
print(net.forward()["out"].sum(), net.layers[1].type, net.layers[1].factor)
net.blobs["out"].diff[...] = 5
print(net.backward()["data"].sum())
print(sys.argv[1:], __name__, caffe.__version__)
"""


def run(*arguments, folder, **more):
    return subprocess.run(
        [sys.executable, "-m", "crnn.pycaffe", *arguments], cwd=folder, capture_output=True, text=True, **more
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "my_layer.py").write_text(LAYER)
    (tmp_path / "script.py").write_text(SCRIPT)
    return tmp_path


@pytest.mark.parametrize("how", [["script.py"], ["-m", "script"], ["-c", SCRIPT]])
def test_a_script_runs_unchanged_with_its_arguments_and_python_layers(folder, how):
    done = run(*how, "a", "--b", folder=folder)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["36.0 Python 3.0", "90.0", "['a', '--b'] __main__ 1.0.0"]


def test_pytest_and_unittest_run_test_folders_on_it(folder):
    (folder / "test_it.py").write_text(
        "import unittest, caffe\n"
        "class TestIt(unittest.TestCase):\n"
        "    def test_it(self): self.assertIn('Python', caffe.layer_type_list())\n"
    )
    assert "1 passed" in run("-m", "pytest", "-p", "no:cacheprovider", folder=folder).stdout
    assert "OK" in run("-m", "unittest", "test_it", folder=folder).stderr


def test_the_alias_wins_over_a_caffe_that_is_installed_and_knows_what_it_lacks(folder):
    (folder / "caffe.py").write_text("raise RuntimeError('the other one')")
    assert run("-c", "import caffe; caffe.Net", folder=folder).returncode == 0
    assert "crnn.pycaffe has no 'caffe.nothing'" in run("-c", "import caffe.nothing", folder=folder).stderr


def test_the_alias_ends_with_the_process_and_another_caffe_pb2_may_be_loaded(folder):
    code = (
        "import sys, crnn.pycaffe\n"
        "assert 'caffe' not in sys.modules\n"
        "from google.protobuf import descriptor_pb2, descriptor_pool\n"
        "file = descriptor_pb2.FileDescriptorProto(name='caffe.proto', package='caffe')\n"
        "file.message_type.add(name='NetParameter')\n"
        "descriptor_pool.Default().Add(file)\n"
        "try:\n    import caffe\nexcept ModuleNotFoundError: print('none')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("none\n", "")


def test_an_error_of_the_script_is_the_scripts(folder):
    done = run("-c", "import sys; sys.exit(3)", folder=folder)
    assert done.returncode == 3
    assert "ValueError: mine" in run("-c", "raise ValueError('mine')", folder=folder).stderr


def test_help_and_misuse(folder):
    assert "usage: python -m crnn.pycaffe SCRIPT" in run("--help", folder=folder).stdout
    assert "usage" in run(folder=folder).stdout
    for arguments, words in ((["no.py"], "there is no script no.py"), (["-m"], "-m needs a module")):
        done = run(*arguments, folder=folder)
        assert (done.returncode, words in done.stderr) == (1, True)


def test_the_readmes_example_runs(make_net, tmp_path, monkeypatch):
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (example,) = re.findall(r"```python\n(import crnn.pycaffe as caffe\n.*?)```", readme, re.S)
    net = make_net("""
      input: "data" input_shape { dim: 10 dim: 3 dim: 227 dim: 227 }
      layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 4 kernel_size: 11 stride: 4 } }
      layer { name: "pool" type: "Pooling" bottom: "conv1" top: "pool"
        pooling_param { global_pooling: true } }
      layer { name: "prob" type: "Softmax" bottom: "pool" top: "prob" }""")
    net.save(tmp_path / "x.caffemodel")
    (tmp_path / "net.prototxt").rename(tmp_path / "deploy.prototxt")
    monkeypatch.chdir(tmp_path)
    names = {"image": np.ones((3, 227, 227))}
    exec(example, names)
    assert names["scores"].shape == (1, 4, 1, 1)
    assert not names["net"].params["conv1"][1].data.any()
