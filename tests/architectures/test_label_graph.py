"""ML-GCN: the reference, the graph from labels with its edge cases, and planted structure."""

from __future__ import annotations

import math

import pytest
import torch
from tests.architectures.one_kind import check_tasks_of, fixture_cases, same_tasks
from torch import nn

from polytask.architectures import HardSharing
from polytask.architectures.descriptors.task_descriptors import TaskDescriptors
from polytask.architectures.label_graph import (
    LabelGraph,
    label_adjacency,
    label_counts,
    reweighted,
)
from polytask.checks import architectures as checks
from polytask.encoders import MLP, SmallCNN, TabularEncoder
from polytask.problems import Problem
from polytask.tasks import Binary, Regression, Task
from polytask.training import Trainer, TrainingSettings


class Features(nn.Module):
    """Inputs are the pooled features."""

    def __init__(self, size):
        super().__init__()
        self.output_size = size

    def forward(self, rows):
        return rows


def close(found, expected):
    value, rtol, atol = expected
    torch.testing.assert_close(found, value, rtol=rtol, atol=atol)


def test_reference(shared):
    for params, given, expected in fixture_cases(shared, "ml_gcn"):
        counts = given["M"], given["N"]
        code = reweighted(*counts, threshold=params["t"], variant="code")
        close(code, expected["A"])
        close(reweighted(*counts, threshold=params["t"], variant="paper"), expected["A__paper"])
        labels, size = given["emb"].shape
        tasks = same_tasks(labels, Binary())
        names = [task.name for task in tasks]
        features = given["feat"].requires_grad_()
        model = LabelGraph(
            encoder=Features(features.shape[1]),
            tasks=tasks,
            adjacency=code,
            embeddings=TaskDescriptors(names=names, size=size),
            hidden=given["W1"].shape[1],
            variant="code",
        ).double()
        with torch.no_grad():
            # Single-precision buffers are not what the reference was computed with.
            sums = code.sum(1).rsqrt()
            torch.testing.assert_close(
                model.propagation, sums[:, None] * code.mT * sums, rtol=1e-6, atol=1e-7
            )
            model.propagation.copy_(expected["Ahat"][0])
            model.embeddings.embedding.copy_(given["emb"])
            model.first.weight.copy_(given["W1"].T)
            model.second.weight.copy_(given["W2"].T)
        close(sums[:, None] * code.mT * sums, expected["Ahat"])
        close(model.classifiers(), expected["classifiers"])
        scores = torch.cat(list(model(features).values()), dim=1)
        close(scores, expected["scores"])
        (0.5 * (scores.square().sum() + model.classifiers().square().sum())).backward()
        close(model.embeddings.embedding.grad, expected["g.emb"])
        close(features.grad, expected["g.feat"])


# --- the graph -----------------------------------------------------------------------------------

LABELS = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 1, 0]])


def test_counts_and_edges_by_hand():
    together, positives = label_counts(LABELS)
    assert together.tolist() == [[3, 2, 0, 0], [2, 3, 1, 0], [0, 1, 2, 0], [0, 0, 0, 0]]
    assert positives[:, 0].tolist() == [3, 3, 2, 0]
    # P: 0 -> 1 is 2/3, 1 -> 0 is 2/3, 1 -> 2 is 1/3, 2 -> 1 is 1/2; label 3 never occurs.
    expected = torch.tensor([[0.8, 0.2, 0, 0], [0.2, 0.8, 0, 0], [0, 0.2, 0.8, 0], [0, 0, 0, 0.8]])
    torch.testing.assert_close(label_adjacency(LABELS), expected)
    expected = torch.tensor([[1, 0.125, 0, 0], [0.25, 1, 0, 0], [0, 0.125, 1, 0], [0, 0, 0, 1.0]])
    torch.testing.assert_close(
        label_adjacency(LABELS, variant="code"), expected, atol=1e-6, rtol=1e-6
    )


def test_the_diagonal_of_the_counts_changes_nothing():
    together, positives = label_counts(LABELS)
    for variant in ("paper", "code"):
        without = reweighted(together.clone().fill_diagonal_(0), positives, variant=variant)
        assert torch.equal(reweighted(together, positives, variant=variant), without)


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_isolated_labels_and_labels_without_positives_keep_their_own_embedding(variant):
    graph = label_adjacency(LABELS, variant=variant)
    model = LabelGraph(
        encoder=Features(3), tasks=same_tasks(4, Binary()), adjacency=graph, hidden=5,
        variant=variant,
    )  # fmt: skip
    assert model.propagation.isfinite().all()
    own = torch.zeros(4)
    own[3] = 1
    torch.testing.assert_close(model.propagation[3], own)
    torch.testing.assert_close(model.propagation[:, 3], own)


def test_a_threshold_is_met_from_itself_on():
    pair = torch.tensor([[1, 1], [1, 1], [1, 0], [1, 0], [1, 0]])
    assert label_adjacency(pair, threshold=0.4)[0, 1] > 0
    assert label_adjacency(pair, threshold=0.41)[0, 1] == 0
    assert label_adjacency(pair, threshold=1.0)[1, 0] > 0


@pytest.mark.parametrize("missing", [-1, math.nan])
def test_missing_labels_are_masked_and_do_not_count_as_absent(missing):
    # Of the rows with label 0 where label 1 is known, half have it; unknown rows say nothing.
    rows = torch.tensor([[1.0, 1], [1, 0], [1, missing], [1, missing], [missing, 1], [0, 1]])
    together, positives = label_counts(rows)
    assert together.tolist() == [[4, 1], [1, 3]]
    assert positives.tolist() == [[4, 2], [2, 3]]
    assert label_adjacency(rows, threshold=0.5)[0, 1] == pytest.approx(0.2)
    everything = torch.full((3, 2), float(missing))
    assert torch.equal(label_adjacency(everything), 0.8 * torch.eye(2))


def test_rows_of_the_papers_graph_share_one_unit():
    rows = (torch.rand(200, 12, generator=torch.Generator().manual_seed(0)) < 0.5).long()
    graph = label_adjacency(rows, threshold=0.45, reweight=0.3)
    neighbours = (graph > 0).sum(1) - 1
    assert (neighbours > 0).any()
    torch.testing.assert_close(graph.sum(1), torch.where(neighbours > 0, 1.0, 0.7).to(graph.dtype))
    torch.testing.assert_close(graph.diagonal(), torch.full((12,), 0.7))


# --- the model -----------------------------------------------------------------------------------


def test_without_edges_every_label_has_a_classifier_of_its_own():
    model = LabelGraph(
        encoder=Features(4), tasks=same_tasks(3, Binary()), adjacency=torch.eye(3), hidden=6
    )
    rows = torch.randn(5, 4)
    before = {name: value.clone() for name, value in model(rows).items()}
    with torch.no_grad():
        model.first.weight[:, 0] += 1  # The embedding of label 0.
    after = model(rows)
    assert not torch.equal(after["t0"], before["t0"])
    assert torch.equal(after["t1"], before["t1"])
    assert torch.equal(after["t2"], before["t2"])


def test_along_an_edge_a_label_learns_from_its_neighbours_rows():
    graph = torch.tensor([[0.8, 0.2, 0], [0.2, 0.8, 0], [0, 0, 0.8]])
    model = LabelGraph(
        encoder=Features(4), tasks=same_tasks(3, Binary()), adjacency=graph, hidden=6
    )
    model(torch.randn(5, 4))["t0"].sum().backward()
    reached = model.first.weight.grad.abs().sum(0)
    assert reached[0] > 0
    assert reached[1] > 0
    assert reached[2] == 0


def test_given_embeddings_are_taken_by_name():
    values = torch.randn(3, 4)
    tasks = same_tasks(3, Binary())
    made = []
    for order in ([0, 1, 2], [2, 0, 1]):
        torch.manual_seed(3)
        given = TaskDescriptors(names=[f"t{i}" for i in order], values=values[order])
        made.append(
            LabelGraph(
                encoder=Features(5), tasks=tasks, adjacency=torch.eye(3), embeddings=given, hidden=6
            )
        )
    assert torch.equal(made[0].classifiers(), made[1].classifiers())


def test_classifiers_start_near_the_scale_of_linear_heads():
    tasks = same_tasks(30, Binary())
    model = LabelGraph(encoder=Features(64), tasks=tasks, adjacency=torch.eye(30), hidden=256)
    heads = HardSharing(encoder=Features(64), tasks=tasks)
    (weight, _), _ = heads.task_rows("t0")
    ratio = model.classifiers().std() / weight.std()
    assert 0.25 < ratio.item() < 1


def test_any_encoder():
    tasks = same_tasks(4, Binary())
    encoder = SmallCNN(image_size=8, channels=1)
    model = LabelGraph(encoder=encoder, tasks=tasks, adjacency=torch.eye(4), hidden=6)
    assert model(torch.randn(3, 1, 8, 8))["t3"].shape == (3, 1)


def members(tasks):
    encoder = TabularEncoder(num_numeric=3, members=3, width=8, depth=1, dropout=0.1)
    graph = label_adjacency(torch.randint(0, 2, (20, len(tasks))), variant="code")
    given = TaskDescriptors(names=[task.name for task in tasks], size=2)
    model = LabelGraph(
        encoder=encoder, tasks=tasks, adjacency=graph, embeddings=given, hidden=4, variant="code"
    )
    return model, torch.randn(6, 3)


def separate_members(tasks):
    model, _ = members(tasks)
    return model, {task.name: torch.randn(3 + i, 3) for i, task in enumerate(tasks)}


def separate(tasks):
    model, _ = LabelGraph.example(tasks)
    return model, {task.name: torch.randn(3 + i, 5) for i, task in enumerate(tasks)}


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("example", [LabelGraph.example, members, separate_members, separate])
def test_conformance(example, check, monkeypatch):
    check_tasks_of(Binary(), monkeypatch)
    check(example)


def test_a_problem_gives_the_graph_of_its_training_rows_and_trains():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(400, 5, generator=generator)
    noise = torch.randn(400, 3, generator=generator)
    labels = ((rows[:, :1] + 0.3 * noise) > 0).long()  # Three labels that go together.
    labels[::7, 1] = -1
    kinds = {name: Binary() for name in "abc"}
    targets = {name: labels[:, i] for i, name in enumerate("abc")}

    def made(split_seed, flip):
        parts = torch.randperm(400, generator=torch.Generator().manual_seed(split_seed)).numpy()
        splits = {"train": parts[:200], "validation": parts[200:300], "test": parts[300:]}
        changed = {name: t.clone() for name, t in targets.items()}
        if flip:
            changed["a"][splits["test"]] = 1 - changed["a"][splits["test"]]
        problem = Problem.from_arrays(rows, changed, kinds, splits=splits)
        columns = [problem.train.targets[task.name] for task in problem.tasks]
        return problem, label_adjacency(torch.stack(columns, dim=1))

    problem, graph = made(0, flip=False)
    assert torch.equal(graph, made(0, flip=True)[1])
    expected = torch.full((3, 3), 0.1).fill_diagonal_(0.8)
    torch.testing.assert_close(graph, expected)
    assert LabelGraph.for_problem(problem).adjacency == tuple(map(tuple, graph.tolist()))
    encoder = MLP(input_size=5, widths=(16,))
    model = LabelGraph(encoder=encoder, tasks=problem.tasks, adjacency=graph, hidden=8, bias=True)
    settings = TrainingSettings(epochs=10, learning_rate=0.01, device="cpu")
    history = Trainer(problem, model, settings=settings).fit().history
    for name in "abc":
        assert history[-1].train_losses[name] < 0.6 * history[0].train_losses[name]


def test_problems_without_a_label_graph_are_refused():
    rows, numbers = torch.randn(30, 2), torch.randn(30)
    problem = Problem.from_arrays(rows, {"price": numbers}, {"price": Regression()})
    with pytest.raises(ValueError, match="'price' is a Regression, not Binary"):
        LabelGraph.for_problem(problem)
    labels = (numbers > 0).long()
    separate = Problem.from_separate({"a": (rows, labels)}, {"a": Binary()}, name="apart")
    with pytest.raises(ValueError, match="the tasks of problem 'apart' have rows of their own"):
        LabelGraph.for_problem(separate)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tasks": (Task("a", Binary()), Task("b", Regression()))}, "'b' is a Regression, not"),
        ({"adjacency": torch.eye(3)}, r"shape \[2, 2\], one row per label, found \[3, 3\]"),
        ({"adjacency": [[1.0, 0.0], [0.0, 0.0]]}, r"found row sums \[1.0, 0.0\]"),
        ({"adjacency": [[1.0, -0.5], [0.0, 1.0]]}, "finite entries >= 0"),
        ({"adjacency": [[1.0, math.nan], [0.0, 1.0]]}, "finite entries >= 0"),
        ({"variant": "best"}, "`variant` must be 'paper' or 'code', found 'best'"),
        ({"hidden": 0}, "`hidden` must be at least 1, found 0"),
        ({"embeddings": TaskDescriptors(names=("a", "c"))}, r"labels \['a', 'b'\], found \('a', '"),
        ({"encoder": nn.Linear(3, 3)}, "needs an attribute `output_size`"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    given = {
        "encoder": MLP(input_size=3, widths=(4,)),
        "tasks": (Task("a", Binary()), Task("b", Binary())),
        "adjacency": torch.eye(2),
        **arguments,
    }
    with pytest.raises(ValueError, match=message):
        LabelGraph(**given)


@pytest.mark.parametrize(
    ("targets", "arguments", "message"),
    [
        (torch.tensor([[0, 2]]), {}, r"table \[rows, labels\] of 0, 1, .* values \[0.0, 2.0\]"),
        (torch.tensor([0, 1]), {}, r"found shape \[2\]"),
        (LABELS, {"threshold": 0.0}, r"`threshold` must lie in \(0, 1\], found 0.0"),
        (LABELS, {"reweight": 1.0}, r"`reweight` must lie in \[0, 1\), found 1.0"),
        (LABELS, {"variant": "mine"}, "`variant` must be 'paper' or 'code', found 'mine'"),
    ],
)
def test_bad_targets_are_named(targets, arguments, message):
    with pytest.raises(ValueError, match=message):
        label_adjacency(targets, **arguments)
