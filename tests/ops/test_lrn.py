"""crnn::lrn: every backend and instruction set equals the definition; Caffe's numbers: tests/layers."""

import pytest
import torch
import torch.nn.functional as F

from crnn.ops import backends, lrn, use_backend
from crnn.testing import LRN_TOLERANCE, LrnCase, assert_near, device_of, lrn_cases

COMPILED = [b for b in backends() if b != "reference"]
SMALL = [LrnCase(w, (2, 4, 3, 5), 3, channels_last=c) for w in (False, True) for c in (False, True)]


def value_and_gradient(case, dtype, variant="", device="cpu"):
    inputs = case.inputs(dtype, device=device)
    x = inputs["x"].requires_grad_()
    y = lrn(x, *case.numbers, variant)
    return y, *torch.autograd.grad(y, x, inputs["dy"])


def definition(case, dtype):
    """y and dx in float64, of inputs rounded to dtype."""
    x, dy = (t.double() for t in case.inputs(dtype).values())
    with use_backend("reference"):
        y = lrn(x.requires_grad_(), *case.numbers)
    return y, *torch.autograd.grad(y, x, dy)


@pytest.mark.parametrize("dtype", LRN_TOLERANCE, ids=str)
@pytest.mark.parametrize("case", lrn_cases(), ids=str)
def test_every_case(case, dtype, cpu_variant):
    for name, got, want in zip(
        ("y", "dx"), value_and_gradient(case, dtype, cpu_variant), definition(case, dtype), strict=True
    ):
        assert_near(got, want, LRN_TOLERANCE[dtype], name)


@pytest.mark.skipif("cuda" not in backends(), reason="needs a GPU and crnn._C_cuda")
@pytest.mark.parametrize("dtype", LRN_TOLERANCE, ids=str)
def test_every_case_on_a_gpu(dtype):
    for case in lrn_cases():
        got = value_and_gradient(case, dtype, device="cuda")
        for name, ours, want in zip(("y", "dx"), got, definition(case, dtype), strict=True):
            assert_near(ours, want, LRN_TOLERANCE[dtype], f"{case} {name}")


def test_the_definition_is_torchs_across_channels():
    x = torch.randn(2, 9, 3, 4, dtype=torch.float64)
    with use_backend("reference"):
        assert_near(lrn(x, 5, 0.3, 0.6, 2.0), F.local_response_norm(x, 5, 0.3, 0.6, 2.0), 1e-14)


@pytest.mark.parametrize("backend", backends())
def test_within_a_channel_by_hand(backend):
    """Of four ones, every window of 3 x 3 holds all four and five zeros: the mean square is 4/9."""
    with use_backend(backend):
        ones = torch.ones(1, 1, 2, 2, dtype=torch.float64, device=device_of(backend))
        y = lrn(ones, 3, 9.0, 0.5, 5.0, within=True)
    assert_near(y, torch.full((1, 1, 2, 2), 1 / 3, dtype=torch.float64), 1e-15)


@pytest.mark.parametrize("case", SMALL, ids=str)
@pytest.mark.parametrize("backend", backends())
def test_gradcheck(backend, case):
    x = case.inputs(device=device_of(backend))["x"].requires_grad_()
    with use_backend(backend):
        assert torch.autograd.gradcheck(lambda x: lrn(x, *case.numbers), x)


@pytest.mark.parametrize("case", SMALL, ids=str)
@pytest.mark.parametrize("backend", COMPILED)
def test_opcheck(backend, case):
    x = case.inputs(device=device_of(backend))["x"].requires_grad_()
    torch.library.opcheck(torch.ops.crnn.lrn.default, (x, *case.numbers))


@pytest.mark.parametrize("backend", COMPILED)
def test_the_order_of_memory_stays(backend):
    x = LrnCase(False, (2, 8, 3, 3)).inputs(device=device_of(backend))["x"]
    last = x.contiguous(memory_format=torch.channels_last)
    with use_backend(backend):
        assert lrn(last).is_contiguous(memory_format=torch.channels_last)
        assert_near(lrn(last), lrn(x), 1e-15)
        assert torch.equal(lrn(x[:, :, :, ::2]), lrn(x[:, :, :, ::2].contiguous()))
        assert torch.equal(lrn(x.mT), lrn(x.mT.contiguous()))


@pytest.mark.parametrize("backend", COMPILED)
def test_a_gradient_of_another_order_or_an_expanded_one(backend):
    x = LrnCase(False, (2, 8, 3, 3)).inputs(device=device_of(backend))["x"].requires_grad_()
    with use_backend(backend):
        (want,) = torch.autograd.grad(lrn(x), x, torch.ones_like(x))
        (got,) = torch.autograd.grad(lrn(x).sum(), x)
        last = torch.ones_like(x, memory_format=torch.channels_last)
        assert torch.equal(got, want)
        assert torch.equal(torch.autograd.grad(lrn(x), x, last)[0], want)


@pytest.mark.parametrize("case", [c for c in lrn_cases() if c.shape == (3, 96, 13, 11)], ids=str)
def test_equal_bits_for_any_number_of_threads(threads, case):
    results = []
    for count in (1, 2, 3, 7):
        threads(count)
        results.append(value_and_gradient(case, torch.float32))
    for y, dx in results[1:]:
        assert torch.equal(y, results[0][0]) and torch.equal(dx, results[0][1])


@pytest.mark.parametrize("case", SMALL, ids=str)
@pytest.mark.parametrize("backend", COMPILED)
def test_under_torch_func_and_compiled(backend, case):
    x = torch.stack([case.inputs(seed=s, device=device_of(backend))["x"] for s in range(3)], 1)

    def loss(x):
        return lrn(x, *case.numbers).square().sum()

    with use_backend(backend):
        want = torch.stack([torch.func.grad(loss)(v) for v in x.unbind(1)])
        assert_near(torch.func.vmap(torch.func.grad(loss), 1)(x), want, 1e-15)
        leaf = x[:, 0].contiguous().requires_grad_()
        compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
        assert_near(torch.autograd.grad(compiled(leaf), leaf)[0], want[0], 1e-15)


@pytest.mark.parametrize("backend", backends())
def test_nan_stays_in_its_windows(backend):
    x = torch.ones(1, 7, 2, 2, device=device_of(backend))
    x[0, 0, 0, 0] = float("nan")
    with use_backend(backend):
        assert lrn(x, 5).isnan().nonzero().tolist() == [[0, c, 0, 0] for c in range(3)]


@pytest.mark.parametrize(
    "shape, options, message",
    [
        ((2, 3), {}, r"x must be \[N, C, H, W\], got \[2, 3\]"),
        ((1, 1, 1, 1), {"size": 4}, "size must be odd, got 4"),
    ],
)
def test_wrong_arguments(shape, options, message):
    with pytest.raises(ValueError, match=message):
        lrn(torch.zeros(shape), **options)


@pytest.mark.skipif("cpu" not in backends(), reason="needs the compiled extension")
def test_the_compiled_op_checks_for_itself():
    x, numbers = torch.zeros(2, 3, 4, 5), (5, 1.0, 0.75, 1.0, False)
    with pytest.raises(RuntimeError, match="size must be odd, got 2"):
        torch.ops.crnn.lrn(x, 2, *numbers[1:])
    with pytest.raises(RuntimeError, match="must be contiguous, as"):
        torch.ops.crnn.lrn(x.mT, *numbers)
    with pytest.raises(RuntimeError, match="dy must have x's shape and dtype"):
        torch.ops.crnn.lrn_backward(x.double(), x, *numbers)
    with pytest.raises(RuntimeError, match="dy must lie in memory as x does"):
        torch.ops.crnn.lrn_backward(x.contiguous(memory_format=torch.channels_last), x, *numbers)
    with pytest.raises(RuntimeError, match="unknown variant 'fast' on cpu; known: avx512, avx2, portable"):
        lrn(x, variant="fast")


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("within", [False, True])
def test_a_window_far_wider_than_the_map(backend, within):
    """Its values are summed, what lies beyond counts in the mean alone."""
    size, x = 2**40 + 1, torch.randn(2, 3, 4, 5, dtype=torch.float64, device=device_of(backend))
    total = x.square().sum((2, 3) if within else 1, keepdim=True)
    with use_backend(backend):
        got = lrn(x, size, float(size) ** (2 if within else 1), within=within)
    assert_near(got, x * (1 + total) ** -0.75, 1e-14)
