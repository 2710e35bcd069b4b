"""docs/plain.py: what the docstrings say is what the pages show."""

import pytest
from plain import markdown


@pytest.mark.parametrize(
    "text, shown",
    [
        ("W_hh [K, G*D, D], b [K, G*D]", r"W_hh [K, G\*D, D], b [K, G\*D]"),
        ("<prefix>.jsonl, h < 1", "&lt;prefix>.jsonl, h &lt; 1"),
        ("`a * b < c` stays code, a * b does not", r"`a * b < c` stays code, a \* b does not"),
    ],
)
def test_formulas_are_not_markup(text, shown):
    assert markdown(text) == shown


def test_a_wrapped_paragraph_stays_one():
    assert markdown("One sentence over\ntwo lines.") == "One sentence over\ntwo lines."


def test_each_label_has_a_line_of_its_own():
    text = "bottom[0]: [N, C].    top[0], top[1]: a scalar.\nblobs:     W [D, C],\n           b [D]."
    assert markdown(text).split("  \n") == [
        "**bottom[0]:** [N, C].",
        "**top[0], top[1]:** a scalar.",
        "**blobs:** W [D, C],\nb [D].",
    ]


def test_a_table_of_names_has_a_line_a_name():
    assert markdown("blobs    by name\nparams   in order") == "**blobs** by name  \n**params** in order"


def test_an_indented_block_stays_code():
    text = "As in\n\n    net = Net(*paths)  # a < b\n\nand so on."
    assert markdown(text) == text


def test_a_section_keeps_its_form():
    text = "Args:\n    z: [P, G*D] inputs,\n        any strides.\n    out: where."
    assert markdown(text) == text.replace("*", r"\*")
