"""BatchLoader: order, wrapping, exact positions, threads that end, errors that name the record."""

import copy
import gc
import itertools
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest

from crnn.data import lmdb_reader, pieces
from crnn.data.datum import decode, encode, encode_file
from crnn.data.loader import BatchLoader
from crnn.data.records import Records
from crnn.proto import pb
from tests.data.ten_records import PLAIN, write


def labels(loader, batches) -> list[int]:
    return [int(label) for _ in range(batches) for label in loader.next()[1]]


def prefetchers() -> int:
    return sum(thread.name == "crnn-prefetch" for thread in threading.enumerate())


def test_records_come_in_order_and_wrap(loader):
    assert labels(loader(), 6) == [i % 10 for i in range(24)]


def test_a_batch_larger_than_the_database(loader):
    assert labels(loader(batch_size=23), 1) == [i % 10 for i in range(23)]


def test_shapes_and_types(loader):
    one = loader()
    data, label = one.next()
    assert one.top_shapes == [data.shape, label.shape] == [(4, 2, 3, 3), (4,)]
    assert data.dtype == label.dtype == np.float32
    assert len(one) == 10


@pytest.mark.parametrize("position", [4, 8, 12, 400_000_000])
def test_a_position_can_be_restored(loader, position):
    unbroken, resumed = loader(), loader()
    if position < 100:
        while unbroken.position < position:
            unbroken.next()
    else:
        unbroken.seek(position)
    resumed.next()
    resumed.seek(position)
    for _ in range(4):
        want, got = unbroken.next(), resumed.next()
        assert got[0].tobytes() == want[0].tobytes() and got[1].tobytes() == want[1].tobytes()
    assert resumed.position == unbroken.position == position + 16


def test_prefetching_changes_nothing(loader):
    one, many = loader(prefetch=1), loader(prefetch=8)
    for _ in range(12):
        assert one.next()[0].tobytes() == many.next()[0].tobytes()


def test_seeds(loader):
    def draw(seed):
        return loader(seed=seed).next()[0].tobytes()

    assert draw(1) == draw(1) != draw(2)
    assert draw(None) != draw(None)
    drawn = loader(seed=None)
    assert drawn.next()[0].tobytes() == draw(drawn.seed)


def test_rand_skip_starts_within_the_first_records(loader):
    starts = {labels(loader(rand_skip=5, seed=seed), 1)[0] for seed in range(60)}
    assert starts == {0, 1, 2, 3, 4}


def test_rand_skip_is_kept_by_seek(loader):
    one = loader(rand_skip=9, seed=4)
    want = labels(one, 2)
    one.seek(4)
    assert labels(one, 1) == want[4:]


def test_raw_records_for_evaluation(loader):
    one = loader()
    images, numbers = one.records(7, 3)
    assert images.shape == (3, 2, 5, 6) and images.dtype == np.uint8
    assert numbers.tolist() == [7, 8, 9]
    assert one.source.reader.key(9) == b"00000009_x"
    with pytest.raises(IndexError, match="records 8 to 10 of 10"):
        one.records(8, 3)


def test_two_loaders_on_one_database(loader):
    train, test = loader(), loader(phase=pb.TEST, batch_size=3)
    for b in range(8):
        assert train.next()[1][0] == 4 * b % 10
        assert test.next()[1][0] == 3 * b % 10


def test_close_ends_the_thread_and_next_goes_on(loader):
    before = prefetchers()
    one = loader()
    one.next()
    assert prefetchers() == before + 1
    one.close()
    assert prefetchers() == before
    assert labels(one, 1) == [4, 5, 6, 7]


def test_a_loader_that_is_dropped_ends_its_thread(source):
    before = prefetchers()
    one = BatchLoader(source, 4, PLAIN, pb.TRAIN)
    one.next()
    gone, thread = weakref.ref(one), one._worker._thread
    del one
    gc.collect()
    assert gone() is None
    thread.join(timeout=60)
    assert prefetchers() == before


def test_the_garbage_collector_may_drop_a_loader_anywhere(source):
    """It once waited for the loader's thread within the lock that this thread needed for its end."""
    one = BatchLoader(source, 4, PLAIN, pb.TRAIN)
    one.next()
    thread = one._worker._thread
    dropping = threading.Thread(target=_collect_within_a_read, args=([one],), daemon=True)
    del one
    dropping.start()
    dropping.join(timeout=60)
    assert not dropping.is_alive()
    thread.join(timeout=60)
    assert not thread.is_alive()


def _collect_within_a_read(loaders: list) -> None:
    with lmdb_reader._calls:
        loaders.clear()
        gc.collect()


def test_a_program_that_forgets_to_close_ends(source):
    program = f"""
from crnn.data.loader import BatchLoader
from crnn.proto import pb
loader = BatchLoader({str(source)!r}, 4, pb.TransformationParameter(), pb.TRAIN)
loader.next()
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_thread_that_cannot_start_is_the_systems_refusal(loader, monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(OSError, match=r"ahead: can't start new thread; allow more processes \(ulimit"):
        loader().next()


def test_copies_go_on_from_the_same_position(loader):
    one = loader()
    one.next()
    want = [pickle.loads(pickle.dumps(one)), copy.deepcopy(one)]
    assert labels(one, 2) == labels(want[0], 2) == labels(want[1], 2)


def _next_labels(loader) -> list[int]:
    return labels(loader, 3)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_that_stay_read_with_threads_of_their_own(loader, monkeypatch, method):
    """Each call brings the pickled loader anew; the parent's own threads are at work meanwhile."""
    monkeypatch.setenv(pieces.THREADS, "3")
    monkeypatch.setattr(pieces, "PIECE", 1)
    one = loader(prefetch=2)
    one.next()
    with multiprocessing.get_context(method).Pool(2) as pool:
        for _ in range(2):
            assert pool.map(_next_labels, [one, one]) == [[4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5]] * 2
    assert labels(one, 1) == [4, 5, 6, 7]


def test_a_forked_child_goes_on_by_itself(loader):
    one = loader()
    one.next()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(_next_labels, [one, one]) == [[4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5]] * 2
    read, written = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(written, bytes(labels(one, 1)))  # not pickled: the parent's very loader
        os._exit(0)
    os.waitpid(child, 0)
    assert list(os.read(read, 4)) == labels(one, 1) == [4, 5, 6, 7]
    os.close(read), os.close(written)


def test_a_fork_never_catches_the_reading_thread_inside_lmdb(loader):
    """Each fork comes while a fresh thread reads ahead; a child that inherits a held lock never ends."""
    for _ in range(60):
        one = loader(prefetch=64)
        one.next()
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            one.next()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        one.close()


def test_a_batch_is_begun_before_the_one_before_it_is_done(loader, monkeypatch):
    monkeypatch.setenv(pieces.THREADS, "2")
    monkeypatch.setattr(pieces, "PIECE", 1)
    one = loader()
    one.source.frame, begun, good = None, threading.Event(), one.source.good

    def wait_for_the_next(number, key, value):
        if number == 4:
            begun.set()
        return good(number, key, value) if number or begun.wait(timeout=60) else None

    monkeypatch.setattr(one.source, "good", wait_for_the_next)
    assert labels(one, 3) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]


@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_batch_comes_before_the_error_of_the_one_after_it(loader, monkeypatch, threads):
    monkeypatch.setenv(pieces.THREADS, threads)
    monkeypatch.setattr(pieces, "PIECE", 1)
    one = loader()

    def two_batches(start, share):
        yield from itertools.islice(one.source.reader.items(), 8)
        raise OSError("the disk is gone")

    monkeypatch.setattr(one.source, "frame", None)
    monkeypatch.setattr(
        one.source, "endless", lambda *place: ((i, *item) for i, item in enumerate(two_batches(*place)))
    )
    assert labels(one, 2) == list(range(8)) and one.position == 8
    with pytest.raises(OSError, match="the disk is gone"):
        one.next()


# ---- bad records ----


def test_a_record_of_another_shape_is_named_when_it_comes(loader, tmp_path):
    pixels = [np.zeros((1, 4, 4), np.uint8)] * 5 + [np.zeros((1, 4, 5), np.uint8)]
    write(tmp_path / "mixed", [encode(p, i) for i, p in enumerate(pixels)])
    one = loader(batch_size=2, path=tmp_path / "mixed", transform=PLAIN)
    assert labels(one, 2) == [0, 1, 2, 3]
    for _ in range(2):  # and again, rather than hang
        with pytest.raises(
            ValueError, match=r"mixed: record b'00000005_x' is uint8 \(1, 4, 5\), the first uint8 \(1, 4, 4\)"
        ):
            one.next()
    assert one.position == 4


def test_a_float_record_among_bytes_is_refused(loader, tmp_path):
    write(tmp_path / "mixed", [encode(np.zeros((1, 2, 2), t), 0) for t in (np.uint8, np.float32)])
    with pytest.raises(ValueError, match="record b'00000001_x' is float32"):
        loader(path=tmp_path / "mixed", transform=PLAIN).next()


def test_a_damaged_image_is_named(loader, tmp_path):
    import cv2

    png = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()
    write(tmp_path / "images", [encode_file(png, 0), encode_file(png[:-20], 1)])
    with pytest.raises(
        ValueError, match=r"images: record b'00000001_x' is an image of \d+ bytes that cannot"
    ):
        loader(path=tmp_path / "images", transform=PLAIN).next()


def test_force_color_and_force_gray(tmp_path):
    import cv2

    write(
        tmp_path / "db",
        [
            encode_file(cv2.imencode(".png", np.zeros(s, np.uint8))[1].tobytes(), 0)
            for s in [(4, 4), (4, 4, 3)]
        ],
    )
    assert (
        BatchLoader(tmp_path / "db", 2, pb.TransformationParameter(force_color=True), 0).next()[0].shape[1]
        == 3
    )
    assert (
        BatchLoader(tmp_path / "db", 2, pb.TransformationParameter(force_gray=True), 0).next()[0].shape[1]
        == 1
    )
    with pytest.raises(ValueError, match="force_color and force_gray cannot both"):
        BatchLoader(tmp_path / "db", 2, pb.TransformationParameter(force_gray=True, force_color=True), 0)


@pytest.mark.parametrize("force", ["", "color", "gray"])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpegs_as_bytes_are_what_a_decoder_gives(loader, tmp_path, channels, force):
    import cv2

    images = np.random.default_rng(0).integers(0, 256, (4, 6, 9, channels), np.uint8)
    values = [encode_file(cv2.imencode(".jpg", image)[1].tobytes(), i) for i, image in enumerate(images)]
    write(tmp_path / "jpegs", values)
    transform = pb.TransformationParameter(force_color=force == "color", force_gray=force == "gray")
    one = loader(path=tmp_path / "jpegs", transform=transform)
    one.deliver_pixels(True)
    color = {"": None, "color": True, "gray": False}[force]
    np.testing.assert_array_equal(one.next()[0], [decode(value, color)[0] for value in values])


def test_a_jpeg_of_another_size_is_named_where_bytes_are_wanted(loader, tmp_path):
    import cv2

    files = [cv2.imencode(".jpg", np.zeros((4, width, 3), np.uint8))[1].tobytes() for width in (4, 5)]
    write(tmp_path / "jpegs", [encode_file(file, 0) for file in files])
    one = loader(path=tmp_path / "jpegs", transform=PLAIN)
    one.deliver_pixels(True)
    with pytest.raises(ValueError, match=r"b'00000001_x' is uint8 \(3, 4, 5\), the first uint8 \(3, 4, 4\)"):
        one.next()


def test_what_the_constructor_refuses(loader, tmp_path):
    with pytest.raises(OSError, match="nowhere is no LMDB database"):
        loader(path=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="batch_size must be positive, got 0"):
        loader(batch_size=0)
    with pytest.raises(ValueError, match="crop_size 7 is larger than the records, 5 x 6"):
        loader(transform=pb.TransformationParameter(crop_size=7))
    write(tmp_path / "none", [])
    with pytest.raises(ValueError, match="none holds no records"):
        Records(tmp_path / "none")
    write(tmp_path / "other", [b"\xff"])
    with pytest.raises(ValueError, match="record b'00000000_x' is not a Datum"):
        Records(tmp_path / "other")


VIEWS = pb.TransformationParameter(crop_size=3, train_views=10)


def test_ten_train_views_are_ten_passes_with_another_view_each(source, loader):
    """Every image gives each of its ten views once; a batch holds several kinds."""
    ten = loader(batch_size=4, transform=VIEWS)
    images, _ = ten.records(0, 10)
    views = [[ten.transformer.view(images[i : i + 1], v)[0].tobytes() for v in range(10)] for i in range(10)]
    seen, kinds = {i: [] for i in range(10)}, set()
    for _ in range(25):
        data, label = ten.next()
        batch = [views[int(i)].index(image.tobytes()) for image, i in zip(data, label, strict=True)]
        kinds.add(len(set(batch)))
        for view, i in zip(batch, label.astype(int), strict=True):
            seen[i].append(view)
    assert all(sorted(of_image) == list(range(10)) for of_image in seen.values())
    assert max(kinds) > 1


def test_ten_train_views_go_on_at_any_position(loader):
    """The views depend on seed and position alone, also across a pass's end and with rand_skip."""
    whole, resumed = (loader(batch_size=3, transform=VIEWS, rand_skip=7) for _ in range(2))
    batches = [whole.next()[0] for _ in range(9)]
    resumed.seek(12)
    for want in batches[4:]:
        np.testing.assert_array_equal(resumed.next()[0], want)


def test_ten_train_views_leave_the_test_phase_alone(loader):
    views = loader(transform=VIEWS, phase=pb.TEST)
    plain = loader(transform=pb.TransformationParameter(crop_size=3), phase=pb.TEST)
    np.testing.assert_array_equal(views.next()[0], plain.next()[0])
