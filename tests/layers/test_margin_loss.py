"""HingeLoss and ContrastiveLoss."""

import pytest
import torch


def test_hinge_loss_and_its_square(make):
    x, label = torch.tensor([[0.5, -2, 1], [3, -1, 0.0]]), torch.tensor([0.0, 0])
    # The label's excess is max(0, 1 - x), the others' max(0, 1 + x).
    excess = torch.tensor([[0.5, 0, 2], [0, 0, 1]])
    slope = torch.tensor([[-1.0, 0, 1], [0, 0, 1]])  # at the margin itself (x = -1) there is none
    for text, want, gradient in (
        ("", excess.sum() / 2, slope / 2),
        ("hinge_loss_param { norm: L2 }", excess.square().sum() / 2, slope * excess),
    ):
        scores = x.clone().requires_grad_()
        (loss,) = make(f'type: "HingeLoss" {text}', x.shape, label.shape)(scores, label)
        loss.backward()
        assert loss == want and scores.grad.equal(gradient)
    with pytest.raises(ValueError, match="label 3 is not one of the 3 classes 0 to 2"):
        make('type: "HingeLoss"', x.shape, label.shape)(x, torch.tensor([0.0, 3]))


A = torch.tensor([[3.0, 4], [0.6, 0], [0, 0.0]])
ALIKE = torch.tensor([1.0, 0, 0])


@pytest.mark.parametrize(
    ("text", "terms", "slopes"),
    [
        ("margin: 1", [25, 0.4**2, 1], [[3, 4], [-0.4 * 0.6 / 0.6001, 0], [0, 0]]),
        ("margin: 1 legacy_version: true", [25, 0.64, 1], [[3, 4], [-0.6, 0], [0, 0]]),
        ("margin: 0.5", [25, 0, 0.25], [[3, 4], [0, 0], [0, 0]]),
    ],
)
def test_contrastive_loss(make, text, terms, slopes):
    a, b = A.clone().requires_grad_(), torch.zeros(3, 2, requires_grad=True)
    layer = make(f'type: "ContrastiveLoss" contrastive_loss_param {{ {text} }}', a.shape, b.shape, (3,))
    (loss,) = layer(a, b, ALIKE)
    assert loss.item() == pytest.approx(sum(terms) / 6)
    loss.backward()
    torch.testing.assert_close(a.grad, torch.tensor(slopes) / 3)
    assert b.grad.equal(-a.grad)


def test_contrastive_loss_wants_vectors(make):
    make('type: "ContrastiveLoss"', (3, 2, 1, 1), (3, 2, 1, 1), (3, 1))
    for shapes in [(3, 2), (3, 4), (3,)], [(3, 2, 2, 1), (3, 2, 2, 1), (3,)], [(3, 2), (3, 2), (3, 2)]:
        with pytest.raises(ValueError, match=r"needs bottoms \[N, C\], \[N, C\] and \[N\]"):
            make('type: "ContrastiveLoss"', *shapes)
