"""What people call things: a method says by which names it can be asked for."""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, Literal, TypeVar

from polytask.candidates.method import ArchitectureFactory, Method

__all__ = [
    "SHARED",
    "Named",
    "NamedMethod",
    "exported",
    "plain_name",
    "short_name",
    "shown_names",
    "usual",
]

#: What stands before the names of candidates that learn all tasks in one network.
SHARED = "shared:"
#: A name in a table, the method that it means, and the groups that the method learns.
Named = tuple[str, Method, Literal["single"] | None]
K = TypeVar("K")


class NamedMethod(ABC):
    """A method that can be asked for by name, see ``candidate_by_name``.

    Every subclass that has been imported is asked, those that ``polytask.candidates`` exports
    always.
    """

    @classmethod
    @abstractmethod
    def named(cls, name: str, architecture: ArchitectureFactory | None) -> Named | None:
        """What a name in any spelling means; None where it means another method.

        Args:
            name: As someone has typed it.
            architecture: For its networks, if it has any; None means the default.

        Raises:
            ValueError: The name means this method and does not suffice to make it.
        """

    @classmethod
    @abstractmethod
    def names(cls) -> Sequence[str]:
        """What it can be asked for by, each once and as tables show it."""


def plain_name(name: str) -> str:
    """A name without what spellings differ in: capitals, spaces and marks."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def short_name(kind: type) -> str:
    """``GradNorm`` -> "grad-norm", ``PCGrad`` -> "pcgrad", ``FixedWeights`` -> "fixed"."""
    # A word begins at a capital with three small letters behind it, or is a last abbreviation.
    words = re.sub(r"(?<=[a-z])(?=[A-Z][a-z]{3})|(?<=[a-z]{3})(?=[A-Z]{3}$)", "-", kind.__name__)
    return words.lower().removesuffix("-weighting").removesuffix("-weights")


def exported(
    package: ModuleType, base: type, *, called: Callable[[Any], str] = short_name
) -> dict[str, Any]:
    """The classes among a package's exports that can be made, by their plain names: that of the
    class, and what it is called.
    """
    values: list[Any] = [getattr(package, name) for name in package.__all__]
    kinds = [
        value
        for value in values
        if inspect.isclass(value) and issubclass(value, base) and not inspect.isabstract(value)
    ]
    return {plain_name(name): kind for kind in kinds for name in (kind.__name__, called(kind))}


def shown_names(
    kinds: Mapping[str, Any], *, called: Callable[[Any], str] = short_name
) -> list[str]:
    """What the classes are called, each once, in the order of the alphabet."""
    return sorted({called(kind) for kind in kinds.values()})


def usual(kind: type[K], otherwise: str) -> K:
    """An object of a class with all its defaults.

    Args:
        kind: The class.
        otherwise: The method of a candidate with arguments, as it is written in Python.

    Raises:
        ValueError: It needs arguments.
    """
    try:
        return kind()
    except TypeError as error:
        raise ValueError(
            f"{kind.__name__} needs arguments, so it cannot be named alone; in Python use"
            f" Candidate(name, {otherwise})."
        ) from error
