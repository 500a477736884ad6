"""TAG: affinities against reference numbers and by hand, their approximation, and the groups."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training.problems_for_tests import mixed_problem, small_model
from torch import Tensor, nn

from polytask.architectures import HardSharing, Independent
from polytask.encoders import MLP
from polytask.grouping.grouping import GroupingCost
from polytask.grouping.learner import Learner
from polytask.grouping.pairs import pair_affinity
from polytask.grouping.search import find_groups
from polytask.grouping.tag import TAG, TaskAffinity, lookahead_affinity
from polytask.problems import Problem, Split
from polytask.tasks import Regression, Task
from polytask.training import Checkpoints, Trainer, TrainingSettings

SETTINGS = TrainingSettings(epochs=3, batch_size=32, device="cpu")


def cases(shared: Path, method: str) -> list[tuple[dict, dict[str, np.ndarray]]]:
    index = json.loads((shared / "fixtures" / "index.json").read_text())
    chosen = [case for case in index["cases"] if case["id"].startswith(f"grouping.{method}.")]
    assert chosen
    found = []
    for case in chosen:
        with np.load(shared / "fixtures" / case["file"]) as arrays:
            parts = {**case["inputs"], **case["outputs"]}
            found.append((case, {name: arrays[entry["key"]] for name, entry in parts.items()}))
    return found


def close(found: Tensor, expected: np.ndarray, entry: dict) -> None:
    np.testing.assert_allclose(found.numpy(), expected, rtol=entry["rtol"], atol=entry["atol"])


def test_reference_affinities(shared: Path) -> None:
    for case, arrays in cases(shared, "tag_affinity"):
        before, after = torch.from_numpy(arrays["before"]), torch.from_numpy(arrays["after"])
        found = lookahead_affinity(before, after)
        close(found, arrays["Z"], case["outputs"]["Z"])
        close(found.mean(0), arrays["Z_mean"], case["outputs"]["Z_mean"])


def linear_trainer(
    x: Tensor, y: Tensor, weight: Tensor, heads: Tensor, rate: float, observer: TaskAffinity
) -> Trainer:
    """Regressions on one linear layer, in double precision; a step sees all rows."""
    tasks = [Task(f"t{i}", Regression()) for i in range(len(y))]
    split = Split(x, {task.name: y[i] for i, task in enumerate(tasks)}, tasks)
    problem = Problem(name="linear", train=split, validation=split, test=split)
    encoder = nn.Linear(*weight.shape, bias=False)
    encoder.output_size = weight.shape[1]
    model = HardSharing(encoder=encoder, tasks=problem.tasks).double()
    with torch.no_grad():
        encoder.weight.copy_(weight.mT)
        model.task_heads.blocks[0].output_weight.copy_(heads[None, :, None])
        model.task_heads.blocks[0].output_bias.zero_()
    settings = TrainingSettings(epochs=1, batch_size=len(x), learning_rate=rate, device="cpu")
    trainer = Trainer(
        problem,
        model,
        settings=settings,
        observers=[observer],
        optimizer=lambda groups: torch.optim.SGD(groups, lr=rate),
    )
    observer.on_start(trainer.start())
    return trainer


@pytest.mark.parametrize("scope", ["trunk", "last"])
def test_reference_affinities_of_a_linear_model(shared: Path, scope: str) -> None:
    for case, arrays in cases(shared, "tag_affinity_linear"):
        x, y, weight, heads = (torch.from_numpy(arrays[name]) for name in ("X", "Y", "W", "V"))
        observer = TaskAffinity(scope=scope)
        linear_trainer(x, y, weight, heads, case["params"]["lr"], observer).train_step()
        close(observer.mean, arrays["Z"], case["outputs"]["Z"])
        assert observer.passes == (1 if scope == "last" else 1 + 2 * len(y))


def test_affinity_by_hand() -> None:
    """pred = v w x with x = 1, w = 1, targets 2 and -1, heads 1 and 1: losses 1 and 4, gradients -2
    and 4; with η = 0.25 w becomes 1.5 or 0, so losses (.25, 6.25) or (4, 1).
    """
    observer = TaskAffinity()
    ones = torch.ones(2, 1, dtype=torch.float64)
    y = torch.tensor([[2.0], [-1.0]], dtype=torch.float64)
    # Every second row mirrored: the same losses, but targets that are not constant.
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    trainer = linear_trainer(signs[:, None], y * signs, ones[:1], ones, 0.25, observer)
    trainer.train_step()
    expected = torch.tensor([[0.75, -0.5625], [-3.0, 0.75]], dtype=torch.float64)
    torch.testing.assert_close(observer.mean, expected)
    first = TaskAffinity(mode="first-order")
    linear_trainer(signs[:, None], y * signs, ones[:1], ones, 0.25, first).train_step()
    # η g_i g_j / L_j with gradients -2 and 4.
    expected = torch.tensor([[1.0, -0.5], [-2.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(first.mean, expected)


def test_undefined_ratios_are_not_counted() -> None:
    before = torch.tensor([0.0, -2.0, 1.0])
    after = torch.tensor([[1.0, -3.0, torch.inf]]).expand(3, 3)
    found = lookahead_affinity(before, after)
    assert bool(found[:, [0, 2]].isnan().all())
    torch.testing.assert_close(found[:, 1], torch.full((3,), 0.5, dtype=torch.float64))


def test_a_task_that_is_solved_is_not_acted_upon() -> None:
    signs = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    ones = torch.ones(2, 1, dtype=torch.float64)
    for mode in ("exact", "first-order"):
        observer = TaskAffinity(mode=mode)
        y = torch.stack([signs[:, 0], 2 * signs[:, 0]])
        linear_trainer(signs, y, ones[:1], ones, 0.1, observer).train_step()
        assert bool(observer.mean[:, 0].isnan().all())
        assert bool(observer.mean[:, 1].isfinite().all())
        assert observer.undefined == 2


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_probing_leaves_training_as_it_is(norm: str) -> None:
    def parameters(*observers: TaskAffinity) -> Tensor:
        problem = mixed_problem(missing=0.2)
        torch.manual_seed(0)
        encoder = MLP(input_size=5, widths=(16, 16), norm=norm, dropout=0.2)
        model = HardSharing(encoder=encoder, tasks=problem.tasks)
        Trainer(problem, model, settings=SETTINGS, observers=observers).fit()
        return torch.cat([value.double().flatten() for value in model.state_dict().values()])

    plain = parameters()
    observers = [
        TaskAffinity(every=every, mode=mode, scope=scope)
        for every, (mode, scope) in enumerate(
            [("exact", "trunk"), ("exact", "last"), ("first-order", "trunk")], start=1
        )
    ]
    assert torch.equal(plain, parameters(*observers))
    assert [observer.looks for observer in observers] == [15, 8, 5]
    assert all(bool(observer.mean.isfinite().all()) for observer in observers)


class OneStep:
    """The affinities of the first step of a small model, in double precision."""

    def __init__(self, model: nn.Module, problem: Problem, rate: float = 1e-3) -> None:
        self.model, self.problem, self.rate = model, problem, rate

    def __call__(self, **settings: object) -> Tensor:
        observer = TaskAffinity(learning_rate=self.rate, **settings)
        trainer = Trainer(
            self.problem, copy.deepcopy(self.model), settings=SETTINGS, observers=[observer]
        )
        observer.on_start(trainer.start())
        trainer.architecture.train()
        torch.manual_seed(7)
        trainer.train_step()
        self.passes = observer.passes
        return observer.mean


def test_lookahead_is_the_loss_after_a_real_step() -> None:
    """Parameters written to, a forward pass in training mode with the same dropout, and back."""
    problem = mixed_problem()
    model = small_model(problem, dropout=0.3).train()
    found = OneStep(model, problem, 0.05)()
    observer = TaskAffinity()
    trainer = Trainer(problem, model, settings=SETTINGS, observers=[observer])
    batch = trainer._draw()[0]

    def losses() -> Tensor:
        torch.manual_seed(7)
        return trainer.step.losses(model(batch.inputs), batch)

    before = losses()
    shared = list(model.shared_parameters())
    old = [parameter.detach().clone() for parameter in shared]
    after = []
    for loss in before:
        gradient = torch.autograd.grad(loss, shared, retain_graph=True)
        with torch.no_grad():
            # New storage: the graph of the losses keeps the old values.
            for parameter, value, step in zip(shared, old, gradient, strict=True):
                parameter.data = value - 0.05 * step
            after.append(losses())
            for parameter, value in zip(shared, old, strict=True):
                parameter.data = value
    expected = lookahead_affinity(before.detach(), torch.stack(after))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
def test_the_short_way_of_the_last_layer_is_exact(activation: str) -> None:
    problem = mixed_problem(missing=0.3)
    encoder = MLP(input_size=5, widths=(16, 12), activation=activation)
    model = HardSharing(encoder=encoder, tasks=problem.tasks, head="mlp")
    one = OneStep(model, problem, 0.05)
    short = one(scope="last")
    assert one.passes == 1
    # Dropout of nothing is still something between the layer and the features.
    model.encoder.layers.append(nn.Threshold(-1e9, 0.0))
    model.encoder.layers.append(nn.Hardtanh(-1e6, 1e6))
    model.encoder.layers.append(Shift())
    model.encoder.layers.append(Shift(-1.0))
    long = one(scope="last")
    assert one.passes == 5
    torch.testing.assert_close(short, long, rtol=1e-3, atol=1e-6)


class Shift(nn.Module):
    """Adds a number, which rounding undoes only nearly."""

    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        self.value = value

    def forward(self, rows: Tensor) -> Tensor:
        return rows + self.value


def test_activations_in_place_take_the_long_way() -> None:
    problem = mixed_problem()
    model = small_model(problem)
    one = OneStep(model, problem)
    expected = one(scope="last")
    model.encoder.layers[-1] = nn.ReLU(inplace=True)
    found = one(scope="last")
    assert one.passes == 5
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("scope", ["trunk", "last"])
def test_first_order_error_falls_with_the_rate(scope: str) -> None:
    problem = mixed_problem()
    model = small_model(problem).double()
    parts = {
        part: Split(
            getattr(problem, part).inputs.double(),
            getattr(problem, part).targets.map(
                lambda t: t.double() if t.is_floating_point() else t
            ),
            problem.tasks,
        )
        for part in ("train", "validation", "test")
    }
    problem = Problem(name="double", **parts)
    errors = []
    for rate in (1e-2, 1e-3):
        one = OneStep(model, problem, rate)
        exact, first = one(scope=scope), one(scope=scope, mode="first-order")
        errors.append(float((exact - first).abs().max()))
    # The remainder is of second order: a tenth of the rate, a hundredth of the error.
    assert errors[0] / errors[1] > 50
    assert errors[1] < 0.05 * float(exact.abs().max())


def test_missing_labels_count_pairs() -> None:
    """The last task has labels in a few rows only: its pairs are counted where it is present."""
    problem = mixed_problem(rows=120, missing=0.0)
    targets = {name: values.clone() for name, values in problem.train.targets.items()}
    targets["third"][10:] = -1
    train = Split(problem.train.inputs, targets, problem.tasks)
    problem = Problem(name="rare", train=train, validation=problem.validation, test=problem.test)
    observer = TaskAffinity(every=1)
    settings = TrainingSettings(epochs=2, batch_size=8, device="cpu")
    Trainer(problem, small_model(problem), settings=settings, observers=[observer]).fit()
    counts = observer.state_dict()["count"]
    names = [task.name for task in problem.tasks]
    place = names.index("third")
    assert float(counts[0, 0]) == observer.looks
    assert 0 < float(counts[0, place]) == float(counts[place, 0]) < observer.looks
    assert bool(observer.mean.isfinite().all())


def test_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    problem = mixed_problem(missing=0.2)

    def run(epochs: int, folder: Path, resume: bool) -> TaskAffinity:
        observer = TaskAffinity(every=2)
        settings = TrainingSettings(epochs=epochs, batch_size=32, device="cpu")
        Trainer(
            problem,
            small_model(problem, dropout=0.2),
            settings=settings,
            observers=[observer],
            checkpoints=Checkpoints(folder),
        ).fit(resume=resume)
        return observer

    whole = run(4, tmp_path / "whole", False)
    run(2, tmp_path / "parts", False)
    parts = run(4, tmp_path / "parts", True)
    assert torch.equal(whole.mean, parts.mean)
    assert (whole.looks, whole.passes) == (parts.looks, parts.passes)


def test_compiled_trunk() -> None:
    problem = mixed_problem()
    model = small_model(problem)
    plain = OneStep(model, problem)()
    trunk = torch.compile(model.encoder, backend="eager")
    compiled = HardSharing(encoder=trunk, tasks=problem.tasks)
    compiled.task_heads.load_state_dict(model.task_heads.state_dict())
    observer = TaskAffinity(learning_rate=1e-3)
    trainer = Trainer(problem, compiled, settings=SETTINGS, observers=[observer])
    observer.on_start(trainer.start())
    trainer.train_step()
    torch.testing.assert_close(observer.mean, plain, rtol=1e-3, atol=1e-6)


def test_separate_inputs() -> None:
    """Common rows are not needed: a step on the rows of one task moves the shared core."""
    rng = np.random.default_rng(0)
    data = {}
    for name, sign in (("a", 1), ("b", 1), ("c", -1)):
        x = rng.normal(size=(60, 3)).astype(np.float32)
        data[name] = (x, sign * x[:, 0])
    problem = Problem.from_separate(data, {name: Regression() for name in data})
    encoder = MLP(input_size=3, widths=(16,))
    model = HardSharing(encoder=encoder, tasks=problem.tasks)
    # A head may take the opposite sign upon itself, and drawn heads do so half of the time: only
    # tasks that read the core alike disagree about it when their targets are opposite.
    with torch.no_grad():
        weight = model.task_heads.blocks[0].output_weight
        weight.copy_(weight[:, :1].expand_as(weight).clone())
    observer = TaskAffinity(every=1)
    Trainer(problem, model, settings=SETTINGS, observers=[observer]).fit()
    assert bool(observer.mean.isfinite().all())
    assert float(observer.mean[0, 1]) > float(observer.mean[0, 2])


def test_nothing_shared_is_an_error() -> None:
    problem = mixed_problem()
    learner = Learner(
        architecture=lambda p: Independent(encoder=MLP(input_size=5, widths=(4,)), tasks=p.tasks),
        settings=SETTINGS,
    )
    with pytest.raises(ValueError, match="Independent has none"):
        TAG().find(problem, learner=learner)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "fast"}, "`mode`"),
        ({"scope": "features"}, "`scope`"),
        ({"learning_rate": 0.0}, "`learning_rate`"),
        ({"every": 0}, "`every`"),
    ],
)
def test_bad_settings(settings: dict, message: str) -> None:
    for kind in (TAG, TaskAffinity):
        with pytest.raises(ValueError, match=message):
            kind(**settings)


def planted(rows: int = 600, seed: int = 0) -> Problem:
    """Two groups of four tasks; the tasks of a group are one function of the inputs and noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 8)).astype(np.float32)
    functions = np.tanh(x @ rng.normal(size=(8, 2)))
    names = [f"{group}{i}" for group in "ab" for i in range(4)]
    noise = 0.3 * rng.normal(size=(rows, len(names)))
    targets = {
        name: functions[:, "ab".index(name[0])] + noise[:, i] for i, name in enumerate(names)
    }
    return Problem.from_arrays(x, targets, {name: Regression() for name in names})


def planted_learner() -> Learner:
    return Learner(
        architecture=lambda p: HardSharing(
            encoder=MLP(input_size=8, widths=(32, 32), activation="tanh"), tasks=p.tasks
        ),
        settings=TrainingSettings(epochs=6, batch_size=60, learning_rate=1e-2, device="cpu"),
    )


@pytest.mark.parametrize(
    "grouper",
    [TAG(every=2), TAG(every=2, mode="first-order"), TAG(every=2, scope="last")],
    ids=repr,
)
def test_planted_groups(grouper: TAG) -> None:
    problem = planted()
    learner = planted_learner()
    found = grouper.affinity(problem, learner=learner)
    same = torch.tensor([[a.name[0] == b.name[0] for b in problem.tasks] for a in problem.tasks])
    off = ~torch.eye(8, dtype=torch.bool)
    assert float(found.matrix[same & off].mean()) > float(found.matrix[~same].mean())
    grouping = grouper.find(problem, learner=learner, num_groups=2)
    assert grouping.agreement([int(task.name[0] == "b") for task in problem.tasks]) == 1.0
    assert grouping.method == "tag"
    assert grouping.cost.models == 1 == grouper.models_trained(8)
    assert grouping.cost.passes == found.cost.passes > 0
    # The number is the search's choice, but no group mixes what was planted apart.
    chosen = find_groups(found, method="tag")
    assert all(len({name[0] for name in group}) == 1 for group in chosen.groups)


def test_one_task_is_an_error() -> None:
    problem = mixed_problem().select_tasks(["sign"])
    assert TAG().why_not(problem) is not None
    with pytest.raises(ValueError, match="two tasks"):
        TAG().find(problem)


def test_an_impossible_number_of_groups_is_an_error_before_training() -> None:
    def train(problem: Problem) -> nn.Module:
        raise AssertionError("must not be reached")

    for num_groups in (0, 5):
        with pytest.raises(ValueError, match=r"`num_groups` must be 1 \.\. 4"):
            TAG().find(mixed_problem(), learner=Learner(architecture=train), num_groups=num_groups)


def test_tasks_that_harm_each_other_are_not_grouped() -> None:
    """Affinities below 0 everywhere: alone is better, unless the authors' score is asked for."""
    matrix = torch.full((4, 4), -0.1)
    cost = GroupingCost()
    chosen = find_groups(pair_affinity("abcd", matrix, cost=cost, alone=0.0), method="tag")
    assert chosen.num_groups == 4
    assert any("do not group" in note for note in chosen.notes)
    forced = find_groups(pair_affinity("abcd", matrix, cost=cost), method="tag")
    assert forced.num_groups < 4


def test_pairs_that_never_met_count_as_no_effect() -> None:
    matrix = torch.tensor([[1.0, torch.nan], [0.5, torch.nan]])
    found = pair_affinity("ab", matrix, cost=GroupingCost())
    assert found.scores(torch.ones(1, 2, dtype=torch.bool)).tolist() == [[0.5, 0.0]]
    assert found.notes == ("1 of 2 ordered pairs of tasks are unknown; they count as 0.",)
