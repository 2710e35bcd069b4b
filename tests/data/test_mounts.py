"""Network file systems are known by the table of mounts, and told of once."""

import logging

import pytest

from crnn.data import mounts
from crnn.data.lmdb_reader import LmdbReader
from crnn.data.lmdb_writer import LmdbWriter

TABLE = """\
/dev/vda1 / ext4 rw,relatime 0 0
proc /proc proc rw 0 0
nas:/sets /data nfs4 rw,vers=4.2 0 0
/dev/nvme0n1 /data/fast xfs rw 0 0
//server/share /mnt/with\\040space cifs rw 0 0
10.0.0.1@tcp:/scratch /lustre lustre rw 0 0
sshfs#me@host: /home/me/far fuse.sshfs rw 0 0
/dev/sdb1 /usb fuse.ntfs-3g rw 0 0
old:/x /twice nfs rw 0 0
tmpfs /twice tmpfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/data/imagenet/train_lmdb", "nfs4"),
        ("/data", "nfs4"),
        ("/data/fast/train_lmdb", None),
        ("/database", None),
        ("/mnt/with space/db", "cifs"),
        ("/lustre/a/../b", "lustre"),
        ("/home/me/far/db", "fuse.sshfs"),
        ("/home/me/near/db", None),
        ("/usb/db", None),
        ("/twice/db", None),
    ],
)
def test_the_innermost_mount_decides(path, kind):
    assert mounts.network_type(path, TABLE) == kind


@pytest.mark.parametrize("table", ["", "\n", "no table", "a b", "nas:/x relative nfs rw 0 0"])
def test_a_table_of_another_form_says_nothing(table):
    assert mounts.network_type("/data", table) is None


def test_without_a_table_nothing_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(mounts, "TABLE", str(tmp_path / "none"))
    assert mounts.network_type(tmp_path) is None


def test_reading_and_writing_there_is_told_once_with_the_cure(tmp_path, monkeypatch, caplog):
    (tmp_path / "mounts").write_text(f"nas:/x {tmp_path} nfs rw 0 0\n")
    monkeypatch.setattr(mounts, "TABLE", str(tmp_path / "mounts"))
    path = tmp_path / "db"
    with caplog.at_level(logging.WARNING, "crnn.data"):
        with LmdbWriter(path) as writer:
            writer.put(b"a", b"b")
        for _ in range(2):
            assert list(LmdbReader(path).items()) == [(b"a", b"b")]
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}.partial is written over a network (nfs); write it on a local disk and copy it: a damaged "
        "database may be the result",
        f"{path} is read over a network (nfs); copy it to a local disk first: where the server falters, the "
        "process ends with SIGBUS",
    ]
