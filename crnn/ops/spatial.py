"""The spatial recurrent layer as one function: projection, scan, combination of the directions."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from . import backend
from .plan import LineBreak, kept_plan, plan
from .scan import scan
from .spatial_scan import sum_and_states
from .transforms import in_channels_last
from .transposed import in_order

COMBINE = ("sum", "mean", "concat")
#: How the layer is computed: scan and neighbours apart; or in one call the scan and the sum of its
#: directions, or the input projection, or both. One that is asked for runs or says why it cannot.
VARIANTS = ("scan", "sum", "projection", "fused")


def check_input(C: int, rows: int, project_input: bool, share_input: bool) -> None:
    """Raises ValueError where a layer's input settings contradict each other; rows is G*D."""
    if not project_input and share_input:
        raise ValueError("share_input shares W_ih, but project_input: false has no W_ih; leave one out")
    if not project_input and rows != C:
        raise ValueError(f"project_input: false takes a map of gates * num_output = {rows} channels, got {C}")


def spatial_rnn(
    x: Tensor,
    w_ih: Tensor | None,
    bias: Tensor | None,
    w_hh: Tensor,
    directions: Sequence[str],
    line_break: LineBreak | str = "carry_value",
    cell: str = "relu",
    combine: str = "sum",
    gain: Tensor | None = None,
    parents: Sequence[Tensor] = (),
    w_cs: Sequence[Tensor] = (),
    variant: str = "",
) -> Tensor:
    """h_s = cell(W_ih x_s + b, W_hh h_{s-1}) along each direction, then the directions combined (Zuo 2015,
    eq. 3-7).

    Args:
        x: [N, C, H, W].
        w_ih: [K, G*D, C]; or [1, G*D, C], computed once and used by every direction; or None: x itself is
            W_ih x + b of every direction, C = G*D.
        bias: [K, G*D], or [1, G*D] beside a shared w_ih, or None. With `gain` it is added after the
            normalisation, not to z.
        w_hh: [K, G*D, D].
        directions: K names of `crnn.ops.plan.ORDERS`; line_break: `crnn.ops.plan.LineBreak` or its name.
        combine: "sum", "mean" or "concat" (channels, in the order of the directions).
        gain: [K, D], of the cell ln_relu alone.
        parents: maps of other scales [N, D', H', W']; each is resized to H x W (nearest: row i reads row
            floor(i H' / H)), multiplied by its w_cs [K, G*D, D'] and added to W_ih x + b.
        variant: one of VARIANTS; "" takes the best that is known.

    Returns:
        [N, D, H, W], or [N, K*D, H, W] for concat; in channels_last order where x is, else contiguous: what
        follows computes as it would after x.

    Raises:
        ValueError: an unknown name, or a map whose channels are not those of its weights.
        RuntimeError: a variant that cannot take the layer; it says why.
    """
    if combine not in COMBINE:
        raise ValueError(f"unknown combine {combine!r}; known: {', '.join(COMBINE)}")
    variant = variant or chosen_variant(x, combine, w_ih is not None and not parents)
    if variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r}; known: {', '.join(VARIANTS)}")
    in_kernel = combine
    if variant in ("projection", "fused"):
        if w_ih is None or parents:
            raise ValueError(f"variant {variant!r} projects the map alone: it takes w_ih, and no parents")
        check_tensors(x, w_ih, bias, w_hh, gain, parents, w_cs)
        params, bias = cell_params(gain, bias, w_hh)
        z = in_order(x, True).permute(2, 3, 0, 1).flatten(0, 1)
        # [P, N, C], not projected yet
        in_kernel = combine if variant == "fused" else "concat"
    else:
        z, params = spatial_input(x, w_ih, bias, w_hh, gain, parents, w_cs)
        w_ih = bias = None
    H, W = x.shape[2:]
    traced = torch.compiler.is_compiling() or not isinstance(H, int) or not isinstance(W, int)
    steps = (plan if traced else kept_plan)(tuple(directions), H, W, line_break)
    if variant == "scan":
        y = combined(scan(z, w_hh, steps, cell, params), combine, H, W)
    else:
        y, state = sum_and_states(
            z, w_ih, bias, w_hh, steps, cell, params, in_kernel, states=in_kernel == "concat"
        )
        y = combined(state[0], combine, H, W) if in_kernel == "concat" else as_map(y, H, W)
    return in_order(y, in_channels_last(x))


def chosen_variant(x: Tensor, combine: str, projects: bool = False) -> str:
    """What is known to be fastest. The one place to say so: fused kernels are not taken on CUDA by themselves
    until `make gpu` has shown by its rows `crnn sum`, `crnn projection` and `crnn fused`, beside `crnn`,
    where they gain; then here, by cell, D and what `spatial_scan` takes. The CPU's are for eager mode:
    torch.compile fuses torch's own, and torch.func has no rule for spatial_scan. `projects`: whether there is
    a W_ih, and no map of another scale."""
    eager = not (torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active())
    if not eager or backend.choose(x) != "cpu":
        return "scan"
    return "fused" if projects else "sum" if combine != "concat" else "scan"


def spatial_input(x, w_ih, bias, w_hh, gain=None, parents=(), w_cs=()) -> tuple[Tensor, Tensor | None]:
    """What `scan` takes: z [P, N, K, G*D] and the cell's own parameters. Arguments as `spatial_rnn`."""
    check_tensors(x, w_ih, bias, w_hh, gain, parents, w_cs)
    K = w_hh.shape[0]
    params, bias = cell_params(gain, bias, w_hh)
    z = project(x, w_ih, bias)  # [N, P, 1 or K, G*D]
    for parent, w in zip(parents, w_cs, strict=True):
        z = z + from_parent(parent, w, *x.shape[2:])
    return z.expand(-1, -1, K, -1).transpose(0, 1), params


def check_tensors(x, w_ih, bias, w_hh, gain, parents, w_cs) -> None:
    """Raises ValueError where maps and weights do not belong together."""
    if len(parents) != len(w_cs):
        raise ValueError(f"SpatialRNN: {len(parents)} parents need as many w_cs, got {len(w_cs)}")
    for map_, w in zip((x, *parents), (w_ih, *w_cs), strict=True):
        C = w_hh.shape[1] if w is None else w.shape[2]
        if map_.dim() != 4 or map_.shape[1] != C:
            raise ValueError(f"SpatialRNN: the map must be [N, {C}, H, W], got {list(map_.shape)}")
        if map_.shape[0] != x.shape[0]:
            raise ValueError(f"SpatialRNN: a parent has {map_.shape[0]} samples, the map {x.shape[0]}")
    if gain is None and w_ih is not None and bias is not None and len(w_ih) != len(bias):
        raise ValueError(f"SpatialRNN: w_ih of {len(w_ih)} directions and bias of {len(bias)}; give as many")
    if w_ih is None and bias is not None and gain is None:
        raise ValueError("SpatialRNN: without w_ih the map is W_ih x + b already; leave bias out")


def cell_params(gain, bias, w_hh) -> tuple[Tensor | None, Tensor | None]:
    """The cell's own parameters [K, 2, D] and the bias that is left for z: ln_relu has it in the former."""
    if gain is None:
        return None, bias
    K, _, D = w_hh.shape
    return torch.stack([gain, torch.zeros_like(gain) if bias is None else bias.expand(K, D)], 1), None


def combined(h: Tensor, combine: str, H: int, W: int) -> Tensor:
    """The map [N, D or K*D, H, W] of the states h [P, N, K, D] (Zuo 2015, eq. 7)."""
    h = h.transpose(0, 1)  # [N, P, K, D]: the sum comes out in channels_last order
    h = h.flatten(2) if combine == "concat" else h.sum(2) if combine == "sum" else h.mean(2)
    return as_map(h, H, W)


def as_map(y: Tensor, H: int, W: int) -> Tensor:
    """[N, P, D] as [N, D, H, W] in channels_last order."""
    return y.view(y.shape[0], H, W, y.shape[2]).permute(0, 3, 1, 2)


def project(x: Tensor, w: Tensor | None, bias: Tensor | None) -> Tensor:
    """W x + b of every position, [N, P, K, G*D]: one product for all directions. Without W, x itself."""
    x = in_order(x, True)
    if w is None:
        return x.flatten(2).transpose(1, 2).unsqueeze(2)
    (N, C, H, W), (K, rows, _) = x.shape, w.shape
    regions = x.permute(0, 2, 3, 1).reshape(N * H * W, C)
    z = F.linear(regions, w.reshape(K * rows, C), None if bias is None else bias.reshape(K * rows))
    return z.view(N, H * W, K, rows)


def from_parent(parent: Tensor, w: Tensor, H: int, W: int) -> Tensor:
    """W_cs times the parent's map at H x W, [N, P, K, G*D]; the product is done on the smaller grid."""
    if parent.shape[2] * parent.shape[3] > H * W:
        return project(F.interpolate(parent, (H, W), mode="nearest"), w, None)
    term = project(parent, w, None).flatten(2).transpose(1, 2).unflatten(2, parent.shape[2:])
    return F.interpolate(term, (H, W), mode="nearest").flatten(2).transpose(1, 2).unflatten(2, w.shape[:2])
