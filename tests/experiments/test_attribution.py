"""What a direction sees: against finite differences, against the order of its visit, and by hand."""

import numpy as np
import pytest
import torch

from crnn.experiments import attribution
from crnn.experiments.attribution import attribute, class_gradient, window
from crnn.net.net import Net
from crnn.ops.plan import ORDERS, plan
from crnn.ops.reference import CELLS
from crnn.testing import assert_near

H, W = 3, 4
NET = """
name: "tiny"
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 2 dim: 2 dim: 7 dim: 9 }} }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "map"
  convolution_param {{ num_output: {channels} kernel_size: 3 stride: 2 weight_filler {{ type: "msra" }} }} }}
{rnn}
layer {{ name: "fc" type: "InnerProduct" bottom: "{last}" top: "fc"
  inner_product_param {{ num_output: 3 weight_filler {{ type: "gaussian" std: 1 }} }} }}
layer {{ name: "prob" type: "Softmax" bottom: "fc" top: "prob" }}
"""
RNN = """
layer {{ name: "{name}" type: "SpatialRNN" bottom: "{bottom}" top: "{name}" spatial_rnn_param {{
  num_output: 4 {directions} {more}
  weight_filler {{ type: "gaussian" std: 1 }} bias_filler {{ type: "constant" value: 0.2 }}
  recurrent_filler {{ type: "gaussian" std: 0.4 }} }} }}
"""


def rnn(*directions, name="rnn", bottom="map", more='cell: "tanh"') -> str:
    named = " ".join(f'direction: "{d}"' for d in directions)
    return RNN.format(name=name, bottom=bottom, directions=named, more=more)


def build(*layers: str, last="rnn", channels=3) -> Net:
    """A net in float64: a convolution makes a 3 x 4 map of its 7 x 9 input, `layers` follow, fc decides."""
    torch.manual_seed(0)
    text = NET.format(rnn="".join(layers), last=last, channels=channels)
    return Net(text, phase="TEST").double()


@pytest.fixture
def images():
    return torch.randn(2, 2, 7, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def differences(function, x: torch.Tensor, step=1e-5) -> torch.Tensor:
    """∂ function(x) / ∂x by central differences, one value at a time."""
    slopes = torch.zeros_like(x)
    for i in range(x.numel()):
        move = torch.zeros_like(x).view(-1)
        move[i] = step
        move = move.view_as(x)
        slopes.view(-1)[i] = (function(x + move) - function(x - move)) / (2 * step)
    return slopes


@torch.no_grad()
def output(net: Net, blob: str, x: torch.Tensor) -> torch.Tensor:
    net(data=x)
    return net.blobs[blob]


@pytest.mark.parametrize("line_break", ["carry_value", "carry", "reset"])
def test_gradient_is_the_slope_of_the_states_sum(images, line_break):
    """One direction at a time, so that the layer's top at the region is that direction's state."""
    for direction in ("right", "up"):
        net = build(rnn(direction, more=f'cell: "tanh" line_break: "{line_break}"'))
        seen = attribute(net, images, region=(1, 2))
        slopes = differences(lambda x, net=net: output(net, "rnn", x)[:, :, 1, 2].sum(), images)
        assert_near(seen.image[:, 0], slopes, 1e-7)


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell(images, cell):
    name = f'cell: "{cell.removesuffix("_tanh")}"' + (' gru_activation: "tanh"' if "_" in cell[:4] else "")
    net = build(rnn("left", more=name))
    slopes = differences(lambda x: output(net, "rnn", x)[:, :, 1, 1].sum(), images)
    assert_near(attribute(net, images, region=(1, 1)).image[:, 0], slopes, 1e-6)


@pytest.mark.parametrize("direction", ORDERS)
@pytest.mark.parametrize("region", [(0, 0), (1, 2), (2, 3)])
def test_a_direction_sees_exactly_what_it_visited_before(images, direction, region):
    seen = attribute(build(rnn(direction)), images, region=region)
    (order,) = plan([direction], H, W, "carry")
    visited = order.positions()
    place = visited.index(region[0] * W + region[1])
    strength = seen.strength()[1][:, 0].flatten(1)
    assert (strength[:, visited[: place + 1]] > 0).all()
    assert (strength[:, visited[place + 1 :]] == 0).all()


def test_pixels_of_regions_visited_later_have_no_gradient(images):
    """Region (1, 1) of "right": the last pixels it can see are those of the window of (1, 1) itself."""
    image = attribute(build(rnn("right")), images, region=(1, 1)).image[:, 0].abs().sum(1)
    assert (image[:, 5:] == 0).all()  # below the window of row 1: rows 2 to 4
    assert (image[:, 3:, 5:] == 0).all()  # right of the window of column 1, below those of row 0
    assert (image[:, :3, 5:].sum((1, 2)) > 0).all()  # all of row 0 is seen


def test_training_sees_its_line_alone(images):
    """carry_value: the value crosses from line to line, the gradient that training uses does not."""
    net = build(rnn("right"))
    full = attribute(net, images, region=(1, 2))
    cut = attribute(net, images, region=(1, 2), line_break="carry_value")
    assert (full.line_break, cut.line_break) == ("carry", "carry_value")
    assert (full.strength()[1][:, 0, 0] > 0).all()
    assert (cut.strength()[1][:, 0, 0] == 0).all()
    assert torch.equal(full.state, cut.state)
    assert_near(cut.regions[..., 1, :], full.regions[..., 1, :], 1e-12)


def test_reset_sees_its_line_alone(images):
    seen = attribute(build(rnn("down", more='cell: "tanh" line_break: "reset"')), images, region=(1, 2))
    assert seen.line_break == "reset"
    assert (seen.strength()[1][:, 0] > 0).nonzero().tolist() == [[n, i, 2] for n in (0, 1) for i in (0, 1)]


@pytest.mark.parametrize(("combine", "factor"), [("sum", 1), ("mean", 1 / 4), ("concat", 1)])
def test_the_directions_sum_is_the_gradient_of_the_layers_top(images, combine, factor):
    net = build(rnn(*("right", "left", "down", "up"), more=f'cell: "tanh" combine: "{combine}"'))
    seen = attribute(net, images)
    assert seen.region == (1, 2)  # the centre of 3 x 4
    slopes = differences(lambda x: output(net, "rnn", x)[:, :, 1, 2].sum(), images)
    assert_near(seen.image.sum(1) * factor, slopes, 1e-7)
    assert_near(seen.strength()[0][:, -1] * factor, slopes.norm(dim=1), 1e-7)


def test_states_combine_to_the_layers_top(images):
    net = build(rnn("right", "mirror_up"))
    seen = attribute(net, images, region=(2, 1))
    assert seen.state.shape == (2, 2, 4)
    assert_near(seen.state.sum(1), output(net, "rnn", images)[:, :, 2, 1], 1e-12)


def test_an_image_is_seen_alike_in_any_batch(images):
    net = build(rnn("right", "down"))
    whole = attribute(net, images)
    for n in range(2):
        assert_near(attribute(net, images[n : n + 1]).image[0], whole.image[n], 1e-12)


def test_without_recurrence_nothing_lies_beyond(images):
    net = build(rnn("right", "left", more='cell: "relu"'))
    net.layer("rnn").blobs[-1].data.zero_()
    assert (attribute(net, images).beyond() == 0).all()


def test_a_dead_state_sees_nothing(images):
    net = build(rnn("right", more='cell: "relu"'))
    net.layer("rnn").blobs[1].data.fill_(-100)
    seen = attribute(net, images)
    assert not seen.image.any() and (seen.beyond() == 0).all()


def test_maps_that_are_the_input_projection_and_other_scales(images):
    """project_input: false, and a parent through which the image is seen too."""
    pool = """layer { name: "pool" type: "Pooling" bottom: "map" top: "coarse"
      pooling_param { pool: AVE kernel_size: 2 stride: 2 } }"""
    layer = rnn("right", more='cell: "tanh" project_input: false cross_filler { type: "msra" }')
    layer = layer.replace('bottom: "map"', 'bottom: "map" bottom: "coarse"')
    net = build(pool, layer, channels=4)
    slopes = differences(lambda x: output(net, "rnn", x)[:, :, 0, 1].sum(), images)
    assert_near(attribute(net, images, region=(0, 1)).image[:, 0], slopes, 1e-7)


def test_the_last_layer_unless_one_is_named(images):
    net = build(rnn("right"), rnn("up", name="second", bottom="rnn"), last="second")
    assert attribute(net, images).layer == "second"
    assert attribute(net, images, "rnn").directions == ("right",)
    slopes = differences(lambda x: output(net, "second", x)[:, :, 0, 3].sum(), images)
    assert_near(attribute(net, images, region=(0, 3)).image[:, 0], slopes, 1e-7)  # through both, all steps


def test_a_layer_that_works_in_place_behind_it_changes_nothing(images):
    """The blob "map" is overwritten after the layer has read it."""
    relu = 'layer { name: "relu" type: "ReLU" bottom: "map" top: "map" }'
    seen = [attribute(build(rnn("right"), *more), images) for more in ([], [relu])]
    assert torch.equal(seen[0].image, seen[1].image)


def test_the_net_is_left_as_it_was(images):
    net = build(rnn("right"))
    with pytest.raises(ValueError, match="no SpatialRNN layer 'x'; it has rnn"):
        attribute(net, images, "x")
    attribute(net, images)
    assert net.layer("rnn").settings["line_break"] == "carry_value"
    assert all(blob.grad is None for blob in net.parameters()) and not images.requires_grad
    assert not net.layer("rnn")._forward_pre_hooks


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"region": (3, 0)}, "region 3,0 is not on the map of 'rnn', which is 3 x 4 from 0,0"),
        ({"region": (0, -1)}, "region 0,-1 is not on the map"),
        ({"line_break": "reset"}, "must be carry or carry_value, got 'reset'"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(images, how, message):
    with pytest.raises(ValueError, match=message):
        attribute(build(rnn("right")), images, **how)


def test_a_cut_on_the_way_is_told(images):
    net = build(rnn("right").replace("spatial_rnn_param", "propagate_down: false spatial_rnn_param"))
    with pytest.raises(ValueError, match="no gradient reaches the input from 'rnn'"):
        attribute(net, images)


def test_a_net_without_the_layer(images):
    net = build(last="map")
    assert attribution.layers(net) == []
    with pytest.raises(ValueError, match="'tiny' has no SpatialRNN layer"):
        attribute(net, images)


@pytest.mark.parametrize(("region", "extent"), [((0, 0), (0, 0, 3, 3)), ((1, 2), (2, 4, 5, 7))])
def test_the_window_is_what_the_convolutions_read(images, region, extent):
    """Kernel 3, stride 2: region (i, j) reads rows 2i to 2i + 2 and columns 2j to 2j + 2."""
    assert window(build(rnn("right")), images, "rnn", region) == extent


def test_the_window_of_a_deeper_region_ends_at_the_border(images):
    """Two more 3 x 3 convolutions with pad 1 add two regions, four pixels, on each side: 2i - 4 to 2i + 6."""
    conv = """layer {{ name: "{0}" type: "Convolution" bottom: "{1}" top: "{0}"
      convolution_param {{ num_output: 3 kernel_size: 3 pad: 1 weight_filler {{ type: "msra" }} }} }}"""
    net = build(conv.format("b", "map"), conv.format("c", "b"), rnn("right", bottom="c"))
    assert window(net, images, "rnn", (0, 0)) == (0, 0, 7, 7)
    assert window(net, images, "rnn", (2, 3)) == (0, 2, 7, 9)


def test_the_class_score_is_the_best_ones_before_the_softmax(images):
    net = build(rnn("right", "left"))
    gradient, predicted = class_gradient(net, images)
    scores = output(net, "fc", images)
    assert torch.equal(predicted, scores.argmax(1))

    def best(x):
        return output(net, "fc", x)[np.arange(2), predicted].sum()

    assert_near(gradient, differences(best, images), 1e-7)
