"""docs/links.py: a link that leads nowhere is found."""

import pytest
from links import broken


@pytest.fixture
def site(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "deep.html").write_text('<h1 id="top">deep</h1><a href="../index.html">up</a>')
    return tmp_path


def test_links_to_files_anchors_and_elsewhere_are_good(site):
    (site / "index.html").write_text(
        '<a id="here" href="a/deep.html#top"></a><a href="#here"></a><a href="https://example.org/x"></a>'
    )
    assert broken(site) == []


def test_a_missing_file_and_a_missing_anchor_are_told(site):
    (site / "index.html").write_text(
        '<a href="b.html"></a><a href="a/deep.html#bottom"></a><img src="c.png">'
    )
    assert broken(site) == [
        "index.html: no file b.html",
        "index.html: no anchor a/deep.html#bottom",
        "index.html: no file c.png",
    ]
