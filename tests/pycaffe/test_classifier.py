"""Classifier and Detector: images in, scores out."""

import cv2
import numpy as np
import pytest

import crnn.pycaffe as caffe

NET = """
input: "data" input_shape { dim: 4 dim: 3 dim: 4 dim: 4 }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 3 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""
SETTINGS = {
    "mean": np.array([10.0, 20, 30]),
    "raw_scale": 255,
    "channel_swap": (2, 1, 0),
    "input_scale": 0.01,
}


@pytest.fixture
def files(make_net, tmp_path):
    make_net(NET, caffe.TEST).save(tmp_path / "a.caffemodel")
    return str(tmp_path / "net.prototxt"), str(tmp_path / "a.caffemodel")


@pytest.fixture
def images():
    return list(np.random.RandomState(0).rand(3, 9, 8, 3).astype(np.float32))


def scores(net, image):
    """Of one image of the net's size, prepared by hand."""
    blob = (image[:, :, ::-1].transpose(2, 0, 1) * 255 - np.reshape([10, 20, 30], (3, 1, 1))) * 0.01
    return net.forward_all(data=blob[None])["prob"][0]


def test_the_centre_of_the_resized_image_is_classified(files, images):
    net = caffe.Classifier(*files, image_dims=(6, 6), **SETTINGS)
    want = [scores(net, caffe.io.resize_image(image, (6, 6))[1:5, 1:5]) for image in images]
    np.testing.assert_allclose(net.predict(images, oversample=False), want, rtol=1e-5)


def test_oversampling_takes_the_mean_over_ten_crops(files, images):
    net = caffe.Classifier(*files, image_dims=(6, 6), **SETTINGS)
    crops = caffe.io.oversample([caffe.io.resize_image(image, (6, 6)) for image in images], (4, 4))
    want = np.reshape([scores(net, crop) for crop in crops], (3, 10, 3)).mean(1)
    np.testing.assert_allclose(net.predict(images), want, rtol=1e-5)


def test_without_image_dims_the_whole_image_is_one_crop(files, images):
    net = caffe.Classifier(*files, **SETTINGS)
    want = [scores(net, caffe.io.resize_image(image, (4, 4))) for image in images]
    np.testing.assert_allclose(net.predict(images, oversample=False), want, rtol=1e-5)


@pytest.fixture
def picture(tmp_path):
    path = str(tmp_path / "a.png")
    cv2.imwrite(path, np.random.RandomState(0).randint(0, 255, (12, 10, 3)).astype(np.uint8))
    return path


def test_windows_of_images_are_scored_in_their_order(files, picture):
    net = caffe.Detector(*files, **SETTINGS)
    windows = [(0, 0, 12, 10), (2, 3, 8, 9)]
    found = net.detect_windows([(picture, windows)])
    image = caffe.io.load_image(picture)
    for detection, (y, x, y_end, x_end) in zip(found, windows, strict=True):
        want = scores(net, caffe.io.resize_image(image[y:y_end, x:x_end], (4, 4)))
        np.testing.assert_allclose(detection["prediction"], want, rtol=1e-5)
        assert detection["filename"] == picture
    assert [detection["window"] for detection in found] == windows


def test_context_shows_what_surrounds_a_window_and_the_mean_beyond_the_image(files, picture):
    net = caffe.Detector(*files, context_pad=1, **SETTINGS)
    image = caffe.io.load_image(picture)
    mean = np.array([30, 20, 10], np.float32) / 255  # as R, G, B between 0 and 1
    inner = net.crop(image, (4, 4, 7, 7))
    # 4 pixels with 1 of context a side: twice the window of 4 (Caffe counts both ends) about its centre 6.
    np.testing.assert_allclose(inner, caffe.io.resize_image(image[2:10, 2:10], (4, 4)), rtol=1e-5)
    outer = net.crop(image, (0, 0, 3, 3))
    np.testing.assert_allclose(outer[0], np.broadcast_to(mean, (4, 3)), rtol=1e-6)
    np.testing.assert_allclose(outer[:, 0], np.broadcast_to(mean, (4, 3)), rtol=1e-6)
    assert not np.allclose(outer[2, 2], mean)


def test_selective_search_that_is_not_there_is_one_sentence(files, picture):
    with pytest.raises(ValueError, match="give windows of your own to detect_windows"):
        caffe.Detector(*files, **SETTINGS).detect_selective_search([picture])
