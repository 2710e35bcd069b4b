"""Pictures of nets, as graphviz text. Caffe: python/caffe/draw.py.

Text (ext "dot", "gv", "raw") needs nothing; an image is made by graphviz's program `dot`.
"""

import json
import shutil
import subprocess
from pathlib import Path

from crnn.proto import pb

COLORS = {
    "Convolution": "#FF5050",
    "Deconvolution": "#FF5050",
    "Pooling": "#FF9900",
    "InnerProduct": "#CC33FF",
}
OTHER, IN_PLACE, BLOB = "#6495ED", "#90EE90", "#E0E0E0"


def draw_net_to_file(caffe_net, filename, rankdir="LR", phase=None, display_lrm=False) -> None:
    """As draw_net, into a file of any name that ends with the format."""
    path = Path(filename)
    path.write_bytes(draw_net(caffe_net, rankdir, path.suffix[1:] or "raw", phase, display_lrm))


def draw_net(caffe_net, rankdir="LR", ext="png", phase=None, display_lrm=False) -> bytes:
    """A NetParameter as a picture in the format `ext`.

    rankdir: LR left to right, TB and BT vertical.    phase: only the layers of it.    display_lrm: lr_mult of
    layers that learn. Raises OSError where an image is asked for and graphviz is not there, ValueError for a
    format that it does not know.
    """
    text = graph_text(caffe_net, rankdir, phase, display_lrm)
    if ext in ("dot", "gv", "raw"):
        return text.encode()
    if shutil.which("dot") is None:
        raise FileNotFoundError(
            f"a picture as {ext} is drawn by graphviz's program `dot`, which is not installed; "
            'install graphviz, or ask for the text with ext "dot"'
        )
    result = subprocess.run(["dot", f"-T{ext}"], input=text.encode(), capture_output=True, check=False)
    if result.returncode:
        raise ValueError(f"graphviz cannot draw {ext}: {result.stderr.decode(errors='replace').strip()}")
    return result.stdout


def graph_text(net, rankdir="LR", phase=None, display_lrm=False) -> str:
    """The graph in graphviz's language: a box a layer, an octagon a blob."""
    nodes, edges = {}, []
    for i, layer in enumerate(_layers(net, phase)):
        box = f"layer {i} {layer.name}"
        in_place = list(layer.bottom) == list(layer.top) and len(layer.top) == 1
        color = IN_PLACE if in_place else COLORS.get(layer.type, OTHER)
        nodes[box] = (layer_label(layer, rankdir, display_lrm), "box", color)
        for name in (*layer.bottom, *layer.top):
            nodes[f"blob {name}"] = (name, "octagon", BLOB)
        edges += [(f"blob {name}", box, "") for name in layer.bottom]
        edges += [(box, f"blob {name}", edge_label(layer)) for name in layer.top]
    lines = [f"digraph {_quoted(net.name or 'Net')} {{", f"  rankdir={_quoted(rankdir)};"]
    for key, (label, shape, color) in nodes.items():
        style = f"label={_quoted(label)}, shape={shape}, style=filled, fillcolor={_quoted(color)}"
        lines.append(f"  {_quoted(key)} [{style}];")
    lines += [f"  {_quoted(a)} -> {_quoted(b)} [label={_quoted(label)}];" for a, b, label in edges]
    return "\n".join([*lines, "}", ""])


def _layers(net, phase) -> list:
    """The layers that stand in the net in a phase; all of them for None."""
    if phase is None:
        return list(net.layer)
    kept = []
    for layer in net.layer:
        if layer.include and layer.exclude:
            raise ValueError(f"layer {layer.name!r} has include and exclude rules; use one kind")
        meets = [not rule.HasField("phase") or rule.phase == phase for rule in layer.include or layer.exclude]
        if not meets or any(meets) == bool(layer.include):
            kept.append(layer)
    return kept


def layer_label(layer, rankdir="LR", display_lrm=False) -> str:
    """Name, type, and what a layer with a window or with blobs is set to."""
    kind = layer.type
    if kind == "Pooling":
        kind += f" {pb.PoolingParameter.PoolMethod.Name(layer.pooling_param.pool)}"
    parts = [layer.name, f"({kind})"]
    p = layer.pooling_param if layer.type == "Pooling" else layer.convolution_param
    if layer.type in ("Convolution", "Deconvolution", "Pooling"):
        values = (_first(p.kernel_size, 1), _first(p.stride, 1), _first(p.pad, 0))
        parts += [
            f"{what}: {value}" for what, value in zip(("kernel size", "stride", "pad"), values, strict=True)
        ]
    if display_lrm and layer.type in ("Convolution", "Deconvolution", "InnerProduct"):
        rates = [param.lr_mult for param in layer.param][:2]
        rates += [1.0] * (2 - len(rates))
        parts.append(f"lr mult: {rates[0]:.1f}, {rates[1]:.1f}")
    return ("\n" if rankdir == "LR" else " ").join(parts)


def edge_label(layer) -> str:
    """What a layer's tops hold: its outputs, or its batch."""
    if layer.type == "Data":
        return f"Batch {layer.data_param.batch_size}"
    if layer.type in ("Convolution", "Deconvolution"):
        return str(layer.convolution_param.num_output)
    return str(layer.inner_product_param.num_output) if layer.type == "InnerProduct" else ""


def _first(value, default: int) -> int:
    return value if isinstance(value, int) else value[0] if len(value) else default


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
