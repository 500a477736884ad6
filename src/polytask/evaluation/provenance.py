"""The provenance of a comparison: everything that is needed to repeat it, as plain values."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from pathlib import Path
from typing import Any

from polytask.code import code_version
from polytask.runs.executor import cpu_count

__all__ = ["machine", "make_provenance", "versions"]

PACKAGES = ("torch", "numpy", "scipy", "pandas", "scikit-learn", "safetensors")


def versions() -> dict[str, str]:
    """Versions of Polytask, Python and the packages that results depend on."""
    found = {"polytask": code_version(), "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def machine() -> dict[str, Any]:
    """What the runs were carried out on; no names of hosts, users or folders."""
    import torch

    record: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": cpu_count(),
        "memory_gb": _memory_gb(),
    }
    if torch.cuda.is_available():
        record["gpu"] = torch.cuda.get_device_name(0)
    return record


def make_provenance(
    *, seeds: tuple[int, ...], fingerprint: str, budget: dict[str, Any], command: str | None
) -> dict[str, Any]:
    """The provenance of a comparison that starts now.

    Args:
        seeds: Of the comparison.
        fingerprint: Of the data and their split.
        budget: Of every run.
        command: The command line; None where a Python program asked for the comparison.
    """
    return {
        "command": command or "",
        "seeds": list(seeds),
        "data_fingerprint": fingerprint,
        "budget": budget,
        "versions": versions(),
        "machine": machine(),
        "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _memory_gb() -> float | None:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
