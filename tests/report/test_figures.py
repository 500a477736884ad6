"""The figures: what is drawn, what is left out, and that the SVG is safe inside a page."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from tests.report.examples import HOSTILE_NAMES, example

from polytask.report import CosineMatrix, Curve, Estimate, Gain, WeightHistory, figures, svg
from polytask.report.lines import known, mean_line, thinned

EVERY_FIGURE = (
    figures.gain_figures,
    figures.curve_figures,
    figures.weight_figures,
    figures.cosine_figures,
)


def texts(picture: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(picture).iter("text")]


@pytest.mark.parametrize("draw", EVERY_FIGURE)
def test_same_data_give_the_same_svg(draw):
    assert draw(example()) == draw(example())


@pytest.mark.parametrize("draw", EVERY_FIGURE)
def test_drawing_leaves_matplotlib_as_it_was(draw):
    before = dict(mpl.rcParams)
    draw(example())
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("draw", EVERY_FIGURE)
def test_nothing_to_draw_gives_no_figure(draw):
    data = replace(example(), gains=(), curves=(), weights=(), cosines=())
    assert draw(data) == []


@pytest.mark.parametrize("draw", EVERY_FIGURE)
def test_hostile_names_are_text_and_nothing_else(draw):
    (picture,) = draw(example(names=HOSTILE_NAMES))
    root = ElementTree.fromstring(picture)
    allowed = {"svg", "g", "defs", "path", "text", "title", "use", "clipPath", "rect", "image"}
    assert {element.tag for element in root.iter()} <= allowed
    for element in root.iter():
        assert not [name for name in element.attrib if name.startswith("on")]
        assert element.get("href", "#").startswith(("#", "data:image/png;base64,"))


def test_names_are_written_as_they_are_without_mathematics():
    (picture,) = figures.cosine_figures(example(names=HOSTILE_NAMES))
    written = texts(picture)
    assert "<script>alert(1)</script>" in written
    assert "a & b" in written
    assert "$x_1$ and \\frac{1}{2}" in written
    assert "#010102 fill:var(--worse)" in written
    assert "<script" not in picture


def test_shortened_names_carry_the_whole_one():
    (picture,) = figures.gain_figures(example(names=HOSTILE_NAMES))
    titles = [element.text for element in ElementTree.fromstring(picture).iter("title")]
    assert "x" * 199 + "y" in titles
    assert "x" * 199 + "z" in titles


def test_colours_follow_the_page():
    for draw in EVERY_FIGURE:
        (picture,) = draw(example())
        assert not re.search(r"(fill|stroke): ?#0101", picture)
        assert "var(--ink)" in picture


def test_identifiers_of_two_figures_differ():
    pictures = [draw(example())[0] for draw in EVERY_FIGURE]
    identifiers = [set(re.findall(r' id="([^"]+)"', picture)) for picture in pictures]
    assert all(identifiers)
    assert len(set.union(*identifiers)) == sum(map(len, identifiers))
    for picture, own in zip(pictures, identifiers, strict=True):
        references = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', picture)
        assert {first or second for first, second in references} == own


# --- gains ---------------------------------------------------------------------------------------


def test_gains_name_every_task_and_candidate():
    data = example(num_tasks=100, num_joint=2)
    (picture,) = figures.gain_figures(data)
    assert {task.name for task in data.tasks} <= set(texts(picture))
    assert {"boosting", "shared: equal", "shared: uncertainty", "all tasks"} <= set(texts(picture))


def test_many_candidates_are_drawn_in_several_figures():
    data = example(num_tasks=2, num_joint=5)
    extra = tuple(
        replace(data.candidates[0], name=f"candidate {i}", is_winner=False) for i in range(4)
    )
    gains = tuple(Gain(row.name, "task 1", Estimate(1.0, 0.5, 1.5)) for row in extra)
    drawn = figures.gain_figures(
        replace(data, candidates=data.candidates + extra, gains=data.gains + gains)
    )
    assert len(drawn) == 2
    assert "candidate 3" in texts(drawn[1])


def test_gains_are_counted_in_words():
    data = example(num_tasks=3, num_joint=0)
    gains = (
        Gain("boosting", "task 1", Estimate(2.0, 1.0, 3.0)),
        Gain("boosting", "task 2", Estimate(-2.0, -3.0, -1.0)),
        Gain("boosting", "task 3", Estimate(0.1, -1.0, 1.2)),
    )
    (picture,) = figures.gain_figures(replace(data, gains=gains))
    label = ElementTree.fromstring(picture).get("aria-label", "")
    assert "1 of 3 tasks better, 1 worse" in label
    assert "var(--better)" in picture
    assert "var(--worse)" in picture


def test_one_seed_has_points_without_intervals():
    data = example(num_tasks=2, num_joint=0)
    gains = tuple(Gain("boosting", task.name, Estimate(5.0)) for task in data.tasks)
    (picture,) = figures.gain_figures(replace(data, gains=gains))
    assert "var(--better)" not in picture


def test_one_huge_gain_does_not_flatten_the_others():
    data = example(num_tasks=20, num_joint=0)
    gains = tuple(
        Gain("boosting", task.name, Estimate(1.0 + i / 10, 0.5, 3.5))
        for i, task in enumerate(data.tasks[1:])
    )
    gains = (Gain("boosting", "task 1", Estimate(1e6, 9e5, 1.1e6)), *gains)
    (picture,) = figures.gain_figures(replace(data, gains=gains))
    ticks = [float(t.replace("−", "-")) for t in texts(picture) if re.fullmatch(r"[−\d.]+", t)]
    assert 0 < max(ticks) < 100


# --- curves and weights --------------------------------------------------------------------------


def test_mean_line_carries_the_last_value_of_a_line_that_ended():
    short = (np.array([1.0, 2.0]), np.array([4.0, 2.0]))
    long = (np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 0.0]))
    places, values = mean_line([short, long])
    assert places.tolist() == [1, 2, 3]
    assert values.tolist() == [3, 2, 1]


def test_known_leaves_out_gaps_and_thinned_keeps_the_ends():
    x, y = known([1, 2, 3], [1.0, None, float("nan")])
    assert (x.tolist(), y.tolist()) == ([1], [1])
    x, y = thinned((np.arange(1000.0), np.arange(1000.0)), 50)
    assert len(x) == 50
    assert (x[0], x[-1]) == (0, 999)


def test_curves_without_training_losses_are_drawn():
    curve = Curve("boosting", 0, (1, 2, 3), (float("nan"),) * 3, (1.0, 0.6, 0.5))
    (picture,) = figures.curve_figures(replace(example(), curves=(curve,)))
    label = ElementTree.fromstring(picture).get("aria-label", "")
    assert "boosting ends at a validation loss of 0.500" in label


def test_only_weights_that_move_are_drawn():
    data = example(num_joint=3)
    assert set(figures.moving_weights(data)) == {"shared: uncertainty", "shared: pcgrad"}
    (picture,) = figures.weight_figures(data)
    assert "shared: equal" not in texts(picture)


def test_shares_of_weights_add_up_whatever_their_scale():
    history = WeightHistory(
        "shared: equal", 0, (1, 2), {"task 1": (1.0, 30.0), "task 2": (3.0, 10.0)}
    )
    epochs, shares = figures.moving_weights(replace(example(), weights=(history,)))["shared: equal"]
    assert epochs.tolist() == [1, 2]
    assert shares["task 1"].tolist() == [0.25, 0.75]
    assert shares["task 2"].tolist() == [0.75, 0.25]


# --- cosines -------------------------------------------------------------------------------------


def test_cosines_are_written_for_few_tasks_only():
    small, large = example(num_tasks=15), example(num_tasks=16)
    assert sum(text == "1.00" for text in texts(figures.cosine_figures(small)[0])) == 15
    assert "1.00" not in texts(figures.cosine_figures(large)[0])


def test_conflicts_are_the_lowest_pairs():
    nan = float("nan")
    found = CosineMatrix(
        "x", ("a", "b", "c"), ((1.0, -0.5, 0.2), (-0.5, 1.0, nan), (0.2, nan, 1.0))
    )
    assert figures.conflicts(found) == [("a", "b", -0.5), ("a", "c", 0.2)]


def test_theme_colours_are_all_defined_by_the_page(root):
    style = (root / "src/polytask/report/style.css").read_text(encoding="utf-8")
    for name in svg.THEME.values():
        assert style.count(f"--{name}:") == 2, f"{name} needs a light and a dark value"
