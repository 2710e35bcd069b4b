"""ImageData, WindowData, HDF5Data, HDF5Output as layers of a net."""

import cv2
import numpy as np
import pytest
import torch

from crnn.net.net import Net
from crnn.proto import pb


@pytest.fixture
def images(tmp_path):
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((6, 8, 3), 50 * i, np.uint8))
    (tmp_path / "list.txt").write_text("".join(f"{i}.png {i}\n" for i in range(3)))
    return tmp_path


def image_data(folder, text="", transform=""):
    return (
        f'type: "ImageData" image_data_param {{ source: "{folder}/list.txt" root_folder: "{folder}/" '
        f"batch_size: 2 {text} }} transform_param {{ {transform} }}"
    )


def test_image_data(make, images):
    layer = make(image_data(images, "new_height: 4 new_width: 5", "scale: 0.5"), tops=2)
    assert layer.top_shapes == [(2, 3, 4, 5), (2,)]
    data, label = layer()
    assert label.tolist() == [0, 1] and data[1].max() == 25
    centre = make(image_data(images, "is_color: false", "crop_size: 3"), tops=2, phase=pb.TEST)
    assert centre()[0].shape == (2, 1, 3, 3)


def test_torch_seed_decides_the_shuffle(make, images):
    def labels(seed):
        torch.manual_seed(seed)
        layer = make(image_data(images, "shuffle: true"), tops=2)
        return [layer()[1].tolist() for _ in range(6)]

    assert labels(1) == labels(1) != labels(2)


def test_window_data(make, images):
    (images / "windows.txt").write_text(f"# 0\n{images}/2.png\n3 6 8\n2\n4 0.9 0 0 3 3\n1 0.1 2 2 5 5\n")
    layer = make(
        f'type: "WindowData" window_data_param {{ source: "{images}/windows.txt" batch_size: 4 '
        "fg_fraction: 0.5 } transform_param { crop_size: 4 }",
        tops=2,
    )
    assert layer.top_shapes == [(4, 3, 4, 4), (4,)]
    data, label = layer()
    assert label.tolist() == [0, 0, 4, 4] and set(data.ravel()) == {100}


@pytest.mark.parametrize(
    ("text", "tops", "message"),
    [
        ('"ImageData"', 2, "image_data_param.source is missing: a text file with a line `path label`"),
        (
            '"ImageData" image_data_param { source: "x" new_height: 4 }',
            2,
            "new_height 4 and new_width 0 go together",
        ),
        ('"ImageData" image_data_param { source: "x" batch_size: 0 }', 2, "batch_size must be at least 1"),
        ('"ImageData" image_data_param { source: "x" }', 1, "takes 2 tops, got 1"),
        ('"WindowData"', 2, "window_data_param.source is missing: a window file"),
        ('"HDF5Data"', 1, "hdf5_data_param.source is missing"),
        (
            '"HDF5Data" hdf5_data_param { source: "x" batch_size: 1 } transform_param { scale: 2 }',
            1,
            "HDF5 data are not transformed",
        ),
    ],
)
def test_bad_parameters(make, text, tops, message):
    with pytest.raises(ValueError, match=message):
        make(f"type: {text}", tops=tops)


def test_hdf5_output_is_read_by_hdf5_data(tmp_path):
    pytest.importorskip("h5py", reason="needs h5py: any machine with crnn[hdf5]")
    net = Net(
        f"""layer {{ name: "x" type: "Input" top: "a" top: "b"
          input_param {{ shape {{ dim: 2 dim: 3 }} shape {{ dim: 2 }} }} }}
        layer {{ name: "out" type: "HDF5Output" bottom: "a" bottom: "b"
          hdf5_output_param {{ file_name: "{tmp_path}/out.h5" }} }}"""
    )
    a, b = torch.randn(4, 3), torch.arange(4.0)
    for rows in (slice(0, 2), slice(2, 4)):
        assert net(a[rows], b[rows]) == {}
    (tmp_path / "list.txt").write_text(f"{tmp_path}/out.h5\n")
    net = Net(
        f"""layer {{ name: "in" type: "HDF5Data" top: "data" top: "label"
          hdf5_data_param {{ source: "{tmp_path}/list.txt" batch_size: 4 }} }}"""
    )
    assert net.shapes == {"data": (4, 3, 1, 1), "label": (4, 1, 1, 1)}
    blobs = net()
    assert blobs["data"].flatten(1).equal(a) and blobs["label"].flatten().equal(b)


def test_hdf5_output_needs_a_file_and_fitting_bottoms(make):
    with pytest.raises(ValueError, match="file_name is missing"):
        make('type: "HDF5Output"', (2, 3), (2,), tops=0)
    with pytest.raises(ValueError, match="needs bottoms of as many rows"):
        make('type: "HDF5Output"', (2, 3), (3,), tops=0)
    with pytest.raises(ValueError, match="1 to 4 axes"):
        make('type: "HDF5Output"', (2, 3, 1, 1, 1), (2,), tops=0)
