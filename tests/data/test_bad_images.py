"""Damaged and odd image files: what is refused, and what each policy then gives."""

import io
import pickle

import cv2
import numpy as np
import pytest
from PIL import Image

from crnn.data.bad_images import IN_A_ROW
from crnn.data.datum import BadImage, decode_image, encode, encode_file
from crnn.data.image_header import MAX_PIXELS
from crnn.data.image_list import ImageList, ImageLoader
from crnn.data.lmdb_writer import LmdbWriter
from crnn.data.loader import BatchLoader
from crnn.data.windows import WindowLoader
from crnn.proto import pb
from crnn.testing import golden

PHOTO = (golden("tools/images") / "astronaut/0.jpg").read_bytes()
PIXELS = cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8), (40, 48))


def file(kind: str, pixels=PIXELS, *options) -> bytes:
    return cv2.imencode(f".{kind}", pixels, options)[1].tobytes()


@pytest.mark.parametrize("percent", range(0, 100, 1))
def test_a_photo_truncated_anywhere_is_refused(percent):
    with pytest.raises(BadImage):
        decode_image(PHOTO[: len(PHOTO) * percent // 100], True)


@pytest.mark.parametrize("missing", [1, 2, 3, 50])
def test_so_is_one_that_lacks_its_last_bytes(missing):
    with pytest.raises(BadImage, match=f"a truncated JPEG of {len(PHOTO) - missing} bytes"):
        decode_image(PHOTO[:-missing], True)


@pytest.mark.parametrize("end", [2, len(PHOTO) // 3, len(PHOTO) // 2])
def test_so_is_one_that_ends_in_a_thumbnails_end(end):
    """An end marker before the scan is that of a thumbnail in the header."""
    thumbnail = file("jpg", PIXELS[:8, :8])
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    with_thumbnail = PHOTO[:2] + segment + PHOTO[2:]
    assert decode_image(with_thumbnail, True).shape == decode_image(PHOTO, True).shape
    cut = len(segment) + len(PHOTO) - end
    with pytest.raises(BadImage):
        decode_image(with_thumbnail[:cut], True)


def saved(kind: str, mode: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(PIXELS[..., ::-1]).convert(mode).save(out, kind)
    return out.getvalue()


def test_what_is_odd_but_whole_is_decoded_to_three_channels_by_force_color():
    alpha = np.dstack([PIXELS, PIXELS[..., :1]])
    odd_ones = [file("png", alpha), *map(file, ("webp", "gif", "bmp", "tiff", "ppm"))]
    for odd in (*odd_ones, saved("PNG", "P"), saved("JPEG", "CMYK")):
        image = decode_image(odd, True)
        assert image.dtype == np.uint8 and image.shape[2:] == (3,)
    assert decode_image(file("png", alpha), None).shape == (48, 40, 4)
    assert decode_image(file("png", PIXELS[:1, :1]), True).shape == (1, 1, 3)
    assert decode_image(file("png", np.zeros((1, 65535, 3), np.uint8)), True).shape == (1, 65535, 3)


def bomb(kind: bytes) -> bytes:
    """A file of few bytes that says it has 65,535 × 65,535 pixels."""
    if kind == b"png":
        return file("png")[:16] + (65535).to_bytes(4, "big") * 2 + file("png")[24:]
    if kind == b"ppm":
        return b"P6\n65535 65535\n255\n" + bytes(100)
    if kind == b"gif":
        return b"GIF89a" + b"\xff\xff\xff\xff" + file("gif")[10:]
    at = PHOTO.index(b"\xff\xc0")
    return PHOTO[: at + 5] + b"\xff\xff\xff\xff" + PHOTO[at + 9 :]


REFUSED = {
    "nothing": (b"", "cannot be decoded"),
    "text": (b"<html>404</html>", "cannot be decoded"),
    "16 bits": (file("png", PIXELS.astype(np.uint16)), "16 bits a channel, Caffe takes 8"),
    **{
        f"bomb {kind.decode()}": (bomb(kind), f"65535 x 65535 pixels, more than the {MAX_PIXELS:,}")
        for kind in (b"png", b"gif", b"jpg", b"ppm")
    },
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused(what):
    content, message = REFUSED[what]
    with pytest.raises(BadImage, match=message):
        decode_image(content, None)


# Ten records, 3, 4 and 9 of which are bad.
BAD = {3: PHOTO[:-400], 4: b"", 9: bomb(b"jpg")}


def image(i: int) -> np.ndarray:
    return np.full((6, 5, 3), i, np.uint8)


def database_of(kind: str, path):
    with LmdbWriter(path) as db:
        for i in range(10):
            db.put(b"%08d" % i, encode_file(BAD.get(i, file(kind, image(i))), i))
    return path


@pytest.fixture
def database(tmp_path):
    return database_of("png", tmp_path / "db")


@pytest.fixture
def folder(tmp_path):
    for i in range(10):
        (tmp_path / f"{i}.png").write_bytes(BAD.get(i, file("png", image(i))))
    (tmp_path / "list").write_text("".join(f"{i}.png {i}\n" for i in range(10)))
    return tmp_path


@pytest.fixture(params=["Data", "Data, JPEGs as bytes", "ImageData"])
def make(request, database, folder, tmp_path):
    made = []
    jpegs = database_of("jpg", tmp_path / "jpegs")

    def loader(policy, batch=5, **options):
        param = pb.TransformationParameter(bad_image=policy, force_color=True)
        if request.param == "Data":
            made.append(BatchLoader(database, batch, param, pb.TRAIN, seed=0, **options))
        elif request.param == "Data, JPEGs as bytes":
            made.append(BatchLoader(jpegs, batch, param, pb.TRAIN, seed=0, **options))
            made[-1].deliver_pixels(True)
        else:
            made.append(
                ImageLoader(ImageList(folder / "list", f"{folder}/"), batch, param, pb.TRAIN, 0, **options)
            )
        return made[-1]

    yield loader
    for one in made:
        one.close()


def rows(loader, batches=1) -> list[list[int]]:
    """The labels of each batch; the pixels are those of the same records."""
    found = []
    for _ in range(batches):
        data, label, *_ = loader.next()
        assert data[:, 0, 0, 0].tolist() == label.tolist()
        found.append(label.astype(int).tolist())
    return found


def test_by_default_a_bad_image_ends_it_with_its_name_and_the_cure(make):
    loader = make("error")
    with pytest.raises(BadImage, match=r"3(\.png|') is a truncated JPEG .*bad_image: \"substitute\""):
        loader.next()
    assert not loader.bad_images.counts


def test_skip_leaves_its_row_out(make):
    loader = make("skip")
    assert rows(loader, 3) == [[0, 1, 2], [5, 6, 7, 8], [0, 1, 2]]
    assert sum(loader.bad_images.counts.values()) == 5 and len(loader.bad_images.counts) == 3


def test_substitute_gives_the_next_good_one_with_its_label(make):
    assert rows(make("substitute"), 3) == [[0, 1, 2, 5, 5], [5, 6, 7, 8, 0], [0, 1, 2, 5, 5]]


def test_each_bad_image_is_told_once_and_counted_each_time(make):
    loader = make("substitute", batch=10)
    loader.next()
    news = loader.bad_images.news()
    assert len(news) == 3 and all(line.startswith("substituted by the next good one: ") for line in news)
    assert "truncated JPEG" in news[0] and "65535 x 65535" in news[2]
    loader.next()
    assert loader.bad_images.news() == []
    assert loader.bad_images.summary() == (
        "3 bad images were substituted by the next good one, 6 times in all"
    )


@pytest.mark.parametrize("policy", ["skip", "substitute"])
def test_all_other_positions_stay_as_they_are(make, policy):
    """A loader that is resumed, or copied, reads what an unbroken one does."""
    whole = rows(make(policy, batch=2), 10)
    resumed = make(policy, batch=2)
    resumed.seek(6)
    assert rows(resumed, 7) == whole[3:]
    copied = pickle.loads(pickle.dumps(resumed))
    assert rows(copied, 1) == rows(resumed, 1)
    copied.close()


@pytest.mark.parametrize(("policy", "shares"), [("skip", [[0, 2], [1]]), ("substitute", [[0, 2], [1, 5]])])
def test_ranks_read_their_shares_of_the_batch_of_one_process(make, policy, shares):
    assert sorted(rows(make(policy, batch=4))[0]) == sorted(shares[0] + shares[1])
    for rank, share in enumerate(shares):
        one = make(policy, batch=2)
        one.split(rank, 2)
        assert rows(one) == [share]


def test_a_batch_of_bad_images_alone_cannot_be_skipped(make):
    loader = make("skip", batch=1)
    loader.seek(3)
    with pytest.raises(ValueError, match=r"all 1 images of a batch are bad; the last: .*truncated JPEG"):
        loader.next()


def test_the_first_record_may_be_bad(make, database, folder):
    with LmdbWriter(database.parent / "other") as db:
        db.put(b"0", encode_file(b"", 0))
        db.put(b"1", encode_file(file("png"), 1))
    param = pb.TransformationParameter(bad_image="substitute")
    loader = BatchLoader(database.parent / "other", 2, param, pb.TRAIN)
    assert loader.next()[1].tolist() == [1, 1]
    loader.close()


def test_where_everything_is_bad_it_ends(tmp_path):
    with LmdbWriter(tmp_path / "db") as db:
        db.put(b"%08d" % 0, encode_file(file("png"), 0))
        for i in range(1, IN_A_ROW + 2):
            db.put(b"%08d" % i, encode_file(b"", i))
    loader = BatchLoader(tmp_path / "db", 2, pb.TransformationParameter(bad_image="substitute"), pb.TRAIN)
    with pytest.raises(ValueError, match=f"record b'00000001' is .*; so are the {IN_A_ROW - 1} after it"):
        loader.next()


def test_a_damaged_raw_record_is_bad_and_one_of_another_shape_is_an_error(tmp_path):
    with LmdbWriter(tmp_path / "db") as db:
        db.put(b"0", encode(np.zeros((3, 4, 4), np.uint8), 0))
        db.put(b"1", encode(np.zeros((3, 4, 4), np.uint8), 1)[:-20])
        db.put(b"2", encode(np.zeros((3, 4, 4), np.uint8), 2))
        db.put(b"3", encode(np.zeros((3, 5, 4), np.uint8), 3))
    loader = BatchLoader(tmp_path / "db", 3, pb.TransformationParameter(bad_image="substitute"), pb.TRAIN)
    assert loader.next()[1].tolist() == [0, 2, 2]
    with pytest.raises(ValueError, match="convert them to one size"):
        loader.next()


def test_a_missing_file_is_an_error_whatever_is_asked_for(folder):
    (folder / "5.png").unlink()
    param = pb.TransformationParameter(bad_image="skip")
    loader = ImageLoader(ImageList(folder / "list", f"{folder}/"), 10, param, pb.TRAIN, 0)
    with pytest.raises(FileNotFoundError, match=r"5\.png"):
        loader.next()


@pytest.mark.parametrize(("policy", "count"), [("skip", 7), ("substitute", 8)])
def test_a_window_of_a_bad_image_gives_way_to_the_next_of_its_kind(folder, policy, count):
    lines = []
    for i in (1, 3, 2):
        box = "0 0 3 3\n"
        windows = f"1 1.0 {box}1 1.0 {box}1 0.0 {box}" if i == 3 else f"{i} 1.0 {box}{i} 1.0 {box}0 0.0 {box}"
        lines.append(f"# {i}\n{folder}/{i}.png\n3 6 5\n3\n{windows}")
    (folder / "windows").write_text("".join(lines))
    p = pb.WindowDataParameter(source=str(folder / "windows"), batch_size=8, fg_fraction=0.5)
    transform = pb.TransformationParameter(crop_size=4, bad_image=policy)
    loader = WindowLoader(p, transform, seed=2)
    sizes = []
    for _ in range(6):
        data, label = loader.next()
        assert not (data == 3).any()
        sizes.append(len(label))
        foreground = label > 0
        assert data[foreground, 0, 0, 0].tolist() == label[foreground].tolist()
    loader.close()
    assert loader.bad_images.counts
    assert (set(sizes) == {8}) == (policy == "substitute") and max(sizes) <= 8


def test_an_unknown_policy_is_refused(make):
    with pytest.raises(ValueError, match="bad_image must be one of error, skip, substitute, got 'ignore'"):
        make("ignore")
