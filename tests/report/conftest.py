"""A browser."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tests.evaluation.conftest import trained

__all__ = ["trained"]

BINARIES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    # What the browser itself wants from the network is not found at once.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)


@dataclass(frozen=True)
class Visit:
    """What a browser saw: the page after its scripts, its console, what pages asked for."""

    dom: str
    console: list[str]
    requests: list[str]


@pytest.fixture(scope="session")
def chromium() -> str:
    named = os.environ.get("CHROMIUM")
    found = [path for name in ([named] if named else BINARIES) if (path := shutil.which(name))]
    if not found:
        pytest.skip(f"needs Chromium: none of {', '.join(BINARIES)} is installed")
    return found[0]


@pytest.fixture
def visit(chromium, tmp_path) -> Callable[..., Visit]:
    """Open a page and tell what happened."""

    def go(page: Path, *flags: str) -> Visit:
        log = tmp_path / "net.json"
        done = subprocess.run(
            [
                chromium, *FLAGS, *flags, f"--user-data-dir={tmp_path / 'profile'}",
                "--enable-logging=stderr", f"--log-net-log={log}", "--dump-dom", page.as_uri(),
            ],
            capture_output=True, text=True, encoding="utf-8", timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
        return Visit(done.stdout, console, _requests_of_pages(log))

    return go


@pytest.fixture
def screenshot(chromium, tmp_path) -> Callable[..., np.ndarray]:
    """A picture of a page ``[H, W, 4]``, values 0 to 1."""

    def take(page: Path, *flags: str) -> np.ndarray:
        import matplotlib.image

        target = tmp_path / "page.png"
        subprocess.run(
            [
                chromium, *FLAGS, "--window-size=1200,1600", *flags,
                f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={target}", page.as_uri(),
            ],
            capture_output=True, timeout=120, check=True,
        )  # fmt: skip
        return matplotlib.image.imread(target)

    return take


def _requests_of_pages(log: Path) -> list[str]:
    """Addresses that pages asked for; the browser's own requests come from no origin."""
    record = json.loads(log.read_text(encoding="utf-8"))
    start = record["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    return [
        event["params"]["url"]
        for event in record["events"]
        if event["type"] == start
        and "url" in event.get("params", {})
        and event["params"].get("initiator") != "not an origin"
    ]
