"""Softmax, SoftmaxWithLoss, Accuracy, EuclideanLoss."""

import math

import pytest
import torch

from crnn.testing import assert_near


def loss(text=""):
    return f'type: "SoftmaxWithLoss" {text}'


def test_softmax_along_an_axis(make):
    x = torch.randn(2, 3, 4)
    for text, axis in (("", 1), ("softmax_param { axis: -1 }", 2)):
        torch.testing.assert_close(
            make(f'type: "Softmax" {text}', x.shape)(x)[0], x.exp() / x.exp().sum(axis, keepdim=True)
        )


def test_softmax_loss_and_its_second_top(make):
    x, label = torch.randn(3, 4), torch.tensor([0.0, 3, 1])
    layer = make(loss(), x.shape, label.shape, tops=2)
    assert layer.top_shapes == [(), (3, 4)]
    value, softmax = layer(x, label)
    torch.testing.assert_close(softmax, x.softmax(1))
    torch.testing.assert_close(value, -x.softmax(1)[range(3), [0, 3, 1]].log().mean())


def test_ignored_labels_leave_the_rest(make):
    """Each label ignored in turn: the sum of the losses is (classes − 1) times the full loss."""
    x, label = torch.randn(5, 4, 2, 3), torch.randint(4, (5, 2, 3)).float()
    full = make(loss("loss_param { normalization: NONE }"), x.shape, label.shape)(x, label)[0]
    parts = [
        make(loss(f"loss_param {{ normalization: NONE ignore_label: {i} }}"), x.shape, label.shape)(x, label)[
            0
        ]
        for i in range(4)
    ]
    torch.testing.assert_close(sum(parts), 3 * full)


@pytest.mark.parametrize(
    ("text", "divisor"),
    [
        ("", 5),
        ("normalization: VALID", 5),
        ("normalization: FULL", 6),
        ("normalization: BATCH_SIZE", 2),
        ("normalization: NONE", 1),
        ("normalize: true", 5),
        ("normalize: false", 2),
        ("normalize: false normalization: FULL", 6),
    ],
)
def test_normalisation(make, text, divisor):
    x, label = torch.randn(2, 4, 3), torch.tensor([[0.0, 255, 2], [3, 3, 1]])
    (value,) = make(loss(f"loss_param {{ ignore_label: 255 {text} }}"), x.shape, label.shape)(x, label)
    logp = x.log_softmax(1)
    want = -sum(
        logp[n, int(c), i]
        for (n, i), c in zip(torch.cartesian_prod(*map(torch.arange, (2, 3))), label.flatten(), strict=True)
        if c != 255
    )
    torch.testing.assert_close(value, want / divisor)


def test_an_empty_batch_and_an_ignored_one_lose_nothing(make):
    layer = make(loss("loss_param { ignore_label: 7 }"), (2, 4), (2,))
    assert layer(torch.zeros(0, 4), torch.zeros(0))[0] == 0
    assert layer(torch.zeros(2, 4), torch.tensor([7.0, 7]))[0] == 0


def test_the_loss_is_bounded_but_its_gradient_is_not_cut(make):
    x = torch.tensor([[0.0, 1000.0]], requires_grad=True)
    (value,) = make(loss(), (1, 2), (1,))(x, torch.tensor([0.0]))
    value.backward()
    assert value.item() == pytest.approx(-math.log(torch.finfo(torch.float32).tiny))
    assert x.grad.tolist() == [[-1, 1]]


def test_a_score_of_minus_infinity_costs_the_bound(make):
    """A log of 0 before it; the real Caffe gives 87.33655 too."""
    x = torch.tensor([[0.0, -math.inf], [1.0, 1.0]], requires_grad=True)
    (value,) = make(loss(), (2, 2), (2,))(x, torch.tensor([1.0, 0.0]))
    value.backward()
    bound = -math.log(torch.finfo(torch.float32).tiny)
    assert value.item() == pytest.approx((bound + math.log(2)) / 2)
    assert x.grad.tolist() == [[0.5, -0.5], [-0.25, 0.25]]


@pytest.mark.parametrize("kind", ["SoftmaxWithLoss", "Accuracy"])
@pytest.mark.parametrize("bad", [4.0, -1.0, -100.0, math.nan])
def test_a_label_out_of_range_is_named_with_the_classes(make, kind, bad):
    layer = make(f'type: "{kind}"', (2, 4), (2,))
    with pytest.raises(ValueError, match=rf"label {bad:g} is not one of the 4 classes 0 to 3"):
        layer(torch.randn(2, 4), torch.tensor([1.0, bad]))


def test_labels_must_match_the_scores(make):
    with pytest.raises(ValueError, match="one label for each of 2 x 3 predictions"):
        make(loss(), (2, 4, 3), (2,))
    layer = make(loss(), (2, 4), (2,))
    with pytest.raises(ValueError, match="one label for each of 5 x 1 predictions"):
        layer(torch.randn(5, 4), torch.zeros(2))
    with pytest.raises(ValueError, match="takes 2 bottoms, got 1"):
        make(loss(), (2, 4))


def accuracy(text=""):
    return f'type: "Accuracy" accuracy_param {{ {text} }}'


def test_accuracy_counts_a_tie_against_the_label(make):
    x = torch.tensor([[1.0, 1, 0], [2, 1, 0], [0, 0, 0]])
    layer = make(accuracy(), x.shape, (3,))
    assert layer(x, torch.tensor([0.0, 0, 0]))[0].item() == pytest.approx(1 / 3)
    two = make(accuracy("top_k: 2"), x.shape, (3,))
    assert two(x, torch.tensor([0.0, 1, 0]))[0].item() == pytest.approx(2 / 3)


def test_accuracy_of_each_class_without_the_ignored(make):
    x = torch.eye(4)[[0, 1, 2, 0, 3]]
    label = torch.tensor([0.0, 1, 2, 1, 3])
    total, each = make(accuracy("ignore_label: 3"), x.shape, label.shape, tops=2)(x, label)
    assert total.item() == 0.75
    assert each.tolist() == [1, 0.5, 1, 0]


def test_accuracy_at_every_place_of_a_map(make):
    x, label = torch.randn(2, 3, 4, 5), torch.randint(3, (2, 4, 5)).float()
    (value,) = make(accuracy(), x.shape, label.shape)(x, label)
    torch.testing.assert_close(value, (x.argmax(1) == label).float().mean())
    (last,) = make(accuracy("axis: -1"), (2, 4, 5, 3), label.shape)(x.movedim(1, -1), label)
    assert last == value


def test_accuracy_of_nothing_is_zero(make):
    layer = make(accuracy("ignore_label: 7"), (2, 4), (2,))
    assert layer(torch.zeros(0, 4), torch.zeros(0))[0] == 0
    assert layer(torch.zeros(2, 4), torch.tensor([7.0, 7]))[0] == 0


def test_top_k_within_the_classes(make):
    with pytest.raises(ValueError, match="top_k 5 is not within 1 and the 4 classes"):
        make(accuracy("top_k: 5"), (2, 4), (2,))


def test_euclidean_loss_is_half_the_squares_over_the_batch(make):
    a, b = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 3, 4)
    layer = make('type: "EuclideanLoss"', a.shape, b.shape)
    (value,) = layer(a, b)
    value.backward()
    assert_near(value, ((a - b) ** 2).sum() / 4, 2e-6)
    assert_near(a.grad, (a - b) / 2, 2e-6)
    assert layer(torch.zeros(0, 3, 4), torch.zeros(0, 3, 4))[0] == 0
    with pytest.raises(ValueError, match="of equal size"):
        make('type: "EuclideanLoss"', (2, 3), (3, 2))
