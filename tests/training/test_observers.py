"""Observers read and never change training; those of gradients leave everything as it was."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from tests.training.problems_for_tests import mixed_problem, small_model

from polytask.training import (
    Checkpoints,
    GradientCosines,
    GradientObserver,
    JsonLinesLog,
    Progress,
    Trainer,
    TrainingSettings,
)

SETTINGS = TrainingSettings(epochs=3, batch_size=32, device="cpu")


def trained(*observers: object, dropout: float = 0.2) -> torch.Tensor:
    problem = mixed_problem()
    model = small_model(problem, dropout=dropout)
    Trainer(problem, model, settings=SETTINGS, observers=observers).fit()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


class Meddler(GradientObserver):
    """Does everything that an observer might do by accident."""

    def observe(self, model: object, losses: object, batch: object, rate: float) -> None:
        assert rate == SETTINGS.learning_rate
        torch.rand(100)
        losses(model(batch.inputs), batch).sum().backward()
        for buffer in model.buffers():
            buffer.add_(1)


def test_observers_of_gradients_change_nothing() -> None:
    plain = trained()
    assert torch.equal(plain, trained(Meddler()))
    assert torch.equal(plain, trained(GradientCosines(every=2), Progress(stream=io.StringIO())))


def test_gradient_cosines_by_hand() -> None:
    """Two linear tasks on one weight: gradients are parallel, so the cosine is the sign of their
    product.
    """
    from polytask.architectures import CustomArchitecture
    from polytask.problems import Problem
    from polytask.tasks import Regression

    class Scale(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"up": self.weight * x, "same": self.weight * x, "down": self.weight * x}

    x = torch.linspace(-1, 1, 60).unsqueeze(1)
    targets = {"up": x[:, 0], "same": 5 * x[:, 0], "down": -x[:, 0]}
    problem = Problem.from_arrays(x, targets, {name: Regression() for name in targets})
    module = Scale()
    model = CustomArchitecture(module=module, tasks=problem.tasks)
    cosines = GradientCosines(every=1)
    settings = TrainingSettings(epochs=1, batch_size=36, learning_rate=1e-6, device="cpu")
    Trainer(problem, model, settings=settings, observers=(cosines,)).fit()
    expected = torch.tensor([[1, 1, -1], [1, 1, -1], [-1, -1, 1]], dtype=torch.float64)
    assert cosines.mean is not None
    torch.testing.assert_close(cosines.mean, expected, atol=1e-6, rtol=0)


def test_json_lines_one_object_per_epoch_and_no_repeats_after_resume(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "run.jsonl"
    problem = mixed_problem()
    for epochs, resume in ((2, False), (4, True)):
        settings = TrainingSettings(epochs=epochs, batch_size=32, device="cpu")
        model = small_model(problem)
        checkpoints = Checkpoints(tmp_path / "ckpt")
        Trainer(
            problem,
            model,
            settings=settings,
            checkpoints=checkpoints,
            observers=(JsonLinesLog(path),),
        ).fit(resume=resume)
        with path.open("a") as handle:
            handle.write('{"epoch": 3, "torn')
    lines = path.read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines[:-1]] == [1, 2, 3, 4]
    assert set(json.loads(lines[0])["train_losses"]) == {"linear", "bent", "sign", "third"}


def test_progress_writes_plain_lines_without_a_terminal() -> None:
    stream = io.StringIO()
    trained(Progress(label="demo", stream=stream))
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("demo: epoch 1/3 validation ")
    assert lines[-1].startswith("demo: 3 epochs in ")


def test_tensorboard_writes_events(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra polytask[log]")
    from polytask.training import TensorBoard

    trained(TensorBoard(tmp_path))
    (events,) = tmp_path.glob("events*")
    assert b"validation_losses/linear" in events.read_bytes()
