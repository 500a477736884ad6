"""The same training on an accelerator: mixed precision, determinism, resume."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from tests.training.problems_for_tests import mixed_problem, small_model

from polytask.architectures import HardSharing
from polytask.balancers import Equal, PCGrad, UncertaintyWeighting
from polytask.encoders import MLP, SmallCNN
from polytask.problems import Problem
from polytask.tasks import Binary
from polytask.training import Checkpoints, GradientCosines, Trainer, TrainingSettings

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
SETTINGS = TrainingSettings(epochs=8, batch_size=32, learning_rate=3e-3, device="cuda")


def fit(settings: TrainingSettings, balancer: type, **parts: object) -> tuple[HardSharing, object]:
    problem = mixed_problem(missing=0.3)
    model = small_model(problem, dropout=0.1)
    return model, Trainer(problem, model, balancer=balancer(), settings=settings, **parts).fit()


def flat(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()]).cpu()


@pytest.mark.parametrize("balancer", [Equal, UncertaintyWeighting, PCGrad])
@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_learns_and_repeats(balancer: type, precision: str) -> None:
    settings = dataclasses.replace(SETTINGS, precision=precision)
    model, result = fit(settings, balancer, observers=(GradientCosines(),))
    again, _ = fit(settings, balancer)
    assert next(model.parameters()).device.type == "cuda"
    assert result.history[-1].criterion < result.history[0].criterion < 1
    assert torch.equal(flat(model), flat(again))


def test_automatic_precision_is_bfloat16_here() -> None:
    device = SETTINGS.resolved_device()
    assert SETTINGS.autocast_dtype(device) == torch.bfloat16


def test_full_precision_follows_the_cpu() -> None:
    problem = mixed_problem()
    losses = []
    for device in ("cpu", "cuda"):
        settings = dataclasses.replace(
            SETTINGS, device=device, precision="float32", patience=None, epochs=3
        )
        model = small_model(problem)
        losses.append(
            Trainer(problem, model, settings=settings).fit().history[-1].validation_losses
        )
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.parametrize("balancer", [UncertaintyWeighting, PCGrad])
def test_resume_is_equal_to_the_bit(tmp_path: Path, balancer: type) -> None:
    whole, _ = fit(SETTINGS, balancer)
    half = dataclasses.replace(SETTINGS, epochs=4)
    fit(half, balancer, checkpoints=Checkpoints(tmp_path))
    problem = mixed_problem(missing=0.3)
    model = small_model(problem, seed=5, dropout=0.1)
    checkpoints = Checkpoints(tmp_path)
    trainer = Trainer(
        problem, model, balancer=balancer(), settings=SETTINGS, checkpoints=checkpoints
    )
    trainer.fit(resume=True)
    assert torch.equal(flat(model), flat(whole))


def test_mixed_precision_gives_nearly_the_weights_of_full_precision() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 1, 32, 32, generator=generator)
    y = (x.mean((1, 2, 3)) > 0).long()
    noise = torch.randint(0, 2, (256,), generator=generator)
    problem = Problem.from_arrays(x, {"a": y, "b": noise}, {"a": Binary(), "b": Binary()})
    weights = []
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(0)
        encoder = SmallCNN(channels=1)
        model = HardSharing(encoder=encoder, tasks=problem.tasks)
        from polytask.balancers import MGDA

        settings = dataclasses.replace(SETTINGS, precision=precision, batch_size=128)
        trainer = Trainer(problem, model, balancer=MGDA(), settings=settings)
        model.train()
        weights.append(trainer.train_step().weights.cpu())
    torch.testing.assert_close(weights[0], weights[1], atol=0.05, rtol=0)


def test_mlp_runs_without_copies_between_devices() -> None:
    problem = mixed_problem()
    torch.manual_seed(0)
    model = HardSharing(encoder=MLP(input_size=5, widths=(16,)), tasks=problem.tasks)
    trainer = Trainer(problem, model, settings=SETTINGS)
    report = trainer.train_step()
    assert report.losses.device.type == report.weights.device.type == "cuda"
    assert report.batches[0].inputs.device.type == "cuda"
