"""Options of several commands as dataclasses: a field of one is an option of the command line.

A command takes the dataclass as one argument, and ``expanded`` makes an argument of every field for
typer. Commands that share options share the class, with the help and the checks in one place.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import typer

__all__ = ["Without", "expanded", "option"]


@dataclass(frozen=True)
class Without:
    """Beside a dataclass of options: those that a command does not have.

    Args:
        names: Of the fields; the command gets their defaults.
    """

    names: tuple[str, ...]


def option(help_text: str, *, panel: str | None = None, **more: Any) -> Any:
    """What typer shows of an option in its panel of the help; ``more`` is for ``typer.Option``."""
    return typer.Option(help=help_text, rich_help_panel=panel, **more)


def expanded(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with one argument per option, as typer reads them."""
    hints = typing.get_type_hints(command, include_extras=True)
    signature = inspect.signature(command)
    groups = {
        name: hint for name, hint in hints.items() if dataclasses.is_dataclass(_class_of(hint))
    }

    def run(**values: Any) -> Any:
        for name, hint in groups.items():
            given = {field: values.pop(field) for field, _, _ in _fields(hint)}
            values[name] = _class_of(hint)(**given)
        return command(**values)

    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        if parameter.name in groups:
            parameters += [
                _parameter(name, hint, default)
                for name, hint, default in _fields(groups[parameter.name])
            ]
        else:
            hint = hints.get(parameter.name, parameter.annotation)
            parameters.append(_parameter(parameter.name, hint, parameter.default))
    run.__doc__, run.__name__ = command.__doc__, command.__name__
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run


def _class_of(hint: Any) -> Any:
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint


def _fields(hint: Any) -> Iterator[tuple[str, Any, Any]]:
    """Name, annotated type and default of every option of a dataclass that a command has."""
    kind = _class_of(hint)
    without = {
        name for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, Without)
        for name in extra.names
    }  # fmt: skip
    types = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        if field.name not in without:
            yield field.name, types[field.name], field.default


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, keyword, annotation=annotation, default=default)
