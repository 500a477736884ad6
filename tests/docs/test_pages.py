"""The pages of the site: their Python runs, their commands exist, the tables are complete."""

from __future__ import annotations

import importlib.util
import re

import pytest

import polytask
from polytask.cli import main as cli

FENCE = re.compile(r"^```(python|console)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def pages(root):
    return [root / "README.md", *sorted((root / "docs").glob("**/*.md"))]


def blocks(path, language):
    return [
        body for kind, body in FENCE.findall(path.read_text(encoding="utf-8")) if kind == language
    ]


@pytest.mark.parametrize(
    "page",
    [
        "howto/model.md",
        "howto/loop.md",
        "howto/balancer.md",
        "howto/many_tables.md",
        "concepts/architectures.md",
    ],
)
def test_python_of_a_page_runs_from_top_to_bottom(root, page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {}
    code = blocks(root / "docs" / page, "python")
    assert code
    for number, body in enumerate(code, 1):
        exec(compile(body, f"{page}, block {number}", "exec"), namespace)
    if "history" in namespace:  # the loop must have learned both tasks
        first, last = namespace["history"][0], namespace["history"][-1]
        assert (last < 0.5 * first).all()
    if "message" in namespace:  # the page quotes what the check of a false promise says
        quoted = " ".join((root / "docs" / page).read_text(encoding="utf-8").split())
        assert f"reads: {namespace['message']}. " in quoted
    if "result" in namespace:
        assert len(namespace["result"].history) == 5


@pytest.mark.slow
def test_python_of_the_readme_runs(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    compare, tables, loop = blocks(root / "README.md", "python")
    assert "seeds=3" in compare
    exec(compile(compare.replace("seeds=3", "seeds=1"), "README.md, block 1", "exec"), {})
    assert "single-task" in capsys.readouterr().out
    assert (tmp_path / "runs/homes/report.html").exists()
    exec(compile(tables, "README.md, block 2", "exec"), {})
    namespace = {}
    exec(compile(loop, "README.md, block 3", "exec"), namespace)
    assert namespace["trunk"].weight.grad.abs().sum() > 0


def test_commands_and_options_on_the_pages_exist(root):
    known = dict(cli.commands())
    for page in pages(root):
        for body in blocks(page, "console"):
            for line in re.sub(r"\\\n\s*", "", body).splitlines():
                words = line.removeprefix("$ ").split()
                if words[:1] == ["polytask"]:
                    assert words[1] in known, f"{page.name}: {line}"


def test_links_between_pages_lead_somewhere(root):
    generated = {root / "docs/_generated/methods.md"}
    for page in pages(root):
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8")):
            found = (page.parent / target).resolve()
            assert found.exists() or found in generated, f"{page.name}: {target}"


def test_methods_table_has_a_row_for_every_exported_method(root, tmp_path):
    spec = importlib.util.spec_from_file_location("methods_table", root / "docs/methods_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.write(tmp_path)
    text = (tmp_path / "methods.md").read_text(encoding="utf-8")
    for name in ("PCGrad", "HardSharing", "TabularEncoder", "STG", "AllTasks"):
        assert text.count(f".{name}` |") == 1
    rows = [line for line in text.splitlines() if line.startswith("| {py:class}")]
    assert len(rows) == sum(len(list(module.methods(package))) for package in module.FAMILIES)
    assert {path.stem for path in (tmp_path / "api").iterdir()} == polytask._subpackages() - {"cli"}
