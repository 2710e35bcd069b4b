"""The parts of README.md that programs write, each between two comments that name it."""

import re
from pathlib import Path


def put(path: Path, part: str, text: str) -> None:
    """Puts text between `<!-- part -->` and `<!-- /part -->`. ValueError: path has neither."""
    whole = path.read_text(encoding="utf-8")
    marks = re.compile(rf"(<!-- {part} -->\n).*?(<!-- /{part} -->)", re.DOTALL)
    if not marks.search(whole):
        raise ValueError(f"{path} has no place for {part!r}: <!-- {part} --> and <!-- /{part} -->")
    path.write_text(marks.sub(lambda match: f"{match[1]}{text}\n{match[2]}", whole), encoding="utf-8")
