"""The trainer: deterministic, resumable to the bit, honest about what it selects on."""

from __future__ import annotations

import copy
import dataclasses
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training.problems_for_tests import mixed_problem, small_model

from polytask.architectures import HardSharing
from polytask.balancers import (
    FAMO,
    MGDA,
    Equal,
    GradientOptions,
    MoDo,
    PCGrad,
    UncertaintyWeighting,
)
from polytask.encoders import MLP
from polytask.problems import Problem
from polytask.samplers import ProportionalSampler
from polytask.tasks import Regression, Task
from polytask.training import (
    Checkpoints,
    GradientObserver,
    NonFiniteLossError,
    Observer,
    StepReport,
    Trainer,
    TrainingSettings,
    predict_outputs,
)
from polytask.training.trainer import relative_loss

SETTINGS = TrainingSettings(epochs=6, batch_size=32, learning_rate=3e-3, device="cpu")


def weights_of(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def train(
    settings: TrainingSettings = SETTINGS, problem: Problem | None = None, **parts: object
) -> tuple[HardSharing, object]:
    problem = problem or mixed_problem()
    model = small_model(problem, dropout=0.2)
    return model, Trainer(problem, model, settings=settings, **parts).fit()


def test_learns_and_reports_every_epoch() -> None:
    model, result = train(dataclasses.replace(SETTINGS, epochs=40, patience=None))
    assert [report.epoch for report in result.history] == list(range(1, 41))
    first, best = (
        result.history[0].criterion,
        min(r.criterion for r in result.history if r.criterion),
    )
    assert best < 0.6 * first
    assert result.history[result.best_epoch - 1].criterion == best
    scores = mixed_problem()
    output = predict_outputs(model, scores.test)["linear"]
    assert scores.task("linear").score(output, scores.test.targets["linear"])["r2"] > 0.8


@pytest.mark.parametrize("balancer", [Equal, UncertaintyWeighting, PCGrad])
def test_same_seed_same_bits_other_seed_other_bits(balancer: type) -> None:
    first, _ = train(balancer=balancer())
    second, _ = train(balancer=balancer())
    other, _ = train(dataclasses.replace(SETTINGS, seed=1), balancer=balancer())
    assert torch.equal(weights_of(first), weights_of(second))
    assert not torch.equal(weights_of(first), weights_of(other))


class StopAt(Observer):
    """Ends training in the middle, as a killed process would."""

    class Killed(Exception):
        pass

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, report: StepReport) -> None:
        if report.step == self.step:
            raise StopAt.Killed


@pytest.mark.parametrize("balancer", [Equal, UncertaintyWeighting, PCGrad])
@pytest.mark.parametrize("step", [1, 7, 18])
def test_resume_equals_an_uninterrupted_run(tmp_path: Path, balancer: type, step: int) -> None:
    problem = mixed_problem(missing=0.3)
    whole, expected = train(problem=problem, balancer=balancer())

    def part(observers: tuple[Observer, ...], resume: bool) -> tuple[HardSharing, object]:
        model = small_model(problem, dropout=0.2)
        checkpoints = Checkpoints(tmp_path, every_steps=1)
        trainer = Trainer(
            problem,
            model,
            balancer=balancer(),
            settings=SETTINGS,
            observers=observers,
            checkpoints=checkpoints,
        )
        return model, trainer.fit(resume=resume)

    with pytest.raises(StopAt.Killed):
        part((StopAt(step),), resume=False)
    model, result = part((StopAt(-1),), resume=True)
    assert torch.equal(weights_of(model), weights_of(whole))
    timeless = [dataclasses.replace(r, seconds=0.0) for r in result.history]
    assert timeless == [dataclasses.replace(r, seconds=0.0) for r in expected.history]


def test_resume_keeps_a_sampler_and_separate_inputs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = {}
    for name, rows, width in (("small", 30, 3), ("large", 90, 3)):
        x = rng.normal(size=(rows, width))
        data[name] = (x, x @ rng.normal(size=width))
    problem = Problem.from_separate(data, {"small": Regression(), "large": Regression()})
    from polytask.architectures import CrossDomain

    def make(**parts: object) -> tuple[torch.nn.Module, Trainer]:
        torch.manual_seed(0)
        encoders = {name: MLP(input_size=3, widths=(8,)) for name in data}
        model = CrossDomain(
            encoders=encoders, core=MLP(input_size=8, widths=(8,)), tasks=problem.tasks
        )
        settings = dataclasses.replace(SETTINGS, batch_size=16)
        return model, Trainer(
            problem, model, sampler=ProportionalSampler(exponent=0.5), settings=settings, **parts
        )

    whole, trainer = make()
    trainer.fit()
    _, killed = make(checkpoints=Checkpoints(tmp_path, every_steps=1), observers=(StopAt(11),))
    with pytest.raises(StopAt.Killed):
        killed.fit()
    model, again = make(checkpoints=Checkpoints(tmp_path, every_steps=1), observers=(StopAt(-1),))
    again.fit(resume=True)
    assert torch.equal(weights_of(model), weights_of(whole))


def test_patience_stops_and_the_best_epoch_is_kept() -> None:
    problem = mixed_problem(rows=80)
    settings = dataclasses.replace(
        SETTINGS, epochs=400, patience=5, learning_rate=3e-2, weight_decay=0.0
    )
    model, result = train(settings, problem)
    assert result.stopped_by == "patience"
    assert len(result.history) - result.best_epoch >= 5
    best = result.history[result.best_epoch - 1]
    assert best.criterion == min(r.criterion for r in result.history if r.criterion is not None)
    from polytask.training import validation_losses

    assert validation_losses(model, problem.validation) == pytest.approx(
        dict(best.validation_losses), rel=1e-5
    )


def test_time_limit_and_interrupt_keep_a_usable_model() -> None:
    settings = dataclasses.replace(SETTINGS, epochs=10_000, patience=None, time_limit=0.3)
    _, result = train(settings)
    assert result.stopped_by == "time limit"
    assert not result.reproducible
    assert result.seconds < 5

    class Interrupt(Observer):
        def on_step(self, report: StepReport) -> None:
            if report.step == 11:
                raise KeyboardInterrupt

    model, result = train(observers=(Interrupt(),))
    assert result.stopped_by == "interrupt"
    assert result.steps == 11
    assert torch.isfinite(weights_of(model)).all()


@pytest.mark.parametrize("balancer", [Equal, UncertaintyWeighting, PCGrad])
def test_accumulated_batches_equal_one_large_batch(balancer: type) -> None:
    problem = mixed_problem(missing=0.4)
    rows = torch.arange(48)
    seen = []
    for pieces in ([rows], [rows[:20], rows[20:25], rows[25:]]):
        model = small_model(problem)
        trainer = Trainer(problem, model, balancer=balancer(), settings=SETTINGS)
        report = trainer.step([trainer.problem.train.batch(p) for p in pieces], step=1, epoch=1)
        seen.append((weights_of(model), report.losses, report.weights))
    for one, many in zip(*seen, strict=True):
        torch.testing.assert_close(one, many, rtol=1e-4, atol=1e-6)


def test_non_finite_loss_names_task_and_step() -> None:
    problem = mixed_problem()
    model = small_model(problem)
    with torch.no_grad():
        for parameter in model.task_parameters("bent"):
            parameter.fill_(float("inf"))
    before = weights_of(model).clone()
    trainer = Trainer(problem, model, settings=SETTINGS)
    with pytest.raises(NonFiniteLossError, match=r"task '(linear|bent)' is not finite at step 1"):
        trainer.fit()
    assert torch.equal(before.nan_to_num(), weights_of(model).nan_to_num())


def test_tasks_must_match() -> None:
    problem = mixed_problem()
    model = HardSharing(
        encoder=MLP(input_size=5, widths=(4,)), tasks=(Task("other", Regression()),)
    )
    with pytest.raises(ValueError, match="other"):
        Trainer(problem, model)
    with pytest.raises(ValueError, match="checkpoints"):
        Trainer(problem, small_model(problem)).fit(resume=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("learning_rate", -1.0),
        ("weight_decay", -1.0),
        ("schedule", "step"),
        ("precision", "int8"),
        ("accumulate", 0),
        ("patience", 0),
        ("clip_norm", 0.0),
        ("warmup_steps", -1),
        ("time_limit", -1),
    ],
)
def test_bad_settings_are_named(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        TrainingSettings(**{name: value})


def test_automatic_batch_size_follows_the_rows() -> None:
    settings = TrainingSettings()
    assert [settings.batch_size_for(n) for n in (5, 100, 1000, 4000, 10**6)] == [
        16,
        16,
        64,
        256,
        256,
    ]


def test_cosine_schedule_and_warmup() -> None:
    rates = []

    class Rates(GradientObserver):
        def observe(self, model: object, losses: object, batch: object, rate: float) -> None:
            rates.append(rate)

    train(
        dataclasses.replace(SETTINGS, schedule="cosine", warmup_steps=4, epochs=3),
        observers=(Rates(),),
    )
    assert rates[0] == pytest.approx(SETTINGS.learning_rate / 4)
    assert max(rates) < SETTINGS.learning_rate
    assert rates[-1] < 0.1 * SETTINGS.learning_rate


class TwoTerms(HardSharing):
    """A model with a loss term of its own that shares the trunk's graph."""

    def auxiliary_losses(self, inputs: torch.Tensor, outputs: object) -> dict[str, torch.Tensor]:
        return {"small outputs": 0.1 * sum(t.square().mean() for _, t in outputs.blocks)}


@pytest.mark.parametrize("balancer", [Equal, UncertaintyWeighting, PCGrad])
def test_auxiliary_terms_are_added_outside_the_balancer(balancer: type) -> None:
    problem = mixed_problem()
    batch = problem.train.batch(torch.arange(30))
    gradients = []
    for kind in (HardSharing, TwoTerms):
        torch.manual_seed(0)
        model = kind(encoder=MLP(input_size=5, widths=(16,)), tasks=problem.tasks)
        settings = dataclasses.replace(SETTINGS, clip_norm=None)
        trainer = Trainer(problem, model, balancer=balancer(), settings=settings)
        report = trainer.step([batch], step=1, epoch=1)
        gradients.append([p.grad.clone() for p in model.parameters()])
    assert set(report.auxiliary) == {"small outputs"}
    torch.manual_seed(0)
    model = TwoTerms(encoder=MLP(input_size=5, widths=(16,)), tasks=problem.tasks)
    outputs = model(batch.inputs)
    model.auxiliary_losses(batch.inputs, outputs)["small outputs"].backward()
    for plain, both, parameter in zip(*gradients, model.parameters(), strict=True):
        torch.testing.assert_close(both, plain + parameter.grad)


def test_gradients_from_a_part_of_the_batch() -> None:
    """Half of a batch that consists of two equal halves gives the weights of the whole."""
    problem = mixed_problem()
    rows = torch.arange(20)
    batch = problem.train.batch(torch.cat([rows, rows]))
    weights = []
    for samples in (1.0, 0.5):
        trainer = Trainer(
            problem,
            small_model(problem),
            balancer=MGDA(gradients=GradientOptions(samples=samples)),
            settings=SETTINGS,
        )
        weights.append(trainer.step([batch], step=1, epoch=1).weights)
    torch.testing.assert_close(weights[0], weights[1])
    assert weights[0].std() > 0.01


@pytest.mark.parametrize("scope", ["trunk", "last", "features"])
@pytest.mark.parametrize("batches", [1, 2])
def test_every_scope_trains(scope: str, batches: int) -> None:
    settings = dataclasses.replace(SETTINGS, accumulate=batches)
    if scope == "features" and batches == 2:
        problem = mixed_problem()
        trainer = Trainer(
            problem,
            small_model(problem),
            balancer=MGDA(gradients=GradientOptions(scope=scope)),
            settings=settings,
        )
        with pytest.raises(ValueError, match="features"):
            trainer.fit()
        return
    options = GradientOptions(scope=scope, samples=0.5, every=2)
    _, result = train(settings, balancer=MGDA(gradients=options))
    assert result.history[-1].criterion < result.history[0].criterion


def test_the_criterion_by_hand() -> None:
    """sqrt(0.04) = 0.2 and sqrt(0.25) = 0.5; worse than untrained and NaN count as 1."""
    reference = {"a": 2.0, "b": 1.0, "c": 0.5, "d": 1.0, "e": 0.0}
    assert relative_loss({"a": 0.08, "b": 0.25}, reference) == pytest.approx(0.35)
    assert relative_loss({"a": 0.08, "c": 9.0}, reference) == pytest.approx(0.6)
    assert relative_loss({"a": 0.08, "d": float("nan")}, reference) == pytest.approx(0.6)
    assert relative_loss({"e": 0.0}, reference) == 0.0
    assert relative_loss({"e": 0.1}, reference) == 1.0


# --- labels in a few rows only -------------------------------------------------------------------


def sparse_problem(rows: int, *, tasks: int) -> Problem:
    """Task k has a label in every (16 + k)th row."""
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(rows, 3)).astype(np.float32)
    targets = {
        f"t{k}": np.where(np.arange(rows) % (16 + k) == 0, inputs[:, k] + k, np.nan)
        for k in range(tasks)
    }
    return Problem.from_arrays(inputs, targets, {name: Regression() for name in targets})


@pytest.mark.parametrize("rows", [397, 400])
@pytest.mark.parametrize("tasks", [1, 2])
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("balancer", [Equal(), PCGrad(), MoDo(), FAMO(), UncertaintyWeighting()])
def test_every_step_learns_from_labels_however_few(rows, tasks, accumulate, balancer):
    problem = sparse_problem(rows, tasks=tasks)
    model = HardSharing(encoder=MLP(input_size=3, widths=(8,)), tasks=problem.tasks)
    settings = TrainingSettings(epochs=3, batch_size=8, accumulate=accumulate)
    trainer = Trainer(problem, model, balancer=copy.deepcopy(balancer), settings=settings)
    before = [p.clone() for p in model.parameters()]
    result = trainer.fit()
    assert len(result.history) == 3
    assert all(math.isfinite(loss) for r in result.history for loss in r.train_losses.values())
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_independent_batches_without_a_task_in_common_change_nothing():
    problem = sparse_problem(400, tasks=2)
    model = HardSharing(encoder=MLP(input_size=3, widths=(8,)), tasks=problem.tasks)
    trainer = Trainer(problem, model, balancer=MoDo(), settings=TrainingSettings(batch_size=8))
    one, other = (problem.train.batch(problem.train.labelled(name)[:4]) for name in ("t0", "t1"))
    one, other = replace(one, tasks=("t0",)), replace(other, tasks=("t1",))
    count = trainer.balancer.batches_per_step
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = trainer.step([one] * (count - 1) + [other], step=1, epoch=1)
    assert report.tasks == ()
    assert report.losses.shape == report.weights.shape == (0,)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
