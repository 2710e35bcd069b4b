"""The records of a database, decoded; and the share of them that one of several processes reads."""

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from crnn.data.databases import open_database
from crnn.data.datum import decode


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
    """The decoded records of a database, all of one shape [C, H, W], each with its label.

    With `label_source`, a database of label maps, a record's label is the map uint8 [1, H, W] of its key.

    Raises OSError and ValueError as `open_database` does; ValueError naming the key for a record that cannot
    be decoded or differs in shape from the first, and for a database without records.
    """

    def __init__(self, source, color: bool | None = None, label_source: str = "", backend: str | None = None):
        self.reader = open_database(source, backend)
        self.color = color
        item = next(self.reader.items(), None)
        if item is None:
            raise ValueError(f"{source} holds no records: convert the data again")
        first, _ = self._decode(*item)
        self.shape, self.dtype = first.shape, first.dtype
        self.maps = Records(label_source) if label_source else None
        if self.maps and (self.maps.shape != (1, *self.shape[1:]) or self.maps.dtype != np.uint8):
            raise ValueError(
                f"{label_source} holds {self.maps.dtype} {self.maps.shape}, for images {self.shape} it must "
                f"be uint8 {(1, *self.shape[1:])}: convert both to one size"
            )

    def __len__(self) -> int:
        return len(self.reader)

    def batch(self, start: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Records start .. start+n-1 as `collect` gives them; IndexError past the end."""
        if start < 0 or start + n > len(self):
            raise IndexError(f"{self.reader.path}: records {start} to {start + n - 1} of {len(self)}")
        return self.collect(self.reader.items(start), n)

    def collect(self, items: Iterator[tuple[bytes, bytes]], n: int) -> tuple[np.ndarray, np.ndarray]:
        """The next n of `items`, (key, value) pairs, as (images [n, C, H, W], labels int64 [n]).

        With a label_source the labels are maps, uint8 [n, 1, H, W].
        """
        images, labels = np.empty((n, *self.shape), self.dtype), np.empty(n, np.int64)
        maps = np.empty((n, *self.maps.shape), np.uint8) if self.maps else None
        for i in range(n):
            key, value = next(items)
            image, labels[i] = self._decode(key, value)
            if self.maps:
                maps[i] = self.maps.of_key(key)
            if image.shape != self.shape or image.dtype != self.dtype:
                raise ValueError(
                    f"{self.reader.path}: record {key!r} is {image.dtype} {image.shape}, the first "
                    f"{self.dtype} {self.shape}; convert them to one size"
                )
            images[i] = image
        return images, labels if maps is None else maps

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

    def endless(self, start: int, share: Share = ALL) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) of our share from record `start` on, round and round."""
        if share.ranks > 1:
            for i in share.of(itertools.count(start)):
                yield self.reader.key(i % len(self)), self.reader.read(i % len(self))
        while True:
            yield from self.reader.items(start)
            start = 0

    def _decode(self, key: bytes, value: bytes) -> tuple[np.ndarray, int]:
        try:
            return decode(value, self.color)
        except ValueError as error:
            raise ValueError(f"{self.reader.path}: record {key!r} is {error}; convert it again") from error
