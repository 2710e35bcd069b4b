"""Times the data path: records of 256×256 on the disk to batches of 227×227 in host memory, cut and mirrored.

  python benchmarks/data_path.py

In one run, taking turns: our Data layer's loader on an LMDB of raw records and on one of JPEGs, as bytes
(what crosses to a GPU) and as float32 less the mean (what a net on the CPU reads); the bare decoder in as
many threads, its images dropped or kept; torch's DataLoader over a folder of the same JPEGs; and, where
`make oracle` has built it, the real Caffe's Data layer. Nothing is timed before the pixels of all agree. The
images are drawn: noise enlarged, with grain.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

if not __package__:  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = "benchmarks"
import cv2
import numpy as np
import torch

from crnn.data.datum import encode, encode_file
from crnn.data.lmdb_writer import LmdbWriter
from crnn.data.loader import BatchLoader
from crnn.data.pieces import THREADS, thread_count
from crnn.data.records import Records
from crnn.host_memory import keep_freed
from crnn.proto import pb

from . import machine, run, table, timing
from .real_caffe import ORACLE, RealCaffe

SIDE, CROP, BATCH, AHEAD = 256, 227, 64, 4  # AHEAD: batches that loaders hold ready, not timed
MEAN = (104.0, 117.0, 123.0)
TRANSFORM = pb.TransformationParameter(crop_size=CROP, mirror=True, mean_value=MEAN)
#: () -> context of a function that gives the next batch: pixels or values, [N, 3, h, w]
Contestant = Callable[[], object]


def draw(folder: Path, count: int) -> int:
    """Makes raw/, jpeg/ (LMDBs) and files/ of the same images; the mean size of a JPEG in bytes."""
    rng, total = np.random.default_rng(0), 0
    (folder / "files").mkdir()
    with LmdbWriter(folder / "raw") as raw, LmdbWriter(folder / "jpeg") as jpeg:
        for i in range(count):
            coarse = rng.integers(0, 256, (24, 24, 3), np.uint8)
            image = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
            image = np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)
            file = cv2.imencode(".jpg", image)[1].tobytes()
            key = b"%08d" % i
            raw.put(key, encode(cv2.imdecode(np.frombuffer(file, np.uint8), 1).transpose(2, 0, 1), i % 1000))
            jpeg.put(key, encode_file(file, i % 1000))
            (folder / "files" / f"{i:08d}.jpg").write_bytes(file)
            total += len(file)
    return total // count


@contextmanager
def ours(source: Path, pixels: bool) -> Iterator[Callable]:
    with closing(BatchLoader(source, BATCH, TRANSFORM, pb.TRAIN, seed=1, prefetch=AHEAD)) as loader:
        loader.deliver_pixels(pixels)
        yield lambda: loader.next()[0]


class Folder(torch.utils.data.Dataset):
    """What a user writes without torchvision: decode, crop, mirror; the mean is left to the device."""

    def __init__(self, folder: Path):
        self.paths = sorted(map(str, folder.iterdir()))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        image = cv2.imread(self.paths[i], cv2.IMREAD_COLOR)
        y, x, mirrored = torch.randint(2 * (SIDE - CROP + 1), (3,)).tolist()
        y, x = y // 2, x // 2
        image = image[y : y + CROP, x : x + CROP]
        if mirrored % 2:
            image = image[:, ::-1]
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))), i % 1000


@contextmanager
def torchs(folder: Path, workers: int) -> Iterator[Callable]:
    loader = torch.utils.data.DataLoader(Folder(folder), BATCH, num_workers=workers)

    def endless():
        while True:
            yield from (images.numpy() for images, _ in loader if len(images) == BATCH)

    with closing(endless()) as batches:
        yield lambda: next(batches)


@contextmanager
def bare(folder: Path, threads: int, kept: bool) -> Iterator[Callable]:
    """cv2.imdecode alone, of files that lie in memory; the images are dropped, or copied into a new batch."""
    files = [np.frombuffer(path.read_bytes(), np.uint8) for path in sorted(folder.iterdir())]
    place = 0

    with ThreadPoolExecutor(threads) as pool:

        def batch() -> np.ndarray:
            nonlocal place
            some = [files[(place + i) % len(files)] for i in range(BATCH)]
            place += BATCH
            images = np.empty((BATCH if kept else 0, SIDE, SIDE, 3), np.uint8)

            def decode(first: int) -> None:
                for i in range(first, BATCH, threads):
                    image = cv2.imdecode(some[i], cv2.IMREAD_UNCHANGED)
                    if kept:
                        images[i] = image

            list(pool.map(decode, range(threads)))
            return images

        yield batch


@contextmanager
def caffes(source: Path) -> Iterator[Callable]:
    """Its Data layer reads and decodes in one thread of its own, and gives float32 less the mean."""
    means = " ".join(f"mean_value: {value}" for value in MEAN)
    text = f"""layer {{ name: "data" type: "Data" top: "data" top: "label"
      data_param {{ source: "{source}" backend: LMDB batch_size: {BATCH} prefetch: {AHEAD} }}
      transform_param {{ crop_size: {CROP} mirror: true {means} }} }}
    layer {{ name: "silence" type: "Silence" bottom: "data" bottom: "label" }}"""
    with RealCaffe(text, {}, 1) as caffe:

        def batch() -> None:
            caffe.timer()

        batch.array = lambda: caffe.array("data", "data").numpy()
        yield batch


def contestants(folder: Path, kind: str, threads: int) -> dict[str, Contestant]:
    """Who gives the batches of row `kind`, "raw" or "jpeg"."""
    found = {
        "crnn, bytes": partial(ours, folder / kind, True),
        "crnn, float32": partial(ours, folder / kind, False),
    }
    if kind == "jpeg":
        found["bare decoder"] = partial(bare, folder / "files", threads, False)
        found["bare decoder, kept"] = partial(bare, folder / "files", threads, True)
        for workers in (0, 2) if threads > 1 else (0,):
            found[f"DataLoader, {workers} workers"] = partial(torchs, folder / "files", workers)
    if ORACLE.exists():
        found["real Caffe, float32"] = partial(caffes, folder / kind)
    return found


def wrong(contestant: Contestant, images: np.ndarray) -> str:
    """Why the first batch is not made of crops of `images` [n, 3, 256, 256] in their order; or an empty text.

    Decoders differ by a grey level (the real Caffe's libjpeg), crops at different places by tens.
    """
    with contestant() as batch:
        got = batch()
        got = batch.array() if got is None else got
    if got.shape[1:] != (3, CROP, CROP):
        return ""  # the bare decoder's
    for i, image in enumerate(images[: len(got)].astype(np.float32)):
        seen = got[i] + np.array(MEAN, np.float32)[:, None, None] if got.dtype == np.float32 else got[i]
        ways = np.stack([seen, seen[:, :, ::-1]])  # as it is, and mirrored back
        few = ways[:, :, ::16, ::16]  # to find its place by; these pixels may lie on edges of JPEG's blocks
        crops = (
            image[:, y : y + CROP, x : x + CROP]
            for y in range(SIDE - CROP + 1)
            for x in range(SIDE - CROP + 1)
        )
        crop = min(crops, key=lambda crop: np.abs(few - crop[:, ::16, ::16]).mean((1, 2, 3)).min())
        if np.abs(ways - crop).mean((1, 2, 3)).min() > 3:
            return f"image {i} of the batch is no crop of image {i}"
    return ""


def timed(contestant: Contestant, batches: int) -> tuple[float, float]:
    """(wall, CPU of this process) milliseconds of `batches` batches, when what lay ready is used up."""
    with contestant() as batch:
        for _ in range(AHEAD + 1):
            batch()
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(batches):
            batch()
        return (time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3


def measure(folder: Path, kind: str, threads: int, arguments) -> dict:
    """A row: the contestants' times, or why one has none."""
    os.environ[THREADS] = str(threads)
    images, _ = Records(folder / "raw").batch(0, 4)
    who, refused = contestants(folder, kind, threads), {}
    for name in list(who):
        if reason := wrong(who[name], images):
            refused[name] = {"na": reason}
            del who[name]
    samples = {name: [] for name in who}
    for _ in range(arguments.runs):
        for name, contestant in who.items():
            samples[name].append(timed(contestant, arguments.batches))
    found = {}
    for name, times in samples.items():
        wall, cpu = zip(*times, strict=True)
        found[name] = {"wall": timing.spread(wall), "cpu_ms": statistics.median(cpu)}
    count = arguments.batches * BATCH
    return {"name": kind, "threads": threads, "images": count, "contestants": found | refused}


def rates(row: dict, who: str) -> tuple[float, float]:
    """Images a second: by the clock, and a second of processor time."""
    entry = row["contestants"][who]
    return tuple(1e3 * row["images"] / ms for ms in (entry["wall"]["ms"], entry["cpu_ms"]))


def text(result: dict, layout=table.terminal) -> str:
    lines = [["records", "threads", "who", "images/s", "p20-p80", "images/s of CPU time"]]
    for row in result["rows"]:
        for who, entry in row["contestants"].items():
            head = [row["name"], str(row["threads"]), who]
            if "na" in entry:
                lines.append([*head, entry["na"], "", ""])
                continue
            rate, per_core = rates(row, who)
            slow, fast = (1e3 * row["images"] / entry["wall"][p] for p in ("p80", "p20"))
            in_others = who.startswith(("real Caffe", "DataLoader, 2"))  # their time is not this process's
            lines.append(
                [*head, f"{rate:,.0f}", f"{slow:,.0f}-{fast:,.0f}", "" if in_others else f"{per_core:,.0f}"]
            )
    return layout(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="benchmarks/data_path.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--images", type=int, default=4000, help="drawn; 200 KB each in the raw LMDB (default 4000)")
    add("--batches", type=int, default=40, help=f"of {BATCH} images in a timed run (default 40)")
    add("--runs", type=int, default=7, help="of each contestant, in turn (default 7)")
    add("--threads", type=int, nargs="+", help="of decoding and cutting (default 1 and all cores)")
    add("--folder", type=Path, help="where the images are drawn (default a temporary one)")
    add("--out", type=Path, default=machine.RESULTS, metavar="FOLDER", help=machine.RESULTS_HELP)
    add("--markdown", action="store_true", help="print the table as markdown")
    arguments = parser.parse_args(argv)
    if arguments.runs < 2 or arguments.images < BATCH:
        raise ValueError(f"at least 2 runs and {BATCH} images, got {arguments.runs} and {arguments.images}")
    cv2.setNumThreads(1)
    keep_freed()  # as `crnn train`; for either side
    setup = {**machine.setup("cpu"), "opencv": cv2.__version__, "batch": BATCH}
    result = {"schema": run.SCHEMA, "setup": setup, "before": machine.state("cpu"), "rows": []}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        print("drawing the images", file=sys.stderr, flush=True)
        setup["jpeg_bytes"] = draw(Path(folder), arguments.images)
        for threads in arguments.threads or sorted({1, thread_count()}):
            for kind in ("raw", "jpeg"):
                print(f"{kind}, {threads} threads", file=sys.stderr, flush=True)
                result["rows"].append(measure(Path(folder), kind, threads, arguments))
    result["after"] = machine.state("cpu")
    print(", ".join(f"{k} {v}" for k, v in {**setup, **result["before"]}.items()))
    print(text(result, table.markdown if arguments.markdown else table.terminal))
    machine.write("data", result, arguments.out)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, OSError) as error:
        sys.exit(f"benchmarks/data_path.py: {error}")
