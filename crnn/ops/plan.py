"""Scan plans: the order in which a recurrence visits the positions of a map, as integers.

A direction is six integers (`Direction`), so a new order is a row of a table, never a new kernel.
Positions are numbered row by row: position = i * W + j.
"""

from collections.abc import Sequence
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple


class LineBreak(IntEnum):
    """What the first step of a line inherits from the line before. As in csrc/core/plan.h."""

    CARRY = 0  # value and gradient: the map is one sequence of H*W steps
    CARRY_VALUE = 1  # the value only: BPTT over one line (Zuo 2015, section 3.2.3)
    RESET = 2  # nothing: every row or column is a sequence of its own (Xie 2016)


#: A table, as torch 2.10 cannot compile the look-up of an enum's member by name.
LINE_BREAKS = {b.name.lower(): b for b in LineBreak}


class Pairs(NamedTuple):
    """Where positions now + b * stride + i follow before + b * stride + i, for all b < batch and i < run."""

    now: int
    before: int
    run: int
    batch: int
    stride: int


def _blocks(first: int, shift: int, *grid: tuple[int, int]) -> list[Pairs]:
    """The pairs (p, p - shift) of p = first + sum of i * stride over a grid of one or two (count, stride)."""
    first += sum((count - 1) * stride for count, stride in grid if stride < 0)
    axes = sorted((abs(stride), count) for count, stride in grid if count > 1)
    run, batch, far = 1, 1, 0
    while axes and axes[0][0] == run:  # neighbours, and whole runs that are neighbours
        run *= axes.pop(0)[1]
    if axes:
        far, batch = axes.pop()
    near, count = axes.pop() if axes else (0, 1)
    starts = [first + i * near for i in range(count)]
    return [Pairs(start, start - shift, run, batch, far) for start in starts]


class Direction(NamedTuple):
    """position(s) = origin + (s // length) * line_stride + (s % length) * step_stride."""

    origin: int
    length: int
    step_stride: int
    lines: int
    line_stride: int
    line_break: LineBreak

    def positions(self) -> list[int]:
        """The positions in the order of the visit."""
        return [
            self.origin + line * self.line_stride + step * self.step_stride
            for line in range(self.lines)
            for step in range(self.length)
        ]

    def value_crosses(self, s: int) -> bool:
        """Whether step s continues from step s - 1; if not, it starts anew."""
        return s > 0 and (s % self.length != 0 or self.line_break != LineBreak.RESET)

    def gradient_crosses(self, s: int) -> bool:
        return s > 0 and (s % self.length != 0 or self.line_break == LineBreak.CARRY)

    def pairs(self) -> list[Pairs]:
        """Every step that continues from the one before it, in as few blocks as straight lines allow."""
        lines, length, across, along = self.lines, self.length, self.line_stride, self.step_stride
        jump = across - (length - 1) * along  # from a line's last position to the next line's first
        crosses = self.line_break != LineBreak.RESET and lines > 1
        if crosses and jump == along:  # one raster
            return _blocks(self.origin + along, along, (lines * length - 1, along))
        found = []
        if length > 1:
            found += _blocks(self.origin + along, along, (length - 1, along), (lines, across))
        if crosses:
            found += _blocks(self.origin + across, jump, (lines - 1, across))
        return found

    def starts(self) -> list[int]:
        """The positions that continue from none."""
        lines = self.lines if self.line_break == LineBreak.RESET else 1
        return [self.origin + line * self.line_stride for line in range(lines)]


#: name -> (origin, length, step_stride, lines, line_stride) on an H x W map. `left` and `up` are `right` and
#: `down` backwards; the mirrored ones keep the order of the lines and turn each line round.
ORDERS = {
    "right": lambda H, W: (0, W, 1, H, W),
    "left": lambda H, W: (H * W - 1, W, -1, H, -W),
    "down": lambda H, W: (0, H, W, W, 1),
    "up": lambda H, W: (H * W - 1, H, -W, W, -1),
    "mirror_left": lambda H, W: (W - 1, W, -1, H, W),
    "mirror_up": lambda H, W: ((H - 1) * W, H, -W, W, 1),
}

#: where an L-RNN is inserted -> the directions of each of its bidirectional RNNs, in their order.
CASCADES = {
    "horizontal": (("right", "left"),),
    "vertical": (("down", "up"),),
    "both": (("right", "left"), ("down", "up")),
}


def plan(directions: Sequence[str], H: int, W: int, line_break: LineBreak | str) -> list[Direction]:
    """The plan of the named directions over an H x W map; a sequence of T steps is ("right",) over 1 x T.

    Raises:
        ValueError: a direction or line break that is not known, or no direction at all.
    """
    if isinstance(line_break, str):
        if line_break.lower() not in LINE_BREAKS:
            raise ValueError(f"unknown line_break {line_break!r}; known: {', '.join(LINE_BREAKS)}")
        line_break = LINE_BREAKS[line_break.lower()]
    if not directions:
        raise ValueError(f"a scan needs at least one direction; known: {', '.join(ORDERS)}")
    unknown = [d for d in directions if d not in ORDERS]
    if unknown:
        raise ValueError(f"unknown direction {unknown[0]!r}; known: {', '.join(ORDERS)}")
    return [Direction(*ORDERS[d](H, W), line_break) for d in directions]


class Plan(tuple):
    """Directions that are asked for again and again, and their integers as the ops take them."""

    flat: list[int]


@lru_cache(maxsize=1024)
def kept_plan(directions: tuple[str, ...], H: int, W: int, line_break: LineBreak | str) -> Plan:
    """`plan`, made once: for eager mode (torch.compile traces `plan` itself, once)."""
    kept = Plan(plan(directions, H, W, line_break))
    kept.flat = [int(v) for d in kept for v in d]
    return kept


def flat(plan: Sequence[Direction]) -> list[int]:
    """The integers of all directions, one after another."""
    return plan.flat if isinstance(plan, Plan) else [int(v) for d in plan for v in d]
