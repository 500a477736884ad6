"""Files are whole or absent, and objects say what they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from polytask.config import arguments, config, rebuildable_repr
from polytask.files import write_atomically


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
