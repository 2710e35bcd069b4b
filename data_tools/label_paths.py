"""Label paths: for each record of a database, under its key, the categories of its label, coarse to fine.

Writes an LMDB of Datums of T x 1 x 1 floats, which a second Data layer reads in step with that of the images:
the label's path in TREE (see crnn data tree), the end where paths differ in length, and -1 up to T.

  crnn data paths train_lmdb tree.txt train_paths_lmdb

With --answers the labels are those that a trained net gave (crnn test --tree ... --save FILE), but for the
first --known records: the coarse-labelled data of Guo 2018, section 4.2.
"""

import argparse
from pathlib import Path

import numpy as np

from crnn.data.databases import open_database
from crnn.data.datum import encode, parse
from crnn.data.label_tree import LabelTree, read_tree
from crnn.data.lmdb_writer import LmdbWriter
from crnn.data_tools._convert import run
from crnn.data_tools._progress import watched
from crnn.proto.npz import read_npz


def write(database: Path, tree: LabelTree, out: Path, steps: int | None = None, answers=None) -> int:
    """Writes `out`; the number of records. Raises ValueError naming a record whose label has no path.

    answers: key -> label, for the records that do not have their own.
    """
    sequences = tree.sequences(steps).astype(np.float32)[:, :, None, None]  # [F, T, 1, 1]
    reader, answers = open_database(database), answers or {}
    with LmdbWriter(out) as db:
        for key, value in watched(reader.items(), "paths", len(reader), each=100_000):
            label = answers.get(key.decode("utf-8", "backslashreplace"), parse(value).label)
            if not 0 <= label < tree.leaves:
                raise ValueError(
                    f"{database}: record {key!r} has label {label} without a path: the tree has labels 0 to "
                    f"{tree.leaves - 1}"
                )
            db.put(key, encode(sequences[label], label))
    return len(reader)


def answered(path: Path, known: int) -> dict[str, int]:
    """Key -> the label of the predicted path, for the records from number `known` on.

    Raises ValueError where the file holds no answers of `crnn test --tree`.
    """
    try:
        file = read_npz(path)
        keys, labels = file["keys"].tolist(), file["answers"].tolist()
    except (KeyError, ValueError) as error:  # an .npz of others, an .npy, a part of a file
        raise ValueError(
            f"{path} holds no label paths ({error}): make it by crnn test --all --tree TREE --save {path}"
        ) from None
    if not 0 <= known <= len(keys):
        raise ValueError(f"--known takes 0 to {len(keys):,}, the records of {path}; got {known:,}")
    return dict(zip(keys[known:], labels[known:], strict=True))


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="crnn data paths", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("database", metavar="DB", type=Path, help="the database of labelled images")
    parser.add_argument("tree", metavar="TREE", type=Path, help="the label tree")
    parser.add_argument("out", metavar="OUT", type=Path, help="the LMDB to write; must not exist")
    parser.add_argument("--steps", type=int, metavar="T", help="the net's steps (default: the tree's)")
    parser.add_argument("--answers", type=Path, metavar="FILE", help="labels that a net gave")
    parser.add_argument(
        "--known", type=int, default=0, metavar="N", help="the first N keep theirs (default 0)"
    )
    args = parser.parse_args(argv)
    answers = answered(args.answers, args.known) if args.answers else None
    count = write(args.database, read_tree(args.tree), args.out, args.steps, answers)
    print(f"{args.out}: {count:,} label paths" + (f", {len(answers):,} of them answers" if answers else ""))
    return 0


if __name__ == "__main__":
    run(main)
