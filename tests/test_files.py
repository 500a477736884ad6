"""Files are whole or absent, and objects say what they are."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import pytest

from polytask.config import arguments, config, rebuildable_repr
from polytask.files import open_to_append, read_plain_file, write_atomically


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("größe", "größe".encode()),
        (b"\x00\x01", b"\x00\x01"),
        (lambda path: path.write_text("made", encoding="utf-8"), b"made"),
    ],
)
def test_content_is_written_whole(tmp_path, content, expected):
    path = tmp_path / "file"
    path.write_text("old", encoding="utf-8")
    write_atomically(path, content)
    assert path.read_bytes() == expected
    assert [f.name for f in tmp_path.iterdir()] == ["file"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old", encoding="utf-8")

    def torn(temporary):
        temporary.write_text("half", encoding="utf-8")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, torn)
    assert path.read_text(encoding="utf-8") == "old"
    assert [f.name for f in tmp_path.iterdir()] == ["file"]


def test_nothing_is_written_through_a_link(tmp_path):
    """A folder of someone else's may hold links under the names that are written."""
    outside = tmp_path / "mine"
    outside.write_text("precious", encoding="utf-8")
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "report.html").symlink_to(outside)
    # The name that an earlier version wrote to, guessed for any process.
    (folder / f".report.html.{os.getpid()}.partial").symlink_to(outside)
    write_atomically(folder / "report.html", "theirs")
    assert outside.read_text(encoding="utf-8") == "precious"
    assert not (folder / "report.html").is_symlink()
    assert (folder / "report.html").read_text(encoding="utf-8") == "theirs"


def test_the_names_of_neighbours_cannot_be_guessed(tmp_path):
    names = set()
    for _ in range(3):
        write_atomically(tmp_path / "file", lambda path: names.add(path.name))
    assert len(names) == 3
    assert all(len(name.split(".")[2]) == 16 for name in names)


def test_files_have_the_permissions_of_files(tmp_path):
    (tmp_path / "plain").write_text("", encoding="utf-8")
    write_atomically(tmp_path / "file", "x")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_lines_are_added_to_plain_files_only(tmp_path):
    for text in ("a\n", "b\n"):
        with open_to_append(tmp_path / "log") as handle:
            handle.write(text)
    assert (tmp_path / "log").read_text(encoding="utf-8") == "a\nb\n"
    (tmp_path / "link").symlink_to(tmp_path / "log")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(OSError, match="expected a plain file"):
            open_to_append(tmp_path / name).__enter__()
    assert (tmp_path / "log").read_text(encoding="utf-8") == "a\nb\n"


def test_what_is_read_is_a_plain_file_of_bounded_size(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    assert read_plain_file(tmp_path / "file", most=5) == b"12345"
    with pytest.raises(ValueError, match="has 5 bytes, which is more than the 4 allowed"):
        read_plain_file(tmp_path / "file", most=4)
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", ""):
        with pytest.raises(ValueError, match="is no plain file"):
            read_plain_file(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_plain_file(tmp_path / "none")


class Thing:
    def __init__(self, *, size: int = 3, names: tuple[str, ...] = (), inner: object = None) -> None:
        self.size, self.names, self.inner = size, names, inner

    def __repr__(self) -> str:
        return rebuildable_repr(self)


@dataclass(frozen=True)
class Setting:
    rate: float = 0.5


def test_repr_evaluates_back():
    assert repr(Thing()) == "Thing()"
    thing = Thing(size=4, names=("a",), inner=Thing(size=1))
    assert repr(thing) == "Thing(size=4, names=('a',), inner=Thing(size=1))"
    assert repr(eval(repr(thing))) == repr(thing)
    assert arguments(Thing(size=7)) == {"size": 7, "names": (), "inner": None}


def test_records_are_plain():
    record = config({"x": Thing(inner=Setting()), "s": {"b", "a"}, "n": np.array([1, 2])})
    assert record == {
        "x": {
            "type": "Thing",
            "size": 3,
            "names": [],
            "inner": {"type": "Setting", "rate": 0.5},
        },
        "s": ["a", "b"],
        "n": [1, 2],
    }
    assert config(np.mean) == "numpy.mean"
