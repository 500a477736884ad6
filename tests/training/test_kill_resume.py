"""A process killed with kill -9 at a random step, resumed, equals one that was never killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = """
import hashlib, sys, time
import torch
from polytask.balancers import PCGrad
from polytask.training import Checkpoints, Observer, Trainer, TrainingSettings
from tests.training.problems_for_tests import mixed_problem, small_model

folder, delay = sys.argv[1], float(sys.argv[2])
torch.set_num_threads(1)
problem = mixed_problem(missing=0.2)
model = small_model(problem, dropout=0.1)
settings = TrainingSettings(epochs=25, batch_size=16, patience=None, device="cpu")
checkpoints = Checkpoints(folder, every_steps=1)


class Slow(Observer):
    def on_step(self, report):
        print(report.step, flush=True)
        time.sleep(delay)


parts = {"balancer": PCGrad(), "settings": settings, "checkpoints": checkpoints}
Trainer(problem, model, observers=(Slow(),), **parts).fit(resume=True)
digest = hashlib.sha256()
for parameter in model.parameters():
    digest.update(parameter.detach().numpy().tobytes())
print("weights", digest.hexdigest())
"""


def start(folder: Path, delay: float, root: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), str(delay)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=root,
    )


@pytest.mark.slow
def test_kill_minus_nine_at_a_random_step(tmp_path: Path, root: Path) -> None:
    whole = start(tmp_path / "whole", 0, root).communicate(timeout=120)[0].splitlines()[-1]
    assert whole.startswith("weights")

    resumed = tmp_path / "killed"
    for _ in range(2):
        process = start(resumed, 0.01, root)
        assert process.stdout is not None
        first = int(process.stdout.readline())
        time.sleep(random.Random(time.time_ns()).uniform(0.05, 0.5))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert list(resumed.glob("step-*.ckpt")) or first == 1
    final = start(resumed, 0, root).communicate(timeout=120)[0].splitlines()
    assert int(final[0]) > 1, "the last part did not continue from a checkpoint"
    assert final[-1] == whole
