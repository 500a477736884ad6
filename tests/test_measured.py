"""Every public method is measured in benchmarks or experiments, or excluded there with a reason."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import tomllib
from pathlib import Path

import pytest

#: What the methods of a package are: its family, or the protocol that they fill in.
FAMILIES = {
    "architectures": "polytask.architectures.base:Architecture",
    "balancers": "polytask.balancers.base:Balancer",
    "candidates": "polytask.candidates.method:Method",
    "encoders": "polytask.encoders.base:Encoder",
    "grouping": "polytask.grouping.base:Grouper",
    "samplers": "polytask.samplers.base:Sampler",
}


def methods(package: str) -> dict[str, type]:
    """The concrete classes of its family that a package exports, by name."""
    module, family = FAMILIES[package].split(":")
    base = getattr(importlib.import_module(module), family)
    public = importlib.import_module(f"polytask.{package}")
    found = {}
    for name in public.__all__:
        value = getattr(public, name)
        abstract = inspect.isabstract(value) or getattr(value, "_is_protocol", False)
        if inspect.isclass(value) and issubclass(value, base) and not abstract:
            found[name] = value
    return found


def plain(name: str) -> str:
    """A name in small letters and digits, as the command line reads it."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def spoken(value: type) -> set[str]:
    """The plain names that a class has on the command line."""
    found = {plain(re.sub(r"(Weights|Weighting|Method)$", "", value.__name__))}
    try:
        name = getattr(value(), "name", None)
    except TypeError:  # it needs arguments: only its class says what it is called
        name = getattr(value, "name", None)
    return found | ({plain(name)} if isinstance(name, str) else set())


def words_of(code: str) -> tuple[set[str], set[str]]:
    """Identifiers, and plain strings without what a candidate's name has before and behind its
    method's; neither comments nor docstrings count.
    """
    tree = ast.parse(code)
    texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    identifiers, strings = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            identifiers.add(node.id)
        elif isinstance(node, ast.Attribute):
            identifiers.add(node.attr)
        elif isinstance(node, ast.alias):
            identifiers.add(node.name)
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts
        ):
            name = re.sub(r"^(shared|groups|model): ?|(-hard)?(:\d+)?$", "", node.value)
            strings.add(plain(name))
    return identifiers, strings


def complaints(
    known: dict[str, type], code: tuple[set[str], set[str]], excluded: dict[str, str]
) -> list[str]:
    """What is wrong with the measuring of one package, a sentence each."""
    identifiers, strings = code
    measured = {n for n, c in known.items() if n in identifiers or spoken(c) & strings}
    found = [
        f"{name} is neither measured nor excluded: name it in benchmarks/ or experiments/, or say"
        " why not in benchmarks/exclusions.toml."
        for name in sorted(known.keys() - measured - excluded.keys())
    ]
    found += [f"{n} is excluded but measured." for n in sorted(measured & excluded.keys())]
    found += [f"{n} is excluded but not public." for n in sorted(excluded.keys() - known.keys())]
    found += [
        f"{name} is excluded without a reason, a sentence that ends with a full stop."
        for name, reason in excluded.items()
        if len(reason.split()) < 5 or not reason.endswith(".")
    ]
    return found


@pytest.fixture(scope="module")
def exclusions(root) -> dict[str, dict[str, str]]:
    return tomllib.loads((root / "benchmarks" / "exclusions.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def measuring_code(root) -> tuple[set[str], set[str]]:
    """Identifiers and strings of all programs that measure."""
    files: list[Path] = [
        path for folder in ("benchmarks", "experiments") for path in (root / folder).rglob("*.py")
    ]
    each = [words_of(path.read_text(encoding="utf-8")) for path in files]
    return set().union(*(names for names, _ in each)), set().union(*(said for _, said in each))


@pytest.mark.parametrize("package", FAMILIES)
def test_every_method_is_measured_or_excluded(package, measuring_code, exclusions):
    known = methods(package)
    assert known
    assert complaints(known, measuring_code, exclusions.get(package, {})) == []


def test_exclusions_are_of_packages_with_methods(exclusions):
    assert exclusions.keys() <= FAMILIES.keys()


class FastWeights:
    """Stands for a method."""


class SlowMethod:
    """Stands for a method with a name of its own."""

    name = "very-slow"


REASON = "It has nothing of its own to measure."


@pytest.mark.parametrize(
    ("code", "excluded", "expected"),
    [
        ("x = FastWeights(); y = SlowMethod()", {}, []),
        ("from a import FastWeights, SlowMethod", {}, []),
        ("x = ('fast', 'groups: very-slow:3')", {}, []),
        ("x = ('shared: fast', 'Slow')", {}, []),
        ("x = FastWeights", {"SlowMethod": REASON}, []),
        ("x = FastWeights", {}, ["SlowMethod is neither measured"]),
        (
            "'FastWeights'\ndef f():\n    '''fast'''\n    # SlowMethod, 'slow'\nx = 'a fast one'",
            {},
            ["FastWeights is neither measured", "SlowMethod is neither measured"],
        ),
        ("x = FastWeights, SlowMethod", {"FastWeights": REASON}, ["FastWeights is excluded but m"]),
        ("x = FastWeights, SlowMethod", {"Gone": REASON}, ["Gone is excluded but not public"]),
        ("x = FastWeights", {"SlowMethod": "later"}, ["SlowMethod is excluded without a reason"]),
    ],
)
def test_what_counts_as_measured(code, excluded, expected):
    known = {"FastWeights": FastWeights, "SlowMethod": SlowMethod}
    found = complaints(known, words_of(code), excluded)
    assert [text[: len(start)] for text, start in zip(found, expected, strict=True)] == expected
