"""The scatter plot of a data map: what is drawn, what is said, and bad input."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from tests.report.examples import HOSTILE_NAMES

from polytask.report import svg
from polytask.report.figures.data_maps import data_map_figure, save_data_map_figure


def some_points(rows: int = 200, seed: int = 0) -> np.ndarray:
    mean = np.random.default_rng(seed).uniform(size=rows)
    points = np.stack([mean, np.sqrt(mean * (1 - mean)) / 2], axis=-1)
    points[3] = np.nan
    return points


def texts(picture: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(picture).iter("text")]


def test_density_and_classes() -> None:
    picture = data_map_figure(some_points(), "a")
    assert {"a", "easy to learn", "ambiguous", "hard to learn"} <= set(texts(picture))
    label = ElementTree.fromstring(picture).attrib["aria-label"]
    assert label.startswith("Data map of a: 199 examples, mean confidence 0.")
    assert picture == data_map_figure(some_points(), "a")
    assert picture != data_map_figure(some_points(seed=1), "a")
    assert picture != data_map_figure(some_points(), "a", deviation="sample")
    classes = ["cat" if i % 4 else "dog" for i in range(200)]
    shown = texts(data_map_figure(some_points(), "a", classes=classes))
    # Row 3, a cat, has no label for this task.
    assert {"cat: 149", "dog: 50"} <= set(shown)


def test_many_classes_share_a_colour_and_many_examples_are_thinned() -> None:
    points = some_points(rows=9000)
    points[3] = points[4]
    picture = data_map_figure(points, "b", classes=[i % 9 for i in range(9000)])
    assert "other classes: 4,000" in texts(picture)
    assert len(picture) < 900_000
    assert len(data_map_figure(points, "b")) < 300_000


def test_nothing_known_is_still_a_figure() -> None:
    empty = np.full((4, 2), np.nan)
    assert "0 examples" in data_map_figure(empty, "a", deviation="sample")
    assert "0 examples" in data_map_figure(empty, "a", deviation="sample", classes=list("abcd"))


def test_hostile_names_are_text_and_nothing_else() -> None:
    for name in HOSTILE_NAMES:
        root = ElementTree.fromstring(data_map_figure(some_points(), name, classes=[name] * 200))
        assert {e.tag for e in root.iter()} <= {
            "svg", "g", "defs", "path", "text", "title", "use", "clipPath", "rect",
        }  # fmt: skip


def test_a_file_of_its_own(tmp_path: Path) -> None:
    for kind, start in (("png", b"\x89PNG"), ("svg", b"<?xml")):
        path = tmp_path / f"map.{kind}"
        save_data_map_figure(some_points(), "a", path, classes=[i % 2 for i in range(200)])
        assert path.read_bytes().startswith(start)
    written = (tmp_path / "map.svg").read_text()
    assert not any(code in written for code in svg.THEME)
    with pytest.raises(ValueError, match=r"must end in \.png or \.svg, found 'map\.pdf'"):
        save_data_map_figure(some_points(), "a", tmp_path / "map.pdf")


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"`points` must be \[examples, 2\], found shape \[4\]"):
        data_map_figure(np.zeros(4), "a")
    with pytest.raises(ValueError, match="`classes` has 3 entries for 200 examples"):
        data_map_figure(some_points(), "a", classes=["x"] * 3)
