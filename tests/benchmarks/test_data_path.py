"""benchmarks/data_path.py: every contestant gives the images it is timed for, and the table says so."""

import json

import numpy as np
import pytest

from benchmarks import data_path
from crnn.data.records import Records


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    data_path.draw(folder, 70)
    return folder


@pytest.mark.parametrize("kind", ["raw", "jpeg"])
def test_all_contestants_give_crops_of_the_images(folder, kind):
    images, _ = Records(folder / "raw").batch(0, 4)
    for name, contestant in data_path.contestants(folder, kind, 1).items():
        assert data_path.wrong(contestant, images) == "", name


def test_other_images_are_found_out(folder):
    images = np.zeros((4, 3, 256, 256), np.uint8)
    contestant = data_path.contestants(folder, "raw", 1)["crnn, bytes"]
    assert data_path.wrong(contestant, images) == "image 0 of the batch is no crop of image 0"


def test_the_program_writes_a_result_and_a_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(data_path.THREADS, "1")
    monkeypatch.setattr(data_path, "ORACLE", tmp_path / "none")
    options = ["--batches", "1", "--threads", "1", "--out", str(tmp_path)]
    assert data_path.main([*options, "--images", "64", "--runs", "2"]) == 0
    (path,) = tmp_path.glob("data_*.json")
    assert [row["name"] for row in json.loads(path.read_text())["rows"]] == ["raw", "jpeg"]
    assert "DataLoader, 0 workers" in capsys.readouterr().out
    with pytest.raises(ValueError, match="at least 2 runs and 64 images, got 1 and 64"):
        data_path.main([*options, "--images", "64", "--runs", "1"])
