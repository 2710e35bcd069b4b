"""The records of a database, decoded; and the share of them that one of several processes reads."""

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from crnn.data.bad_images import IN_A_ROW, Row, good
from crnn.data.databases import open_database
from crnn.data.datum import BadImage, Frame, decode, decoder, jpeg


class Share(NamedTuple):
    """The records that one of several processes reads: of every ranks * block in a row, the rank-th block.

    With block 1 (Caffe: DataLayer::Skip) they split what would be a batch of ranks * batch_size; with blocks
    of batch_size they are dealt whole batches.
    """

    rank: int = 0
    ranks: int = 1
    block: int = 1

    def of(self, records: Iterable) -> Iterator:
        return (record for i, record in enumerate(records) if i // self.block % self.ranks == self.rank)

    def drawn_as(self, batch_size: int, position: int) -> tuple[int, int, slice]:
        """The batch whose random draws ours are a part of: its size, its position, and which are ours."""
        if self.block == 1:
            return self.ranks * batch_size, position, slice(self.rank, None, self.ranks)
        return batch_size, position + self.rank * self.block, slice(None)


ALL = Share()


class Records:
    """The decoded records of a database, all of one shape [C, H, W], each with its label. With `any_size`
    they may differ from the first, whose shape is `shape`, in height and width.

    With `label_source`, a database of label maps, a record's label is the map uint8 [1, H, W] of its key.

    Raises OSError and ValueError as `open_database` does; ValueError naming the key for a record that cannot
    be decoded (BadImage) or differs in shape from the first, and for a database without records.
    """

    def __init__(
        self,
        source,
        color: bool | None = None,
        label_source: str = "",
        backend: str | None = None,
        bad_image: str = "error",
        any_size: bool = False,
    ):
        self.reader = open_database(source, backend)
        self.color, self.frame, self.bad_image, self.any_size = color, None, bad_image, any_size
        (first, _), value = self._first()
        self.shape, self.dtype = first.shape, first.dtype
        self._decoded = self.shape[1:] if self.shape[0] == 1 else (*self.shape[1:], self.shape[0])
        frame = Frame(self.shape)
        self.frame = frame if frame.read(value) else None
        self.maps = Records(label_source) if label_source else None
        if self.maps and (self.maps.shape != (1, *self.shape[1:]) or self.maps.dtype != np.uint8):
            raise ValueError(
                f"{label_source} holds {self.maps.dtype} {self.maps.shape}, for images {self.shape} it must "
                f"be uint8 {(1, *self.shape[1:])}: convert both to one size"
            )

    def _first(self) -> tuple[tuple[np.ndarray, int], bytes]:
        """The first good record, decoded, and its value."""
        for key, value in itertools.islice(self.reader.items(), IN_A_ROW):
            try:
                return self._decode(key, value), value
            except BadImage as error:
                if self.bad_image == "error":
                    raise
                problem = error
        if len(self):
            raise problem
        raise ValueError(f"{self.reader.path} holds no records: convert the data again")

    def __len__(self) -> int:
        return len(self.reader)

    def batch(self, start: int, n: int) -> tuple[np.ndarray | list[np.ndarray], np.ndarray]:
        """Records start .. start+n-1: images [n, C, H, W], or n [C, H, W] where their sizes differ; labels
        int64 [n], with a label_source the maps uint8 [n, 1, H, W]. IndexError past the end.
        """
        if start < 0 or start + n > len(self):
            raise IndexError(f"{self.reader.path}: records {start} to {start + n - 1} of {len(self)}")
        images, labels = np.empty((n, *self.shape), self.dtype), np.empty(n, np.int64)
        if self.maps:
            labels = np.empty((n, *self.maps.shape), np.uint8)
        items = self.reader.items(start, copy=False)  # keeps its memory while it lives
        for i in range(n):
            image, labels[i] = self.read(*next(items))
            if image.shape != self.shape:
                images = list(images)
            images[i] = image.copy() if isinstance(images, list) else image
        return images, labels

    def read(self, key: bytes, value) -> tuple[np.ndarray, int | np.ndarray]:
        """(pixels [C, H, W], label or map) of a record, bytes or a memoryview. ValueError names its key."""
        image, label = self._decode(key, value)
        fits = image.shape == self.shape or (self.any_size and image.shape[0] == self.shape[0])
        if not fits or image.dtype != self.dtype:
            raise ValueError(
                f"{self.reader.path}: record {key!r} is {image.dtype} {image.shape}, the first "
                f"{self.dtype} {self.shape}; convert them to one size"
            )
        return image, self.maps.of_key(key) if self.maps else label

    def good(self, number: int, key: bytes, value) -> Row:
        """`read` of record `number`, or what `bad_image` gives in its place."""

        def read(wanted: int):
            if wanted == number:
                return self.read(key, value)
            return self.read(self.reader.key(wanted), self.reader.read(wanted))

        return good(read, number, self.__len__, self.bad_image)

    def jpeg(self, value) -> tuple[np.ndarray, int] | None:
        """(what `image` takes, label) of a JPEG's record; None for one that `good` must read."""
        return None if self.frame or self.maps else jpeg(value)

    def image(self, file: np.ndarray) -> np.ndarray | None:
        """uint8 [H, W] or [H, W, C] of a JPEG, as OpenCV decodes it; None where `good` must say why not."""
        try:
            image = decoder(self.color)(file)
        except BadImage:
            return None
        return image if image.shape == self._decoded else None

    def of_key(self, key: bytes) -> np.ndarray:
        """The record [C, H, W] of a key. Raises ValueError if there is none or it has another shape."""
        value = self.reader.get(key)
        if value is None:
            raise ValueError(
                f"{self.reader.path}: there is no record {key!r}; convert images and maps together"
            )
        record, _ = self._decode(key, value)
        if record.shape != self.shape:
            raise ValueError(f"{self.reader.path}: record {key!r} is {record.shape}, the first {self.shape}")
        return record

    def close(self) -> None:
        self.reader.close()
        if self.maps:
            self.maps.close()

    def endless(self, start: int, share: Share = ALL) -> Iterator[tuple[int, bytes, bytes]]:
        """(number, key, value) of our share from record `start` on, round and round.

        The values are the database's own memory where it can be: valid while the caller has `reader.hold()`.
        """
        if share.ranks > 1:
            numbers, order = itertools.tee(i % len(self) for i in share.of(itertools.count(start)))
            for i, record in zip(numbers, self.reader.at(order, copy=False), strict=True):
                yield i, *record
        while True:
            for i, record in enumerate(self.reader.items(start, copy=False), start):
                yield i, *record
            start = 0

    def _decode(self, key: bytes, value) -> tuple[np.ndarray, int]:
        if self.frame and (found := self.frame.read(value)):
            return found
        try:
            return decode(value, self.color)
        except BadImage as error:
            raise BadImage(f"{self.reader.path}: record {key!r} is {error}; convert it again") from error
