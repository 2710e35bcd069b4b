"""ImageList and its loader: lists as Caffe's ImageData reads them, in order, shuffled, and resumed."""

import cv2
import numpy as np
import pytest

from crnn.data.image_list import ImageList, ImageLoader
from crnn.proto import pb


@pytest.fixture
def folder(tmp_path):
    """Five 4x6 PNGs; the pixels of image i are 10 i, +1, +2 in B, G, R; one name has a space."""
    names = ["0.png", "1 with space.png", "2.png", "3.png", "4.png"]
    for i, name in enumerate(names):
        cv2.imwrite(str(tmp_path / name), np.full((4, 6, 3), (10 * i, 10 * i + 1, 10 * i + 2), np.uint8))
    (tmp_path / "list.txt").write_text("".join(f"{name} {i}\r\n" for i, name in enumerate(names)) + "\n")
    return tmp_path


def loader(folder, batch=3, phase=pb.TRAIN, text=None, seed=0, size=None, color=True, **options):
    images = ImageList(folder / "list.txt", f"{folder}/", size, color)
    return ImageLoader(images, batch, text or pb.TransformationParameter(), phase, seed, **options)


def test_images_come_in_the_order_of_the_list_round_and_round(folder):
    it = loader(folder)
    assert len(it) == 5 and it.top_shapes == [(3, 3, 4, 6), (3,)]
    (data, label), (_, more) = it.next(), it.next()
    assert [*label, *more] == [0, 1, 2, 3, 4, 0]
    assert data.dtype == label.dtype == np.float32
    assert data[1, :, 0, 0].tolist() == [10, 11, 12]


def test_images_are_resized_and_made_grey(folder):
    it = loader(folder, size=(5, 3), color=False)
    assert it.top_shapes[0] == (3, 1, 5, 3) == it.next()[0].shape


def test_every_pass_of_a_shuffled_list_has_its_own_order(folder):
    it = loader(folder, batch=5, shuffle=True)
    passes = [tuple(it.next()[1]) for _ in range(6)]
    assert all(sorted(labels) == [0, 1, 2, 3, 4] for labels in passes) and len(set(passes)) > 3
    assert passes[0] == tuple(loader(folder, batch=5, shuffle=True).next()[1])


def test_rand_skip_starts_the_first_pass_further_on(folder):
    firsts = {int(loader(folder, seed=seed, rand_skip=3).next()[1][0]) for seed in range(30)}
    assert firsts == {0, 1, 2}


def test_a_loader_goes_on_at_a_position(folder):
    text = pb.TransformationParameter(crop_size=2, mirror=True)
    whole, later = (loader(folder, batch=4, text=text, shuffle=True, rand_skip=4) for _ in range(2))
    batches = [whole.next() for _ in range(5)]
    later.seek(12)
    assert later.position == 12
    for got, want in zip(later.next(), batches[3], strict=True):
        assert np.array_equal(got, want)


def test_images_of_several_sizes_need_a_crop(folder):
    cv2.imwrite(str(folder / "2.png"), np.zeros((5, 5, 3), np.uint8))
    with pytest.raises(
        ValueError, match=r"images of one batch are \(3, 4, 6\) and \(3, 5, 5\): give new_height"
    ):
        loader(folder).next()
    crop = pb.TransformationParameter(crop_size=4)
    assert loader(folder, text=crop).next()[0].shape == (3, 3, 4, 4)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0.png\n", "list.txt:1: '0.png' is not `path label`"),
        ("0.png x\n", "not `path label`"),
        ("\n", "names no"),
    ],
)
def test_bad_lists(folder, line, message):
    (folder / "list.txt").write_text(line)
    with pytest.raises(ValueError, match=message):
        ImageList(folder / "list.txt")


def test_what_cannot_be_read_is_named(folder):
    with pytest.raises(OSError, match="there is no list"):
        ImageList(folder / "no.txt")
    (folder / "3.png").write_bytes(b"no image")
    it = loader(folder, batch=5)
    with pytest.raises(ValueError, match=r"3\.png is an image of 8 bytes that cannot be decoded"):
        it.next()
