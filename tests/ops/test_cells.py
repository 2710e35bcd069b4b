"""Each cell against a plain numpy transcription of its equation, and in half precision."""

import numpy as np
import pytest
import torch

from crnn.ops import backends, plan, scan_states, use_backend
from crnn.ops.reference import CELLS
from crnn.testing import FOUR, ScanCase, assert_near, device_of


def sigmoid(v):
    return 1 / (1 + np.exp(-v))


def relu(v):
    return np.maximum(v, 0)


# x: the G parts of W_ih x + b; U: the G recurrent matrices; p: the cell's parameters. All -> the new states.


def ln_relu(x, U, h, p):  # Xie 2016, eq. 14-15
    a = x[0] + U[0] @ h[0]
    return [relu(p[0] * (a - a.mean()) / np.sqrt(a.var() + 1e-5) + p[1])]


def gru(x, U, h, p, f=relu):  # Xie 2016, eq. 10-13
    z, r = sigmoid(x[0] + U[0] @ h[0]), sigmoid(x[1] + U[1] @ h[0])
    return [(1 - z) * f(x[2] + U[2] @ (h[0] * r)) + z * h[0]]


def lstm(x, U, h, p):  # Guo 2018, eq. 2-7
    i, f, o = (sigmoid(x[g] + U[g] @ h[0]) for g in range(3))
    c = f * h[1] + i * np.tanh(x[3] + U[3] @ h[0])
    return [o * np.tanh(c), c]


def half_gru(x, U, h, p):  # Zhang 2018, eq. 2
    z = sigmoid(x[1] + U[1] @ h[0])
    return [(1 - z) * h[0] + z * relu(x[0] + U[0] @ h[0])]


EQUATIONS = {
    "relu": lambda x, U, h, p: [relu(x[0] + U[0] @ h[0])],
    "tanh": lambda x, U, h, p: [np.tanh(x[0] + U[0] @ h[0])],
    "ln_relu": ln_relu,
    "gru": gru,
    "gru_tanh": lambda *arguments: gru(*arguments, f=np.tanh),
    "lstm": lstm,
    "half_gru": half_gru,
}


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("cell", CELLS)
def test_cell_is_its_equation(cell, backend):
    T, N, D, spec = 5, 2, 4, CELLS[cell]
    case = ScanCase(cell, "carry", ("right",), N, 1, T, D, with_initial=True)
    inputs = case.inputs(device=device_of(backend))
    with use_backend(backend):
        got = scan_states(plan=plan(("right",), 1, T, "carry"), cell=cell, **inputs)
    a = {k: None if v is None else v.cpu().numpy() for k, v in inputs.items()}
    U = np.split(a["w_hh"][0], spec.gates)
    p = () if a["cell_params"] is None else a["cell_params"][0]
    for n in range(N):
        h = list(a["initial"][:, n, 0])
        for t in range(T):
            h = EQUATIONS[cell](np.split(a["z"][t, n, 0], spec.gates), U, h, p)
            assert_near(got[:, t, n, 0], torch.tensor(np.stack(h)), 1e-14)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2e-2), (torch.float16, 3e-3)], ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_half_types_accumulate_in_float(cell, dtype, tolerance):
    """The allowance is about four roundings of the type: z and the states are stored in it, sums are not."""
    if "cpu" not in backends():
        pytest.skip("needs the compiled extension")
    case = ScanCase(cell, "carry_value", FOUR, 2, 3, 3, 32)
    inputs = {k: None if v is None else v.to(dtype) for k, v in case.inputs().items()}

    def states_and_gradients(convert):
        leaves = {k: convert(v).requires_grad_() for k, v in inputs.items() if v is not None}
        states = scan_states(plan=case.plan, cell=cell, **leaves)
        return [states, *torch.autograd.grad(states.double().sum(), list(leaves.values()))]

    for got, want in zip(
        states_and_gradients(torch.clone), states_and_gradients(torch.Tensor.double), strict=True
    ):
        assert_near(got, want, tolerance)
