"""`crnn extract_features`: Caffe's keys and records, several blobs in one pass."""

import numpy as np
import pytest

from crnn.data.leveldb_reader import LevelDbReader
from crnn.data.lmdb_reader import LmdbReader
from crnn.experiments.evaluate import CENTRE
from crnn.net.net import Net
from crnn.proto import pb
from crnn.testing import golden
from crnn.tools import extract_features as tool

WEIGHTS = str(golden("tools/logged_iter_30.caffemodel"))


def records(path):
    return [(key, pb.Datum.FromString(value)) for key, value in LmdbReader(path).items()]


def blobs(name: str, batches: int) -> np.ndarray:
    net = Net("logged_net.prototxt", phase="TEST", weights=WEIGHTS)
    values = []
    for _ in range(batches):
        net()
        values.append(net.blobs[name].detach().numpy().copy())
    return np.concatenate(values)


def first_map() -> str:
    """A blob with height and width."""
    net = Net("logged_net.prototxt", phase="TEST")
    return next(name for name, shape in net.shapes.items() if len(shape) == 4)


def test_a_record_an_image_under_its_number(logged, capsys):
    assert tool.main([WEIGHTS, "logged_net.prototxt", "fc", "fc_lmdb", "3", "lmdb", "CPU"]) == 0
    want, found = blobs("fc", 3), records("fc_lmdb")
    assert [key for key, _ in found] == [b"%010d" % i for i in range(len(want))]
    for (_, datum), value in zip(found, want, strict=True):
        assert (datum.channels, datum.height, datum.width) == (len(value), 1, 1)
        np.testing.assert_allclose(datum.float_data, value, rtol=1e-6)
        assert not (datum.HasField("label") or datum.HasField("data") or datum.HasField("encoded"))
    assert f"Extracted features of {len(want)} query images for feature blob fc" in capsys.readouterr().out


def test_several_blobs_in_one_pass(logged):
    name = first_map()
    assert tool.main([WEIGHTS, "logged_net.prototxt", f"fc,{name}", "a,b", "2"]) == 0
    want, found = blobs(name, 2), records("b")
    assert len(records("a")) == len(found) == len(want)
    datum = found[-1][1]
    assert (datum.channels, datum.height, datum.width) == want.shape[1:]
    np.testing.assert_allclose(datum.float_data, want[-1].ravel(), rtol=1e-6)


def test_a_leveldb_has_the_same_records(logged):
    pytest.importorskip("plyvel", reason="needs plyvel: any machine with crnn[leveldb]")
    for kind in ("lmdb", "leveldb"):
        assert tool.main([WEIGHTS, "logged_net.prototxt", "fc", f"fc_{kind}", "3", kind]) == 0
    assert list(LevelDbReader("fc_leveldb").items()) == list(LmdbReader("fc_lmdb").items())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fc,fc", "a", "1"], "2 blobs want as many databases, got 1"),
        (["fc9", "a", "1"], "has no blob 'fc9'; it has "),
        (["fc,fc", "a,b", "1"], "blob 'fc' is named twice"),
        (["fc,label", "a,a", "1"], "database 'a' is named twice"),
        (["fc", "a", "0"], "at least 1, got 0"),
        (["loss", "a", "1"], "blob 'loss' is one number for the whole batch"),
        (["fc", "a", "1", "lmdb", "TPU"], r"come \[lmdb\|leveldb\] \[CPU\|GPU\] \[DEVICE_ID\], got TPU"),
    ],
)
def test_what_cannot_be_done_is_refused(logged, words, message):
    with pytest.raises(ValueError, match=message):
        tool.main([WEIGHTS, "logged_net.prototxt", *words])


def test_an_existing_database_is_left_alone(logged):
    with pytest.raises(FileExistsError, match="raw_color_lmdb exists"):
        tool.main([WEIGHTS, "logged_net.prototxt", "fc", "raw_color_lmdb", "1"])


@pytest.mark.parametrize("of", ["test", "train"])
def test_all_records_once_with_keys_and_labels(logged, of):
    """As Caffe's tool has them, but under their own keys, with labels, and the last batch is no larger."""
    words = [WEIGHTS, "logged_net.prototxt", "fc", "all_lmdb", "all", "--of", of, "lmdb", "CPU"]
    assert tool.main(words) == 0
    net = Net("logged_net.prototxt", phase=of.upper(), weights=WEIGHTS)
    loader, found = net.layer("data").loader, records("all_lmdb")
    assert [key for key, _ in found] == [loader.source.reader.key(i) for i in range(len(loader))]
    images, labels = loader.records(0, len(loader))
    assert [datum.label for _, datum in found] == labels.tolist()
    test = Net("logged_net.prototxt", phase="TEST", weights=WEIGHTS)
    view = test.layer("data").loader.transformer.view(images, CENTRE)
    test(data=view, label=np.zeros(len(images), np.float32))
    want = test.blobs["fc"].detach().numpy()
    np.testing.assert_allclose([d.float_data for _, d in found], want, rtol=1e-4, atol=1e-5)


def test_training_records_are_all_or_none(logged):
    with pytest.raises(ValueError, match="--of train is of all records: give `all` in place of the number"):
        tool.main([WEIGHTS, "logged_net.prototxt", "fc", "x", "3", "--of", "train"])
