"""The report in a real headless Chromium."""

from __future__ import annotations

import json
import re
from html import escape

import pytest
from tests.report.examples import HOSTILE_NAMES, example, with_failures

from polytask.evaluation.reporting import report_data
from polytask.report import write_report
from polytask.report.figures import moving_weights

pytestmark = pytest.mark.browser

PROBE = """
<script>
  const names = () => [...document.querySelectorAll("#leaderboard table:first-of-type tbody th")]
    .map((cell) => cell.title).slice(0, NUMBER).join("|");
  const before = names();
  const heading = [...document.querySelectorAll("#leaderboard thead th")]
    .find((cell) => cell.textContent.includes("mean rank"));
  heading.firstChild.click();
  const rising = names();
  heading.firstChild.click();
  const text = JSON.stringify({before, rising, falling: names()});
  const shown = Object.assign(document.createElement("pre"), {id: "probe", textContent: text});
  document.body.append(shown);
</script>
"""


def test_page_shows_everything_and_asks_for_nothing(tmp_path, visit):
    data = with_failures(example(num_tasks=5))
    seen = visit(write_report(data, tmp_path / "report.html"))
    assert f"<title>{data.title} – Polytask report</title>" in seen.dom
    assert escape(data.verdict, quote=False) in seen.dom
    for task in data.tasks:
        assert seen.dom.count(task.name) > 3
    assert seen.dom.count("<svg") == 4
    for row in data.candidates:
        assert row.name in seen.dom
    assert seen.console == []
    assert seen.requests == []


def test_hostile_names_are_inert(tmp_path, visit):
    data = example(names=HOSTILE_NAMES)
    seen = visit(write_report(data, tmp_path / "report.html"))
    assert escape(HOSTILE_NAMES[0], quote=False) in seen.dom
    assert seen.dom.count("<script>") == 1
    assert "<img" not in seen.dom
    assert "{{ 7 * 7 }}" in seen.dom
    assert seen.console == []
    assert seen.requests == []


def test_report_of_a_real_comparison(trained, tmp_path, visit, screenshot):
    path = trained.report(tmp_path / "real.html")
    seen = visit(path)
    for text in ("small &amp; real", "price &amp; co", "&lt;script&gt;alert(1)&lt;/script&gt;"):
        assert text in seen.dom
    assert escape(" ".join(str(trained.verdict).split()), quote=False) in seen.dom
    # Two tasks may keep their weights in three epochs; gains, curves and cosines are always drawn.
    assert seen.dom.count("<svg") == 3 + bool(moving_weights(report_data(trained)))
    assert seen.console == []
    assert seen.requests == []
    assert screenshot(path)[..., :3].std() > 0.02


def test_light_and_dark_are_drawn(tmp_path, screenshot):
    path = write_report(example(), tmp_path / "report.html")
    light = screenshot(path, "--blink-settings=preferredColorScheme=1")
    dark = screenshot(path, "--blink-settings=preferredColorScheme=0")
    assert light[0, 0, :3].min() > 0.95
    assert dark[0, 0, :3].max() < 0.15
    for picture in (light, dark):
        # Neither blank nor a block of one colour: text and figures in every third of the height.
        for part in (picture[:500], picture[500:1000], picture[1000:]):
            assert part[..., :3].std() > 0.02


def test_sorting_the_leaderboard(tmp_path, visit):
    data = example(num_joint=3)
    path = write_report(data, tmp_path / "report.html")
    page = path.read_text(encoding="utf-8")
    # The page allows no script but its own, so the probe goes into a copy that allows any.
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    probe = PROBE.replace("NUMBER", str(len(data.candidates)))
    path.write_text(page.replace("</body>", f"{probe}</body>"), encoding="utf-8")
    seen = visit(path)
    found = json.loads(re.search(r'<pre id="probe">(.*?)</pre>', seen.dom)[1])
    by_rank = sorted(data.candidates, key=lambda row: row.mean_rank)
    assert found["before"].split("|") == [row.name for row in data.candidates]
    assert found["rising"].split("|") == [row.name for row in by_rank]
    assert found["falling"].split("|") == [row.name for row in reversed(by_rank)]


def test_phone_width_does_not_scroll_sideways(tmp_path, visit):
    path = write_report(example(names=HOSTILE_NAMES), tmp_path / "report.html")
    page = path.read_text(encoding="utf-8")
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    probe = (
        "<script>document.title = document.documentElement.scrollWidth + ' of ' + innerWidth"
        "</script>"
    )
    path.write_text(page.replace("</body>", f"{probe}</body>"), encoding="utf-8")
    seen = visit(path, "--window-size=500,900")
    wide, window = map(int, re.search(r"<title>(\d+) of (\d+)</title>", seen.dom).groups())
    assert wide <= window <= 500


def test_the_browser_would_notice(tmp_path, visit):
    """A page that does load something and fails is seen as such."""
    path = tmp_path / "bad.html"
    path.write_text('<img src="http://127.0.0.1:9/x.png"><script>throw Error("boom")</script>')
    seen = visit(path)
    assert seen.requests == ["http://127.0.0.1:9/x.png"]
    assert any("boom" in line for line in seen.console)
