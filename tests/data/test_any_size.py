"""Records of several sizes, cut to one: real Caffe's Data layer takes them, and so does ours."""

import cv2
import numpy as np
import pytest

from crnn.data.datum import encode, encode_file
from crnn.data.loader import BatchLoader
from crnn.proto import pb
from crnn.proto.blobs import write_mean
from tests.data.ten_records import write

SIZES = [(16, 16), (17, 16), (16, 16), (16, 20), (13, 31), (40, 12), (16, 16)]
MEAN = [10.0, 20.0, 30.0]
CROP = 12


def as_png(image):
    return cv2.imencode(".png", image.transpose(1, 2, 0))[1].tobytes()


@pytest.fixture(params=["raw", "png"])
def source(request, tmp_path):
    """(path, images): a record's label is its number."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (3, *size), np.uint8) for size in SIZES]
    kinds = {"raw": encode, "png": lambda image, i: encode_file(as_png(image), i)}
    write(tmp_path / "db", [kinds[request.param](image, i) for i, image in enumerate(images)])
    return tmp_path / "db", images


def loader(path, phase, batch_size=3, **fields):
    transform = pb.TransformationParameter(crop_size=CROP, mean_value=MEAN, **fields)
    return BatchLoader(path, batch_size, transform, phase, seed=5)


def crops(image):
    """Every crop of an image, as it is and mirrored, [n, C, h, w]."""
    windows = np.lib.stride_tricks.sliding_window_view(image, (CROP, CROP), (1, 2))
    found = windows.transpose(1, 2, 0, 3, 4).reshape(-1, len(image), CROP, CROP)
    return np.concatenate([found, found[..., ::-1]])


def test_the_centre_of_each(source):
    path, images = source
    one = loader(path, pb.TEST)
    for _ in range(5):
        for seen, label in zip(*one.next(), strict=True):
            _, H, W = images[int(label)].shape
            y, x = (H - CROP) // 2, (W - CROP) // 2
            cut = images[int(label)][:, y : y + CROP, x : x + CROP]
            assert np.array_equal(seen, cut - np.array(MEAN, np.float32)[:, None, None])


@pytest.mark.parametrize("pixels", [False, True])
def test_a_random_place_of_each(source, pixels):
    """In its own size, another in the next pass; mirrored or not."""
    path, images = source
    one, met = loader(path, pb.TRAIN, mirror=True), {i: set() for i in range(len(SIZES))}
    one.deliver_pixels(pixels)
    for _ in range(14):
        data, labels, *places = one.next()
        for i, (seen, label) in enumerate(zip(data, labels, strict=True)):
            cut = seen if pixels else seen + np.array(MEAN, np.float32)[:, None, None]
            equal = (crops(images[int(label)]) == cut).all((1, 2, 3)).nonzero()[0]
            assert len(equal) == 1
            met[int(label)].add(int(equal[0]))
            if pixels:
                mirrored, y, x = places[0][i]
                width = images[int(label)].shape[2] - CROP + 1
                assert equal[0] % (len(crops(images[int(label)])) // 2) == y * width + x
                assert mirrored == (equal[0] >= len(crops(images[int(label)])) // 2)
    assert all(len(places) > 2 for places in met.values())


def test_records_and_their_views(source):
    path, images = source
    one = loader(path, pb.TEST)
    found, labels = one.records(1, 5)
    assert labels.tolist() == [1, 2, 3, 4, 5]
    assert all(np.array_equal(*pair) for pair in zip(found, images[1:6], strict=True))
    for v, seen in enumerate(one.transformer.view(found, v) for v in range(10)):
        for image, view in zip(images[1:6], seen, strict=True):
            bottom, right = (n - CROP for n in image.shape[1:])
            y, x = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)][v % 5]
            cut = image[:, y : y + CROP, x : x + CROP][..., :: -1 if v > 4 else 1]
            assert np.array_equal(view, cut - np.array(MEAN, np.float32)[:, None, None])
            assert np.array_equal(one.transformer.crop([image], v)[0], cut)
    alike, _ = one.records(0, 1)
    assert isinstance(alike, np.ndarray) and alike.shape == (1, 3, 16, 16)


def test_the_same_batches_from_any_position_and_by_several_processes(source):
    path, _ = source
    whole = loader(path, pb.TRAIN, 4)
    batches = [whole.next() for _ in range(6)]
    resumed = loader(path, pb.TRAIN, 4)
    resumed.seek(12)
    assert all(np.array_equal(a, b) for a, b in zip(resumed.next(), batches[3], strict=True))
    for rank in range(2):
        part = loader(path, pb.TRAIN, 2)
        part.split(rank, 2)
        for data, labels in batches:
            ours = part.next()
            assert np.array_equal(ours[0], data[rank::2]) and np.array_equal(ours[1], labels[rank::2])


def test_what_has_no_place_in_a_record_is_refused(tmp_path):
    small = [np.zeros((3, 16, 16), np.uint8), np.zeros((3, 11, 16), np.uint8)]
    write(tmp_path / "small", [encode(p, 0) for p in small])
    with pytest.raises(ValueError, match=r"b'00000001_x': crop_size 12 is larger than it is, 11 x 16"):
        loader(tmp_path / "small", pb.TRAIN).next()
    with pytest.raises(ValueError, match=r"b'00000001_x': crop_size 12 is larger than it is, 11 x 16"):
        loader(tmp_path / "small", pb.TEST).records(0, 2)
    grey = [np.zeros((3, 16, 16), np.uint8), np.zeros((1, 17, 16), np.uint8)]
    write(tmp_path / "grey", [encode(p, 0) for p in grey])
    with pytest.raises(ValueError, match=r"b'00000001_x' is uint8 \(1, 17, 16\), the first"):
        loader(tmp_path / "grey", pb.TRAIN).next()


def test_a_mean_image_views_and_warps_want_one_size(source, tmp_path):
    path, _ = source
    write_mean(tmp_path / "mean.binaryproto", np.zeros((3, 16, 16), np.float32))
    mean = pb.TransformationParameter(crop_size=CROP, mean_file=str(tmp_path / "mean.binaryproto"))
    views = pb.TransformationParameter(crop_size=CROP, train_views=10)
    warped = pb.TransformationParameter(crop_size=CROP, rotation=10)
    for transform in (mean, views, warped, pb.TransformationParameter()):
        with pytest.raises(ValueError, match=r"b.00000001_x. is uint8 .* convert them to one size"):
            BatchLoader(path, 3, transform, pb.TRAIN).next()
