"""HierarchicalRNN (C-HRNN-style) beside its equations in numpy, and beside Poolings and SpatialRNNs."""

import numpy as np
import pytest
import torch

from crnn.layers.hierarchical_rnn import LINKS
from crnn.net.net import Net
from crnn.testing import assert_near

C, D, SCALES = 3, 4, (6, 3, 2, 1)
VISITS = {  # the regions (i, j) of an s x s grid in the order of each direction
    "right": lambda s: [(i, j) for i in range(s) for j in range(s)],
    "left": lambda s: [(i, j) for i in range(s) for j in range(s)][::-1],
    "down": lambda s: [(i, j) for j in range(s) for i in range(s)],
    "up": lambda s: [(i, j) for j in range(s) for i in range(s)][::-1],
}


def relu(a, h, c):
    return np.maximum(a, 0), c


def lstm(a, h, c):
    i, f, o = (1 / (1 + np.exp(-gate)) for gate in np.split(a, 4)[:3])
    c = f * c + i * np.tanh(np.split(a, 4)[3])
    return o * np.tanh(c), c


def states(x, parent, w_ih, b, w_hh, w_cs, cell):
    """The sum of four scans over a grid [C, s, s]: a = W_ih x + b + W_cs parent + W_hh h at every region."""
    s = x.shape[1]
    y = np.zeros((D, s, s))
    for k, visit in enumerate(VISITS.values()):
        h = c = np.zeros(D)
        for i, j in visit(s):
            a = w_ih[k] @ x[:, i, j] + b[k] + w_hh[k] @ h
            if parent is not None:  # the region of the other grid that lies there
                r = parent.shape[1]
                a = a + w_cs[k] @ parent[:, i * r // s, j * r // s]
            h, c = cell(a, h, c)
            y[:, i, j] += h
    return y


def pyramid(x, s):
    """x [C, 6, 6] -> the maxima of s x s windows."""
    return x.reshape(C, s, 6 // s, s, 6 // s).max((2, 4))


def transcription(x, w_ih, b, w_hh, w_cs, link, cell):
    out = []
    for image in x:
        maps, before = {}, None
        for level in range(4) if link != "coarse_to_fine" else reversed(range(4)):
            parent = w = None
            if link != "none" and before is not None:
                parent, w = maps[before], w_cs[min(level, before)]
            grid = pyramid(image, SCALES[level])
            maps[level] = states(grid, parent, w_ih[level], b[level], w_hh[level], w, cell)
            before = level
        out.append(np.concatenate([maps[level].ravel() for level in range(4)]))
    return np.stack(out)


def text(cell="relu", link="coarse_to_fine", scales=SCALES, more=""):
    listed = " ".join(f"scale: {s}" for s in scales)
    return f"""type: "HierarchicalRNN" hierarchical_rnn_param {{ {listed} link: "{link}" }}
        spatial_rnn_param {{ num_output: {D} cell: "{cell}" line_break: "carry" {more} }}"""


def randomised(layer):
    rng = torch.Generator().manual_seed(3)
    for blob in layer.double().blobs:
        blob.data.copy_(0.4 * torch.randn(blob.shape, generator=rng))
    return layer


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("cell", [relu, lstm])
def test_hsrn_and_hlstm_are_their_equations(make, cell, link):
    layer = randomised(make(text(cell.__name__, link), (2, C, 6, 6)))
    x = torch.randn(2, C, 6, 6, dtype=torch.float64)
    blobs = [blob.detach().numpy() for blob in layer.blobs]
    assert len(blobs) == (3 if link == "none" else 4)
    want = transcription(x.numpy(), *blobs[:3], blobs[-1], link, cell)
    assert_near(layer(x)[0], torch.from_numpy(want), 1e-13)
    assert layer.top_shapes == [(2, D * (36 + 9 + 4 + 1))]


def plain_net(link, cell):
    """The same of Caffe's Pooling, SpatialRNN, Flatten and Concat, a layer each."""
    lines = [
        f'layer {{ name: "x" type: "Input" top: "x" input_param {{ shape: {{ dim: [2, {C}, 6, 6] }} }} }}'
    ]
    before = None
    for s in SCALES if link != "coarse_to_fine" else reversed(SCALES):
        window = f"pooling_param {{ pool: MAX kernel_size: {6 // s} stride: {6 // s} }}"
        lines.append(f'layer {{ name: "x{s}" type: "Pooling" bottom: "x" top: "x{s}" {window} }}')
        parent = f'bottom: "h{before}"' if before and link != "none" else ""
        lines.append(
            f'layer {{ name: "h{s}" type: "SpatialRNN" bottom: "x{s}" {parent} top: "h{s}" '
            f'spatial_rnn_param {{ num_output: {D} cell: "{cell}" }} }}'
        )
        lines.append(f'layer {{ name: "f{s}" type: "Flatten" bottom: "h{s}" top: "f{s}" }}')
        before = s
    bottoms = " ".join(f'bottom: "f{s}"' for s in SCALES)
    return Net("\n".join([*lines, f'layer {{ name: "y" type: "Concat" {bottoms} top: "y" }}']))


@pytest.mark.parametrize("cell", ["relu", "lstm", "gru"])
@pytest.mark.parametrize("link", LINKS)
def test_it_is_poolings_and_spatial_rnns(make, link, cell):
    """Values and all gradients, with the default line break."""
    layer, net = (
        make(text(cell, link).replace('line_break: "carry"', ""), (2, C, 6, 6)),
        plain_net(link, cell),
    )
    randomised(layer)
    net.double()
    parts = [list(net.layer(f"h{s}").blobs) for s in SCALES]
    linked = [part for part in parts if len(part) > 3]
    with torch.no_grad():
        for level, part in enumerate(parts):
            for blob, stacked in zip(part[:3], layer.blobs, strict=False):
                blob.copy_(stacked[level])
        for part, w_cs in zip(linked, layer.blobs[-1], strict=False):
            part[3].copy_(w_cs)
    x = torch.randn(2, C, 6, 6, dtype=torch.float64, requires_grad=True)
    y, want = layer(x)[0], net(x)["y"]
    assert_near(y, want, 1e-15)
    dy = torch.randn_like(y)
    dx, *grads = torch.autograd.grad(y, [x, *layer.blobs], dy)
    want.backward(dy)
    assert_near(dx, x.grad, 1e-13)
    for n, grad in enumerate(grads):
        theirs = [part[n].grad for part in (parts if n < 3 else linked)]
        assert_near(grad, torch.stack(theirs), 1e-13)


def test_one_scale_is_c_rnn(make):
    """Scale 6 alone is a SpatialRNN on the map itself, flattened."""
    layer = randomised(make(text(scales=(6,)), (2, C, 6, 6)))
    rnn = make(
        f'type: "SpatialRNN" spatial_rnn_param {{ num_output: {D} line_break: "carry" }}', (2, C, 6, 6)
    )
    for mine, theirs in zip(rnn.double().blobs, layer.blobs, strict=True):
        mine.data.copy_(theirs[0])
    x = torch.randn(2, C, 6, 6, dtype=torch.float64)
    assert layer(x)[0].equal(rnn(x)[0].flatten(1))


def test_fillers_see_the_matrix_of_one_scale_and_direction(make):
    fillers = 'weight_filler { type: "identity" value: 0.25 } cross_filler { type: "identity" value: 2 }'
    layer = make(text(more=fillers), (1, D, 6, 6))
    assert layer.blobs[0].equal(0.25 * torch.eye(D).expand(4, 4, D, D))
    assert layer.blobs[3].equal(2 * torch.eye(D).expand(3, 4, D, D))


def test_at_the_degenerate_point_the_pyramid_passes(make):
    """W_ih = I / 4, all else 0: the finest scale is the map itself, as in C-RNN."""
    layer = make(text(more='weight_filler { type: "identity" value: 0.25 }'), (2, D, 6, 6))
    x = torch.rand(2, D, 6, 6)
    y = layer(x)[0]
    assert y[:, : D * 36].equal(x.flatten(1))
    assert y[:, -D:].equal(x.amax((2, 3)))


@pytest.mark.parametrize(
    ("scales", "link", "message"),
    [
        ((), "none", r"needs falling scales, as scale: \[6, 3, 2, 1\], got \[\]"),
        ((3, 6), "none", r"needs falling scales, as scale: \[6, 3, 2, 1\], got \[3, 6\]"),
        ((6, 4), "none", "scale 4 does not divide the map 6 x 6; give divisors of its sides"),
        ((12, 6), "none", "scale 12 does not divide the map 6 x 6; give divisors of its sides"),
        ((6, 3), "up", "unknown link 'up'; known: coarse_to_fine, fine_to_coarse, none"),
    ],
)
def test_settings_that_cannot_be(make, scales, link, message):
    with pytest.raises(ValueError, match=message):
        make(text(link=link, scales=scales), (1, C, 6, 6))


def test_a_later_map_of_another_size(make):
    layer = make(text(), (1, C, 6, 6))
    with pytest.raises(ValueError, match="scale 6 does not divide the map 5 x 5"):
        layer(torch.zeros(1, C, 5, 5))
