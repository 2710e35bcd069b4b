"""Lines of progress where there is no terminal."""

import itertools

from crnn.data_tools import _progress
from crnn.data_tools._progress import watched


def test_caffes_lines_and_the_time_that_is_left(capsys, monkeypatch):
    clock = itertools.count(0, 50)
    monkeypatch.setattr(_progress.time, "monotonic", lambda: next(clock))
    assert list(watched(range(30, 1000), "train_lmdb", 1000, each=20, done=30)) == list(range(30, 1000))
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "Processed 40 files."
    assert said[9] == "train_lmdb: 20% of 1,000 images, 3 a second, 0:04 h left"
    assert said[-1] == "Processed 980 files."


def test_work_of_unknown_length(capsys):
    list(watched(range(25), "expand x.tar.gz", each=10, unit="times 16 MB"))
    assert capsys.readouterr().out == "expand x.tar.gz: 10 times 16 MB\nexpand x.tar.gz: 20 times 16 MB\n"
