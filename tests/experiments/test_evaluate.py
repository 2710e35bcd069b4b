"""Exact scores: every record once, each view where pycaffe puts it, ties and labels as Caffe counts them."""

import numpy as np
import pytest
import torch

from crnn.data.datum import encode
from crnn.data.lmdb_writer import LmdbWriter
from crnn.experiments.evaluate import CENTRE, Evaluation, evaluate

LABELS = [0, 1, 2, 2, 1, 0, 0, 1, 2, 2, 2, 1, 0]


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def probabilities(net, images, y, x, mirrored):
    """What the net says to the images cut at (y, x), by numpy alone."""
    cut = images[:, :, y : y + 4, x : x + 4].astype(np.float64) * 0.01
    cut = cut[..., ::-1] if mirrored else cut
    weight, bias = (blob.detach().double().numpy() for blob in net.layer("fc").blobs)
    return softmax(cut.reshape(len(images), -1) @ weight.T + bias)


def test_one_view_is_the_centre(records, make_net):
    images, source = records(LABELS)
    result = evaluate(net := make_net(source))
    np.testing.assert_allclose(result.probabilities, probabilities(net, images, 1, 1, False), atol=1e-6)
    assert result.labels.tolist() == LABELS
    assert result.keys.tolist() == [f"{i:08d}_r" for i in range(13)]


def test_ten_views_average_corners_centre_and_their_mirror_images(records, make_net):
    images, source = records(LABELS)
    result = evaluate(net := make_net(source), views=10)
    places = [(0, 0), (0, 3), (2, 0), (2, 3), (1, 1)]
    views = [probabilities(net, images, y, x, m) for m in (False, True) for y, x in places]
    np.testing.assert_allclose(result.probabilities, np.mean(views, 0), atol=1e-6)
    assert result.views == 10


@pytest.mark.parametrize("views", [1, 10])
def test_records_of_several_sizes_are_seen_as_each_alone(make_net, tmp_path, views):
    """As training sees them, which has crop_size cut one size of all."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (1, 2, 6 + i % 3, 7 + i % 2), np.uint8) for i in range(8)]
    with LmdbWriter(tmp_path / "db") as database:
        for i, image in enumerate(images):
            database.put(b"%08d" % i, encode(image[0], i % 3))
    result = evaluate(net := make_net(tmp_path / "db", batch=5), views)
    for image, got in zip(images, result.probabilities, strict=True):
        bottom, right = (n - 4 for n in image.shape[2:])
        places = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
        seen = [(y, x, m) for m in (False, True) for y, x in places]
        wanted = [
            probabilities(net, image, *place) for place in (seen if views > 1 else seen[CENTRE : CENTRE + 1])
        ]
        np.testing.assert_allclose(got, np.mean(wanted, 0)[0], atol=1e-6)


@pytest.mark.parametrize("views", [1, 10])
@pytest.mark.parametrize("batch", [1, 4, 7, 13, 50])
def test_every_record_counts_once_whatever_the_batch(records, make_net, batch, views):
    """13 records: the last step has 1, 1, 6, 13 and 13 of them."""
    _, source = records(LABELS)
    result, other = evaluate(make_net(source, batch=batch), views), evaluate(make_net(source), views)
    assert result.labels.tolist() == LABELS
    np.testing.assert_allclose(result.probabilities, other.probabilities, atol=1e-6)
    np.testing.assert_array_equal(result.confusion, other.confusion)
    assert (result.top(1), result.top(2)) == (other.top(1), other.top(2))


def test_a_part_of_the_records(records, make_net):
    _, source = records(LABELS)
    whole, part = evaluate(make_net(source)), evaluate(make_net(source), records=range(4, 11))
    assert part.keys.tolist() == whole.keys[4:11].tolist()
    np.testing.assert_allclose(part.probabilities, whole.probabilities[4:11], atol=1e-6)


def test_softmax_outputs_are_taken_as_they_are(records, make_net):
    _, source = records(LABELS)
    got = [evaluate(make_net(source, end)).probabilities for end in ("loss", "softmax")]
    np.testing.assert_allclose(*got, atol=1e-6)


@pytest.mark.parametrize(("batch", "k"), [(1, 1), (1, 2), (13, 1), (13, 2)])
def test_top_k_equals_the_nets_accuracy_layer_over_all_records(records, make_net, batch, k):
    """Batches that divide 13, so that the layer's mean over them is exact."""
    _, source = records(LABELS)
    net = make_net(source, f"top {k}", batch=batch)
    mean = np.mean([net()["accuracy"].item() for _ in range(13 // batch)])
    assert evaluate(net).top(k) == pytest.approx(mean)


def test_views_that_disagree_are_averaged_as_probabilities(records, make_net):
    """Averaged before the softmax they would give another answer: one view is much surer than the others."""
    images, source = records([0])
    net = make_net(source)
    with torch.no_grad():
        net.layer("fc").blobs[0].mul_(40)
    places = [(0, 0), (0, 3), (2, 0), (2, 3), (1, 1)]
    views = [probabilities(net, images, y, x, m)[0] for m in (False, True) for y, x in places]
    assert len({view.argmax() for view in views}) > 1
    before = np.log(views).mean(0)
    assert np.abs(np.exp(before) / np.exp(before).sum() - np.mean(views, 0)).max() > 0.05
    np.testing.assert_allclose(evaluate(net, 10).probabilities[0], np.mean(views, 0), atol=1e-5)


def test_top_1_equals_the_nets_own_accuracy_layer(records, make_net):
    _, source = records(LABELS)
    net = make_net(source, batch=13)
    assert evaluate(net).top(1) == pytest.approx(net()["accuracy"].item())


def test_progress_is_told_after_each_step(records, make_net):
    _, source = records(LABELS)
    told = []
    evaluate(make_net(source), progress=lambda *place: told.append(place))
    assert told == [(5, 13), (10, 13), (13, 13)]


def test_a_label_that_is_no_class_is_named(records, make_net):
    _, source = records([0, 1, 2, 0, 1, 2, 3])
    with pytest.raises(ValueError, match="record '00000006_r' has label 3; the net has classes 0 to 2"):
        evaluate(make_net(source))


def test_scores_that_are_no_numbers_are_no_scores(records, make_net):
    """A nan compares with nothing: it would rank first and count as right."""
    _, source = records(LABELS)
    net = make_net(source)
    with torch.no_grad():
        net.layer("fc").blobs[0].fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="record 00000000_r: its scores are not finite"):
        evaluate(net)


@pytest.mark.parametrize(
    ("end", "phase", "views", "message"),
    [
        ("", "TEST", 1, "no Softmax, SoftmaxWithLoss or Accuracy"),
        ("loss", "TRAIN", 1, "phase TRAIN: build it with phase='TEST'"),
        ("loss", "TEST", 5, "views must be 1 or 10, got 5"),
        ("softmax of maps", "TEST", 1, "not one score a class"),
    ],
)
def test_what_cannot_be_scored_is_refused(records, make_net, end, phase, views, message):
    _, source = records(LABELS)
    with pytest.raises(ValueError, match=message):
        evaluate(make_net(source, end, phase=phase), views=views)


@pytest.fixture
def scored():
    """Five records in three classes; the third is a tie, class 2 has no record."""
    p = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.4, 0.4, 0.2], [0.1, 0.9, 0.0], [0.3, 0.1, 0.6]], "f4")
    return Evaluation(p, np.array([0, 1, 0, 1, 1]), np.array(list("abcde")))


def test_a_tie_counts_as_wrong(scored):
    assert scored.correct.tolist() == [True, False, False, True, False]
    assert [scored.top(k) for k in (1, 2, 3)] == [0.4, 0.8, 1.0]


def test_confusion_counts_true_by_predicted(scored):
    assert scored.confusion.tolist() == [[2, 0, 0], [1, 1, 1], [0, 0, 0]]


def test_classes_without_records_do_not_count(scored):
    np.testing.assert_allclose(scored.per_class(), [1 / 2, 1 / 3, np.nan])
    assert scored.mean_class_accuracy == pytest.approx(5 / 12)


def test_mistakes_come_most_confident_first(scored):
    assert scored.mistakes(5).tolist() == [1, 4]
    assert scored.mistakes(1).tolist() == [1]


@pytest.fixture
def eight():
    """Five records in eight classes, all by hand: class 3 is true, then 0, 7, 3, 3."""
    p = np.array(
        [
            [5, 4, 3, 2, 1, 0, 0, 0],  # three above it: rank 3
            [4, 5, 5, 5, 5, 5, 1, 1],  # five above it: rank 5
            [1, 1, 1, 1, 1, 1, 1, 1],  # all equal: rank 7, though the last of equals
            [9, 8, 7, 2, 2, 1, 1, 1],  # three above it and one equal: rank 4
            [0, 0, 0, 9, 0, 0, 0, 0],  # rank 0
        ],
        np.float32,
    )
    return Evaluation(p / p.sum(1, keepdims=True), np.array([3, 0, 7, 3, 3]), np.array(list("abcde")))


def test_top_5_by_hand(eight):
    assert eight.rank().tolist() == [3, 5, 7, 4, 0]
    assert [eight.top(k) for k in range(1, 9)] == [0.2, 0.2, 0.2, 0.4, 0.6, 0.8, 0.8, 1.0]


def test_mean_class_accuracy_weighs_classes_not_records(eight):
    """One of class 3's three records is right, none of the one of class 0 and the one of class 7."""
    assert eight.top(1) == 1 / 5
    assert eight.mean_class_accuracy == pytest.approx((1 / 3 + 0 + 0) / 3)
    assert np.isnan(eight.per_class()).tolist() == [False, True, True, False, True, True, True, False]


def test_confusion_has_each_record_once_at_the_first_of_equals(eight):
    expected = np.zeros((8, 8), int)
    expected[3, 0], expected[0, 1], expected[7, 0], expected[3, 3] = 2, 1, 1, 1
    np.testing.assert_array_equal(eight.confusion, expected)


def test_top_k_beyond_the_classes_is_refused(scored):
    with pytest.raises(ValueError, match="within 1 and 3"):
        scored.top(4)


def test_saved_is_what_is_loaded(scored, tmp_path):
    scored.save(tmp_path / "a.npz")
    loaded = Evaluation.load(tmp_path / "a.npz")
    np.testing.assert_array_equal(loaded.probabilities, scored.probabilities)
    assert (loaded.labels.tolist(), loaded.keys.tolist(), loaded.views) == ([0, 1, 0, 1, 1], list("abcde"), 1)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_evaluation_is_named(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npz holds no evaluation .* remove it"):
        Evaluation.load(tmp_path / "a.npz")
