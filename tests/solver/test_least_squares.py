"""Caffe's solver tests: least squares with a known gradient (CAFFE.md section 6, test_gradient_based_solver).

One InnerProduct of 300 inputs and a EuclideanLoss over 4 examples. Every update must be the rule's, computed
here in float64 from the closed form g = (1/N) (X'Xw - X'y) + decay w.
"""

import numpy as np
import pytest
import torch

from crnn.solver.solver import Solver

N, D, STEPS = 4, 300, 5

NET = """
layer { name: "data" type: "Input" top: "data" top: "targets"
  input_param { shape { dim: 4 dim: 300 } shape { dim: 4 dim: 1 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 1
  weight_filler { type: "gaussian" std: 1 } bias_filler { type: "gaussian" std: 1 } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "targets" top: "loss" }
"""
# The same map as two layers that share weights, each on half of the examples.
SHARED_NET = """
layer { name: "data" type: "Input" top: "data" top: "targets"
  input_param { shape { dim: 4 dim: 300 } shape { dim: 4 dim: 1 } } }
layer { name: "slice" type: "Slice" bottom: "data" top: "a" top: "b" slice_param { axis: 0 } }
layer { name: "ip" type: "InnerProduct" bottom: "a" top: "ip_a" param { name: "w" } param { name: "b" }
  inner_product_param { num_output: 1
    weight_filler { type: "gaussian" std: 1 } bias_filler { type: "gaussian" std: 1 } } }
layer { name: "ip2" type: "InnerProduct" bottom: "b" top: "ip_b" param { name: "w" } param { name: "b" }
  inner_product_param { num_output: 1 } }
layer { name: "join" type: "Concat" bottom: "ip_a" bottom: "ip_b" top: "ip" concat_param { axis: 0 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "targets" top: "loss" }
"""


def sgd(p, h, g, t):
    h[0] = p["momentum"] * h[0] + p["rate"] * g
    return h[0]


def nesterov(p, h, g, t):
    before = h[0]
    h[0] = p["momentum"] * h[0] + p["rate"] * g
    return (1 + p["momentum"]) * h[0] - p["momentum"] * before


def adagrad(p, h, g, t):
    h[0] = h[0] + g * g
    return p["rate"] * g / (np.sqrt(h[0]) + p["delta"])


def rmsprop(p, h, g, t):
    h[0] = p["rms_decay"] * h[0] + (1 - p["rms_decay"]) * g * g
    return p["rate"] * g / (np.sqrt(h[0]) + p["delta"])


def adadelta(p, h, g, t):
    m = p["momentum"]
    h[0] = m * h[0] + (1 - m) * g * g
    step = g * np.sqrt((h[1] + p["delta"]) / (h[0] + p["delta"]))
    h[1] = m * h[1] + (1 - m) * step * step
    return p["rate"] * step


def adam(p, h, g, t):
    b1, b2 = p["momentum"], 0.999
    h[0] = b1 * h[0] + (1 - b1) * g
    h[1] = b2 * h[1] + (1 - b2) * g * g
    return p["rate"] * np.sqrt(1 - b2**t) / (1 - b1**t) * h[0] / (np.sqrt(h[1]) + p["delta"])


RULES = {
    "SGD": (sgd, {"rate": 0.01, "decay": 0.5, "momentum": 0.5}),
    "Nesterov": (nesterov, {"rate": 0.01, "decay": 0.5, "momentum": 0.9}),
    "AdaGrad": (adagrad, {"rate": 0.01, "decay": 0.5, "momentum": 0}),
    "RMSProp": (rmsprop, {"rate": 0.01, "decay": 0.5, "momentum": 0, "rms_decay": 0.95}),
    "AdaDelta": (adadelta, {"rate": 0.1, "decay": 0.1, "momentum": 0.95}),
    "Adam": (adam, {"rate": 0.01, "decay": 0.5, "momentum": 0.9}),
}
VARIANTS = {"plain": {"decay": 0, "momentum": 0}, "decay": {"momentum": 0}, "everything": {}}


def make(kind, setting, net=NET, iter_size=1, prefix="unused"):
    fields = {
        "base_lr": setting["rate"],
        "weight_decay": setting["decay"],
        "momentum": setting["momentum"],
        "rms_decay": setting.get("rms_decay", 0.99),
        "delta": setting["delta"],
        "iter_size": iter_size,
    }
    text = "\n".join(f"{name}: {value}" for name, value in fields.items())
    return Solver(
        f'type: "{kind}" lr_policy: "fixed" random_seed: 1 snapshot_prefix: "{prefix}"\n{text}\n'
        f"net_param {{ {net} }}"
    )


def setting_of(kind, variant):
    setting = {"delta": 1e-7, **RULES[kind][1]}
    if kind != "AdaDelta" or variant == "plain":  # its momentum is the decay of its means
        setting |= {k: v for k, v in VARIANTS[variant].items() if kind != "AdaDelta" or k != "momentum"}
    return setting


@pytest.fixture
def examples():
    """STEPS batches of data [N, D] and targets [N, 1]."""
    rng = torch.Generator().manual_seed(7)
    return [
        {"data": torch.randn(N, D, generator=rng), "targets": torch.randn(N, 1, generator=rng)}
        for _ in range(STEPS)
    ]


def weights_of(solver):
    """Weights and bias as one float64 vector [D + 1]."""
    return np.concatenate([p.blob.detach().double().numpy().ravel() for p in solver.params])


def close(got, want):
    """Caffe's tolerance, 1 % of the smaller value; 3e-7 is the rounding of weights of order 1."""
    allowed = np.maximum(3e-7, 1e-2 * np.minimum(np.abs(got), np.abs(want)))
    np.testing.assert_array_less(np.abs(got - want), allowed)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", RULES)
def test_update_is_the_rules(kind, variant, examples):
    setting = setting_of(kind, variant)
    solver = make(kind, setting)
    w, history = weights_of(solver), [0.0, 0.0]
    for t, batch in enumerate(examples):
        x = np.hstack([batch["data"].double().numpy(), np.ones((N, 1))])
        gradient = (x.T @ (x @ w) - x.T @ batch["targets"].double().numpy()[:, 0]) / N + setting["decay"] * w
        update = RULES[kind][0](setting, history, gradient, t + 1)
        before = weights_of(solver)
        solver.step(1, batch)
        close(before - weights_of(solver), update)
        w = w - update
    own = np.concatenate([p.history[0].double().numpy().ravel() for p in solver.params])
    close(own, history[0])


@pytest.mark.parametrize("kind", RULES)
def test_two_passes_of_half_a_batch_equal_one(kind, examples):
    setting = setting_of(kind, "everything")
    whole, halves = make(kind, setting), make(kind, setting, iter_size=2)
    whole.step(STEPS, examples)
    passes = [{k: v[i : i + 2] for k, v in batch.items()} for batch in examples for i in (0, 2)]
    halves.step(STEPS, passes)
    np.testing.assert_allclose(weights_of(halves), weights_of(whole), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", RULES)
def test_shared_weights_equal_unshared(kind, examples):
    setting = setting_of(kind, "everything")
    alone, shared = make(kind, setting), make(kind, setting, SHARED_NET)
    np.testing.assert_array_equal(weights_of(alone), weights_of(shared))
    alone.step(STEPS, examples)
    shared.step(STEPS, examples)
    np.testing.assert_allclose(weights_of(shared), weights_of(alone), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("net", [NET, SHARED_NET], ids=["own", "shared"])
@pytest.mark.parametrize("kind", RULES)
def test_resumed_equals_unbroken(kind, net, examples, tmp_path):
    setting = setting_of(kind, "everything")
    unbroken = make(kind, setting, net, prefix=tmp_path / "run")
    unbroken.step(2, examples)
    state = unbroken.snapshot()
    unbroken.step(STEPS - 2, examples[2:])
    resumed = make(kind, setting, net)
    resumed.restore(state)
    resumed.step(STEPS - 2, examples[2:])
    np.testing.assert_array_equal(weights_of(resumed), weights_of(unbroken))
    for a, b in zip(resumed.params, unbroken.params, strict=True):
        assert all(map(torch.equal, a.history, b.history))
