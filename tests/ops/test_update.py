"""crnn::update: every backend and instruction set equals the definition; Caffe's numbers: tests/solver."""

import pytest
import torch

from crnn.ops import backends, update, use_backend
from crnn.testing import UPDATE_TOLERANCE, UpdateCase, assert_near, device_of, update_cases

COMPILED = [b for b in backends() if b != "reference"]


def joined(tensors):
    """All values as one vector: a value that nearly cancels is measured beside its neighbours."""
    return torch.cat([t.flatten() for t in tensors])


def updated(case, dtype=torch.float64, seed=0, device="cpu", **options):
    """The blobs and histories after two updates with different gradients."""
    blobs, grads, history = case.inputs(dtype, seed, device)
    for g in (grads, [-0.5 * g for g in grads]):
        update(blobs, g, history, *case.options, **options)
    return blobs + [h for each in history for h in each]


@pytest.mark.parametrize("dtype", UPDATE_TOLERANCE, ids=str)
@pytest.mark.parametrize("case", update_cases(), ids=str)
def test_one_update_of_every_case(case, dtype, cpu_variant):
    check_one_update(case, dtype, variant=cpu_variant)


@pytest.mark.skipif("cuda" not in backends(), reason="needs a GPU and crnn._C_cuda")
@pytest.mark.parametrize("dtype", UPDATE_TOLERANCE, ids=str)
def test_one_update_of_every_case_on_a_gpu(dtype):
    for case in update_cases():
        check_one_update(case, dtype, device="cuda")


def check_one_update(case, dtype, device="cpu", variant=""):
    got, rounded = case.inputs(dtype, device=device), case.inputs(dtype)
    blobs, grads, *history = ([t.double() for t in ts] for ts in (*rounded[:2], *rounded[2]))
    update(*got, *case.options, variant=variant)
    with use_backend("reference"):
        update(blobs, grads, history, *case.options)
    for ours, definition in zip([got[0], *got[2]], [blobs, *history], strict=True):
        assert_near(joined(ours), joined(definition), UPDATE_TOLERANCE[dtype])


@pytest.mark.parametrize("backend", backends())
def test_sgd_by_hand(backend):
    """g = 0.5 * 4 + 0.1 * 2 = 2.2; v = 0.9 * 1 + 0.1 * 2.2 = 1.12; W = 2 - 1.12."""
    w, g, v = (
        torch.tensor([value], dtype=torch.float64, device=device_of(backend)) for value in (2.0, 4.0, 1.0)
    )
    with use_backend(backend):
        update([w], [g], [[v]], "SGD", [0.9], rate=0.1, decay=0.1, scale=0.5)
    assert [w.item(), v.item(), g.item()] == pytest.approx([0.88, 1.12, 4.0], rel=1e-15)


@pytest.mark.parametrize("backend", backends())
def test_without_decay_an_infinite_weight_does_not_reach_its_history(backend):
    w, g, v = (torch.tensor([x], device=device_of(backend)) for x in (float("inf"), 1.0, 0.0))
    with use_backend(backend):
        update([w], [g], [[v]], "SGD", [0.9], rate=0.5)
    assert v.item() == 0.5


@pytest.mark.parametrize("backend", COMPILED)
def test_a_gradient_or_a_blob_of_another_order_of_memory(backend):
    case = UpdateCase("Adam", shapes=((4, 3, 5, 5),))
    want, where = updated(case, device=device_of(backend)), device_of(backend)
    with use_backend(backend):
        blobs, grads, history = case.inputs(device=where)
        last = [g.contiguous(memory_format=torch.channels_last) for g in grads]
        for sign in (1, -0.5):
            update(blobs, [sign * g for g in last], history, *case.options)
        assert torch.equal(blobs[0], want[0])
        blobs, grads, history = case.inputs(device=where)
        blobs = [b.contiguous(memory_format=torch.channels_last) for b in blobs]
        history = [[t.contiguous(memory_format=torch.channels_last) for t in h] for h in history]
        for sign in (1, -0.5):
            update(blobs, [sign * g for g in grads], history, *case.options)
        assert torch.equal(blobs[0], want[0])


@pytest.mark.parametrize("rule", ["SGD", "AdaDelta"])
def test_equal_bits_for_any_number_of_threads(threads, rule):
    case = UpdateCase(rule, shapes=((200_003,), (70, 1000)))
    results = []
    for count in (1, 2, 3, 7):
        threads(count)
        results.append(updated(case, torch.float32))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("backend", backends())
def test_autograd_sees_that_a_blob_moved(backend):
    w = torch.nn.Parameter(torch.ones(3, device=device_of(backend)))
    loss = (w * w).sum()
    with use_backend(backend):
        update([w], [torch.ones_like(w)], [[torch.zeros_like(w)]], "SGD", [0.0], rate=1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("backend", COMPILED)
def test_opcheck(backend):
    blobs, grads, history = UpdateCase("Adam", shapes=((3, 2), (4,))).inputs(device=device_of(backend))
    args = (
        blobs,
        grads,
        [h for each in history for h in each],
        "Adam",
        [0.9, 0.99, 1e-3],
        0.1,
        0.0,
        False,
        1.0,
    )
    torch.library.opcheck(torch.ops.crnn.update.default, args)


def test_no_blobs_are_no_work():
    update([], [], [[]], "SGD", [0.9], rate=0.1)


def test_wrong_arguments():
    w = [torch.zeros(2)]
    with pytest.raises(ValueError, match="unknown update rule 'Sgd'; known: SGD, Nesterov, AdaGrad"):
        update(w, w, [w], "Sgd", [0.9], 0.1)
    with pytest.raises(ValueError, match="unknown regularization 'L3'; known: L1, L2"):
        update(w, w, [w], "SGD", [0.9], 0.1, regularization="L3")


@pytest.mark.parametrize(
    "blobs, grads, history, numbers, message",
    [
        ([(2,)], [(2,)], [(2,)], [], "rule 'SGD' has 1 numbers, got 0"),
        ([(2,)], [(2,)], [], [0.9], "need as many gradients and 1 histories, got 1 and 0"),
        ([(2,)], [(3,)], [(2,)], [0.9], "gradient and history of blob 0 must have its shape"),
        ([(2,), (3,)], [(2,), (3,)], [(2,), (2,)], [0.9], "gradient and history of blob 1 must"),
    ],
)
@pytest.mark.skipif("cpu" not in backends(), reason="needs the compiled extension")
def test_the_compiled_op_checks_for_itself(blobs, grads, history, numbers, message):
    tensors = [[torch.zeros(s) for s in shapes] for shapes in (blobs, grads, history)]
    with pytest.raises(RuntimeError, match=message):
        torch.ops.crnn.update(*tensors, "SGD", numbers, 0.1, 0.0, False, 1.0)


@pytest.mark.skipif("cpu" not in backends(), reason="needs the compiled extension")
def test_a_blob_with_gaps_is_refused():
    gaps = torch.zeros(4, 2)[:, :1]
    with pytest.raises(RuntimeError, match="blob 0 has gaps in memory"):
        torch.ops.crnn.update([gaps], [gaps], [gaps], "SGD", [0.9], 0.1, 0.0, False, 1.0)


@pytest.mark.parametrize(
    "wrong", [torch.zeros(5), torch.zeros(5, 3).double().t(), torch.zeros(3, 5).double()]
)
def test_a_gradient_of_another_shape_or_dtype_is_refused(wrong):
    """None is broadcast or cast on the way to the op."""
    if "cpu" not in backends():
        pytest.skip("needs the compiled extension")
    blob, history = torch.zeros(3, 5), [[torch.zeros(3, 5)]]
    with pytest.raises(RuntimeError, match="gradient and history of blob 0 must have its shape"):
        update([blob], [wrong], history, "SGD", [0.9], 0.1)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (2, 0, 3)])
def test_a_blob_without_values(shape):
    empty, other = torch.zeros(shape), torch.ones(2)
    history = [[empty.clone(), torch.zeros(2)]]
    update([empty, other], [empty.clone(), torch.ones(2)], history, "SGD", [0.9], rate=1)
    assert other.tolist() == [0, 0]
