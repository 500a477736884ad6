"""The main job, with methods that train at once and with real networks on small data."""

from __future__ import annotations

import contextlib
import gc
import json
import math
import os
import shutil
import sqlite3

import numpy as np
import pandas as pd
import pytest
from tests.evaluation.helpers import FakeMethod, tiny_problem

from polytask.balancers import PCGrad
from polytask.candidates import Budget, Candidate, NetworkMethod
from polytask.candidates.run import RunSpec, execute_run, tune
from polytask.evaluation import Comparison, compare
from polytask.evaluation.analysis import CHOSEN_PER_TASK
from polytask.problems import FixedSource, Problem
from polytask.runs import InlineExecutor, LocalExecutor
from polytask.runs.progress import SweepObserver
from polytask.runs.store import RunStore
from polytask.tables import TableSource
from polytask.tasks import Binary, Regression

QUIET = SweepObserver()
TASKS = ("sum", "positive", "class")


def fakes(log=None, **changes):
    """A baseline and a better shared candidate that need no training."""
    return [
        Candidate("single-task", FakeMethod(log=log), "single"),
        Candidate("shared: fake", FakeMethod(log=log, joint_bonus=2.0, **changes)),
    ]


def run_fakes(out, *, seeds=3, candidates=None, executor=None, **changes):
    return compare(
        changes.pop("problem", tiny_problem()),
        candidates=candidates or fakes(),
        seeds=seeds,
        out=out,
        executor=executor or InlineExecutor(),
        observer=changes.pop("observer", QUIET),
        **changes,
    )


# --- what comes out ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return run_fakes(tmp_path_factory.mktemp("compare") / "out")


def test_every_run_is_there(finished):
    assert finished.is_complete
    assert finished.failures == []
    assert len(finished.runs) == 3 * (3 + 1)
    assert finished.groups("single-task") == (("sum",), ("positive",), ("class",))
    assert finished.groups("shared: fake") == (TASKS,)
    assert [run.seed for run in finished.runs_of("shared: fake", 2)] == [2]


def test_leaderboard(finished):
    frame = finished.leaderboard()
    assert frame["candidate"].tolist() == ["shared: fake", "single-task", CHOSEN_PER_TASK]
    best, base, _ = frame.to_dict("records")
    assert best["winner"]
    assert finished.winner == "shared: fake"
    assert base["delta_m"] == 0
    assert best["delta_m"] > 0
    assert best["delta_m_low"] < best["delta_m"] < best["delta_m_high"]
    assert math.isnan(base["p"])
    assert best["p_adjusted"] == best["p"]  # one question only
    assert base["win"] + best["win"] <= 100
    assert base["parameters"] == 21
    assert best["parameters"] == 7
    assert base["train_seconds"] == 1.5
    assert best["peak_memory_mb"] > 10
    assert best["predict_seconds_per_1000"] > 0
    assert best["seeds"] == 3
    assert {"mean_rmse", "mean_auc", "mean_accuracy"} <= set(frame.columns)


def test_leaderboard_numbers_follow_from_the_raw_scores(finished):
    raw = finished.scores()
    test = raw[(raw["split"] == "test") & raw["primary"]]
    wide = test.pivot_table(index=["seed", "task"], columns="candidate", values="value")
    sign = np.array([-1 if task == "sum" else 1 for _, task in wide.index])
    base = wide["single-task"].to_numpy()
    gains = sign * (wide["shared: fake"].to_numpy() - base) / np.abs(base)
    row = finished.leaderboard().iloc[0]
    assert row["delta_m"] == pytest.approx(100 * gains.reshape(3, 3).mean())
    per_task = finished.gains().set_index(["candidate", "task"]).loc["shared: fake"]
    order = [task for _, task in wide.index[:3]]
    assert per_task.loc[order, "gain"].tolist() == pytest.approx(
        (100 * gains.reshape(3, 3).mean(0)).tolist()
    )


def test_results_file_has_every_raw_score(finished):
    lines = (finished.folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert len(records) == 3 * (3 + 3)
    first = records[0]
    assert {"run", "task", "seed", "group", "scores", "parameters", "train_seconds"} <= set(first)
    assert set(first["scores"]) == {"validation", "test"}
    assert {r["seed"] for r in records} == {0, 1, 2}


def test_provenance_says_how_to_repeat_it(finished):
    made = finished.provenance()
    assert made["seeds"] == [0, 1, 2]
    assert made["budget"] == {"epochs": 100, "patience": 16, "trials": 1, "time_limit": None}
    assert {"polytask", "python", "torch", "numpy"} <= set(made["versions"])
    assert made["machine"]["cores"] >= 1
    assert len(made["data_fingerprint"]) == 16


def test_loading_gives_the_same(finished):
    again = Comparison.load(finished.folder)
    pd.testing.assert_frame_equal(again.leaderboard(), finished.leaderboard())
    assert again.verdict == finished.verdict
    assert again.chosen_per_task == finished.chosen_per_task
    assert again.plan == finished.plan


def test_representations_escape_names_that_come_from_data(tmp_path):
    problem = tiny_problem()
    x = problem.train.inputs.numpy()
    evil = Problem.from_arrays(
        x,
        {"<b>a</b>": x[:, 0], "b": x[:, 1]},
        {"<b>a</b>": Regression(), "b": Regression()},
        name="evil",
    )
    result = run_fakes(tmp_path, problem=evil)
    text = result._repr_html_()
    assert "<b>a</b>" not in text
    assert "shared: fake" in text
    assert repr(result) == "Comparison('evil': 2 candidates, 2 tasks, 3 seeds, 9 of 9 runs done)"


def test_save_copies_what_load_needs(finished, tmp_path):
    finished.save(tmp_path / "copy")
    assert Comparison.load(tmp_path / "copy").verdict == finished.verdict


# --- never twice, nothing lost -------------------------------------------------------------------


def fits(log):
    return log.read_text(encoding="utf-8").splitlines() if log.exists() else []


def test_finished_runs_are_not_trained_again(tmp_path):
    log = tmp_path / "log"
    run_fakes(tmp_path / "out", seeds=2, candidates=fakes(log))
    assert len(fits(log)) == 8
    run_fakes(tmp_path / "out", seeds=2, candidates=fakes(log))
    assert len(fits(log)) == 8
    run_fakes(tmp_path / "out", seeds=3, candidates=fakes(log))
    assert len(fits(log)) == 12


def test_single_task_runs_are_shared_by_candidates(tmp_path):
    log = tmp_path / "log"
    method = FakeMethod(log=log, joint_bonus=1.0)
    candidates = [
        Candidate("single-task", method, "single"),
        Candidate("pair", method, [["sum", "positive"], ["class"]]),
        Candidate("all", method),
    ]
    result = run_fakes(tmp_path / "out", seeds=1, candidates=candidates)
    assert len(fits(log)) == 5  # three alone, one pair, all together; "class" alone serves two
    run = result.runs_of("pair", 0)[1]
    assert run.candidates == ("single-task", "pair")
    assert result.scores()["candidate"].nunique() == 3


def test_another_budget_or_other_data_are_other_runs(tmp_path):
    log = tmp_path / "log"
    run_fakes(tmp_path / "out", seeds=1, candidates=fakes(log))
    run_fakes(tmp_path / "out", seeds=1, candidates=fakes(log), budget=Budget(epochs=7))
    run_fakes(tmp_path / "out", seeds=1, candidates=fakes(log), problem=tiny_problem(seed=1))
    assert len(fits(log)) == 12


def contents(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("damage", ["truncate", "remove", "garble"])
def test_a_damaged_results_file_is_written_again_by_the_same_command(tmp_path, damage):
    folder = run_fakes(tmp_path / "out", seeds=1).folder
    path = folder / "results.jsonl"
    whole = path.read_bytes()
    if damage == "truncate":
        path.write_bytes(whole[: len(whole) // 2 + 7])
    elif damage == "remove":
        path.unlink()
    else:
        path.write_bytes(whole.replace(b"scores", b"sc\0res", 1))
    run_fakes(folder, seeds=1)
    assert path.read_bytes() == whole


def test_reading_a_comparison_writes_nothing_and_a_report_one_file(finished, tmp_path):
    folder = tmp_path / "theirs"
    shutil.copytree(finished.folder, folder)
    (folder / "results.jsonl").write_text("torn", encoding="utf-8")
    (folder / "report.html").unlink(missing_ok=True)
    before = contents(folder)
    comparison = Comparison.load(folder)
    assert comparison.leaderboard().equals(finished.leaderboard())
    assert contents(folder) == before
    comparison.report()
    report = {folder / "report.html": (folder / "report.html").read_bytes()}
    assert contents(folder) == {**before, **report}


def test_a_missing_store_is_refused_and_nothing_replaced(finished, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished.folder, folder)
    (folder / "runs.sqlite").unlink()
    before = contents(folder)
    with pytest.raises(ValueError, match=r"holds a plan but no runs \(runs.sqlite is missing\)"):
        Comparison.load(folder).report()
    assert contents(folder) == before


def test_a_damaged_result_is_named_and_trained_again_by_the_same_command(tmp_path):
    folder = run_fakes(tmp_path / "out", seeds=1).folder
    whole = (folder / "results.jsonl").read_bytes()
    with contextlib.closing(sqlite3.connect(folder / "runs.sqlite")) as connection:
        connection.execute("UPDATE runs SET result = replace(result, '0', '7') WHERE rowid = 1")
        connection.commit()
    with pytest.raises(ValueError, match=r"The result of run \w+ in .* is damaged"):
        Comparison.load(folder)
    again = run_fakes(folder, seeds=1)
    assert again.is_complete
    facts = [json.loads(line)["scores"] for line in whole.decode().splitlines()]
    lines = (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["scores"] for line in lines] == facts


def test_a_damaged_plan_or_no_plan_is_said(finished, tmp_path):
    with pytest.raises(ValueError, match="holds no comparison"):
        Comparison.load(tmp_path)
    folder = tmp_path / "copy"
    shutil.copytree(finished.folder, folder)
    (folder / "comparison.json").write_text('{"format": 1, "na', encoding="utf-8")
    with pytest.raises(ValueError, match="is damaged"):
        Comparison.load(folder)


# --- things that go wrong ------------------------------------------------------------------------


class Recorder(SweepObserver):
    """Keeps what it is told; may press Ctrl-C."""

    def __init__(self, interrupt_after=None):
        self.ended, self.errors, self.interrupted = [], [], False
        self.interrupt_after = interrupt_after

    def on_run_end(self, label, *, seconds, error, final):
        self.ended.append(label)
        if error is not None:
            self.errors.append((label, error))
        if len(self.ended) == self.interrupt_after:
            raise KeyboardInterrupt

    def on_end(self, *, interrupted):
        self.interrupted = interrupted


def test_one_failing_run_does_not_end_the_sweep(tmp_path):
    observer = Recorder()
    result = run_fakes(tmp_path, candidates=fakes(fail_on=[1]), observer=observer)
    assert observer.errors == [("shared: fake, seed 1", "RuntimeError: seed 1 cannot be learned")]
    assert result.is_complete
    (failure,) = result.failures
    assert (failure.candidates, failure.seed, failure.attempts) == (("shared: fake",), 1, 1)
    rows = result.leaderboard().set_index("candidate")
    assert rows.loc["shared: fake", "failed"] == 1
    assert rows.loc["shared: fake", "seeds"] == 2
    assert rows.loc["single-task", "seeds"] == 3
    assert "1 run failed" in str(result.verdict)


def test_a_failed_run_is_tried_again_by_the_same_command_up_to_the_cap(tmp_path):
    log = tmp_path / "log"
    for _ in range(5):
        run_fakes(tmp_path / "out", seeds=[1], candidates=fakes(log, fail_on=[1]))
    assert sum(line.startswith("sum,positive,class 1") for line in fits(log)) == 3
    result = run_fakes(
        tmp_path / "out", seeds=[1], candidates=fakes(log, fail_on=[1]), retry_failed=True
    )
    assert sum(line.startswith("sum,positive,class 1") for line in fits(log)) == 4
    assert result.failures[0].attempts == 1


def test_when_everything_fails_there_is_no_winner(tmp_path):
    method = FakeMethod(fail_on=[0])
    result = run_fakes(tmp_path, seeds=1, candidates=[Candidate("single-task", method, "single")])
    assert result.winner is None
    assert str(result.verdict).startswith("No verdict yet")
    assert math.isnan(result.leaderboard().loc[0, "delta_m"])
    with pytest.raises(ValueError, match="no model to save"):
        result.save_model()


def test_ctrl_c_keeps_and_reports_what_is_finished(tmp_path):
    log = tmp_path / "log"
    observer = Recorder(interrupt_after=6)
    result = run_fakes(tmp_path / "out", candidates=fakes(log), observer=observer)
    assert observer.interrupted
    assert not result.is_complete
    assert sum(run.is_done for run in result.runs.values()) == 6
    assert result.leaderboard().set_index("candidate").loc["shared: fake", "seeds"] == 1
    assert "ended early" in str(result.verdict)
    assert len((tmp_path / "out" / "results.jsonl").read_text().splitlines()) == 8
    again = run_fakes(tmp_path / "out", candidates=fakes(log))
    assert again.is_complete
    assert len(fits(log)) == 12


def test_ctrl_c_in_the_middle_of_a_run_gives_it_back(tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(FakeMethod, "fit", interrupted)
    result = run_fakes(tmp_path, seeds=1)
    assert {run.status for run in result.runs.values()} == {"pending"}
    assert {run.attempts for run in result.runs.values()} == {0}


def test_an_undefined_score_is_left_out_and_said(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    rows = {"train": range(40), "validation": range(40, 50), "test": range(50, 60)}
    y = (x[:, 0] > 0).astype(int)
    y[50:] = 1  # one class only in the test rows: no AUC
    problem = Problem.from_arrays(
        x, {"a": x[:, 1], "b": y}, {"a": Regression(), "b": Binary()}, splits=rows
    )
    result = run_fakes(tmp_path, problem=problem)
    assert "Task 'b' has no auc in seed(s) 0, 1, 2" in str(result.verdict)
    gains = result.gains().set_index(["candidate", "task"])
    assert math.isnan(gains.loc[("shared: fake", "b"), "gain"])
    assert not math.isnan(result.leaderboard().loc[0, "delta_m"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_folder_that_cannot_be_written_is_found_before_training(tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    with pytest.raises(OSError, match="Cannot write to the output folder"):
        run_fakes(locked / "out")


def test_a_file_in_the_place_of_the_output_folder(tmp_path):
    (tmp_path / "out").write_text("in the way", encoding="utf-8")
    log = tmp_path / "log"
    with pytest.raises(OSError, match=r"Cannot write to the output folder .*choose another `out`"):
        run_fakes(tmp_path / "out", candidates=fakes(log))
    assert fits(log) == []


def test_a_full_disk_fails_the_run_and_not_the_sweep(tmp_path, monkeypatch):
    from tests.evaluation.helpers import FakeFit

    def full(self, folder):
        raise OSError(28, "No space left on device", str(folder))

    monkeypatch.setattr(FakeFit, "save", full)
    result = run_fakes(tmp_path, seeds=1)
    assert {run.status for run in result.runs.values()} == {"failed"}
    assert "No space left on device" in result.failures[0].error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 0}, "`seeds` must be"),
        ({"seeds": [1, 1]}, "`seeds` must be"),
        ({"candidates": ["magic"]}, "No candidate 'magic'"),
        ({"candidates": ["equal", "equal"]}, "unique, found 'shared: equal' twice"),
        ({"workers": -1, "executor": None}, "`workers` must be >= 0"),
        ({"drop": ["x"]}, "`drop` is for tables"),
    ],
)
def test_bad_arguments_are_named_before_training(tmp_path, change, message):
    arguments = {"seeds": 1, "out": tmp_path, "executor": InlineExecutor(), "observer": QUIET}
    with pytest.raises(ValueError, match=message):
        compare(tiny_problem(), **{**arguments, **change})


def test_tables_need_targets():
    with pytest.raises(ValueError, match="A table needs `targets`"):
        compare(pd.DataFrame({"a": [1.0, 2.0]}))
    with pytest.raises(TypeError, match="`data` must be a table"):
        compare(3, ["a"])


# --- runs ----------------------------------------------------------------------------------------


class Once:
    """A source that counts how often the test rows' labels are read."""

    resplits = False

    def __init__(self, problem):
        self._problem = problem

    def problem(self, seed):
        return self._problem


def test_the_test_rows_are_scored_once_whatever_the_trials(monkeypatch):
    problem = tiny_problem()
    read = []
    from polytask.candidates import run as module

    plain = module.score

    def counting(fitted, given, split):
        read.append("test" if len(split) == len(given.test) and split is given.test else "other")
        return plain(fitted, given, split)

    monkeypatch.setattr(module, "score", counting)
    budget = Budget(trials=3)
    execute_run(RunSpec("k", FakeMethod(), TASKS, 0, budget, Once(problem), None))
    assert read.count("test") == 1
    assert read.count("other") == 3


def test_the_best_trial_on_validation_is_kept():
    problem = tiny_problem()
    fitted, scores, trials = tune(FakeMethod(), problem, seed=0, budget=Budget(trials=3))
    assert [trial["rate"] for trial in trials] == [1.0, 1 / 3, 3.0]
    assert fitted.quality == pytest.approx(1.1)  # the fake is better at a third of the rate
    assert trials[0]["gain"] == 0
    assert trials[1]["gain"] == max(trial["gain"] for trial in trials)
    assert set(scores) == set(TASKS)


def test_every_method_gets_the_same_number_of_trials(tmp_path):
    log = tmp_path / "log"
    run_fakes(tmp_path / "out", seeds=1, candidates=fakes(log), budget=Budget(trials=2))
    assert len(fits(log)) == 2 * 4


class Counting(FixedSource):
    """Counts how often the problem of each seed is built."""

    resplits = True

    def __init__(self):
        super().__init__(tiny_problem())
        self.built = []

    def build(self, seed):
        self.built.append(seed)
        return tiny_problem(seed=seed)


def test_a_problem_is_built_once_per_seed(tmp_path):
    source = Counting()
    source.problem(0)  # as the command line does, which shows it
    result = run_fakes(tmp_path, problem=source, seeds=2)
    assert result.is_complete, result.failures
    assert source.built == [0, 1]


def test_a_run_that_another_live_process_has_is_waited_for(tmp_path):
    result = run_fakes(tmp_path, seeds=1)
    key = next(iter(result.runs))
    content = result.runs[key].result
    other = RunStore(tmp_path / "runs.sqlite", owner="elsewhere:1:0", lease_seconds=60)
    other.forget([key])
    other.want({key: {}})
    assert other.claim().key == key

    class Finishing(Recorder):
        def on_start(self, *, total, done):
            assert (total, done) == (4, 3)
            other.finish(key, content)

    again = run_fakes(tmp_path, seeds=1, observer=Finishing())
    other.close()
    assert again.is_complete


# --- with real methods ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def houses():
    rng = np.random.default_rng(0)
    rows = 240
    frame = pd.DataFrame(
        {
            "id": range(rows),
            "size": rng.normal(100, 30, rows),
            "age": rng.integers(0, 80, rows).astype(float),
            "town": rng.choice(["Aarhus", "Bonn", "Český Krumlov"], rows),
        }
    )
    frame.loc[::17, "age"] = np.nan
    frame["price"] = frame["size"] * 3 + (frame["town"] == "Bonn") * 90 + rng.normal(0, 5, rows)
    frame["sold"] = np.where(frame["size"] > 100, "yes", "no")
    frame.loc[::11, "sold"] = None
    return frame


@pytest.fixture(scope="module")
def real(houses, tmp_path_factory):
    """Two seeds of trees and small networks on a table, in worker processes."""
    return compare(
        houses,
        ["price:regression", "sold:binary"],
        drop=["id"],
        candidates=["single-task", "boosting", "equal", "pcgrad"],
        seeds=2,
        out=tmp_path_factory.mktemp("houses") / "out",
        budget=Budget(epochs=4, patience=3),
        workers=2,
        observer=QUIET,
    )


@pytest.mark.slow
def test_a_table_from_data_frame_to_verdict(real):
    assert real.is_complete, [run.error for run in real.failures]
    assert real.overlap == pytest.approx(1 / 3, rel=0.1)  # the split is drawn anew per seed
    assert len(real.runs) == 2 * (2 + 2 + 1 + 1)
    assert real.winner in real.candidates
    text = str(real.verdict)
    assert "over 2 seeds" in text or "no difference" in text.lower()
    joint = real.runs_of("shared: pcgrad", 0)[0].result
    assert np.array(joint["cosines"], dtype=float).shape == (2, 2)
    assert joint["device"]
    assert joint["peak_memory_mb"] > 50


@pytest.mark.slow
def test_the_winner_predicts_new_rows(real, houses):
    new = houses.drop(columns=["price", "sold"]).head(5).copy()
    new.loc[0, "town"] = "Nowhere"
    new.loc[1, ["size", "age"]] = np.nan
    found = real.predict(new)
    assert list(found.columns) == ["price", "sold", "sold probability no", "sold probability yes"]
    assert found["price"].notna().all()
    assert set(found["sold"]) <= {"yes", "no"}
    sums = found["sold probability no"] + found["sold probability yes"]
    assert sums.to_numpy() == pytest.approx(np.ones(5), abs=1e-6)
    with pytest.raises(ValueError, match="'town'"):
        real.predict(new.drop(columns=["town"]))


@pytest.mark.slow
@pytest.mark.parametrize("candidate", ["boosting", "shared: equal", CHOSEN_PER_TASK])
def test_any_candidate_can_be_saved_and_reproduces_its_test_scores(
    real, houses, tmp_path, candidate
):
    from polytask.serving import load_predictor

    folder = real.save_model(tmp_path / "model", candidate=candidate, seed=1)
    predictor = load_predictor(folder)
    source = TableSource(houses, ["price:regression", "sold:binary"], drop=["id"])
    problem = source.problem(1)
    rows = source.rows(1)["test"]
    found = predictor.predict_table(source.frame.iloc[rows])
    truth = source.frame.iloc[rows]["price"].to_numpy()
    rmse = float(np.sqrt(np.mean((found["price"].to_numpy() - truth) ** 2)))
    name = real.chosen_per_task["price"] if candidate == CHOSEN_PER_TASK else candidate
    run = next(run for run in real.runs_of(name, 1) if "price" in run.tasks)
    assert rmse == pytest.approx(run.result["scores"]["price"]["test"]["rmse"], rel=1e-5)
    assert len(problem.test) == len(rows)
    pickles = [path for path in folder.rglob("*") if path.suffix in (".pkl", ".pt", ".joblib")]
    assert pickles == []


@pytest.mark.slow
def test_inline_and_worker_processes_find_the_same(real, houses, tmp_path):
    again = compare(
        houses,
        ["price:regression", "sold:binary"],
        drop=["id"],
        candidates=["single-task", "equal"],
        seeds=[1],
        out=tmp_path,
        budget=Budget(epochs=4, patience=3),
        workers=0,
        observer=QUIET,
    )
    for candidate in ("single-task", "shared: equal"):
        for one, other in zip(real.runs_of(candidate, 1), again.runs_of(candidate, 1), strict=True):
            assert one.key == other.key
            assert one.result["scores"] == other.result["scores"]


def test_methods_that_cannot_travel_run_in_this_process(tmp_path):
    from polytask.architectures import HardSharing
    from polytask.encoders import MLP

    def factory(problem):
        return HardSharing(encoder=MLP(input_size=4, widths=(4,)), tasks=problem.tasks)

    candidates = [
        Candidate("single-task", NetworkMethod(architecture=factory), "single"),
        Candidate("mine", NetworkMethod(architecture=factory, balancer=PCGrad())),
    ]
    with pytest.warns(UserWarning, match="in this process"):
        result = compare(
            tiny_problem(),
            candidates=candidates,
            seeds=1,
            out=tmp_path,
            budget=Budget(epochs=1),
            observer=QUIET,
        )
    assert result.is_complete
    assert result.failures == []


def test_without_out_the_files_live_as_long_as_the_result():
    result = compare(
        tiny_problem(), candidates=fakes(), seeds=1, executor=InlineExecutor(), observer=QUIET
    )
    folder = result.folder
    assert (folder / "runs.sqlite").is_file()
    del result
    gc.collect()
    assert not folder.exists()


def test_the_executor_of_the_caller_is_left_running(tmp_path):
    local = LocalExecutor(workers=1)
    try:
        result = run_fakes(tmp_path, seeds=1, executor=local)
        assert result.is_complete, result.failures
        assert len(local.pids()) == 1
    finally:
        local.shutdown()


def test_no_module_hides_a_public_name_of_the_package():
    """A submodule becomes an attribute of its package when it is imported."""
    import pkgutil

    from polytask import evaluation

    modules = {module.name for module in pkgutil.iter_modules(evaluation.__path__)}
    assert modules.isdisjoint(evaluation.__all__)
