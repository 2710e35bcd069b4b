"""What the processes that train together read: Caffe's DataLayer::Skip, and batches dealt out for tests."""

import numpy as np
import pytest

from crnn.proto import pb


@pytest.mark.parametrize("position", [0, 12])
def test_processes_split_what_would_be_one_batch(loader, position):
    """Records, crops and mirrors; also over the end of the database and from any position."""
    one, two = loader(batch_size=6, seed=5), [loader(batch_size=2, seed=5) for _ in range(3)]
    one.seek(position)
    for rank, part in enumerate(two):
        part.split(rank, 3)
        part.seek(position)
    for _ in range(4):
        data, label = one.next()
        for rank, part in enumerate(two):
            own_data, own_label = part.next()
            np.testing.assert_array_equal(own_label, label[rank::3])
            np.testing.assert_array_equal(own_data, data[rank::3])
            assert part.position == one.position


def test_processes_are_dealt_whole_batches(loader):
    one, two = loader(seed=5), [loader(seed=5) for _ in range(2)]
    for rank, part in enumerate(two):
        part.deal(rank, 2)
    for turn in range(6):
        for wanted, own in zip(one.next(), two[turn % 2].next(), strict=True):
            np.testing.assert_array_equal(own, wanted)


def test_ten_views_are_split_too(loader):
    views = pb.TransformationParameter(crop_size=3, train_views=10)
    one, two = loader(6, views, seed=5), [loader(3, views, seed=5) for _ in range(2)]
    for rank, part in enumerate(two):
        part.split(rank, 2)
    for _ in range(5):
        data, _ = one.next()
        for rank, part in enumerate(two):
            np.testing.assert_array_equal(part.next()[0], data[rank::2])
