"""Plain tables on disk and as a hash: numbers, dates and text as arrays that need no pickle."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from polytask.files import write_atomically

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["frame_digest", "load_frame", "save_frame"]


def save_frame(frame: pd.DataFrame, path: Path) -> None:
    """Write a table from ``plain_frame`` as a compressed ``.npz`` file."""
    arrays, record = _to_arrays(frame)
    arrays["record"] = _as_bytes(record)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as handle:
            np.savez_compressed(handle, **arrays)  # type: ignore[arg-type]

    write_atomically(path, write)


def load_frame(path: Path) -> pd.DataFrame:
    """Read what ``save_frame`` wrote."""
    import pandas as pd

    columns: dict[str, Any] = {}
    with np.load(path, allow_pickle=False) as arrays:
        record = _from_bytes(arrays["record"])
        for i, (name, form) in enumerate(record["columns"]):
            values = arrays[f"{i}"]
            if form == "text":
                words = np.array([*_from_bytes(arrays[f"{i} words"]), None], dtype=object)
                columns[name] = pd.Series(words[values], dtype="object")
            else:
                columns[name] = pd.Series(
                    values.view("datetime64[us]") if form == "date" else values
                )
    return pd.DataFrame(columns, index=range(record["rows"]))


def frame_digest(frame: pd.DataFrame) -> str:
    """A hash of names, forms and cells of a plain table."""
    arrays, record = _to_arrays(frame)
    digest = hashlib.sha256(json.dumps(record).encode())
    for array in arrays.values():
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _to_arrays(frame: pd.DataFrame) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays per column number; the words of a text column stand beside its codes (-1: missing)."""
    import pandas as pd
    from pandas.api import types

    arrays: dict[str, np.ndarray] = {}
    forms = []
    for i, name in enumerate(frame.columns):
        series = frame[name]
        if types.is_datetime64_any_dtype(series):
            form, arrays[f"{i}"] = "date", series.to_numpy(dtype="datetime64[us]").view("int64")
        elif types.is_numeric_dtype(series):
            form, arrays[f"{i}"] = "number", series.to_numpy()
        else:
            codes, words = pd.factorize(series)
            form, arrays[f"{i}"] = "text", codes.astype(np.int64)
            arrays[f"{i} words"] = _as_bytes(list(words))
        forms.append([str(name), form])
    return arrays, {"columns": forms, "rows": len(frame)}


def _as_bytes(value: Any) -> np.ndarray:
    # Text that is no valid Unicode (lone surrogates of a broken file) survives as escapes.
    return np.frombuffer(json.dumps(value).encode("ascii"), dtype=np.uint8)


def _from_bytes(array: np.ndarray) -> Any:
    return json.loads(array.tobytes().decode("ascii"))
