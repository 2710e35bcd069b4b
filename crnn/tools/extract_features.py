"""extract_features: stores blobs of a trained net as databases of float Datums, as Caffe's tool does."""

import argparse
import contextlib
import os
import sys

import torch

from crnn.data.database_writer import DatabaseWriter
from crnn.data.databases import BACKENDS, engine
from crnn.experiments.evaluate import CENTRE, data_node, feed
from crnn.experiments.features import reading_training_data
from crnn.net import debug_info
from crnn.net.net import Net
from crnn.proto import pb
from crnn.proto.text import dump
from crnn.proto.upgrade import read_net
from crnn.solver.log import GlogLines
from crnn.tools import flags

EPILOG = """\
example:
  crnn extract_features crnn_iter_450000.caffemodel train_val.prototxt fc6,fc7 fc6_lmdb,fc7_lmdb 1000 lmdb GPU
  crnn extract_features x.caffemodel train_val.prototxt fc7 train_fc7_lmdb all --of train

Runs N batches of the net's TEST phase. Record i of a database, under the key of i in 10 digits, is the blob
of image i: float_data, with the blob's channels, height and width (a blob [N, D] has D channels). As in Caffe
no labels are stored. A database is written whole or not at all.

With `all` for N it is every record of the TEST Data layer once, seen from the centre, under its own key and
with its label: a database to train on; --of train takes the records of the TRAIN Data layer instead."""


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="crnn extract_features",
        description=__doc__.split(": ", 1)[1],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("weights", metavar="WEIGHTS", help=".caffemodel")
    parser.add_argument("net", metavar="NET", help="net prototxt with a layer that reads data")
    parser.add_argument("blobs", metavar="BLOB[,BLOB]", type=flags.comma_list)
    parser.add_argument("databases", metavar="DB[,DB]", type=flags.comma_list, help="one for each blob")
    parser.add_argument("batches", metavar="N", type=number, help="batches to run, or all")
    parser.add_argument(
        "rest", metavar="[lmdb|leveldb] [CPU|GPU] [DEVICE_ID]", nargs="*", help="default: lmdb CPU; GPU 0"
    )
    parser.add_argument("--of", choices=("train", "test"), default="test", help="with all: whose records")
    return parser


def number(text: str) -> int | None:
    """argparse type: a number of batches; None for all records."""
    return None if text == "all" else int(text)


def main(argv: list[str]) -> int:
    arguments = parser().parse_intermixed_args(argv)  # --of anywhere
    backend, device = kind_and_device(arguments.rest)
    if len(arguments.blobs) != len(arguments.databases):
        raise ValueError(
            f"{len(arguments.blobs)} blobs want as many databases, got {len(arguments.databases)}"
        )
    for what, names in (("blob", arguments.blobs), ("database", arguments.databases)):
        if twice := flags.named_twice(names):
            raise ValueError(f"{what} {twice!r} is named twice")
    if arguments.batches is not None and arguments.batches < 1:
        raise ValueError(f"the number of batches must be at least 1, got {arguments.batches}")
    if arguments.batches is not None and arguments.of == "train":
        raise ValueError("--of train is of all records: give `all` in place of the number of batches")
    log, net = GlogLines(sys.stderr), arguments.net
    if arguments.of == "train":
        net = dump(reading_training_data(read_net(net).message))
    net = debug_info.as_told(net, log.line, phase="TEST", weights=arguments.weights).to(device)
    for blob in arguments.blobs:
        if blob not in net.shapes:
            raise ValueError(f"{arguments.net} has no blob {blob!r}; it has {', '.join(net.shapes)}")
        if not net.shapes[blob]:
            raise ValueError(f"blob {blob!r} is one number for the whole batch: name a blob [N, ...]")
    databases = dict(zip(arguments.blobs, arguments.databases, strict=True))
    if arguments.batches is None:
        count = extract_all(net, databases, backend)
    else:
        count = extract(net, databases, arguments.batches, backend)
    for blob, path in databases.items():
        print(f"Extracted features of {count} query images for feature blob {blob} to {path}")
    return 0


def kind_and_device(words: list[str]) -> tuple[str, torch.device]:
    """Caffe's last arguments: the database's kind, then CPU or GPU and the device's number."""
    words = list(words)
    backend = words.pop(0).lower() if words and words[0].lower() in BACKENDS else "lmdb"
    if not words or words == ["CPU"]:
        return backend, flags.device(None)
    number = words[1].removeprefix("DEVICE_ID=") if len(words) == 2 else "0"
    if words[0] != "GPU" or len(words) > 2 or not number.isdecimal():
        raise ValueError(
            f"after the number of batches come [lmdb|leveldb] [CPU|GPU] [DEVICE_ID], got {' '.join(words)}"
        )
    return backend, flags.device(number)


@torch.no_grad()
def extract(net: Net, databases: dict[str, str], batches: int, backend: str = "lmdb") -> int:
    """Writes each blob to its database; the number of records."""
    from tqdm import tqdm

    with contextlib.ExitStack() as stack:
        writers = {
            blob: stack.enter_context(DatabaseWriter(path, engine(backend)))
            for blob, path in databases.items()
        }
        counts = dict.fromkeys(databases, 0)
        for _ in tqdm(range(batches), unit=" batches", disable=not os.isatty(2), leave=False):
            net()
            for blob, writer in writers.items():
                for value in net.blobs[blob].float().cpu():
                    writer.put(b"%010d" % counts[blob], datum(value))
                    counts[blob] += 1
    return max(counts.values())


@torch.no_grad()
def extract_all(net: Net, databases: dict[str, str], backend: str = "lmdb") -> int:
    """Writes each blob for every record of the net's Data layer, by key, with its label; their number."""
    from tqdm import tqdm

    loader = data_node(net).layer.loader
    with contextlib.ExitStack() as stack:
        writers = {
            blob: stack.enter_context(DatabaseWriter(path, engine(backend)))
            for blob, path in databases.items()
        }
        bar = stack.enter_context(
            tqdm(total=len(loader), unit=" records", disable=not os.isatty(2), leave=False)
        )
        for start in range(0, len(loader), loader.batch_size):
            images, labels = loader.records(start, min(loader.batch_size, len(loader) - start))
            feed(net, loader.transformer.view(images, CENTRE))
            for blob, writer in writers.items():
                for i, value in enumerate(net.blobs[blob].float().cpu()):
                    writer.put(loader.source.reader.key(start + i), datum(value, int(labels[i])))
            bar.update(len(labels))
    return len(loader)


def datum(value: torch.Tensor, label: int | None = None) -> bytes:
    """The record of one image's blob, [D], [C, H] or [C, H, W] (Caffe: tools/extract_features.cpp)."""
    if value.dim() > 3:
        raise ValueError(f"a Datum holds [C, H, W], got {list(value.shape)}")
    channels, height, width = [*value.shape, 1, 1, 1][:3]
    record = pb.Datum(channels=channels, height=height, width=width)
    record.float_data.extend(value.flatten().tolist())
    if label is not None:
        record.label = label
    return record.SerializeToString()
