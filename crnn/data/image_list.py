"""The image files that a text file names, as batches. Caffe: src/caffe/layers/image_data_layer.cpp."""

import itertools
import os

import numpy as np

from crnn.data.bad_images import BadImages, Row, good, policy_of, some_left
from crnn.data.datum import BadImage, channels_first, decode_image
from crnn.data.loader import Loader, endless, random_skip
from crnn.data.pieces import Pieces
from crnn.data.transformer import Transformer


class ImageList:
    """Lines `path label`; the path may hold spaces and is appended to `root_folder` as text.

    `size`: (height, width) that every image is resized to.

    Raises OSError where there is no list, ValueError for an empty one or a line without a label.
    """

    def __init__(self, source, root_folder="", size: tuple[int, int] | None = None, color: bool = True):
        self.source, self.root, self.size, self.color = os.fspath(source), root_folder, size, color
        if not os.path.exists(self.source):
            raise FileNotFoundError(f"there is no list {self.source}")
        with open(self.source, encoding="utf-8", errors="surrogateescape") as lines:
            self.lines = [self._parse(n, line.strip()) for n, line in enumerate(lines, 1) if line.strip()]
        if not self.lines:
            raise ValueError(f"{self.source} names no images")

    def _parse(self, number: int, line: str) -> tuple[str, int]:
        name, _, label = line.rpartition(" ")
        try:
            return name.rstrip(), int(label)
        except ValueError:
            raise ValueError(
                f"{self.source}:{number}: {line!r} is not `path label` with a whole label"
            ) from None

    def __len__(self) -> int:
        return len(self.lines)

    def first(self, number: int, policy: str) -> tuple[np.ndarray, int]:
        """Line `number` as `read` gives it, or the next that is good."""
        return good(self.read, number, self.__len__, "substitute" if policy == "skip" else policy).record

    def read(self, i: int) -> tuple[np.ndarray, int]:
        """(pixels uint8 [C, H, W], BGR or grey; label) of line i, resized to `size` if given."""
        name, label = self.lines[i]
        return channels_first(read_image(self.root + name, self.color, self.size)), label


def read_image(path: str, color: bool, size: tuple[int, int] | None = None) -> np.ndarray:
    """uint8 [H, W, 3] BGR or [H, W] of an image file, resized to (height, width) as Caffe does.

    Raises OSError where there is no file, BadImage naming it where it is no image.
    """
    import cv2

    with open(path, "rb") as file:
        content = file.read()
    try:
        image = decode_image(content, color)
    except BadImage as error:
        raise BadImage(f"{path} is {error}; replace it") from None
    return image if size is None else cv2.resize(image, size[::-1])


class ImageLoader(Loader):
    """Batches (data float32 [N, C, h, w], label float32 [N]) of an ImageList, in its order or shuffled.

    With `shuffle` every pass has an order of its own, drawn from `seed` and the pass's number. Images may
    differ in size where crop_size makes them one; without it, those of one batch must agree.
    """

    def __init__(self, images, batch_size, transform_param, phase, seed=None, rand_skip=0, shuffle=False):
        super().__init__(batch_size, seed)
        self.images, self.shuffle = images, shuffle
        self.skip = random_skip(rand_skip, self.seed)
        self.bad_images = BadImages(policy_of(transform_param))
        self._transform = _BySize(transform_param, phase)
        number = next(endless(len(images), shuffle, self.seed, self.skip))
        first, _ = images.first(number, self.bad_images.policy)
        self._bytes = first.size
        self.top_shapes = [(batch_size, *self._transform.of(first.shape).top_shape), (batch_size,)]

    def __len__(self) -> int:
        """The number of images."""
        return len(self.images)

    def _batches(self):
        lines = endless(len(self.images), self.shuffle, self.seed, self.skip + self.position)
        place = self.seed, self.position, self.share
        how = self.batch_size, self.bad_images.policy, self._bytes
        return _batches(self.images, self.share.of(lines), self._transform, *how, *place)


class _BySize:
    """The Transformers of all sizes met."""

    def __init__(self, param, phase):
        self.param, self.phase, self.made = param, phase, {}

    def of(self, shape) -> Transformer:
        if shape not in self.made:
            self.made[shape] = Transformer(self.param, self.phase, shape)
        return self.made[shape]


def _batches(images, lines, transform, batch_size, policy, image_bytes, seed, position, share):
    """(position after it, problems, data, label) of each batch; no method, so that its thread keeps no loader
    alive."""

    def read(number: int) -> Row:
        return good(images.read, number, images.__len__, policy)

    with Pieces(image_bytes) as pieces:
        while True:
            rng = np.random.default_rng([seed, position + share.rank * batch_size])
            numbers = list(itertools.islice(lines, batch_size))
            rows = pieces.each(lambda i, numbers=numbers: read(numbers[i]), batch_size)
            tops, labels = [], []
            for i in some_left(rows):
                image, label = rows[i].record
                tops.append(transform.of(image.shape)(image[None], rng))
                labels.append(label)
            sizes = sorted({top.shape[1:] for top in tops})
            if len(sizes) > 1:
                raise ValueError(
                    f"{images.source}: images of one batch are {sizes[0]} and {sizes[1]}: give new_height "
                    "and new_width, or a crop_size"
                )
            position += share.ranks * batch_size
            problems = tuple(row.problem for row in rows if row.problem)
            yield position, problems, np.concatenate(tops), np.array(labels, np.float32)
