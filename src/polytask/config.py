"""Objects that describe themselves: a ``repr`` that evaluates back and a plain record for files and
reports.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

__all__ = ["arguments", "config", "rebuildable_repr"]

#: What a class without a constructor of its own takes from ``object``.
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def arguments(instance: object) -> dict[str, Any]:
    """The constructor arguments of an object that keeps each under its own name."""
    signature = inspect.signature(type(instance).__init__)
    return {
        name: getattr(instance, name)
        for name, parameter in signature.parameters.items()
        if name != "self" and parameter.kind not in VARIADIC
    }


def rebuildable_repr(instance: object) -> str:
    """``Name(argument=value, ...)`` with the arguments that differ from their defaults."""
    defaults = inspect.signature(type(instance).__init__).parameters
    given = [
        f"{name}={value!r}"
        for name, value in arguments(instance).items()
        if not _equal(value, defaults[name].default)
    ]
    return f"{type(instance).__name__}({', '.join(given)})"


def config(value: object) -> Any:
    """A record of plain values (dict, list, text, numbers) that identifies an object's
    configuration.
    """
    if isinstance(value, Mapping):
        return {str(key): config(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [config(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((config(item) for item in value), key=repr)
    if hasattr(value, "tolist"):
        return config(value.tolist())
    return value if value is None or isinstance(value, (bool, int, float, str)) else _object(value)


def _object(value: object) -> Any:
    """A function or class by its name, any other object by its type and arguments."""
    if isinstance(value, type) or inspect.isroutine(value):
        return f"{value.__module__}.{value.__qualname__}"
    if dataclasses.is_dataclass(value):
        given = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    else:
        given = arguments(value)
    return {"type": type(value).__name__, **{k: config(v) for k, v in given.items()}}


def _equal(value: object, default: object) -> bool:
    if default is inspect.Parameter.empty:
        return False
    return value is default or (type(value) is type(default) and bool(value == default))
