"""The package as a whole: what importing it loads, the command line's edges, the dependencies."""

from __future__ import annotations

import graphlib
import importlib
import inspect
import json
import pkgutil
import re
import subprocess
import sys
import tomllib

import pytest
import typer
from packaging.requirements import Requirement

import polytask
from polytask.cli import main as cli
from polytask.code import ROOT, import_graph
from tools import count_frames

HEAVY = ("sklearn", "pandas", "scipy", "matplotlib", "rich", "typer", "jinja2", "pyarrow")
LIGHT_PACKAGES = (
    "tasks",
    "problems",
    "tables",
    "datasets",
    "encoders",
    "architectures",
    "balancers",
    "gradients",
    "solvers",
    "samplers",
    "training",
)


def modules_after(code: str) -> set[str]:
    """Names of the top-level packages that a clean process has loaded after `code`."""
    program = f"{code}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def polytask_command(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "polytask.cli.main", *words]
    return subprocess.run(command, capture_output=True, text=True)


# --- importing -----------------------------------------------------------------------------------


def test_import_of_the_package_loads_nothing_heavy():
    assert modules_after("import polytask").isdisjoint({*HEAVY, "torch", "numpy"})


def test_light_packages_load_torch_and_numpy_at_most():
    code = "; ".join(f"import polytask.{name}" for name in LIGHT_PACKAGES)
    loaded = modules_after(code)
    assert "torch" in loaded
    assert loaded.isdisjoint(HEAVY)


@pytest.mark.parametrize("name", sorted(polytask._HOME_OF))
def test_public_name_is_the_one_of_its_home(name):
    home = importlib.import_module(f"polytask.{polytask._HOME_OF[name]}")
    assert getattr(polytask, name) is getattr(home, name)
    assert name in home.__all__


def test_all_names_and_subpackages_are_listed():
    assert set(polytask.__all__) == {*polytask._HOME_OF, "__version__"}
    packages = {module.name for module in pkgutil.iter_modules(polytask.__path__) if module.ispkg}
    assert {*polytask._HOME_OF, *packages} <= set(dir(polytask))
    for name in packages:
        assert getattr(polytask, name) is importlib.import_module(f"polytask.{name}")


def test_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'comparison'"):
        polytask.comparison  # noqa: B018


def test_importing_every_module_has_no_side_effect():
    program = """
import json, os, pkgutil, random, sys, warnings
import numpy, torch
def state():
    return {
        "environment": dict(os.environ), "folder": os.getcwd(), "python": repr(random.getstate()),
        "numpy": repr(numpy.random.get_state()), "torch": torch.get_rng_state().tolist(),
        "threads": torch.get_num_threads(), "dtype": str(torch.get_default_dtype()),
        "gradients": torch.is_grad_enabled(), "hook": repr(sys.excepthook),
    }
before = state()
import polytask
for module in pkgutil.walk_packages(polytask.__path__, "polytask."):
    __import__(module.name)
after = state()
print(json.dumps([key for key in before if before[key] != after[key]]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # Nothing but our own line: a module that prints at import would be a side effect too.
    assert json.loads(done.stdout) == []


# --- rooms ---------------------------------------------------------------------------------------

#: What every room may use: they know no learning.
FOUNDATION = {"_version", "config", "files"}
#: Package to the packages that its files may import; what those may import is allowed, too.
ARROWS = {
    "tasks": (),
    "problems": ("tasks",),
    "tables": ("problems",),
    "datasets": ("tables",),
    "solvers": (),
    "gradients": ("solvers",),
    "balancers": ("gradients", "tasks"),
    "encoders": (),
    "architectures": ("problems", "encoders"),
    "samplers": ("problems",),
    "training": ("architectures", "balancers", "samplers"),
    "grouping": ("training",),
    "runs": (),
    "candidates": ("grouping", "datasets", "runs", "code"),
    "serving": ("candidates",),
    "report": (),
    "evaluation": ("serving", "report"),
    "checks": ("grouping", "datasets"),
    "cli": ("evaluation",),
    "code": (),
}
MOST_LINES = 500
#: Files over the limit, and why they are one.
LONG_FILES: dict[str, str] = {}


def allowed(room: str) -> set[str]:
    """Every room that the files of a room may import."""
    found = {room, *FOUNDATION}
    for other in ARROWS[room]:
        found |= allowed(other)
    return found


@pytest.fixture(scope="module")
def imports():
    return import_graph()


def test_no_two_files_import_each_other(imports):
    """For type checking or inside functions neither: a circle is one room with two doors."""
    # The outermost package imports its rooms at first use, so it is no part of a circle.
    inner = {name: others for name, others in imports.items() if "." in name}
    graphlib.TopologicalSorter(inner).prepare()  # CycleError names the circle


def test_imports_point_one_way(imports):
    wrong = [
        f"{name} -> {other}"
        for name, others in imports.items()
        for other in others
        if "." in name and "." in other
        and name.split(".")[1] in ARROWS
        and other.split(".")[1] not in allowed(name.split(".")[1])
    ]  # fmt: skip
    assert wrong == []


def test_every_room_has_its_arrows(imports):
    rooms = {name.split(".")[1] for name in imports if "." in name}
    assert rooms == set(ARROWS) | FOUNDATION


def test_no_file_is_too_long():
    counted = {
        file.relative_to(ROOT).as_posix(): len(file.read_text(encoding="utf-8").splitlines())
        for file in ROOT.rglob("*.py")
    }
    assert {name for name, lines in counted.items() if lines > MOST_LINES} == set(LONG_FILES)
    assert all(LONG_FILES.values())


def public_packages():
    return sorted(polytask._subpackages() - {"cli"})


def test_public_names_are_documented_and_exported_once():
    homes: dict[str, list[str]] = {}
    for package in public_packages():
        module = importlib.import_module(f"polytask.{package}")
        for name in getattr(module, "__all__", ()):
            homes.setdefault(name, []).append(package)
            value = getattr(module, name)
            if inspect.isclass(value) or inspect.isroutine(value):
                assert inspect.getdoc(value), f"polytask.{package}.{name} has no docstring"
    assert {name: found for name, found in homes.items() if len(found) > 1} == {}


def test_the_picture_of_the_house_is_that_of_the_code(root):
    command = [sys.executable, str(root / "tools" / "draw_house.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"run tools/draw_house.py {done.stderr}"


# --- the length of a step ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "frames", "depth"), [("Equal", 35, 6), ("PCGrad", 85, 8), ("CAGrad", 95, 12)]
)
def test_a_training_step_stays_short(method, frames, depth):
    """What has been reached; the goal for CAGrad's depth is 9."""
    whole = count_frames.count(method)  # with the call of the step itself
    assert whole.frames - 1 <= frames
    assert whole.depth - 1 <= depth


# --- the command line ----------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["--help"], ["--version"]])
def test_first_answers_do_not_load_torch(words):
    code = f"""
from polytask.cli.main import main
try:
    main({words})
except SystemExit as end:
    assert end.code == 0, end.code
"""
    heavy = set(HEAVY) - {"rich", "typer", "jinja2"}
    assert modules_after(code).isdisjoint({*heavy, "torch", "numpy"})


def test_version_is_printed():
    done = polytask_command("--version")
    assert (done.returncode, done.stdout) == (0, f"polytask {polytask.__version__}\n")


def test_every_command_has_help_with_an_example():
    names = [name for name, _ in cli.commands()]
    assert names == ["compare", "datasets", "group", "inspect", "predict", "report", "train"]
    for name in names:
        done = polytask_command(name, "--help")
        assert done.returncode == 0, done.stderr
        assert re.search(rf"polytask\s+{name}", done.stdout.split("Usage:")[1].split("\n", 1)[1])


@pytest.mark.parametrize("words", [["comapre"], ["--nonsense"], ["compare", "--nonsense"]])
def test_usage_errors_are_one_line_and_code_2(words):
    done = polytask_command(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"error: [^\n]+\n", done.stderr)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ValueError("`--target` names\nno column"), 2, "`--target` names no column"),
        (TypeError("expected a table"), 2, "expected a table"),
        (
            FileNotFoundError(2, "No such file or directory", "a.csv"),
            2,
            "a.csv: No such file or directory",
        ),
        (OSError("cannot write here"), 2, "cannot write here"),
        (
            ImportError("install polytask[data] for Parquet"),
            2,
            "install polytask[data] for Parquet",
        ),
        (FloatingPointError("loss `a` is not finite"), 1, "loss `a` is not finite"),
        (MemoryError("8 GB"), 1, "out of memory (8 GB); use a smaller batch or fewer workers"),
        (KeyError("x"), 70, "KeyError: 'x'; this is a bug in polytask: rerun with --debug"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
@pytest.mark.parametrize("debug", [False, True])
def test_errors_of_a_command(monkeypatch, capsys, error, code, line, debug):
    def fail() -> None:
        raise error

    monkeypatch.setattr(cli, "commands", lambda: [("fail", fail)])
    words = ["fail", "--debug"] if debug else ["fail"]
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    stderr = capsys.readouterr().err
    assert end.value.code == code
    assert stderr.splitlines()[-1] == f"error: {line}"
    is_traced = debug and not isinstance(error, KeyboardInterrupt)
    assert ("Traceback" in stderr) is is_traced
    assert is_traced or len(stderr.splitlines()) == 1


def test_exit_code_of_a_command_is_kept(monkeypatch):
    def stop() -> None:
        raise typer.Exit(1)

    monkeypatch.setattr(cli, "commands", lambda: [("stop", stop), ("go", lambda: None)])
    assert cli.run(["stop"]) == 1
    assert cli.run(["go"]) == 0


def test_debug_behind_a_double_dash_belongs_to_the_command(monkeypatch, capsys):
    def echo(words: list[str]) -> None:
        print(*words)

    monkeypatch.setattr(cli, "commands", lambda: [("echo", echo)])
    with pytest.raises(SystemExit) as end:
        cli.main(["echo", "--", "--debug"])
    assert end.value.code == 0
    assert capsys.readouterr().out == "--debug\n"


def test_a_reader_that_leaves_is_no_traceback():
    """As in `polytask --help | head -0`: the pipe is closed before anything is written."""
    program = f"{sys.executable} -m polytask.cli.main --help | true"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
    assert done.stderr == ""


# --- dependencies --------------------------------------------------------------------------------


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_constraints_pin_every_declared_dependency_within_its_range(root):
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    declared = [line for group in groups for line in group]
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    for requirement in map(Requirement, declared):
        if requirement.name == "polytask":
            continue
        assert normal(requirement.name) in pins
        assert requirement.specifier.contains(pins[normal(requirement.name)])


def test_constraints_hold_public_versions_only(root):
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert len(pins) == len({pin.split("==")[0] for pin in pins})
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][\w.]*", pin) for pin in pins)
