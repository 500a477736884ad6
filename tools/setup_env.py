"""Make the project's environment in .venv and run one of the project's jobs in it.

`make demo` is `python tools/setup_env.py demo`, and so on for every target, so a machine without
`make` has the same jobs. Only the standard library is used. A finished set-up is recognised by its
stamp and costs no time; one that was cut off is made anew, because half an installation can look
whole.

PyTorch is the large part. The registry's Linux build brings 2.7 GB of GPU libraries, so a Linux
machine without an NVIDIA GPU gets PyTorch's own CPU build (0.2 GB) of the version in
constraints.txt.

Environment: TORCH=cpu or TORCH=cuda chooses the build (TORCH=cuda takes the registry's own);
POLYTASK_TORCH_INDEX replaces the index of CPU builds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
STAMP = VENV / "polytask-setup.json"
UNFINISHED = VENV / "polytask-setup.unfinished"
CONSTRAINTS = ROOT / "constraints.txt"

MINIMUM = (3, 11)
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
# Download in GB on Linux x86_64, measured; said before anything is fetched.
TORCH_GB = {"cpu": 0.2, "cuda": 2.7, "default": 0.2}
PACKAGES_GB = {"core": 0.12, "dev": 0.1, "docs": 0.02}

# Two test processes on two cores: more threads, or threads that spin while they wait, only slow
# each other down.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "0",
}
PYTEST = ["{python}", "-m", "pytest", "-n", "2", "--dist", "worksteal"]
# job: (extras it needs, its commands, its environment); further arguments go to the last command.
JOBS: dict[str, tuple[set[str], list[list[str]], dict[str, str]]] = {
    "setup": ({"dev"}, [], {}),
    "demo": (
        set(),
        [
            [
                "{bin}/polytask",
                "compare",
                "--dataset",
                "digits13",
                "--preset",
                "demo",
                "--out",
                "runs/demo",
            ]
        ],
        {},
    ),
    "test": ({"dev"}, [PYTEST], {**ONE_THREAD, "HYPOTHESIS_PROFILE": "ci"}),
    "test-fast": (
        {"dev"},
        [[*PYTEST, "-m", "not slow"]],
        {**ONE_THREAD, "HYPOTHESIS_PROFILE": "ci"},
    ),
    "lint": (
        {"dev"},
        [
            ["{python}", "-m", "ruff", "format", "--check"],
            ["{python}", "-m", "mypy"],
            ["{python}", "-m", "ruff", "check"],
        ],
        {},
    ),
    "docs": (
        {"docs"},
        [
            [
                "{python}",
                "-m",
                "sphinx",
                "-W",
                "--keep-going",
                "-b",
                "html",
                "docs",
                "docs/_build/html",
            ]
        ],
        {},
    ),
    "bench": (
        {"dev"},
        [
            ["{python}", "benchmarks/import_time.py"],
            ["{python}", "benchmarks/training/step.py"],
            ["{python}", "benchmarks/balancers/solvers.py"],
            ["{python}", "benchmarks/balancers/steps.py", "--cells", "mlp-10"],
        ],
        ONE_THREAD,
    ),
}


class SetupError(Exception):
    """The set-up cannot go on; the message is one sentence for the person at the terminal."""


def say(text: str) -> None:
    print(f"setup: {text}", flush=True)


def pip(*arguments: str) -> int:
    """Run pip in .venv, its output in sight; the exit status."""
    command = [str(PYTHON), "-m", "pip", "install", *arguments]
    return subprocess.run(
        command, check=False, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    ).returncode


def fingerprint() -> str:
    """What the environment depends on: .venv keeps its own Python, and cannot be moved."""
    digest = hashlib.sha256(str(ROOT).encode())
    for name in (
        "pyproject.toml",
        "constraints.txt",
        "src/polytask/_version.py",
        "tools/setup_env.py",
    ):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def read_stamp() -> dict[str, Any]:
    """The record of the last finished set-up; empty if there is none that still holds."""
    if UNFINISHED.exists() or not PYTHON.exists():
        return {}
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # no stamp, or one cut off while it was written: the same as not set up
    return stamp if isinstance(stamp, dict) and stamp.get("key") == fingerprint() else {}


def torch_pin() -> str:
    """The public torch version in constraints.txt."""
    found = re.search(r"^torch==([\w.]+)$", CONSTRAINTS.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise SetupError("constraints.txt has no line torch==VERSION.")
    return found[1]


def wanted_torch() -> str:
    """Which torch build to fetch: 'cpu', 'cuda', or 'default' where only one is published."""
    asked = os.environ.get("TORCH", "")
    if asked not in {"", "cpu", "cuda"}:
        raise SetupError(f"TORCH must be cpu or cuda, found {asked!r}.")
    if not sys.platform.startswith("linux"):
        return "default"
    has_gpu = shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia").exists()
    return asked or ("cuda" if has_gpu else "cpu")


def present_torch() -> tuple[str, bool] | None:
    """Version of the torch in .venv and whether it is a CUDA build; None if it has none."""
    probe = "import torch; print(torch.__version__, torch.version.cuda is not None)"
    done = subprocess.run([str(PYTHON), "-c", probe], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return None
    version, is_cuda = done.stdout.split()
    return version, is_cuda == "True"


def torch_is_there(build: str) -> bool:
    """Whether .venv already holds the pinned torch, in the build that was asked for if one was."""
    present = present_torch()
    if present is None or present[0].split("+")[0] != torch_pin():
        return False
    return not os.environ.get("TORCH") or build == "default" or present[1] == (build == "cuda")


def install_torch(build: str) -> None:
    """Install the pinned torch alone; its dependencies come later, from pip's ordinary index.

    The CPU build is named by its local version, so that no other can be taken for it. The reinstall
    is forced because pip takes the public version for satisfied by any build.
    """
    pin = torch_pin()
    if build != "cpu":
        if pip("--force-reinstall", "--no-deps", f"torch=={pin}"):
            raise SetupError(
                f"pip could not install torch {pin} (see above); run the same command again."
            )
        return
    index = os.environ.get("POLYTASK_TORCH_INDEX", CPU_INDEX)
    # No retries: an index out of reach costs seconds then, and pip's own configuration may offer
    # the wheel.
    where = ("--retries", "0", "--extra-index-url", index)
    if pip(*where, "--force-reinstall", "--no-deps", f"torch=={pin}+cpu"):
        raise SetupError(
            f"found no CPU build of torch {pin} at {index} or in pip's configuration (see above); "
            "run the same command again, set POLYTASK_TORCH_INDEX to a mirror, or accept the "
            "2.7 GB build with TORCH=cuda."
        )


def make_venv() -> None:
    """Create .venv, or make it anew where the one there is unfinished, broken or too old."""
    probe = f"import sys, pip; sys.exit(sys.version_info < {MINIMUM})"
    if PYTHON.exists() and not UNFINISHED.exists():
        done = subprocess.run([str(PYTHON), "-c", probe], capture_output=True, check=False)
        if done.returncode == 0:
            return
    if VENV.exists():
        say("the environment in .venv is unfinished or broken: making it anew.")
    done = subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=False)
    if done.returncode != 0:
        raise SetupError(
            f"{sys.executable} cannot make a virtual environment (see above); on Debian and Ubuntu "
            "install the package python3-venv, then run the same command again."
        )


def announce(extras: set[str], build: str, torch_needed: bool) -> None:
    """Say what will be fetched and how much before fetching it."""
    parts = []
    if torch_needed:
        reason = {
            "cpu": "CPU build; for an NVIDIA GPU: TORCH=cuda make setup, 2.7 GB",
            "cuda": "CUDA build; for the CPU build: TORCH=cpu make setup, 0.2 GB",
            "default": "the registry's build",
        }[build]
        parts.append(f"torch {torch_pin()}, {TORCH_GB[build]} GB ({reason})")
    parts += [f"{name} packages, {PACKAGES_GB[name]} GB" for name in ["core", *sorted(extras)]]
    say("will download, where .venv or pip's cache does not have it: " + "; ".join(parts) + ".")


def ensure(extras: set[str]) -> None:
    """Bring .venv to hold the package, its core dependencies and `extras`."""
    build = wanted_torch()
    stamp = read_stamp()
    installed = set(stamp.get("extras", ()))
    asked = os.environ.get("TORCH")
    if stamp and extras <= installed and (not asked or stamp.get("torch") == build):
        return
    start = time.monotonic()
    extras = extras | installed
    make_venv()
    torch_needed = not torch_is_there(build)
    announce(extras, build, torch_needed)
    UNFINISHED.touch()
    try:
        if torch_needed:
            install_torch(build)
        package = f".[{','.join(sorted(extras))}]" if extras else "."
        if pip("-c", str(CONSTRAINTS), "torch", "-e", package):
            raise SetupError(
                "pip could not install the packages (see above); run the same command again."
            )
        if subprocess.run([str(PYTHON), "-c", "import torch, polytask"], check=False).returncode:
            raise SetupError(
                "the installed package cannot be imported (see above); remove .venv and try again."
            )
    except SetupError:
        UNFINISHED.unlink()  # pip itself gave up and has left the environment whole
        raise
    present = present_torch()
    build = build if present is None or build == "default" else ("cuda" if present[1] else "cpu")
    record = {"key": fingerprint(), "extras": sorted(extras), "torch": build}
    STAMP.write_text(json.dumps(record), encoding="utf-8")
    UNFINISHED.unlink()
    say(f".venv is ready after {time.monotonic() - start:.0f} s.")


def run_job(commands: list[list[str]], settings: dict[str, str], extra: list[str]) -> int:
    """Run a job's commands one after the other; the worst exit status. The user's settings win."""
    environment = {**settings, **os.environ}
    environment["PATH"] = f"{BIN}{os.pathsep}{environment.get('PATH', '')}"
    worst = 0
    for number, command in enumerate(commands, 1):
        is_last = number == len(commands)
        line = [part.format(python=PYTHON, bin=BIN) for part in command] + (
            extra if is_last else []
        )
        if is_last and not worst and os.name == "posix":
            # Replacing this process leaves Ctrl-C and the exit status to the command alone.
            os.execve(line[0], line, environment)
        if is_last and os.name == "nt":
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        worst = max(worst, abs(subprocess.run(line, check=False, env=environment).returncode))
    return worst


def main() -> int:
    if sys.version_info < MINIMUM:
        found = ".".join(str(part) for part in sys.version_info[:3])
        print(
            f"Polytask needs Python 3.11 or newer, found {found} ({sys.executable}): install one "
            "and run `python3.11 tools/setup_env.py` with it.",
            file=sys.stderr,
        )
        return 2
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("job", choices=JOBS, nargs="?", default="setup")
    options, extra = parser.parse_known_args()
    extras, commands, settings = JOBS[options.job]
    os.chdir(ROOT)
    try:
        ensure(extras)
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("setup: interrupted; run the same command again to finish.", file=sys.stderr)
        return 130
    return run_job(commands, settings, extra)


if __name__ == "__main__":
    sys.exit(main())
