"""Datum: Caffe's bytes, colour, and records that are not what they say."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn.data.datum import Frame, decode, encode, encode_file, jpeg, parse
from crnn.data.lmdb_reader import LmdbReader
from crnn.proto import pb
from crnn.testing import golden


@pytest.fixture
def picture():
    rng = np.random.default_rng(0)
    return cv2.resize(rng.integers(0, 256, (6, 5, 3), np.uint8), (40, 48))  # smooth, as JPEG likes it


def test_encode_writes_the_bytes_that_caffe_wrote():
    want = LmdbReader(golden("tools/raw_color_lmdb")).read(0)
    pixels, label = decode(want)
    assert pixels.shape == (3, 48, 40) and pixels.dtype == np.uint8
    assert encode(pixels, label) == want


def test_encode_file_writes_the_bytes_that_caffe_wrote():
    want = LmdbReader(golden("tools/encoded_as_is_lmdb")).read(0)
    assert encode_file((golden("tools/images") / "astronaut/0.jpg").read_bytes(), 0) == want


@pytest.mark.parametrize("label", [0, 7, -1, 2**31 - 1])
def test_pixels_and_label_come_back(label):
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    got, got_label = decode(encode(pixels, label))
    assert got_label == label
    np.testing.assert_array_equal(got, pixels)


def test_floats_come_back_as_float32():
    features = np.linspace(-1, 1, 6).reshape(6, 1, 1)
    got, _ = decode(encode(features, 0))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, features.astype(np.float32))


def test_image_files_decode_to_bgr(picture):
    png = encode_file(cv2.imencode(".png", picture)[1].tobytes(), 3)
    got, label = decode(png)
    assert label == 3
    np.testing.assert_array_equal(got, picture.transpose(2, 0, 1))


@pytest.mark.parametrize(("color", "channels"), [(None, 3), (True, 3), (False, 1)])
def test_color_of_colour_files(picture, color, channels):
    assert decode(encode_file(cv2.imencode(".png", picture)[1].tobytes(), 0), color)[0].shape[0] == channels


@pytest.mark.parametrize(("color", "channels"), [(None, 1), (True, 3), (False, 1)])
def test_color_of_grey_files(picture, color, channels):
    assert (
        decode(encode_file(cv2.imencode(".png", picture[..., 0])[1].tobytes(), 0), color)[0].shape[0]
        == channels
    )


def test_color_leaves_raw_records_alone():
    assert decode(encode(np.zeros((3, 2, 2), np.uint8), 0), color=False)[0].shape == (3, 2, 2)


@pytest.mark.parametrize("cut", [0, 1, 2, 100, -400, -2])
@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_a_truncated_image_is_refused(picture, kind, cut):
    file = cv2.imencode(f".{kind}", picture)[1].tobytes()
    with pytest.raises(ValueError, match=r"cannot be decoded|truncated JPEG"):
        decode(encode_file(file[:cut], 0))


def test_an_image_of_16_bits_is_refused():
    file = cv2.imencode(".png", np.zeros((4, 4), np.uint16))[1].tobytes()
    with pytest.raises(ValueError, match="16 bits a channel, Caffe takes 8"):
        decode(encode_file(file, 0))


def test_bytes_that_are_no_datum():
    with pytest.raises(ValueError, match="not a Datum"):
        decode(b"\xff\xff\xff")


@pytest.mark.parametrize("size", [0, 11, 13])
def test_pixels_that_do_not_fill_the_shape(size):
    raw = pb.Datum(channels=1, height=3, width=4, data=bytes(size)).SerializeToString()
    with pytest.raises(ValueError, match=rf"shape \(1, 3, 4\) with {size} values"):
        decode(raw)


def test_a_datum_has_three_dimensions():
    with pytest.raises(ValueError, match=r"\[C, H, W\], got shape \(2, 2\)"):
        encode(np.zeros((2, 2), np.uint8), 0)


def test_a_frame_reads_what_caffe_and_encode_write_without_a_copy():
    raw = LmdbReader(golden("tools/raw_color_lmdb")).read(0)
    want, want_label = decode(raw)
    pixels, label = Frame(want.shape).read(memoryview(raw))
    assert label == want_label and np.shares_memory(pixels, np.frombuffer(raw, np.uint8))
    np.testing.assert_array_equal(pixels, want)


RAW = encode(np.arange(24, dtype=np.uint8).reshape(2, 3, 4), 5)


@pytest.mark.parametrize(
    "raw",
    [
        RAW + pb.Datum(data=bytes(24)).SerializeToString(),  # protobuf takes the last of two
        RAW + pb.Datum(width=2, height=6).SerializeToString(),
        RAW + pb.Datum(encoded=True).SerializeToString(),
        RAW + b"\xff",
        RAW + bytes(100),
        RAW[:-5],
        encode(np.zeros((2, 4, 3), np.uint8), 5),
        encode(np.zeros((2, 3, 4)), 5),
        encode_file(bytes(30), 5),
        b"",
    ],
)
def test_a_frame_leaves_all_other_records_to_the_parser(raw):
    assert Frame((2, 3, 4)).read(raw) is None


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_what_a_frame_reads_of_damaged_records_is_what_the_parser_reads(data):
    raw = bytearray(RAW)
    for _ in range(data.draw(st.integers(0, 3))):
        raw[data.draw(st.sampled_from([*range(10), *range(33, len(raw))]))] = data.draw(st.integers(0, 255))
    raw = bytes(raw[: data.draw(st.integers(len(raw) - 4, len(raw)))])
    found = Frame((2, 3, 4)).read(raw)
    if found is not None:
        pixels, label = decode(raw)
        assert label == found[1] and pixels.tobytes() == found[0].tobytes()


PHOTO = (golden("tools/images") / "astronaut/0.jpg").read_bytes()


@pytest.mark.parametrize("label", [0, 7, -1, 2**31 - 1])
@pytest.mark.parametrize("kind", [bytes, memoryview])
def test_a_jpeg_is_found_in_its_record_without_a_copy(label, kind):
    raw = encode_file(PHOTO, label)
    file, got = jpeg(kind(raw))
    assert file.tobytes() == PHOTO and got == label and np.shares_memory(file, np.frombuffer(raw, np.uint8))


SMALL = cv2.imencode(".jpg", np.zeros((1, 1, 3), np.uint8))[1].tobytes()
JPEG = encode_file(SMALL, 5)
AT = SMALL.index(b"\xff\xc0") + 5  # height and width


@pytest.mark.parametrize(
    "raw",
    [
        JPEG + encode_file(SMALL, 6),  # protobuf takes the last of two
        JPEG + pb.Datum(encoded=False).SerializeToString(),
        pb.Datum(data=SMALL, label=5).SerializeToString(),
        pb.Datum(channels=3, height=1, width=1, data=SMALL, encoded=True).SerializeToString(),
        JPEG + b"\xff",
        JPEG[:-5],
        encode_file(SMALL[:-1], 5),
        encode_file(SMALL + b"\0", 5),
        encode_file(SMALL[:AT] + b"\xff" * 4 + SMALL[AT + 4 :], 5),  # says that it is large
        encode_file(b"\xff\xd8\xff\xd9", 5),
        encode_file(cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes(), 5),
        encode_file(b"", 5),
        b"\x22" + b"\xff" * 5 + SMALL,
        b"\x22\xff",
        b"",
    ],
)
def test_all_other_records_of_files_are_left_to_the_parser(raw):
    assert jpeg(raw) is None


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_what_is_found_in_damaged_records_is_what_the_parser_finds(data):
    raw, ends = bytearray(JPEG), [*range(8), *range(len(JPEG) - 8, len(JPEG))]
    for _ in range(data.draw(st.integers(0, 3))):
        raw[data.draw(st.sampled_from(ends))] = data.draw(st.integers(0, 255))
    raw = bytes(raw[: data.draw(st.integers(len(raw) - 4, len(raw)))])
    if found := jpeg(raw):
        datum = parse(raw)
        assert datum.encoded and (datum.data, datum.label) == (found[0].tobytes(), found[1])
