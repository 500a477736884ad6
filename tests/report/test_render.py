"""The page: one file, complete, escaped, and the same each time."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from tests.report.examples import HOSTILE_NAMES, example, with_failures

from polytask.report import ReportData, leaderboard_html, report_html, write_report

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Elements, text and balance of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())

    def ids(self) -> list[str]:
        return [a["id"] for _, a in self.elements if a.get("id")]


def test_page_is_well_formed_and_its_links_lead_somewhere():
    page = Page(report_html(with_failures(example())))
    ids = page.ids()
    assert len(ids) == len(set(ids))
    links = [a["href"] for tag, a in page.elements if tag == "a"]
    assert links
    assert {link.removeprefix("#") for link in links} <= set(ids)


def test_page_says_everything():
    data = with_failures(example())
    text = Page(report_html(data)).text
    for part in (
        data.headline, data.verdict, data.status, data.command, data.raw_scores, data.notes[0],
        "Loss `price` is not finite at step 12", "9f2c1a77b3e0d415", "14,448", "class weights",
        "1 run failed",
    ):  # fmt: skip
        assert part in text
    for row in data.candidates:
        assert row.name in text
    for task in data.tasks:
        assert task.name in text


def test_page_loads_nothing():
    text = report_html(example(names=HOSTILE_NAMES))
    page = Page(text)
    assert not {"link", "img", "iframe", "object", "embed"} & {tag for tag, _ in page.elements}
    for tag, attributes in page.elements:
        assert "src" not in attributes
        for name in ("href", "xlink:href", "action"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:image/png;base64,")), (tag, value)
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_hostile_names_are_escaped():
    text = report_html(with_failures(example(names=HOSTILE_NAMES)))
    page = Page(text)
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert not [a for _, a in page.elements for name in a if name.startswith("on")]
    for name in HOSTILE_NAMES[:4]:
        assert name in page.text
    assert "{{ 7 * 7 }} {% raw %}" in page.text
    assert "\x00" not in text
    assert "\u202e" not in text


def test_long_names_are_shortened_with_the_whole_as_title():
    page = Page(report_html(example(names=HOSTILE_NAMES)))
    titles = [a["title"] for _, a in page.elements if a.get("title")]
    assert "x" * 199 + "y" in titles
    assert "x" * 199 not in Page(leaderboard_html(example(names=HOSTILE_NAMES))).text
    cells = [text for text in page.texts if text.startswith("xxxx") and len(text) < 60]
    assert cells


def test_same_data_give_the_same_page():
    assert report_html(example()) == report_html(example())


def test_a_hundred_tasks_stay_below_the_size_that_mail_takes(tmp_path):
    data = example(num_tasks=100, num_joint=4, epochs=100)
    data = replace(
        data,
        cosines=tuple(replace(data.cosines[0], candidate=row.name) for row in data.candidates[:4]),
    )
    path = write_report(data, tmp_path / "deep" / "report.html")
    assert path.stat().st_size < 1_500_000


def test_page_of_an_empty_comparison():
    page = Page(report_html(ReportData(title="nothing yet", verdict="No verdict yet.")))
    assert "No verdict yet." in page.text
    assert "svg" not in [tag for tag, _ in page.elements]


@pytest.mark.parametrize("section", ["gains", "scores", "curves", "weights", "conflict"])
def test_sections_without_content_are_left_out(section):
    data = replace(example(), gains=(), scores=(), curves=(), weights=(), cosines=())
    assert section not in Page(report_html(data)).ids()
    assert section in Page(report_html(example())).ids()


def test_leaderboard_has_every_number():
    data = example(num_tasks=3)
    page = Page(leaderboard_html(data))
    row = data.candidates[0]
    for shown in (f"{row.p_value:.3f}", f"{row.win:.1f}", f"{row.parameters:,.0f}", row.runs):
        assert shown in page.text
    assert page.text.count("baseline") >= 1
    assert "mean rmse ↓" in page.text.replace("\xa0", " ")
    assert "mean auc ↑" in page.text.replace("\xa0", " ")


def test_very_wide_tables_are_cut_and_it_is_said():
    data = example()
    columns = tuple(replace(data.columns[0], name=f"column {i}") for i in range(2000))
    text = Page(report_html(replace(data, columns=columns))).text
    assert "Columns of the table: 2000, the first 300 shown" in text


def test_written_atomically_and_folder_made(tmp_path):
    path = write_report(example(), tmp_path / "a" / "b.html")
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [file.name for file in path.parent.iterdir()] == ["b.html"]


def luminance(colour: str) -> float:
    """Relative luminance of "#rrggbb" (WCAG 2.2)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("ground", ["paper", "band", "raised"])
def test_text_and_lines_are_legible_in_light_and_dark(root, ground):
    style = (root / "src/polytask/report/style.css").read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{(.*?--paper.*?)\}", style, flags=re.DOTALL)
    for theme in (light, dark):
        colours = dict(re.findall(r"--([\w-]+): (#\w{6});", theme))
        for name in (
            "ink",
            "muted",
            "accent",
            "better",
            "worse",
            *(f"series-{i}" for i in range(1, 7)),
        ):
            low, high = sorted((luminance(colours[name]), luminance(colours[ground])))
            assert (high + 0.05) / (low + 0.05) >= 4.5, f"{name} on {ground}"


def test_importing_the_report_package_loads_no_matplotlib():
    code = (
        "import polytask.report, sys; print('matplotlib' in sys.modules, 'jinja2' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
