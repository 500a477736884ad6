"""The heat map of memberships: what is written in it, and that names cannot harm a page."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from tests.report.examples import HOSTILE_NAMES

from polytask.report.figures.memberships import membership_figures


def texts(picture: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(picture).iter("text")]


def test_tasks_are_rows_groups_are_columns_and_values_are_printed() -> None:
    before = dict(mpl.rcParams)
    (picture,) = membership_figures(["cat", "random"], [[0.75, 0.25], [0.0, 1.0]])
    assert dict(mpl.rcParams) == before
    root = ElementTree.fromstring(picture)
    places = {
        element.text: (float(element.get("x", "")), float(element.get("y", "")))
        for element in reversed([*root.iter("text")])  # the scale at the right has a 1 as well
    }
    assert "group" in places
    columns = {"1": ("0.75", "0.00"), "2": ("0.25", "1.00")}
    for column, values in columns.items():
        for row, value in zip(("cat", "random"), values, strict=True):
            assert places[value] == pytest.approx((places[column][0], places[row][1]), abs=2)
    assert places["cat"][1] < places["random"][1]
    assert "cat 0.75 in group 1; random 1.00 in group 2" in root.get("aria-label", "")
    assert membership_figures(["cat", "random"], [[0.75, 0.25], [0.0, 1.0]]) == [picture]


def test_many_tasks_are_several_figures_and_many_groups_have_no_numbers() -> None:
    names = [f"task {i}" for i in range(130)]
    pictures = membership_figures(names, [[1 / 30] * 30] * 130)
    assert len(pictures) == 3
    assert [sum(name in texts(picture) for name in names) for picture in pictures] == [60, 60, 10]
    assert all("0.03" not in texts(picture) for picture in pictures)
    marks = [set(re.findall(r'id="([^"]+)"', picture)) for picture in pictures]
    assert not marks[0] & marks[1]


def test_no_tasks_no_figure() -> None:
    assert membership_figures([], []) == []


def test_hostile_names_are_text_and_nothing_else() -> None:
    (picture,) = membership_figures(HOSTILE_NAMES, [[1.0]] * len(HOSTILE_NAMES))
    root = ElementTree.fromstring(picture)
    allowed = {"svg", "g", "defs", "path", "text", "title", "use", "clipPath", "rect", "image"}
    assert {element.tag for element in root.iter()} <= allowed
    for element in root.iter():
        assert not [name for name in element.attrib if name.startswith("on")]
        assert element.get("href", "#").startswith(("#", "data:image/png;base64,"))
