"""Transformer: Caffe's arithmetic, draws and views."""

import numpy as np
import pytest
from google.protobuf import text_format

from crnn.data.loader import BatchLoader
from crnn.data.transformer import VIEWS, Transformer
from crnn.proto import pb
from crnn.proto.blobs import write_mean
from crnn.testing import golden


def param(text: str = "") -> pb.TransformationParameter:
    return text_format.Parse(text, pb.TransformationParameter())


def pictures(*shape, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", ["plain", "mean_value_crop", "mean_file_crop_scale"])
def test_test_batches_equal_those_of_caffe(name):
    net = text_format.Parse(golden(f"tools/transform_{name}.prototxt").read_text(), pb.NetParameter())
    transform, data_param = net.layer[0].transform_param, net.layer[0].data_param
    if transform.mean_file:
        transform.mean_file = str(golden(f"tools/{transform.mean_file}"))
    loader = BatchLoader(golden(f"tools/{data_param.source}"), data_param.batch_size, transform, pb.TEST)
    want = np.load(golden("tools/transform.npz"))
    for data, label in zip(want[f"{name}/data"], want[f"{name}/label"], strict=True):
        got, got_label = loader.next()
        np.testing.assert_allclose(got, data, rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(got_label, label)
    loader.close()


def test_the_test_crop_is_the_centre_rounded_to_the_top_left():
    images = pictures(2, 3, 9, 12)
    got = Transformer(param("crop_size: 4"), pb.TEST, (3, 9, 12))(images, rng())
    np.testing.assert_array_equal(got, images[:, :, 2:6, 4:8])


def test_the_mean_is_taken_where_the_pixel_was(tmp_path):
    mean = np.random.default_rng(1).random((2, 6, 7), np.float32)
    write_mean(tmp_path / "mean", mean)
    images = pictures(8, 2, 6, 7)
    transform = Transformer(
        param(f'crop_size: 3 mirror: true scale: 0.5 mean_file: "{tmp_path}/mean"'), 0, (2, 6, 7)
    )
    got = transform(images, rng())
    whole = (images - mean) * np.float32(0.5)
    windows = {
        whole[i, :, y : y + 3, x : x + 3][:, :, ::step].tobytes()
        for i in range(8)
        for y in range(4)
        for x in range(5)
        for step in (1, -1)
    }
    assert all(view.tobytes() in windows for view in got)


def test_one_mean_value_serves_all_channels():
    images = pictures(1, 3, 2, 2)
    got = Transformer(param("mean_value: 100"), pb.TEST, (3, 2, 2))(images, rng())
    np.testing.assert_array_equal(got, images - np.float32(100))


def test_every_place_and_both_sides_are_drawn_in_train():
    image = np.arange(4 * 5, dtype=np.uint8).reshape(1, 1, 4, 5)
    got = Transformer(param("crop_size: 2 mirror: true"), pb.TRAIN, (1, 4, 5))(image.repeat(2000, 0), rng())
    views, counts = np.unique(got.reshape(2000, -1), axis=0, return_counts=True)
    assert len(views) == 3 * 4 * 2
    assert counts.min() > 40  # 83 expected


def test_mirror_works_in_test_too_and_only_mirrors():
    image = pictures(1, 3, 4, 4)
    got = Transformer(param("mirror: true crop_size: 2"), pb.TEST, (3, 4, 4))(image.repeat(100, 0), rng())
    centre = image[0, :, 1:3, 1:3].astype(np.float32)
    mirrored = [not np.array_equal(view, centre) for view in got]
    assert 30 < sum(mirrored) < 70
    np.testing.assert_array_equal(got[mirrored.index(True)], centre[:, :, ::-1])


def test_an_image_draws_mirror_row_column():
    """Image by image, in Caffe's order: no draw depends on how many images follow."""
    transform = Transformer(param("crop_size: 2 mirror: true"), pb.TRAIN, (1, 6, 9))
    images = pictures(5, 1, 6, 9)
    draws = rng(3).integers((0, 0, 0), (1, 4, 7), (5, 3), endpoint=True)
    for got, image, (mirrored, y, x) in zip(transform(images, rng(3)), images, draws, strict=True):
        window = image[:, y : y + 2, x : x + 2]
        np.testing.assert_array_equal(got, window[:, :, ::-1] if mirrored else window)


def test_equal_seeds_give_equal_bits():
    transform = Transformer(param("crop_size: 3 mirror: true"), pb.TRAIN, (3, 8, 8))
    images = pictures(16, 3, 8, 8)
    assert transform(images, rng(5)).tobytes() == transform(images, rng(5)).tobytes()
    assert transform(images, rng(5)).tobytes() != transform(images, rng(6)).tobytes()


def test_ten_views_in_the_order_of_pycaffe():
    images = pictures(2, 3, 7, 8)
    transform = Transformer(param("crop_size: 4 mean_value: 10"), pb.TEST, (3, 7, 8))
    views = [transform.view(images, v) for v in range(VIEWS)]
    shifted = images - np.float32(10)
    for v, (y, x) in enumerate([(0, 0), (0, 4), (3, 0), (3, 4), (1, 2)]):
        np.testing.assert_array_equal(views[v], shifted[:, :, y : y + 4, x : x + 4])
        np.testing.assert_array_equal(views[v + 5], views[v][..., ::-1])
    np.testing.assert_array_equal(views[4], transform(images, rng()))


def test_an_empty_batch():
    assert Transformer(param("crop_size: 4 mirror: true"), 0, (3, 7, 8))(
        pictures(0, 3, 7, 8), rng()
    ).shape == (0, 3, 4, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("crop_size: 9", "crop_size 9 is larger than the records, 8 x 10"),
        ('mean_file: "m" mean_value: 1', "mean_file and mean_value cannot both be given"),
        ("mean_value: 1 mean_value: 2", "2 mean_value for 3 channels: give 1 or 3"),
        ("train_views: 5", "train_views must be 1 or 10, got 5"),
        ("train_views: 10 mirror: true", "train_views: 10 holds the mirrored views: remove mirror"),
    ],
)
def test_parameters_that_do_not_fit(text, message):
    with pytest.raises(ValueError, match=message):
        Transformer(param(text), pb.TRAIN, (3, 8, 10))


def test_a_mean_of_another_shape_names_both(tmp_path):
    write_mean(tmp_path / "mean", np.zeros((3, 8, 8), np.float32))
    with pytest.raises(ValueError, match="mean is 3 x 8 x 8, the records are 3 x 8 x 10"):
        Transformer(param(f'mean_file: "{tmp_path}/mean"'), pb.TRAIN, (3, 8, 10))


def test_a_missing_mean_file_is_named(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        Transformer(param(f'mean_file: "{tmp_path}/nowhere"'), pb.TRAIN, (3, 8, 10))


def test_records_of_another_shape():
    with pytest.raises(ValueError, match="records are 3 x 4 x 4, the transformer was made for 3 x 5 x 5"):
        Transformer(param(), pb.TEST, (3, 5, 5)).view(pictures(1, 3, 4, 4), 0)


def test_a_missing_mean_file_is_named_with_the_cure():
    param = pb.TransformationParameter(mean_file="nowhere/mean.binaryproto")
    with pytest.raises(OSError, match=r"no mean_file nowhere.*make it with `crnn data mean`"):
        Transformer(param, pb.TEST, (3, 8, 8))
