"""convert: weights between .caffemodel, HDF5 and safetensors; nets to ONNX and torch.export."""

import argparse
import os

from crnn.net import weights
from crnn.net.net import Net
from crnn.proto import pb
from crnn.proto.blobs import read_binary, write_binary
from crnn.proto.tensors import read_tensors, write_tensors
from crnn.tools import flags

KINDS = (".caffemodel", ".h5", ".safetensors", ".onnx", ".pt2")
EPILOG = """\
examples:
  crnn convert bvlc_alexnet.caffemodel alexnet.safetensors        (and back: every field and bit returns)
  crnn convert --net train_val.prototxt x.caffemodel.h5 x.caffemodel
  crnn convert --net deploy.prototxt x.caffemodel x.onnx --batch 1
  crnn convert --net deploy.prototxt x.caffemodel x.pt2           (torch.export.load reads it)

The files' endings say what they are: %s.
Between .caffemodel and .safetensors no net is needed: the metadata entry caffe_net holds its definition, the
tensors are called LAYER/I. ONNX and pt2 are of the TEST phase; SpatialRNN layers are unrolled into plain
operations. `pip install 'crnn[onnx]'` brings what writes ONNX.""" % ", ".join(KINDS)  # noqa: UP031


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="crnn convert",
        description=__doc__.split(": ", 1)[1],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="IN", help="weights")
    parser.add_argument("target", metavar="OUT")
    parser.add_argument("--net", metavar="FILE", help="the net's prototxt")
    parser.add_argument("--batch", type=int, metavar="N", help="ONNX, pt2: samples (default: the prototxt's)")
    arguments = parser.parse_args(flags.normalise(argv))
    source, target = kind_of(arguments.source, KINDS[:3]), kind_of(arguments.target, KINDS)
    if arguments.net:
        with_net(arguments, target)
    elif (source, target) == (".caffemodel", ".safetensors"):
        write_tensors(arguments.target, read_binary(arguments.source, pb.NetParameter))
    elif (source, target) == (".safetensors", ".caffemodel"):
        net = read_tensors(arguments.source)[1]
        if net is None:
            raise ValueError(
                f"{arguments.source} has no caffe_net in its metadata: give the prototxt by --net"
            )
        write_binary(arguments.target, net)
    else:
        raise ValueError(f"{source} to {target} needs the net: --net FILE")
    print(f"{arguments.target}: {os.path.getsize(arguments.target) / 1e6:.1f} MB")
    return 0


def kind_of(path: str, kinds: tuple[str, ...]) -> str:
    for kind in kinds:
        if path.endswith(kind):
            return kind
    raise ValueError(f"{path}: the ending must be one of {', '.join(kinds)}")


def with_net(arguments: argparse.Namespace, target: str) -> None:
    """Loads the weights into the net, says what became of them, and writes the net's."""
    if arguments.batch is not None and arguments.batch < 1:
        raise ValueError(f"--batch must be at least 1, got {arguments.batch}")
    net = Net(arguments.net, phase="TEST", weights=arguments.source)
    print(net.load_report)
    if target in (".onnx", ".pt2"):
        from crnn.tools import export_net  # torch.export, seconds to import

        exported = export_net.program(net, arguments.batch)
        if target == ".onnx":
            export_net.write_onnx(arguments.target, exported, net.inputs, net.outputs)
        else:
            export_net.write_pt2(arguments.target, exported)
    elif target == ".safetensors":
        write_tensors(arguments.target, weights.to_message(net))
    else:
        weights.save(net, arguments.target)
