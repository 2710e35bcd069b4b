"""C-RNN's layer as Zuo 2015 wrote it in Caffe: unrolled, of stock layers.

One InnerProduct a step for W_ih x + b and one for W_hh h, their weights shared by name (section 3.2.3); where
a window begins, `propagate_down: false` keeps the value of the state before it and cuts the gradient. Tests
hold the SpatialRNN layer to it; the real Caffe runs it beside that layer (against_caffe.py).
"""

FOUR = ("right", "left", "down", "up")
#: The blobs of the SpatialRNN layer in their order; here each is a blob a direction, "<name>_<direction>".
SHARED = ("w_ih", "b", "w_hh")


def windows(direction, H, W):
    """The scan as Zuo 2015 has it: a list of windows, each the (row, column) of its regions."""
    rows = [[(i, j) for j in range(W)] for i in range(H)]
    columns = [[(i, j) for i in range(H)] for j in range(W)]
    forth = rows if direction in ("right", "left") else columns
    return forth if direction in ("right", "down") else [window[::-1] for window in forth[::-1]]


def layer(type, name, bottoms, tops, *fields):
    names = [f'bottom: "{bottom}"' for bottom in bottoms] + [f'top: "{top}"' for top in tops]
    return f'layer {{ name: "{name}" type: "{type}" {" ".join([*names, *fields])} }}'


def input_product(direction, x, top, D):
    """W_ih x + b."""
    weight = f'param {{ name: "w_ih_{direction}" }}'
    bias = f'param {{ name: "b_{direction}" lr_mult: 2 decay_mult: 0 }}'
    size = f"inner_product_param {{ num_output: {D} }}"
    return layer("InnerProduct", f"ih_{top}", [x], [top], f"{weight} {bias}", size)


def state_product(direction, h, top, cut, D):
    """W_hh h; with `cut` the gradient does not enter h."""
    param = f'param {{ name: "w_hh_{direction}" }}' + " propagate_down: false" * cut
    product = f"inner_product_param {{ num_output: {D} bias_term: false }}"
    return layer("InnerProduct", f"hh_{top}", [h], [top], param, product)


def scan(direction, H, W, line_break, D):
    """From x_i_j to h_<direction>_i_j, [N, D] at every region."""
    before = None
    for window in windows(direction, H, W):
        if line_break == "reset":
            before = None
        for step, (i, j) in enumerate(window):
            h = f"h_{direction}_{i}_{j}"
            if before is None:
                yield input_product(direction, f"x_{i}_{j}", h, D)
            else:
                yield input_product(direction, f"x_{i}_{j}", f"{h}_in", D)
                cut = step == 0 and line_break == "carry_value"
                yield state_product(direction, before, f"{h}_re", cut, D)
                yield layer("Eltwise", f"sum_{h}", [f"{h}_in", f"{h}_re"], [h])
            yield layer("ReLU", f"relu_{h}", [h], [h])
            before = h


def unrolled(H, W, line_break, D):
    """From x [N, C, H, W] to y [N, D, H, W]."""
    yield layer("Slice", "rows", ["x"], [f"x_{i}" for i in range(H)], "slice_param { axis: 2 }")
    for i in range(H):
        regions = [f"x_{i}_{j}" for j in range(W)]
        yield layer("Slice", f"row_{i}", [f"x_{i}"], regions, "slice_param { axis: 3 }")
    for direction in FOUR:
        yield from scan(direction, H, W, line_break, D)
    regions = [f"{i}_{j}" for i in range(H) for j in range(W)]
    for p in regions:
        yield layer("Eltwise", f"sum_{p}", [f"h_{direction}_{p}" for direction in FOUR], [f"sum_{p}"])
        shape = f"reshape_param {{ shape {{ dim: 0 dim: {D} dim: 1 }} }}"
        yield layer("Reshape", f"y_{p}", [f"sum_{p}"], [f"y_{p}"], shape)
    yield layer("Concat", "regions", [f"y_{p}" for p in regions], ["regions"], "concat_param { axis: 2 }")
    shape = f"reshape_param {{ shape {{ dim: 0 dim: {D} dim: {H} dim: {W} }} }}"
    yield layer("Reshape", "y", ["regions"], ["y"], shape)


def source(name, *shape):
    dims = " ".join(f"dim: {n}" for n in shape)
    return layer("Input", name, [], [name], f"input_param {{ shape {{ {dims} }} }}")
