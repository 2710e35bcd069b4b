"""Label trees: the categories above each class, for nets that say a label a level.

  crnn data tree wordnet wordnet.is_a.txt synset_words.txt TREE    ImageNet: label = line, WordNet above it
  crnn data tree imagenet2010 DEVKIT TREE                          143 coarse, 387 fine (Ristin 2015)
  crnn data tree cifar100 DOWNLOADS TREE                           20 coarse, 100 fine
  crnn data tree text INDENTED TREE                                any text whose indentation is the tree

TREE is a text file, a line a node, indented by depth, a class's label after a tab; the first line is the
root, which is in no path. WordNet is no tree: of several ways up from a node the shortest
counts, of equal ones the one through the first id. DEVKIT is ILSVRC2010's meta.mat; kept are the inner nodes
with two or more children, all of them leaves that have no other parent; labels are in the order of the ids.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np

from crnn.data.label_tree import LabelTree, from_parents, read_tree
from crnn.data_tools import _cifar, _official
from crnn.data_tools._convert import run
from crnn.data_tools._matfile import read_variable


def wordnet(is_a: Path, synsets: Path, words: Path | None = None) -> LabelTree:
    """The tree of wordnet.is_a.txt (lines `parent child`) above the classes of synsets (`id name`).

    words: words.txt (`id<tab>name`), for the names of the inner nodes.
    """
    above: dict[str, list[str]] = defaultdict(list)
    for number, line in enumerate(_official.lines(is_a.read_bytes()), 1):
        pair = line.split()
        if len(pair) != 2:
            raise ValueError(f"{is_a}:{number}: {line!r} is not `parent child`")
        above[pair[1]].append(pair[0])
    rows = [line.partition(" ") for line in _official.lines(synsets.read_bytes())]
    names = {wnid: _first(name) for wnid, _, name in rows if name}
    if words:
        known = (line.partition("\t") for line in _official.lines(words.read_bytes()))
        names = {wnid: _first(name) for wnid, _, name in known} | names
    return from_parents(_shortest(above), [wnid for wnid, _, _ in rows], names)


def _first(words: str) -> str:
    """`tench` of `tench, Tinca tinca`."""
    return words.partition(",")[0].strip()


def _shortest(above: dict[str, list[str]]) -> dict[str, str]:
    """Node -> the parent by which it is nearest to a root; what no root is above keeps its first parent."""
    below: dict[str, list[str]] = defaultdict(list)
    for child, parents in above.items():
        for parent in parents:
            below[parent].append(child)
    chosen, level = {}, sorted(below.keys() - above.keys())
    while level:
        found: dict[str, str] = {}
        for node in level:
            for child in below.get(node, ()):
                if child not in chosen:
                    found[child] = min(node, found.get(child, node))
        chosen |= found
        level = sorted(found)
    return {child: min(parents) for child, parents in above.items()} | chosen


def imagenet2010(meta: Path) -> LabelTree:
    """The subset of Ristin 2015 by the rule above, of ILSVRC2010's meta.mat. Raises ValueError."""
    children, names, _ = read_meta(meta.read_bytes(), str(meta))
    return ristin(children, names)


def read_meta(data: bytes, where: str) -> tuple[dict[str, list[str]], dict[str, str], dict[int, str]]:
    """Of ILSVRC2010's meta.mat: WordNet id -> those below it, id -> name, ILSVRC2010_ID -> id."""
    try:
        rows = read_variable(data, "synsets")
        wnid = {int(row["ILSVRC2010_ID"].item()): row["WNID"] for row in rows}
        names = {row["WNID"]: _first(row["words"]) for row in rows}
        children = {
            row["WNID"]: [wnid[int(i)] for i in np.ravel(row["children"])]
            for row in rows
            if row["num_children"].item()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{where} is not ILSVRC2010's meta.mat: {error}") from None
    return children, names, wnid


def ristin(children: dict[str, list[str]], names: dict[str, str]) -> LabelTree:
    """Inner nodes with two or more children, all of them leaves without another parent."""
    parents: dict[str, list[str]] = defaultdict(list)
    for node, below in children.items():
        for child in below:
            parents[child].append(node)

    def kept(below: list[str]) -> bool:
        return len(below) > 1 and all(child not in children and len(parents[child]) == 1 for child in below)

    coarse = [node for node in children if kept(children[node])]
    fine = sorted(child for node in coarse for child in children[node])
    above = {child: parents[child][0] for child in fine} | dict.fromkeys(coarse, "imagenet2010")
    return from_parents(above, fine, names)


def cifar100(args: argparse.Namespace) -> LabelTree:
    """CIFAR-100's two levels, read from its training labels. `args.source`: the folder of the download."""
    folder, classes = "cifar-100-binary", [20, 100]
    files = _cifar.find(args, "cifar-100", folder)
    coarse, fine = (_cifar.names(files, f"{folder}/{level}_label_names.txt") for level in ("coarse", "fine"))
    _, labels = _cifar.load(files, f"{folder}/train.bin", classes)
    above = {fine[f]: coarse[c] for c, f in sorted(set(map(tuple, labels.tolist())), reverse=True)}
    return from_parents(above | dict.fromkeys(coarse, "cifar100"), fine)


def main(argv: list[str]) -> int:
    args = _parser().parse_args(argv)
    args.work = args.tree.parent / ".unpacked"
    makers = {
        "wordnet": lambda: wordnet(args.is_a, args.synsets, args.words),
        "imagenet2010": lambda: imagenet2010(args.meta),
        "cifar100": lambda: cifar100(args),
        "text": lambda: read_tree(args.text),
    }
    tree = makers[args.source_kind]()
    args.tree.parent.mkdir(parents=True, exist_ok=True)
    args.tree.write_text(tree.text(), encoding="utf-8")
    depths = sorted(set(tree.depths))
    depth = f"{depths[0]}" if len(depths) == 1 else f"{depths[0]} to {depths[-1]}, and an end"
    print(
        f"{args.tree}: {tree.leaves:,} labels, {tree.inner:,} categories above them, depth {depth}: "
        f"{tree.categories:,} categories in all, {tree.steps} steps"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="crnn data tree", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="source_kind", required=True, metavar="SOURCE")
    for kind, inputs in {
        "wordnet": ("is_a", "synsets"),
        "imagenet2010": ("meta",),
        "cifar100": ("source",),
        "text": ("text",),
    }.items():
        one = kinds.add_parser(kind, prog=f"crnn data tree {kind}")
        for name in (*inputs, "tree"):
            one.add_argument(name, metavar=name.upper(), type=Path)
        if kind == "wordnet":
            one.add_argument("--words", type=Path, metavar="FILE", help="words.txt: names of the inner nodes")
    return parser


if __name__ == "__main__":
    run(main)
