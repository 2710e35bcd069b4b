"""ScaleRNN (SRNN: Zhang 2018) beside its equations in numpy; the image pyramid."""

import numpy as np
import pytest
import torch

from crnn.nn import ScaleRNN
from crnn.ops.scales import pyramid
from crnn.testing import assert_near

N, D = 3, 5
COUNTS = torch.tensor([1.0, 3.0, 2.0])


def transcription(features, u, w_z=None, u_z=None):
    """Zhang 2018, eq. 1; with a gate eq. 2."""
    h, states = np.zeros((N, D)), []
    for x in features:
        candidate = np.maximum(x + h @ u.T, 0)
        z = 1.0 if w_z is None else 1 / (1 + np.exp(-(x @ w_z.T + h @ u_z.T)))
        h = (1 - z) * h + z * candidate
        states.append(h)
    return np.stack(states)


def layer(make, n, cell="relu", tops=1, counted=False):
    """(layer with random blobs, n features)."""
    shapes = [(N, D)] * n + [(N,)] * counted
    fields = f'cell: "{cell}" counted: {str(counted).lower()}'
    built = make(f'type: "ScaleRNN" scale_rnn_param {{ {fields} }}', *shapes, tops=tops).double()
    for blob in built.blobs:
        blob.data.copy_(0.2 * torch.randn(D, D))
    return built, [torch.randn(N, D, dtype=torch.float64, requires_grad=True) for _ in range(n)]


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("cell", ["relu", "half_gru"])
def test_the_states_are_the_papers(make, cell, n):
    built, features = layer(make, n, cell, tops=n)
    want = transcription([x.detach().numpy() for x in features], *(b.detach().numpy() for b in built.blobs))
    assert_near(torch.stack(built(*features)), torch.from_numpy(want), 1e-14)


@pytest.mark.parametrize("cell", ["relu", "half_gru"])
def test_one_top_is_the_last_state_and_the_module_is_the_same(make, cell):
    built, features = layer(make, 3, cell)
    module = ScaleRNN(D, cell).double()
    for mine, theirs in zip(module.parameters(), built.blobs, strict=True):
        mine.data.copy_(theirs)
    assert built(*features)[0].equal(module(features)[-1])


def test_with_u_the_identity_the_logits_of_the_scales_are_added(make):
    """U = I, x_s >= 0: F(h_n) = Σ F(x_s) - (n - 1) bias, Zhang 2018, section 3.1; U starts as I."""
    n, F = 4, torch.nn.Linear(D, 7).double()
    built = make('type: "ScaleRNN"', *[(N, D)] * n).double()
    features = [torch.rand(N, D, dtype=torch.float64) for _ in range(n)]
    want = sum(F(x) for x in features) - (n - 1) * F.bias
    assert_near(F(built(*features)[0]), want, 1e-14)


def test_half_gru_starts_half_open(make):
    """W_z = U_z = 0: z = 1/2 everywhere."""
    built = make('type: "ScaleRNN" scale_rnn_param { cell: "half_gru" }', (N, D), (N, D))
    one, two = torch.rand(N, D), torch.rand(N, D)
    want = one / 4 + (two + one / 2) / 2
    torch.testing.assert_close(built(one, two)[0], want)


@pytest.mark.parametrize("cell", ["relu", "half_gru"])
def test_images_with_fewer_scales_keep_their_last_state(make, cell):
    """As if each were alone with its own scales; nothing of the missing ones is read, forward or backward."""
    built, features = layer(make, 3, cell, tops=3, counted=True)
    features = [x.detach().abs().requires_grad_() for x in features]  # not all dead behind the relu
    states = built(*features, COUNTS)
    for i, count in enumerate(COUNTS.long().tolist()):
        alone, _ = layer(make, count, cell, tops=count)
        for mine, theirs in zip(alone.blobs, built.blobs, strict=True):
            mine.data.copy_(theirs)
        own = alone(*(x[i : i + 1] for x in features[:count]))
        for s in range(3):
            assert_near(states[s][i : i + 1], own[min(s, count - 1)], 1e-15)
    gradients = torch.autograd.grad(states[-1].sum(), features)
    assert [[bool(g[i].any()) for g in gradients] for i in (0, 2)] == [
        [True, False, False],
        [True, True, False],
    ]


@pytest.mark.parametrize("cell", ["relu", "half_gru"])
def test_gradients_against_finite_differences(cell):
    module = ScaleRNN(D, cell).double()
    features = [torch.rand(N, D, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    blobs = [(0.3 * torch.randn_like(p)).requires_grad_() for p in module.parameters()]
    names = [name for name, _ in module.named_parameters()]

    def f(*tensors):
        given = dict(zip(names, tensors[3:], strict=True))
        return torch.func.functional_call(module, given, (tensors[:3], COUNTS))

    assert torch.autograd.gradcheck(f, (*features, *blobs))


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        ('scale_rnn_param { cell: "lstm" }', [(3, 5)], "unknown cell 'lstm'; known: relu, half_gru"),
        ("", [(3, 5), (3, 4)], r"features of every scale must be \[3, 5\], got \[3, 4\]"),
        ("scale_rnn_param { counted: true }", [(3, 5), (2,)], r"counts must be \[3\], got \[2\]"),
        ("scale_rnn_param { counted: true }", [(3,)], "a bottom a scale and then the counts, got 1 bottom"),
    ],
)
def test_bottoms_that_do_not_fit(make, text, shapes, message):
    with pytest.raises(ValueError, match=message):
        make(f'type: "ScaleRNN" {text}', *shapes)


def test_a_count_of_no_scale(make):
    built, features = layer(make, 2, counted=True)
    with pytest.raises(ValueError, match=r"a number of 1 to 2 scales an image, got \[0, 1, 3\]"):
        built(*features, torch.tensor([0, 1, 3]))


def test_a_pyramid_of_images_of_different_sizes():
    """Each has the scales that its shorter side holds; a missing one is zeros."""
    images = [torch.rand(3, 40, 70), torch.rand(3, 64, 64), torch.rand(3, 33, 31)]
    levels, counts = pyramid(images, (16, 32, 64))
    assert counts.tolist() == [2, 3, 1]
    assert [tuple(level.shape) for level in levels] == [(3, 3, s, s) for s in (16, 32, 64)]
    assert levels[2][1].equal(images[1]) and not levels[2][0].any() and not levels[1][2].any()


def test_the_layer_resizes_every_image_to_every_scale(make):
    built = make('type: "ImagePyramid" image_pyramid_param { scale: 8 scale: 24 }', (2, 3, 16, 12), tops=2)
    x = torch.rand(2, 3, 16, 12)
    assert [tuple(t.shape) for t in built(x)] == built.top_shapes == [(2, 3, 8, 8), (2, 3, 24, 24)]


def test_the_layer_takes_images_of_different_sizes_by_their_corners(make):
    """Each from the top left of the blob, as the pyramid of the images themselves; the last top counts."""
    images = [torch.rand(3, 40, 70), torch.rand(3, 64, 64), torch.rand(3, 33, 31)]
    text = 'type: "ImagePyramid" image_pyramid_param { scale: 16 scale: 32 scale: 64 }'
    built, batch = make(text, (3, 3, 8, 8), (3, 2), tops=4), torch.rand(3, 3, 64, 70)
    assert built.top_shapes == [(3, 3, 16, 16), (3, 3, 32, 32), (3, 3, 64, 64), (3,)]
    for place, image in zip(batch, images, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = image
    *levels, count = built(batch, torch.tensor([image.shape[1:] for image in images]).float())
    want, counts = pyramid(images, (16, 32, 64))
    assert count.tolist() == counts.tolist() == [2, 3, 1]
    assert all(mine.equal(theirs) for mine, theirs in zip(levels, want, strict=True))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([[40, 40], [15, 40]], "image 1 is 15 x 40, smaller than the smallest scale 16: leave it out"),
        ([[40, 41], [16, 16]], "image 0 is said to be 40 x 41 and lies in 40 x 40"),
    ],
)
def test_sizes_that_cannot_be(make, sizes, message):
    built = make('type: "ImagePyramid" image_pyramid_param { scale: 16 }', (2, 3, 40, 40), (2, 2), tops=2)
    with pytest.raises(ValueError, match=message):
        built(torch.rand(2, 3, 40, 40), torch.tensor(sizes))


def test_sizes_of_another_shape(make):
    with pytest.raises(ValueError, match=r"sizes of the images must be \[2, 2\], got \[2\]"):
        make('type: "ImagePyramid" image_pyramid_param { scale: 16 }', (2, 3, 40, 40), (2,), tops=2)


def test_a_ramp_keeps_its_values_and_a_fine_pattern_becomes_grey():
    """Bicubic: exact on a plane away from the edges; smoothed before it shrinks, so nothing aliases."""
    ramp = torch.arange(64.0).expand(1, 64, 64)
    (half,), _ = pyramid([ramp], (32,))
    torch.testing.assert_close(half[0, 0, 16, 4:28], 2 * torch.arange(4.0, 28) + 0.5, atol=1e-4, rtol=0)
    stripes = torch.from_numpy(np.indices((64, 64))[1] % 2).float()[None]
    (quarter,), _ = pyramid([stripes], (16,))
    torch.testing.assert_close(quarter[..., 3:-3], torch.full((1, 1, 16, 10), 0.5), atol=0.02, rtol=0)


def test_images_smaller_than_the_smallest_scale(make):
    with pytest.raises(
        ValueError, match="image 1 is 30 x 64, smaller than the smallest scale 32: leave it out"
    ):
        pyramid([torch.zeros(3, 32, 32), torch.zeros(3, 30, 64)], (32, 64))
    text = 'type: "ImagePyramid" image_pyramid_param { scale: 32 scale: 64 }'
    with pytest.raises(ValueError, match="images of 30 x 64 are smaller than the smallest scale 32"):
        make(text, (1, 3, 30, 64), tops=2)


@pytest.mark.parametrize("scales", [[], [64, 32], [32, 32], [0, 32]])
def test_scales_must_rise(scales):
    with pytest.raises(ValueError, match="needs rising scales, as 224, 448, got"):
        pyramid([torch.zeros(3, 64, 64)], scales)
