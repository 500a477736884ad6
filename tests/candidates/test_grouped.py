"""Networks per group: soft and hard, found or given, their records, files and comparisons."""

from __future__ import annotations

import dataclasses
import json
import pickle

import numpy as np
import pytest
import torch
from tests.evaluation.helpers import FakeMethod, tiny_problem

from polytask import candidates, grouping
from polytask.architectures import HardSharing, SpecialisedModels
from polytask.balancers import PCGrad
from polytask.candidates import Candidate, candidate_by_name
from polytask.candidates.fitted_groups import FittedGroups
from polytask.candidates.grouped import GroupedNetworks
from polytask.candidates.method import Budget, Method, Resumable, load_fitted
from polytask.candidates.network import FittedNetwork, NetworkMethod
from polytask.candidates.run import RunSpec
from polytask.datasets.synthetic import separate_shapes
from polytask.encoders import MLP
from polytask.evaluation import compare
from polytask.grouping.base import Grouper
from polytask.grouping.grouping import Grouping, GroupingCost
from polytask.problems import Problem
from polytask.serving import load_predictor
from polytask.tasks import Regression

BUDGET = Budget(epochs=3, patience=2)
TASKS = ("sum", "positive", "class")


def small(problem):
    return HardSharing(encoder=MLP(input_size=4, widths=(8,)), tasks=problem.tasks)


NETWORK = NetworkMethod(architecture=small)
SOFT = Grouping(TASKS, torch.tensor([[0.75, 0.25], [0.5, 0.5], [0.0, 1.0]]))
OVERLAPPING = Grouping.from_groups(
    TASKS, [["sum", "positive"], ["positive", "class"]], serving={"positive": 1}
)


class PairsFirst(Grouper):
    """Trains a network per task, then puts the two tasks that are learned best together.

    Args:
        soft: Whether the others are half in the group as well.
    """

    searches = 0

    def __init__(self, *, soft=False):
        self.soft = soft

    @property
    def name(self):
        return "pairs-first"

    def why_not(self, problem):
        if problem.layout != "shared":
            return "Pairs are looked for among tasks with shared inputs only."
        return None

    def models_trained(self, num_tasks):
        return num_tasks

    def find(self, problem, *, learner=None, num_groups=None, seed=0):
        type(self).searches += 1
        names = [task.name for task in problem.tasks]
        trained = [learner.train(problem.select_tasks([name]), seed=seed) for name in names]
        cost = sum((t.cost for t in trained), GroupingCost())
        best = sorted(range(len(names)), key=lambda t: trained[t].losses[names[t]])[:2]
        memberships = torch.zeros(len(names), num_groups or 2)
        memberships[:, -1] = 1.0
        for t in best:
            memberships[t] = 0.0
            memberships[t, 0] = 1.0
        if self.soft:
            memberships = 0.75 * memberships + 0.25 / memberships.shape[1]
        return Grouping(tuple(names), memberships, method=self.name, cost=cost)


def same(first, second) -> bool:
    return set(first) == set(second) and all(torch.equal(first[n], second[n]) for n in first)


# --- fits ----------------------------------------------------------------------------------------


def test_hard_groups_are_the_networks_of_the_same_groups_alone():
    problem = tiny_problem()
    grouped = Grouping.from_groups(TASKS, [["class"], ["positive", "sum"]])
    fitted = GroupedNetworks(grouping=grouped, network=NETWORK).fit(problem, seed=4, budget=BUDGET)
    found = fitted.outputs(problem.test)
    for group in (["class"], ["sum", "positive"]):
        alone = NETWORK.fit(problem.select_tasks(group), seed=4, budget=BUDGET)
        expected = alone.outputs(problem.select_tasks(group).test)
        assert all(torch.equal(found[name], expected[name]) for name in group)


def test_a_task_in_two_groups_is_predicted_by_the_one_that_serves_it():
    problem = tiny_problem()
    fitted = GroupedNetworks(grouping=OVERLAPPING, network=NETWORK).fit(
        problem, seed=0, budget=BUDGET
    )
    assert [sorted(part.shares) for part in fitted.parts] == [["sum"], ["class", "positive"]]
    first, second = (
        NETWORK.fit(problem.select_tasks(g), seed=0, budget=BUDGET) for g in OVERLAPPING.groups
    )
    found, others = fitted.outputs(problem.test), second.outputs(problem.test)
    assert torch.equal(found["sum"], first.outputs(problem.test)["sum"])
    assert torch.equal(found["positive"], others["positive"])
    assert list(found) == list(TASKS)
    assert fitted.num_parameters == first.num_parameters + second.num_parameters


def test_a_task_that_two_hard_groups_serve_gets_the_mean_of_their_probabilities():
    problem = tiny_problem()
    shared = Grouping(
        TASKS,
        torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]),
        torch.tensor([[1.0, 0.0], [0.25, 0.75], [0.0, 1.0]]),
    )
    fitted = GroupedNetworks(grouping=shared, network=NETWORK).fit(problem, seed=0, budget=BUDGET)
    own = [part.fitted.outputs(problem.test)["positive"].sigmoid() for part in fitted.parts]
    found = fitted.outputs(problem.test)["positive"].sigmoid()
    torch.testing.assert_close(found, 0.25 * own[0] + 0.75 * own[1])


def test_soft_memberships_train_specialised_models():
    problem = tiny_problem()
    fitted = GroupedNetworks(grouping=SOFT, network=NETWORK).fit(problem, seed=0, budget=BUDGET)
    (part,) = fitted.parts
    model = part.fitted.architecture
    assert isinstance(model, SpecialisedModels)
    assert model.memberships == tuple(map(tuple, SOFT.memberships.tolist()))
    joint = NETWORK.fit(problem, seed=0, budget=BUDGET)
    assert fitted.num_parameters == 2 * joint.num_parameters
    assert same(fitted.outputs(problem.test), part.fitted.outputs(problem.test))


def test_soft_and_hard_can_be_asked_for():
    problem = tiny_problem()
    hard = GroupedNetworks(grouping=SOFT, network=NETWORK, combine="hard").fit(
        problem, seed=0, budget=BUDGET
    )
    assert [sorted(part.shares) for part in hard.parts] == [["positive", "sum"], ["class"]]
    soft = GroupedNetworks(grouping=OVERLAPPING, network=NETWORK, combine="soft").fit(
        problem, seed=0, budget=BUDGET
    )
    (part,) = soft.parts
    assert part.fitted.architecture.memberships == ((1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    assert part.fitted.architecture.serving == ((1.0, 0.0), (0.0, 1.0), (0.0, 1.0))


def test_the_order_of_the_groupings_tasks_does_not_matter():
    problem = tiny_problem()
    order = [2, 0, 1]
    turned = Grouping(tuple(TASKS[t] for t in order), SOFT.memberships[order], SOFT.serving[order])
    found = [
        GroupedNetworks(grouping=g, network=NETWORK)
        .fit(problem, seed=0, budget=BUDGET)
        .outputs(problem.test)
        for g in (SOFT, turned)
    ]
    assert same(*found)


def test_groups_that_serve_nobody_are_not_trained():
    helper = Grouping(
        TASKS,
        torch.tensor([[1.0, 1.0], [1.0, 0.0], [1.0, 0.0]]),
        torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]),
    )
    problem = tiny_problem()
    fitted = GroupedNetworks(grouping=helper, network=NETWORK).fit(problem, seed=0, budget=BUDGET)
    assert len(fitted.parts) == 1
    joint = NETWORK.fit(problem, seed=0, budget=BUDGET)
    assert same(fitted.outputs(problem.test), joint.outputs(problem.test))


def test_memberships_that_are_hard_but_for_rounding():
    nearly = Grouping(
        TASKS, torch.tensor([[1 - 1e-7, 1e-7], [1.0, 0.0], [1e-7, 1 - 1e-7]]).double()
    )
    fitted = GroupedNetworks(grouping=nearly, network=NETWORK).fit(
        tiny_problem(), seed=0, budget=BUDGET
    )
    assert [dict(part.shares) for part in fitted.parts] == [{"sum": 1, "positive": 1}, {"class": 1}]


def test_the_same_group_twice_is_two_networks():
    twice = Grouping(TASKS, torch.ones(3, 2))
    fitted = GroupedNetworks(grouping=twice, network=NETWORK).fit(
        tiny_problem(), seed=0, budget=BUDGET
    )
    first, second = (part.fitted.architecture.state_dict() for part in fitted.parts)
    assert not torch.equal(first["encoder.layers.0.weight"], second["encoder.layers.0.weight"])


def test_a_single_task_is_the_network_itself():
    problem = tiny_problem().select_tasks(["sum"])
    method = GroupedNetworks(grouper=PairsFirst(), network=NETWORK)
    assert method.config(1) == NETWORK.config(1)
    assert method.why_not(problem) is None
    assert isinstance(method.fit(problem, seed=0, budget=BUDGET), FittedNetwork)
    assert method.trainings(1) == 1


def test_separate_inputs():
    problem = separate_shapes().select_tasks(["small", "wide", "sign"])
    names = tuple(task.name for task in problem.tasks)
    halves = torch.full((len(names), 2), 0.5)
    for grouped in (Grouping(names, halves), Grouping.from_groups(names, [names[:1], names[1:]])):
        fitted = GroupedNetworks(grouping=grouped).fit(problem, seed=0, budget=Budget(epochs=1))
        found = fitted.outputs(problem.test)
        assert set(found) == set(names)
        for name in names:
            assert len(found[name]) == len(problem.test.parts[name])
        alone = fitted.outputs(problem.test.select(names[:1]))
        assert torch.equal(alone[names[0]], found[names[0]])


# --- the search ----------------------------------------------------------------------------------


@pytest.mark.parametrize("soft", [False, True])
def test_a_grouper_searches_within_the_run_and_its_cost_is_part_of_the_record(soft):
    problem = tiny_problem()
    method = GroupedNetworks(grouper=PairsFirst(soft=soft), network=NETWORK)
    before = torch.get_rng_state()
    first, second = (method.fit(problem, seed=1, budget=BUDGET) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert same(first.outputs(problem.test), second.outputs(problem.test))
    record = first.record
    trainings = sum(part.fitted.record.seconds for part in first.parts)
    assert record.seconds > trainings
    assert record.steps == sum(part.fitted.record.steps for part in first.parts)
    found = record.curves["grouping"]
    assert found["method"] == "pairs-first"
    assert found["cost"]["models"] == 3
    assert found["cost"]["in_training_time"] is True
    assert "tasks grouped by pairs-first" in record.notes[-1]
    assert "(3 models, " in record.notes[-1]
    json.dumps(record.curves)


def test_the_search_trains_as_the_networks_do():
    seen = []

    class Watching(PairsFirst):
        def find(self, problem, *, learner=None, num_groups=None, seed=0):
            seen.append((learner, num_groups, seed))
            return Grouping.together([task.name for task in problem.tasks])

    budget = Budget(epochs=7, patience=2, time_limit=60, trials=3)
    method = GroupedNetworks(grouper=Watching(), network=NETWORK, num_groups=2)
    method.fit(tiny_problem(), seed=5, budget=budget, rate=3.0)
    ((learner, num_groups, seed),) = seen
    assert (num_groups, seed) == (2, 5)
    assert learner.architecture is small
    assert learner.settings.epochs == 7
    assert learner.settings.patience == 2
    assert learner.settings.seed == 5
    assert learner.settings.time_limit == 20
    assert learner.settings.learning_rate == pytest.approx(3e-3)


def test_a_grouping_that_was_known_before_costs_this_run_nothing():
    known = dataclasses.replace(
        OVERLAPPING, method="tag", cost=GroupingCost(models=1, steps=30, seconds=1000.0)
    )
    problem = tiny_problem()
    record = (
        GroupedNetworks(grouping=known, network=NETWORK).fit(problem, seed=0, budget=BUDGET).record
    )
    assert record.seconds < 500
    assert record.curves["grouping"]["cost"]["in_training_time"] is False
    assert record.notes[-1] == (
        "tasks grouped beforehand (tag: 1 model, 30 steps, 1000.0 s, not part of the training time)"
        " into 2 groups: sum, positive | positive, class"
    )


def test_curves_and_cosines_of_all_groups_are_put_together():
    problem = tiny_problem()
    fitted = GroupedNetworks(grouping=OVERLAPPING, network=NETWORK).fit(
        problem, seed=0, budget=Budget(epochs=12, patience=1)
    )
    parts = [part.fitted.record for part in fitted.parts]
    curves = fitted.record.curves
    longest = max(record.epochs for record in parts)
    assert fitted.record.epochs == longest
    assert curves["epoch"] == list(range(1, longest + 1))
    for name, home in (("sum", parts[0]), ("positive", parts[1]), ("class", parts[1])):
        for quantity, places in (("train_loss", "epoch"), ("validation_loss", "validation_epoch")):
            own = home.curves[quantity][name]
            values = curves[quantity][name]
            assert len(values) == len(curves[places])
            known = [values[curves[places].index(e)] for e in home.curves[places]]
            assert known == own
            assert sum(value is not None for value in values) == len(own)
    cosines = fitted.record.cosines
    assert cosines[0][2] is None
    assert cosines[2][0] is None
    assert cosines[0][1] == pytest.approx(parts[0].cosines[0][1])
    assert cosines[1][2] == pytest.approx(parts[1].cosines[0][1])


def test_a_time_limit_is_for_every_network():
    seen = []

    class Watching(NetworkMethod):
        def fit(self, problem, *, seed, budget, rate=1.0):
            seen.append(budget.time_limit)
            return super().fit(problem, seed=seed, budget=budget, rate=rate)

    limited = Budget(epochs=1, time_limit=30)
    GroupedNetworks(grouping=OVERLAPPING, network=Watching(architecture=small)).fit(
        tiny_problem(), seed=0, budget=limited
    )
    assert seen == [30, 30]
    method = GroupedNetworks(grouper=PairsFirst(), num_groups=2, network=NETWORK)
    spec = RunSpec("k", method, TASKS, 0, limited, "nowhere")
    assert spec.hard_limit == (3 + 2) * limited.hard_limit
    assert GroupedNetworks(grouper=PairsFirst()).trainings(3) == 3 + 3
    assert GroupedNetworks(grouping=SOFT).trainings(3) == 2


def test_a_search_that_was_finished_before_a_crash_is_not_repeated(tmp_path):
    problem = tiny_problem()
    method = GroupedNetworks(grouper=PairsFirst(), network=NETWORK)
    assert isinstance(method, Resumable)
    assert isinstance(method, Method)
    PairsFirst.searches = 0
    first = method.resuming_in(tmp_path).fit(problem, seed=0, budget=BUDGET)
    second = method.resuming_in(tmp_path).fit(problem, seed=0, budget=BUDGET)
    assert PairsFirst.searches == 1
    assert same(first.outputs(problem.test), second.outputs(problem.test))
    assert first.record.curves["grouping"] == second.record.curves["grouping"]
    method.resuming_in(tmp_path).fit(problem, seed=1, budget=BUDGET)
    method.resuming_in(tmp_path).fit(problem, seed=0, budget=BUDGET, rate=3.0)
    assert PairsFirst.searches == 3


# --- identity and errors -------------------------------------------------------------------------


def test_what_fixes_the_results_is_in_the_description():
    base = GroupedNetworks(grouping=SOFT, network=NETWORK)
    found_by_another = dataclasses.replace(SOFT, method="x", cost=GroupingCost(seconds=3.0))
    same_results = GroupedNetworks(grouping=found_by_another, network=NETWORK)
    assert base.config(3) == same_results.config(3)
    others = [
        GroupedNetworks(grouping=OVERLAPPING, network=NETWORK),
        GroupedNetworks(grouping=SOFT, network=NETWORK, combine="hard"),
        GroupedNetworks(grouping=SOFT, network=NetworkMethod()),
        GroupedNetworks(grouper=PairsFirst(), network=NETWORK),
        GroupedNetworks(grouper=PairsFirst(soft=True), network=NETWORK),
        GroupedNetworks(grouper=PairsFirst(), network=NETWORK, num_groups=2),
        GroupedNetworks(
            grouping=SOFT, network=NetworkMethod(architecture=small, balancer=PCGrad())
        ),
    ]
    records = [json.dumps(method.config(3), sort_keys=True) for method in (base, *others)]
    assert len(set(records)) == len(records)


def test_it_can_travel_to_another_process():
    method = pickle.loads(pickle.dumps(GroupedNetworks(grouping=SOFT, network=NETWORK)))
    assert method.config(3) == GroupedNetworks(grouping=SOFT, network=NETWORK).config(3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "either a `grouper` or a `grouping`"),
        ({"grouper": PairsFirst(), "grouping": SOFT}, ValueError, "either a `grouper` or"),
        ({"grouping": SOFT, "num_groups": 2}, ValueError, "`num_groups` is for a `grouper`"),
        ({"grouper": PairsFirst(), "num_groups": 0}, ValueError, "`num_groups` must be >= 1"),
        ({"grouping": SOFT, "combine": "both"}, ValueError, "`combine` must be 'auto', 'soft'"),
        ({"grouping": SOFT, "network": FakeMethod()}, TypeError, "must be a NetworkMethod"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        GroupedNetworks(**arguments)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (
            GroupedNetworks(grouping=Grouping.together(["sum", "positive"])),
            "the grouping and the problem do not both have task 'class'",
        ),
        (
            GroupedNetworks(grouper=PairsFirst(), num_groups=4),
            "4 groups were asked for, there are 3 tasks",
        ),
    ],
)
def test_what_cannot_be_grouped_is_said_before_any_training(method, message):
    problem = tiny_problem()
    assert method.why_not(problem) == message
    with pytest.raises(ValueError, match=message):
        method.fit(problem, seed=0, budget=BUDGET)
    with pytest.raises(ValueError, match=f"Candidate 'x' cannot learn this problem: {message}"):
        compare(problem, candidates=[Candidate("x", method)], seeds=1, workers=0)


def test_a_grouper_says_itself_what_it_cannot_group():
    problem = separate_shapes()
    method = GroupedNetworks(grouper=PairsFirst())
    assert method.why_not(problem) == ("Pairs are looked for among tasks with shared inputs only")
    with pytest.raises(ValueError, match="shared inputs only"):
        method.fit(problem, seed=0, budget=BUDGET)


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("grouped", [SOFT, OVERLAPPING], ids=["soft", "overlapping"])
def test_it_comes_back_from_its_files(grouped, tmp_path):
    problem = tiny_problem()
    fitted = GroupedNetworks(grouping=grouped, network=NETWORK).fit(problem, seed=0, budget=BUDGET)
    fitted.save(tmp_path / "model")
    loaded = load_fitted(tmp_path / "model")
    assert isinstance(loaded, FittedGroups)
    assert same(loaded.outputs(problem.test), fitted.outputs(problem.test))
    assert loaded.record == json_round_trip(fitted.record)
    assert loaded.num_parameters == fitted.num_parameters
    assert torch.equal(loaded.grouping.memberships, grouped.memberships)


def json_round_trip(record):
    values = json.loads(json.dumps(dataclasses.asdict(record)))
    return dataclasses.replace(record, curves=values["curves"], cosines=values["cosines"])


# --- candidates ----------------------------------------------------------------------------------


class NeedsArguments(PairsFirst):
    def __init__(self, *, pairs):
        super().__init__()
        self.pairs = pairs


@pytest.fixture
def exported(monkeypatch):
    """Two groupers among the exports of the package."""
    monkeypatch.setattr(grouping, "PairsFirst", PairsFirst, raising=False)
    monkeypatch.setattr(grouping, "NeedsArguments", NeedsArguments, raising=False)
    monkeypatch.setattr(grouping, "__all__", [*grouping.__all__, "PairsFirst", "NeedsArguments"])


@pytest.mark.parametrize(
    ("name", "shown", "combine", "count"),
    [
        ("pairs-first", "groups: pairs-first", "auto", None),
        ("PairsFirst", "groups: pairs-first", "auto", None),
        ("groups: pairs-first", "groups: pairs-first", "auto", None),
        ("pairs-first-hard", "groups: pairs-first-hard", "hard", None),
        ("pairs_first:3", "groups: pairs-first:3", "auto", 3),
        ("groups: pairs-first-hard:2", "groups: pairs-first-hard:2", "hard", 2),
    ],
)
def test_groupers_by_name(exported, name, shown, combine, count):
    candidate = candidate_by_name(name, architecture=small)
    assert candidate.name == shown
    assert isinstance(candidate.method.grouper, PairsFirst)
    assert candidate.method.combine == combine
    assert candidate.method.num_groups == count
    assert candidate.method.network.architecture is small
    assert candidate_by_name(candidate.name).name == candidate.name


def test_a_grouper_that_needs_arguments_says_so(exported):
    with pytest.raises(ValueError, match="NeedsArguments needs arguments"):
        candidate_by_name("needsarguments")
    with pytest.raises(ValueError, match=r"No candidate 'magic'; choose from .*pairs-first"):
        candidate_by_name("magic")


def test_every_exported_grouper_has_a_name_or_needs_arguments():
    for export in grouping.__all__:
        value = getattr(grouping, export)
        if not (isinstance(value, type) and issubclass(value, Grouper)):
            continue
        if getattr(value, "__abstractmethods__", None):
            continue
        try:
            candidate = candidate_by_name(export)
        except ValueError as error:
            assert "needs arguments" in str(error)
        else:
            assert type(candidate.method.grouper) is value
            assert candidate_by_name(candidate.name).name == candidate.name


def test_a_partition_is_runs_of_its_own_and_other_groupings_are_one():
    partition = Grouping.from_groups(TASKS, [["sum", "class"], ["positive"]])
    candidate = Candidate.from_grouping("x", partition, NETWORK)
    assert candidate.method is NETWORK
    assert candidate.groups_of(TASKS) == (("sum", "class"), ("positive",))
    for grouped in (SOFT, OVERLAPPING):
        candidate = Candidate.from_grouping("x", grouped, NETWORK)
        assert candidate.method.grouping is grouped
        assert candidate.method.network is NETWORK
        assert candidate.groups_of(TASKS) == (TASKS,)
        with pytest.raises(TypeError, match="overlap or are soft need a NetworkMethod"):
            Candidate.from_grouping("x", grouped, FakeMethod())


def test_a_saved_grouping_is_a_candidate(tmp_path):
    path = tmp_path / "grouping.json"
    SOFT.save(path)
    for name in (str(path), f"groups: {path}"):
        candidate = candidate_by_name(name, architecture=small)
        assert candidate.name == f"groups: {tmp_path.name}/grouping.json"
        assert torch.equal(candidate.method.grouping.memberships, SOFT.memberships)
        assert candidate.method.network.architecture is small
    SOFT.save(tmp_path / "mine.json")
    assert candidate_by_name(str(tmp_path / "mine.json")).name == "groups: mine.json"
    with pytest.raises(ValueError, match="there is no such file; give the path of a saved"):
        candidate_by_name(str(tmp_path / "other.json"))
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="is no grouping"):
        candidate_by_name(str(path))


def test_the_class_is_exported():
    assert candidates.GroupedNetworks is GroupedNetworks


# --- in a comparison -----------------------------------------------------------------------------


def table():
    import pandas as pd

    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 3))
    return pd.DataFrame(
        {
            "a": x[:, 0],
            "b": x[:, 1],
            "c": x[:, 2],
            "sum": x.sum(1),
            "positive": x[:, 0] > 0,
            "class": np.where(x[:, 1] > 0.5, "high", np.where(x[:, 2] > 0, "middle", "low")),
        }
    )


@pytest.mark.slow
def test_a_comparison_from_the_table_to_predictions(tmp_path):
    candidates = [
        Candidate.from_grouping("groups: soft", SOFT),
        Candidate.from_grouping("groups: overlapping", OVERLAPPING),
        Candidate("groups: found", GroupedNetworks(grouper=PairsFirst(soft=True))),
    ]
    result = compare(
        table(),
        ["sum:regression", "positive:binary", "class"],
        candidates=candidates,
        seeds=1,
        budget=Budget(epochs=2),
        out=tmp_path,
        workers=0,
    )
    assert result.is_complete
    assert not result.failures
    assert set(result.candidates) == {"single-task", *(c.name for c in candidates)}
    for run in result.runs.values():
        assert run.result["saved"] is True
    for candidate in candidates:
        folder = result.save_model(tmp_path / candidate.name[8:], candidate=candidate.name)
        predictor = load_predictor(folder)
        frame = table().drop(columns=["sum", "positive", "class"]).head(7)
        predictions = predictor.predict_table(frame)
        assert "sum" in predictions
        shares = predictions[[c for c in predictions if c.startswith("class probability")]]
        np.testing.assert_allclose(shares.sum(axis=1), 1.0, rtol=1e-5)
        assert "sum" not in predictor.predict_table(frame, tasks=["class"])
    assert "groups: soft" in result.report().read_text(encoding="utf-8")


def test_compare_says_before_training_which_grouper_cannot_be_used():
    names = ("a", "b")
    x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    numbers = Problem.from_arrays(
        x, {n: x[:, i] for i, n in enumerate(names)}, {n: Regression() for n in names}
    )

    class Refusing(PairsFirst):
        def why_not(self, problem):
            return "Task 'a' is a Regression; a data map needs classes."

    candidate = Candidate("groups: x", GroupedNetworks(grouper=Refusing()))
    message = (
        r"'groups: x' cannot learn this problem: Task 'a' is a Regression; .* needs classes\.$"
    )
    with pytest.raises(ValueError, match=message):
        compare(numbers, candidates=[candidate], seeds=1, workers=0)
