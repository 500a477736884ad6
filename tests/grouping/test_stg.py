"""STG: from a problem, or a data map that is there already, to soft groups."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tests.grouping.test_clustering import cases, planted, same_partition
from tests.training.problems_for_tests import mixed_problem, small_model

from polytask.datasets.synthetic import separate_shapes
from polytask.grouping.data_map import DataMap
from polytask.grouping.grouping import Grouping, GroupingCost
from polytask.grouping.learner import Learner
from polytask.grouping.stg import STG
from polytask.problems import Problem
from polytask.tasks import Binary
from polytask.training import TrainingSettings


def data_map(tasks: int = 12, groups: int = 3, *, seed: int = 0, size: float = 1.0) -> DataMap:
    points, _ = planted(tasks, groups, 2 * 2 * 100, seed=seed, size=size)
    values = (0.5 + 0.1 * points).clamp(0, 1).reshape(tasks, 2, 100, 2)
    names = tuple(f"t{i}" for i in range(tasks))
    return DataMap(names, values, (3, 6), cost=GroupingCost(models=1, steps=7), notes=("as told",))


def learner(epochs: int = 8) -> Learner:
    settings = TrainingSettings(epochs=epochs, batch_size=32, learning_rate=1e-2, device="cpu")
    return Learner(architecture=small_model, settings=settings)


def two_sorts(rows: int = 400) -> Problem:
    """Two tasks about one number, two (the second its complement) about another, one noise."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 5, generator=generator)
    labels = {
        "first": x[:, 0] > 0,
        "second": x[:, 0] > 0.1,
        "other": x[:, 1] * x[:, 2] > 0,
        "not other": x[:, 1] * x[:, 2] <= 0,
        "random": torch.rand(rows, generator=generator) > 0.5,
    }
    return Problem.from_arrays(
        x, {name: one.long() for name, one in labels.items()}, {name: Binary() for name in labels}
    )


def test_reference_ensemble(shared: Path) -> None:
    """Equations 3 and 4 with a grouping's memberships as loss weights and to combine outputs."""
    for _, inputs, outputs in cases(shared, "stg_ensemble"):
        names = tuple(f"t{i}" for i in range(len(inputs["W"])))
        grouping = Grouping(names, inputs["W"])
        losses = (grouping.memberships.T * inputs["L"]).sum(1)
        torch.testing.assert_close(losses, outputs["WL"][0], **outputs["WL"][1])
        final = torch.einsum("tm,mbt->bt", grouping.serving, inputs["O"])
        torch.testing.assert_close(final, outputs["final"][0], **outputs["final"][1])


def test_reference_pipeline(shared: Path) -> None:
    for params, inputs, outputs in cases(shared, "stg_pipeline"):
        maps = inputs["maps"]
        names = tuple(f"t{i}" for i in range(len(maps)))
        recorded = DataMap(names, maps, tuple(range(1, maps.shape[1] + 1)))
        found = STG(fuzzifier=params["F"]).group(recorded, num_groups=params["n_clusters"])
        expected, tolerances = outputs["W"]
        columns = [
            int((found.memberships - expected[:, [j]]).abs().sum(0).argmin())
            for j in range(expected.shape[1])
        ]
        torch.testing.assert_close(found.memberships[:, columns], expected, **tolerances)
        assert same_partition(torch.tensor(found.assignment), outputs["labels"][0])


@pytest.mark.parametrize("clustering", ["memberships", "fuzzy", "hard"])
def test_a_map_with_three_groups(clustering) -> None:
    found = STG(clustering=clustering, fuzzifier=1.5).group(data_map())
    assert found.num_groups == 3
    assert found.agreement([0, 1, 2] * 4) == 1.0
    assert found.is_hard == (clustering == "hard")
    torch.testing.assert_close(found.serving, found.memberships)
    assert found.cost == GroupingCost(models=1, steps=7)
    assert found.method == "stg"
    assert found.score is not None and 0.5 < found.score <= 1
    assert found.notes[0] == "as told"
    assert "3 groups are as clear as any number" in found.notes[1]


def test_a_map_without_groups_is_one_group() -> None:
    found = STG().group(data_map(groups=1))
    assert torch.equal(found.memberships, torch.ones(12, 1).double())
    assert found.score is None
    assert "learn them all together" in found.notes[-1]


def test_memberships_that_say_nothing_are_named() -> None:
    """In high dimension the paper's fuzzifier leaves hardly a difference where a small one does."""
    noisy = data_map(30, size=0.1)
    soft = STG(fuzzifier=2.0).group(noisy, num_groups=3)
    assert soft.memberships.max() < 0.45
    assert "a fuzzifier nearer to 1 would tell them apart" in soft.notes[-1]
    clear = STG(fuzzifier=1.07).group(noisy, num_groups=3)
    assert clear.memberships.amax(1).min() > 0.9
    assert clear.notes == ("as told",)
    votes = STG(clustering="votes").group(noisy, num_groups=3)
    assert votes.notes[-1].endswith("an ensemble.")


def test_one_epoch_of_sample_deviations() -> None:
    """There is no sample deviation after one epoch; the means alone are compared."""
    recorded = data_map()
    values = recorded.values[:, :1].clone()
    values[..., 1] = math.nan
    found = STG().group(DataMap(recorded.tasks, values, (1,), "sample"), num_groups=3)
    means = STG().group(DataMap(recorded.tasks, values[..., :1].expand_as(values), (1,)))
    assert means.num_groups == 3
    torch.testing.assert_close(found.memberships, means.memberships)
    with pytest.raises(ValueError, match="found 0 pairs"):
        STG(clustering="votes").group(DataMap(recorded.tasks, values, (1,)), num_groups=3)


def test_a_whole_problem_twice_the_same() -> None:
    problem = two_sorts()
    state = torch.random.get_rng_state()
    grouper = STG(fuzzifier=1.5)
    first, second = (
        grouper.find(problem, learner=learner(), num_groups=3, seed=1) for _ in range(2)
    )
    assert torch.equal(first.memberships, second.memberships)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first.tasks == tuple(task.name for task in problem.tasks)
    assert first.cost.models == grouper.models_trained(5) == 1
    assert first.cost.steps > 0
    assert first.assignment[0] == first.assignment[1]
    assert first.assignment[2] == first.assignment[3]
    complements = (first.memberships[2] - first.memberships[3]).abs().max()
    assert complements < 0.02


def test_single_task_networks_and_a_map_on_disk(tmp_path: Path) -> None:
    problem = two_sorts(120)
    alone = STG(source="single", clustering="hard").find(problem, learner=learner(3), num_groups=2)
    assert alone.cost.models == STG(source="single").models_trained(5) == 5
    arguments = {"learner": learner(3), "num_groups": 2, "seed": 2}
    in_memory = STG().find(problem, **arguments)
    on_disk = STG(folder=tmp_path).find(problem, **arguments)
    assert list(tmp_path.iterdir())
    torch.testing.assert_close(on_disk.memberships, in_memory.memberships, rtol=0, atol=1e-3)


def test_missing_labels_and_one_task() -> None:
    problem = mixed_problem(missing=0.3)
    found = STG().find(problem, learner=learner(3), num_groups=2)
    torch.testing.assert_close(found.memberships.sum(1), torch.ones(4).double())
    one = STG().find(problem.select_tasks(["sign"]), learner=learner(1))
    assert one.memberships.tolist() == [[1.0]]


def test_what_it_cannot_do_is_said_before_training() -> None:
    problem = two_sorts(60)
    for number in (0, 6):
        with pytest.raises(ValueError, match=f"the number of tasks, found {number}"):
            STG().find(problem, num_groups=number)
    separate = separate_shapes()
    assert STG().why_not(problem) is None
    assert "shared inputs" in STG().why_not(separate)
    with pytest.raises(ValueError, match="shared inputs"):
        STG().find(separate)
    with pytest.raises(ValueError, match="`clustering`"):
        STG(clustering="other")
    with pytest.raises(ValueError, match="`source`"):
        STG(source="other")
    with pytest.raises(ValueError, match="`fuzzifier`"):
        STG(fuzzifier=1.0)
    with pytest.raises(ValueError, match="`max_groups`"):
        STG(max_groups=0)


def test_it_describes_itself() -> None:
    assert STG().name == "stg"
    assert repr(STG(fuzzifier=1.07, clustering="hard")) == "STG(clustering='hard', fuzzifier=1.07)"
