"""Results as text: one table a clock, for a terminal or as markdown; and the README's."""

from collections.abc import Sequence

#: clock -> what it says
CLOCKS = {
    "wall": "wall time of an eager call, synchronised (ms)",
    "device": "device time in a CUDA graph, L2 as the call before left it (ms)",
    "cold": "device time in a CUDA graph, L2 overwritten before (ms)",
}
MODES = ("inference", "training forward", "forward+backward")


def number(value: float) -> str:
    """Three digits that matter."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.{1 if value >= 10 else 2 if value >= 1 else 3 if value >= 0.1 else 4}f}"


def names(rows: Sequence[dict]) -> list[str]:
    """The contestants of all rows, in the order in which they first come."""
    return list(dict.fromkeys(name for row in rows for name in row["contestants"]))


class Reasons:
    """Why entries are missing: a letter in the table for each, the sentence below it."""

    def __init__(self):
        self.texts: list[str] = []

    def __call__(self, text: str) -> str:
        if text not in self.texts:
            self.texts.append(text)
        return f"n/a ({self.letter(self.texts.index(text))})"

    def letter(self, index: int) -> str:
        return (chr(ord("a") + index // 26 - 1) if index >= 26 else "") + chr(ord("a") + index % 26)

    def notes(self) -> list[str]:
        return [f"({self.letter(i)}) {text}" for i, text in enumerate(self.texts)]


def cell(row: dict, name: str, clock: str, reasons: Reasons) -> str:
    """A contestant's time: "1.23 (1.20-1.31)" for ours, "2.46 2.00x" for a peer, "n/a (a)"."""
    entry = row["contestants"].get(name)
    if entry is None:
        return ""
    if "na" in entry:
        return reasons(entry["na"])
    times = entry.get(clock)
    if times is None or "na" in times:
        return reasons(times["na"]) if times else ""
    mine = row["contestants"]["crnn"].get(clock)
    best = "*" if name == fastest(row, clock) else ""
    if name == "crnn" or not mine or "na" in mine:
        return f"{number(times['ms'])}{best} ({number(times['p20'])}-{number(times['p80'])})"
    return f"{number(times['ms'])}{best} {times['ms'] / mine['ms']:.2f}x"


def fastest(row: dict, clock: str) -> str | None:
    timed = {n: e[clock]["ms"] for n, e in row["contestants"].items() if "ms" in e.get(clock, {})}
    return min(timed, key=timed.get) if len(timed) > 1 else None


def body(rows: Sequence[dict], clock: str, reasons: Reasons) -> list[list[str]]:
    contestants = names(rows)
    lines = [["shape", "dtype", "mode", *contestants, "floor ms", "of floor", "peak MB", "error"]]
    for row in rows:
        ours = row["contestants"].get("crnn", {})
        times = ours.get(clock, {})
        share = f"{row['floor']['ms'] / times['ms']:.0%}" if "ms" in times else ""
        lines.append(
            [row["name"], row["dtype"], row["mode"]]
            + [cell(row, name, clock, reasons) for name in contestants]
            + [f"{number(row['floor']['ms'])} {row['floor']['limit']}", share]
            + [f"{ours['peak_bytes'] / 2**20:.0f}" if "peak_bytes" in ours else ""]
            + [f"{max(ours['errors'].values()):.0e}" if "errors" in ours else ""]
        )
    return lines


def terminal(lines: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [
        "  ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)).rstrip() for line in lines
    ]
    return "\n".join(padded)


def markdown(lines: list[list[str]]) -> str:
    head, *rest = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([head, "|---" * len(lines[0]) + "|", *rest])


def tables(result: dict, layout) -> str:
    """Every clock's table of every op. layout: `terminal` or `markdown`."""
    rows, parts, reasons = result["rows"], [], Reasons()
    for op in dict.fromkeys(row["op"] for row in rows):
        mine = [row for row in rows if row["op"] == op]
        for clock, text in CLOCKS.items():
            if any(clock in entry for row in mine for entry in row["contestants"].values()):
                parts += [f"{op}: {text}", layout(body(mine, clock, reasons)), ""]
    return "\n".join([*parts, *reasons.notes(), *footnotes(result)])


def footnotes(result: dict) -> list[str]:
    """What the columns mean, the first calls, and what was left out."""
    notes = [
        "* the fastest of its row; 2.00x: ours took half of the peer's time; in brackets p20-p80.",
        "floor: the largest of flop, bytes and chain at the rates measured in this run, and which it is.",
        "error: the largest relative error of output and gradients against float64; at most "
        "three times that of plain torch in the same dtype, or nothing was timed.",
    ]
    first = {}
    for row in result["rows"]:
        for name, entry in row["contestants"].items():
            if "first_call_ms" in entry:
                first.setdefault(name, []).append(entry["first_call_ms"])
    notes += [
        f"first call of {n} (forward and backward): up to {number(max(t))} ms" for n, t in first.items()
    ]
    notes += sorted(
        {f"{n}: {e['note']}" for r in result["rows"] for n, e in r["contestants"].items() if "note" in e}
    )
    if result.get("left_out"):
        notes.append(f"not reached in the time given: {', '.join(result['left_out'])}")
    return notes
