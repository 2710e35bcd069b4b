"""Images and arrays, and the preparation of inputs. Values by hand, or what Caffe's own io gives."""

import cv2
import numpy as np
import pytest

import crnn.pycaffe as caffe
from crnn.proto import pb

io = caffe.io


@pytest.fixture
def image():
    return np.random.RandomState(0).rand(4, 6, 3).astype(np.float32)


def test_a_blobproto_holds_an_array_and_its_diff(image):
    blob = io.array_to_blobproto(image, image + 1)
    np.testing.assert_array_equal(io.blobproto_to_array(blob), image)
    np.testing.assert_array_equal(io.blobproto_to_array(blob, return_diff=True), image + 1)
    assert list(blob.shape.dim) == [4, 6, 3]


def test_a_blobproto_of_old_has_four_axes_and_one_without_shape_one_value():
    assert io.blobproto_to_array(pb.BlobProto(num=1, channels=2, height=1, width=1, data=[3, 4])).shape == (
        1,
        2,
        1,
        1,
    )
    assert io.blobproto_to_array(pb.BlobProto(data=[5])) == 5
    with pytest.raises(ValueError, match="holds 2 values"):
        io.blobproto_to_array(pb.BlobProto(data=[5, 6]))


def test_a_list_of_arrays_goes_through_a_string(image):
    arrays = io.blobprotovector_str_to_arraylist(io.arraylist_to_blobprotovector_str([image, image[0]]))
    np.testing.assert_array_equal(arrays[0], image)
    np.testing.assert_array_equal(arrays[1], image[0])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_datum_holds_pixels(image, dtype):
    pixels = (image * 255).astype(dtype).transpose(2, 0, 1)
    datum = io.array_to_datum(pixels, label=4)
    assert (datum.label, bool(datum.data)) == (4, dtype == np.uint8)
    np.testing.assert_array_equal(io.datum_to_array(datum), pixels)
    assert not io.array_to_datum(pixels).HasField("label")


def test_a_datum_with_an_image_file_is_decoded():
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    datum = pb.Datum(data=cv2.imencode(".png", pixels)[1].tobytes(), encoded=True)
    np.testing.assert_array_equal(io.datum_to_array(datum), pixels.transpose(2, 0, 1))


def test_images_are_read_as_rgb_or_grey_between_0_and_1(tmp_path):
    path = str(tmp_path / "a.png")
    cv2.imwrite(path, np.uint8([[[0, 51, 255, 9], [255, 0, 0, 255]]]))  # B, G, R, transparency
    np.testing.assert_allclose(io.load_image(path), [[[1, 0.2, 0], [0, 0, 1]]], rtol=1e-6)
    grey = io.load_image(path, color=False)
    np.testing.assert_allclose(grey, [[[0.2125 + 0.2 * 0.7154], [0.0721]]], rtol=1e-6)
    cv2.imwrite(path, np.uint8([[0, 255]]))
    assert io.load_image(path).shape == (1, 2, 3) and io.load_image(path, color=False).shape == (1, 2, 1)


def test_what_is_no_image_is_named(tmp_path):
    (tmp_path / "a.jpg").write_text("no")
    with pytest.raises(ValueError, match=r"a.jpg: .*cannot be decoded"):
        io.load_image(tmp_path / "a.jpg")


def test_a_shrunk_image_has_the_values_between_its_pixels():
    ramp = np.float32([0, 1, 2, 3]).reshape(1, 4, 1)
    np.testing.assert_allclose(io.resize_image(ramp, (1, 2)).ravel(), [0.5, 2.5])


def test_beyond_the_border_of_an_enlarged_image_lies_its_minimum():
    # As skimage with mode "constant" after Caffe's stretch to 0 .. 1: at -1/4 pixel 0 counts 3 of 4 parts.
    ramp = np.float32([1, 3]).reshape(1, 2, 1)
    np.testing.assert_allclose(io.resize_image(ramp, (1, 4)).ravel(), [1, 1.5, 2.5, 1 + 2 * 0.75])


def test_channels_other_than_1_and_3_are_resized_from_corner_to_corner():
    ramp = np.repeat(np.float32([0, 3]).reshape(1, 2, 1), 2, axis=2)
    np.testing.assert_allclose(io.resize_image(ramp, (1, 4))[0, :, 0], [0, 1, 2, 3], rtol=1e-6)


def test_a_constant_image_stays_so_and_nearest_takes_pixels(image):
    assert (io.resize_image(np.ones((2, 2, 3)), (5, 5))[1:-1] == 1).all()
    assert set(io.resize_image(image, (7, 3), interp_order=0).ravel()) <= set(image.ravel())
    with pytest.raises(ValueError, match="interp_order is 0"):
        io.resize_image(image, (2, 2), interp_order=3)


def test_ten_crops_are_corners_centre_and_their_mirrors(image):
    crops = io.oversample([image], (2, 3))
    corners = [image[:2, :3], image[:2, 3:], image[2:, :3], image[2:, 3:], image[1:3, 1:4]]
    np.testing.assert_array_equal(crops, [*corners, *(corner[:, ::-1] for corner in corners)])
    with pytest.raises(ValueError, match="do not fit"):
        io.oversample([image], (5, 3))


@pytest.fixture
def transformer():
    made = io.Transformer({"data": (1, 3, 4, 6)})
    made.set_transpose("data", (2, 0, 1))
    made.set_channel_swap("data", (2, 1, 0))
    made.set_raw_scale("data", 255)
    made.set_mean("data", np.array([1, 2, 3]))
    made.set_input_scale("data", 0.5)
    return made


def test_preprocess_goes_step_by_step_and_deprocess_back(transformer, image):
    want = (image[:, :, ::-1].transpose(2, 0, 1) * 255 - np.reshape([1, 2, 3], (3, 1, 1))) * 0.5
    got = transformer.preprocess("data", image)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=1e-5)
    np.testing.assert_allclose(transformer.deprocess("data", got), image, rtol=1e-5)


def test_preprocess_leaves_the_users_image_alone(transformer, image):
    before = image.copy()
    transformer.preprocess("data", image)
    np.testing.assert_array_equal(image, before)


def test_images_and_means_of_another_size_are_resized(transformer, image):
    transformer.set_mean("data", np.full((3, 8, 12), 7.0))
    assert transformer.mean["data"].shape == (3, 4, 6)
    assert transformer.preprocess("data", np.ones((9, 9, 3))).shape == (3, 4, 6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda t: t.preprocess("image", np.zeros((1, 1, 3))), "'image' is not one of the net's inputs"),
        (lambda t: t.set_transpose("data", (1, 0)), "needs 3 axes"),
        (lambda t: t.set_channel_swap("data", (0, 1)), "needs 3 channels"),
        (lambda t: t.set_mean("data", np.zeros(2)), "needs 3 channels, got 2"),
        (lambda t: t.set_mean("data", np.zeros((1, 1, 1, 1))), r"\[K, H, W\]"),
    ],
)
def test_what_does_not_fit_the_input_is_refused(transformer, call, words):
    with pytest.raises(ValueError, match=words):
        call(transformer)


def test_arrays_of_messages_are_wide():
    """float64, as numpy makes of a repeated float; bytes stay bytes."""
    assert io.blobproto_to_array(io.array_to_blobproto(np.ones((1, 2, 3)))).dtype == np.float64
    for dtype, kept in ((np.float32, np.float64), (np.uint8, np.uint8)):
        assert io.datum_to_array(io.array_to_datum(np.ones((1, 2, 3), dtype))).dtype == kept
