"""crnn::transposed, and in_order, by which maps change their order of memory."""

import pytest
import torch

from crnn.nn import SpatialRNN
from crnn.ops import backends, use_backend
from crnn.ops.transposed import LEAST, in_order, transposed
from crnn.ops.transposed_reference import transposed as definition
from crnn.testing import transposed_cases

pytestmark = pytest.mark.skipif("cpu" not in backends(), reason="needs the compiled extension")
DTYPES = torch.float64, torch.float32, torch.bfloat16, torch.float16
LAST = torch.channels_last


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", transposed_cases(), ids=str)
def test_every_case(case, dtype, threads):
    """Bits are moved as they are, nan's and -0 among them, by any number of threads."""
    x = torch.randn(case).to(dtype)
    if x.numel() > 1:
        x.view(-1)[0], x.view(-1)[-1] = float("nan"), -0.0
    for count in (1, 2, 3):
        threads(count)
        y = transposed(x)
        assert y.dtype == dtype and y.is_contiguous()
        kind = {8: torch.int64, 4: torch.int32, 2: torch.int16}[dtype.itemsize]
        assert torch.equal(y.view(kind), definition(x).view(kind))


def test_gradients_of_any_order():
    x = torch.randn(2, 5, 36, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(transposed, x) and torch.autograd.gradgradcheck(transposed, x)
    torch.library.opcheck(torch.ops.crnn.transposed.default, (x,))


def test_what_is_refused():
    with pytest.raises(RuntimeError, match=r"x must be \[N, A, B\], got 2 dimensions"):
        transposed(torch.zeros(2, 3))
    with pytest.raises(RuntimeError, match="x must be contiguous"):
        transposed(torch.zeros(2, 3, 4).mT)


def ran(function) -> bool:
    """Whether the op was called."""
    with torch.profiler.profile() as profile:
        function()
    return any(event.name == "crnn::transposed" for event in profile.events())


N, C, H, W = 3, 40, 37, 30
assert N * C * H * W >= LEAST


@pytest.mark.parametrize("to_last", [True, False])
@pytest.mark.parametrize("from_last", [True, False])
def test_in_order(from_last, to_last):
    x, g = (torch.randn(N, C, H, W, dtype=torch.float64) for _ in range(2))
    x = (x.contiguous(memory_format=LAST) if from_last else x).requires_grad_()
    assert ran(lambda: in_order(x, to_last)) == (from_last != to_last)
    y = in_order(x, to_last)
    assert (y is x) == (from_last == to_last) and torch.equal(y, x)
    assert y.is_contiguous(memory_format=LAST if to_last else torch.contiguous_format)
    (dx,) = torch.autograd.grad(y, x, g)
    assert torch.equal(dx, g)
    if from_last != to_last:
        y = in_order(x.square(), to_last)
        (dx,) = torch.autograd.grad(y, x, g.contiguous(memory_format=LAST), create_graph=True)
        assert torch.equal(dx, 2 * x * g)
        (again,) = torch.autograd.grad(dx.sum(), x)
        assert torch.equal(again, 2 * g)


def test_where_torch_copies():
    """What lies in neither order, is small or no float; under compile, torch.func, forward AD, reference."""
    x = torch.randn(N, C, H, W)
    others = [x[:, :, ::2], x[:1, :2], x.long(), x.expand(3, N, C, H, W)[1].transpose(0, 1)]
    for other in others:
        assert not ran(lambda other=other: in_order(other, True))
        assert torch.equal(in_order(other, True), other)
        assert in_order(other, True).is_contiguous(memory_format=LAST)
    with use_backend("reference"):
        assert not ran(lambda: in_order(x, True))
    for last in (False, True):
        assert torch.equal(torch.func.vmap(lambda t, last=last: in_order(t, last))(x[None]), x[None])
    _, tangent = torch.func.jvp(lambda t: in_order(t, True), (x,), (2 * x,))
    assert torch.equal(tangent, 2 * x)
    assert torch.equal(
        torch.compile(lambda t: in_order(t, True) + 1, backend="eager", fullgraph=True)(x), x + 1
    )


def test_what_a_layer_gives_is_no_view():
    """It may be changed in place and detached, as torch's own copy."""
    layer, x = SpatialRNN(C, C), torch.randn(N, C, H, W)
    with torch.no_grad():
        y = layer(x)
    y.mul_(torch.ones(C, 1, 1, requires_grad=True))
    layer(x).relu_().sum().backward()
    layer(x).detach_()
    assert y._base is None


def test_a_traced_function_takes_maps_in_any_order():
    x = torch.randn(N, C, H, W)
    traced = torch.jit.trace(lambda t: in_order(t, True) + 1, x)
    for other in (x, x.contiguous(memory_format=LAST), x[..., ::2]):
        assert torch.equal(traced(other), other + 1)


def test_the_reference_is_its_definition():
    x = torch.randn(2, 3, 4)
    with use_backend("reference"):
        assert not ran(lambda: transposed(x)) and torch.equal(transposed(x), x.mT)


@pytest.mark.parametrize("project_input", [True, False])
@pytest.mark.parametrize("combine", ["sum", "concat"])
def test_a_layer_is_the_same_in_both_orders(combine, project_input):
    layer = SpatialRNN(C, C, combine=combine, project_input=project_input).double()
    torch.nn.init.normal_(layer.weight_hh, std=0.1)
    x, g = (torch.randn(N, count, H, W).double() for count in (C, C * (4 if combine == "concat" else 1)))
    found = []
    for order in (torch.contiguous_format, LAST):
        given = x.contiguous(memory_format=order).requires_grad_()
        y = layer(given)
        dx, dw = torch.autograd.grad(y, (given, layer.weight_hh), g)
        assert y.is_contiguous(memory_format=order)
        found.append((y, dx, dw))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
