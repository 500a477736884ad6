"""Checkpoints that are either whole or recognised as torn, and never unpickled.

A file is ``magic | SHA-256 of the rest | safetensors``: the tensors of the state under their paths,
and everything else (numbers, text, structure) as one JSON document stored as bytes. Files are
written atomically and named by step; a torn or altered newest file is skipped with a warning and
the one before it is used.
"""

from __future__ import annotations

import hashlib
import json
import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from polytask.files import write_atomically

__all__ = ["Checkpoints", "CorruptCheckpointWarning", "random_state", "restore_random_state"]

_MAGIC = b"polytask-checkpoint-1\n"
_JSON_KEY = "__json__"


class CorruptCheckpointWarning(UserWarning):
    """A checkpoint was torn or altered and an older one is used."""


class Checkpoints:
    """A folder of checkpoints.

    Args:
        folder: Where they lie; created on the first save.
        every_epochs: Epochs between two checkpoints.
        every_steps: Steps between two checkpoints, in addition; None for none.
        keep: How many of the newest are kept, >= 2 so that a torn one can be replaced by the one
            before.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        every_epochs: int = 1,
        every_steps: int | None = None,
        keep: int = 2,
    ) -> None:
        if every_epochs < 1 or (every_steps is not None and every_steps < 1):
            raise ValueError(
                f"`every_epochs` and `every_steps` must be >= 1, found {every_epochs} and "
                f"{every_steps}."
            )
        if keep < 2:
            raise ValueError(f"`keep` must be >= 2, found {keep}.")
        self.folder = Path(folder)
        self.every_epochs = every_epochs
        self.every_steps = every_steps
        self.keep = keep

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write the state after a step; older files beyond ``keep`` are removed only once the new
        one is on disk.

        Raises:
            OSError: The folder cannot be written or the disk is full; existing checkpoints stay.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{step:09d}.ckpt"
        payload = _pack(state)
        write_atomically(path, _MAGIC + hashlib.sha256(payload).digest() + payload)
        for old in self.paths()[: -self.keep]:
            old.unlink(missing_ok=True)
        return path

    def load_newest(self) -> dict[str, Any] | None:
        """The newest whole state, or None if there is no checkpoint.

        Raises:
            ValueError: There are checkpoints but none is whole.
        """
        paths = self.paths()
        for path in reversed(paths):
            content = path.read_bytes()
            start = len(_MAGIC)
            digest, payload = content[start : start + 32], content[start + 32 :]
            if content.startswith(_MAGIC) and hashlib.sha256(payload).digest() == digest:
                return _unpack(payload)
            warnings.warn(
                f"Checkpoint {path.name} is torn or was altered; using the one before it.",
                CorruptCheckpointWarning,
                stacklevel=2,
            )
        if paths:
            raise ValueError(
                f"None of the {len(paths)} checkpoint(s) in {self.folder} is whole; start afresh "
                "without resume."
            )
        return None

    def paths(self) -> list[Path]:
        """Files from oldest to newest."""
        return sorted(self.folder.glob("step-*.ckpt"))


def random_state() -> dict[str, Any]:
    """The state of every random generator that training may use."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": [
            kind,
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            position,
            has_gauss,
            gauss,
        ],
        "python": random.getstate(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Continue from ``random_state``."""
    torch.set_rng_state(state["torch"].cpu())
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    random.setstate(state["python"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda"]])


def _pack(state: dict[str, Any]) -> bytes:
    tensors: dict[str, Tensor] = {}
    document = json.dumps(_to_json(state, tensors))
    tensors[_JSON_KEY] = torch.frombuffer(bytearray(document.encode()), dtype=torch.uint8)
    return save(tensors)


def _unpack(payload: bytes) -> dict[str, Any]:
    tensors = load(payload)
    document = json.loads(bytes(tensors.pop(_JSON_KEY).numpy()).decode())
    state = _from_json(document, tensors)
    assert isinstance(state, dict)
    return state


def _to_json(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name = f"t{len(tensors)}"
        # A copy: safetensors refuses tensors that share memory (tied weights, views of one buffer).
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"#tensor": name}
    if isinstance(value, dict):
        return {"#dict": [[_to_json(k, tensors), _to_json(v, tensors)] for k, v in value.items()]}
    if isinstance(value, tuple):
        return {"#tuple": [_to_json(item, tensors) for item in value]}
    if isinstance(value, list):
        return [_to_json(item, tensors) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(
        f"A checkpoint holds tensors, numbers, text, lists, tuples and dicts; found "
        f"{type(value).__name__}."
    )


def _from_json(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_from_json(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if "#tensor" in value:
        return tensors[value["#tensor"]]
    if "#tuple" in value:
        return tuple(_from_json(item, tensors) for item in value["#tuple"])
    return {_from_json(k, tensors): _from_json(v, tensors) for k, v in value["#dict"]}
