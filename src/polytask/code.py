"""The package's own code: which file imports which, and a hash of all that a run can reach.

Imports are read from the text of the files, those inside functions and those for type checking
included; nothing is executed.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from polytask._version import __version__

__all__ = ["code_version", "import_graph", "reachable"]

ROOT = Path(__file__).parent
#: Where runs start, and what users hand to them by name; what these modules cannot reach cannot
#: change what a run finds.
RUN_STARTS = ("polytask.candidates", "polytask.datasets.catalogue", "polytask.tasks.losses")


def import_graph(root: Path = ROOT) -> dict[str, set[str]]:
    """The modules of a package, and which of its modules each of them imports.

    Args:
        root: Folder of the package.

    Returns:
        Dotted name to dotted names; ``import a.b`` and ``from a import b`` are one arrow, to ``b``
        where that is a module and to ``a`` otherwise.
    """
    files = {_name(file, root): file for file in sorted(root.rglob("*.py"))}
    return {name: set(_imports(file, files)) - {name} for name, file in files.items()}


def reachable(graph: Mapping[str, Iterable[str]], starts: Iterable[str]) -> set[str]:
    """All modules that the first ones lead to, with the packages that are imported on the way.

    The outermost package is among them, but not what it offers: it imports that at first use only.
    """
    waiting, seen = list(starts), set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in graph:
            continue
        seen.add(name)
        if "." in name:
            waiting += [*graph[name], name.rpartition(".")[0]]
    return seen


@functools.cache
def code_version() -> str:
    """Version of Polytask and a hash of the code that runs depend on.

    Cost: reads and parses all files of the package once per process (about 0.4 s).
    """
    return f"{__version__}+{hash_of_code(ROOT)[:12]}"


def hash_of_code(root: Path) -> str:
    """A hash of every file that a run of the package in a folder can reach."""
    digest = hashlib.sha256()
    for name in sorted(reachable(import_graph(root), RUN_STARTS)):
        file = _file(name, root)
        digest.update(name.encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _name(file: Path, root: Path) -> str:
    parts = file.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _file(name: str, root: Path) -> Path:
    place = root.parent.joinpath(*name.split("."))
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def _imports(file: Path, known: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else node.module
