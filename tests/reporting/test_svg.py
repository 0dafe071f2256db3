"""Charts: well formed, to scale, and the same every time."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from recsys.reporting.charts import Line, bar_chart, difference_chart, line_chart, step_chart
from recsys.reporting.record import Value
from recsys.reporting.svg import STYLE, TOP, WIDTH, standalone

SPACE = "{http://www.w3.org/2000/svg}"


def elements(svg, tag, css=""):
    root = ElementTree.fromstring(svg)
    return [e for e in root.iter(SPACE + tag) if css in e.get("class", "").split() or not css]


def test_bars_are_as_high_as_their_values_from_zero():
    svg = bar_chart("t", ["a", "b"], {"model": [Value(0.2), Value(0.4)]})
    bars = [float(e.get("height")) for e in elements(svg, "rect") if e.get("rx") == "1"]
    assert bars[1] == pytest.approx(2 * bars[0], abs=0.11)


def test_whiskers_reach_from_low_to_high():
    svg = bar_chart("t", ["a"], {"model": [Value(0.5, 0.25, 0.75)]})
    bar = next(e for e in elements(svg, "rect") if e.get("rx") == "1")
    low, high = re.search(
        r"M[\d.]+ ([\d.]+)V([\d.]+)", elements(svg, "path", "whisker")[0].get("d")
    ).groups()
    assert float(low) - float(high) == pytest.approx(float(bar.get("height")), abs=0.2)


def test_a_missing_value_has_no_bar():
    svg = bar_chart("t", ["a", "b"], {"model": [Value(), Value(0.4)]})
    assert len([e for e in elements(svg, "rect") if e.get("rx") == "1"]) == 1


def test_all_zero_bars_can_be_drawn():
    assert elements(bar_chart("t", ["a"], {"m": [Value(0.0, 0.0, 0.0)]}), "rect")


def test_a_gap_breaks_a_line():
    points = ((1.0, 0.1), (2.0, 0.2), (3.0, None), (4.0, 0.3), (5.0, 0.4))
    svg = line_chart("t", [Line("loss", points)], x_label="epoch")
    assert len(elements(svg, "path", "line")) == 2
    assert len(elements(svg, "circle")) == 4


def test_a_single_point_and_a_constant_line_can_be_drawn():
    for points in (((1.0, 0.5),), ((1.0, 0.0), (2.0, 0.0))):
        svg = line_chart("t", [Line("loss", points)], x_label="epoch")
        assert len(elements(svg, "circle")) == len(points)


def test_the_marked_place_is_drawn_and_named():
    svg = line_chart("t", [Line("x", ((1.0, 1.0), (9.0, 2.0)))], x_label="e", marked=(9.0, "kept"))
    line = elements(svg, "line", "best")[0]
    assert line.get("x1") == line.get("x2") == elements(svg, "circle")[-1].get("cx")
    assert "kept" in [e.text for e in elements(svg, "text")]


def test_a_histogram_ends_where_its_bins_end():
    svg = step_chart("t", {"items": ((0.0, 1.0, 3.0), (0.25, 0.75))}, x_label="length")
    assert elements(svg, "path", "area")[0].get("d").count("L") == 2 * 2 + 1


def test_a_dot_right_of_zero_is_a_difference_above_it_and_an_unknown_one_has_none():
    row = {"x": Value(2.0, 1.0, 3.0), "y": Value(-2.0), "z": Value()}
    svg = difference_chart("title", {"a": row}, x_label="points")
    (zero,) = {e.get("x1") for e in elements(svg, "line", "axis")}
    right, left = (float(e.get("cx")) for e in elements(svg, "circle"))
    assert left < float(zero) < right
    assert len(elements(svg, "path", "whisker")) == 1
    assert "z" in [e.text for e in elements(svg, "text")]


def test_names_are_escaped():
    svg = bar_chart("<t>&", ["<a>"], {'"m"&': [Value(1.0)]})
    assert "<a>" in [e.text for e in elements(svg, "text")]


def test_a_file_of_its_own_carries_its_style():
    svg = standalone(bar_chart("t", ["a"], {"m": [Value(1.0)]}))
    assert "prefers-color-scheme:dark" in elements(svg, "style")[0].text


def test_a_legend_of_all_that_may_be_judged_has_room_and_a_colour_for_each():
    names = ["model", "popularity", "item_knn", "ease", "content_knn", "ials", "bpr"]
    svg = bar_chart("t", ["a"], {name: [Value(0.2)] for name in names})
    keys = [e for e in elements(svg, "rect") if e.get("rx") == "2"]
    assert len({e.get("class") for e in keys}) == 7
    assert all(f".chart .{e.get('class')}{{fill:" in STYLE for e in keys)
    shown = [e for e in elements(svg, "text") if e.text in names]
    assert [e.text for e in shown] == names
    for text in shown:
        assert float(text.get("x")) + 5.9 * len(text.text) <= WIDTH
        assert float(text.get("y")) < TOP
