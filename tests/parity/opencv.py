"""OpenCV's Caffe importer on our prototxt and our .caffemodel against crnn: `make opencv-oracle`.

python -m tests.parity.opencv [--write tests/parity/OPENCV.md]
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks import unrolled
from crnn.net import weights
from crnn.net.net import Net
from crnn.proto import pb
from crnn.proto.blobs import read_binary, write_binary
from crnn.proto.text import dump
from crnn.proto.upgrade import read_net
from crnn.testing import ROOT, golden, relative_error

from .__main__ import write

PYTHON = ROOT / "build" / "opencv" / "bin" / "python"
TOLERANCE = 1e-5
LAYERS = [
    *("act_absval", "act_elu", "act_relu", "act_sigmoid", "act_tanh", "relu_leaky", "power", "prelu"),
    *("conv_plain", "conv_group_stride_pad", "conv_rect_dilated_nobias", "deconv_bilinear_shape"),
    *("inner_product", "concat_channels", "eltwise_max", "eltwise_prod", "eltwise_sum_coeff"),
    *("lrn_across_small", "lrn_within", "softmax", "batchnorm_global_scale"),
    *("pool_ave_nopad_ceil", "pool_ave_pad_ceil", "pool_global_ave", "pool_max_3x3_s2_ceil", "pool_max_pad"),
    *("slice_reshape_flatten", "crop", "dropout_test_phase"),
]


def fill(net: Net) -> Net:
    """Gives every blob values of its fan-in's size, the same every time."""
    torch.manual_seed(0)
    with torch.no_grad():
        for blob in net.parameters():
            blob.normal_(0, (2 / max(blob[0].numel(), 1)) ** 0.5)
    return net


def nets():
    """(name, prototxt, net with weights) of all cases."""
    for name in LAYERS:
        folder = golden(f"layers/{name}")
        text = (folder / "net.prototxt").read_text()
        net, arrays = fill(Net(text, phase="TEST")), np.load(folder / "golden.npz")
        with torch.no_grad():
            for param in net.params:
                param.parameter.copy_(torch.from_numpy(arrays[f"param/{param.layer}/{param.index}"]))
        yield name, text, net
    text = (ROOT / "prototxt_like/alexnet/deploy.prototxt").read_text()
    text = text.replace("num_output: 4096", "num_output: 256").replace("dim: 10 dim: 3", "dim: 2 dim: 3")
    yield "alexnet, deploy", text, fill(Net(text, phase="TEST"))
    text = "\n".join([unrolled.source("x", 2, 4, 3, 3), *unrolled.unrolled(3, 3, "carry", 8)])
    yield "C-RNN's layer unrolled, 3x3", text, fill(Net(text, phase="TEST"))


def as_v1(path: Path, net: pb.NetParameter) -> None:
    """Writes a net in the form of bvlc_alexnet.caffemodel: V1 layers, four legacy extents a blob."""
    old, types = pb.NetParameter(name=net.name), {"Convolution": 4, "InnerProduct": 14}
    for layer in (layer for layer in net.layer if layer.blobs):
        made = old.layers.add(name=layer.name, type=types[layer.type], blobs=layer.blobs)
        for blob in made.blobs:
            extents = [1] * (4 - len(blob.shape.dim)) + list(blob.shape.dim)
            blob.num, blob.channels, blob.height, blob.width = extents
            blob.ClearField("shape")
    write_binary(path, old)


def prepare(folder: Path):
    """Writes all cases into folder; (title, stem, what crnn computes) of each."""
    cases = list(nets())
    name, text, net = next(case for case in cases if case[0] == "alexnet, deploy")
    cases.append((f"{name}, V1 weights with legacy extents", text, net))
    for i, (title, text, net) in enumerate(cases):
        stem = folder / f"{i:02}"
        stem.with_suffix(".prototxt").write_text(dump(read_net(text).message))
        weights.save(net, stem.with_suffix(".caffemodel"))
        if "V1" in title:
            as_v1(
                stem.with_suffix(".caffemodel"), read_binary(stem.with_suffix(".caffemodel"), pb.NetParameter)
            )
        torch.manual_seed(1)
        given = {name: torch.randn(net.shapes[name]) for name in net.inputs}
        found = {name: blob.detach() for name, blob in net(**given).items()}
        makers = {top: node.layer.name for node in net.nodes for top in node.tops}  # OpenCV may ask by it
        inputs = {name: blob.numpy() for name, blob in given.items()}
        np.savez(stem, outputs=np.array([[makers[name], name] for name in found]), **inputs)
        yield title, stem, found


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.parity.opencv", description=__doc__.split("\n")[0])
    parser.add_argument("--write", type=Path, help="file whose table gets the rows")
    options = parser.parse_args(argv)
    if not PYTHON.exists():
        sys.exit(f"{PYTHON} is not there: `make opencv-oracle` makes it")
    rows, failed = [], 0
    with tempfile.TemporaryDirectory() as scratch:
        cases = list(prepare(Path(scratch)))
        program = Path(__file__).with_name("opencv_run.py")
        version = subprocess.run([PYTHON, program, scratch], check=True, capture_output=True, text=True)
        print(f"OpenCV {version.stdout.strip()}")
        for title, stem, found in cases:
            theirs = dict(np.load(f"{stem}.out.npz"))
            if "error" in theirs:
                rows.append(f"| {title} | refused: {str(theirs['error']).splitlines()[0][:80]} |")
                failed += 1
            else:
                worst = max(
                    relative_error(torch.from_numpy(theirs[f"{i}"]).flatten(), blob.flatten())
                    for i, blob in enumerate(found.values())
                )
                failed += not worst <= TOLERANCE
                rows.append(f"| {title} | {worst:.1e} |")
            print(rows[-1], flush=True)
    if options.write:
        write(options.write, rows)
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
