"""device_query: lists the CUDA devices, as `caffe device_query` does."""

import argparse
import sys

import torch

from crnn.solver.events import Note
from crnn.solver.log import GlogLines
from crnn.tools import flags

#: Caffe's words -> the field of torch's properties; what torch does not tell is left out.
FIELDS = {
    "Major revision number:": "major",
    "Minor revision number:": "minor",
    "Name:": "name",
    "Total global memory:": "total_memory",
    "Total shared memory per block:": "shared_memory_per_block",
    "Registers per multiprocessor:": "regs_per_multiprocessor",
    "Warp size:": "warp_size",
    "Number of multiprocessors:": "multi_processor_count",
}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="crnn device_query", description=__doc__.split(": ", 1)[1])
    parser.add_argument("--gpu", metavar="A,B", default="all", help="devices by number, or all (default)")
    arguments = parser.parse_args(flags.normalise(argv))
    if not torch.cuda.is_available():
        print("No cuda device present.")
        return 0
    found = [str(i) for i in range(torch.cuda.device_count())]
    asked = found if arguments.gpu == "all" else flags.comma_list(arguments.gpu)
    missing = [i for i in asked if i not in found]
    if missing:
        raise ValueError(f"-gpu {missing[0]}: no such device; there are {len(found)}, counted from 0")
    log = GlogLines(sys.stderr)
    log(Note("caffe.cpp:138", f"Querying GPUs {arguments.gpu}"))
    for i in asked:
        log(Note("common.cpp:178", f"{'Device id:':<31}{i}"))
        properties = torch.cuda.get_device_properties(int(i))
        for words, field in FIELDS.items():
            if hasattr(properties, field):
                log(Note("common.cpp:179", f"{words:<31}{getattr(properties, field)}"))
    return 0
