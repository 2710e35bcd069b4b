"""Level 5 MAT-files as scipy 1.17 writes them (files/*.mat, by savemat with do_compression)."""

import contextlib
from pathlib import Path

import numpy as np
import pytest

from crnn.data_tools._matfile import read_variable

FILES = Path(__file__).parent / "files"


def test_a_structure_array_like_ilsvrcs():
    rows = read_variable((FILES / "meta.mat").read_bytes(), "synsets")
    assert [row["WNID"] for row in rows] == ["n02119789", "n02100735", "n00001740"]
    assert [row["ILSVRC2012_ID"].item() for row in rows] == [1, 2, 1001]
    assert rows[0]["words"] == "kit fox, Vulpes macrotis" and rows[0]["children"].size == 0
    assert rows[2]["children"].tolist() == [[1, 2]] and rows[2]["num_children"].item() == 2


def test_a_label_map_like_sbds_with_sparse_boundaries():
    (labels,) = read_variable((FILES / "cls.mat").read_bytes(), "GTcls")
    want = [[0, 0, 15, 15, 0], [0, 15, 15, 20, 0], [0, 0, 0, 20, 20]]
    assert labels["Segmentation"].dtype == np.uint8 and labels["Segmentation"].tolist() == want
    assert labels["CategoriesPresent"].tolist() == [[15], [20]]
    assert labels["Boundaries"] == [None, None]


def test_a_plain_matrix_is_in_columns():
    unused = read_variable((FILES / "meta.mat").read_bytes(), "unused")
    assert unused.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_what_is_no_such_file_is_said():
    with pytest.raises(ValueError, match="not a MAT-file of level 5"):
        read_variable(b"MATLAB 7.3 MAT-file".ljust(600), "synsets")
    with pytest.raises(ValueError, match="without the variable GTcls"):
        read_variable((FILES / "meta.mat").read_bytes(), "GTcls")


def test_a_file_cut_or_flipped_anywhere_is_a_value_error_or_readable():
    whole = (FILES / "cls.mat").read_bytes()
    for at in range(128, len(whole)):
        flipped = bytearray(whole)
        flipped[at] ^= 0x5A
        for data in (whole[:at], bytes(flipped)):
            with contextlib.suppress(ValueError):
                read_variable(data, "GTcls")
