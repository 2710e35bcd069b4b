"""Convolution and InnerProduct."""

import pytest
import torch

from crnn.testing import assert_near


def conv(text):
    return f'type: "Convolution" convolution_param {{ weight_filler {{ type: "gaussian" }} {text} }}'


def by_hand(x, w, b, stride, pad, dilation, group):
    """The sum over a window for every output: [N, C, H, W] and w [D, C / group, h, w]."""
    N, C, H, W = x.shape
    D, c, kh, kw = w.shape
    padded = torch.zeros(N, C, H + 2 * pad, W + 2 * pad)
    padded[:, :, pad : pad + H, pad : pad + W] = x
    reach_h, reach_w = dilation * (kh - 1) + 1, dilation * (kw - 1) + 1
    out = torch.empty(N, D, (H + 2 * pad - reach_h) // stride + 1, (W + 2 * pad - reach_w) // stride + 1)
    for d in range(D):
        first = d // (D // group) * c
        for i in range(out.shape[2]):
            for j in range(out.shape[3]):
                top, left = i * stride, j * stride
                window = padded[:, first : first + c, top : top + reach_h, left : left + reach_w]
                out[:, d, i, j] = (window[:, :, ::dilation, ::dilation] * w[d]).sum((1, 2, 3)) + b[d]
    return out


@pytest.mark.parametrize(
    ("text", "stride", "pad", "dilation", "group"),
    [
        ("kernel_size: 3 stride: 2", 2, 0, 1, 1),
        ("kernel_size: 3 pad: 2 dilation: 2", 1, 2, 2, 1),
        ("kernel_size: 1", 1, 0, 1, 1),
        ("kernel_size: 3 pad: 1 stride: 2 group: 3", 2, 1, 1, 3),
    ],
)
def test_convolution_is_a_sum_over_windows(make, text, stride, pad, dilation, group):
    x = torch.randn(2, 3, 6, 5)
    layer = make(conv(f'num_output: 6 bias_filler {{ type: "constant" value: 0.5 }} {text}'), x.shape)
    (y,) = layer(x)
    assert y.shape == layer.top_shapes[0]
    assert_near(y, by_hand(x, *layer.blobs, stride, pad, dilation, group), 2e-6)


@pytest.mark.parametrize(
    ("kernel", "stride", "size", "before", "behind"),
    [(3, 2, 8, 0, 1), (3, 2, 7, 1, 1), (5, 2, 8, 1, 2), (5, 1, 6, 2, 2), (1, 2, 6, 0, 0)],
)
def test_same_pad_gives_a_window_a_stride_and_the_odd_zero_lies_behind(
    make, kernel, stride, size, before, behind
):
    layer = make(
        conv(f"num_output: 4 kernel_size: {kernel} stride: {stride} same_pad: true"), (2, 3, size, size)
    )
    x = torch.randn(2, 3, size, size)
    (y,) = layer(x)
    assert y.shape == layer.top_shapes[0] == (2, 4, -(-size // stride), -(-size // stride))
    framed = torch.nn.functional.pad(x, [before, behind, before, behind])
    assert_near(y, by_hand(framed, *layer.blobs, stride, 0, 1, 1), 2e-6)


@pytest.mark.parametrize("fields", ["pad: 1", ""])
def test_same_pad_goes_with_convolutions_without_pad(make, fields):
    kind = "Convolution" if fields else "Deconvolution"
    with pytest.raises(ValueError, match="same_pad is a Convolution's, and without pad"):
        make(
            conv(f"num_output: 4 kernel_size: 3 same_pad: true {fields}").replace("Convolution", kind),
            (1, 3, 8, 8),
        )


def test_kernel_stride_and_pad_may_differ_by_axis(make):
    text = "num_output: 4 kernel_h: 3 kernel_w: 1 stride_h: 2 stride_w: 1 pad_h: 1 pad_w: 0"
    layer = make(conv(text), (2, 3, 7, 5))
    assert layer.blobs[0].shape == (4, 3, 3, 1)
    assert layer.top_shapes == [(2, 4, 4, 5)]
    listed = make(
        conv("num_output: 4 kernel_size: 3 kernel_size: 1 stride: 2 stride: 1 pad: 1 pad: 0"), (2, 3, 7, 5)
    )
    assert listed.top_shapes == layer.top_shapes


def test_sobel_is_separable(make):
    x = torch.rand(1, 1, 6, 5)
    whole = make(conv("num_output: 1 kernel_size: 3 bias_term: false"), x.shape)
    column = make(conv("num_output: 1 kernel_h: 3 kernel_w: 1 bias_term: false"), x.shape)
    row = make(conv("num_output: 1 kernel_h: 1 kernel_w: 3 bias_term: false"), column.top_shapes[0])
    smooth, edge = torch.tensor([1.0, 2, 1]), torch.tensor([-1.0, 0, 1])
    for layer, weight in ((whole, smooth[:, None] * edge), (column, smooth[:, None]), (row, edge[None])):
        layer.blobs[0].data[0, 0] = weight
    assert_near(row(*column(x))[0], whole(x)[0], 2e-6)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_one_to_three_spatial_axes(make, axes):
    x = torch.randn(2, 4, *(5, 6, 7)[:axes])
    layer = make(conv("num_output: 6 kernel_size: 3 stride: 2 group: 2"), x.shape)
    assert layer(x)[0].shape == layer.top_shapes[0] == (2, 6, *(2, 2, 3)[:axes])


def test_axes_before_axis_are_batch_axes(make):
    x = torch.randn(2, 3, 4, 6, 5)
    layer = make(conv("num_output: 2 kernel_size: 3 axis: 2"), x.shape)
    flat = make(conv("num_output: 2 kernel_size: 3"), (6, 4, 6, 5))
    flat.blobs[0].data, flat.blobs[1].data = layer.blobs[0].data, layer.blobs[1].data
    assert layer(x)[0].flatten(0, 1).equal(flat(x.flatten(0, 1))[0])


def test_several_bottoms_share_the_weights(make):
    a, b = torch.randn(2, 1, 3, 4, 4)
    layer = make(conv("num_output: 2 kernel_size: 3"), a.shape, b.shape, tops=2)
    one = make(conv("num_output: 2 kernel_size: 3"), a.shape)
    one.blobs[0].data = layer.blobs[0].data
    assert [y.equal(one(x)[0]) for x, y in zip((a, b), layer(a, b), strict=True)] == [True, True]


def test_an_empty_batch_stays_empty(make):
    layer = make(conv("num_output: 2 kernel_size: 3"), (0, 3, 4, 4))
    assert layer(torch.zeros(0, 3, 4, 4))[0].shape == (0, 2, 2, 2)


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        ("num_output: 2", (1, 3, 4, 4), "kernel_size is missing"),
        ("kernel_size: 3", (1, 3, 4, 4), "num_output must be at least 1"),
        ("num_output: 2 kernel_size: 0", (1, 3, 4, 4), "kernel_size must be at least 1"),
        ("num_output: 2 kernel_size: 3 kernel_h: 3", (1, 3, 4, 4), "without kernel_size"),
        ("num_output: 2 kernel_h: 3 kernel_w: 3", (1, 3, 4), "for two spatial axes"),
        ("num_output: 2 kernel_size: [3, 3, 3]", (1, 3, 4, 4), "once or for each of 2 axes, got 3"),
        ("num_output: 3 kernel_size: 3 group: 2", (1, 4, 4, 4), "group 2 must divide"),
        (
            "num_output: 4 kernel_size: 3 group: 2",
            (1, 3, 4, 4),
            "group 2 must divide the bottom's 3 channels",
        ),
        (
            "num_output: 2 kernel_size: 5",
            (1, 3, 4, 4),
            r"kernel \[5, 5\] does not fit in the bottom \[1, 3, 4, 4\]",
        ),
        ("num_output: 2 kernel_size: 3", (1, 3), "needs 1 to 3 spatial axes"),
    ],
)
def test_bad_convolutions(make, text, shape, message):
    with pytest.raises(ValueError, match=message):
        make(conv(text), shape)


def product(text):
    return f'type: "InnerProduct" inner_product_param {{ weight_filler {{ type: "gaussian" }} {text} }}'


def test_inner_product_flattens_from_its_axis(make):
    x = torch.randn(2, 3, 4, 5)
    layer = make(product("num_output: 7"), x.shape)
    assert_near(layer(x)[0], x.reshape(2, 60) @ layer.blobs[0].T + layer.blobs[1], 2e-6)
    layer = make(product("num_output: 7 axis: -1"), x.shape)
    assert layer.blobs[0].shape == (7, 5) and layer(x)[0].shape == (2, 3, 4, 7) == layer.top_shapes[0]
    layer = make(product("num_output: 7 axis: 0"), x.shape)
    assert layer.blobs[0].shape == (7, 120) and layer(x)[0].shape == (7,) == layer.top_shapes[0]


def test_transposed_weights_give_the_same(make):
    x = torch.randn(2, 3, 4)
    plain, transposed = (
        make(product("num_output: 7"), x.shape),
        make(product("num_output: 7 transpose: true"), x.shape),
    )
    transposed.blobs[0].data = plain.blobs[0].data.T
    assert_near(transposed(x)[0], plain(x)[0], 2e-6)


def test_inner_product_of_another_size_names_both(make):
    layer = make(product("num_output: 7"), (2, 3, 4))
    assert layer(torch.zeros(0, 3, 4))[0].shape == (0, 7)
    with pytest.raises(ValueError, match=r"weights for 12 inputs, the bottom \[2, 15\] gives 15"):
        layer(torch.zeros(2, 15))
    with pytest.raises(ValueError, match="num_output must be at least 1"):
        make(product(""), (2, 3))


def deconv(text):
    return f'type: "Deconvolution" convolution_param {{ weight_filler {{ type: "gaussian" }} {text} }}'


@pytest.mark.parametrize("spatial", [(5,), (5, 4), (3, 4, 5)])
def test_deconvolution_is_the_transpose_of_convolution(make, spatial):
    torch.manual_seed(1)  # some draws cancel to a sum near 0
    text = "kernel_size: 3 stride: 2 pad: 1 dilation: 2 group: 2 bias_term: false"
    up = make(deconv(f"num_output: 6 {text}"), (2, 4, *spatial))
    x = torch.randn(2, 4, *spatial)
    (y,) = up(x)
    assert y.shape == up.top_shapes[0] == (2, 6, *(2 * (size - 1) + 5 - 2 for size in spatial))
    down = make(conv(f"num_output: 4 {text}"), y.shape)
    assert up.blobs[0].shape == down.blobs[0].shape == (4, 3, *(3,) * len(spatial))
    down.blobs[0].data = up.blobs[0].data
    other = torch.randn_like(y)
    assert_near((y * other).sum(), (x * down(other)[0]).sum(), 2e-5)  # <Dx, y> = <x, Cy>


def test_bilinear_deconvolution_keeps_a_constant(make):
    text = 'num_output: 2 group: 2 kernel_size: 4 stride: 2 pad: 1 weight_filler { type: "bilinear" }'
    layer = make(f'type: "Deconvolution" convolution_param {{ {text} }}', (1, 2, 4, 4))
    (y,) = layer(torch.ones(1, 2, 4, 4))
    assert y.shape == (1, 2, 8, 8)
    assert_near(y[:, :, 1:-1, 1:-1], torch.ones(1, 2, 6, 6), 2e-6)


def test_deconvolution_that_pads_all_away(make):
    with pytest.raises(ValueError, match=r"kernel \[1, 1\] does not fit in the bottom"):
        make(deconv("num_output: 2 kernel_size: 1 pad: 2"), (1, 3, 4, 4))


@pytest.mark.parametrize("spatial", [(6,), (6, 5), (4, 5, 6)])
def test_im2col_is_what_convolution_multiplies(make, spatial):
    text = "kernel_size: 3 stride: 2 pad: 1 dilation: 1"
    x = torch.randn(2, 3, *spatial)
    columns, convolution = make(f'type: "Im2col" convolution_param {{ {text} }}', x.shape), None
    (y,) = columns(x)
    assert y.shape == columns.top_shapes[0]
    convolution = make(conv(f"num_output: 4 bias_term: false {text}"), x.shape)
    weight = convolution.blobs[0].flatten(1)
    assert_near(torch.einsum("ok,nk...->no...", weight, y), convolution(x)[0], 2e-6)


def test_im2col_orders_channel_row_column_and_dilates(make):
    x = torch.arange(2 * 9.0).reshape(1, 2, 3, 3)
    (y,) = make('type: "Im2col" convolution_param { kernel_size: 2 dilation: 2 }', x.shape)(x)
    assert y.flatten().tolist() == [0, 2, 6, 8, 9, 11, 15, 17]
