"""Checkpoints: whole or recognised as torn, atomic, never unpickled."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from polytask.training import Checkpoints, CorruptCheckpointWarning

STATE = {
    "tensor": torch.arange(6, dtype=torch.float64).reshape(2, 3).T,
    "half": torch.ones(3, dtype=torch.bfloat16),
    "nested": {0: {"exp_avg": torch.ones(2)}, "name": "über", "pair": (1, 2.5), "none": None},
    "list": [1, [2, {"x": True}]],
}


def same(left: object, right: object) -> bool:
    if isinstance(left, torch.Tensor):
        return (
            isinstance(right, torch.Tensor)
            and left.dtype == right.dtype
            and torch.equal(left, right)
        )
    if isinstance(left, dict):
        return (
            isinstance(right, dict)
            and left.keys() == right.keys()
            and all(same(v, right[k]) for k, v in left.items())
        )
    if isinstance(left, (list, tuple)):
        return type(left) is type(right) and len(left) == len(right) and all(map(same, left, right))
    return left == right


def test_round_trip_keeps_types_and_bits(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(3, STATE)
    assert same(checkpoints.load_newest(), STATE)


def test_keeps_the_newest_and_leaves_no_partial_files(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in range(5):
        checkpoints.save(step, {"step": step})
    assert [path.name for path in checkpoints.paths()] == [
        "step-000000003.ckpt",
        "step-000000004.ckpt",
    ]
    assert {path.suffix for path in tmp_path.iterdir()} == {".ckpt"}


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_newest_file_falls_back_with_a_warning(tmp_path: Path, damage: str) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"step": 1})
    newest = checkpoints.save(2, {"step": 2, "weights": torch.ones(100)})
    content = bytearray(newest.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "flip":
        content[-5] ^= 1
    else:
        content = bytearray()
    newest.write_bytes(bytes(content))
    with pytest.warns(CorruptCheckpointWarning, match="step-000000002"):
        assert checkpoints.load_newest() == {"step": 1}


def test_no_whole_file_is_an_error_and_no_file_is_none(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.load_newest() is None
    checkpoints.save(1, {"step": 1}).write_bytes(b"torn")
    with pytest.warns(CorruptCheckpointWarning), pytest.raises(ValueError, match="start afresh"):
        checkpoints.load_newest()


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    torch.save({"step": 9}, tmp_path / "step-000000009.ckpt")
    with pytest.warns(CorruptCheckpointWarning), pytest.raises(ValueError, match="whole"):
        Checkpoints(tmp_path).load_newest()


def test_unknown_values_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="found object"):
        Checkpoints(tmp_path).save(1, {"x": object()})


def test_disk_full_keeps_the_old_checkpoint(tmp_path: Path) -> None:
    """A real failed write: the operating system refuses to let the file grow."""
    script = textwrap.dedent(
        f"""
        import resource, signal, torch
        from polytask.training import Checkpoints
        checkpoints = Checkpoints({str(tmp_path)!r})
        checkpoints.save(1, {{"step": 1}})
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            checkpoints.save(2, {{"step": 2, "weights": torch.ones(100_000)}})
        except OSError as error:
            print("refused:", error.errno is not None)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "refused: True\n"
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001.ckpt"]
    assert Checkpoints(tmp_path).load_newest() == {"step": 1}


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"keep": 1}, "keep"),
        ({"every_epochs": 0}, "every_epochs"),
        ({"every_steps": 0}, "every_steps"),
    ],
)
def test_bad_arguments(tmp_path: Path, arguments: dict[str, int], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Checkpoints(tmp_path, **arguments)
