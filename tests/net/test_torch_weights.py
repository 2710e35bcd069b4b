"""ResNet-18 in prototxt with the weights of torchvision's model, read from a state dict."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from crnn.net import torch_weights
from crnn.net.net import Net
from crnn.testing import ROOT

RESNET = str(ROOT / "prototxt_like" / "srnn" / "resnet18.prototxt")
SHAPES = {"conv1.weight": (4, 3, 3, 3), "bn1.weight": (4,), "bn1.bias": (4,), "bn1.running_mean": (4,)}
SHAPES |= {"bn1.running_var": (4,), "fc.weight": (2, 4), "fc.bias": (2,)}
SMALL = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [2, 3, 8, 8] } } }
layer { name: "conv1" type: "Convolution" bottom: "x" top: "y"
  convolution_param { num_output: 4 kernel_size: 3 bias_term: false } }
layer { name: "bn1" type: "BatchNorm" bottom: "y" top: "y" }
layer { name: "bn1.scale" type: "Scale" bottom: "y" top: "y" scale_param { bias_term: true } }
layer { name: "pool" type: "Pooling" bottom: "y" top: "p" pooling_param { pool: AVE global_pooling: true } }
layer { name: "fc" type: "InnerProduct" bottom: "p" top: "fc" inner_product_param { num_output: 2 } }
"""


def state():
    return {name: 0.5 + torch.rand(shape) for name, shape in SHAPES.items()}


def torchs(x, s):
    x = torch.nn.functional.conv2d(x, s["conv1.weight"])
    x = torch.nn.functional.batch_norm(
        x, s["bn1.running_mean"], s["bn1.running_var"], s["bn1.weight"], s["bn1.bias"]
    )
    return x.mean((2, 3)) @ s["fc.weight"].T + s["fc.bias"]


@pytest.mark.parametrize("form", ["pth", "safetensors", "npz"])
def test_the_net_computes_what_torch_does(tmp_path, form):
    path, values = tmp_path / f"w.{form}", state()
    save = {"pth": torch.save, "safetensors": save_file}
    if form == "npz":
        np.savez(path, **{name: value.numpy() for name, value in values.items()})
    else:
        save[form](values, path)
    net, x = Net(SMALL, phase="TEST"), torch.randn(2, 3, 8, 8)
    assert torch_weights.copy(net, torch_weights.read(path)) == []
    torch.testing.assert_close(net(x)["fc"], torchs(x, values))


def test_a_net_starts_from_a_state_dict_as_from_a_caffemodel(tmp_path):
    """Layers that the file does not have keep their fillers' values; sharers need no entry."""
    torch.save(values := {n: v for n, v in state().items() if not n.startswith("fc")}, tmp_path / "w.pth")
    shared = SMALL.replace('name: "conv1"', 'name: "conv1" param { name: "w" }') + (
        'layer { name: "again" type: "Convolution" bottom: "x" top: "z" param { name: "w" }\n'
        "  convolution_param { num_output: 4 kernel_size: 3 bias_term: false } }"
    )
    net = Net(shared, phase="TEST", weights=tmp_path / "w.pth")
    assert net.load_report.copied == ["conv1", "bn1", "bn1.scale"] and net.load_report.filled == ["fc"]
    assert net.layer("again").blobs[0].equal(values["conv1.weight"])
    assert net.layer("bn1").blobs[2].item() == 1


def test_modules_of_no_layer_and_layers_of_other_shapes_are_told(tmp_path):
    torch.save({"head.weight": torch.zeros(1), "fc.bias": torch.zeros(2)}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="layer 'fc': 2 blobs, in the file 1"):
        Net(SMALL, phase="TEST", weights=tmp_path / "w.pth")
    torch.save({"head.weight": torch.zeros(1)}, tmp_path / "w.pth")
    assert Net(SMALL, phase="TEST", weights=tmp_path / "w.pth").load_report.ignored == ["head"]


def test_an_entry_that_its_layer_has_no_blob_for_is_told(tmp_path):
    net = """input: "x" input_shape { dim: 1 dim: 2 dim: 3 dim: 3 }
      layer { name: "conv" type: "Convolution" bottom: "x" top: "conv"
        convolution_param { num_output: 2 kernel_size: 1 bias_term: false } }
      layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "bn" }"""
    model = torch.nn.Sequential()
    model.add_module("conv", torch.nn.Conv2d(2, 2, 1))
    model.add_module("bn", torch.nn.BatchNorm2d(2))
    torch.save(model.state_dict(), tmp_path / "w.pth")
    report = Net(net, phase="TEST", weights=tmp_path / "w.pth").load_report
    assert report.copied == ["conv", "bn"] and report.ignored == ["conv.bias", "bn.weight", "bn.bias"]


def test_what_is_missing_or_misshapen_is_named():
    values = state()
    del values["fc.bias"]
    values["conv1.weight"] = torch.zeros(4, 3, 5, 5)
    net = Net(SMALL, phase="TEST")
    with pytest.raises(ValueError, match=r"conv1.weight is \[4, 3, 5, 5\], layer 'conv1' has .*; no fc.bias"):
        torch_weights.copy(net, values)


def test_entries_that_no_layer_takes_are_returned():
    extra = {"head.weight": torch.zeros(1), "bn1.num_batches_tracked": torch.tensor(3)}
    assert torch_weights.copy(Net(SMALL, phase="TEST"), {**state(), **extra}) == ["head.weight"]


def test_a_file_that_would_run_code_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pth")
    with pytest.raises(ValueError, match="no state dict that can be read without running code"):
        torch_weights.read(tmp_path / "model.pth")


def test_a_part_of_an_npz_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", weight=np.ones(99))
    whole = (tmp_path / "x.npz").read_bytes()
    (tmp_path / "x.npz").write_bytes(whole[:-40])
    with pytest.raises(ValueError, match=r"x\.npz is no whole \.npz file"):
        torch_weights.read(tmp_path / "x.npz")


def test_texts_are_no_weights(tmp_path):
    np.savez(tmp_path / "x.npz", weight=np.array("text"))
    with pytest.raises(ValueError, match=r"x\.npz holds what is no tensor"):
        torch_weights.read(tmp_path / "x.npz")


def test_resnet_18_has_torchvisions_parameters():
    """11,689,512 (torchvision's model card), and 512 features at any size of image."""
    net = Net(RESNET, phase="TEST")
    learnt = [b for layer in net.layers if layer.type != "BatchNorm" for b in layer.blobs]
    assert sum(blob.numel() for blob in learnt) == 11_689_512
    with torch.no_grad():
        for size in (32, 48):
            net(torch.rand(1, 3, size, size))
            assert net.blobs["avgpool"].shape[:2] == (1, 512)


def test_it_takes_torchvisions_weights():
    models = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    model = models.resnet18().eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    net, x = Net(RESNET, phase="TEST"), torch.randn(2, 3, 96, 96)
    assert torch_weights.copy(net, model.state_dict()) == []
    with torch.no_grad():
        net(x)
        torch.testing.assert_close(net.blobs["fc"], model(x), rtol=1e-4, atol=1e-5)


def test_layers_that_lie_otherwise_than_torchs_modules():
    """A transposed InnerProduct, a Scale by a bottom, a Deconvolution."""
    net = Net(
        """layer { name: "x" type: "Input" top: "x" top: "s"
          input_param { shape { dim: 2 dim: 3 } shape { dim: 3 } } }
        layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y"
          inner_product_param { num_output: 3 transpose: true } }
        layer { name: "s" type: "Scale" bottom: "y" bottom: "s" top: "z"
          scale_param { bias_term: true axis: 1 } }
        layer { name: "r" type: "Reshape" bottom: "z" top: "r" reshape_param { shape { dim: [0, 3, 1, 1] } } }
        layer { name: "d" type: "Deconvolution" bottom: "r" top: "d"
          convolution_param { num_output: 2 kernel_size: 2 } }""",
        phase="TEST",
    )
    fc, d, bias = torch.nn.Linear(3, 3), torch.nn.ConvTranspose2d(3, 2, 2), torch.randn(3)
    values = {"s.weight": torch.full((3,), 7.0), "s.bias": bias}
    values |= {f"{name}.{key}": v for name, m in (("fc", fc), ("d", d)) for key, v in m.state_dict().items()}
    assert torch_weights.copy(net, values) == ["s.weight"]
    x, s = torch.randn(2, 3), torch.randn(3)
    torch.testing.assert_close(net(x, s)["d"], d((fc(x) * s + bias)[:, :, None, None]))


def test_modules_that_no_layer_can_take_are_told(tmp_path):
    torch.save({**state(), "pool.weight": torch.zeros(2)}, tmp_path / "w.pth")
    assert torch_weights.layers_of(Net(SMALL), torch_weights.read(tmp_path / "w.pth"))[1] == ["pool"]
