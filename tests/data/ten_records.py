"""Small databases, written as the converters write them."""

from crnn.data.lmdb_writer import LmdbWriter
from crnn.proto import pb

PLAIN = pb.TransformationParameter()


def write(path, values) -> None:
    with LmdbWriter(path) as db:
        for i, value in enumerate(values):
            db.put(b"%08d_x" % i, value)
