"""upgrade: rewrites nets and solvers of older Caffes (V0, V1, input fields, solver_type) in today's form."""

import argparse

from crnn.proto import pb, sniff
from crnn.proto.blobs import read_binary, write_binary, write_bytes
from crnn.proto.text import dump
from crnn.proto.upgrade import load_solver, read_net, upgrade_net
from crnn.tools.flags import normalise

EPILOG = """\
examples:
  crnn upgrade net old_train_val.prototxt train_val.prototxt      (upgrade_net_proto_text)
  crnn upgrade net bvlc_alexnet.caffemodel alexnet.caffemodel     (upgrade_net_proto_binary)
  crnn upgrade solver old_solver.prototxt solver.prototxt         (upgrade_solver_proto_text)

Whether IN is text or binary is told by its content; OUT is of the same kind. Comments are not kept. A file of
today's form is written unchanged in meaning. IN and OUT may be one file."""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="crnn upgrade",
        description=__doc__.split(": ", 1)[1],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kind", choices=("net", "solver"))
    parser.add_argument("source", metavar="IN", help="prototxt or .caffemodel")
    parser.add_argument("target", metavar="OUT")
    arguments = parser.parse_args(normalise(argv))
    source, target = arguments.source, arguments.target
    with open(source, "rb") as file:
        binary = sniff.kind(file.read(1 << 16)) == sniff.BINARY[pb.NetParameter.DESCRIPTOR]
    if arguments.kind == "solver":
        write_bytes(target, dump(load_solver(source).message).encode())
    elif binary:
        net = read_binary(source, pb.NetParameter)
        upgrade_net(net)
        write_binary(target, net)
    else:
        write_bytes(target, dump(read_net(source).message).encode())
    print(f"Wrote upgraded {arguments.kind} to {target}")
    return 0
