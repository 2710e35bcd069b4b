"""The pages beside the API: every command's --help, every layer type, the Markdown files."""

import contextlib
import inspect
import io
import os
import re
from pathlib import Path

from plain import markdown

from crnn import layers
from crnn.__main__ import commands, main
from crnn.tools import data

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[([^\]]+)\]\((?!https?:|#)([^)\s]+)\)")


def pages() -> dict[str, str]:
    """Markdown by the dotted name of its page: `systems.crnn` becomes systems/crnn.html."""
    written = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("prototxt_like/**/README.md")]
    files = {page_of(path): path for path in written}
    texts = {name: linked(path, name, files) for name, path in files.items()}
    return {**texts, "commands": command_page(), "layers": layer_page()}


def page_of(path: Path) -> str:
    """README.md -> start, prototxt_like/crnn/README.md -> systems.crnn."""
    parts = path.relative_to(ROOT).parts
    if parts[0] == "prototxt_like":
        return ".".join(["systems", *parts[1:-1]])
    return "start" if path.stem == "README" else path.stem.lower()


def linked(path: Path, name: str, files: dict[str, Path]) -> str:
    """A file's Markdown, its links turned to the files' pages; ValueError for one that leads nowhere."""
    by_path = {known: page for page, known in files.items()}

    def page(match: re.Match) -> str:
        text, target = match[1], (path.parent / match[2]).resolve()
        target = target / "README.md" if target.is_dir() else target
        if not target.exists():
            raise ValueError(f"{path.relative_to(ROOT)}: its link to {match[2]} leads nowhere")
        if target not in by_path:  # a file of the source tree without a page
            return text
        return f"[{text}]({'../' * name.count('.')}{by_path[target].replace('.', '/')}.html)"

    return LINK.sub(page, path.read_text(encoding="utf-8"))


def command_page() -> str:
    """Every command's --help text."""
    shown = {"crnn": help_of()}
    for name in commands():
        command = name.replace("_", "-")
        shown[f"crnn {command}"] = text = help_of(command)
        for word in subcommands(text):
            shown[f"crnn {command} {word}"] = help_of(command, word)
        if name == "data":
            for word in data.PROGRAMS:
                shown[f"crnn data {word}"] = help_of("data", word)
            for word in sorted(data.datasets()):
                shown[f"crnn data convert {word}"] = help_of("data", "convert", word)
    sections = [f"## {command}\n\n```text\n{text}\n```" for command, text in shown.items()]
    return "\n\n".join(["# Command line", *sections])


def subcommands(text: str) -> list[str]:
    """Those that argparse names in a usage line: `{list,run,report} ...`."""
    found = re.search(r"\{([\w,-]+)\}\s+\.\.\.", text)
    return found[1].split(",") if found else []


def help_of(*words: str) -> str:
    """What `crnn WORDS --help` prints."""
    shown = io.StringIO()
    os.environ["COLUMNS"] = "90"
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):  # argparse exits
        main([*words, "--help"])
    if not shown.getvalue().strip():
        raise ValueError(f"crnn {' '.join(words)} --help prints nothing")
    return shown.getvalue().strip()


def layer_page() -> str:
    """Every registered layer type with its docstring, and a link to its class."""
    sections = []
    for name, cls in sorted(layers.base.TYPES.items()):
        where = f"`{cls.__module__}.{cls.__qualname__}`"
        counts = f"Bottoms: {count(cls.bottoms)}. Tops: {count(cls.tops)}."
        about = markdown(inspect.getdoc(cls) if cls.__doc__ else "")
        sections.append(f"## {name}\n\n{about}\n\n{counts} {where}")
    lead = "What may stand after `type:` in a prototxt. Parameters: `crnn/proto/caffe.proto`."
    return "\n\n".join(["# Layers", lead, *sections])


def count(limits: tuple[int, int | None]) -> str:
    least, most = limits
    return f"{least} or more" if most is None else str(least) if least == most else f"{least} to {most}"
