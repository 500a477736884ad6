"""Data maps against the reference numbers, and recorded while a model trains."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.training.problems_for_tests import mixed_problem, small_model

from polytask.architectures import HardSharing
from polytask.datasets.synthetic import conflicting, separate_shapes
from polytask.encoders import MLP
from polytask.grouping.data_map import DataMap
from polytask.grouping.data_map_recorder import (
    DataMapRecorder,
    confidence,
    default_epochs,
    record_data_map,
    why_no_data_map,
)
from polytask.grouping.learner import Learner
from polytask.grouping.moments import RunningMoments
from polytask.problems import Problem, Split
from polytask.tasks import Binary, Depth, Multiclass, Regression, Task, TaskTensors
from polytask.training import (
    Checkpoints,
    EpochReport,
    StepReport,
    Trainer,
    TrainingSettings,
    TrainingStart,
)


def start(problem: Problem | SimpleNamespace) -> TrainingStart:
    """A training on the problem that is about to begin."""
    model = HardSharing(encoder=MLP(input_size=1), tasks=problem.tasks)
    return TrainingStart(problem, model, torch.device("cpu"), epochs=1, steps_per_epoch=1)


def labelled(num_rows: int, num_tasks: int) -> Split:
    """Binary tasks whose examples are all of class 1."""
    tasks = tuple(Task(f"t{i}", Binary()) for i in range(num_tasks))
    ones = {task.name: torch.ones(num_rows, dtype=torch.int64) for task in tasks}
    return Split(torch.zeros(num_rows, 1), ones, tasks)


def step(split: Split, rows: torch.Tensor, probability: torch.Tensor) -> StepReport:
    """A step whose outputs give class 1 these probabilities ``[B, T]`` (``[M, B, T]``)."""
    names = tuple(task.name for task in split.tasks)
    members = len(probability) if probability.dim() == 3 else 1
    outputs = TaskTensors([(names, torch.logit(probability).unsqueeze(-1))], members)
    nothing = torch.zeros(0)
    return StepReport(1, 1, names, nothing, nothing, (outputs,), (split.batch(rows),))


def epoch_report(epoch: int) -> EpochReport:
    return EpochReport(epoch, epoch, {}, {}, {}, None, False, 0.1, 0.0)


def started(split: Split, **options) -> DataMapRecorder:
    recorder = DataMapRecorder(**options)
    problem = SimpleNamespace(layout="shared", tasks=split.tasks, train=split)
    recorder.on_start(start(problem))
    return recorder


@pytest.mark.parametrize("deviation", ["population", "sample"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_reference_numbers(shared: Path, deviation: str, dtype: torch.dtype) -> None:
    index = json.loads((shared / "fixtures" / "index.json").read_text())
    cases = [case for case in index["cases"] if case["id"].startswith("grouping.data_map.")]
    assert cases
    rounding = {torch.float64: 0, torch.float32: 1e-6, torch.float16: 2**-12}[dtype]
    for case in cases:
        arrays = np.load(shared / "fixtures" / case["file"])
        probability = torch.from_numpy(arrays[case["inputs"]["conf"]["key"]])
        orders = torch.from_numpy(arrays[case["inputs"]["orders"]["key"]])
        split = labelled(*probability.shape[1:])
        recorder = started(split, deviation=deviation, dtype=dtype)
        for epoch, order in enumerate(orders):
            for rows in order.split(case["params"]["batch"]):
                recorder.on_step(step(split, rows, probability[epoch, rows]))
        found = recorder.data_map().values[:, 0]
        assert found.dtype == dtype
        for column, key in (
            (0, "mean"),
            (1, "std_pop" if deviation == "population" else "std_sample"),
        ):
            wanted = case["outputs"][key]
            expected = torch.from_numpy(arrays[wanted["key"]])
            torch.testing.assert_close(
                found[..., column].double(),
                expected,
                rtol=wanted["rtol"],
                atol=max(wanted["atol"], rounding),
            )


def test_confidence_by_hand() -> None:
    third = torch.tensor([[math.log(3.0)]])
    for label, wanted in ((1, 0.75), (0, 0.25)):
        found = confidence(Binary(), third, torch.tensor([label]))
        torch.testing.assert_close(found, torch.tensor([wanted]))
    logits = torch.tensor([[0.0, math.log(2.0), math.log(5.0)]])
    found = confidence(Multiclass(num_classes=3), logits, torch.tensor([1]))
    torch.testing.assert_close(found, torch.tensor([2 / 8]))
    # Squared errors 0 and 1 instead of 1/4 of the mean: 1 / (1 + exp(-1/4)), 1 / (1 + exp(3/4)).
    found = confidence(Regression(), torch.tensor([[0.5], [1.5]]), torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(found, torch.tensor([0.5621765, 0.3208213]))
    # Two numbers, 1 and 3 off: (1 + 9) / 2 instead of (0 + 9) / 2.
    found = confidence(Regression(size=2), torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]]))
    torch.testing.assert_close(found, torch.tensor([0.3775407]))


def test_a_model_that_knows_nothing_has_one_half() -> None:
    nothing = torch.zeros(3, 1)
    for kind, target in ((Binary(), torch.tensor([0, 1, 1])), (Regression(), torch.randn(3))):
        assert (confidence(kind, nothing, target) == 0.5).all()


def test_confidence_stays_in_its_interval() -> None:
    output = torch.tensor([[-200.0], [200.0]])
    for kind, target in (
        (Binary(), torch.tensor([1, 1])),
        (Regression(), torch.tensor([200.0, 200.0])),
    ):
        torch.testing.assert_close(confidence(kind, output, target), torch.tensor([0.0, 1.0]))


@pytest.mark.parametrize("folder", [False, True])
def test_examples_seen_never_and_twice(tmp_path: Path, folder: bool) -> None:
    split = labelled(4, 2)
    recorder = started(split, dtype=torch.float64, folder=tmp_path if folder else None)
    values = torch.tensor(
        [[0.2, 0.9], [0.4, 0.5], [0.8, 0.1], [0.6, 0.3]], dtype=torch.float64
    )  # rows 0, 1, 0, 0: twice in one batch, once more in the next
    recorder.on_step(step(split, torch.tensor([0, 1, 0]), values[:3]))
    recorder.on_step(step(split, torch.tensor([0]), values[3:]))
    mean, deviation = recorder.current().unbind(-1)
    expected = values[[0, 2, 3]]
    torch.testing.assert_close(mean[:, 0], expected.mean(0))
    torch.testing.assert_close(deviation[:, 0], expected.std(0, correction=0))
    torch.testing.assert_close(mean[:, 1], values[1])
    assert (deviation[:, 1] == 0).all()
    assert mean[:, 2:].isnan().all()
    assert deviation[:, 2:].isnan().all()


def test_members_count_with_their_mean_confidence() -> None:
    split = labelled(2, 1)
    recorder = started(split)
    recorder.on_step(
        step(split, torch.tensor([1, 0]), torch.tensor([[[0.2], [0.6]], [[0.4], [1]]]))
    )
    torch.testing.assert_close(recorder.current()[0, :, 0], torch.tensor([0.8, 0.3]))


def test_half_precision_rounds_once_and_never_adds_up() -> None:
    generator = torch.Generator().manual_seed(0)
    split = labelled(500, 3)
    exact = started(split, dtype=torch.float64)
    half = started(split, dtype=torch.float16)
    for _ in range(300):
        probability = torch.rand(500, 3, generator=generator, dtype=torch.float64)
        for recorder in (exact, half):
            recorder.on_step(step(split, torch.arange(500), probability))
    error = (half.current().double() - exact.current()).abs().max()
    assert 1e-5 < error <= 2**-12


def test_moments_in_single_precision_keep_a_small_deviation() -> None:
    generator = torch.Generator().manual_seed(0)
    moments = RunningMoments(1, 1)
    values = 0.999 + 1e-4 * torch.rand(2000, generator=generator)
    for value in values:
        moments.add(torch.tensor([0]), value.reshape(1, 1))
    found = torch.cat(moments.read(slice(0, 1), "population")).flatten()
    torch.testing.assert_close(found[0].double(), values.double().mean(), rtol=0, atol=1e-6)
    torch.testing.assert_close(
        found[1].double(), values.double().std(correction=0), rtol=1e-3, atol=0
    )


def binary_problem() -> Problem:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(90, 5, generator=generator)
    y = {"clear": (x[:, 0] > 0).long(), "noise": torch.randint(0, 2, (90,), generator=generator)}
    y["clear"][:5] = -1
    return Problem.from_arrays(x, y, {name: Binary() for name in y})


def settings_of(epochs: int, **more) -> TrainingSettings:
    return TrainingSettings(
        epochs=epochs, **{"patience": None, "batch_size": 16, "device": "cpu", **more}
    )


@pytest.mark.parametrize("folder", [False, True])
def test_recorded_while_training_and_across_a_resume(tmp_path: Path, folder: bool) -> None:
    problem = binary_problem()
    maps = []
    for stops in ((30,), (11, 30)):
        place = tmp_path / f"{len(stops)} stops"
        for epochs in stops:
            recorder = DataMapRecorder(
                epochs=(30, 10), folder=place / "map" if folder else None, dtype=torch.float16
            )
            trainer = Trainer(
                problem,
                small_model(problem),
                settings=settings_of(epochs, learning_rate=1e-2),
                observers=(recorder,),
                checkpoints=Checkpoints(place / "checkpoints"),
            )
            trainer.fit(resume=True)
        assert recorder.data_map().epochs == (10, 30)
        maps.append(recorder.data_map().values)
    assert maps[0].shape == (2, 2, len(problem.train), 2)
    torch.testing.assert_close(maps[0], maps[1], rtol=0, atol=0, equal_nan=True)
    unlabelled = problem.train.targets["clear"] == -1
    assert unlabelled.any()
    assert maps[0][0, :, unlabelled].isnan().all()
    assert not maps[0][:, :, ~unlabelled].isnan().any()
    clear, noise = maps[0][:, 1, :, 0].nanmean(1)
    assert clear > 0.8
    assert noise < 0.65


def test_resume_inside_an_epoch(tmp_path: Path) -> None:
    problem = binary_problem()
    maps = []
    for limits in ((None,), (1e-9, 1e-9, None)):  # a limit ends training after its next step
        for limit in limits:
            recorder = DataMapRecorder(epochs=(4,))
            settings = settings_of(4, time_limit=limit)
            checkpoints = Checkpoints(tmp_path / str(len(limits)), every_steps=1)
            trainer = Trainer(
                problem,
                small_model(problem),
                settings=settings,
                observers=(recorder,),
                checkpoints=checkpoints,
            )
            trainer.fit(resume=True)
        maps.append(recorder.data_map().values)
    torch.testing.assert_close(maps[0], maps[1], rtol=0, atol=0, equal_nan=True)


def test_a_recorder_starts_afresh_with_every_training() -> None:
    problem = binary_problem()
    recorder = DataMapRecorder()
    found = []
    for _ in range(2):
        Trainer(problem, small_model(problem), settings=settings_of(2), observers=(recorder,)).fit()
        found.append(recorder.data_map())
    assert found[0].epochs == (2,)
    torch.testing.assert_close(found[0].values, found[1].values, rtol=0, atol=0, equal_nan=True)


def test_resuming_with_another_recorder_is_an_error(tmp_path: Path) -> None:
    problem = binary_problem()

    def train(epochs: int, recorder: DataMapRecorder) -> None:
        Trainer(
            problem,
            small_model(problem),
            settings=settings_of(epochs),
            observers=(recorder,),
            checkpoints=Checkpoints(tmp_path / "checkpoints"),
        ).fit(resume=True)

    train(2, DataMapRecorder(epochs=(1,), folder=tmp_path / "map"))
    with pytest.raises(ValueError, match="after epoch 1, `epochs` are \\(3,\\)"):
        train(3, DataMapRecorder(epochs=(3,), folder=tmp_path / "map"))
    with pytest.raises(
        ValueError, match=r"data_map\.npy is .* float32, the training needs .* float16"
    ):
        train(3, DataMapRecorder(epochs=(1,), folder=tmp_path / "map", dtype=torch.float16))
    with pytest.raises(ValueError, match="is gone"):
        train(3, DataMapRecorder(epochs=(1,), folder=tmp_path / "elsewhere"))


def test_snapshots_that_training_never_reached_are_named() -> None:
    problem = binary_problem()
    recorder = DataMapRecorder(epochs=(2, 40))
    settings = settings_of(40, patience=3, learning_rate=1e-2)
    result = Trainer(problem, small_model(problem), settings=settings, observers=(recorder,)).fit()
    assert result.stopped_by == "patience"
    ended = f"ended after epoch {len(result.history)}, before epochs \\[40\\]"
    with pytest.raises(ValueError, match=ended):
        recorder.data_map()
    found = recorder.data_map(allow_fewer=True)
    assert found.epochs == (2,)
    assert found.values.shape == (2, 1, len(problem.train), 2)
    assert "40" in found.notes[0]


def test_mixed_kinds_without_a_second_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = mixed_problem(missing=0.2)
    model = small_model(problem)
    calls = []
    forward = type(model).forward
    monkeypatch.setattr(
        type(model), "forward", lambda self, x: calls.append(self.training) or forward(self, x)
    )
    recorder = DataMapRecorder()
    trainer = Trainer(problem, model, settings=settings_of(8), observers=(recorder,))
    trainer.fit()
    assert sum(calls) == 8 * trainer.steps_per_epoch
    found = recorder.data_map()
    assert found.tasks == ("linear", "bent", "sign", "third")
    for index, task in enumerate(problem.tasks):
        missing = task.kind.missing(problem.train.targets[task.name])
        assert torch.equal(found.values[index, 0, :, 0].isnan(), missing)
        mean, deviation = found.values[index, 0, ~missing].unbind(-1)
        assert ((mean > 0) & (mean <= 1)).all()
        assert ((deviation >= 0) & (deviation <= 0.5)).all()


def learner(epochs: int = 8) -> Learner:
    return Learner(
        architecture=small_model, settings=settings_of(epochs, patience=1, learning_rate=1e-2)
    )


@pytest.mark.parametrize("source", ["joint", "single"])
def test_maps_of_one_and_of_many_models_are_comparable(tmp_path: Path, source: str) -> None:
    problem = mixed_problem()
    found = record_data_map(
        problem, learner(), source=source, dtype=torch.float16, folder=tmp_path, seed=3
    )
    assert found.tasks == ("linear", "bent", "sign", "third")
    assert found.values.shape == (4, 4, len(problem.train), 2)
    assert found.values.dtype == torch.float16
    assert found.epochs == (2, 4, 6, 8)
    assert found.cost.models == (1 if source == "joint" else 4)
    assert found.cost.steps == found.cost.models * 8 * math.ceil(len(problem.train) / 16)
    again = record_data_map(problem, learner(), source=source, dtype=torch.float16, seed=3)
    assert torch.equal(found.values, again.values)
    record_data_map(problem, learner(1), dtype=torch.float16, folder=tmp_path)  # the same folder
    assert torch.equal(found.values, again.values)
    grows = found.values[:, :, :, 0].float().mean(2)
    assert (grows[:, -1] > grows[:, 0]).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_moments_on_an_accelerator_and_on_disk_agree(tmp_path: Path) -> None:
    problem = mixed_problem(missing=0.2)
    recorders = (DataMapRecorder(epochs=(3,)), DataMapRecorder(epochs=(3,), folder=tmp_path))
    settings = settings_of(3, device="cuda")
    Trainer(problem, small_model(problem), settings=settings, observers=recorders).fit()
    on_device, on_disk = (recorder.data_map().values for recorder in recorders)
    torch.testing.assert_close(on_device, on_disk, rtol=1e-5, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("source", ["joint", "single"])
def test_maps_of_regression_tasks_hold_their_planted_groups(source: str) -> None:
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score

    problem = conflicting(tasks_per_group=10, num_rows=400)
    short = Learner(settings=settings_of(4, batch_size=32))
    points = record_data_map(problem, short, source=source).vectors().numpy()
    found = KMeans(2, n_init=10, random_state=0).fit_predict(points)
    assert adjusted_rand_score([task.name[0] for task in problem.tasks], found) == 1


def test_what_record_refuses() -> None:
    problem = binary_problem()
    for epochs in ((9,), (0, 1), ()):
        with pytest.raises(ValueError, match="`epochs` must"):
            record_data_map(problem, learner(), epochs=epochs)
    with pytest.raises(ValueError, match="`source` must be 'joint' or 'single', found 'both'"):
        record_data_map(problem, learner(), source="both")
    with pytest.raises(ValueError, match="shared inputs"):
        record_data_map(separate_shapes())
    short = Learner(architecture=small_model, settings=settings_of(8, time_limit=1e-9))
    with pytest.raises(ValueError, match="Training ended after epoch 1, before epochs"):
        record_data_map(problem, short)


def test_default_epochs() -> None:
    assert default_epochs(100) == (25, 50, 75, 100)
    assert default_epochs(2) == (1, 2)
    assert default_epochs(1) == (1,)


def some_map(**more) -> DataMap:
    values = torch.rand(3, 2, 5, 2, generator=torch.Generator().manual_seed(0))
    values[0, :, 1] = torch.nan
    return DataMap(("a", "b", "c"), values, (1, 4), **more)


def test_points_are_those_of_a_task_and_an_epoch():
    found = some_map()
    assert found.points("b").tolist() == found.values[1, -1].float().tolist()
    assert found.points("c", epoch=1).tolist() == found.values[2, 0].float().tolist()
    with pytest.raises(ValueError, match="No task 'z'"):
        found.points("z")
    with pytest.raises(ValueError, match="No epoch 7"):
        found.points("a", epoch=7)


def test_a_map_survives_a_file_and_a_torn_file_is_named(tmp_path: Path) -> None:
    saved = some_map(deviation="sample", notes=("ü",))
    path = tmp_path / "map.safetensors"
    saved.save(path)
    found = DataMap.load(path)
    assert repr(found) == repr(saved)
    assert found.notes == ("ü",)
    assert found.cost == saved.cost
    torch.testing.assert_close(found.values, saved.values, rtol=0, atol=0, equal_nan=True)
    whole = path.read_bytes()
    for broken in (whole[:-7], whole[:20], b"", b"nothing of this kind"):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"map\.safetensors is torn or no data map"):
            DataMap.load(path)


def test_vectors_and_select() -> None:
    found = some_map()
    assert found.vectors().shape == (3, 20)
    assert found.vectors().data_ptr() == found.values.data_ptr()
    chosen = found.select(["c", "a"])
    assert chosen.tasks == ("c", "a")
    assert torch.equal(chosen.values[0], found.values[2])
    with pytest.raises(ValueError, match="No task 'z'"):
        found.select(["z"])


def test_bad_input_is_named() -> None:
    for options, message in (
        ({"epochs": (0,)}, "`epochs` must be >= 1"),
        ({"deviation": "other"}, "`deviation` must be"),
        ({"dtype": torch.bfloat16}, "`dtype` must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            DataMapRecorder(**options)
    with pytest.raises(ValueError, match="has seen no training"):
        DataMapRecorder().data_map()
    with pytest.raises(ValueError, match=r"\[2 tasks, 1 epochs, examples, 2\]"):
        DataMap(("a", "b"), torch.zeros(2, 2, 5, 2), (1,))
    images = np.zeros((6, 3, 8, 8), dtype=np.float32)
    depth = np.arange(6 * 64, dtype=np.float32).reshape(6, 8, 8)
    dense = Problem.from_arrays(images, {"far": depth}, {"far": Depth()})
    assert "'far' is a Depth" in str(why_no_data_map(dense))
    with pytest.raises(ValueError, match="shared inputs"):
        DataMapRecorder().on_start(start(separate_shapes()))
