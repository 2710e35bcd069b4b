"""How many multiply-adds a layer takes for one image: those of products with weights, nearly all."""

from math import prod

from .graph import Node


def multiply_adds(node: Node, shapes: dict[str, tuple[int, ...]], scales: int) -> int:
    """Of one image in a forward; `scales`: how many of a ScaleRNN's scales are run, at most.

    What is elementwise, pools or resizes counts as 0. Raises ValueError for a layer whose products are not
    known here.
    """
    matrices = [blob for blob in node.layer.blobs if blob.dim() > 1]
    if not matrices:
        return 0
    numbers, bottom, top = (
        sum(blob.numel() for blob in matrices),
        shapes[node.bottoms[0]],
        shapes[node.tops[0]],
    )
    match node.param.type:
        case "Convolution":
            return numbers * prod(top[2:]) * len(node.tops)
        case "Deconvolution":
            return numbers * prod(bottom[2:]) * len(node.tops)
        case "InnerProduct":
            return (
                numbers * prod(bottom[1:]) // matrices[0].shape[1 - node.param.inner_product_param.transpose]
            )
        case "SpatialRNN":
            return numbers * prod(bottom[2:])
        case "ScaleRNN":
            return numbers * min(scales, len(node.bottoms) - node.layer.counted)
    raise ValueError(f"layer {node.layer.name!r} ({node.param.type}): its multiply-adds are not known")
