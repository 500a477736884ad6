"""Write the pages that are made from the package itself: the tables of methods and the API pages.

What a package exports in `__all__` is in the table; nothing is listed by hand.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import polytask

INTRODUCTION = """# Methods

These tables are made from the classes. *Cost* is the number of backward passes through the shared
part in one step with T tasks.
"""
# What the methods of a package derive from.
FAMILIES = {
    "architectures": "Architecture",
    "balancers": "Balancer",
    "encoders": "Encoder",
    "grouping": "Grouper",
    "samplers": "Sampler",
}


def methods(package: str) -> Iterator[type]:
    """The concrete classes of its family that a subpackage exports, in alphabetical order."""
    module = importlib.import_module(f"polytask.{package}")
    base = getattr(importlib.import_module(f"polytask.{package}.base"), FAMILIES[package])
    for name in sorted(module.__all__):
        value = getattr(module, name)
        if inspect.isclass(value) and issubclass(value, base) and not inspect.isabstract(value):
            yield value


def subpackages() -> list[str]:
    """The public subpackages and modules of Polytask."""
    modules = pkgutil.iter_modules(polytask.__path__)
    return sorted(m.name for m in modules if m.ispkg and m.name != "cli")


def first_sentence(value: type) -> str:
    """The first line of the docstring, safe inside a table."""
    return (inspect.getdoc(value) or "").split("\n\n", 1)[0].replace("\n", " ").replace("|", "\\|")


def trainings(value: type) -> str:
    """What stands under `Cost:`, up to the first full stop or semicolon."""
    text = inspect.getdoc(value) or ""
    _, found, rest = text.partition("\nCost: ")
    words = " ".join(rest.split("\n\n", 1)[0].split())
    return re.split(r"[;.](?: |$)", words)[0].replace("|", "\\|") if found else "–"


def reference(value: type) -> str:
    """What stands under `References:`."""
    text = inspect.getdoc(value) or ""
    _, found, rest = text.partition("\nReferences:\n")
    return " ".join(rest.split("\n\n", 1)[0].split()).replace("|", "\\|") if found else "–"


def family_of(value: type) -> str:
    """What a balancer is told: losses, the Gramian or the Jacobian."""
    for parent in value.__mro__[1:]:
        if parent.__name__ in ("LossBalancer", "GramBalancer", "JacobianBalancer"):
            return {"Loss": "losses", "Gram": "Gramian", "Jaco": "Jacobian"}[parent.__name__[:4]]
    return "–"


def sharing(value: type) -> str:
    """Where the task enters an architecture: its family and formula."""
    family = value.family
    return "–" if family is None else f"{family.value}: `{family.formula}`"


def promises(value: type) -> str:
    """The declared properties that the conformance checks test."""
    names = ("non_conflicting", "scale_invariant", "stationary_fixed_point")
    return ", ".join(name.replace("_", " ") for name in names if getattr(value, name)) or "–"


def table(title: str, package: str, columns: dict[str, Callable[[type], str]]) -> str:
    """One Markdown table with a row per method of the package."""
    lines = [
        f"## {title}",
        "",
        f"| method | {' | '.join(columns)} |",
        "|---|" + "---|" * len(columns),
    ]
    lines += [
        f"| {{py:class}}`~polytask.{package}.{value.__name__}` | "
        + " | ".join(column(value) for column in columns.values())
        + " |"
        for value in methods(package)
    ]
    return "\n".join(lines) + "\n"


def methods_page() -> str:
    """The page of all methods."""
    about: dict[str, Callable[[type], str]] = {
        "what it does": first_sentence,
        "reference": reference,
    }
    balancers: dict[str, Callable[[type], str]] = {
        "what it does": first_sentence,
        "is told": family_of,
        "cost": lambda value: value.cost,
        "promises": promises,
        "reference": reference,
    }
    groupers: dict[str, Callable[[type], str]] = {
        "what it does": first_sentence,
        "cost of finding groups": trainings,
        "reference": reference,
    }
    architectures = {
        "what it does": first_sentence,
        "where the task enters": sharing,
        "reference": reference,
    }
    parts = [
        INTRODUCTION,
        table("Balancers", "balancers", balancers),
        table("Architectures", "architectures", architectures),
        table("Encoders", "encoders", about),
        table("Groupers", "grouping", groupers),
        table("Samplers", "samplers", about),
    ]
    return "\n".join(parts)


def api_page(name: str) -> str:
    """The page of one subpackage, in reStructuredText as the docstrings are."""
    title = f"polytask.{name}"
    is_package = hasattr(importlib.import_module(title), "__path__")
    options = ["members", "show-inheritance", *(["imported-members"] if is_package else [])]
    body = "".join(f"   :{option}:\n" for option in options)
    return f"{title}\n{'=' * len(title)}\n\n.. automodule:: {title}\n{body}"


def write(folder: Path) -> None:
    """Write `methods.md` and a page per subpackage into `folder`."""
    (folder / "api").mkdir(parents=True, exist_ok=True)
    (folder / "methods.md").write_text(methods_page(), encoding="utf-8")
    for name in subpackages():
        (folder / "api" / f"{name}.rst").write_text(api_page(name), encoding="utf-8")


if __name__ == "__main__":
    write(Path(__file__).parent / "_generated")
    print(f"wrote the pages of polytask {polytask.__version__}")
