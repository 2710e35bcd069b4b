"""The page as a reader's browser meets it: whole, self-contained, escaped, the same for equal input."""

import base64
import copy
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.image import imread

from crnn import report
from crnn.report import Curve, Difference, Layer, Mistake, NetResult, Panel, Report, Sight, plots, sight
from crnn.report.page import duration

VOID = {"meta", "img", "br", "link", "hr", "input"}
EVIL = '--><script>alert("x")</script> & $x_1$'


class Checked(HTMLParser):
    """Every element closes; all attributes and the text are kept."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.attributes, self.tags, self.text = [], [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attributes]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attributes]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def net(name: str, right: float) -> NetResult:
    rng = np.random.default_rng(0)
    return NetResult(
        name=name,
        about="one layer",
        accuracy={"1 view": right - 0.01, "10 views": right},
        confusion=np.array([[8, 2, 0], [1, 9, 0], [0, 0, 0]]),
        per_class=np.array([0.8, 0.9, np.nan]),
        loss=Curve([0, 10, 20], [2.3, 1.0, 0.5]),
        test_loss=Curve([0, 20], [2.3, 0.6]),
        test_accuracy=Curve([0, 20], [0.1, right]),
        images_per_second=Curve([0, 10, 20], [900.0, 1000.0, 950.0]),
        mistakes=[
            Mistake(rng.integers(0, 256, (28, 28), np.uint8), "00000007_a", 0, 1, 0.991),
            Mistake(rng.integers(0, 256, (28, 28, 3), np.uint8), "00000009_b", 1, 0, 0.5),
        ],
        layers=[Layer("conv1", "Convolution", (32, 24, 24), 288), Layer("loss", "SoftmaxWithLoss", (), 0)],
        solver="base_lr: 0.1\n",
    )


def seen(shape: tuple[int, ...], layer: str | None = "rnn") -> Sight:
    rng = np.random.default_rng(1)
    panels = [Panel("class score", rng.random(shape[:2]))]
    for name in ("right", "up", "sum") if layer else ():
        panels.append(Panel(name, rng.random(shape[:2]), rng.random((3, 2)), 0.25))
    of_rnn = {"layer": layer, "line_break": "carry", "region": (1, 0), "window": (4, 0, 20, 12)}
    return Sight(
        rng.integers(0, 256, shape, np.uint8), "a.jpg", "coat\nbag", panels, **(of_rnn if layer else {})
    )


@pytest.fixture
def example() -> Report:
    return Report(
        title="Two nets",
        summary="On few images.",
        classes=["coat", "shirt", "bag"],
        nets=[net("crnn", 0.92), net("plain", 0.915)],
        differences=[Difference("10 views", 0.005, -0.001, 0.011, "paired")],
        sights=[seen((26, 26)), seen((26, 20, 3))],
        setup={"machine": "2 cores"},
        commands=["crnn train --solver a.prototxt"],
        times={"training crnn": 150.0, "report": 1.5},
    )


def test_page_is_well_formed_and_shows_the_figures(example):
    text = Checked(report.page(example)).text
    for figure in (
        "92.00 %",
        "91.00 %",
        "91.50 %",
        "+0.50",
        "−0.10 to +1.10",
        "2 min 30 s",
        "99.1\u00a0%",
        "288",
    ):
        assert figure in text


def test_page_fetches_nothing(example):
    page = report.page(example)
    assert "http:" not in page
    assert "https:" not in page
    assert "@import" not in page
    parsed = Checked(page)
    assert not {"script", "link", "iframe", "object"} & set(parsed.tags)
    for tag, name, value in parsed.attributes:
        if name in ("src", "href", "xlink:href", "srcset", "data"):
            assert value.startswith(("data:image/png;base64,", "#")), f"{tag} {name} fetches {value[:40]}"
    assert all(address.startswith("#") for address in re.findall(r"url\(([^)]*)\)", page))


def test_every_reference_into_a_picture_has_its_target(example):
    attributes = Checked(report.page(example)).attributes
    ids = {value for _, name, value in attributes if name == "id"}
    assert {value[1:] for _, name, value in attributes if name == "href" and value[0] == "#"} <= ids


def test_names_are_escaped_everywhere(example):
    evil = copy.deepcopy(example)
    evil.title = evil.summary = EVIL
    evil.classes = [EVIL, "shirt", "bag"]
    evil.commands, evil.times, evil.setup = [EVIL], {EVIL: 1.0}, {EVIL: EVIL}
    for one in evil.nets:
        one.name = one.about = one.solver = one.mistakes[0].key = one.layers[0].name = EVIL
    evil.differences[0].text = EVIL
    for one in evil.sights:
        one.name = one.caption = one.layer = one.panels[1].name = EVIL
    page = report.page(evil)
    assert "<script" not in page
    assert EVIL in Checked(page).text


def test_page_is_the_same_for_equal_input(example):
    assert report.page(example) == report.page(copy.deepcopy(example))


def test_pictures_hold_the_pixels(example):
    png = re.search(r'<img src="data:image/png;base64,([^"]+)', report.page(example))[1]
    pixels = imread(io.BytesIO(base64.b64decode(png)))[..., :3] * 255
    assert np.abs(pixels - example.nets[0].mistakes[0].image[..., None]).max() <= 0.5


def test_a_class_without_records_has_no_figure(example):
    row = re.search(r"<tr><td>bag</td>.*?</tr>", report.page(example))[0]
    assert Checked(row).text == "bag0–––"


def test_one_net_makes_a_page_without_differences(example):
    example.nets, example.differences = example.nets[:1], []
    assert "difference" not in Checked(report.page(example)).text


def test_a_chart_shows_what_follows_the_steep_start():
    drawn = plots.curves({"net": Curve([0, 100, 200], [80.0, 0.3, 0.2])}, "loss")
    marks = [float(text) for text in re.findall(r"<!-- ([\d.]+) -->", drawn)]
    assert 0.3 in marks
    assert 80 not in marks


def test_a_chart_of_one_point_or_none_is_drawn():
    assert plots.curves({"net": Curve([0], [0.5]), "other": Curve([], [])}, "loss").startswith("<svg")


def test_many_classes_are_a_picture_without_figures(example):
    few, many = (plots.confusion(np.eye(n, dtype=int), ["name"] * n, "#000000") for n in (5, 50))
    assert "text_" in few
    assert many.count("<text") <= few.count("<text")
    assert len(many) < 100_000


def test_write_replaces_the_file_whole(example, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    report.write(path, example)
    assert path.read_text(encoding="utf-8") == report.page(example)
    assert list(tmp_path.iterdir()) == [path]


def pictures(html: str) -> list[np.ndarray]:
    """The page's images, uint8 RGB."""
    found = re.findall(r'<img src="data:image/png;base64,([^"]+)', html)
    return [np.round(imread(io.BytesIO(base64.b64decode(png)))[..., :3] * 255) for png in found]


def test_sights_stand_with_formula_directions_and_shares():
    text = Checked(sight.section([seen((26, 26))])).text
    for part in ("What each direction sees", "rnn (3 × 2 regions)", "row 1, column 0", "through all steps"):
        assert part in text
    assert re.search(r"a\.jpgcoatbag\s*class score\s*→ right25\xa0% beyond\s*↑ up25", text)


def test_without_directions_the_page_says_so():
    html = sight.section([seen((26, 26), layer=None)])
    assert "no SpatialRNN layer" in Checked(html).text
    assert len(pictures(html)) == 2
    assert sight.section([]) == ""


def test_sights_hold_the_pixels_with_the_window_framed():
    """26 pixels become 208: 8 for each; the frame runs inside of rows 4 to 19 and columns 0 to 11."""
    one = seen((26, 26))
    picture = pictures(sight.section([one]))[0]
    assert picture.shape == (208, 208, 3)
    framed = (picture == sight.FRAME).all(-1)
    rows, columns = framed.nonzero()
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (32, 159, 0, 95)
    assert framed.sum() == 2 * 2 * 96 + 2 * 2 * (128 - 4)
    inner = (picture.reshape(26, 8, 26, 8, 3)[:, 4, :, 4] - one.image[..., None])[:, 13:]
    assert not inner.any()


def test_the_strongest_pixel_is_ink_and_one_without_gradient_pale():
    image = np.array([[0, 255], [100, 255]], np.uint8)
    drawn = sight.overlay(image, np.array([[0, 0], [0.25, 1]]))
    assert drawn[0].tolist() == [[166] * 3, [255] * 3]
    assert drawn[1, 1].tolist() == sight.INK.tolist()
    half = (255 - 0.35 * 155 + sight.INK) / 2  # the square root of a quarter
    assert np.abs(drawn[1, 0] - half).max() <= 0.5


def test_directions_share_a_scale_and_nothing_is_said_to_be_nothing():
    one = seen((26, 26))
    one.window = None
    strong, weak, blind = (
        Panel(name, np.full((26, 26), v)) for name, v in (("left", 4), ("up", 1), ("down", 0))
    )
    one.panels = [strong, weak, blind]
    text = Checked(sight.row(one)).text
    assert "↓ down: nothing" in text and "↑ up: nothing" not in text
    full, quarter, none = (picture.mean((0, 1)) for picture in pictures(sight.row(one))[1:4])
    assert np.abs(quarter - (full + none) / 2).max() < 1  # the square root of a quarter of the colour


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (119.7, "2 min 00 s"),
        (3599.6, "1 h 00 min"),
        (100_000, "27 h 46 min"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_a_legend_takes_names_as_they_are():
    names = [r"$\\frac$", "_hidden", "a"]
    assert plots.curves({name: Curve([0, 1], [1.0, 2.0]) for name in names}, "loss").startswith("<svg")
    points = np.random.default_rng(0).normal(size=(6, 2))
    assert plots.scatter(points, np.arange(6) % 3, dict(enumerate(names))).startswith("<svg")
