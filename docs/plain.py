"""The house's docstrings, plain text with Google's sections, as Markdown that shows them as meant."""

import re

WORD = r"\w[\w.\[\]…]*"
LABEL = re.compile(
    rf"({WORD}(?:, {WORD})*(?: \([\w ]+\))?:|\w+(?= {{2,}}))\s+(?=\S)"
)  # "top[0]: ", "params   "
COLUMNS = re.compile(rf"(?<=\S) {{3,}}(?={WORD}(?:, {WORD})*(?: \([\w ]+\))?: )")
SECTION = re.compile(r"(Args|Returns|Raises):\n")
CODE = re.compile(r"(`+[^`]+`+)")


def markdown(text: str) -> str:
    """`text` with nothing in it that Markdown would misread, and each label on a line of its own.

    Blocks that are indented by four stay as they are: to Markdown, too, they are code.
    """
    return "\n\n".join(_paragraph(paragraph) for paragraph in re.split(r"\n\s*\n", text))


def _paragraph(text: str) -> str:
    if all(line.startswith("    ") for line in text.split("\n")):
        return text
    if SECTION.match(text):
        return escape(text)
    lines = []
    for line in COLUMNS.sub("\n", text).split("\n"):
        label = LABEL.match(line)
        if label:
            lines.append(f"**{escape(label[1])}** {escape(line[label.end() :])}")
        elif lines:
            lines[-1] += f"\n{escape(line.strip())}"
        else:
            lines.append(escape(line))
    return "  \n".join(lines)  # two spaces: a line break


def escape(text: str) -> str:
    """`text` with * and < taken literally, but for its `code`."""
    parts = CODE.split(text)
    parts[::2] = [part.replace("*", r"\*").replace("<", "&lt;") for part in parts[::2]]
    return "".join(parts)
