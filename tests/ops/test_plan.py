"""Which positions a direction visits, and what it refuses."""

import pytest

from crnn.ops import ORDERS, LineBreak, plan

# positions of a 2 x 3 map:   0 1 2
#                             3 4 5
VISITS = {
    "right": [0, 1, 2, 3, 4, 5],
    "left": [5, 4, 3, 2, 1, 0],
    "down": [0, 3, 1, 4, 2, 5],
    "up": [5, 2, 4, 1, 3, 0],
    "mirror_left": [2, 1, 0, 5, 4, 3],
    "mirror_up": [3, 0, 4, 1, 5, 2],
}


@pytest.mark.parametrize("name", ORDERS)
def test_order(name):
    assert plan([name], 2, 3, "carry")[0].positions() == VISITS[name]


@pytest.mark.parametrize(
    ("line_break", "value", "gradient"),
    [("carry", True, True), ("carry_value", True, False), ("reset", False, False)],
)
def test_what_crosses_a_line_break(line_break, value, gradient):
    (d,) = plan(["right"], 2, 3, line_break)
    assert (d.value_crosses(3), d.gradient_crosses(3)) == (value, gradient)
    assert d.value_crosses(4) and d.gradient_crosses(4)
    assert not d.value_crosses(0) and not d.gradient_crosses(0)


@pytest.mark.parametrize(
    ("directions", "line_break", "message"),
    [
        (["rigth"], "carry", "unknown direction 'rigth'; known: right, left"),
        ([], "carry", "at least one direction"),
        (["right"], "cary", "unknown line_break 'cary'; known: carry, carry_value, reset"),
    ],
)
def test_unknown_names(directions, line_break, message):
    with pytest.raises(ValueError, match=message):
        plan(directions, 2, 2, line_break)


def test_line_break_by_name_or_value():
    assert plan(["up"], 2, 2, "reset") == plan(["up"], 2, 2, LineBreak.RESET)


@pytest.mark.parametrize("line_break", LineBreak)
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (3, 4), (4, 3)], ids=str)
@pytest.mark.parametrize("order", ORDERS)
def test_pairs_are_the_steps_that_continue(order, shape, line_break):
    (direction,) = plan((order,), *shape, line_break)
    visit = direction.positions()
    continues = [s for s in range(len(visit)) if direction.value_crosses(s)]
    found = [
        (p.now + b * p.stride + i, p.before + b * p.stride + i)
        for p in direction.pairs()
        for b in range(p.batch)
        for i in range(p.run)
    ]
    assert sorted(found) == sorted((visit[s], visit[s - 1]) for s in continues)
    assert direction.starts() == [visit[s] for s in range(len(visit)) if s not in continues]
    assert len(direction.pairs()) <= 2
