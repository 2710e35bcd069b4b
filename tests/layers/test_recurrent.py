"""RNN, LSTM, LSTMUnit: sequences in one piece, in pieces, and beside a static input."""

import pytest
import torch

from crnn.testing import assert_near

T, N, C, D, S = 5, 3, 4, 6, 2


def recurrent(kind, text=""):
    return (
        f'type: "{kind}" recurrent_param {{ num_output: {D} {text} '
        'weight_filler { type: "gaussian" std: 0.5 } bias_filler { type: "gaussian" } }'
    )


@pytest.fixture(params=["RNN", "LSTM"])
def kind(request):
    return request.param


@pytest.fixture
def sequence():
    torch.manual_seed(1)
    cont = torch.ones(T, N)
    cont[0], cont[3, 1] = 0, 0
    return torch.randn(T, N, C), cont


def test_blobs_are_in_caffes_order(make):
    shapes = [(T, N, C), (T, N), (N, S)]
    lstm = [(4 * D, C), (4 * D,), (4 * D, S), (4 * D, D)]
    rnn = [(D, C), (D,), (D, S), (D, D), (D, D), (D,)]
    assert [tuple(b.shape) for b in make(recurrent("LSTM"), *shapes).blobs] == lstm
    assert [tuple(b.shape) for b in make(recurrent("RNN"), *shapes).blobs] == rnn


def test_step_by_step_is_the_whole(make, kind, sequence):
    x, cont = sequence
    whole, steps = make(recurrent(kind), x.shape, cont.shape), make(recurrent(kind), (1, N, C), (1, N))
    steps.load_state_dict(whole.state_dict())
    parts = [steps(x[t : t + 1], cont[t : t + 1])[0] for t in range(T)]
    assert_near(torch.cat(parts), whole(x, cont)[0], 2e-6)


def test_the_state_goes_on_in_the_next_batch_without_gradient(make, kind, sequence):
    x, cont = sequence
    layer = make(recurrent(kind), x.shape, cont.shape)
    first, second = x.clone().requires_grad_(), x.clone().requires_grad_()
    before = layer(first, cont)[0]
    after = layer(second, torch.ones(T, N))[0]
    assert not after.allclose(before)
    after.sum().backward()
    assert first.grad is None and second.grad is not None
    assert_near(layer(x, cont)[0], before, 2e-6)  # cont 0 forgets all


def test_more_sequences_begin_with_zeros_fewer_go_on(make, kind):
    layer = make(recurrent(kind), (1, 2, C), (1, 2))
    fresh = make(recurrent(kind), (1, 1, C), (1, 1))
    fresh.load_state_dict(layer.state_dict())
    x = torch.randn(1, 3, C)
    layer(x[:, :2], torch.ones(1, 2))
    three = layer(x, torch.ones(1, 3))[0]
    assert_near(three[:, 2:], fresh(x[:, 2:], torch.ones(1, 1))[0], 2e-6)
    assert layer(x[:, :1], torch.ones(1, 1))[0].shape == (1, 1, D)


def test_a_static_input_is_seen_at_every_step(make, kind, sequence):
    x, cont = sequence
    static = torch.randn(N, S)
    layer = make(recurrent(kind), x.shape, cont.shape, static.shape)
    both = make(recurrent(kind), (T, N, C + S), cont.shape)
    w_x, b, w_static, *rest = layer.blobs
    for blob, value in zip(both.blobs, [torch.cat([w_x, w_static], 1), b, *rest], strict=True):
        blob.data = value.detach()
    joined = torch.cat([x, static.expand(T, N, S)], 2)
    assert_near(layer(x, cont, static)[0], both(joined, cont)[0], 2e-6)


def test_exposed_states_are_bottoms_and_tops_without_gradient(make, kind, sequence):
    x, cont = sequence
    states = 1 if kind == "RNN" else 2
    start = [torch.randn(1, N, D, requires_grad=True) for _ in range(states)]
    shapes = [x.shape, cont.shape] + [s.shape for s in start]
    layer = make(recurrent(kind, "expose_hidden: true"), *shapes, tops=1 + states)
    plain = make(recurrent(kind), x.shape, cont.shape)
    plain.load_state_dict(layer.state_dict())
    assert layer.top_shapes == [(T, N, D)] + [(1, N, D)] * states
    ones = torch.ones_like(cont)
    plain(x, ones)
    zeros = [torch.zeros_like(s) for s in start]
    y, *end = layer(x, ones, *zeros)
    assert_near(layer(x, ones, *end)[0], plain(x, ones)[0], 2e-6)
    layer(x, ones, *start)[0].sum().backward()
    assert start[0].grad is None and not end[0].requires_grad
    if kind == "LSTM":
        assert end[0].equal(y[-1:])


def test_lstm_unit_is_one_step(make):
    c, gates, cont = torch.randn(1, N, D), torch.randn(1, N, 4 * D), torch.tensor([[1.0, 0, 1]])
    layer = make('type: "LSTMUnit"', c.shape, gates.shape, cont.shape, tops=2)
    c1, h1 = layer(c, gates, cont)
    i, f, o, g = gates.chunk(4, 2)
    want = f.sigmoid() * c * cont[..., None] + i.sigmoid() * g.tanh()
    assert_near(c1, want, 2e-6)
    assert_near(h1, o.sigmoid() * want.tanh(), 2e-6)
    with pytest.raises(ValueError, match=r"needs c \[1, N, D\], gates \[1, N, 4D\], cont \[1, N\]"):
        make('type: "LSTMUnit"', c.shape, c.shape, cont.shape, tops=2)


@pytest.mark.parametrize(
    ("text", "shapes", "tops", "message"),
    [
        ("", [(T, N), (T, N)], 1, r"needs bottoms x \[T, N, ...\] and cont \[T, N\]"),
        ("", [(T, N, C), (N, T)], 1, r"needs bottoms x \[T, N, ...\] and cont \[T, N\]"),
        (
            "",
            [(T, N, C), (T, N), (T, S)],
            1,
            r"needs x_static \[3, ...\] with one row a sequence, got \[5, 2\]",
        ),
        ("", [(T, N, C), (T, N)], 2, "takes 1 top, got 2"),
        ("expose_hidden: true", [(T, N, C), (T, N)], 3, "takes 4 or, with x_static, 5 bottoms, got 2"),
        (
            "expose_hidden: true",
            [(T, N, C), (T, N), (1, N, D), (1, N, C)],
            3,
            r"needs exposed states \[1, 3, 6\], got \[1, 3, 4\]",
        ),
    ],
)
def test_shapes_that_do_not_fit(make, text, shapes, tops, message):
    with pytest.raises(ValueError, match=message):
        make(recurrent("LSTM", text), *shapes, tops=tops)


def test_num_output_is_needed(make):
    with pytest.raises(ValueError, match="num_output must be at least 1"):
        make('type: "LSTM"', (T, N, C), (T, N))
