"""Folders and families are one taxonomy, and the page says it as the code does."""

from __future__ import annotations

import importlib
import pkgutil
import re

import pytest

from polytask import architectures
from polytask.architectures import Family
from polytask.checks.architectures import public_architectures

FOLDERS = [name for _, name, is_folder in pkgutil.iter_modules(architectures.__path__) if is_folder]
#: What combines or wraps models of any family.
WITHOUT = {"Independent", "SpecialisedModels", "CustomArchitecture"}


def folder_of(cls) -> str:
    return cls.__module__.removeprefix("polytask.architectures.").split(".")[0]


def rows_of_the_page(root, header: str) -> dict[str, list[str]]:
    """First cell of every row of the table with this first column, to its other cells."""
    page = (root / "docs" / "concepts" / "architectures.md").read_text(encoding="utf-8")
    table = re.search(rf"^\| {header} \|.*\n\|---.*\n((?:\|.*\n)+)", page, re.MULTILINE)
    rows = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in table[1].splitlines()]
    return {cells[0]: cells[1:] for cells in rows}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_names_the_families_of_its_architectures(name):
    folder = importlib.import_module(f"polytask.architectures.{name}")
    exported = [cls for cls in public_architectures() if folder_of(cls) == name]
    found = {cls.family for cls in exported if cls.__name__ not in WITHOUT}
    assert found == set(folder.FAMILIES)


def test_only_what_combines_or_wraps_has_no_family():
    assert {cls.__name__ for cls in public_architectures() if cls.family is None} == WITHOUT


def test_the_page_lists_every_architecture_under_its_family(root):
    listed = {
        (name, family)
        for family, cells in rows_of_the_page(root, "family").items()
        for name in re.findall(r"architectures\.(\w+)`", cells[-1])
    }
    assert listed == {
        (cls.__name__, cls.family.value) for cls in public_architectures() if cls.family is not None
    }


def test_the_page_lists_the_formulas_and_folders_of_the_code(root):
    families = rows_of_the_page(root, "family")
    assert {name: cells[0] for name, cells in families.items()} == {
        family.value: f"`{family.formula}`" for family in Family
    }
    expected = {f"`{name}`": architectures_of(name) for name in FOLDERS}
    expected["`label_graph.py`"] = [architectures.LabelGraph.family.value]
    shown = rows_of_the_page(root, "folder")
    assert {name: cells[-1].rstrip(" |").split(", ") for name, cells in shown.items()} == expected


def architectures_of(folder: str) -> list[str]:
    """Families of a folder as the page writes them."""
    module = importlib.import_module(f"polytask.architectures.{folder}")
    return [family.value for family in module.FAMILIES]
