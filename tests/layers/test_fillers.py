"""Fillers by their statistics."""

import math

import pytest
import torch

from crnn.layers.fillers import fill
from crnn.proto import pb
from crnn.proto.text import parse

SHAPE = (40, 30, 5, 4)
COUNT = math.prod(SHAPE)
FAN = {"FAN_IN": 600, "FAN_OUT": 800, "AVERAGE": 700}


def filled(shape, text):
    torch.manual_seed(0)
    return fill(torch.full(shape, math.nan), parse(text, pb.FillerParameter).message)


def test_constant():
    assert filled((2, 3), "value: 10").equal(torch.full((2, 3), 10.0))
    assert filled((2, 3), "").equal(torch.zeros(2, 3))


def test_uniform():
    x = filled(SHAPE, 'type: "uniform" min: 1 max: 2')
    assert 1 <= x.min() < 1.001 and 1.999 < x.max() < 2
    assert abs(x.mean() - 1.5) < 5 * math.sqrt(1 / 12 / COUNT)


def test_gaussian():
    x = filled(SHAPE, 'type: "gaussian" mean: 10 std: 0.1')
    assert abs(x.mean() - 10) < 5 * 0.1 / math.sqrt(COUNT)
    assert x.std() == pytest.approx(0.1, rel=0.02)


def test_sparse_gaussian_keeps_so_many_weights_an_input():
    x = filled((50, 400), 'type: "gaussian" sparse: 5')
    kept = x.count_nonzero().item() / x.numel()
    assert abs(kept - 5 / 50) < 5 * math.sqrt(0.1 * 0.9 / x.numel())


def test_positive_unitball():
    x = filled(SHAPE, 'type: "positive_unitball"')
    assert x.min() >= 0
    torch.testing.assert_close(x.flatten(1).sum(1), torch.ones(40))


@pytest.mark.parametrize("norm", FAN)
def test_xavier_and_msra(norm):
    x = filled(SHAPE, f'type: "xavier" variance_norm: {norm}')
    assert x.abs().max() == pytest.approx(math.sqrt(3 / FAN[norm]), rel=1e-3)
    assert x.std() == pytest.approx(math.sqrt(1 / FAN[norm]), rel=0.02)
    x = filled(SHAPE, f'type: "msra" variance_norm: {norm}')
    assert x.std() == pytest.approx(math.sqrt(2 / FAN[norm]), rel=0.02)


def test_a_vector_has_fan_out_of_its_size():
    assert filled((1000,), 'type: "msra" variance_norm: FAN_OUT').std() == pytest.approx(
        math.sqrt(2e-3), rel=0.1
    )


@pytest.mark.parametrize(
    "line",
    [
        [0.5, 0.5],
        [0.5, 1, 0.5],
        [0.25, 0.75, 0.75, 0.25],
        [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3],
        [1 / 6, 1 / 2, 5 / 6, 5 / 6, 1 / 2, 1 / 6],
        [0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25],
    ],
    ids=len,
)
def test_bilinear(line):
    """The values of the real Caffe."""
    line = torch.tensor(line)
    want = (line[:, None] * line).expand(2, 3, len(line), len(line))
    torch.testing.assert_close(filled(want.shape, 'type: "bilinear"'), want)


def test_bilinear_wants_square_kernels():
    with pytest.raises(ValueError, match="square kernel"):
        filled((2, 3, 4, 5), 'type: "bilinear"')


@pytest.mark.parametrize("kind", ["xavier", "msra", "positive_unitball"])
def test_a_number_has_no_fan(kind):
    with pytest.raises(ValueError, match=f"filler '{kind}' needs a blob of at least one axis"):
        filled((), f'type: "{kind}"')


def test_sparse_is_the_gaussians():
    with pytest.raises(ValueError, match="sparse is for filler 'gaussian', not 'xavier'"):
        filled((2, 3), 'type: "xavier" sparse: 1')


def test_identity():
    assert filled((3, 4), 'type: "identity"').equal(torch.eye(3, 4))
    assert filled((3, 3), 'type: "identity" value: 0.25').equal(torch.eye(3) / 4)
    assert filled((3, 3), 'type: "identity" value: 0').equal(torch.zeros(3, 3))
    with pytest.raises(ValueError, match="needs a matrix"):
        filled((2, 3, 3), 'type: "identity"')


def test_an_unknown_filler_names_the_nearest():
    with pytest.raises(ValueError, match="unknown filler type 'gausian'; did you mean 'gaussian'"):
        filled((2, 3), 'type: "gausian"')


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"type": "uniform", "min": 2}, "a uniform filler needs min <= max, both finite, got 2 and 1"),
        ({"type": "uniform", "max": float("inf")}, "a uniform filler needs min <= max"),
        ({"type": "gaussian", "std": -1}, "a gaussian filler needs a finite mean and std >= 0, got 0 and -1"),
        ({"type": "gaussian", "std": float("nan")}, "a gaussian filler needs"),
    ],
)
def test_numbers_that_no_distribution_has_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        fill(torch.zeros(2, 3), pb.FillerParameter(**fields))
