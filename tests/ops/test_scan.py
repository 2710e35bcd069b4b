"""crnn::scan: every backend equals the reference, and the reference is Caffe's (test_goldens.py)."""

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from crnn.nn import SpatialRNN
from crnn.ops import LineBreak, backends, plan, reference, scan, scan_states, use_backend
from crnn.testing import FOUR, SCAN_TOLERANCE, ScanCase, assert_near, device_of, scan_cases

COMPILED = [b for b in backends() if b != "reference"]


def values_and_gradients(case, inputs, **options):
    """state and its gradients in z, w_hh, initial, for a fixed random gradient on every state."""
    leaves = {k: v.clone().requires_grad_() for k, v in inputs.items() if v is not None and k != "cont"}
    state = scan_states(plan=case.plan, cell=case.cell, **{**inputs, **leaves}, **options)
    dstate = torch.randn(state.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradients = torch.autograd.grad(state, list(leaves.values()), dstate.to(state))
    return {"state": state, **{f"d{k}": g for k, g in zip(leaves, gradients, strict=True)}}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("case", scan_cases(), ids=str)
@pytest.mark.parametrize("backend", COMPILED)
def test_backend_equals_reference(case, backend, dtype):
    inputs = case.inputs(dtype, device=device_of(backend))
    with use_backend("reference"):
        want = values_and_gradients(case, {k: v if v is None else v.double() for k, v in inputs.items()})
    with use_backend(backend):
        got = values_and_gradients(case, inputs)
    for name in want:
        assert_near(got[name], want[name], SCAN_TOLERANCE[dtype], name)


@pytest.mark.parametrize("cell", reference.CELLS)
@pytest.mark.parametrize("line_break", ["carry", "reset"])
@pytest.mark.parametrize("backend", backends())
def test_gradcheck(cell, line_break, backend):
    case = ScanCase(cell, line_break, FOUR, 2, 2, 3, 3, with_initial=True, with_cont=True)
    inputs = case.inputs(seed=3, device=device_of(backend))
    leaves = {k: v.requires_grad_() for k, v in inputs.items() if v is not None and k != "cont"}

    def states(*tensors):
        return scan_states(
            plan=case.plan, cell=cell, cont=inputs["cont"], **dict(zip(leaves, tensors, strict=True))
        )

    with use_backend(backend):
        assert torch.autograd.gradcheck(states, list(leaves.values()))


@pytest.mark.parametrize("backend", backends())
def test_carry_value_cuts_the_gradient_and_keeps_the_product(backend):
    """The gradient is that of full BPTT over each window whose first h is a constant (Zuo 2015, eq. 9)."""
    H, W, D = 3, 4, 3
    case = ScanCase("relu", "carry_value", ("right",), 2, H, W, D)
    inputs = case.inputs(device=device_of(backend))
    z, w = inputs["z"].requires_grad_(), inputs["w_hh"].requires_grad_()
    with use_backend(backend):
        h = scan(z, w, case.plan)
        got = torch.autograd.grad(h.square().sum(), (z, w))
        windows, start = [], None
        for line in range(H):
            rows = z[line * W : (line + 1) * W]
            out = scan(rows, w, plan(("right",), 1, W, LineBreak.CARRY), initial=start)
            windows.append(out)
            start = out[-1].detach().unsqueeze(0)
        want = torch.autograd.grad(torch.cat(windows).square().sum(), (z, w))
    assert_near(h, torch.cat(windows), 1e-14)
    for a, b in zip(got, want, strict=True):
        assert_near(a, b, 1e-14)
    assert all(window.grad_fn is not None for window in windows)


@pytest.mark.parametrize("backend", COMPILED)
def test_any_strides_enter_without_a_copy(backend):
    """z from a channels_last map, every second sample, and one input shared by all directions."""
    case = ScanCase("relu", "carry_value", FOUR, 4, 3, 5, 6)
    inputs = case.inputs(device=device_of(backend))
    z, w = inputs["z"], inputs["w_hh"]
    by_sample = z.transpose(0, 1).contiguous().transpose(0, 1)
    shared = z[:, :, :1].expand(-1, -1, 4, -1)
    with use_backend(backend):
        assert torch.equal(scan(by_sample, w, case.plan), scan(z, w, case.plan))
        assert torch.equal(scan(z[:, ::2], w, case.plan), scan(z[:, ::2].contiguous(), w, case.plan))
        assert torch.equal(scan(shared, w, case.plan), scan(shared.contiguous(), w, case.plan))
        not_dense = z.transpose(2, 3).contiguous().transpose(2, 3)
        assert torch.equal(scan(not_dense, w, case.plan), scan(z, w, case.plan))


@pytest.mark.parametrize("backend", COMPILED)
def test_offsets_of_more_than_31_bits(backend):
    """Two positions 2^31 elements apart; on a CPU what lies between takes no memory."""
    case = ScanCase("relu", "carry", ("right", "left"), 3, 1, 2, 16)
    inputs = case.inputs(torch.float32, device=device_of(backend))
    z, w, far = inputs["z"], inputs["w_hh"], 2**31 + 64
    memory = torch.from_numpy(np.empty(far + z[0].numel(), np.float32))  # torch.empty may fill it
    apart = memory.to(z.device).as_strided(z.shape, (far, *z.stride()[1:])).copy_(z)
    with use_backend(backend):
        assert torch.equal(scan(apart, w, case.plan), scan(z, w, case.plan))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_equal_bits_for_any_number_of_threads(threads, dtype):
    case = ScanCase("relu", "carry_value", FOUR, 50, 4, 4, 20)
    results = []
    for count in (1, 2, 3, 7):
        threads(count)
        results.append(values_and_gradients(case, case.inputs(dtype)))
    for other in results[1:]:
        assert all(torch.equal(results[0][k], other[k]) for k in results[0])


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("options", [(), ("initial",), ("cont",), ("initial", "cont")], ids=str)
@pytest.mark.parametrize("cell", reference.CELLS)
def test_opcheck(cell, options, backend):
    case = ScanCase(cell, "carry", ("right", "up"), 2, 2, 3, 3, "initial" in options, "cont" in options)
    i = case.inputs(device=device_of(backend))
    names = ("z", "w_hh", "cell_params", "initial", "cont")
    leaves = [None if i[k] is None else i[k].requires_grad_(k != "cont") for k in names]
    flat = [int(v) for d in case.plan for v in d]
    torch.library.opcheck(torch.ops.crnn.scan.default, (*leaves, flat, cell))


@pytest.mark.parametrize("D", [8, 200])
@pytest.mark.parametrize("backend", backends())
def test_no_sample_has_a_gradient_of_zero(backend, D):
    """And one that is expanded, as of a sum."""
    case = ScanCase("relu", "reset", FOUR, 0, 2, 3, D)
    z, w = (case.inputs(device=device_of(backend))[name].requires_grad_() for name in ("z", "w_hh"))
    with use_backend(backend):
        dz, dw = torch.autograd.grad(scan(z, w, case.plan).sum(), (z, w))
    assert dz.shape == z.shape and dw.shape == w.shape and not dw.any()


@pytest.mark.parametrize("order", ["positions", "samples", "expanded"])
@pytest.mark.parametrize("backend", COMPILED)
def test_the_gradient_of_z_lies_as_that_of_the_states(backend, order):
    case = ScanCase("gru", "carry_value", FOUR, 3, 2, 4, 5)
    i, flat = case.inputs(device=device_of(backend)), [int(v) for d in case.plan for v in d]
    state, saved = torch.ops.crnn.scan(i["z"], i["w_hh"], None, None, None, flat, "gru")
    dstate = torch.randn_like(state)
    want = torch.ops.crnn.scan_backward(dstate, i["w_hh"], None, None, None, state, saved, flat, "gru")
    if order == "samples":
        dstate = dstate.transpose(1, 2).contiguous().transpose(1, 2)
    elif order == "expanded":  # the same for all: which order it has is not known
        dstate = dstate[:, :1, :1].expand_as(state)
    arguments = (dstate, i["w_hh"], None, None, None, state, saved, flat, "gru")
    dz = torch.ops.crnn.scan_backward(*arguments)[0]
    if order != "expanded":
        assert torch.equal(dz, want[0])
    if backend == "cpu":
        assert (dz if order == "positions" else dz.transpose(0, 1)).is_contiguous()
    with FakeTensorMode() as mode:
        fake = [mode.from_tensor(a) if isinstance(a, torch.Tensor) else a for a in arguments]
        assert torch.ops.crnn.scan_backward(*fake)[0].stride() == dz.stride()


@pytest.mark.parametrize("line_break", ["carry", "carry_value", "reset"])
@pytest.mark.parametrize("backend", backends())
def test_compiles_as_one_graph(backend, line_break):
    case = ScanCase("relu", line_break, FOUR, 2, 2, 3, 4)
    inputs = case.inputs(device=device_of(backend))
    z, w, order = inputs["z"].requires_grad_(), inputs["w_hh"].requires_grad_(), case.plan
    torch._dynamo.reset()

    def loss(z, w):
        return scan(z, w, order).square().sum()

    with use_backend(backend):
        want = torch.autograd.grad(loss(z, w), (z, w))
        got = torch.autograd.grad(torch.compile(loss, fullgraph=True, backend="aot_eager")(z, w), (z, w))
    for a, b in zip(got, want, strict=True):
        assert_near(a, b, 1e-14)


def test_nan_stays_nan():
    case = ScanCase("relu", "carry", ("right",), 1, 1, 3, 2)
    inputs = case.inputs()
    inputs["z"][1] = float("nan")
    for backend in backends():
        z, w = (inputs[name].to(device_of(backend)) for name in ("z", "w_hh"))
        with use_backend(backend):
            assert scan(z, w, case.plan).isnan().sum() == 4


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w_hh": torch.zeros(1, 3, 3)}, r"whh must be \[1, 1\*D, D\]|must have 3 channels, got 4"),
        ({"w_hh": torch.zeros(2, 4, 4)}, "whh must be"),
        ({"w_hh": torch.zeros(1, 4, 4, dtype=torch.float64)}, "one dtype"),
        (
            {"w_hh": torch.zeros(2, 4, 4), "z": torch.zeros(6, 2, 2, 4)},
            "plan has 1 directions, the tensors 2",
        ),
        ({"z": torch.zeros(5, 2, 1, 4)}, "visits 2 lines of 3, but z has 5 positions"),
        ({"z": torch.zeros(6, 2, 4)}, r"z must be \[P, N, K, gates\*D\], got 3 dimensions"),
        (
            {"initial": torch.zeros(1, 2, 1, 3)},
            r"initial \[states, N, K, D\] of shape \[1, 2, 1, 3\] for 6 positions of 2 samples, 1 directions",
        ),
        ({"cont": torch.zeros(6, 3)}, r"cont \[P, N\]"),
        ({"cell_params": torch.zeros(1, 1, 4)}, "has 0 parameters of its own: cell_params must be None"),
        (
            {"variant": "fpga"},
            r"unknown variant 'fpga' on (cpu; known: avx512, avx2, portable|cuda; known: \w+)",
        ),
    ],
)
def test_wrong_arguments_are_named(backend, change, message):
    arguments = {
        "z": torch.zeros(6, 2, 1, 4),
        "w_hh": torch.zeros(1, 4, 4),
        "plan": plan(("right",), 2, 3, "carry"),
    }
    given = {
        k: v.to(device_of(backend)) if isinstance(v, torch.Tensor) else v
        for k, v in (arguments | change).items()
    }
    with use_backend(backend), pytest.raises(RuntimeError, match=message):
        scan(**given)


@pytest.mark.parametrize("flat", [[1, 3, 1, 2, 3, 0], [0, 3, 2, 2, 3, 0], [0, 3, 1, 2, -3, 0]])
def test_a_plan_that_leaves_the_map_is_refused(flat):
    if "cpu" not in backends():
        pytest.skip("needs the compiled extension")
    with pytest.raises(RuntimeError, match="steps outside the map"):
        torch.ops.crnn.scan(torch.zeros(6, 2, 1, 4), torch.zeros(1, 4, 4), None, None, None, flat, "relu")


@pytest.mark.parametrize("flat", [[0, 2, 0, 2, 1, 0], [0, 2, 1, 2, 1, 0], [0, 2, 3, 2, 0, 0]])
def test_a_plan_that_visits_a_position_twice_is_refused(flat):
    if "cpu" not in backends():
        pytest.skip("needs the compiled extension")
    with pytest.raises(RuntimeError, match="direction 0 visits positions twice"):
        torch.ops.crnn.scan(torch.zeros(4, 2, 1, 4), torch.zeros(1, 4, 4), None, None, None, flat, "relu")


@pytest.mark.parametrize("name", ["w_hh", "initial", "cont", "cell_params"])
def test_tensors_on_several_devices_are_refused(name):
    """A meta tensor would get the fake kernel's result, which nobody computes."""
    if "cpu" not in backends():
        pytest.skip("needs the compiled extension")
    case = ScanCase("ln_relu", "carry", ("right",), 2, 2, 3, 4, with_initial=True, with_cont=True)
    inputs = case.inputs(torch.float32)
    inputs[name] = inputs[name].to("meta")
    with torch.no_grad(), pytest.raises(RuntimeError, match="tensors on cpu and meta"):
        scan(plan=case.plan, cell=case.cell, **inputs)


def test_a_layer_on_the_meta_device():
    assert SpatialRNN(3, 4).to("meta")(torch.zeros(2, 3, 5, 6, device="meta")).shape == (2, 4, 5, 6)


@pytest.mark.skipif("cpu" not in backends(), reason="needs the compiled extension")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state": torch.zeros(1, 6, 2, 1, 4)}, "state and dstate of 2 states must have one shape"),
        ({"dstate": torch.zeros(2, 1, 1, 1, 4)}, "state and dstate of 2 states must have one shape"),
        ({"dstate": torch.zeros(2, 6, 2, 1, 4, dtype=torch.float64)}, "must have one shape, dtype"),
        ({"state": torch.zeros(2, 2, 6, 1, 4).transpose(1, 2)}, "state must be .* contiguous"),
        ({"state": torch.zeros(6, 2, 1, 4)}, r"state must be \[S, P, N, K, D\]"),
        ({"saved": torch.zeros(0)}, r"saved must be as the scan of cell 'lstm' gave it, got \[0\]"),
    ],
)
def test_backward_takes_only_what_the_scan_gave(change, message):
    given = {"dstate": torch.zeros(2, 6, 2, 1, 4), "state": torch.zeros(2, 6, 2, 1, 4)}
    given = given | {"saved": torch.zeros(6, 2, 1, 4, 4)} | change
    for op in (torch.ops.crnn.scan_backward, torch.ops.crnn.scan_whole_backward):
        with pytest.raises(RuntimeError, match=message):
            op(given["dstate"], torch.zeros(1, 16, 4), None, None, None, given["state"], given["saved"],
               [0, 3, 1, 2, 3, 0], "lstm")  # fmt: skip


def test_unknown_cell():
    with pytest.raises(ValueError, match="unknown cell 'rely'; known: relu, tanh, ln_relu, gru"):
        scan(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1), plan(("right",), 1, 1, "carry"), "rely")
