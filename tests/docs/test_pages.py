"""docs/pages.py: the pages beside the API are whole."""

import pytest
from pages import ROOT, command_page, layer_page, linked, page_of, pages

from crnn.__main__ import commands
from crnn.layers.base import TYPES


def test_every_command_shows_its_help():
    text = command_page()
    for name in commands():
        assert f"## crnn {name.replace('_', '-')}\n" in text
    assert "## crnn data convert imageset\n" in text and "usage: crnn train" in text


def test_every_layer_type_is_listed_with_its_class():
    text = layer_page()
    for name, cls in TYPES.items():
        assert f"## {name}\n" in text and f"`{cls.__module__}.{cls.__qualname__}`" in text


def test_every_system_has_a_page():
    found = pages()
    for path in ROOT.glob("prototxt_like/**/README.md"):
        assert page_of(path) in found


def test_a_link_to_a_file_becomes_one_to_its_page():
    readme = ROOT / "README.md"
    text = linked(readme, "start", {"start": readme, "contributing": ROOT / "CONTRIBUTING.md"})
    assert "[CONTRIBUTING.md](contributing.html)" in text and "CHANGELOG.md. BSD" in text


def test_a_link_that_leads_nowhere_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr("pages.ROOT", tmp_path)
    page = tmp_path / "README.md"
    page.write_text("See [that](nowhere.md).")
    with pytest.raises(ValueError, match=r"README.md: its link to nowhere.md leads nowhere"):
        linked(page, "start", {"start": page})
