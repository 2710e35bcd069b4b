"""LRN in both regions, against the formula written as loops."""

import pytest
import torch

from crnn.testing import assert_near


@pytest.mark.parametrize(("size", "k"), [(5, 1.0), (15, 2.0)])
def test_across_channels(make, size, k):
    x = torch.randn(2, 7, 3, 3)
    (y,) = make(f'type: "LRN" lrn_param {{ local_size: {size} alpha: 0.5 k: {k} }}', x.shape)(x)
    scale = torch.full_like(x, k)
    for c in range(7):
        near = x[:, max(0, c - size // 2) : c + size // 2 + 1]
        scale[:, c] += 0.5 / size * (near * near).sum(1)
    assert_near(y, x * scale**-0.75, 1e-5)


def test_within_a_channel_counts_the_border_and_ignores_k(make):
    x = torch.randn(2, 2, 5, 4)
    text = 'type: "LRN" lrn_param { norm_region: WITHIN_CHANNEL local_size: 3 alpha: 0.8 k: 7 }'
    (y,) = make(text, x.shape)(x)
    want = torch.empty_like(x)
    for i in range(5):
        for j in range(4):
            near = x[:, :, max(0, i - 1) : i + 2, max(0, j - 1) : j + 2]
            want[:, :, i, j] = x[:, :, i, j] * (1 + 0.8 / 9 * (near * near).sum((2, 3))) ** -0.75
    assert_near(y, want, 1e-5)


def test_bad_parameters(make):
    with pytest.raises(ValueError, match="local_size must be odd, got 4"):
        make('type: "LRN" lrn_param { local_size: 4 }', (1, 2, 3, 3))
    with pytest.raises(ValueError, match=r"needs a bottom of 4 axes, got \[1, 2\]"):
        make('type: "LRN"', (1, 2))
