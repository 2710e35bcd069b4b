"""convert_imageset: the real Caffe's databases record by record, and input that is not as it should be."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios

import cv2
import numpy as np
import pytest

from crnn.data.lmdb_reader import LmdbReader
from crnn.data_tools import imageset
from crnn.testing import ROOT, golden
from crnn.tools.data import datasets

CASES = ["raw_color", "raw_gray", "no_resize", "encoded_as_is", "encoded_png_resized"]


@pytest.fixture
def images():
    return f"{golden('tools/images')}/"


@pytest.fixture
def listed(tmp_path):
    """Writes a list of the given lines."""

    def write(*lines):
        (tmp_path / "list.txt").write_text("".join(f"{line}\n" for line in lines))
        return str(tmp_path / "list.txt")

    return write


def _pixels(datum) -> np.ndarray:
    data = np.frombuffer(datum.data, np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if datum.encoded else data


@pytest.mark.parametrize("case", CASES)
def test_databases_equal_those_of_caffe(case, images, tmp_path, contents):
    want = np.load(golden(f"tools/{case}.npz"))
    assert (
        imageset.main(
            [*str(want["flags"]).split(), images, str(golden("tools/list.txt")), str(tmp_path / "db")]
        )
        == 0
    )
    got = contents(tmp_path / "db")
    assert [key for key, _ in got] == want["keys"].tolist()
    assert [datum.label for _, datum in got] == want["labels"].tolist()
    assert [datum.encoded for _, datum in got] == want["encoded"].tolist()
    assert [[datum.channels, datum.height, datum.width] for _, datum in got] == want["shapes"].tolist()
    for i, (_, datum) in enumerate(got):
        stored = want[f"data/{i:03d}"]
        if case == "encoded_as_is":
            assert datum.data == stored.tobytes()
            continue
        pixels = cv2.imdecode(stored, cv2.IMREAD_UNCHANGED) if datum.encoded else stored
        off = np.abs(_pixels(datum).astype(int) - pixels)  # decoders may differ by a grey level or two
        assert off.max() <= 2 and np.mean(off > 0) <= 0.01


@pytest.mark.parametrize("case", ["raw_color", "encoded_as_is"])
def test_values_equal_caffes_byte_for_byte(case, images, tmp_path):
    flags = str(np.load(golden(f"tools/{case}.npz"))["flags"]).split()
    imageset.main([*flags, images, str(golden("tools/list.txt")), str(tmp_path / "db")])
    assert list(LmdbReader(tmp_path / "db").items()) == list(LmdbReader(golden(f"tools/{case}_lmdb")).items())


@pytest.mark.parametrize("style", ["-{}_{}", "--{}_{}", "-{}-{}", "--{}-{}"])
def test_every_spelling_of_a_flag(style, images, tmp_path, contents):
    flags = [style.format("resize", side) + f"={size}" for side, size in (("height", 6), ("width", 5))]
    imageset.main([*flags, "-gray", images, str(golden("tools/list.txt")), str(tmp_path / "db")])
    _, datum = contents(tmp_path / "db")[0]
    assert (datum.channels, datum.height, datum.width) == (1, 6, 5)


def test_shuffle_keeps_the_labels_and_numbers_the_new_order(images, tmp_path, contents):
    def convert(name, *flags):
        imageset.main([*flags, images, str(golden("tools/list.txt")), str(tmp_path / name)])
        return [(key, datum.label) for key, datum in contents(tmp_path / name)]

    plain, one, again = convert("a"), convert("b", "--shuffle"), convert("c", "--shuffle")
    other = convert("d", "--shuffle", "--seed=2")
    assert one == again != plain != other != one
    assert [key[:9] for key, _ in one] == [f"{i:08d}_" for i in range(12)]
    assert sorted((key[9:], label) for key, label in one) == sorted((key[9:], label) for key, label in plain)


def test_unreadable_images_are_skipped_counted_and_named(images, listed, tmp_path, contents, capsys):
    (tmp_path / "broken.jpg").write_bytes((golden("tools/images") / "astronaut/0.jpg").read_bytes()[:900])
    lines = [f"{images}coffee/0.jpg 2", "gone.jpg 1", f"{tmp_path}/broken.jpg 1", f"{images}coffee/1.jpg 2"]
    assert imageset.main(["", listed(*lines), str(tmp_path / "db")]) == 0
    assert [key[:8] for key, _ in contents(tmp_path / "db")] == ["00000000", "00000003"]
    said = capsys.readouterr().out
    assert "Processed 2 files." in said and "2 unreadable images skipped" in said
    assert "gone.jpg: No such file" in said and "broken.jpg: a truncated JPEG of 900 bytes" in said


def test_a_list_of_unreadable_images_makes_no_database(listed, tmp_path):
    with pytest.raises(
        ValueError, match=r"db would be empty: none of 2 .* read, first /nowhere/a.jpg: No such file"
    ):
        imageset.main(["/nowhere/", listed("a.jpg 0", "b.jpg 1"), str(tmp_path / "db")])
    with pytest.raises(ValueError, match="none of 0 images"):
        imageset.main(["/nowhere/", listed(), str(tmp_path / "db")])
    assert os.listdir(tmp_path) == ["list.txt"]


@pytest.mark.parametrize("root", ["{}", "{}/"])
def test_a_root_needs_no_slash(root, listed, tmp_path, contents):
    folder = root.format(golden("tools/images"))
    imageset.main([folder, listed("/coffee/3 crop.jpg 2", "", "coffee/0.jpg -1\r"), str(tmp_path / "db")])
    got = [(key, datum.label) for key, datum in contents(tmp_path / "db")]
    assert got == [("00000000_/coffee/3 crop.jpg", 2), ("00000001_coffee/0.jpg", -1)]


@pytest.mark.parametrize("line", ["a.jpg", "a.jpg x", "a.jpg 1.5", "a.jpg 3000000000"])
def test_a_line_without_a_label_is_named(line, listed, tmp_path):
    with pytest.raises(ValueError, match=r"list\.txt:2: .* is not `path label`"):
        imageset.main(["", listed("b.jpg 1", line), str(tmp_path / "db")])


def test_check_size_names_the_first_that_differs(images, tmp_path):
    with pytest.raises(
        ValueError, match=r"--check-size: b'00000001_astronaut/1.jpg' is \(3, .*, the first is \(3, 150, 166"
    ):
        imageset.main(["--check_size", images, str(golden("tools/list.txt")), str(tmp_path / "db")])
    assert os.listdir(tmp_path) == []


def test_options_that_do_not_fit(images, listed, tmp_path):
    def convert(*flags, paths=None):
        imageset.main([*flags, images, paths or listed("coffee/0.jpg 0"), str(tmp_path / "db")])

    for flags in (["--resize-height=5"], ["--resize-height=-5", "--resize-width=-5"]):
        with pytest.raises(ValueError, match="go together: give both, positive, or none"):
            convert(*flags)
    with pytest.raises(ValueError, match="OpenCV writes no image files of type 'xyz'"):
        convert("--encode-type=xyz")
    with pytest.raises(OSError, match="there is no list nowhere"):
        convert(paths="nowhere")
    os.symlink(golden("tools/images") / "coffee/0.jpg", tmp_path / "bare")
    with pytest.raises(
        ValueError, match=r"cannot tell the type of '.*/bare' by its name: give --encode-type"
    ):
        imageset.main(["--encoded", "", listed(f"{tmp_path}/bare 0"), str(tmp_path / "db")])


def test_an_existing_database_is_refused(images, tmp_path):
    (tmp_path / "db").mkdir()
    with pytest.raises(FileExistsError, match="db exists: remove it, write to another folder, or --keep it"):
        imageset.main([images, str(golden("tools/list.txt")), str(tmp_path / "db")])


def test_a_killed_run_leaves_no_database_and_the_next_one_is_whole(images, listed, tmp_path):
    lines = [f"coffee/{i % 2}.jpg {i}" for i in range(4000)]
    command = [
        sys.executable,
        "-m",
        "crnn",
        "data",
        "convert",
        "imageset",
        images,
        listed(*lines),
        tmp_path / "db",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "Processed 1000 files.\n"
        process.send_signal(signal.SIGKILL)
    assert sorted(os.listdir(tmp_path)) == ["db.partial", "list.txt"]
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert sorted(os.listdir(tmp_path)) == ["db", "list.txt"]
    assert len(LmdbReader(tmp_path / "db")) == 4000


def test_a_terminal_gets_a_bar(images, tmp_path):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))
    command = [sys.executable, "-m", "crnn", "data", "convert", "imageset", images]
    subprocess.run([*command, golden("tools/list.txt"), tmp_path / "db"], stderr=theirs, check=True)
    assert "100%" in (bar := os.read(ours, 10_000).decode()) and "12/12" in bar
    os.close(ours), os.close(theirs)


# ---- as a command ----


def test_the_command_takes_caffes_flags(crnn, images, tmp_path, contents):
    flags = ["-gray=true", "--shuffle=false", "-resize_height", "4", "--resize_width=3"]
    result = crnn("data", "convert", "imageset", *flags, images, golden("tools/list.txt"), tmp_path / "db")
    assert (result.returncode, result.stderr) == (0, "")
    key, datum = contents(tmp_path / "db")[0]
    assert key == "00000000_astronaut/0.jpg"
    assert (datum.channels, datum.height, datum.width) == (1, 4, 3)


def test_the_program_runs_alone(images, tmp_path):
    program = [sys.executable, ROOT / "data_tools" / "imageset.py", "-gray", images, golden("tools/list.txt")]
    first = subprocess.run([*program, tmp_path / "db"], capture_output=True, text=True)
    assert (first.returncode, first.stderr) == (0, "")
    again = subprocess.run([*program, tmp_path / "db"], capture_output=True, text=True)
    assert again.returncode == 1
    assert (
        again.stderr
        == f"imageset.py: {tmp_path}/db exists: remove it, write to another folder, or --keep it\n"
    )


def test_mistakes_are_one_sentence_and_exit_code_1(crnn, tmp_path):
    result = crnn("data", "convert", "imageset", "/nowhere/", "nolist", tmp_path / "db")
    assert (result.returncode, result.stderr) == (1, "crnn data: there is no list nolist\n")
    result = crnn("data", "convert", "flowers")
    assert result.returncode == 1
    assert "unknown data set 'flowers'; known: cifar10, cifar100, emoji, fash" in result.stderr


def test_help_lists_the_data_sets(crnn):
    result = crnn("data", "convert", "--help")
    assert result.returncode == 0
    assert "imageset" in result.stdout and "fashion-mnist" in result.stdout
    assert "--resize-height" in crnn("data", "convert", "imageset", "--help").stdout


@pytest.mark.parametrize("name", sorted(set(datasets()) - {"imageset"}))
def test_the_help_of_a_data_set_says_where_it_is_from_and_what_it_writes(name, capsys):
    with pytest.raises(SystemExit) as end:
        datasets()[name].main(["--help"])
    said = capsys.readouterr().out
    assert end.value.code == 0 and "train_lmdb" in said and f"crnn data convert {name}" in said
    assert "http" in said or "package" in said
