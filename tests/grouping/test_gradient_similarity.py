"""Groups by the cosines of gradients."""

from __future__ import annotations

import pytest
import torch
from tests.grouping.test_tag import planted, planted_learner
from tests.training.problems_for_tests import mixed_problem

from polytask.architectures import HardSharing, Independent
from polytask.encoders import MLP
from polytask.grouping.gradient_similarity import GradientSimilarity
from polytask.grouping.learner import Learner
from polytask.problems import Problem, Split
from polytask.tasks import Regression, Task
from polytask.training import GradientCosines, Trainer, TrainingSettings

SETTINGS = TrainingSettings(epochs=2, batch_size=32, device="cpu")


def one_look(problem: Problem, model: HardSharing, scope: str) -> torch.Tensor:
    observer = GradientCosines(scope=scope)
    settings = TrainingSettings(epochs=1, batch_size=len(problem.train), device="cpu")
    trainer = Trainer(problem, model, settings=settings, observers=[observer])
    observer.on_start(trainer.start())
    trainer.train_step()
    return observer.mean


@pytest.mark.parametrize("scope", ["trunk", "last", "features"])
def test_cosines_by_hand(scope: str) -> None:
    """One weight w = 1, rows 1 and -1, targets 2 x, 3 x and -x, heads 1, 1 and 2: the errors of a
    task are the same on both rows up to the sign of x, so every gradient is a multiple of one
    vector, by (1 - 2), (1 - 3) and 2 (2 + 1).
    """
    x = torch.tensor([[1.0], [-1.0]])
    tasks = [Task(name, Regression()) for name in "abc"]
    targets = {"a": 2 * x[:, 0], "b": 3 * x[:, 0], "c": -x[:, 0]}
    split = Split(x, targets, tasks)
    encoder = torch.nn.Linear(1, 1, bias=False)
    encoder.output_size = 1
    model = HardSharing(encoder=encoder, tasks=tasks)
    with torch.no_grad():
        encoder.weight.fill_(1.0)
        block = model.task_heads.blocks[0]
        block.output_weight.copy_(torch.tensor([1.0, 1.0, 2.0]).view_as(block.output_weight))
        block.output_bias.zero_()
    problem = Problem(name="hand", train=split, validation=split, test=split)
    expected = torch.tensor([[1, 1, -1], [1, 1, -1], [-1, -1, 1]], dtype=torch.float64)
    torch.testing.assert_close(one_look(problem, model, scope), expected)


def test_features_and_trunk_differ_where_rows_differ() -> None:
    """Two tasks that have labels of different rows: the features of one row have nothing to do with
    those of another, the weights that make them have.
    """
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)).abs()
    first, second = x[:, 0].clone(), x[:, 0].clone()
    first[20:] = torch.nan
    second[:20] = torch.nan
    tasks = [Task("a", Regression()), Task("b", Regression())]
    split = Split(x, {"a": first, "b": second}, tasks)
    problem = Problem(name="halves", train=split, validation=split, test=split)
    torch.manual_seed(0)
    model = HardSharing(encoder=MLP(input_size=3, widths=(8,)), tasks=tasks)
    with torch.no_grad():
        block = model.task_heads.blocks[0]
        block.output_weight[:, 1] = block.output_weight[:, 0]
    assert float(one_look(problem, model, "features")[0, 1]) == pytest.approx(0, abs=1e-6)
    assert float(one_look(problem, model, "trunk")[0, 1]) > 0.5


@pytest.mark.parametrize("scope", ["trunk", "last", "features"])
def test_planted_groups(scope: str) -> None:
    problem = planted()
    grouper = GradientSimilarity(every=2, scope=scope)
    found = grouper.affinity(problem, learner=planted_learner())
    same = torch.tensor([[a.name[0] == b.name[0] for b in problem.tasks] for a in problem.tasks])
    off = ~torch.eye(8, dtype=torch.bool)
    assert float(found.matrix[same & off].mean()) > float(found.matrix[~same].mean()) + 0.1
    torch.testing.assert_close(found.matrix, found.matrix.T)
    grouping = grouper.find(problem, learner=planted_learner(), num_groups=2)
    assert grouping.agreement([int(task.name[0] == "b") for task in problem.tasks]) == 1.0
    assert grouping.method == "gradient-similarity"
    assert grouping.cost.models == 1 == grouper.models_trained(8)
    looks = grouping.cost.steps // 2
    assert grouping.cost.passes == (9 * looks if scope == "trunk" else looks)


def test_missing_labels() -> None:
    problem = mixed_problem(missing=0.4)
    learner = Learner(
        architecture=lambda p: HardSharing(encoder=MLP(input_size=5, widths=(8,)), tasks=p.tasks),
        settings=SETTINGS,
    )
    found = GradientSimilarity(every=1).affinity(problem, learner=learner)
    assert bool(found.matrix.isfinite().all())
    assert bool((found.matrix.abs() <= 1 + 1e-6).all())


def test_nothing_shared_is_an_error() -> None:
    learner = Learner(
        architecture=lambda p: Independent(encoder=MLP(input_size=5, widths=(4,)), tasks=p.tasks),
        settings=SETTINGS,
    )
    with pytest.raises(ValueError, match="Independent has none"):
        GradientSimilarity().find(mixed_problem(), learner=learner)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="`scope`"):
        GradientSimilarity(scope="head")
    with pytest.raises(ValueError, match="`every`"):
        GradientSimilarity(every=0)
    with pytest.raises(ValueError, match="two tasks"):
        GradientSimilarity().find(mixed_problem().select_tasks(["sign"]))
    rows = torch.randn(20, 2).numpy()
    separate = Problem.from_separate(
        dict.fromkeys("ab", (rows, rows[:, 0])), {name: Regression() for name in "ab"}
    )
    assert GradientSimilarity().why_not(separate) is None
    assert GradientSimilarity(scope="features").why_not(separate) is not None
