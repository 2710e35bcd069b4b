"""Arrays by name out of .npz files of others: nothing in them is run."""

import os
import tokenize
import zipfile
import zlib

import numpy as np

_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,  # of numpy, which reads a header as Python's
    EOFError,
    ValueError,
    OverflowError,
    MemoryError,
    RuntimeError,
)


def read_npz(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Name -> array. Raises OSError where the file cannot be read, ValueError where it is damaged or holds
    anything but plain arrays.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = {}
            for name in archive.namelist():
                with archive.open(name) as member:
                    arrays[name.removesuffix(".npy")] = np.lib.format.read_array(member, allow_pickle=False)
            return arrays
    except _DAMAGE as error:
        raise ValueError(f"{os.fspath(path)} is no whole .npz file of plain arrays: {error}") from None
