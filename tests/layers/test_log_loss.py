"""MultinomialLogisticLoss, InfogainLoss, SigmoidCrossEntropyLoss."""

import math

import numpy as np
import pytest
import torch

from crnn.proto.blobs import from_array, write_binary
from crnn.testing import assert_near

LOGISTIC = 'type: "MultinomialLogisticLoss"'


def infogain(text="", loss=""):
    return f'type: "InfogainLoss" infogain_loss_param {{ {text} }} loss_param {{ {loss} }}'


def sigmoid(loss=""):
    return f'type: "SigmoidCrossEntropyLoss" loss_param {{ {loss} }}'


def test_logistic_loss_of_given_probabilities(make):
    p = torch.tensor([[0.25, 0.5], [0.125, 0.0]], requires_grad=True)
    layer = make(LOGISTIC, p.shape, (2,))
    (loss,) = layer(p, torch.tensor([0.0, 1]))
    assert loss.item() == pytest.approx((math.log(4) - math.log(1e-20)) / 2)
    loss.backward()
    assert p.grad[0].tolist() == [-2, 0]
    assert p.grad[1, 1].item() == pytest.approx(-1e20 / 2)  # bounded as the value is
    with pytest.raises(ValueError, match="label 2 is not one of the 2 classes"):
        layer(p, torch.tensor([0.0, 2]))
    with pytest.raises(ValueError, match=r"\[N, ...\] and labels \[N\], got \[2, 2\] and \[2, 2\]"):
        make(LOGISTIC, (2, 2), (2, 2))


def test_infogain_with_the_unit_matrix_is_the_softmax_loss(make):
    x, label = torch.randn(3, 4, 2, 2), torch.randint(4, (3, 2, 2))
    softmax = make('type: "SoftmaxWithLoss"', x.shape, label.shape)
    layer = make(infogain(), x.shape, label.shape, (1, 1, 4, 4), tops=2)
    loss, probabilities = layer(x, label, torch.eye(4)[None, None])
    assert_near(loss, softmax(x, label)[0], 2e-6)
    assert_near(probabilities, x.softmax(1), 2e-6)


def test_infogain_weighs_classes_by_the_rows_of_its_file(make, tmp_path):
    matrix = np.array([[1, 2], [0, 3]], np.float32)
    write_binary(tmp_path / "h.binaryproto", from_array(matrix))
    layer = make(infogain(f'source: "{tmp_path}/h.binaryproto"'), (2, 2), (2,))
    x = torch.tensor([[0.0, 1], [2, -1]], requires_grad=True)
    (loss,) = layer(x, torch.tensor([0.0, 1]))
    logs = x.detach().log_softmax(1)
    assert loss.item() == pytest.approx(-(logs[0, 0] + 2 * logs[0, 1] + 3 * logs[1, 1]).item() / 2)
    loss.backward()
    p = logs.exp()
    assert_near(x.grad, (p * torch.tensor([[3.0], [3]]) - torch.from_numpy(matrix)) / 2, 2e-6)


def test_infogain_refuses_what_caffe_refuses(make):
    with pytest.raises(ValueError, match=r"needs infogain_loss_param\.source"):
        make(infogain(), (2, 3), (2,))
    with pytest.raises(ValueError, match="normalize is deprecated"):
        make(infogain(loss="normalize: true"), (2, 3), (2,), (3, 3))
    with pytest.raises(ValueError, match="H needs 3² values for 3 classes, got 4"):
        make(infogain(), (2, 3), (2,), (2, 2))


@pytest.mark.parametrize(
    ("text", "divisor"),
    [("", 2), ("normalize: true", 5), ("normalization: FULL", 6), ("normalization: NONE", 1)],
)
def test_sigmoid_loss_is_divided_by_the_batch_unless_told(make, text, divisor):
    x = torch.tensor([[0.0, 2, -2], [30, 1, 0]], requires_grad=True)
    target = torch.tensor([[0.0, 1, 0.25], [1, -1, 1]])
    layer = make(sigmoid(f"ignore_label: -1 {text}"), x.shape, target.shape)
    (loss,) = layer(x, target)
    s = torch.sigmoid(x.detach().double())
    terms = -(target * s.log() + (1 - target) * (1 - s).clamp(min=1e-300).log())
    terms[1, 1] = 0
    assert loss.item() == pytest.approx(terms.sum().item() / divisor, rel=1e-5)
    loss.backward()
    want = (s - target) / divisor
    want[1, 1] = 0
    assert_near(x.grad, want, 2e-6)


def test_sigmoid_targets_get_no_gradient(make):
    x, target = torch.zeros(2, 3, requires_grad=True), torch.zeros(2, 3, requires_grad=True)
    make(sigmoid(), (2, 3), (2, 3))(x, target)[0].backward()
    assert target.grad is None
    with pytest.raises(ValueError, match=r"two bottoms \[N, ...\] of equal size"):
        make(sigmoid(), (2, 3), (2, 4))
