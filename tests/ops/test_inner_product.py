"""crnn::inner_product: a few rows times a large matrix, by every instruction set; gradients of any order."""

import pytest
import torch
import torch.nn.functional as F

from crnn.ops import backends, inner_product, use_backend
from crnn.ops.inner_product import FEW_ROWS, LARGE
from crnn.ops.inner_product_reference import inner_product as definition
from crnn.testing import (
    INNER_PRODUCT_TOLERANCE,
    InnerProductCase,
    assert_near,
    inner_product_cases,
)

needs_extension = pytest.mark.skipif("cpu" not in backends(), reason="needs the compiled extension")


def tensors(N, outputs, K, dtype=torch.float64):
    return list(InnerProductCase(N, outputs, K).inputs(dtype).values())


def three(x, weight, dy, variant=""):
    """y, dx and dW."""
    ops = torch.ops.crnn
    return (
        ops.inner_product(x, weight, variant),
        ops.inner_product_input_backward(dy, weight, variant),
        ops.inner_product_weights_backward(dy, x, variant),
    )


@pytest.mark.parametrize("dtype", INNER_PRODUCT_TOLERANCE, ids=str)
@pytest.mark.parametrize("case", inner_product_cases(), ids=str)
def test_every_case(case, dtype, cpu_variant):
    inputs = case.inputs(dtype)
    x, weight, dy = (t.double().requires_grad_() for t in inputs.values())
    y = definition(x, weight)
    want = y, *torch.autograd.grad(y, (x, weight), dy)
    y, dx, dw = three(*inputs.values(), cpu_variant)
    for name, ours, true in zip(("y", "dx", "dW"), (y, dx, dw), want, strict=True):
        assert ours.dtype == dtype
        assert_near(ours, true, INNER_PRODUCT_TOLERANCE[dtype], name)


@needs_extension
def test_equal_bits_for_any_number_of_threads_and_rows(threads):
    x, weight, dy = tensors(13, 211, 2600, torch.float32)
    threads(1)
    want = three(x, weight, dy)
    for count in (2, 3, 7):
        threads(count)
        assert all(map(torch.equal, three(x, weight, dy), want))
    y, dx, _ = three(x[:5].contiguous(), weight, dy[:5].contiguous())
    assert torch.equal(y, want[0][:5]) and torch.equal(dx, want[1][:5])


@needs_extension
def test_a_value_that_is_not_finite_stays_in_its_sums():
    x, weight, dy = tensors(3, 9, 1030)
    weight[4, 1029] = float("inf")
    x[1, 7] = float("nan")
    y, dx, dw = three(x, weight, dy)
    assert (~y.isfinite()).nonzero().tolist() == [[0, 4], *([1, o] for o in range(9)), [2, 4]]
    assert (~dx.isfinite()).nonzero().tolist() == [[n, 1029] for n in range(3)]
    assert (~dw.isfinite()).nonzero().tolist() == [[o, 7] for o in range(9)]


@needs_extension
def test_gradients_of_any_order():
    x, weight, dy = (t.requires_grad_() for t in tensors(3, 5, 9))
    ops = torch.ops.crnn
    for op, inputs in (
        (ops.inner_product, (x, weight)),
        (ops.inner_product_input_backward, (dy, weight)),
        (ops.inner_product_weights_backward, (dy, x)),
    ):
        assert torch.autograd.gradcheck(op, inputs)
        assert torch.autograd.gradgradcheck(op, inputs)
        torch.library.opcheck(op.default, inputs)


@needs_extension
def test_what_needs_no_gradient_is_not_computed():
    x, weight, _ = tensors(2, 4, 8)
    (dw,) = torch.autograd.grad(torch.ops.crnn.inner_product(x, weight.requires_grad_()).sum(), weight)
    assert_near(dw, x.sum(0).expand(4, 8), 1e-15)


# --- the function: where our kernels run, it still is F.linear

K = 1100
MATRIX = LARGE // K + 1, K


def ours_ran(x, weight, bias=None) -> bool:
    """Whether the op is called; the results must be F.linear's either way."""
    with torch.profiler.profile() as profile:
        y = inner_product(x, weight, bias)
    assert_near(y, F.linear(x, weight, bias), 1e-5)
    return any(event.name == "crnn::inner_product" for event in profile.events())


@needs_extension
def test_where_our_kernels_run():
    weight, bias = torch.randn(MATRIX), torch.randn(MATRIX[0])
    rows = torch.randn(100, K)
    counts = (1, False), (2, True), (10, True), (FEW_ROWS, True), (FEW_ROWS + 1, False), (0, False)
    for count, ours in counts:
        assert ours_ran(rows[:count], weight, bias) == ours
    assert ours_ran(rows[:6].view(2, 3, K), weight) and ours_ran(rows.t()[:K, :4].t(), weight)
    assert ours_ran(rows[:2].double(), weight.double())
    assert not ours_ran(rows[:2, :9], weight[:50, :9])  # a matrix that stays in a cache
    assert not ours_ran(rows[:2].bfloat16(), weight.bfloat16())
    with use_backend("reference"):
        assert not ours_ran(rows[:2], weight)
    with torch.autocast("cpu"):
        assert inner_product(rows[:2], weight).dtype == torch.bfloat16


@pytest.mark.parametrize("shape", [(3, K), (2, 2, K)], ids=str)
def test_the_function_trains_as_torch(shape):
    weight, bias = (
        torch.randn(MATRIX).double().requires_grad_(),
        torch.randn(MATRIX[0]).double().requires_grad_(),
    )
    x = torch.randn(shape).double().requires_grad_()
    dy = torch.randn(*shape[:-1], MATRIX[0]).double()
    want = torch.autograd.grad(F.linear(x, weight, bias), (x, weight, bias), dy)
    got = torch.autograd.grad(inner_product(x, weight, bias), (x, weight, bias), dy)
    compiled = torch.compile(inner_product, fullgraph=True, backend="aot_eager")
    for ours in (got, torch.autograd.grad(compiled(x, weight, bias), (x, weight, bias), dy)):
        for a, b in zip(ours, want, strict=True):
            assert_near(a, b, 1e-13)


def test_under_torch_func():
    weight, x = torch.randn(MATRIX), torch.randn(3, 2, K)
    assert_near(torch.func.vmap(lambda x: inner_product(x, weight))(x), x @ weight.T, 1e-5)


@needs_extension
def test_wrong_arguments():
    x, weight, dy = tensors(2, 3, 4)
    ops = torch.ops.crnn
    with pytest.raises(RuntimeError, match=r"x and weight do not fit: \[2, 4\] and \[2, 3\]"):
        ops.inner_product(x, dy)
    with pytest.raises(RuntimeError, match="dy and x must have one dtype"):
        ops.inner_product_weights_backward(dy, x.float())
    with pytest.raises(RuntimeError, match="dy and weight must be contiguous"):
        ops.inner_product_input_backward(dy, torch.randn(4, 3).double().t())
    with pytest.raises(RuntimeError, match="x and weight must be matrices, got 3 and 2"):
        ops.inner_product(x[None], weight)
    with pytest.raises(RuntimeError, match="unknown variant 'fast' on cpu; known: avx512, avx2, portable"):
        inner_product(x, weight, variant="fast")
    with pytest.raises(RuntimeError):
        inner_product(torch.randn(2, K + 1), torch.randn(MATRIX))


@needs_extension
@pytest.mark.parametrize("bias", [torch.zeros(MATRIX[0], dtype=torch.float64), torch.zeros(3, 1, MATRIX[0])])
def test_a_bias_that_does_not_fit_is_refused_for_any_number_of_rows(bias):
    for rows in (3, 200):
        with pytest.raises(RuntimeError):
            inner_product(torch.randn(rows, K), torch.randn(MATRIX), bias)
