"""Batches that cross to the device as bytes are those that the transformer makes, to the bit."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn.data.datum import encode, encode_file
from crnn.data.lmdb_writer import LmdbWriter
from crnn.data.loader import BatchLoader
from crnn.data.transformer import Transformer
from crnn.layers.pixels import values
from crnn.proto import pb
from crnn.proto.blobs import write_mean


@st.composite
def transforms(draw):
    """(a Transformer, records [N, C, H, W], whether they lie as OpenCV decodes, [N, H, W, C])."""
    N, C = draw(st.integers(0, 4)), draw(st.sampled_from((1, 2, 3, 4, 5)))
    H, W = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    param = pb.TransformationParameter(crop_size=draw(st.integers(0, min(H, W))), mirror=draw(st.booleans()))
    param.scale = draw(st.sampled_from((1.0, 0.00390625, 0.017)))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    mean = draw(st.sampled_from(("none", "values", "image")))
    if mean == "values":
        param.mean_value.extend(rng.random(C).tolist())
    transformer = Transformer(param, draw(st.sampled_from((pb.TRAIN, pb.TEST))), (C, H, W))
    if mean == "image":
        transformer.mean = rng.random((C, H, W), np.float32) * 255
    lie = (N, H, W, C) if C > 1 and draw(st.booleans()) else (N, C, H, W)
    records = rng.integers(0, 256, lie, np.uint8)
    return transformer, records if lie[1] == C and lie[2:] == (H, W) else records.transpose(0, 3, 1, 2)


@settings(max_examples=300, deadline=None)
@given(transforms(), st.integers(0, 99))
def test_pixels_then_values_equal_the_transformer(made, seed):
    transformer, records = made
    N = len(records)
    draw = transformer.draw(N, np.random.default_rng(seed))
    want = transformer.apply(records, draw)
    places = transformer.places(draw, N)
    pixels, floats = np.empty(want.shape, np.uint8), np.empty(want.shape, np.float32)
    for out in (pixels, floats):
        for record, place, top in zip(records, places, out, strict=True):
            transformer.see(record, place, None, top)
    assert floats.tobytes() == want.tobytes()
    mean = None if transformer.mean is None else torch.from_numpy(transformer.mean_values)
    places = torch.tensor(places, dtype=torch.int64).reshape(N, 3)
    got = values(torch.from_numpy(pixels), places, mean, float(transformer.scale))
    assert got.is_contiguous() and got.numpy().tobytes() == want.tobytes()


@pytest.fixture(params=["raw", "png", "jpg", "unusual"])
def source(request, tmp_path):
    """Thirty records of 3 × 20 × 18, framed as Caffe does, as image files, or as another writer might."""
    import cv2

    images = np.random.default_rng(0).integers(0, 256, (30, 3, 20, 18), np.uint8)
    with LmdbWriter(tmp_path / "db") as db:
        for i, image in enumerate(images):
            raw = encode(image, i)
            if request.param in ("png", "jpg"):
                raw = encode_file(cv2.imencode(f".{request.param}", image.transpose(1, 2, 0))[1].tobytes(), i)
            if request.param == "unusual" and i % 3:  # fields in another order; one that Caffe does not know
                datum = pb.Datum(channels=3, height=20, width=18, label=i)
                raw = datum.SerializeToString() + pb.Datum(data=image.tobytes()).SerializeToString()
            db.put(b"%08d" % i, raw + b"\x78\x01" * (request.param == "unusual"))
    return tmp_path / "db"


@pytest.mark.parametrize(
    "text",
    [
        "crop_size: 9 mirror: true mean_value: 104 mean_value: 117 mean_value: 123",
        "crop_size: 9 mirror: true mean_file: 'mean' scale: 0.5",
        "crop_size: 9 train_views: 10 mean_file: 'mean'",
        "mirror: true rotation: 20 scaling: 1.2",
        "",
    ],
)
@pytest.mark.parametrize("threads", ["1", "3"])
def test_a_loader_of_pixels_gives_the_batches_of_one_of_floats(source, text, threads, monkeypatch):
    from crnn.data import pieces
    from crnn.proto.text import parse

    monkeypatch.chdir(source.parent)
    monkeypatch.setenv(pieces.THREADS, threads)
    monkeypatch.setattr(pieces, "PIECE", 1)
    write_mean("mean", np.random.default_rng(1).random((3, 20, 18), np.float32))
    param = parse(text, pb.TransformationParameter).message
    floats, pixels = (BatchLoader(source, 7, param, pb.TRAIN, seed=3) for _ in range(2))
    pixels.deliver_pixels(True)
    mean = pixels.transformer.mean_values
    for _ in range(6):
        (want, labels), (bytes_, others, places) = floats.next(), pixels.next()
        assert bytes_.dtype == np.uint8
        tensors = [None if a is None else torch.from_numpy(a) for a in (bytes_, places, mean)]
        assert values(*tensors, float(pixels.transformer.scale)).numpy().tobytes() == want.tobytes()
        assert labels.tolist() == others.tolist()
    pixels.deliver_pixels(False)  # goes on where it was
    assert pixels.next()[0].tobytes() == floats.next()[0].tobytes()
    floats.close(), pixels.close()


def test_a_net_on_another_device_takes_bytes(source, monkeypatch):
    """`meta` stands for a GPU: shapes alone."""
    from crnn.net.net import Net

    layers = (
        f'layer {{ name: "d" type: "Data" top: "x" top: "y" data_param {{ source: "{source}" backend: LMDB '
    )
    layers += "batch_size: 4 } transform_param { crop_size: 9 mirror: true mean_value: 100 } }"
    net = Net(layers, phase="TRAIN").to("meta")
    blobs = net()
    assert blobs["x"].is_meta and blobs["x"].dtype == torch.float32 and blobs["x"].shape == (4, 3, 9, 9)
    assert net.layer("d").loader.next()[0].dtype == np.uint8
