"""The dense CRF: its equations pair by pair in plain loops, the lattice against the sum over all pairs."""

import math

import numpy as np
import pytest
import torch

from crnn.experiments.crf import Direct, refine
from crnn.experiments.lattice import Lattice, simplices
from crnn.proto import pb

PARAM = pb.CrfParameter(
    iterations=3, gaussian_weight=0.7, gaussian_std=1.5, bilateral_weight=1.3, bilateral_std=4, colour_std=20
)


def scene(h: int, w: int, seed: int = 0):
    """(P [3, h, w] that leans to class 0 at the left and 1 at the right, image that says so more clearly)."""
    rng = np.random.default_rng(seed)
    P = rng.dirichlet([1, 1, 1], h * w).T.reshape(3, h, w)
    P[0, :, : w // 2] += 0.3
    P[1, :, w // 2 :] += 0.3
    image = np.zeros((3, h, w))
    image[:, :, w // 2 :] = 180
    return (P / P.sum(0)).astype(np.float32), (image + rng.integers(0, 15, (3, h, w))).astype(np.uint8)


def by_loops(P, image, p) -> np.ndarray:
    """Mean field in Python's floats, from the definition."""
    n, h, w = P.shape
    pixels = [(y, x) for y in range(h) for x in range(w)]

    def gaussian(a, b):
        return math.exp(-((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) / (2 * p.gaussian_std**2))

    def bilateral(a, b):
        place = ((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) / (2 * p.bilateral_std**2)
        colours = (image[(slice(None), *a)].astype(float) - image[(slice(None), *b)]) ** 2
        return math.exp(-place - colours.sum() / (2 * p.colour_std**2))

    Q = {i: [float(P[(c, *i)]) for c in range(n)] for i in pixels}
    for _ in range(p.iterations):
        message = {i: [0.0] * n for i in pixels}
        for weight, k in ((p.gaussian_weight, gaussian), (p.bilateral_weight, bilateral)):
            total = {i: sum(k(i, j) for j in pixels) for i in pixels}
            for i in pixels:
                for j in pixels:
                    share = weight * k(i, j) / math.sqrt(total[i] * total[j])
                    for c in range(n):
                        message[i][c] += share * Q[j][c]
        for i in pixels:
            e = [float(P[(c, *i)]) * math.exp(message[i][c]) for c in range(n)]
            Q[i] = [value / sum(e) for value in e]
    return np.array([[[Q[y, x][c] for x in range(w)] for y in range(h)] for c in range(n)])


def test_mean_field_is_its_definition():
    P, image = scene(5, 6)
    np.testing.assert_allclose(refine(P, image, PARAM), by_loops(P, image, PARAM), atol=2e-6)


def test_no_iterations_give_the_net_s_answer():
    P, image = scene(4, 4)
    np.testing.assert_array_equal(refine(P, image, pb.CrfParameter(iterations=0)), P)


def test_answers_follow_the_image():
    """Pixels that the net got wrong are put right by those that look alike; no answer crosses the edge."""
    P, image = scene(24, 24)
    truth = np.where(np.arange(24) < 12, 0, 1) * np.ones((24, 1))
    before, after = P.argmax(0), refine(P, image, pb.CrfParameter()).argmax(0)
    assert (before != truth).mean() > 0.2
    assert (after != truth).mean() == 0


def test_on_the_lattice_as_by_all_pairs():
    P, image = scene(40, 36)
    exact, fast = (refine(P, image, PARAM, filter_of) for filter_of in (Direct, Lattice))
    assert np.abs(exact - fast).mean() < 0.01
    assert (exact.argmax(0) == fast.argmax(0)).mean() > 0.98
    np.testing.assert_array_equal(refine(P, image, PARAM), fast)  # 1,440 pixels: no longer by pairs


@pytest.mark.parametrize(("d", "error"), [(1, 0.01), (2, 0.02), (3, 0.03), (5, 0.05)])
def test_the_lattice_smooths_as_the_gaussian(d, error):
    """Weighted means, as the CRF uses them, of 2,000 points; there is no known bound: measured."""
    rng = np.random.default_rng(d)
    f, v = rng.normal(size=(2000, d)), torch.from_numpy(rng.random((2000, 4), np.float32))
    want, got = (make(f)(v) / make(f)(torch.ones(2000, 1)) for make in (Direct, Lattice))
    assert float((want - got).norm() / want.norm()) < error


@pytest.mark.parametrize("d", [1, 2, 5])
def test_every_point_lies_in_its_simplex(d):
    """Barycentric weights are shares of one, and give the point back from the corners."""
    f = np.random.default_rng(0).normal(size=(500, d)) * 3
    corners, weights = simplices(f)
    assert weights.min() > -1e-9
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-12)
    back = (corners * weights[..., None]).sum(1)
    scaled = f * (np.sqrt(2 / 3) * (d + 1) / np.sqrt(np.arange(1, d + 1) * np.arange(2, d + 2)))
    for i in range(d):  # coordinate i is what later features add, less i times feature i
        want = scaled[:, i:].sum(1) - (i * scaled[:, i - 1] if i else 0)
        np.testing.assert_allclose(back[:, i], want, atol=1e-9)


def test_sizes_that_differ():
    P, image = scene(4, 4)
    with pytest.raises(ValueError, match=r"the image is \(4, 3\), the probabilities \(4, 4\)"):
        refine(P, image[..., :3], PARAM)
