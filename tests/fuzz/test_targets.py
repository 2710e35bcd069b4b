"""Damaged and invented files end in ValueError or OSError; `make fuzz` tries a million of them."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import REFUSALS, seeds

SEEDS = seeds()
EXAMPLES = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


@st.composite
def damaged(draw, whole: list[bytes]):
    """A file with bytes changed, runs of it cut out, doubled or put elsewhere, its end cut off."""
    data = bytearray(draw(st.sampled_from(whole)))
    for _ in range(draw(st.integers(1, 6))):
        at, length = draw(st.integers(0, len(data))), draw(st.integers(1, 64))
        match draw(st.sampled_from(("change", "change", "insert", "remove", "double", "cut"))):
            case "change":
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=12))
            case "remove":
                del data[at : at + length]
            case "double":
                data[at:at] = data[at : at + length]
            case "cut":
                del data[at:]
    return bytes(data)


@pytest.mark.parametrize("target", SEEDS, ids=lambda target: target.__name__)
def test_whole_files_are_read(target):
    for whole in SEEDS[target]:
        target(whole)


@pytest.mark.parametrize("target", SEEDS, ids=lambda target: target.__name__)
def test_damaged_files_are_refused_or_read(target):
    @EXAMPLES
    @given(damaged(SEEDS[target]))
    def run(data):
        refused_or_read(target, data)

    run()


@pytest.mark.parametrize("target", SEEDS, ids=lambda target: target.__name__)
def test_any_bytes_are_refused_or_read(target):
    @EXAMPLES
    @given(st.binary(max_size=300))
    def run(data):
        refused_or_read(target, data)

    run()


def refused_or_read(target, data: bytes) -> None:
    try:
        target(data)
    except REFUSALS as refusal:
        assert str(refusal), f"{target.__name__}: a refusal without words"
