"""CAFFE.md 1.6: one update of one blob by every rule against its formula; and the order of things."""

import math

import pytest
import torch

from crnn.proto import pb
from crnn.solver import adaptive, params, sgd

W, G, RATE, MULT = 2.0, 0.5, 0.1, 3.0


def make(name="w", value=W, grad=G, lr_mult=MULT, decay_mult=1.0, histories=1):
    blob = torch.nn.Parameter(torch.tensor([value]))
    blob.grad = None if grad is None else torch.tensor([grad])
    return params.Param(name, blob, lr_mult, decay_mult, [torch.zeros(1) for _ in range(histories)])


def run(steps=2, grad=G, **fields):
    """The blob after each of `steps` updates with the same gradient, and its histories."""
    param = pb.SolverParameter(**fields)
    rule = sgd.build(param)
    record, values = make(histories=rule.histories), []
    for t in range(steps):
        record.blob.grad = torch.tensor([grad])
        sgd.apply(params.group([record]), rule, param, RATE, t)
        values.append(record.blob.item())
    return values, [h.item() for h in record.history]


def test_sgd_keeps_the_rate_inside_the_velocity():
    v1 = RATE * MULT * G
    v2 = 0.9 * v1 + RATE * MULT * G
    values, history = run(momentum=0.9)
    assert values == pytest.approx([W - v1, W - v1 - v2])
    assert history == pytest.approx([v2])


def test_nesterov_looks_one_step_ahead():
    v1 = RATE * MULT * G
    v2 = 0.9 * v1 + RATE * MULT * G
    w1 = W - 1.9 * v1
    assert run(type="Nesterov", momentum=0.9)[0] == pytest.approx([w1, w1 - (1.9 * v2 - 0.9 * v1)])


def test_adagrad():
    w1 = W - RATE * MULT * G / (G + 0.1)
    w2 = w1 - RATE * MULT * G / (math.sqrt(2) * G + 0.1)
    assert run(type="AdaGrad", delta=0.1)[0] == pytest.approx([w1, w2])


def test_rmsprop():
    h1 = 0.2 * G * G
    h2 = 0.8 * h1 + 0.2 * G * G
    w1 = W - RATE * MULT * G / (math.sqrt(h1) + 0.1)
    values, history = run(type="RMSProp", rms_decay=0.8, delta=0.1)
    assert values == pytest.approx([w1, w1 - RATE * MULT * G / (math.sqrt(h2) + 0.1)])
    assert history == pytest.approx([h2])


def test_adadelta_has_two_histories():
    h1 = 0.1 * G * G
    d1 = G * math.sqrt(0.01 / (h1 + 0.01))
    values, history = run(1, type="AdaDelta", momentum=0.9, delta=0.01)
    assert values == pytest.approx([W - RATE * MULT * d1])
    assert history == pytest.approx([h1, 0.1 * d1 * d1])


def test_adam_has_delta_outside_the_bias_correction():
    values, history = run(1, type="Adam", momentum=0.9, momentum2=0.99, delta=0.5)
    m, v = 0.1 * G, 0.01 * G * G
    correction = math.sqrt(1 - 0.99) / (1 - 0.9)
    assert values == pytest.approx([W - RATE * MULT * correction * m / (math.sqrt(v) + 0.5)])
    assert history == pytest.approx([m, v])


def test_adam_without_momentum_has_no_first_moment():
    assert run(1, type="Adam")[1][0] == pytest.approx(G)


@pytest.mark.parametrize("kind, slope", [("L2", -W), ("L1", -1.0)])
def test_decay_is_of_the_blob_or_of_its_sign(kind, slope):
    param = pb.SolverParameter(weight_decay=0.5, regularization_type=kind)
    record = make(value=-W, decay_mult=2.0)
    sgd.apply(params.group([record]), sgd.build(param), param, RATE, 0)
    assert record.blob.item() == pytest.approx(-W - RATE * MULT * (G + 0.5 * 2.0 * slope))


def test_decay_acts_on_a_blob_that_no_loss_reaches():
    param = pb.SolverParameter(weight_decay=0.5)
    record = make(grad=None)
    sgd.apply(params.group([record]), sgd.build(param), param, RATE, 0)
    assert record.blob.item() == pytest.approx(W - RATE * MULT * 0.5 * W)


def test_iter_size_divides_the_gradient_but_not_the_decay():
    param = pb.SolverParameter(weight_decay=0.5, iter_size=4)
    record = make()
    sgd.apply(params.group([record]), sgd.build(param), param, RATE, 0)
    assert record.blob.item() == pytest.approx(W - RATE * MULT * (G / 4 + 0.5 * W))


def test_clip_scales_the_joint_norm_without_an_epsilon():
    records = [make(grad=3.0), make(grad=4.0), make(grad=None)]
    assert sgd.clip(records, 1.0) == pytest.approx((5.0, 0.2))
    assert [r.blob.grad.item() for r in records[:2]] == pytest.approx([0.6, 0.8])


def test_clip_leaves_small_gradients_and_does_not_count_frozen_blobs():
    records = [make(grad=3.0), make(grad=400.0, lr_mult=0.0)]
    assert sgd.clip(records, 3.0) is None
    assert records[0].blob.grad.item() == 3.0


def test_lr_mult_zero_keeps_the_blob():
    param = pb.SolverParameter(weight_decay=0.5, momentum=0.9)
    record = make(lr_mult=0.0)
    sgd.apply(params.group([record]), sgd.build(param), param, RATE, 0)
    assert record.blob.item() == W


def test_groups_hold_equal_multipliers():
    records = [make("a"), make("b", lr_mult=1.0), make("c"), make("d", decay_mult=0.0)]
    groups = [[p.name for p in g.params] for g in params.group(records)]
    assert sorted(groups) == [["a", "c"], ["b"], ["d"]]


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"type": "Adagrad"}, "unknown solver type 'Adagrad'; did you mean 'AdaGrad'"),
        ({"regularization_type": "L3"}, "unknown regularization_type 'L3'; known: L1, L2"),
        ({"type": "AdaGrad", "momentum": 0.9}, "'AdaGrad' cannot use momentum, got 0.9"),
        ({"type": "RMSProp", "momentum": 0.9}, "'RMSProp' cannot use momentum, got 0.9"),
        ({"type": "RMSProp", "rms_decay": 1}, "needs 0 <= rms_decay < 1, got 1"),
    ],
)
def test_what_caffe_refuses_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        sgd.build(pb.SolverParameter(**fields))


def test_the_adaptive_types_register_beside_sgd():
    assert {type(sgd.build(pb.SolverParameter(type=name))) for name in ("AdaDelta", "Adam")} == {
        adaptive.AdaDelta,
        adaptive.Adam,
    }
