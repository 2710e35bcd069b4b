"""The links of a folder of static pages, followed."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag


class Page(HTMLParser):
    """links: the targets of href and src.    anchors: the names that a link may lead to."""

    def __init__(self, path: Path):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("id", "name"):
                self.anchors.add(value)
            elif name in ("href", "src") and not (value or "").startswith(("http:", "https:", "data:")):
                self.links.append(value)


def broken(folder: Path) -> list[str]:
    """A sentence for each link that leads to no file, or to no anchor of its page."""
    pages = {path.resolve(): Page(path) for path in sorted(folder.rglob("*.html"))}
    lost = []
    for path, page in pages.items():
        for link in page.links:
            file, anchor = urldefrag(link)
            target = (path.parent / unquote(file)).resolve() if file else path
            if not target.is_file():
                lost.append(f"{path.relative_to(folder.resolve())}: no file {link}")
            elif anchor and target in pages and unquote(anchor) not in pages[target].anchors:
                lost.append(f"{path.relative_to(folder.resolve())}: no anchor {link}")
    return lost
