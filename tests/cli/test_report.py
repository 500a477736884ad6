"""`polytask report`: the page again, from a folder of finished runs."""

from __future__ import annotations

import webbrowser

from polytask.cli.main import BAD_INPUT, OK, run
from polytask.evaluation import Comparison


class _Folder:
    """Stands for a comparison whose report is one word."""

    def __init__(self, folder):
        self.folder = folder

    def report(self, path=None):
        target = path or self.folder / "report.html"
        target.write_text("report", encoding="utf-8")
        return target


def test_report_is_written_into_the_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Comparison, "load", _Folder)
    assert run(["report", str(tmp_path)]) == OK
    assert capsys.readouterr().out.strip() == str(tmp_path / "report.html")
    assert (tmp_path / "report.html").exists()


def test_report_is_written_elsewhere_and_opened(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(Comparison, "load", _Folder)
    monkeypatch.setattr(webbrowser, "open", opened.append)
    assert run(["report", str(tmp_path), "--out", str(tmp_path / "a b.html"), "--open"]) == OK
    assert opened == [(tmp_path / "a b.html").as_uri()]


def test_folder_without_a_comparison(tmp_path, capsys):
    assert run(["report", str(tmp_path)]) == BAD_INPUT
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "holds no comparison" in error
