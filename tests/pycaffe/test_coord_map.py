"""Where the pixels of one blob lie in another's. The maps are worked out by hand."""

import numpy as np
import pytest

import crnn.pycaffe as caffe
from crnn.pycaffe import layers as L
from crnn.pycaffe.coord_map import UndefinedMapException, coord_map, coord_map_from_to, crop


def spec(kernel=3, stride=1, pad=0, pool=2, up=2, up_pad=0):
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [1, 1, 64, 64]})
    n.conv = L.Convolution(n.data, num_output=2, kernel_size=kernel, stride=stride, pad=pad)
    n.pool = L.Pooling(n.conv, kernel_size=pool, stride=pool)
    n.up = L.Deconvolution(
        n.pool, convolution_param={"num_output": 2, "kernel_size": 2 * up, "stride": up, "pad": up_pad}
    )
    return n


@pytest.mark.parametrize(
    ("change", "scale", "shift"),
    [
        ({}, 1, 0),  # -1 of the 3x3 window, -1/2 of the pooling, +3/2 of the upsampling
        ({"pad": 1}, 1, -1),
        ({"up_pad": 1}, 1, 1),
        ({"pool": 4, "up": 4}, 1, -1),
        ({"stride": 2, "up": 4}, 1, -1.5),
        ({"pool": 4}, 2, -0.5),
    ],
)
def test_convolution_pooling_and_deconvolution_compose(change, scale, shift):
    n = spec(**change)
    axis, a, b = coord_map_from_to(n.up, n.data)
    assert (axis, float(a[0]), float(b[0])) == (1, scale, shift)


def test_pointwise_layers_change_nothing():
    n = spec()
    assert coord_map_from_to(L.ReLU(L.Dropout(n.up)), n.data) == coord_map_from_to(n.up, n.data)


def test_axes_may_differ():
    n = spec(kernel=[3, 5], stride=[1, 1], pad=[0, 2])
    np.testing.assert_array_equal(coord_map_from_to(n.up, n.data)[2], [0, -1])


def test_a_dilated_window_counts_with_its_holes():
    wide = L.Convolution(L.Input(shape={"dim": 1}), num_output=1, kernel_size=3, dilation=2)
    np.testing.assert_array_equal(coord_map(wide.fn)[2], [-2])


def test_crop_aligns_a_blob_and_crops_of_crops_add_up():
    n = spec(pad=10)
    aligned = crop(n.up, n.data)
    assert dict(aligned.fn.params["crop_param"]) == {"axis": 2, "offset": [10]}
    assert float(coord_map_from_to(aligned, n.data)[2][0]) == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pool": 4}, "of one scale"),
        ({"up_pad": 3}, "cannot go beyond"),
        ({"stride": 2, "up": 4}, "whole offset"),
    ],
)
def test_what_cannot_be_cropped_is_refused(change, words):
    n = spec(**change)
    with pytest.raises(AssertionError, match=words):  # scripts expect this type
        crop(n.up, n.data)


def test_blobs_without_spatial_connection_have_no_map():
    n = spec()
    with pytest.raises(RuntimeError, match="no blob lies below both"):
        coord_map_from_to(L.InnerProduct(n.up, num_output=1), n.data)
    with pytest.raises(UndefinedMapException, match="InnerProduct"):
        coord_map(L.InnerProduct(n.up, num_output=1).fn)
