"""What becomes of image files that are not plain colour JPEGs, and of those that are no images."""

import numpy as np
import pytest

from crnn.data.datum import decode_image
from crnn.data_tools import imageset
from crnn.data_tools._manifest import read_manifest


@pytest.fixture
def converted(odd_files, bad_files, unpack, tmp_path):
    """The database of all of them, and its manifest."""
    files = {name: data for name, (data, _) in {**odd_files, **bad_files}.items()}
    unpack(tmp_path / "in", {name: data for name, data in files.items() if data is not None})
    (tmp_path / "list").write_text("".join(f"{name} {i}\r\n" for i, name in enumerate(files)))
    imageset.main([str(tmp_path / "in"), str(tmp_path / "list"), str(tmp_path / "db")])
    return tmp_path / "db", read_manifest(tmp_path / "db")


def test_odd_files_become_three_channels_of_8_bits(converted, odd_files, contents):
    got = {key.partition("_")[2]: datum for key, datum in contents(converted[0])}
    for name, (_, colour) in odd_files.items():
        if colour is None and name not in got:
            continue
        datum, (height, width) = got[name], (1, 1) if name == "one pixel.jpg" else (12, 16)
        assert (datum.channels, datum.height, datum.width) == (3, height, width), name
        pixels = np.frombuffer(datum.data, np.uint8).reshape(3, height, width)
        assert np.abs(pixels[:, 0, 0].astype(int) - (colour or pixels[:, 0, 0])).max() <= 3, name


def test_bad_files_are_skipped_with_a_reason(converted, bad_files, contents):
    _, manifest = converted
    said = {name: text for _, name, text in manifest["skipped"] if name in bad_files}
    assert list(said) == list(bad_files)
    for name, (_, want) in bad_files.items():
        assert said[name].startswith(want)
    assert manifest["records"] + len(manifest["skipped"]) == manifest["listed"] == 16


def test_the_manifest_names_what_is_odd(converted):
    said = {name: text for _, name, text in converted[1]["oddities"]}
    assert said["cmyk.jpg"] == "CMYK" and said["png.JPEG"] == "a PNG"
    assert set(said) - {"gif.jpg"} == {"cmyk.jpg", "png.JPEG"}


@pytest.mark.parametrize("color", [True, False, None])
def test_exif_orientation_is_ignored_however_a_file_is_read(odd_files, color):
    assert decode_image(odd_files["turned.jpg"][0], color).shape[:2] == (12, 16)


def test_a_jpeg_cut_anywhere_is_refused(photo):
    file = photo(3, 40, 40)
    for size in range(0, len(file), 7):
        with pytest.raises(ValueError, match=r"truncated JPEG|cannot be decoded"):
            decode_image(file[:size], True)
