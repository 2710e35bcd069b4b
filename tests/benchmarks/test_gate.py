"""The gate and the contestants: what may be timed, and that all of it computes one function."""

import pytest
import torch

from benchmarks import cases, gate, nn_rnn, passes, peers
from crnn.ops import backends, reference, scan
from crnn.testing import FOUR, ScanCase, UpdateCase, scan_cases

PLAIN = [c for c in scan_cases() if not (c.with_initial or c.with_cont) and c.N]
CASE = ScanCase("relu", "carry_value", FOUR, 2, 3, 4, 5)


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_the_truth_is_the_reference(case):
    """The unrolled loop that the gate compares with, held to the definition in float64."""
    problem = gate.Problem(case, "scan", "fp32", "cpu")
    given = {name: t.detach().double().requires_grad_() for name, t in problem.inputs.items()}
    inputs = [given["z"], given["w_hh"], case.plan, case.cell, given.get("cell_params")]
    h = reference.scan(*inputs)[0]
    want = {"out": h.detach()}
    grads = torch.autograd.grad(h, list(given.values()), problem.gradient.double(), materialize_grads=True)
    want |= {f"d{name}": g for name, g in zip(given, grads, strict=True)}
    for name, truth in problem.truth.items():
        torch.testing.assert_close(truth, want[name], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("op", cases.OPS[:2])
@pytest.mark.parametrize("line_break", ["carry", "carry_value", "reset"])
@pytest.mark.parametrize("cell", reference.CELLS)
def test_every_contestant_passes_or_says_why_not(cell, line_break, op):
    problem = gate.Problem(ScanCase(cell, line_break, FOUR, 2, 3, 3, 5), op, "fp32", "cpu")
    for name, make in peers.contestants(problem, compiles=False, every_variant=False).items():
        try:
            contestant = problem.contestant(make())
        except peers.NotAvailable as error:
            known = nn_rnn.OTHER_FUNCTION.values() if name == "nn.RNN" else ["no compiled scan for cpu"]
            assert any(text in str(error) for text in known)
        else:
            assert problem.refusal(problem.errors(contestant)) == "", name


@pytest.mark.parametrize("directions", [("right",), ("up",), ("right", "left"), ("left", "down")], ids=str)
@pytest.mark.parametrize("line_break", ["carry", "carry_value", "reset"])
@pytest.mark.parametrize("cell", ["relu", "lstm"])
def test_nn_rnn_is_the_spatial_layer(cell, line_break, directions):
    """One way, both ways in one call, by rows, by columns, reversed, in windows."""
    problem = gate.Problem(ScanCase(cell, line_break, directions, 2, 3, 4, 5), "spatial_rnn", "fp32", "cpu")
    assert problem.refusal(problem.errors(nn_rnn.build(problem.case, problem.inputs))) == ""


def broken(**change):
    """Our op with something wrong."""

    def function(z, w_hh):
        h = scan(z, w_hh, CASE._replace(line_break=change.get("line_break", "carry_value")).plan)
        return h * (1 + change.get("scale", 0)) + change.get("add", 0)

    return function


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"scale": 1e-5}, "out"),
        ({"add": 1e-4}, "out"),
        ({"add": float("nan")}, "out"),
        ({"line_break": "reset"}, "out"),
        ({"line_break": "carry"}, "dz"),  # the values are right, the gradient crosses the windows
    ],
    ids=str,
)
def test_a_wrong_kernel_is_refused(change, what):
    problem = gate.Problem(CASE, "scan", "fp32", "cpu")
    refused = problem.refusal(problem.errors(problem.contestant(broken(**change))))
    assert refused.startswith(f"wrong: {what} is off by")


def test_an_update_that_forgets_the_decay_is_refused():
    problem = passes.UpdateProblem(UpdateCase("SGD", "L2", 0.5, 1.0, cases.RATE, ((7, 3),)), "fp32", "cpu")
    right, wrong = (passes.torch_sgd(problem, "loop") for _ in range(2))
    assert problem.refusal(problem.errors(right)) == ""
    wrong.forward.__self__.param_groups[0]["weight_decay"] = 0.0
    assert problem.refusal(problem.errors(wrong)).startswith("wrong: blobs")


def test_a_gradient_left_out_of_the_weights_is_refused():
    problem = gate.Problem(CASE, "scan", "fp32", "cpu")
    contestant = problem.contestant(lambda z, w: scan(z, w * 1.0, CASE.plan) + 0 * w.sum())
    assert problem.refusal(problem.errors(contestant)) == ""
    cut = gate.Contestant(contestant.function, contestant.leaves, lambda g: {"z": g[0], "w_hh": g[1] * 0.5})
    assert problem.refusal(problem.errors(cut)).startswith("wrong: dw_hh")


def test_the_yardstick_is_plain_torch_in_the_same_dtype():
    """Three times its error passes, more does not, and a yardstick that is itself lost refuses all."""
    naive = {"out": 1e-6, "dz": 2e-6}
    assert gate.refusal({"out": 3e-6, "dz": 6e-6}, naive, 2**-24) == ""
    assert gate.refusal({"out": 3.1e-6, "dz": 0.0}, naive, 2**-24).startswith("wrong: out")
    assert gate.refusal({"out": 1e-7}, {"out": 0.0}, 2**-24) == ""  # exact by luck: eps is allowed
    assert "nothing to measure against" in gate.refusal({"out": 0.0}, {"out": 0.5}, 2**-24)


def test_inputs_are_random_and_nowhere_zero():
    for op in cases.OPS[:2]:
        tensors, gradient = cases.inputs(CASE, op, "fp32", "cpu")
        for t in (*tensors.values(), gradient):
            assert (t != 0).all() and t.std() > 0.1


def test_the_kernels_are_listed_by_the_op_itself():
    if "cpu" not in backends():
        pytest.skip("needs the compiled extension")
    assert "portable" in peers.variants("cpu")


def test_a_compiled_loop_of_many_steps_is_not_available():
    with pytest.raises(peers.NotAvailable, match="unrolls 144 steps"):
        peers.compiled(ScanCase("relu", "carry", FOUR, 1, 12, 12, 4), "cpu")


@pytest.mark.parametrize(
    ("case", "dtype", "forward", "backward"),
    [
        (ScanCase("relu", "carry_value", FOUR, 32, 6, 6, 256), "bf16", "SMALL_H", "SMALL_H"),
        (ScanCase("relu", "carry", FOUR, 32, 6, 6, 384), "bf16", "SMALL_H", "STANDARD"),
        (ScanCase("lstm", "carry", FOUR, 32, 6, 6, 192), "fp32", "SMALL_H", "STANDARD"),
        (ScanCase("relu", "carry", ("right",), 8, 1, 64, 512), "fp16", "STATIC", "STATIC"),
        (ScanCase("relu", "carry", ("right",), 8, 1, 64, 512), "bf16", "STANDARD", "STANDARD"),
        (ScanCase("relu", "carry", ("right",), 96, 1, 64, 1024), "fp16", "STANDARD", "STANDARD"),
        (ScanCase("lstm", "carry", ("right",), 96, 1, 64, 1024), "fp16", "STATIC", "STATIC"),
        (ScanCase("relu", "reset", FOUR, 10, 48, 48, 1024), "fp16", "STANDARD", "STANDARD"),
    ],
    ids=str,
)
def test_cudnns_algorithm_by_torchs_rules(case, dtype, forward, backward):
    for first, want in ((True, forward), (False, backward)):
        assert nn_rnn.algorithm(case, dtype, first, 132, (9, 0)).endswith(want)


def test_windows_are_single_calls_of_nn_rnn():
    assert nn_rnn.calls(CASE._replace(H=6, W=6)) == 24
    assert nn_rnn.calls(CASE._replace(line_break="carry")) == 2
    assert nn_rnn.calls(ScanCase("relu", "reset", ("right", "left"), 1, 4, 4, 2)) == 1
