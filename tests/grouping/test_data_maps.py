"""Data maps against the reference numbers, and recorded while a model trains."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training.problems_for_tests import small_model

from polytask.grouping import DataMapRecorder
from polytask.problems import Problem, Split
from polytask.tasks import Binary, Regression, Task, TaskTensors
from polytask.training import Checkpoints, StepReport, Trainer, TrainingSettings


def report(split: Split, rows: torch.Tensor, confidence: torch.Tensor) -> StepReport:
    """A step whose outputs give the true class these probabilities ``[B, T]``."""
    names = tuple(task.name for task in split.tasks)
    logits = torch.logit(confidence).unsqueeze(-1)
    batch = split.batch(rows)
    return StepReport(
        1, 1, names, torch.zeros(0), torch.zeros(0), (TaskTensors([(names, logits)]),), (batch,)
    )


@pytest.mark.parametrize("deviation", ["population", "sample"])
def test_reference_numbers(shared: Path, deviation: str) -> None:
    index = json.loads((shared / "fixtures" / "index.json").read_text())
    cases = [case for case in index["cases"] if case["id"].startswith("grouping.data_map.")]
    assert cases
    for case in cases:
        arrays = np.load(shared / "fixtures" / case["file"])
        confidence = torch.from_numpy(arrays[case["inputs"]["conf"]["key"]])
        orders = torch.from_numpy(arrays[case["inputs"]["orders"]["key"]])
        _, rows, num_tasks = confidence.shape
        tasks = tuple(Task(f"t{i}", Binary()) for i in range(num_tasks))
        ones = {task.name: torch.ones(rows, dtype=torch.int64) for task in tasks}
        split = Split(torch.zeros(rows, 1), ones, tasks)
        recorder = DataMapRecorder(deviation=deviation)
        parts = {"layout": "shared", "tasks": tasks, "train": split}
        fake = type("T", (), {"problem": type("P", (), parts), "device": torch.device("cpu")})
        recorder.on_start(fake)
        for epoch, order in enumerate(orders):
            for batch in order.split(case["params"]["batch"]):
                recorder.on_step(report(split, batch, confidence[epoch, batch]))
        found = recorder.data_map()[:, 0]
        for column, key in (
            (0, "mean"),
            (1, "std_pop" if deviation == "population" else "std_sample"),
        ):
            wanted = case["outputs"][key]
            expected = torch.from_numpy(arrays[wanted["key"]])
            torch.testing.assert_close(
                found[..., column], expected, rtol=wanted["rtol"], atol=wanted["atol"]
            )


def binary_problem() -> Problem:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(90, 5, generator=generator)
    y = {"clear": (x[:, 0] > 0).long(), "noise": torch.randint(0, 2, (90,), generator=generator)}
    y["clear"][:5] = -1
    return Problem.from_arrays(x, y, {name: Binary() for name in y})


def test_recorded_while_training_and_across_a_resume(tmp_path: Path) -> None:
    problem = binary_problem()
    maps = []
    for stops in ((30,), (11, 30)):
        for epochs in stops:
            recorder = DataMapRecorder(epochs=(10, 30))
            settings = TrainingSettings(
                epochs=epochs, patience=None, batch_size=16, learning_rate=1e-2, device="cpu"
            )
            checkpoints = Checkpoints(tmp_path / str(len(stops)))
            trainer = Trainer(
                problem,
                small_model(problem),
                settings=settings,
                observers=(recorder,),
                checkpoints=checkpoints,
            )
            trainer.fit(resume=True)
        maps.append(recorder.data_map())
    assert maps[0].shape == (2, 2, len(problem.train), 2)
    torch.testing.assert_close(maps[0], maps[1], rtol=0, atol=0, equal_nan=True)
    unlabelled = problem.train.targets["clear"] == -1
    assert unlabelled.any()
    assert maps[0][0, :, unlabelled].isnan().all()
    clear, noise = maps[0][:, 1, :, 0].nanmean(1)
    assert clear > 0.8
    assert noise < 0.65


def test_what_it_cannot_record_is_named() -> None:
    x = np.random.default_rng(0).normal(size=(30, 5))
    problem = Problem.from_arrays(x, {"price": x[:, 0]}, {"price": Regression()})
    with pytest.raises(ValueError, match="'price' is a Regression"):
        Trainer(problem, small_model(problem), observers=(DataMapRecorder(),)).fit()
    with pytest.raises(ValueError, match="epochs"):
        DataMapRecorder(epochs=(0,))
    with pytest.raises(ValueError, match="deviation"):
        DataMapRecorder(deviation="other")
