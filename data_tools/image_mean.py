"""The mean image of an LMDB or LevelDB: Caffe's compute_image_mean.

Writes a .binaryproto for `mean_file` and prints each channel's mean, which `mean_value` takes. Sums are exact
for 8-bit pixels, where Caffe's float32 sums drift on large sets.

  crnn data mean train_lmdb mean.binaryproto
"""

import argparse
import itertools

import numpy as np

from crnn.data.databases import BACKENDS
from crnn.data.records import Records
from crnn.data_tools._convert import flag, run
from crnn.data_tools._progress import watched
from crnn.proto.blobs import write_mean

CHUNK_BYTES = 8 << 20  # of records summed at once


def image_mean(source, backend: str | None = None) -> np.ndarray:
    """float64 [C, H, W], the mean of all records. Raises as `Records` does."""
    records = Records(source, backend=backend)
    chunk = max(1, CHUNK_BYTES // int(np.prod(records.shape)))
    items = watched(records.reader.items(copy=False), "mean", len(records), each=10_000)
    total = np.zeros(records.shape, np.float64)
    for _ in range(0, len(records), chunk):
        images = np.stack([records.read(*item)[0] for item in itertools.islice(items, chunk)])
        total += images.sum(axis=0, dtype=np.uint64 if images.dtype == np.uint8 else np.float64)
    return total / len(records)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="crnn data mean", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flag(parser, "backend", choices=BACKENDS, help="the database's kind (default: what it is)")
    parser.add_argument("database", metavar="DB", help="folder of the database")
    parser.add_argument("mean", metavar="MEAN", nargs="?", help="the .binaryproto to write; none: only print")
    args = parser.parse_args(argv)
    mean = image_mean(args.database, args.backend)
    if args.mean:
        write_mean(args.mean, mean.astype(np.float32))
        print(f"{args.mean}: the mean of {args.database}, {' x '.join(map(str, mean.shape))}")
    for channel, value in enumerate(mean.mean(axis=(1, 2))):
        print(f"mean_value channel [{channel}]: {value:g}")
    return 0


if __name__ == "__main__":
    run(main)
