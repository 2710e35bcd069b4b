"""The tiles of every instruction set, on shapes that do not divide them, and their exp and tanh."""

import pytest
import torch

from crnn.ops import backends, plan, reference, scan, scan_states, use_backend
from crnn.testing import FOUR, SCAN_TOLERANCE, ScanCase, assert_near
from tests.emulated import check_scan

pytestmark = pytest.mark.skipif("cpu" not in backends(), reason="needs the compiled extension")
ODD = [  # N, H, W, D
    (1, 2, 3, 19), (5, 2, 3, 19), (6, 2, 3, 19), (24, 2, 3, 19), (25, 2, 3, 19), (257, 2, 2, 8),
    (5, 1, 4, 7), (5, 4, 1, 72), (2, 2, 2, 1), (3, 2, 2, 200), (2, 2, 2, 256), (2, 2, 2, 300),
    (13, 1, 3, 530),
]  # fmt: skip


def probe(variant, dtype):
    z, w_hh = torch.zeros(1, 1, 1, 1, dtype=dtype), torch.zeros(1, 1, 1, dtype=dtype)
    scan(z, w_hh, plan(("right",), 1, 1, 0), variant=variant)


def skip_unless_it_runs(variant, dtype):
    try:
        probe(variant, dtype)
    except RuntimeError as error:
        assert f"this processor cannot run variant '{variant}'" in str(error)
        pytest.skip(f"needs an x86 processor with {variant.upper()}")


@pytest.fixture(params=["portable", "avx2", "avx512"])
def variant(request):
    """A variant that this processor can run."""
    skip_unless_it_runs(request.param, torch.float32)
    return request.param


def check(case, dtype, variant):
    inputs = case.inputs(dtype)
    results = []
    for backend, precision in (("reference", torch.float64), ("cpu", dtype)):
        given = {k: None if v is None else v.to(precision) for k, v in inputs.items()}
        leaves = {k: v.requires_grad_() for k, v in given.items() if v is not None and k != "cont"}
        options = {"variant": variant} if backend == "cpu" else {}
        with use_backend(backend):
            state = scan_states(plan=case.plan, cell=case.cell, **given, **options)
        dstate = torch.randn(state.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        results.append([state, *torch.autograd.grad(state, list(leaves.values()), dstate.to(precision))])
    for name, want, got in zip(["state", *leaves], *results, strict=True):
        assert_near(got, want, SCAN_TOLERANCE[dtype], name)


@pytest.mark.parametrize("shape", ODD, ids=str)
def test_shapes_that_do_not_divide_the_tiles(variant, shape):
    check(ScanCase("relu", "carry_value", FOUR, *shape), torch.float32, variant)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("cell", reference.CELLS)
@pytest.mark.parametrize("D", [19, 130])  # d W_hh beside the other gradients, and by a pass of its own
def test_every_cell(variant, cell, dtype, D):
    check(ScanCase(cell, "carry_value", ("left", "down"), 7, 2, 3, D, True, True), dtype, variant)


@pytest.mark.parametrize("D", [19, 130])
@pytest.mark.parametrize("cell", ["ln_relu", "gru"])
def test_with_the_gradient_of_w_hh_the_others_have_the_same_bits(variant, cell, D):
    case = ScanCase(cell, "reset", FOUR, 50, 3, 4, D, True, True)
    i, flat = case.inputs(torch.float32), [int(v) for d in case.plan for v in d]
    rest = [i[name] for name in ("w_hh", "cell_params", "initial", "cont")]
    state, saved = torch.ops.crnn.scan(i["z"], *rest, flat, cell, variant)
    args = (torch.randn_like(state), *rest, state, saved, flat, cell, variant)
    *whole, _ = torch.ops.crnn.scan_whole_backward(*args)
    for got, want in zip(whole, torch.ops.crnn.scan_backward(*args), strict=True):
        assert torch.equal(got, want)


@pytest.mark.parametrize("cell", reference.CELLS)
def test_every_cell_in_bfloat16_by_amx(cell):
    """By the instructions themselves; tests/cpu has the same with the tiles emulated."""
    skip_unless_it_runs("amx", torch.bfloat16)
    check_scan(torch.ops.crnn, ScanCase(cell, "carry_value", FOUR, 17, 2, 3, 72), torch.bfloat16, "amx", 5e-3)


def test_amx_is_for_bfloat16():
    with pytest.raises(RuntimeError, match=r"unknown variant 'amx' on cpu; .* \(for tensors of this type\)"):
        probe("amx", torch.float32)


def test_tanh_to_three_units_in_the_last_place(variant):
    """Of every size, where the polynomial meets the quotient, and at the ends."""
    x = torch.cat([torch.linspace(-20, 20, 20001), torch.logspace(-30, 1, 5000), torch.tensor([1e4, -1e30])])
    got = scan(
        x.view(-1, 1, 1, 1), torch.zeros(1, 1, 1), plan(("right",), 1, len(x), 2), "tanh", variant=variant
    )
    want = torch.tanh(x.double())
    assert ((got.flatten() - want).abs() <= 3 * 2**-24 * want.abs()).all()


def test_sigmoid_to_four_units_in_the_last_place(variant):
    """half_gru from h = 0 and h' = 1 gives its gate."""
    x = torch.linspace(-80, 80, 40001)
    z = torch.stack([torch.ones_like(x), x], 1).view(-1, 1, 1, 2)
    order = plan(("right",), len(x), 1, "reset")
    got = scan(z, torch.zeros(1, 2, 1), order, "half_gru", variant=variant)
    want = torch.sigmoid(x.double())
    assert ((got.flatten() - want).abs() <= 4 * 2**-23 * want).all()


def test_infinities_and_nan():
    x = torch.tensor([float("inf"), -float("inf"), float("nan")])
    got = scan(x.view(-1, 1, 1, 1), torch.zeros(1, 1, 1), plan(("right",), 3, 1, "reset"), "tanh")
    assert got.flatten()[:2].tolist() == [1, -1] and got.flatten()[2].isnan()


@pytest.mark.parametrize("shape", [(50, 3, 3, 40), (2, 3, 4, 200)], ids=str)
def test_equal_bits_in_a_hundred_runs(threads, shape):
    """States and gradients, for one thread and two."""
    case = ScanCase("relu", "carry_value", FOUR, *shape)
    z, w = (case.inputs(torch.float32)[name].requires_grad_() for name in ("z", "w_hh"))

    def run():
        h = scan(z, w, case.plan)
        return h.detach(), *torch.autograd.grad(h.square().sum(), (z, w))

    first = run()
    for count in (1, 2) * 50:
        threads(count)
        assert all(torch.equal(a, b) for a, b in zip(run(), first, strict=True))


@pytest.mark.parametrize("line_break", ["carry", "carry_value", "reset"])
def test_few_chains_are_shared_out_among_threads(variant, line_break):
    """One direction, tiles of fewer chains than a thread could take; and samples that no tile divides."""
    for N in (1, 7, 13):
        check(ScanCase("ln_relu", line_break, ("left",), N, 3, 2, 33), torch.float32, variant)
