"""The set-up script: what it fetches where, and that it is safe to run twice or to cut off."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest


@pytest.fixture
def setup_env(root, tmp_path, monkeypatch):
    """The script as a module on an empty folder; the commands it runs are only written down."""
    spec = importlib.util.spec_from_file_location("setup_env", root / "tools" / "setup_env.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    venv = tmp_path / ".venv"
    monkeypatch.setattr(module, "VENV", venv)
    monkeypatch.setattr(module, "PYTHON", venv / "python")
    monkeypatch.setattr(module, "STAMP", venv / "stamp")
    monkeypatch.setattr(module, "UNFINISHED", venv / "unfinished")
    monkeypatch.delenv("TORCH", raising=False)
    monkeypatch.delenv("POLYTASK_TORCH_INDEX", raising=False)
    monkeypatch.setattr(module.sys, "platform", "linux")
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    module.commands = []
    module.fail_on = ()
    module.torch = None

    def run(command, **_):
        module.commands.append([str(word) for word in command])
        text = " ".join(module.commands[-1])
        if "venv --clear" in text:
            venv.mkdir(exist_ok=True)
            (venv / "unfinished").unlink(missing_ok=True)
            (venv / "python").touch()
        if "torch.version.cuda" in text:
            return subprocess.CompletedProcess(command, module.torch is None, stdout=module.torch)
        if "torch==" in text and not any(word in text for word in module.fail_on):
            module.torch = "2.13.0+cpu False" if "+cpu" in text else "2.13.0 True"
        return subprocess.CompletedProcess(
            command, int(any(word in text for word in module.fail_on))
        )

    monkeypatch.setattr(module.subprocess, "run", run)
    return module


def pip_calls(module):
    return [command for command in module.commands if "pip" in command]


def without_gpu(monkeypatch, module):
    monkeypatch.setattr(module.Path, "exists", guard_driver(module.Path.exists))


def guard_driver(exists):
    return lambda path: False if str(path) == "/proc/driver/nvidia" else exists(path)


def test_linux_without_gpu_gets_the_cpu_build_and_no_other(setup_env, monkeypatch, capsys):
    without_gpu(monkeypatch, setup_env)
    setup_env.ensure({"dev"})
    torch, package = pip_calls(setup_env)
    assert f"torch=={setup_env.torch_pin()}+cpu" in torch
    assert torch[torch.index("--extra-index-url") + 1] == setup_env.CPU_INDEX
    assert package[-5:] == ["-c", str(setup_env.CONSTRAINTS), "torch", "-e", ".[dev]"]
    assert "--extra-index-url" not in package  # the extra index may supply torch and nothing else
    said = capsys.readouterr().out
    assert "0.2 GB (CPU build; for an NVIDIA GPU: TORCH=cuda make setup, 2.7 GB)" in said


def test_no_cpu_build_is_an_error_and_never_the_gpu_build(setup_env, monkeypatch):
    without_gpu(monkeypatch, setup_env)
    setup_env.fail_on = ("+cpu",)
    with pytest.raises(setup_env.SetupError, match="TORCH=cuda"):
        setup_env.ensure(set())
    assert len(pip_calls(setup_env)) == 1
    assert not setup_env.UNFINISHED.exists()


@pytest.mark.parametrize(
    ("asked", "gpu", "build"),
    [
        ("", False, "cpu"),
        ("", True, "cuda"),
        ("cpu", True, "cpu"),
        ("cuda", False, "cuda"),
    ],
)
def test_build_follows_the_machine_unless_asked(setup_env, monkeypatch, asked, gpu, build):
    without_gpu(monkeypatch, setup_env)
    monkeypatch.setattr(
        setup_env.shutil, "which", lambda name: "/usr/bin/nvidia-smi" if gpu else None
    )
    monkeypatch.setenv("TORCH", asked)
    assert setup_env.wanted_torch() == build


def test_unknown_build_is_named(setup_env, monkeypatch):
    monkeypatch.setenv("TORCH", "rocm")
    with pytest.raises(setup_env.SetupError, match="TORCH must be cpu or cuda, found 'rocm'"):
        setup_env.wanted_torch()


def test_other_platforms_take_the_registrys_build(setup_env, monkeypatch):
    monkeypatch.setattr(setup_env.sys, "platform", "darwin")
    setup_env.ensure(set())
    torch, package = pip_calls(setup_env)
    assert torch[-1] == f"torch=={setup_env.torch_pin()}"
    assert "--extra-index-url" not in torch
    assert package[-2:] == ["-e", "."]


def test_second_run_does_nothing_and_more_extras_keep_the_old_ones(setup_env):
    setup_env.ensure({"dev"})
    done = len(setup_env.commands)
    setup_env.ensure({"dev"})
    setup_env.ensure(set())
    assert len(setup_env.commands) == done
    setup_env.ensure({"docs"})
    (package,) = pip_calls(setup_env)[2:]  # torch was there and is kept
    assert package[-1] == ".[dev,docs]"


def test_switch_to_the_gpu_build_replaces_torch_only_when_asked(setup_env, monkeypatch):
    monkeypatch.setenv("TORCH", "cpu")
    setup_env.ensure(set())
    monkeypatch.setenv("TORCH", "cuda")
    setup_env.ensure(set())
    assert "--force-reinstall" in pip_calls(setup_env)[2]
    assert json.loads(setup_env.STAMP.read_text())["torch"] == "cuda"
    monkeypatch.delenv("TORCH")
    done = len(setup_env.commands)
    setup_env.ensure(set())
    assert len(setup_env.commands) == done


def test_changed_pins_and_a_torn_stamp_set_up_again(setup_env, monkeypatch):
    setup_env.ensure(set())
    setup_env.STAMP.write_text(setup_env.STAMP.read_text()[:20])
    assert setup_env.read_stamp() == {}
    setup_env.ensure(set())
    assert setup_env.read_stamp() != {}
    monkeypatch.setattr(setup_env, "fingerprint", lambda: "another")
    assert setup_env.read_stamp() == {}


def test_a_cut_off_set_up_is_made_anew(setup_env, capsys):
    setup_env.ensure(set())
    setup_env.UNFINISHED.touch()
    setup_env.ensure(set())
    assert sum("--clear" in command for command in setup_env.commands) == 2
    assert "making it anew" in capsys.readouterr().out
    assert not setup_env.UNFINISHED.exists()


def test_an_old_python_gets_one_sentence(setup_env, monkeypatch, capsys):
    monkeypatch.setattr(setup_env.sys, "version_info", (3, 9, 6))
    assert setup_env.main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Polytask needs Python 3.11 or newer, found 3.9.6")


def test_arguments_go_to_the_last_command_and_the_users_environment_wins(setup_env, monkeypatch):
    monkeypatch.setattr(setup_env.os, "name", "other")  # without exec, so that the call can be seen
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    seen = {}

    def run(command, env, **_):
        seen.update(command=command, env=env)
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(setup_env.subprocess, "run", run)
    _, commands, settings = setup_env.JOBS["test"]
    assert setup_env.run_job(commands, settings, ["-k", "pcgrad"]) == 3
    assert seen["command"][-2:] == ["-k", "pcgrad"]
    assert seen["env"]["OMP_NUM_THREADS"] == "4"
    assert seen["env"]["OMP_WAIT_POLICY"] == "PASSIVE"


def test_help_lists_the_jobs(root):
    command = [sys.executable, str(root / "tools" / "setup_env.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0
    assert all(job in done.stdout for job in ("demo", "test", "lint", "docs"))
