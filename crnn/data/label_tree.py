"""Label trees: the categories above each class, in one vocabulary, as sequences from coarse to fine.

A tree is a text file: a line a node, indented by its depth; a class (a leaf) has its label after a tab.

    cifar100
      aquatic_mammals
        beaver	4
        dolphin	30
      fish
        flatfish	32

The first line is the root, which is in no path. Without any labels the leaves are numbered as they stand. `#`
begins a comment line. Guo 2018, section 3.2: the C inner nodes and F leaves are C + F super categories.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

PADDING = -1  # after a path's end; the loss ignores it
ROOT = -1


@dataclass(frozen=True)
class LabelTree:
    """Categories 0 .. C-1 are inner nodes in the file's order, C + label is a leaf. Where paths differ in
    length one more category, `end`, comes after each.

    names: of all but the end.    parents: of these, ROOT for the highest.    leaves: their number.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    leaves: int
    root: str = "root"

    @property
    def inner(self) -> int:
        """C, the number of inner nodes; the category of label 0."""
        return len(self.names) - self.leaves

    @property
    def end(self) -> int | None:
        """The category that ends a path, None where all paths have one length."""
        return len(self.names) if len(set(self.depths)) > 1 else None

    @property
    def categories(self) -> int:
        return len(self.names) + (self.end is not None)

    @cached_property
    def depths(self) -> list[int]:
        """Of each label's path, without the end."""
        return [len(self.path(label)) for label in range(self.leaves)]

    @property
    def steps(self) -> int:
        """Of the longest sequence, with the end."""
        return max(self.depths) + (self.end is not None)

    def path(self, label: int) -> list[int]:
        """The categories of a label, coarse to fine. Raises ValueError for a label without a path."""
        if not 0 <= label < self.leaves:
            raise ValueError(f"label {label} has no path: the tree has labels 0 to {self.leaves - 1}")
        path, node = [], self.inner + label
        while node != ROOT:
            path.append(node)
            node = self.parents[node]
        return path[::-1]

    def sequences(self, steps: int | None = None) -> np.ndarray:
        """int64 [F, T], each label's path, the end if there is one, PADDING.

        Raises ValueError if the longest does not fit into `steps`.
        """
        steps = self.steps if steps is None else steps
        if self.steps > steps:
            label = self.depths.index(max(self.depths))
            more = " and an end" if self.end is not None else ""
            raise ValueError(
                f"the path of {self.name(self.inner + label)!r} has {max(self.depths)} labels{more}, "
                f"the net {steps} steps"
            )
        out = np.full((self.leaves, steps), PADDING, np.int64)
        for label in range(self.leaves):
            path = self.path(label) + ([] if self.end is None else [self.end])
            out[label, : len(path)] = path
        return out

    @cached_property
    def follows(self) -> np.ndarray:
        """bool [V + 1, V], which categories may come after each; the last row is of the start.

        After a leaf comes the end, if there is one, and after the end nothing but itself.
        """
        V = self.categories
        allowed = np.zeros((V + 1, V), bool)
        for node, parent in enumerate(self.parents):
            allowed[parent, node] = True  # ROOT is the last row
        if self.end is not None:
            allowed[self.inner : V, self.end] = True
        return allowed

    def name(self, category: int) -> str:
        return "end" if category == self.end else self.names[category]

    def text(self) -> str:
        """The file's content."""
        children: dict[int, list[int]] = {}
        for node, parent in enumerate(self.parents):
            children.setdefault(parent, []).append(node)
        lines, todo = [self.root], [(node, 1) for node in reversed(children.get(ROOT, []))]
        while todo:
            node, depth = todo.pop()
            label = f"\t{node - self.inner}" if node >= self.inner else ""
            lines.append(f"{'  ' * depth}{self.names[node]}{label}")
            todo += [(child, depth + 1) for child in reversed(children.get(node, []))]
        return "".join(f"{line}\n" for line in lines)


def read_tree(path: str | os.PathLike) -> LabelTree:
    """Raises OSError, or ValueError naming the line that is wrong."""
    with open(path, encoding="utf-8-sig") as file:
        return parse_tree(file, str(path))


def parse_tree(lines: Iterable[str], where: str = "the tree") -> LabelTree:
    """The tree of an indented text. Raises ValueError naming `where` and the line that is wrong."""
    rows: list[tuple[str, int, str, int]] = []  # name, the parent's place among the rows, label, line
    above: list[tuple[int, int]] = []  # (indentation, place) of the line before and of what it is below
    for number, line in enumerate(lines, 1):
        text = line.expandtabs(8)
        if not text.strip() or text.lstrip().startswith("#"):
            continue
        name, _, label = line.strip().partition("\t")
        indent, left = len(text) - len(text.lstrip()), False
        while above and above[-1][0] > indent:
            above.pop()
            left = True
        if above and above[-1][0] == indent:
            above.pop()
        elif left and above:
            raise ValueError(f"{where}:{number}: {name!r} is indented as no line above it: align it with one")
        if rows and not above:
            raise ValueError(
                f"{where}:{number}: {name!r} is a second root beside {rows[0][0]!r}: indent both below one"
            )
        above.append((indent, len(rows)))
        rows.append((name.strip(), above[-2][1] if len(above) > 1 else ROOT, label.strip(), number))
    if len(rows) < 2:
        raise ValueError(f"{where} has no labels: it needs a root and indented below it a line a category")
    return _tree(rows, where)


def _tree(rows: list[tuple[str, int, str, int]], where: str) -> LabelTree:
    inside = {parent for _, parent, _, _ in rows}
    leaves = [place for place in range(1, len(rows)) if place not in inside]
    labels = _labels([(rows[place], place) for place in leaves], where)
    for name, _, label, number in (rows[place] for place in sorted(inside - {ROOT})):
        if label:
            raise ValueError(
                f"{where}:{number}: {name!r} has label {label} and lines below it: only leaves have"
            )
    order = [place for place in range(1, len(rows)) if place in inside] + labels
    category = {place: i for i, place in enumerate(order)} | {0: ROOT}
    seen: set[tuple[int, str]] = set()
    for name, parent, _, number in rows:
        if (parent, name) in seen:
            raise ValueError(f"{where}:{number}: {name!r} stands twice below {rows[parent][0]!r}")
        seen.add((parent, name))
    names = tuple(rows[place][0] for place in order)
    return LabelTree(names, tuple(category[rows[place][1]] for place in order), len(leaves), rows[0][0])


def _labels(leaves: list, where: str) -> list[int]:
    """The leaves' places in the order of their labels."""
    given: dict[int, int] = {}
    for (name, _, text, number), place in leaves:
        if not text and not given:
            continue
        label = int(text) if text.isdecimal() else -1
        if not 0 <= label < len(leaves) or label in given:
            wanted = f"one of 0 to {len(leaves) - 1}, each once, after a tab (or give no leaf a label)"
            raise ValueError(f"{where}:{number}: {name!r} has label {text!r}, wanted {wanted}")
        given[label] = place
    if given and len(given) < len(leaves):
        name = next(row[0] for row, place in leaves if place not in given.values())
        raise ValueError(f"{where}: {name!r} has no label, others have: give all or none")
    return [given[label] for label in sorted(given)] or [place for _, place in leaves]


def from_parents(
    parent: Mapping[str, str], leaves: Sequence[str], names: Mapping[str, str] | None = None
) -> LabelTree:
    """The tree of `leaves`, in the order of their labels, and of what is above them.

    parent: id -> the id above it; the root has none.    names: id -> what it is called.

    Raises ValueError for a cycle, two roots, or a leaf that is not below another or above one.
    """
    names, chains = names or {}, {}
    for leaf in leaves:
        chain = [leaf]
        while chain[-1] in parent:
            above = parent[chain[-1]]
            if above in chain:
                raise ValueError(f"a cycle: {' -> '.join([*chain[chain.index(above) :], above])}")
            chain.append(above)
        chains[leaf] = chain
    tops = list(dict.fromkeys(chain[-1] for chain in chains.values()))
    lone = [leaf for leaf, chain in chains.items() if len(chain) == 1]
    if lone:
        raise ValueError(f"label {lone[0]!r} has no path: nothing is above it")
    if len(tops) != 1:
        raise ValueError(
            f"two roots, {tops[0]!r} and {tops[1]!r}: put one above both" if tops else "no labels"
        )
    inner = sorted({node for chain in chains.values() for node in chain[1:-1]})
    if both := set(inner) & set(leaves):
        raise ValueError(f"label {min(both)!r} is above other labels: only leaves can be labels")
    order = [*inner, *leaves]
    category = {node: i for i, node in enumerate(order)} | {tops[0]: ROOT}
    called = tuple(names.get(node, node) for node in order)
    return LabelTree(
        called, tuple(category[parent[node]] for node in order), len(leaves), names.get(tops[0], tops[0])
    )
