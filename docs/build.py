"""Writes the documentation as static pages: python docs/build.py FOLDER (emptied first).

The API comes from the docstrings by pdoc, the rest from docs/pages.py. Needs `pip install "crnn[docs]"`. Ends
with exit code 1 and a list if a link leads nowhere; warnings are errors.
"""

import importlib
import pkgutil
import re
import shutil
import sys
import types
import warnings
from pathlib import Path

import jinja2
import pdoc.doc
import pdoc.render
from links import broken
from pages import pages
from plain import markdown

import crnn

FOLDER = Path(__file__).resolve().parent
APART = (
    "crnn.tools",
    "crnn.benchmarks",
    "crnn.data_tools",
    "crnn.prototxt_like",
    "crnn.testing",
    "crnn.proto.compile",
)


def modules() -> list[str]:
    """The modules of the API; programs are on the page of the commands."""
    found = ["crnn"]
    for module in pkgutil.walk_packages(crnn.__path__, "crnn."):
        private = module.name.rsplit(".", 1)[1].startswith("_")
        if not private and not module.name.startswith(APART):
            found.append(module.name)
    return found


def documents(texts: dict[str, str]) -> dict[str, pdoc.doc.Module]:
    """What pdoc renders, by dotted name: a page of our own is a module with nothing but a docstring."""
    for name in crnn._HOMES:  # names that load on first use, which pdoc does not see
        setattr(crnn, name, getattr(crnn, name))
    found = {name: pdoc.doc.Module(types.ModuleType(name, text)) for name, text in texts.items()}
    api = {name: pdoc.doc.Module(importlib.import_module(name)) for name in modules()}
    for document in api.values():
        forget_inherited(document)
    return {**found, **api}


def forget_inherited(document: pdoc.doc.Namespace) -> None:
    """Lets a method without a docstring have none, rather than that of torch's method it overrides."""
    for member in document.own_members:
        if isinstance(member, pdoc.doc.Class):
            forget_inherited(member)
        elif isinstance(member, pdoc.doc.Function) and not member.obj.__doc__:
            member.docstring = ""


def configure(texts: dict[str, str]) -> None:
    """Sets pdoc's theme, and our reading of docstrings before its own."""
    pdoc.render.configure(docformat="google", template_directory=FOLDER / "theme")
    render = pdoc.render.env.filters["to_markdown"]

    @jinja2.pass_context
    def to_markdown(context, docstring: str) -> str:
        page = context["module"].modulename in texts
        return docstring if page else render(context, markdown(docstring))

    pdoc.render.env.filters["to_markdown"] = to_markdown
    pdoc.render.env.globals["pages"] = titles(texts)


def titles(texts: dict[str, str]) -> dict[str, str]:
    """The first heading of each page of our own."""
    return {name: text.split("\n", 1)[0].lstrip("# ") for name, text in texts.items()}


def shown(html: str) -> str:
    """A page without links to members that it does not show: pdoc links those inherited from torch, too."""
    anchors = set(re.findall(r'id="([^"]+)"', html))
    return re.sub(r'<a href="#([\w.]+)">(.*?)</a>', lambda m: m[0] if m[1] in anchors else m[2], html)


def write(out: Path) -> int:
    """Writes all pages into the folder `out`; returns how many."""
    texts = pages()
    configure(texts)
    every = documents(texts)
    shutil.rmtree(out, ignore_errors=True)
    for name, document in every.items():
        path = out / f"{name.replace('.', '/')}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(shown(pdoc.render.html_module(document, every)), encoding="utf-8")
    (out / "index.html").write_text(
        '<!doctype html><meta http-equiv="refresh" content="0; url=start.html">\n'
    )
    (out / "search.js").write_text(pdoc.render.search_index(every), encoding="utf-8")
    return len(every)


def main() -> int:
    warnings.simplefilter("error")
    (folder,) = sys.argv[1:]
    out = Path(folder)
    count, lost = write(out), broken(out)
    print("\n".join(lost) or f"{count} pages, every link followed: {out / 'index.html'}")
    return bool(lost)


if __name__ == "__main__":
    sys.exit(main())
