"""A net as a table."""


def needs_backward(net) -> list[bool]:
    """For each layer, whether a gradient passes it: something before it learns, and a loss comes after it."""
    reached: set[str] = set()  # blobs with a parameter, or a wanted gradient, behind them
    downward = []
    for node in net.nodes:
        learns = any(blob.requires_grad for blob in node.layer.blobs)
        passed = zip(node.bottoms, node.passes_gradient, strict=True)
        needs = learns or any(passes and name in reached for name, passes in passed)
        if node.layer.source and net.force_backward:
            needs = True
        downward.append(needs)
        (reached.update if needs else reached.difference_update)(node.tops)
    under_loss = set(net.loss_weights)
    result = []
    for node, needs in zip(reversed(net.nodes), reversed(downward), strict=True):
        needs = needs and any(name in under_loss for name in node.tops)
        result.append(needs and not node.layer.source)
        if needs:
            passed = zip(node.bottoms, node.passes_gradient, strict=True)
            under_loss.update(name for name, passes in passed if passes)
    return result[::-1]


def table(net) -> str:
    """One line a layer: name, type, tops with shapes, number of parameters, whether it runs backward."""
    rows = [("layer", "type", "tops", "parameters", "backward")]
    counted: set[int] = set()
    for node, backward in zip(net.nodes, needs_backward(net), strict=True):
        own = {
            id(blob): blob.numel() for blob in map(node.layer.blobs.parameter, range(len(node.layer.blobs)))
        }
        count = sum(size for key, size in own.items() if key not in counted)
        counted.update(own)
        shapes = zip(node.tops, node.layer.top_shapes, strict=True)
        tops = ", ".join(f"{name} {list(shape)}" for name, shape in shapes)
        shared = "shared" if own and not count else ""
        rows.append(
            (
                node.layer.name,
                node.layer.type,
                tops,
                f"{count:,}" if count else shared,
                "yes" if backward else "",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    total = sum(param.parameter.numel() for param in net.params)
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    learned = sum(param.parameter.numel() for param in net.params if param.lr_mult)
    head = f"net {net.name!r}, {net.phase}: {total:,} parameters, {learned:,} of them learned"
    return "\n".join([head, *lines, f"outputs: {', '.join(net.outputs)}"])
