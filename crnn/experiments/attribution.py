"""What each direction of a SpatialRNN layer sees: the gradient of one region's state by the input image.

With h^k_p the state [D] of direction k at region p, and x the input image,

    g^k = ∂ (Σ_d h^k_{p,d}) / ∂x,        their sum Σ_k g^k = ∂ (Σ_k Σ_d h^k_{p,d}) / ∂x.

The derivative is the true one, of all steps: where training cuts the gradient at the start of a line
(`carry_value`; Zuo 2015, section 3.2.3) the value still crosses, so the state depends on what lies before it.
`line_break="carry_value"` gives what training's gradient sees instead.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from crnn.experiments.evaluate import feed, score_blob
from crnn.net.net import Net

PROBES = 8


@dataclass
class Attribution:
    """Gradients of K directions' states at one region, for N images, signed.

    image:   [N, K, C, h, w], with respect to the net's input.
    regions: [N, K, C', H, W], with respect to the layer's own bottom.
    state:   [N, K, D], the states themselves.
    """

    layer: str
    directions: tuple[str, ...]
    line_break: str
    region: tuple[int, int]  # row, column on the H x W map
    image: Tensor
    regions: Tensor
    state: Tensor

    def strength(self) -> tuple[Tensor, Tensor]:
        """[N, K + 1, h, w] of the pixels and [N, K + 1, H, W] of the regions: the gradients' norms over the
        channels, last that of the directions' sum."""
        return tuple(
            torch.cat([part, part.sum(1, keepdim=True)], 1).norm(dim=2) for part in (self.image, self.regions)
        )

    def beyond(self) -> Tensor:
        """[N, K + 1], the share of the regions' strength that lies outside of the region; 0 of nothing."""
        regions = self.strength()[1]
        i, j = self.region
        total = regions.sum((2, 3))
        return (total - regions[:, :, i, j]) / total.clamp_min(torch.finfo(total.dtype).tiny)


def attribute(
    net: Net,
    images: Tensor,
    layer: str | None = None,
    region: tuple[int, int] | None = None,
    line_break: str | None = None,
) -> Attribution:
    """What the directions of a SpatialRNN layer see at a region.

    Args:
        net: of phase TEST, so that the images of a batch do not depend on each other.
        images: [N, C, h, w], as the net takes them.
        layer: the name of a SpatialRNN; None: the last of the net.
        region: (row, column) on the layer's map; None: its centre, (H // 2, W // 2).
        line_break: of the derivative; None: the layer's own, but "carry" for "carry_value".

    Raises ValueError for a layer or region that the net does not have, and if the layer's map does not depend
    on the input by a differentiable path.
    """
    rnn = find(net, layer)
    i, j = region = region_of(rnn, region)
    if line_break not in (None, "carry", "carry_value"):
        raise ValueError(f"the derivative's line_break must be carry or carry_value, got {line_break!r}")
    x = images.detach().requires_grad_()
    with derivative(net, line_break), torch.enable_grad():
        bottoms = bottoms_of(net, rnn, x)
        states = rnn.states(*bottoms)[i * rnn.top_shapes[0][3] + j]  # [N, K, D]
        gradients = [gradient(s.sum(), (x, bottoms[0]), rnn.name) for s in states.unbind(1)]
        used = rnn.settings["line_break"]
    image, regions = (torch.stack(parts, 1) for parts in zip(*gradients, strict=True))
    return Attribution(rnn.name, rnn.settings["directions"], used, region, image, regions, states.detach())


def window(net: Net, images: Tensor, layer: str, region: tuple[int, int]) -> tuple[int, int, int, int]:
    """The rows and columns of the input (top, left, bottom, right; the last two exclusive) that the layer's
    bottom at a region depends on, found by the gradient at PROBES images of noise as strong as `images`."""
    rnn, (i, j) = find(net, layer), region
    noise = torch.randn((PROBES, *images.shape[1:]), generator=torch.Generator().manual_seed(0))
    x = (images.mean() + noise.to(images) * images.std().clamp_min(1e-3)).requires_grad_()
    with derivative(net), torch.enable_grad():
        own = bottoms_of(net, rnn, x)[0][:, :, i, j]
        (depends,) = gradient(own.square().sum(), (x,), rnn.name)
    rows, columns = depends.abs().sum((0, 1)).nonzero(as_tuple=True)
    if not len(rows):
        return 0, 0, 0, 0
    return int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1


def class_gradient(net: Net, images: Tensor) -> tuple[Tensor, Tensor]:
    """∂ (score of the predicted class) / ∂x, [N, C, h, w], and that class, int64 [N]; the score is the
    softmax's input. The derivative is of all steps, as above."""
    x = images.detach().requires_grad_()
    with derivative(net), torch.enable_grad():
        feed(net, x)
        name = before_softmax(net)
        best, predicted = net.blobs[name].flatten(1).max(1)
        return gradient(best.sum(), (x,), name)[0], predicted


def gradient(value: Tensor, inputs: tuple[Tensor, ...], name: str) -> tuple[Tensor, ...]:
    """∂ value / ∂ each input; ValueError where something on the way lets no gradient through."""
    found = [None]
    if value.requires_grad and all(tensor.requires_grad for tensor in inputs):
        found = torch.autograd.grad(value, inputs, retain_graph=True, allow_unused=True)
    if any(part is None for part in found):
        raise ValueError(f"no gradient reaches the input from {name!r}: is there a propagate_down: false?")
    return found


def layers(net: Net) -> list:
    """The net's SpatialRNN layers."""
    return [layer for layer in net.layers if layer.type == "SpatialRNN"]


def find(net: Net, name: str | None):
    """The SpatialRNN of this name, or the last one. ValueError names those that there are."""
    found = layers(net)
    if not found:
        raise ValueError(f"net {net.name!r} has no SpatialRNN layer: there are no directions to look along")
    for layer in found:
        if layer.name == name:
            return layer
    if name is not None:
        known = ", ".join(layer.name for layer in found)
        raise ValueError(f"net {net.name!r} has no SpatialRNN layer {name!r}; it has {known}")
    return found[-1]


def region_of(layer, region: tuple[int, int] | None) -> tuple[int, int]:
    """(row, column), by default of the centre. ValueError if it is not on the layer's map."""
    H, W = layer.top_shapes[0][2:]
    i, j = (H // 2, W // 2) if region is None else region
    if not (0 <= i < H and 0 <= j < W):
        raise ValueError(f"region {i},{j} is not on the map of {layer.name!r}, which is {H} x {W} from 0,0")
    return i, j


@contextmanager
def derivative(net: Net, line_break: str | None = None) -> Iterator[None]:
    """The net's SpatialRNN layers differentiate all their steps, or as `line_break` says.

    carry and carry_value have the same values, so only a layer of one of these two is touched.
    """
    before = {layer: layer.settings for layer in layers(net)}
    for layer, settings in before.items():
        if settings["line_break"] != "reset":
            layer.settings = {**settings, "line_break": line_break or "carry"}
    try:
        yield
    finally:
        for layer, settings in before.items():
            layer.settings = settings


def bottoms_of(net: Net, layer, x: Tensor) -> tuple[Tensor, ...]:
    """What the layer reads when the net is given the images x; later layers may overwrite the blobs."""
    seen = []
    handle = layer.register_forward_pre_hook(lambda _, bottoms: seen.append(bottoms))
    try:
        feed(net, x)
    finally:
        handle.remove()
    return seen[0]


def before_softmax(net: Net) -> str:
    """The blob of the class scores; of a Softmax its bottom, which does not saturate."""
    name, normalised = score_blob(net)
    if not normalised:
        return name
    return next(node.bottoms[0] for node in reversed(net.nodes) if name in node.tops)
