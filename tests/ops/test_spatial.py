"""crnn.ops.spatial_rnn: the layer's function beside its equation written out region by region."""

import numpy as np
import pytest
import torch

from crnn.layers.base import build
from crnn.nn import SpatialRNN
from crnn.ops import spatial_rnn
from crnn.ops.reference import CELLS
from crnn.proto import pb, text
from crnn.testing import FOUR, assert_near

ORDER = {  # the regions (i, j) of an H x W map in the order of each direction
    "right": lambda H, W: [(i, j) for i in range(H) for j in range(W)],
    "left": lambda H, W: [(i, j) for i in range(H) for j in range(W)][::-1],
    "down": lambda H, W: [(i, j) for j in range(W) for i in range(H)],
    "up": lambda H, W: [(i, j) for j in range(W) for i in range(H)][::-1],
}


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def transcription(x, w_ih, b, w_hh, parents=(), w_cs=(), gain=None):
    """y of four carry directions of relu or ln_relu cells, summed, region by region in numpy."""
    x, w_hh = x.detach().numpy(), w_hh.detach().numpy()
    (N, _, H, W), D = x.shape, w_hh.shape[2]
    y = np.zeros((N, D, H, W))
    for n in range(N):
        for k, name in enumerate(FOUR):
            h = np.zeros(D)
            for i, j in ORDER[name](H, W):
                a = x[n, :, i, j] if w_ih is None else w_ih[k % len(w_ih)].detach().numpy() @ x[n, :, i, j]
                for parent, w in zip(parents, w_cs, strict=True):
                    rows, columns = parent.shape[2:]
                    at = parent[n, :, i * rows // H, j * columns // W]  # nearest: floor(i H' / H)
                    a = a + w[k].detach().numpy() @ at.detach().numpy()
                shift = 0 if b is None else b[k % len(b)].detach().numpy()
                a = a + w_hh[k] @ h
                if gain is None:
                    h = np.maximum(a + shift, 0)
                else:
                    norm = (a - a.mean()) / np.sqrt(a.var() + 1e-5)
                    h = np.maximum(gain[k].detach().numpy() * norm + shift, 0)
                y[n, :, i, j] += h
    return torch.from_numpy(y)


def check(x, w_ih, b, w_hh, parents=(), w_cs=(), gain=None):
    got = spatial_rnn(
        x, w_ih, b, w_hh, FOUR, "carry", "relu" if gain is None else "ln_relu", "sum", gain, parents, w_cs
    )
    assert_near(got, transcription(x, w_ih, b, w_hh, parents, w_cs, gain), 1e-13)
    leaves = [t for t in (x, w_ih, b, w_hh, gain, *parents, *w_cs) if t is not None]
    assert all(g.isfinite().all() for g in torch.autograd.grad(got.square().sum(), leaves))


def test_one_projection_a_direction():
    check(random(2, 3, 3, 4), random(4, 5, 3), random(4, 5), random(4, 5, 5) * 0.3)


def test_one_projection_for_all_directions():
    check(random(2, 3, 3, 4), random(1, 5, 3), random(1, 5), random(4, 5, 5) * 0.3)


def test_the_map_is_the_projection():
    check(random(2, 5, 3, 4), None, None, random(4, 5, 5) * 0.3)


@pytest.mark.parametrize("inputs", [1, 4])
def test_ln_relu_adds_the_bias_after_the_normalisation(inputs):
    check(
        random(2, 3, 3, 4), random(inputs, 5, 3), random(inputs, 5), random(4, 5, 5) * 0.3, gain=random(4, 5)
    )


@pytest.mark.parametrize("grids", [[(2, 2)], [(1, 1)], [(6, 8)], [(3, 4)], [(2, 3), (5, 2)]], ids=str)
@pytest.mark.parametrize("inputs", [None, 1, 4])
def test_parents_of_any_grid_are_resized_and_added(grids, inputs):
    parents = [random(2, 2 + n, *grid) for n, grid in enumerate(grids)]
    w_cs = [random(4, 5, 2 + n) for n in range(len(grids))]
    w_ih = None if inputs is None else random(inputs, 5, 3)
    b = None if inputs is None else random(inputs, 5)
    check(random(2, 5 if inputs is None else 3, 3, 4), w_ih, b, random(4, 5, 5) * 0.3, parents, w_cs)


def test_gradients_against_finite_differences():
    inputs = random(1, 2, 2, 3), random(1, 3, 2), random(1, 3), random(4, 3, 3), random(1, 2, 1, 2)

    def layer(x, w_ih, b, w_hh, parent, w_cs):
        return spatial_rnn(x, w_ih, b, w_hh, FOUR, "carry", "tanh", parents=[parent], w_cs=[w_cs])

    assert torch.autograd.gradcheck(layer, (*inputs, random(4, 3, 2)))


FACES = {
    "plain": ({}, "", []),
    "share_input": ({"share_input": True}, "share_input: true", []),
    "no_projection": ({"project_input": False}, "project_input: false", []),
    "no_bias": ({"bias": False}, "bias_term: false", []),
    "parents": ({"parent_channels": (3, 2)}, "", [(3, 2, 2), (2, 6, 1)]),
    "shared_parents": ({"share_input": True, "parent_channels": (3,)}, "share_input: true", [(3, 1, 1)]),
    "concat": ({"combine": "concat", "directions": ("up", "mirror_left")}, None, []),
}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("face", FACES)
def test_module_and_prototxt_layer_are_one(face, cell):
    """The same parameters in the same order, and the same bits."""
    options, fields, grids = FACES[face]
    if fields is None:
        fields = 'combine: "concat" direction: "up" direction: "mirror_left"'
    C = CELLS[cell].gates * 4 if face == "no_projection" else 3
    module = SpatialRNN(C, 4, cell=cell, **options)
    if cell == "gru_tanh":
        fields += ' gru_activation: "tanh"'
    settings = f'num_output: 4 cell: "{cell.removesuffix("_tanh")}" {fields}'
    net = text.parse(
        f'layer {{ name: "rnn" type: "SpatialRNN" spatial_rnn_param {{ {settings} }} }}', pb.NetParameter
    )
    param = net.message.layer[0]
    maps = [torch.randn(2, C, 3, 4), *(torch.randn(2, *grid) for grid in grids)]
    param.bottom.extend(f"b{n}" for n in range(len(maps)))
    param.top.append("y")
    layer = build(param, [m.shape for m in maps])
    assert [b.shape for b in layer.blobs] == [p.shape for p in module.parameters()]
    with torch.no_grad():
        for blob, parameter in zip(layer.blobs, module.parameters(), strict=True):
            blob.copy_(parameter.normal_(std=0.4))
    y = module(*maps)
    assert torch.equal(layer(*maps)[0], y)
    assert tuple(y.shape) == layer.top_shapes[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"project_input": False}, "takes a map of gates \\* num_output = 4 channels, got 3"),
        ({"project_input": False, "share_input": True}, "leave one out"),
        ({"parent_channels": (0,)}, "parent_channels \\(0,\\): each must be at least 1"),
    ],
)
def test_settings_that_contradict_each_other(options, message):
    with pytest.raises(ValueError, match=message):
        SpatialRNN(3, 4, **options)


def test_a_parent_too_few_or_of_other_channels():
    rnn, x = SpatialRNN(3, 4, parent_channels=(2,)), torch.zeros(1, 3, 4, 4)
    with pytest.raises(ValueError, match=r"takes 1 parent maps \(parent_channels\) after x, got 0"):
        rnn(x)
    with pytest.raises(ValueError, match=r"must be \[N, 2, H, W\], got \[1, 5, 2, 2\]"):
        rnn(x, torch.zeros(1, 5, 2, 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(3, 4, 5)}, r"the map must be \[N, 3, H, W\], got \[3, 4, 5\]"),
        ({"w_ih": None, "x": torch.zeros(1, 4, 2, 2)}, "leave bias out"),
        ({"w_cs": (torch.zeros(2, 4, 3),)}, "0 parents need as many w_cs, got 1"),
        (
            {"w_cs": (torch.zeros(2, 4, 3),), "parents": (torch.zeros(2, 3, 2, 2),)},
            "a parent has 2 samples, the map 1",
        ),
    ],
)
def test_maps_and_weights_that_do_not_belong_together(change, message):
    given = {"x": torch.zeros(1, 3, 2, 2), "w_ih": torch.zeros(2, 4, 3), "bias": torch.zeros(2, 4)}
    with pytest.raises(ValueError, match=message):
        spatial_rnn(**(given | {"w_hh": torch.zeros(2, 4, 4), "directions": ("right", "left")} | change))
