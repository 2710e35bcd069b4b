"""How the coordinates of one blob of a NetSpec lie in another's, and the Crop layer that aligns them.

Caffe: python/caffe/coord_map.py. A map is (axis, scale, shift): position i of the upper blob lies over
position (i - shift) / scale of the lower; scale and shift are a number, or one for each axis after `axis`.
"""

import numpy as np

from .net_spec import Function, Top, layers

PASS_THROUGH = {
    *(
        "AbsVal",
        "BatchNorm",
        "Bias",
        "BNLL",
        "Dropout",
        "Eltwise",
        "ELU",
        "Exp",
        "Log",
        "LRN",
        "MVN",
        "Power",
    ),
    *("PReLU", "ReLU", "Scale", "Sigmoid", "Split", "TanH", "Threshold"),
}

Map = tuple[int | None, np.ndarray | float, np.ndarray | float]
IDENTITY: Map = (None, 1, 0)


class UndefinedMapException(ValueError):
    """A layer whose top has no place in its bottom."""


class AxisMismatchException(ValueError):
    """Two maps over different axes."""


class CropError(ValueError, AssertionError):
    """Two blobs of which one cannot be cropped to the other."""


def conv_params(fn: Function) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """(axis, stride, extent of the dilated kernel, pad) of a layer with a window."""
    params = fn.params.get("convolution_param", fn.params)
    old = sorted({f"{name}_{side}" for name in ("pad", "kernel", "stride") for side in "hw"} & set(params))
    if old:
        raise CropError(
            f"coordinate maps do not know {old[0]} of a {fn.type_name}: use kernel_size, stride, pad"
        )
    stride, kernel, pad, dilation = (
        np.array(params.get(name, default), ndmin=1)
        for name, default in (("stride", 1), ("kernel_size", 1), ("pad", 0), ("dilation", 1))
    )
    return params.get("axis", 1), stride, (kernel - 1) * dilation + 1, pad


def crop_params(fn: Function) -> tuple[int, np.ndarray]:
    """(axis, offset) of a Crop."""
    params = fn.params.get("crop_param", fn.params)
    return params.get("axis", 2), np.array(params.get("offset", 0), ndmin=1)


def coord_map(fn: Function) -> Map:
    """The map from a layer's top to its bottoms. Raises UndefinedMapException where there is none."""
    if fn.type_name in ("Convolution", "Pooling", "Im2col"):
        axis, stride, kernel, pad = conv_params(fn)
        return axis, 1 / stride, (pad - (kernel - 1) / 2) / stride
    if fn.type_name == "Deconvolution":
        axis, stride, kernel, pad = conv_params(fn)
        return axis, stride, (kernel - 1) / 2 - pad
    if fn.type_name == "Crop":
        axis, offset = crop_params(fn)
        return axis - 1, 1, -offset
    if fn.type_name in PASS_THROUGH:
        return IDENTITY
    raise UndefinedMapException(f"a {fn.type_name} layer has no map of coordinates")


def compose(base: Map, following: Map) -> Map:
    """`base`, then `following`. Raises AxisMismatchException."""
    (axis, a, b), (other, c, d) = base, following
    if axis is not None and other is not None and axis != other:
        raise AxisMismatchException(f"maps over axis {axis} and over axis {other} do not compose")
    return (other if axis is None else axis), a * c, a * d + b


def inverse(mapping: Map) -> Map:
    axis, a, b = mapping
    return axis, 1 / a, -b / a


def _maps_below(top: Top) -> dict[Top, Map]:
    """The map from `top` to every blob that it is computed of, nearest first; a Crop's reference is none."""
    maps, waiting = {top: IDENTITY}, [top]
    for reached in waiting:
        fn = reached.fn
        try:
            step = coord_map(fn) if fn.inputs else None
        except UndefinedMapException:
            continue
        for bottom in fn.inputs[:1] if fn.type_name == "Crop" else fn.inputs:
            if bottom not in maps:
                maps[bottom] = compose(maps[reached], step)
                waiting.append(bottom)
    return maps


def coord_map_from_to(top_from: Top, top_to: Top) -> Map:
    """The map from `top_from` to `top_to` by way of a blob that both are computed of.

    Raises RuntimeError where there is none.
    """
    below = _maps_below(top_from)
    for shared, mapping in _maps_below(top_to).items():
        if shared in below:
            return compose(mapping, inverse(below[shared]))
    raise RuntimeError(
        f"no blob lies below both a {top_from.fn.type_name} and a {top_to.fn.type_name} top "
        "by layers that map coordinates"
    )


def crop(top_from: Top, top_to: Top) -> Top:
    """`top_from` cropped to where `top_to` lies. Raises CropError where that is no whole, inner offset."""
    axis, a, b = coord_map_from_to(top_from, top_to)
    a, b = np.array(a, float, ndmin=1), np.array(b, float, ndmin=1)
    if not np.allclose(a, 1):
        raise CropError(f"crop needs blobs of one scale, theirs differ by {a.tolist()}")
    offset = np.round(-b).astype(int)
    if not np.allclose(offset, -b):
        raise CropError(f"crop needs a whole offset, it would be {(-b).tolist()}")
    if (offset < 0).any():
        raise CropError(f"crop cannot go beyond the blob: the offset would be {offset.tolist()}")
    return layers.Crop(top_from, top_to, crop_param={"axis": (axis or 1) + 1, "offset": offset.tolist()})
