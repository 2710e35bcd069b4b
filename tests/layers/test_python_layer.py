"""Python layers by pycaffe's protocol, and the Blob that they see."""

import sys
import types

import numpy as np
import pytest
import torch

from crnn.layers.python_layer import Blob, PythonLayer
from crnn.net.net import Net


class Ten(PythonLayer):
    """Multiplies by ten; notes what it was told."""

    def setup(self, bottom, top):
        self.told = [(self.param_str, self.phase)]

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        top[0].data[...] = 10 * bottom[0].data

    def backward(self, top, propagate_down, bottom):
        self.told.append(propagate_down)
        if propagate_down[0]:
            bottom[0].diff[...] = 10 * top[0].diff


class Learned(PythonLayer):
    """Adds its blob, which starts with 3."""

    def setup(self, bottom, top):
        self.blobs.add_blob(2)
        self.blobs[0].data[...] = 3

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data + self.blobs[0].data

    def backward(self, top, propagate_down, bottom):
        self.blobs[0].diff[...] += top[0].diff.sum(0)
        bottom[0].diff[...] = top[0].diff


class Counter(PythonLayer):
    """A data layer: one more every time."""

    count = 0

    def reshape(self, bottom, top):
        top[0].reshape(1)
        top[1].reshape()

    def forward(self, bottom, top):
        self.count += 1
        top[0].data[0], top[1].data[()] = self.count, self.phase


class InPlace(PythonLayer):
    """Doubles what is there."""

    def forward(self, bottom, top):
        top[0].data[...] *= 2

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] *= 2


@pytest.fixture(autouse=True)
def my_layers(monkeypatch):
    module = types.ModuleType("my_layers")
    for one in (Ten, Learned, Counter, InPlace):
        setattr(module, one.__name__, one)
    monkeypatch.setitem(sys.modules, "my_layers", module)


def python(cls, bottom="x", top="y", more=""):
    bottoms = f'bottom: "{bottom}"' if bottom else ""
    return f"""layer {{ name: "{cls}" type: "Python" {bottoms} top: "{top}" {more}
      python_param {{ module: "my_layers" layer: "{cls}" param_str: "a: 1" share_in_parallel: true }} }}"""


def net(*layers, shape="dim: 3 dim: 2", force="true", **options):
    head = f'layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ {shape} }} }} }}'
    return Net("\n".join([f"force_backward: {force}", head, *layers]), **options)


def test_forward_and_backward_are_the_users():
    it = net(python("Ten"), python("Ten", "y", "z").replace('"Ten" type', '"two" type'), phase="TEST")
    x = torch.randn(3, 2)
    assert it(x)["z"].equal(10 * (10 * x))
    it.blobs["z"].backward(torch.ones(3, 2))
    assert it.blobs["x"].grad.equal(torch.full((3, 2), 100.0))
    assert it.layer("Ten").user.told == [("a: 1", 1), [True]]


def test_any_batch_size_goes_and_old_tops_stay():
    it = net(python("Ten"))
    first = it(torch.ones(3, 2))["y"]
    assert it(torch.zeros(5, 2))["y"].shape == (5, 2)
    assert first.equal(torch.full((3, 2), 10.0))


def test_a_double_net_stays_double():
    it = net(python("Ten"), python("Learned", "y", "z")).double()
    z = it(torch.full((3, 2), 1 / 3, dtype=torch.float64))["z"]
    assert z.dtype == torch.float64 and z[0, 0].item() == 10 * (1 / 3) + 3


def test_propagate_down_reaches_the_user():
    sums = """layer { name: "sum" type: "Eltwise" bottom: "y" bottom: "z" top: "sum"
      propagate_down: true propagate_down: false }"""
    it = net(python("Learned"), python("Ten", "y", "z"), sums, force="false")
    it(torch.ones(3, 2))["sum"].sum().backward()
    assert it.layer("Learned").blobs[0].grad.tolist() == [3, 3]
    assert it.layer("Ten").user.told[1:] == [], "no gradient comes to it"
    it = net(python("Ten"), python("Learned", "y", "z"), force="false")
    it(torch.ones(3, 2))["z"].sum().backward()
    assert it.layer("Ten").user.told[1:] == [], "none is wanted of it"


def test_blobs_learn_and_share():
    it = net(
        python("Learned", more='param { name: "b" }'),
        python("Learned", "y", "z", 'param { name: "b" }').replace('name: "Learned"', 'name: "two"'),
    )
    assert it(torch.zeros(3, 2))["z"].tolist() == [[6, 6]] * 3
    it.blobs["z"].sum().backward()
    (param,) = it.params
    assert param.parameter.grad.tolist() == [6, 6]
    assert it.layer("two").user.blobs[0].diff.tolist() == [6, 6]
    it.layer("two").user.blobs[0].data[0] = 5
    assert it(torch.zeros(3, 2))["z"][0].tolist() == [10, 6]


def test_a_layer_without_bottoms_makes_data_and_may_be_replaced():
    it = net(python("Counter", None, "c").replace('top: "c"', 'top: "c" top: "phase"'), phase="TEST")
    assert [it(torch.zeros(3, 2))["c"].item() for _ in range(3)] == [1, 2, 3]
    assert it.blobs["phase"].item() == 1
    assert it(torch.zeros(3, 2), c=torch.tensor([7.0]), phase=torch.tensor(0.0))["c"].item() == 7


def test_in_place_top_and_bottom_are_one_blob():
    it = net(python("Ten"), python("InPlace", "y", "y"))
    assert it(torch.ones(3, 2))["y"].unique().tolist() == [20]
    it.blobs["y"].sum().backward()
    assert it.blobs["x"].grad.unique().tolist() == [20]


@pytest.mark.parametrize(
    ("name", "layer", "message"),
    [
        (
            "no_such_module",
            "Ten",
            "python_param.module 'no_such_module' is not found: put its folder on PYTHONPATH",
        ),
        ("my_layers", "Eleven", "<module 'my_layers'.* has no class 'Eleven'"),
        ("os", "path", "python_param.layer 'path' of os is no class"),
    ],
)
def test_what_is_not_there(make, name, layer, message):
    with pytest.raises(ValueError, match=message):
        make(f'type: "Python" python_param {{ module: "{name}" layer: "{layer}" }}', (2,))


def test_a_blob_is_a_live_view_with_the_old_names():
    tensor = torch.zeros(2, 3)
    blob = Blob(tensor)
    blob.data[1, 2] = 5
    assert tensor[1, 2] == 5 and blob.shape == (2, 3) and blob.count == 6
    assert (blob.num, blob.channels, blob.height, blob.width) == (2, 3, 1, 1)
    blob.diff[...] = 1
    assert blob.diff.sum() == 6
    blob.reshape(3, 2)
    assert blob.data[2, 1] == 5
    blob.reshape(4)
    assert blob.data.tolist() == [0, 0, 0, 0]
    with pytest.raises(ValueError, match="a blob of 5 axes has no num"):
        Blob(torch.zeros(1, 1, 1, 1, 1)).num  # noqa: B018
    with pytest.raises(AttributeError):
        blob.colour  # noqa: B018


def test_a_parameters_blob_shows_its_gradient():
    parameter = torch.nn.Parameter(torch.ones(2))
    blob = Blob(parameter)
    assert blob.diff.tolist() == [0, 0]
    (parameter * torch.tensor([2.0, 3])).sum().backward()
    assert np.array_equal(blob.diff, [2, 3])


def test_a_second_derivative_is_refused():
    it = net(python("Ten"))
    x = torch.ones(3, 2, requires_grad=True)
    (dx,) = torch.autograd.grad(it(x)["y"].square().sum(), it.blobs["x"], create_graph=True)
    assert dx.eq(200).all()
    with pytest.raises(ValueError, match=r"layer 'Ten' \(Python\) has no second derivative"):
        dx.sum().backward()
