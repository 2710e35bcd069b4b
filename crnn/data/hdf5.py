"""HDF5 files as batches, and batches as an HDF5 file.

Caffe: src/caffe/layers/{hdf5_data,hdf5_output}_layer.cpp, src/caffe/util/hdf5.cpp.
"""

import os
from collections.abc import Sequence

import numpy as np

from crnn.data.loader import Loader, endless
from crnn.data.records import Share
from crnn.proto.hdf5 import h5py


class HDF5Files:
    """The rows of the data sets `names` of all files that the text file `source` lists, one a line.

    Every file holds all the sets, a row a record, of the same shapes. Raises OSError and ValueError naming
    the file that is missing, no HDF5, or unlike the first.
    """

    def __init__(self, source, names: Sequence[str]):
        self.source, self.names = os.fspath(source), list(names)
        if not os.path.exists(self.source):
            raise FileNotFoundError(f"there is no list of HDF5 files {self.source}")
        with open(self.source, encoding="utf-8", errors="surrogateescape") as lines:
            self.files = lines.read().split()
        if not self.files:
            raise ValueError(f"{self.source} names no HDF5 files")
        found = [self._shapes(path) for path in self.files]
        self.rows = [shapes[0][0] for shapes in found]
        self.shapes = [shape[1:] for shape in found[0]]
        for path, shapes in zip(self.files, found, strict=True):
            if [shape[1:] for shape in shapes] != self.shapes:
                raise ValueError(f"{path} holds {shapes}, which differs from {self.files[0]}, {found[0]}")

    def _open(self, path):
        if not os.path.exists(path):
            raise FileNotFoundError(f"{self.source} names {path}, which does not exist")
        try:
            return h5py().File(path, "r")
        except OSError as error:
            raise OSError(f"{path} cannot be read as HDF5 ({error})") from None

    def _shapes(self, path) -> list[tuple[int, ...]]:
        with self._open(path) as file:
            missing = [name for name in self.names if name not in file]
            if missing:
                raise ValueError(f"{path} has no data set {missing[0]!r}, only {', '.join(file)}")
            shapes = [file[name].shape for name in self.names]
        if not all(shapes) or len({shape[0] for shape in shapes}) != 1 or shapes[0][0] == 0:
            raise ValueError(f"{path}: the data sets {self.names} need as many rows each, got {shapes}")
        return shapes

    def __len__(self) -> int:
        return sum(self.rows)

    def load(self, file: int) -> list[np.ndarray]:
        """All rows of a file, float32, an array a data set."""
        with self._open(self.files[file]) as content:
            return [np.asarray(content[name][()], np.float32) for name in self.names]


class HDF5Loader(Loader):
    """Batches of HDF5Files, a float32 array [batch_size, ...] a data set; a file at a time is in memory.

    With `shuffle` every pass has its own order of the files, and of the rows within each file.
    """

    def __init__(self, files: HDF5Files, batch_size: int, seed=None, shuffle: bool = False):
        super().__init__(batch_size, seed)
        self.files, self.shuffle = files, shuffle
        self.top_shapes = [(batch_size, *shape) for shape in files.shapes]

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.files)

    def _batches(self):
        place = self.seed, self.position, self.share
        return _batches(self.files, self.shuffle, self.batch_size, *place)


def _batches(files: HDF5Files, shuffle: bool, batch_size: int, seed: int, position: int, share: Share):
    """(position after it, no problems, array, ...) of each batch; no method, so that its thread keeps no
    loader alive."""
    rows = share.of(_rows(files, shuffle, seed, position))
    while True:
        batch = [np.empty((batch_size, *shape), np.float32) for shape in files.shapes]
        for i in range(batch_size):
            for top, value in zip(batch, next(rows), strict=True):
                top[i] = value
        position += share.ranks * batch_size
        yield position, (), *batch


def _rows(files: HDF5Files, shuffle: bool, seed: int, position: int):
    """The values of each row from `position` on, round and round."""
    passes, skip = divmod(position, len(files))
    order, loaded = endless(len(files.files), shuffle, seed, passes * len(files.files)), None
    for turn, number in enumerate(order, passes * len(files.files)):
        if skip >= files.rows[number]:
            skip -= files.rows[number]
            continue
        if loaded is None or loaded[0] != number:  # a single file is read once
            loaded = number, files.load(number)
        rows = np.random.default_rng([seed, 2, turn]).permutation if shuffle else np.arange
        for row in rows(files.rows[number])[skip:]:
            yield [values[row] for values in loaded[1]]
        skip = 0


class HDF5Writer:
    """Appends rows to the data sets of a new HDF5 file. Raises OSError where it cannot be written."""

    def __init__(self, path):
        self.path = os.fspath(path)
        try:
            self._file = h5py().File(self.path, "w")
        except OSError as error:
            raise OSError(f"cannot write {self.path} ({error})") from None

    def append(self, **rows: np.ndarray) -> None:
        """Adds float32 rows to each named data set; the file is whole after every call."""
        for name, values in rows.items():
            if name not in self._file:
                shape = values.shape[1:]
                self._file.create_dataset(name, (0, *shape), np.float32, maxshape=(None, *shape))
            data = self._file[name]
            data.resize(len(data) + len(values), axis=0)
            data[len(data) - len(values) :] = values
        self._file.flush()

    def close(self) -> None:
        self._file.close()
