"""Archives: read where they lie, refused where they are hostile, an error where they are damaged."""

import contextlib
import gzip
import io
import shutil
import tarfile

import numpy as np
import pytest

from crnn.data_tools import _archive
from crnn.data_tools._archive import Folder, Tar, Zip, read

LONG = "a/" + "b" * 150 + "/c d.jpg"
FILES = {"a/one.jpg": b"1" * 700, LONG: b"22", "empty": b"", "./dot//two.txt": b"3" * 512}


def everything(files) -> dict[str, bytes]:
    return {name: read(files.source(name)) for name in files.names()}


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.tgz"])
def test_the_files_of_a_tar(tar, tmp_path, form, name):
    tar(tmp_path / name, FILES, form)
    files = Tar(tmp_path / name, tmp_path / "work")
    assert everything(files) == {
        "a/one.jpg": b"1" * 700,
        LONG: b"22",
        "empty": b"",
        "dot/two.txt": b"3" * 512,
    }
    assert list(files.names("a")) == ["a/" + "b" * 150 + "/c d.jpg", "a/one.jpg"]
    assert "empty" in files and "nothing" not in files
    with pytest.raises(FileNotFoundError, match="holds no nothing"):
        read(files.source("nothing"))


def test_names_that_are_not_utf_8(tar, tmp_path):
    tar(tmp_path / "x.tar", {"caf\udce9": b"1"})
    files = Tar(tmp_path / "x.tar", tmp_path / "work")
    assert everything(files) == {"caf\udce9": b"1"}
    assert everything(Tar(tmp_path / "x.tar", tmp_path / "work")) == everything(files)  # from the kept index


def test_a_tar_of_tars(tar, tmp_path):
    inner = {}
    for name in ("n02", "n01"):
        tar(tmp_path / f"{name}.tar", {f"{name}_1.JPEG": name.encode(), f"{name}_2.JPEG": b"2"})
        inner[f"{name}.tar"] = (tmp_path / f"{name}.tar").read_bytes()
    tar(tmp_path / "train.tar", inner)
    files = Tar(tmp_path / "train.tar", tmp_path / "work", nested=True)
    assert list(files.names()) == ["n01/n01_1.JPEG", "n01/n01_2.JPEG", "n02/n02_1.JPEG", "n02/n02_2.JPEG"]
    assert read(files.source("n02/n02_1.JPEG")) == b"n02"


def test_another_archive_of_the_same_name_is_indexed_anew(tar, tmp_path):
    for data in (b"1", b"22"):
        for name in ("x.tar", "y.tar.gz"):
            tar(tmp_path / name, {"file": data})
            assert read(Tar(tmp_path / name, tmp_path / "work").source("file")) == data


# ---- hostile ----


def _with_member(path, name="good", kind=tarfile.REGTYPE, link="", size=0):
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size = kind, link, size
        archive.addfile(info, io.BytesIO(bytes(size)))


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/etc/passwd", "..", "a\\..\\..\\out"])
def test_names_that_lead_out_are_refused(tmp_path, name):
    _with_member(tmp_path / "x.tar", name)
    with pytest.raises(ValueError, match=r"x\.tar is refused: the name .* leads out of it"):
        Tar(tmp_path / "x.tar", tmp_path / "work")
    with pytest.raises(ValueError, match="leads out of it"):
        Folder(tmp_path).source(name)
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.CHRTYPE, "neither a file nor a folder"),
        (tarfile.FIFOTYPE, "neither a file nor a folder"),
    ],
)
def test_links_and_devices_are_refused(tmp_path, kind, what):
    _with_member(tmp_path / "x.tar", "evil", kind, "/etc/passwd")
    with pytest.raises(ValueError, match=rf"x\.tar is refused: its member evil is {what}"):
        Tar(tmp_path / "x.tar", tmp_path / "work")


def test_a_member_of_absurd_size_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(_archive, "MAX_MEMBER", 1000)
    monkeypatch.setattr(_archive._members, "__defaults__", (1000,))
    _with_member(tmp_path / "x.tar", "big", size=1001)
    with pytest.raises(ValueError, match="its member big has 1,001 bytes"):
        Tar(tmp_path / "x.tar", tmp_path / "work")


def test_a_compressed_tar_that_expands_beyond_measure_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(_archive, "FREE_BYTES", 1 << 20)
    monkeypatch.setattr(_archive, "COPY_BYTES", 1 << 18)
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(bytes(4 << 20)))
    with pytest.raises(ValueError, match=r"x\.tar\.gz is refused: it expands to more than 1,048,576 bytes"):
        Tar(tmp_path / "x.tar.gz", tmp_path / "work")


def test_a_compressed_tar_larger_than_the_disk_is_refused_at_once(tar, tmp_path, monkeypatch):
    tar(tmp_path / "x.tar.gz", FILES)
    monkeypatch.setattr(_archive.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
    with pytest.raises(OSError, match=r"x\.tar\.gz is to be expanded in .* or more, 0\.0 GB are free"):
        Tar(tmp_path / "x.tar.gz", tmp_path / "work")


def test_a_name_of_absurd_length_is_refused(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("a" * 70_000))
    with pytest.raises(ValueError, match=r"is refused: a name of 70,001 bytes"):
        Tar(tmp_path / "x.tar", tmp_path / "work")


@pytest.mark.parametrize("magic", [b"BZh91AY", b"\xfd7zXZ\0", b"PK\3\4"])
def test_other_archives_are_named(tmp_path, magic):
    (tmp_path / "x.tar").write_bytes(magic + bytes(2000))
    with pytest.raises(ValueError, match=r"is neither a tar nor a \.tar\.gz: unpack it"):
        Tar(tmp_path / "x.tar", tmp_path / "work")


# ---- damaged ----


def test_a_tar_cut_anywhere_is_an_error(tar, tmp_path):
    tar(tmp_path / "x.tar", FILES)
    whole = (tmp_path / "x.tar").read_bytes()
    end = len(whole.rstrip(b"\0")) + 512 & ~511  # what follows are the blocks of zeros that mark the end
    for size in [*range(0, end, 97), *range(0, end, 512)]:
        (tmp_path / "x.tar").write_bytes(whole[:size])
        with pytest.raises(OSError, match=r"x\.tar (is cut off|is damaged)"):
            Tar(tmp_path / "x.tar", tmp_path / "work")


def test_a_damaged_header_is_an_error_and_not_the_end(tar, tmp_path):
    tar(tmp_path / "x.tar", {"a": b"1", "b": b"2"})
    data = bytearray((tmp_path / "x.tar").read_bytes())
    data[1024 + 20] ^= 1
    (tmp_path / "x.tar").write_bytes(data)
    with pytest.raises(OSError, match=r"x\.tar is damaged at byte 1,024 \(bad checksum\)"):
        Tar(tmp_path / "x.tar", tmp_path / "work")


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_gzip_is_an_error(tar, tmp_path, damage):
    tar(tmp_path / "x.tar.gz", {"a": bytes(range(256)) * 40})
    data = bytearray((tmp_path / "x.tar.gz").read_bytes())
    if damage == "cut":
        del data[-20:]
    else:
        data[-6] ^= 255  # of the checksum
    (tmp_path / "x.tar.gz").write_bytes(data)
    with pytest.raises(OSError, match=r"x\.tar\.gz is cut or damaged"):
        Tar(tmp_path / "x.tar.gz", tmp_path / "work")
    assert not [path for path in (tmp_path / "work").rglob("*") if path.is_file()]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_headers_with_any_bytes_and_a_right_checksum_end_in_an_error_or_a_name(tar, tmp_path, form):
    tar(tmp_path / "x.tar", FILES, form)
    whole, rng = (tmp_path / "x.tar").read_bytes(), np.random.default_rng(0)
    for _ in range(1000):
        data = bytearray(whole)
        block = 512 * int(rng.integers(len(whole) // 512))
        data[block + int(rng.integers(512))] = int(rng.integers(256))
        data[block + 148 : block + 156] = b" " * 8
        data[block + 148 : block + 156] = b"%06o\0 " % sum(data[block : block + 512])
        with contextlib.suppress(OSError, ValueError):
            members = list(_archive._members(io.BytesIO(data), "x.tar", len(data)))
            assert all(0 <= m.offset <= m.offset + m.size <= len(data) for m in members)


def test_a_damaged_zip_is_an_error(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"PK\3\4" + bytes(100))
    with pytest.raises(OSError, match=r"x\.zip is damaged"):
        Zip(tmp_path / "x.zip")
