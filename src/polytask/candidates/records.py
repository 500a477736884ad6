"""Objects of Polytask as JSON and back, without running code from a file.

An object is written as the name of its class and its constructor arguments; only classes that
Polytask's packages export can be made again, and they check their arguments themselves.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from polytask import architectures, balancers, encoders
from polytask.config import arguments, config
from polytask.problems import table_batch
from polytask.problems.storage import task_from_record, task_record
from polytask.tasks import Task

__all__ = ["describe_callable", "from_record", "to_record"]

#: Only classes that these export can be made again from a file.
PACKAGES = (architectures, encoders, balancers, table_batch)


def _exported() -> dict[str, type]:
    classes: dict[str, type] = {}
    for package in PACKAGES:
        for export in package.__all__:
            value = getattr(package, export)
            if inspect.isclass(value):
                classes[export] = value
    return classes


def to_record(value: object) -> Any:
    """Plain values from which ``from_record`` makes an equal (freshly initialised) object.

    Raises:
        ValueError: Something in it is not a public class of Polytask.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Task):
        return {"$task": task_record(value)}
    if isinstance(value, Mapping):
        return {"$map": [[key, to_record(item)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        return [to_record(item) for item in value]
    name = type(value).__name__
    if _exported().get(name) is not type(value):
        raise ValueError(
            f"{type(value).__module__}.{name} is no public class of Polytask, so it cannot be"
            " made again from a file;"
            " save its state_dict yourself, or build the model from Polytask's architectures and"
            " encoders."
        )
    given = (
        {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        if dataclasses.is_dataclass(value)
        else arguments(value)
    )
    return {"$type": name, "arguments": {key: to_record(item) for key, item in given.items()}}


def from_record(record: Any) -> Any:
    """The inverse of ``to_record``; sequences come back as tuples."""
    if isinstance(record, list):
        return tuple(from_record(item) for item in record)
    if not isinstance(record, dict):
        return record
    if "$task" in record:
        return task_from_record(record["$task"])
    if "$map" in record:
        return {key: from_record(item) for key, item in record["$map"]}
    classes = _exported()
    name = record["$type"]
    if name not in classes:
        raise ValueError(
            f"The file names the class {name!r}, which this version of Polytask does not export."
        )
    return classes[name](**{key: from_record(item) for key, item in record["arguments"].items()})


def describe_callable(function: Callable[..., Any] | None) -> Any:
    """A record that changes when a function does: name, code, defaults, closure."""
    if function is None:
        return None
    if isinstance(function, functools.partial):
        return {
            "partial": describe_callable(function.func),
            "args": config(function.args),
            "keywords": config(function.keywords),
        }
    if not inspect.isfunction(function):
        return config(function)
    record: dict[str, Any] = {"function": f"{function.__module__}.{function.__qualname__}"}
    if not function.__module__.startswith("polytask."):
        code = function.__code__
        text = repr(
            (code.co_code, [c for c in code.co_consts if not inspect.iscode(c)], code.co_names)
        )
        record["code"] = hashlib.sha256(text.encode()).hexdigest()[:16]
        record["defaults"] = config(function.__defaults__)
        record["closure"] = [repr(cell.cell_contents) for cell in function.__closure__ or ()]
    return record
