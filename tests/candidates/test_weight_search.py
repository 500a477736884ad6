"""Searched fixed weights: the grids, the search, its journal, and its place in a comparison."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.evaluation.helpers import FakeMethod, tiny_problem

from polytask.architectures import HardSharing
from polytask.balancers import FixedWeights, PCGrad
from polytask.candidates import (
    Budget,
    Candidate,
    NetworkMethod,
    WeightSearch,
    candidate_by_name,
    simplex_grid,
)
from polytask.candidates.method import Resumable
from polytask.candidates.run import RunSpec
from polytask.candidates.weight_proposals import search_grid, search_optuna
from polytask.encoders import MLP
from polytask.evaluation import compare
from polytask.evaluation.analysis import analyse
from polytask.evaluation.scores import ScoreTable
from polytask.evaluation.significance import holm, paired_test
from polytask.evaluation.verdict import VerdictFacts, reach_verdict
from polytask.problems import Problem
from polytask.runs import InlineExecutor
from polytask.runs.progress import SweepObserver
from polytask.tasks import Regression

BUDGET = Budget(epochs=1)
TASKS = ("sum", "positive", "class")


# --- the grid ------------------------------------------------------------------------------------


def test_the_grid_by_hand():
    found = simplex_grid(3, 2)
    expected = [[0, 0, 2], [0, 1, 1], [0, 2, 0], [1, 0, 1], [1, 1, 0], [2, 0, 0]]
    assert np.array_equal(found, np.array(expected) / 2)
    assert np.array_equal(simplex_grid(1, 5), [[1.0]])
    assert np.array_equal(simplex_grid(3, 4, interior=True) * 4, [[1, 1, 2], [1, 2, 1], [2, 1, 1]])


@pytest.mark.parametrize(("tasks", "resolution"), [(2, 10), (3, 7), (5, 6), (10, 3)])
@pytest.mark.parametrize("interior", [False, True])
def test_the_grid_has_every_point_once(tasks, resolution, interior):
    if interior:
        resolution += tasks
    found = simplex_grid(tasks, resolution, interior=interior)
    places = resolution - 1 if interior else resolution + tasks - 1
    assert found.shape == (math.comb(places, tasks - 1), tasks)
    assert len(np.unique(found, axis=0)) == len(found)
    assert found.min() == pytest.approx(1 / resolution if interior else 0.0)
    assert found.sum(1) == pytest.approx(np.ones(len(found)))


def test_a_grid_that_explodes_names_its_size():
    with pytest.raises(ValueError, match="10 tasks with resolution 20 has 10015005 points"):
        simplex_grid(10, 20)
    with pytest.raises(ValueError, match="must be >= 1, found num_tasks=0"):
        simplex_grid(0, 2)
    with pytest.raises(ValueError, match="`resolution` >= `num_tasks` = 3, found 2"):
        simplex_grid(3, 2, interior=True)


# --- where the search looks ----------------------------------------------------------------------


def peaked(optimum, tried):
    """Gains that fall with the distance from an optimum."""

    def gain_of(weights):
        tried.append(weights)
        return -float(np.square(np.array(weights) - optimum).sum())

    return gain_of


@pytest.mark.parametrize(
    ("optimum", "evaluations", "error"),
    [((0.83, 0.17), 20, 0.01), ((0.6, 0.3, 0.1), 40, 0.03), ((0.4, 0.3, 0.1, 0.1, 0.1), 150, 0.03)],
)
def test_coarse_to_fine_finds_a_planted_optimum(optimum, evaluations, error):
    tried = []
    found = search_grid(
        peaked(optimum, tried), num_tasks=len(optimum), evaluations=evaluations, seed=0
    )
    assert len(tried) <= evaluations
    assert np.abs(np.array(found) - optimum).max() < error
    # The coarse stage alone is not that near.
    coarse = np.abs(np.array(tried[: evaluations // 2]) - optimum).max(1).min()
    assert np.abs(np.array(found) - optimum).max() < coarse


@pytest.mark.parametrize("tasks", [2, 3, 4, 30])
@pytest.mark.parametrize("evaluations", [2, 3, 20])
def test_what_is_tried(tasks, evaluations):
    optimum = np.arange(1, tasks + 1) / (tasks * (tasks + 1) / 2)
    runs = []
    for _ in range(2):
        tried = []
        search_grid(peaked(optimum, tried), num_tasks=tasks, evaluations=evaluations, seed=3)
        runs.append(tried)
    assert runs[0] == runs[1]
    tried = np.array(runs[0])
    assert len(tried) == evaluations
    assert tried[0] == pytest.approx(np.full(tasks, 1 / tasks))
    assert len(np.unique(tried.round(6), axis=0)) == evaluations
    assert tried.min() > 0
    assert tried.sum(1) == pytest.approx(np.ones(evaluations))


def test_three_tasks_begin_with_a_grid_and_more_with_points_all_over():
    tried = []
    search_grid(peaked((0.2, 0.3, 0.5), tried), num_tasks=3, evaluations=20, seed=0)
    coarse = {tuple(row) for row in simplex_grid(3, 6, interior=True).tolist()}
    # The centre of this grid is tried already.
    assert set(tried[1:10]) == coarse - {(2 / 6, 2 / 6, 2 / 6)}
    tried.clear()
    search_grid(peaked((0.25,) * 4, tried), num_tasks=4, evaluations=40, seed=0)
    # Uniform on the simplex: every weight has mean 1/4 and standard deviation sqrt(3/80).
    assert np.array(tried[1:21]).mean(0) == pytest.approx(np.full(4, 0.25), abs=0.06)
    assert np.array(tried[1:21]).std() == pytest.approx(math.sqrt(3 / 80), abs=0.04)


def test_a_search_that_cannot_get_finer_ends_early():
    tried = []
    found = search_grid(peaked((0.5, 0.5), tried), num_tasks=2, evaluations=500, seed=0)
    assert len(tried) < 400
    assert found == (0.5, 0.5)


# --- the search as a method ----------------------------------------------------------------------


class PlantedFit:
    """Predicts every target with a constant error."""

    def __init__(self, problem, error, record):
        self.problem, self.error, self.record = problem, error, record
        self.num_parameters = 5

    def outputs(self, split):
        return {t.name: split.targets[t.name].unsqueeze(1) + self.error for t in self.problem.tasks}

    def save(self, folder):
        folder.mkdir(parents=True)
        (folder / "method.json").write_text('{"method": "planted"}', encoding="utf-8")


class Planted:
    """A method whose error grows with the distance of the weights from the best ones.

    Args:
        log: File that gets a line per training.
        die_after: Trainings after which the process is killed without warning.
    """

    optimum = (0.7, 0.3)

    def __init__(self, log=None, die_after=None):
        self.balancer = None
        self.log, self.die_after = log, die_after

    def config(self, num_tasks):
        return {"method": "planted"}

    def why_not(self, problem):
        return None

    def fit(self, problem, *, seed, budget, rate=1.0):
        weights = self.balancer.values if self.balancer is not None else (1.0,)
        if self.log is not None:
            with Path(self.log).open("a", encoding="utf-8") as handle:
                handle.write(f"{json.dumps(weights)}\n")
            if len(trained(self.log)) == self.die_after:
                os.kill(os.getpid(), 9)
        error = 0.1
        if len(weights) > 1:
            error += float(np.abs(np.array(weights) - self.optimum).sum())
        record = FakeMethod().fit(problem, seed=seed, budget=budget).record
        return PlantedFit(problem, error, dataclasses.replace(record, learning_rate=rate))


def trained(log):
    path = Path(log)
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [tuple(json.loads(line)) for line in lines]


def two_numbers():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3)).astype(np.float32)
    kinds = {"a": Regression(), "b": Regression()}
    return Problem.from_arrays(x, {"a": x[:, 0], "b": x[:, 1]}, kinds, name="numbers")


def test_the_best_on_validation_is_kept_with_the_cost_of_all(tmp_path):
    log = tmp_path / "log"
    search = WeightSearch(evaluations=12, method=Planted(log=log))
    fitted = search.fit(two_numbers(), seed=0, budget=BUDGET, rate=0.5)
    weights = trained(log)
    assert len(weights) == 12
    assert weights[0] == (0.5, 0.5)
    errors = [sum(abs(np.array(w) - Planted.optimum)) for w in weights]
    found = fitted.outputs(two_numbers().test)["a"][:, 0] - two_numbers().test.targets["a"]
    assert found.mean().item() == pytest.approx(0.1 + min(errors), abs=1e-5)
    record = fitted.record
    assert record.seconds == pytest.approx(12 * 0.5)
    assert record.learning_rate == 0.5
    history = record.curves["search"]
    assert record.notes[-1].startswith("weights searched on validation")
    assert history["weights"]["a"] == [w[0] for w in weights]
    assert history["chosen"] == int(np.argmin(errors))
    assert history["gain"][0] == 0.0
    assert max(history["gain"]) == history["gain"][history["chosen"]] > 0
    assert history["seconds"] == [0.5] * 12
    assert "12 trainings took 6.0 s" in record.notes[-1]
    assert "made up" in record.notes  # what a training says is not lost
    assert fitted.num_parameters == 5


def test_a_single_task_is_the_method_itself():
    method = Planted()
    search = WeightSearch(method=method)
    assert search.config(1) == method.config(1)
    alone = two_numbers().select_tasks(["a"])
    assert isinstance(search.fit(alone, seed=0, budget=BUDGET), PlantedFit)


def test_what_fixes_the_results_is_described():
    base = WeightSearch(evaluations=5).config(2)
    assert base["method"] == "weight search"
    assert WeightSearch(evaluations=6).config(2) != base
    assert WeightSearch(evaluations=5, folder="anywhere").config(2) == base
    other = NetworkMethod(architecture=small)
    assert WeightSearch(evaluations=5, method=other).config(2) != base
    assert repr(WeightSearch(evaluations=5)) == "WeightSearch(evaluations=5)"
    pickle.dumps(WeightSearch())


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"`evaluations` must be >= 2 .* found 1"):
        WeightSearch(evaluations=1)
    with pytest.raises(ValueError, match="`strategy` must be 'grid' or 'optuna', found 'luck'"):
        WeightSearch(strategy="luck")
    with pytest.raises(ValueError, match=r"must have no balancer.*PCGrad"):
        WeightSearch(method=NetworkMethod(balancer=PCGrad()))
    with pytest.raises(TypeError, match="`method` must be a method with a balancer"):
        WeightSearch(method=FakeMethod())


# --- after a crash -------------------------------------------------------------------------------


def whole_search(folder, log, **changes):
    method = Planted(log=log, **changes)
    search = WeightSearch(evaluations=9, method=method).resuming_in(folder)
    return search.fit(two_numbers(), seed=0, budget=BUDGET)


def test_a_killed_search_trains_only_the_rest(tmp_path):
    whole = whole_search(tmp_path / "whole", tmp_path / "whole.log")
    script = (
        "from pathlib import Path; from tests.candidates.test_weight_search import whole_search;"
        f"whole_search(Path({str(tmp_path / 'cut')!r}), {str(tmp_path / 'cut.log')!r}, die_after=5)"
    )
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])}
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=root, env=environment, check=False, timeout=200
    )
    assert ended.returncode == -9
    (journal,) = (tmp_path / "cut").iterdir()
    finished = [tuple(json.loads(line)["weights"]) for line in journal.read_text().splitlines()]
    assert finished == trained(tmp_path / "cut.log")[:4]
    with journal.open("a", encoding="utf-8") as handle:
        handle.write('{"weights": [0.1')  # a line that was being written
    (tmp_path / "cut.log").unlink()
    resumed = whole_search(tmp_path / "cut", tmp_path / "cut.log")
    everything = trained(tmp_path / "whole.log")
    rest = trained(tmp_path / "cut.log")
    assert rest[:5] == everything[4:]
    # The model of a chosen evaluation that was finished before is made once more.
    chosen = everything[whole.record.curves["search"]["chosen"]]
    assert rest[5:] == ([chosen] if chosen in finished else [])
    assert resumed.record == whole.record
    (other,) = (tmp_path / "whole").iterdir()
    assert journal.name == other.name
    assert journal.read_bytes() == other.read_bytes()


def test_a_finished_search_only_makes_its_model_again(tmp_path):
    first = whole_search(tmp_path / "journal", tmp_path / "log")
    before = len(trained(tmp_path / "log"))
    again = whole_search(tmp_path / "journal", tmp_path / "log")
    assert len(trained(tmp_path / "log")) == before + 1
    assert again.record == first.record
    out, expected = again.outputs(two_numbers().test), first.outputs(two_numbers().test)
    assert (out["a"] == expected["a"]).all()


def test_another_search_does_not_read_the_journal(tmp_path):
    method = Planted(log=tmp_path / "log")
    for seed, rate in ((0, 1.0), (1, 1.0), (0, 3.0)):
        search = WeightSearch(evaluations=2, method=method, folder=tmp_path / "journal")
        search.fit(two_numbers(), seed=seed, budget=BUDGET, rate=rate)
    assert len(trained(tmp_path / "log")) == 6


def test_a_damaged_journal_is_named(tmp_path):
    whole_search(tmp_path / "journal", tmp_path / "log")
    (journal,) = (tmp_path / "journal").iterdir()
    lines = journal.read_text(encoding="utf-8").splitlines(keepends=True)
    journal.write_text("".join([lines[0], "{}\n", *lines[2:]]), encoding="utf-8")
    with pytest.raises(ValueError, match=r"Line 2 of .* is damaged; delete the file"):
        whole_search(tmp_path / "journal", tmp_path / "log")


def test_scores_that_are_undefined_survive_the_journal(tmp_path):
    problem = tiny_problem()
    runs = []
    for _ in range(2):
        search = WeightSearch(evaluations=2, method=Undefined(), folder=tmp_path)
        runs.append(search.fit(problem, seed=0, budget=BUDGET).record.curves["search"]["gain"])
    (journal,) = tmp_path.iterdir()
    assert "null" in journal.read_text(encoding="utf-8")
    assert "NaN" not in journal.read_text(encoding="utf-8")
    assert runs[0] == runs[1]


class Undefined(FakeMethod):
    """One task's outputs are not finite."""

    def __init__(self):
        super().__init__()
        self.balancer = None

    def fit(self, problem, *, seed, budget, rate=1.0):
        fitted = super().fit(problem, seed=seed, budget=budget, rate=rate)
        outputs = fitted.outputs
        fitted.outputs = lambda split: {
            name: values * math.nan if name == "sum" else values
            for name, values in outputs(split).items()
        }
        return fitted


# --- optuna --------------------------------------------------------------------------------------


def test_optuna_that_is_missing_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"needs the extra: pip install 'polytask\[tune\]'"):
        WeightSearch(strategy="optuna")


def test_optuna_is_seeded_and_better_than_equal_weights(tmp_path, capsys):
    optuna = pytest.importorskip("optuna", reason="needs the extra polytask[tune]")
    verbosity = optuna.logging.get_verbosity()
    runs = []
    for seed in (0, 0, 1):
        tried = []
        best = search_optuna(peaked((0.7, 0.2, 0.1), tried), num_tasks=3, evaluations=20, seed=seed)
        assert len(tried) == 20
        assert tried[0] == pytest.approx((1 / 3,) * 3)
        assert np.array(tried).min() > 0
        assert np.array(tried).sum(1) == pytest.approx(np.ones(20))
        assert best in tried[1:]
        runs.append(tried)
    assert runs[0] == runs[1] != runs[2]
    assert optuna.logging.get_verbosity() == verbosity
    assert capsys.readouterr().err == ""


def test_optuna_has_the_same_interface(tmp_path):
    optuna = pytest.importorskip("optuna", reason="needs the extra polytask[tune]")
    log = tmp_path / "log"
    records = []
    for evaluations in (6, 6):
        search = WeightSearch(
            evaluations=evaluations,
            strategy="optuna",
            method=Planted(log=log),
            folder=tmp_path / "j",
        )
        records.append(search.fit(two_numbers(), seed=0, budget=BUDGET).record)
    # The second search reads everything from the journal and makes the model again.
    assert len(trained(log)) == 7
    assert records[0] == records[1]
    assert search.config(2)["optuna"] == optuna.__version__


# --- in a comparison -----------------------------------------------------------------------------


def small(problem):
    return HardSharing(encoder=MLP(input_size=4, widths=(8,)), tasks=problem.tasks)


def test_its_name_on_the_command_line():
    for name in ("weight-search", "searched weights", "shared: searched weights"):
        candidate = candidate_by_name(name, architecture=small)
        assert candidate.name == "shared: searched weights"
        assert candidate.method.method.architecture is small
        assert candidate.method.evaluations == 20


def test_its_run_may_take_the_time_of_all_its_trainings():
    budget = Budget(time_limit=10)
    for method, factor in ((NetworkMethod(), 1), (WeightSearch(evaluations=7), 7)):
        spec = RunSpec("k", method, TASKS, 0, budget, "nowhere")
        assert spec.hard_limit == factor * budget.hard_limit
    assert isinstance(WeightSearch(), Resumable)
    assert not isinstance(NetworkMethod(), Resumable)
    assert RunSpec("k", WeightSearch(), TASKS, 0, Budget(), "nowhere").hard_limit is None


@pytest.mark.slow
def test_a_comparison_tests_the_claim_and_shows_the_price(tmp_path):
    network = NetworkMethod(architecture=small)
    result = compare(
        tiny_problem(),
        candidates=[
            Candidate("single-task", network, "single"),
            Candidate("shared: equal", network),
            Candidate("shared: searched weights", WeightSearch(evaluations=3, method=network)),
        ],
        seeds=2,
        out=tmp_path,
        budget=Budget(epochs=2),
        executor=InlineExecutor(),
        observer=SweepObserver(),
    )
    assert result.failures == []
    run = result.runs_of("shared: searched weights", 1)[0]
    history = run.result["curves"]["search"]
    assert len(history["gain"]) == 3
    assert run.result["train_seconds"] == pytest.approx(sum(history["seconds"]))
    assert run.result["saved"]
    # The first training is that of the candidate with equal weights.
    equal = result.runs_of("shared: equal", 1)[0].result
    lines = (next((tmp_path / "searches" / run.key).iterdir())).read_text().splitlines()
    first = json.loads(lines[0])
    assert len(lines) == 3
    for name in TASKS:
        for metric, value in equal["scores"][name]["validation"].items():
            assert first["scores"][name][metric] == pytest.approx(value, rel=1e-4)
    costs = result.leaderboard().set_index("candidate")["train_seconds"]
    total = np.mean(
        [r.result["train_seconds"] for s in (0, 1) for r in result.runs_of(run.candidates[0], s)]
    )
    assert costs["shared: searched weights"] == pytest.approx(total)
    verdict = str(result.verdict)
    assert "Searching for fixed weights: on the test rows shared: searched weights" in verdict
    assert "to shared: equal (" in verdict or "than shared: equal (" in verdict
    assert "its training takes" in verdict
    page = result.report().read_text(encoding="utf-8")
    assert "the best of at most 3 trainings" in page
    assert "weights searched on validation: 3 trainings took" in page


def claim(gains, seconds, *, seeds=5):
    """The verdict on candidates with these gains over single-task networks, in test scores."""
    rng = np.random.default_rng(0)
    base = 0.8 + 0.001 * rng.normal(size=(1, seeds, 2))
    factors = 1 + np.array([0.0, *gains.values()])
    scores = base * factors[:, None, None] + 0.001 * rng.normal(size=(len(factors), seeds, 2))
    table = ScoreTable(
        candidates=("single-task", *gains),
        seeds=tuple(range(seeds)),
        tasks=("a", "b"),
        metrics=("auc", "auc"),
        higher_is_better=np.array([True, True]),
        validation=scores,
        test=scores,
        complete=np.ones(scores.shape[:2], dtype=bool),
    )
    facts = VerdictFacts(
        joint=list(gains),
        boosting=None,
        train_seconds={"single-task": 2.0, **dict(zip(gains, seconds, strict=True))},
        searched={"searched": [name for name in gains if name != "searched"]},
    )
    analysis = analyse(table, baseline="single-task", overlap=0.0)
    return analysis, str(reach_verdict(analysis, facts))


def test_the_verdict_says_whom_the_search_beats_and_at_what_price():
    gains = {"searched": 0.05, "equal": 0.02, "pcgrad": 0.08, "twin": 0.05}
    analysis, text = claim(gains, (40.0, 1.0, 4.0, 3.0))
    sentence = text[text.index("Searching for fixed weights") :].split(" per seed)")[0]
    assert re.search(r"searched beats equal \(\+\d\.\d points of Δm, p (=|<) 0\.\d+\)", sentence)
    assert re.search(r"is worse than pcgrad \(-\d\.\d points of Δm, p", sentence)
    assert "shows no difference to twin (" in sentence
    assert "(paired, corrected for 3 comparisons)" in sentence
    # 40 s against the mean of 1, 4 and 3 s.
    assert sentence.endswith("takes 15 times their mean (40.0 s against 2.7 s")
    mean = 100 * (analysis.delta[1] - analysis.delta[2]).mean()
    assert f"equal ({mean:+.1f} points" in sentence


def test_the_verdict_corrects_for_the_number_of_balancers():
    analysis, text = claim({"searched": 0.0512, "equal": 0.05}, (4.0, 2.0))
    p = paired_test(analysis.delta[1] - analysis.delta[2]).p
    assert f"p = {p:.2g})" in text
    assert "takes 2 times that of equal (4.0 s against 2.0 s per seed)" in text
    more = {"searched": 0.0512, "equal": 0.05, "other": 0.051}
    analysis, text = claim(more, (4.0, 2.0, math.nan))
    tests = [paired_test(analysis.delta[1] - analysis.delta[c]).p for c in (2, 3)]
    for p in holm(tests):
        assert f"p = {p:.2g})" in text
    assert holm(tests) != tests


def test_one_seed_and_no_rival_show_nothing():
    _, text = claim({"searched": 0.05, "equal": 0.02}, (4.0, 2.0), seeds=1)
    assert "shows no difference to equal (+" in text
    _, text = claim({"searched": 0.05}, (4.0,))
    assert "Searching for fixed weights" not in text


def test_the_weights_of_a_training_are_those_of_the_search():
    seen = []

    class Spy(Planted):
        def fit(self, problem, **arguments):
            seen.append(self.balancer)
            return super().fit(problem, **arguments)

    method = Spy()
    WeightSearch(evaluations=2, method=method).fit(two_numbers(), seed=0, budget=BUDGET)
    assert all(isinstance(balancer, FixedWeights) for balancer in seen)
    assert method.balancer is None  # the user's object stays as it was
