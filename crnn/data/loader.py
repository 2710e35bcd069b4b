"""BatchLoader: a database as an endless sequence of batches, read ahead by a thread of its own.

Caffe: src/caffe/layers/data_layer.cpp. Records come in key order and wrap round; nothing is shuffled here
(converters shuffle). Unlike Caffe's, the position can be read and set, so that training resumes on the same
batches.
"""

import atexit
import contextlib
import functools
import itertools
import os
import queue
import threading
import weakref
from collections.abc import Callable, Iterator

import numpy as np

from crnn.data.bad_images import BadImages, Row, policy_of, some_left
from crnn.data.pieces import Pieces
from crnn.data.records import ALL, Records, Share
from crnn.data.transformer import VIEWS, Transformer, cutter


class Loader:
    """Batches of arrays from `next()`, made ahead by a thread that starts with the first of them.

    What comes next depends on `seed`, `skip`, `position` and `share` alone. A snapshot keeps the first three,
    of which `position` counts what all processes were given; `seed` None draws one. A subclass gives
    `_batches()`, a generator of (position after the batch, what was wrong with its bad images, array, ...)
    that must not hold the loader itself, or its thread would keep it alive.
    """

    def __init__(self, batch_size: int, seed: int | None = None, prefetch: int = 4):
        if batch_size < 1:
            raise ValueError(f"batch_size must be positive, got {batch_size}")
        self.batch_size = batch_size
        self.seed = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else int(seed)
        self.position = 0  # records given so far; the first pass starts `skip` records in
        self.skip = 0
        self.share = ALL
        self.bad_images = BadImages("error")
        self._prefetch = max(prefetch, 1)
        self._worker: _Worker | None = None
        self._end_worker = None

    def __getstate__(self):
        return {**self.__dict__, "_worker": None, "_end_worker": None}

    def next(self) -> tuple[np.ndarray, ...]:
        if self._worker is None or self._worker.pid != os.getpid():  # threads do not survive a fork
            self._worker = _Worker(self._batches(), self._prefetch)
            self._end_worker = weakref.finalize(self, self._worker.leave)
        try:
            self.position, problems, *arrays = self._worker.next()
        except BaseException:
            self._stop()
            raise
        self.bad_images.met(problems)
        return tuple(arrays)

    def seek(self, position: int) -> None:
        """Goes on as a loader that has given `position` records."""
        self._stop()
        self.position = position

    def split(self, rank: int, ranks: int) -> None:
        """Gives every ranks-th record from `rank` on."""
        self._stop()
        self.share = Share(rank, ranks)

    def deal(self, rank: int, ranks: int) -> None:
        """Gives every ranks-th batch from `rank` on."""
        self._stop()
        self.share = Share(rank, ranks, self.batch_size)

    def close(self) -> None:
        """Ends the thread; a later `next()` goes on where this one stopped."""
        self._stop()

    def _stop(self) -> None:
        if self._worker is not None:
            self._end_worker.detach()
            self._worker.stop()
            self._worker = None

    def _batches(self) -> Iterator[tuple]:
        raise NotImplementedError


def random_skip(rand_skip: int, seed: int) -> int:
    """How far into the first pass to start: one of the first `rand_skip` records, 0 without."""
    return int(np.random.default_rng(seed).integers(rand_skip)) if rand_skip else 0


def endless(count: int, shuffle: bool, seed: int, place: int) -> Iterator[int]:
    """The numbers 0 .. count-1 round and round, from `place` on, which counts over all rounds.

    With `shuffle` every round has an order of its own, drawn from `seed` and the round's number.
    """
    rounds, start = divmod(place, count)
    while True:
        order = np.random.default_rng([seed, 1, rounds]).permutation(count) if shuffle else np.arange(count)
        yield from order[start:].tolist()
        rounds, start = rounds + 1, 0


class BatchLoader(Loader):
    """Gives batches (data float32 [N, C, h, w], label float32 [N]) of a database from `next()`.

    With `label_source`, a database of label maps, the label is float32 [N, 1, h, w], cut as its image.

    The random draws of a batch depend on `seed` and `position` alone, so the same two give the same batch.
    `rand_skip` starts the first pass at a random one of the first `rand_skip` records.

    Raises ValueError and OSError from the constructor for what can be seen there (parameters, first record),
    from `next()` for a record further on, naming its key.
    """

    def __init__(
        self,
        source,
        batch_size,
        transform_param,
        phase,
        seed=None,
        rand_skip=0,
        prefetch=4,
        label_source="",
        backend=None,
    ):
        super().__init__(batch_size, seed, prefetch)
        self._pixels = False
        self.bad_images = BadImages(policy_of(transform_param))
        policy = self.bad_images.policy
        any_size = crops_any_size(transform_param) and not label_source
        self.source = Records(source, color_of(transform_param), label_source, backend, policy, any_size)
        self.transformer = Transformer(transform_param, phase, self.source.shape)
        shape = self.transformer.top_shape
        labels = (batch_size, 1, *shape[1:]) if label_source else (batch_size,)
        self.top_shapes = [(batch_size, *shape), labels]
        self.skip = random_skip(rand_skip, self.seed)

    def __len__(self) -> int:
        """The number of records."""
        return len(self.source)

    def records(self, start: int, n: int) -> tuple[np.ndarray | list[np.ndarray], np.ndarray]:
        """Records start .. start+n-1, untransformed, as `Records.batch` gives them: for `transformer.view`.
        ValueError names one that the crop does not fit into."""
        images, labels = self.source.batch(start, n)
        for i, image in enumerate(images if isinstance(images, list) else ()):
            _of_size(self.transformer, image.shape, self.source, self.source.reader.key(start + i))
        return images, labels

    def close(self) -> None:
        """Ends the thread and closes the database; a later `next()` goes on where this one stopped."""
        super().close()
        self.source.close()

    def deliver_pixels(self, wanted: bool) -> None:
        """Whether `next()` gives (pixels uint8 [N, C, h, w], label, places int64 [N, 3]) where it can.

        Mean and scale are then the caller's to apply (crnn.layers.pixels), on the device that has the net: a
        quarter of the bytes. A place is (mirrored, row, column) of the crop. Records of floats stay as they
        are.
        """
        wanted = wanted and self.source.dtype == np.uint8
        if wanted != self._pixels:
            self._stop()
            self._pixels = wanted

    def _batches(self):
        place = self.skip, self.position, self.share
        return _batches(self.source, self.transformer, self.batch_size, self.seed, *place, self._pixels)


def _batches(*place) -> Iterator[tuple]:
    """(position after it, problems, data, label) of each batch, with `pixels` also the places; no method, so
    that its thread keeps no loader alive.

    A batch is waited for when the one after it is begun, so that no thread is without work between the two.
    """
    waiting = None
    with contextlib.closing(_begun(*place)) as begun:
        while True:
            try:
                following = next(begun)
            except Exception as error:  # of the batch that follows: this one comes first
                following = error
            if waiting:
                yield waiting()
            if isinstance(following, Exception):
                raise following
            waiting = following


def _begun(source: Records, transformer, batch_size, seed, skip: int, position: int, share: Share, pixels):
    """A function for each batch, begun: it waits, and gives what `_batches` does."""
    place = skip + position
    held = source.reader.hold()  # noqa: F841 (the memory that `items` gives)
    # A LevelDB is slow to say how long it is.
    items = source.endless(place % len(source) if place else 0, share)
    # train_views: every image starts with a view drawn for it and goes one further in each pass, so that ten
    # passes give all its views and a batch holds all kinds.
    first = np.random.default_rng(seed).integers(VIEWS, size=len(source)) if transformer.views else None
    # Raw records are cut in less time than threads take to hand each other the interpreter's lock.
    with Pieces(0 if source.frame else int(np.prod(source.shape))) as pieces:
        while True:
            count, start, ours = share.drawn_as(batch_size, position)
            turns = None
            if transformer.views:
                passes, records = np.divmod(skip + start + np.arange(count), len(first))
                turns = first[records] + passes
            draw = transformer.draw(count, np.random.default_rng([seed, start]), turns).of(ours)
            records = list(itertools.islice(items, batch_size))
            position += share.ranks * batch_size
            rng_of = functools.partial(_rng_of_record, seed, start)
            yield _assembly(position, source, transformer, records, draw, rng_of, pieces, pixels)


def _of_size(transformer: Transformer, shape, source: Records, key: bytes) -> Transformer:
    """The transformer of a record whose size is not the first's."""
    try:
        return transformer.of_size(shape)
    except ValueError as error:
        raise ValueError(f"{source.reader.path}: record {key!r}: {error}") from None


def _rng_of_record(seed: int, start: int, number: int) -> np.random.Generator:
    """What a record of another size than the first draws from: as its batch's, but its own."""
    return np.random.default_rng([seed, start, number, 2])


def _assembly(position: int, source: Records, transformer, records, draw, rng_of, pieces, pixels) -> Callable:
    """Begins a batch of (number, key, value) records seen as drawn. The function that ends it gives
    (position, problems, data, label or map, ...)."""
    N, places = len(records), transformer.places(draw, len(records))
    data = np.empty((N, *transformer.top_shape), np.uint8 if pixels else np.float32)
    maps = np.empty((N, *source.maps.shape), np.uint8) if source.maps else None
    labels = np.empty(N, np.float32) if maps is None else maps

    def ready(i: int):
        """(file, what cuts its image, its row) of a JPEG whose pixels are wanted as they are; else None."""
        found = source.jpeg(records[i][2]) if pixels and draw.warps is None else None
        if found is None:
            return None
        file, labels[i] = found
        return file, cutter(places[i], data[i]), Row(i)

    def fill(i: int, jpeg) -> Row:
        if jpeg:
            file, cut, row = jpeg
            if (image := source.image(file)) is not None:
                cut(image)
                return row
        row = source.good(*records[i])
        if row.record is None:
            return row
        image, labels[i] = row.record
        seen_by = transformer
        if image.shape != source.shape:
            number, key, _ = records[i]
            seen_by = _of_size(transformer, image.shape, source, key)
            places[i] = seen_by.places(seen_by.draw(1, rng_of(number)), 1)[0]
        seen_by.see(image, places[i], None if draw.warps is None else draw.warps[i], data[i])
        return Row(i, row.problem)  # its image is in the batch now

    def fill_part(part: range) -> list[Row]:
        # Between two decodings, which leave the processor's caches to nothing else, a line of Python takes
        # five times as long: what can be done before is.
        return [fill(*each) for each in zip(part, [ready(i) for i in part], strict=True)]

    def end() -> tuple:
        rows = list(begun)
        seen = labels if maps is None else transformer.apply_to_maps(maps, draw).astype(np.float32)
        tops = [data, seen, *([np.array(places).reshape(N, 3)] if pixels else [])]
        left = some_left(rows)
        if len(left) < N:
            tops = [top[left] for top in tops]
        return position, tuple(row.problem for row in rows if row.problem), *tops

    begun = pieces.parts(fill_part, N)
    return end


_workers: "weakref.WeakSet[_Worker]" = weakref.WeakSet()


@atexit.register
def _stop_workers() -> None:
    """A thread must not be inside a decoder or lmdb while the interpreter is taken down."""
    for worker in list(_workers):
        worker.stop()


class _Worker:
    """A thread that runs an iterator up to `ahead` items ahead of `next()`; its exception comes last."""

    def __init__(self, iterator: Iterator, ahead: int):
        self.pid = os.getpid()
        self._done: queue.SimpleQueue = queue.SimpleQueue()
        self._room: queue.SimpleQueue = queue.SimpleQueue()  # one None for each item that may still be made
        for _ in range(ahead):
            self._room.put(None)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, args=(iterator,), name="crnn-prefetch", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            raise OSError(
                f"the thread that reads ahead: {error}; allow more processes (ulimit -u)"
            ) from error
        _workers.add(self)

    def next(self):
        item = self._done.get()
        self._room.put(None)
        if isinstance(item, BaseException):
            raise item
        return item

    def leave(self) -> None:
        """Asks the thread to end and waits for nothing: the garbage collector may call this anywhere, also
        within a lock that the thread needs for its end."""
        if self.pid == os.getpid():  # threads do not survive a fork
            self._stopping = True
            self._room.put(None)  # reentrant, as a semaphore's release is not

    def stop(self) -> None:
        self.leave()
        self._thread.join()

    def _run(self, iterator: Iterator) -> None:
        try:
            with contextlib.closing(iterator):
                for item in iterator:
                    self._room.get()
                    if self._stopping:
                        return
                    self._done.put(item)
        except BaseException as error:
            self._done.put(error)


def crops_any_size(param) -> bool:
    """Whether records of any size give tops of one size, as in Caffe: by a crop, and by no mean image, views
    or warps of the first record's size."""
    moves = param.HasField("mean_file") or param.train_views > 1 or param.rotation > 0 or param.scaling > 1
    return param.crop_size > 0 and not moves


def color_of(param) -> bool | None:
    """What `force_color` and `force_gray` ask of a decoder: True colour, False grey, None as it is."""
    if param.force_color and param.force_gray:
        raise ValueError("force_color and force_gray cannot both be set: remove one")
    return True if param.force_color else False if param.force_gray else None
