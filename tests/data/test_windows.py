"""R-CNN's windows: the file, the geometry of a warp, the batches."""

import cv2
import numpy as np
import pytest

from crnn.data.windows import Window, WindowFile, WindowLoader, warp
from crnn.proto import pb

FILE = """# 0
{0}/a.png
3 20 30
4
1 0.9 2 3 11 12
2 0.5 0 0 9 9
1 0.2 10 10 19 19
3 0.4 5 5 14 14
# 1
{0}/b.png
3
20 30 1
7 0.1 20 5 29 14
"""


@pytest.fixture
def source(tmp_path):
    rows, columns = np.mgrid[:20, :30]
    image = np.stack([rows, columns, rows + columns], 2).astype(np.uint8)
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), image)
    (tmp_path / "windows.txt").write_text(FILE.format(tmp_path))
    return tmp_path / "windows.txt"


def test_overlap_sorts_the_windows(source):
    windows = WindowFile(source, fg_threshold=0.5, bg_threshold=0.3)
    assert [w[1:] for w in windows.foreground] == [(1, 2, 3, 11, 12), (2, 0, 0, 9, 9)]
    assert [w[1:] for w in windows.background] == [(0, 10, 10, 19, 19), (0, 20, 5, 29, 14)]
    assert windows.background[1].image.endswith("b.png")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x 0", "expected '#', got 'x'"),
        ("# 0 a.png 3 20 30 2 1 0.9 1 1 2 2", "after 1 windows: it ends early"),
        ("# 0 a.png 1 20 30 0", "has 1 channels"),
        ("# 0 a.png 3 20 30 1 0 0.9 1 1 2 2", "a foreground window has label 0"),
        ("# 0 a.png 3 20 30 1 1 0.9 1 1 2 2", "has 1 foreground and 0 background windows"),
        ("", "has 0 foreground"),
    ],
)
def test_bad_window_files(tmp_path, text, message):
    (tmp_path / "windows.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        WindowFile(tmp_path / "windows.txt", 0.5, 0.5)


def test_a_window_is_warped_as_it_is():
    got = warp(Window("a", 1, 2, 3, 11, 12), (20, 30), crop=8, context=0, square=False, mirrored=False)
    assert got == (2, 3, 11, 12, (8, 8), 0, 0)


def test_context_enlarges_the_window_and_leaves_what_is_outside_empty():
    # 10 pixels become 8 of 12, so the region is 15 wide around 7: -0.5 to 14.5, halves away from zero.
    got = warp(Window("a", 1, 2, 2, 11, 11), (20, 30), crop=12, context=2, square=False, mirrored=False)
    assert got == (0, 0, 15, 15, (11, 11), 1, 1)
    mirrored = warp(Window("a", 1, 2, 2, 11, 11), (20, 30), crop=12, context=2, square=False, mirrored=True)
    assert (mirrored.left, mirrored.top) == (0, 1)


def test_square_takes_the_longer_side():
    got = warp(Window("a", 1, 10, 5, 13, 12), (20, 30), crop=8, context=0, square=True, mirrored=False)
    assert got[:4] == (8, 5, 16, 13)


def test_a_window_outside_of_its_image_is_named():
    with pytest.raises(
        ValueError, match=r"a: window \(25, 3, 35, 12\) is not in the image, \(30, 20\) pixels"
    ):
        warp(Window("a", 1, 25, 3, 35, 12), (20, 30), 8, 0, False, False)


def parameters(source, **fields):
    return pb.WindowDataParameter(source=str(source), batch_size=8, bg_threshold=0.3, **fields)


def test_a_batch_is_background_then_foreground(source):
    it = WindowLoader(parameters(source), pb.TransformationParameter(crop_size=10), seed=1)
    data, label = it.next()
    assert it.top_shapes == [(8, 3, 10, 10), (8,)]
    assert label[:6].tolist() == [0] * 6 and set(label[6:]) <= {1, 2}
    corner = {(10, 10), (5, 20)}  # 10x10 windows are not resized
    assert {tuple(image[:2, 0, 0].astype(int)) for image in data[:6]} <= corner


def test_mean_scale_and_mirror(source):
    transform = pb.TransformationParameter(crop_size=10, mirror=True, mean_value=[1, 2, 3])
    it = WindowLoader(parameters(source, scale=0.5, cache_images=True), transform, seed=1)
    data, _ = it.next()
    steps = {float(image[1, 0, 1] - image[1, 0, 0]) for image in data}
    assert steps == {0.5, -0.5}, "columns rise by one, or fall where mirrored"
    assert {float(image[0, 0, 0]) for image in data[:6]} <= {(10 - 1) / 2, (5 - 1) / 2}


def test_a_loader_goes_on_at_a_position(source):
    transform = pb.TransformationParameter(crop_size=12, mirror=True)
    whole, later = (WindowLoader(parameters(source, context_pad=2), transform, seed=1) for _ in range(2))
    batches = [whole.next() for _ in range(4)]
    later.seek(24)
    assert np.array_equal(later.next()[0], batches[3][0])


@pytest.mark.parametrize(
    ("fields", "crop", "message"),
    [
        ({}, 0, "crop_size is missing"),
        ({"context_pad": 4}, 8, "context_pad 4 leaves nothing of crop_size 8"),
        ({"crop_mode": "round"}, 8, "crop_mode must be 'warp' or 'square', got 'round'"),
    ],
)
def test_bad_parameters(source, fields, crop, message):
    with pytest.raises(ValueError, match=message):
        WindowLoader(parameters(source, **fields), pb.TransformationParameter(crop_size=crop))
