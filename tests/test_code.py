"""The key of a run changes with the code that the run can reach, and with no other."""

from __future__ import annotations

import shutil

import pytest

from polytask.code import ROOT, RUN_STARTS, hash_of_code, import_graph, reachable

REACHED = reachable(import_graph(), RUN_STARTS)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("code") / "polytask"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def key(copy):
    return hash_of_code(copy)


def first_files():
    """One file of every package, and every module that belongs to none."""
    chosen = {}
    for file in sorted(ROOT.rglob("*.py")):
        place = file.relative_to(ROOT)
        chosen.setdefault(place.parent if place.parent.name else place, place)
    return list(chosen.values())


def is_reached(place):
    parts = place.with_suffix("").parts
    return ".".join(["polytask", *(parts[:-1] if parts[-1] == "__init__" else parts)]) in REACHED


@pytest.mark.parametrize("place", first_files(), ids=str)
def test_one_changed_byte_gives_another_key_where_runs_can_reach_it(copy, key, place):
    file = copy / place
    before = file.read_bytes()
    try:
        file.write_bytes(before + b"#")
        assert (hash_of_code(copy) != key) == is_reached(place)
    finally:
        file.write_bytes(before)


@pytest.mark.parametrize(
    "name",
    [
        "problems.table_batch",
        "problems.segments",
        "tasks.losses",
        "tasks.kinds.binary",
        "config",
        "tables.columns",
        "datasets.digits",
        "architectures.sharing.hard_sharing",
        "candidates.trees",
        "training.step",
        "samplers.proportional",
        "solvers.min_norm",
    ],
)
def test_runs_reach_what_they_are_made_of(name):
    assert f"polytask.{name}" in REACHED


@pytest.mark.parametrize("name", ["cli", "report", "evaluation.verdict", "serving", "checks"])
def test_runs_do_not_reach_what_only_reads_them(name):
    assert f"polytask.{name}" not in REACHED


def test_a_module_on_the_way_brings_its_packages():
    graph = {"p": {"p.d"}, "p.a": set(), "p.a.b": {"p.c"}, "p.c": set(), "p.d": set()}
    assert reachable(graph, ["p.a.b"]) == {"p", "p.a", "p.a.b", "p.c"}
