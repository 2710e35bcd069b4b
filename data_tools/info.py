"""What a database holds: records, shapes, labels, first keys, size, and its converter's manifest if any.

Reads every record, but decodes only the first image file.

  crnn data info train_lmdb
"""

import argparse
from collections import Counter

from crnn.data.databases import NAMES, kind, open_database, size
from crnn.data.datum import decode, parse
from crnn.data_tools._convert import run
from crnn.data_tools._manifest import read_manifest
from crnn.data_tools._progress import watched

KEYS = 3  # shown
LABELS = 20  # counted one by one; of more only the extremes are shown


def info(path) -> str:
    """The report. Raises OSError as open_database does, ValueError naming a record that is no Datum."""
    reader = open_database(path)
    kinds, labels, keys = Counter(), Counter(), []
    for key, value in watched(reader.items(), "info", len(reader), each=100_000):
        try:
            datum = parse(value)
        except ValueError as error:
            raise ValueError(f"{path}: record {key!r} is {error}") from error
        kinds["image files" if datum.encoded else f"{datum.channels} x {datum.height} x {datum.width}"] += 1
        labels[datum.label] += 1
        if len(keys) < KEYS:
            keys.append(key.decode(errors="replace"))
    rows = [("records", f"{len(reader):,}"), ("size", f"{size(path):,} bytes, {NAMES[kind(path)]}")]
    rows += [("shape", f"{kind} ({n:,})") for kind, n in kinds.most_common()]
    if kinds["image files"]:
        shape = decode(next(reader.items())[1])[0].shape
        rows.append(("first", " x ".join(map(str, shape))))
    rows += [("labels", _labels(labels)), *(("key", key) for key in keys)]
    rows += _manifest(read_manifest(path))
    return "\n".join([str(path), *(f"  {name:<8} {text}" for name, text in rows)])


def _manifest(manifest: dict | None) -> list[tuple[str, str]]:
    """What its converter said of the database, if it was one of crnn's."""
    if manifest is None:
        return []
    options = ", ".join(f"{name} {value}" for name, value in manifest["options"].items())
    made = f"{manifest['made_by']}, OpenCV {manifest['decoder']['opencv']}, {manifest['decoder']['jpeg']}"
    rows = [("made from", f"{manifest['dataset']}, {manifest['listed']:,} inputs"), ("made by", made)]
    rows += [("options", options)]
    if manifest["official"]:
        rows.append(("official", f"{manifest['official']:,} records"))
    if manifest["mean"]:
        rows.append(("mean", manifest["mean"]))
    for name, what in manifest["inputs"].items():
        rows.append(("input", ", ".join([name, *(f"{key} {value}" for key, value in what.items())])))
    for name in ("skipped", "oddities"):
        found = manifest[name]
        rows += [(name, f"{len(found):,}")] if found else []
        rows += [("", text if name == "skipped" else f"{file}: {text}") for _, file, text in found[:LABELS]]
    return rows


def _labels(labels: Counter) -> str:
    if len(labels) <= LABELS:
        return ", ".join(f"{label}: {n:,}" for label, n in sorted(labels.items()))
    counts = labels.values()
    return f"{len(labels):,}, {min(labels)} to {max(labels)}; {min(counts):,} to {max(counts):,} records each"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="crnn data info", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("databases", metavar="DB", nargs="+", help="folder of a database")
    for path in parser.parse_args(argv).databases:
        print(info(path))
    return 0


if __name__ == "__main__":
    run(main)
