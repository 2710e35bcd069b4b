"""Nets that read files, with every option of their layers that draws nothing at random."""

from itertools import product
from pathlib import Path

import cv2
import h5py
import numpy as np

from crnn.data.datum import encode
from crnn.data.leveldb_writer import LevelDbWriter
from crnn.data.lmdb_writer import LmdbWriter
from crnn.proto.blobs import write_mean

from .both import Case

#: (background, foreground) boxes of a 46x34 image: inside, all of it, at corners, thin.
BOXES = [
    ("5 5 20 20", "10 3 40 30"),
    ("0 0 45 33", "1 2 5 30"),
    ("30 20 45 33", "0 0 7 7"),
    ("12 3 14 30", "2 28 44 33"),
]


def cases(folder: Path):
    """(layer type, Case) of each net; writes what they read into `folder`."""
    rng = np.random.default_rng(0)
    for i in range(4):
        noise = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
        image = cv2.resize(noise, (40 + 6 * i, 30 + 4 * i), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(f"{folder}/{i} a.png", image)
    (folder / "list.txt").write_text("".join(f"{i} a.png {i}\n" for i in range(4)))
    write_mean(folder / "mean.binaryproto", rng.uniform(0, 255, (3, 24, 24)).astype(np.float32))
    yield from images(folder)
    yield from windows(folder)
    yield from rows(folder)
    yield from databases(folder)


def reads(layer_type: str, text: str, tops: str = "x t", batches: int = 1):
    names = " ".join(f'top: "{top}"' for top in tops.split())
    text = f'layer {{ name: "d" type: "{layer_type}" {names} {text} }}'
    return layer_type, Case(text, phase="TEST", backward=False, force=False, forwards=batches)


def images(folder):
    for color, size, batches in product(("true", "false"), ("", "new_height: 33 new_width: 29"), (1, 3)):
        text = f'source: "{folder}/list.txt" root_folder: "{folder}/" is_color: {color} {size}'
        batch = 3 if size else 1
        transform = "transform_param { scale: 0.5 crop_size: 20 mean_value: 3 }"
        yield reads(
            "ImageData", f"image_data_param {{ {text} batch_size: {batch} }} {transform}", batches=batches
        )


def windows(folder):
    (folder / "1.png").write_bytes((folder / "1 a.png").read_bytes())  # a window file's paths have no blanks
    means = ("", f'mean_file: "{folder}/mean.binaryproto"', "mean_value: 1 mean_value: 2 mean_value: 3")
    for i, (background, foreground) in enumerate(BOXES):
        path = folder / f"windows{i}.txt"
        path.write_text(f"# 0\n{folder}/1.png\n3 34 46\n2\n2 0.9 {foreground}\n1 0.1 {background}\n")
        for context, mode, mean in product((0, 2, 4), ("warp", "square"), means):
            text = f'source: "{path}" batch_size: 4 fg_fraction: 0.5 scale: 0.25'
            text += f' context_pad: {context} crop_mode: "{mode}"'
            transform = f"transform_param {{ crop_size: 20 {mean} }}"
            yield reads("WindowData", f"window_data_param {{ {text} }} {transform}")


def databases(folder):
    for writer, backend in (
        (LmdbWriter, "backend: LMDB"),
        (LevelDbWriter, "backend: LEVELDB"),
        (LevelDbWriter, ""),
    ):
        source = folder / f"{writer.__name__}{len(backend)}"
        with writer(source) as db:
            for i in range(4):
                image = cv2.imread(f"{folder}/{i} a.png")[:30, :40]
                db.put(b"%08d_%d a.png" % (i, i), encode(np.ascontiguousarray(image.transpose(2, 0, 1)), i))
        for batches in (1, 3):
            text = f'data_param {{ source: "{source}" batch_size: 3 {backend} }}'
            transform = "transform_param { scale: 0.5 crop_size: 20 mean_value: 3 }"
            yield reads("Data", f"{text} {transform}", batches=batches)


def rows(folder):
    for name, numbers, kind in (("a", range(3), np.int32), ("b", range(3, 8), np.float64)):
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file["data"] = np.array([[n, -n] for n in numbers], np.float32)
            file["label"] = np.array(numbers, kind)
    (folder / "files.txt").write_text(f"{folder}/a.h5\n{folder}/b.h5\n")
    for batch, batches in ((1, 1), (5, 1), (5, 4), (20, 2)):
        text = f'hdf5_data_param {{ source: "{folder}/files.txt" batch_size: {batch} }}'
        yield reads("HDF5Data", text, "data label", batches)
