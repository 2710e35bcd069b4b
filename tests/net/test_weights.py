"""Weights by layer name: load with its report, save as Caffe writes."""

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from crnn.net import weights
from crnn.net.net import Net
from crnn.proto import hdf5, pb
from crnn.proto.blobs import from_array, read_binary, to_array, write_binary
from crnn.testing import golden


def fill(net, value):
    with torch.no_grad():
        for blob in net.parameters():
            blob.fill_(value)


def test_a_saved_net_loads_back(simple, tmp_path):
    net, other = Net(simple()), Net(simple())
    weights.save(net, tmp_path / "a.caffemodel")
    report = weights.load(other, tmp_path / "a.caffemodel")
    assert report.copied == ["fc"]
    for mine, theirs in zip(net.parameters(), other.parameters(), strict=True):
        assert mine.equal(theirs)
    assert Net(simple(), weights=str(tmp_path / "a.caffemodel")).load_report.copied == ["fc"]


def test_load_copies_by_name_and_reports_the_rest(simple, tmp_path):
    weights.save(Net(simple()), tmp_path / "a.caffemodel")
    renamed = Net(simple().replace('name: "fc"', 'name: "fc_new"'))
    before = [blob.clone() for blob in renamed.parameters()]
    report = weights.load(renamed, tmp_path / "a.caffemodel")
    assert str(report).splitlines() == [
        "copied       0",
        "filled       1  fc_new",
        "ignored      1  fc",
        "misshapen    0",
    ]
    assert all(a.equal(b) for a, b in zip(before, renamed.parameters(), strict=True))


def test_a_prototxt_may_hold_blobs_itself(simple):
    weight, bias = "shape { dim: 2 dim: 3 } data: [1, 2, 3, 4, 5, 6]", "shape { dim: 2 } data: [7, 8]"
    net = Net(simple(f"blobs {{ {weight} }} blobs {{ {bias} }}"))
    assert [blob.tolist() for blob in net.layer("fc").blobs] == [[[1, 2, 3], [4, 5, 6]], [7, 8]]
    with pytest.raises(ValueError, match="layer 'fc': 2 blobs, in the file 1"):
        Net(simple(f"blobs {{ {bias} }}"))


def test_of_several_files_the_later_wins(simple, tmp_path):
    net = Net(simple())
    for name, value in (("a", 1), ("b", 2)):
        fill(net, value)
        weights.save(net, tmp_path / f"{name}.caffemodel")
    report = weights.load(net, f"{tmp_path}/b.caffemodel,{tmp_path}/a.caffemodel")
    assert report.copied == ["fc"]
    assert net.layer("fc").blobs[0].eq(1).all()


TWO = """
layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: 1 dim: 3 }} }} }}
layer {{ name: "good" type: "InnerProduct" bottom: "x" top: "a" inner_product_param {{ num_output: 2 }} }}
layer {{ name: "wide" type: "InnerProduct" bottom: "x" top: "b" inner_product_param {{ num_output: {} }} }}
layer {{ name: "bias" type: "InnerProduct" bottom: "x" top: "c" inner_product_param {{ num_output: 2 {} }} }}
"""


def test_all_layers_that_do_not_fit_are_named_and_nothing_is_copied(tmp_path):
    path = tmp_path / "a.caffemodel"
    net = Net(TWO.format(4, ""))
    fill(net, 5)
    weights.save(net, path)
    other = Net(TWO.format(5, "bias_term: false"))
    with pytest.raises(ValueError) as raised:
        weights.load(other, path)
    assert str(raised.value) == (
        f"{path} does not fit net '': layer 'wide': blob 0 is [5, 3], in the file [4, 3]; "
        "layer 'bias': 1 blobs, in the file 2. To learn a layer from scratch, rename it in the prototxt"
    )
    assert all(blob.eq(0).all() for blob in other.parameters())


def test_legacy_shapes_and_old_layers_fit(simple, tmp_path):
    """bvlc_alexnet.caffemodel is a V1 net whose blobs have num, channels, height and width."""
    old = pb.NetParameter()
    layer = old.layers.add(name="fc", type=pb.V1LayerParameter.INNER_PRODUCT)
    for values, legacy in ((np.arange(6.0), (1, 1, 2, 3)), (np.arange(2.0), (1, 1, 1, 2))):
        blob = from_array(values.astype(np.float32))
        blob.ClearField("shape")
        blob.num, blob.channels, blob.height, blob.width = legacy
        layer.blobs.append(blob)
    write_binary(tmp_path / "old.caffemodel", old)
    net = Net(simple(), weights=tmp_path / "old.caffemodel")
    assert net.layer("fc").blobs[0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert net.layer("fc").blobs[1].tolist() == [0, 1]


def test_sharers_are_written_in_full(tmp_path):
    text = TWO.format(2, "").replace("num_output: 2", 'num_output: 2 weight_filler { type: "gaussian" }')
    for name in ("good", "wide"):
        text = text.replace(f'name: "{name}"', f'name: "{name}" param {{ name: "w" }}')
    weights.save(Net(text), tmp_path / "a.caffemodel")
    stored = {layer.name: layer for layer in read_binary(tmp_path / "a.caffemodel", pb.NetParameter).layer}
    assert np.array_equal(*(to_array(stored[name].blobs[0]) for name in ("good", "wide")))
    net = Net(text, weights=tmp_path / "a.caffemodel")
    assert net.layer("good").blobs[0] is net.layer("wide").blobs[0]


@pytest.fixture
def logged(tmp_path, monkeypatch):
    """The folder in which the real Caffe trained goldens/tools' net."""
    for name in ("logged_net.prototxt", "mean.binaryproto", "logged_iter_30.caffemodel"):
        shutil.copy(golden(f"tools/{name}"), tmp_path)
    shutil.copytree(golden("tools/raw_color_lmdb"), tmp_path / "raw_color_lmdb")
    monkeypatch.chdir(tmp_path)
    return "logged_net.prototxt", "logged_iter_30.caffemodel"


def solver_cases():
    return sorted(path.parent.name for path in golden("solvers").glob("*/mid.caffemodel"))


def test_caffes_trained_model_is_saved_as_caffe_saved_it(logged, tmp_path):
    prototxt, model = logged
    weights.save(Net(prototxt, weights=model), "ours.caffemodel")
    assert read_binary("ours.caffemodel", pb.NetParameter) == read_binary(model, pb.NetParameter)
    assert Net(prototxt, phase="TEST", weights=model).load_report.copied == ["conv1", "fc"]


@pytest.mark.parametrize("case", solver_cases())
def test_caffes_snapshots_are_saved_as_caffe_saved_them(case, tmp_path):
    folder = golden(f"solvers/{case}")
    net = Net(str(folder / "net.prototxt"), weights=folder / "mid.caffemodel")
    weights.save(net, tmp_path / "ours.caffemodel")
    ours, theirs = (
        read_binary(path, pb.NetParameter)
        for path in (tmp_path / "ours.caffemodel", folder / "mid.caffemodel")
    )
    assert ours == theirs


def test_batch_norm_is_saved_with_its_fixed_rates(tmp_path):
    text = """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
    layer { name: "bn" type: "BatchNorm" bottom: "x" top: "x" }"""
    weights.save(Net(text), tmp_path / "a.caffemodel")
    layer = read_binary(tmp_path / "a.caffemodel", pb.NetParameter).layer[1]
    assert [spec.lr_mult for spec in layer.param] == [0, 0, 0]
    assert [list(blob.shape.dim) for blob in layer.blobs] == [[3], [3], [1]]


def test_alexnets_size_loads_and_saves_in_seconds(tmp_path):
    text = """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 8192 } } }
    layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc"
      inner_product_param { num_output: 2048 } }"""
    net, start = Net(text), time.process_time()
    weights.save(net, tmp_path / "64MB.caffemodel")
    weights.load(net, tmp_path / "64MB.caffemodel")
    assert time.process_time() - start < 5


def test_hdf5_weights_of_caffe_are_loaded_and_saved(tmp_path):
    pytest.importorskip("h5py", reason="needs h5py: any machine with crnn[hdf5]")
    folder = golden("hdf5/shared")
    model = folder / "snap_iter_5.caffemodel.h5"
    net = Net(str(folder / "net.prototxt"), weights=model)
    wanted = np.load(folder / "weights.npz")
    for layer in net.layers:
        for index, blob in enumerate(layer.blobs):
            assert np.array_equal(blob.detach().numpy(), wanted[f"{layer.name}/{index}"])
    assert net.load_report.copied == ["conv", "fc", "twin"] and not net.load_report.ignored
    weights.save(net, tmp_path / "ours.h5")
    ours, theirs = (hdf5.read_weights(path) for path in (tmp_path / "ours.h5", model))
    for layer, blobs in theirs.items():
        if blobs:
            assert ours[layer].keys() == blobs.keys()
            assert all(np.array_equal(ours[layer][i], blobs[i]) for i in blobs)


def test_hdf5_weights_that_do_not_fit(tmp_path):
    pytest.importorskip("h5py", reason="needs h5py: any machine with crnn[hdf5]")
    path = tmp_path / "a.h5"
    weights.save(Net(TWO.format(4, "")), path)
    with pytest.raises(ValueError) as raised:
        weights.load(Net(TWO.format(5, "bias_term: false")), path)
    assert str(raised.value) == (
        f"{path} does not fit net '': layer 'bias': 1 blobs, in the file 2; "
        "layer 'wide': blob 0 is [5, 3], in the file [4, 3]. "
        "To learn a layer from scratch, rename it in the prototxt"
    )
    shared = TWO.format(4, "").replace('name: "good"', 'name: "good" param { name: "w" }')
    shared = shared.replace('name: "bias"', 'name: "bias" param { name: "w" }')
    weights.save(Net(shared), path)
    with pytest.raises(ValueError, match="layer 'bias': 2 blobs, in the file 1"):
        weights.load(Net(TWO.format(4, "")), path)


def test_a_prototxt_is_no_weights_file(simple, tmp_path):
    (tmp_path / "net.prototxt").write_text(simple())
    with pytest.raises(ValueError, match=r"net\.prototxt"):
        weights.load(Net(simple()), tmp_path / "net.prototxt")
    with pytest.raises(OSError, match=r"none\.caffemodel"):
        weights.load(Net(simple()), tmp_path / "none.caffemodel")


def test_weights_of_2013_fit(simple, tmp_path):
    """In V0 name and blobs stand in the `layer` of a `layers`."""
    old = pb.NetParameter()
    inner = old.layers.add().layer
    inner.name, inner.type = "fc", "innerproduct"
    for values in (np.arange(6.0).reshape(2, 3), np.arange(2.0)):
        inner.blobs.append(from_array(values.astype(np.float32)))
    write_binary(tmp_path / "old.caffemodel", old)
    assert Net(simple(), weights=tmp_path / "old.caffemodel").layer("fc").blobs[1].tolist() == [0, 1]


def test_a_flipped_bit_beside_a_snapshots_checksum(logged):
    Path("x_iter_1.caffemodel").write_bytes(data := Path("logged_iter_30.caffemodel").read_bytes())
    digest = weights.sha256("x_iter_1.caffemodel")
    Path("x_iter_1.resume.json").write_text(json.dumps({"sha256": {"x_iter_1.caffemodel": digest}}))
    net = Net("logged_net.prototxt", weights="x_iter_1.caffemodel")
    before = [blob.clone() for blob in net.parameters()]
    Path("x_iter_1.caffemodel").write_bytes(data[:1500] + bytes([data[1500] ^ 1]) + data[1501:])
    with pytest.raises(
        ValueError, match=r"x_iter_1\.caffemodel is damaged or of another run: .*resume\.json"
    ):
        weights.load(net, "x_iter_1.caffemodel")
    assert all(a.equal(b) for a, b in zip(before, net.parameters(), strict=True))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(simple, tmp_path, value):
    net = Net(simple())
    with torch.no_grad():
        net.layer("fc").blobs[1][1] = value
    weights.save(net, tmp_path / "a.caffemodel")
    with pytest.raises(ValueError, match=r"a\.caffemodel: layer 'fc': its blobs are not finite"):
        weights.load(net, tmp_path / "a.caffemodel")


def test_weights_cut_off_anywhere_are_never_loaded(logged):
    data = Path("logged_iter_30.caffemodel").read_bytes()
    net = Net("logged_net.prototxt")
    for size in range(0, len(data), 997):
        Path("cut.caffemodel").write_bytes(data[:size])
        with pytest.raises(ValueError, match=r"cut\.caffemodel"):
            weights.load(net, "cut.caffemodel")


def test_a_solver_state_is_no_weights_file(logged):
    state = golden("tools/logged_iter_30.solverstate")
    with pytest.raises(ValueError, match=r"this is a solver state \(\.solverstate\), not a binary net"):
        weights.load(Net("logged_net.prototxt"), state)


def test_a_file_may_have_a_comma_in_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = Net(
        'input: "x" input_shape { dim: 1 dim: 2 } layer { name: "fc" type: "InnerProduct" bottom: "x"\n'
        'top: "fc" inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }'
    )
    weights.save(net, "lr=.1,m=.9.caffemodel")
    assert weights.load(net, "lr=.1,m=.9.caffemodel").copied == ["fc"]
    weights.save(net, "m=.9.caffemodel")
    weights.save(net, "b.caffemodel")
    assert weights.load(net, "b.caffemodel,m=.9.caffemodel").copied == ["fc"]
