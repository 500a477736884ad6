"""The verdict's words follow from the numbers."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from polytask.evaluation.analysis import CHOSEN_PER_TASK, analyse
from polytask.evaluation.scores import ScoreTable
from polytask.evaluation.verdict import Situation, VerdictFacts, reach_verdict

NAN = math.nan
NAMES = ("single-task", "boosting", "shared: equal")
TASKS = ("price", "sold")


def make(shared, boosting, *, seeds=5, noise=0.001, overlap=0.0, names=NAMES, drop=None):
    """Scores of about 0.8 for single-task networks, and gains per task for the others."""
    rng = np.random.default_rng(0)
    base = np.full((seeds, 2), 0.8) + noise * rng.normal(size=(seeds, 2))
    rows = [base]
    for gains in (boosting, shared):
        rows.append(base * (1 + np.array(gains)) + noise * rng.normal(size=(seeds, 2)))
    scores = np.stack(rows)
    if drop is not None:
        scores[drop] = NAN
    table = ScoreTable(
        candidates=names,
        seeds=tuple(range(seeds)),
        tasks=TASKS,
        metrics=("auc", "auc"),
        higher_is_better=np.array([True, True]),
        validation=scores,
        test=scores,
        complete=~np.isnan(scores).all(-1),
    )
    return analyse(table, baseline="single-task", overlap=overlap)


def facts(**changes):
    known = {
        "joint": ["shared: equal"],
        "boosting": "boosting",
        "train_seconds": {"single-task": 10.0, "boosting": 1.0, "shared: equal": 4.0},
    }
    return VerdictFacts(**{**known, **changes})


def text_of(analysis, known):
    return str(reach_verdict(analysis, known))


def test_a_clear_gain_is_stated_with_size_interval_and_p():
    analysis = make(shared=(0.05, 0.02), boosting=(-0.05, -0.05))
    text = text_of(analysis, facts())
    assert text.startswith("shared: equal, chosen on validation, beats single-task networks")
    assert "over 5 seeds and 2 tasks" in text
    assert "Δm = +3.5 % (95 % interval" in text
    gain = 100 * analysis.gains[2, :, 0].mean()
    assert f"price ({gain:+.1f} %, 5 of 5 seeds) and sold (" in text
    assert "5 of 5 seeds) gain (corrected over the tasks)" in text
    assert "shared: equal beats gradient boosting" in text
    assert "takes 0.4 times the time of the single-task networks (4.0 s against 10.0 s" in text
    assert "learn price and sold with shared: equal" in text
    assert "no difference can be shown" not in text.lower()


def of(table, **changes):
    """The analysis of other scores in a table of ``make``."""
    parts = {"candidates": NAMES, "validation": table.validation[:3], "test": table.test[:3]}
    table = dataclasses.replace(table, complete=table.complete[:3], **{**parts, **changes})
    return analyse(table, baseline="single-task", overlap=0.0)


def situated(situation):  # noqa: PLR0911 - one return per situation
    """An analysis that is in a situation, and the headline and the opening that belong to it."""
    better = {"shared": (0.05, 0.05), "boosting": (0.0, 0.0)}
    table = make(**better).table
    apart, unclear = "Keep the tasks apart", "No difference can be shown"
    match situation:
        case Situation.NOTHING_FINISHED:
            none = make(**better, drop=np.s_[:, :, :])
            return none, "No verdict yet", "No verdict yet: no seed has finished for the single-"
        case Situation.ONE_CANDIDATE:
            parts = {part: getattr(table, part)[:1] for part in ("validation", "test", "complete")}
            one = dataclasses.replace(table, candidates=NAMES[:1], **parts)
            headline = "One candidate only: nothing to compare it with"
            found = analyse(one, baseline="single-task", overlap=0.0)
            return found, headline, "Only single-task was trained (over 5 seeds and 2 tasks)"
        case Situation.BASELINE_WINS:
            worse = make(shared=(-0.05, -0.05), boosting=(-0.1, -0.1))
            return worse, apart, f"{apart}: no candidate beats the single-task networks on the"
        case Situation.BASELINE_LEADS:
            near = make(shared=(-0.001, -0.001), boosting=(-0.3, -0.3), noise=0.02)
            return near, unclear, f"{unclear}: the single-task networks are the best on the"
        case Situation.ONE_SEED:
            one = make(**better, seeds=1)
            return one, unclear, "With one seed no difference can be shown: shared: equal is best"
        case Situation.NO_TEST:
            # The same in every seed, to the last bit.
            same = np.stack([np.full((5, 2), value) for value in (1.0, 1.0, 1.5)])
            opening = (
                f"{unclear} between shared: equal, the best on validation, and single-task"
                " networks (Δm = +50.0 % (95 % interval +50.0 to +50.0 %); the seeds do not vary:"
                " no test)."
            )
            return of(table, validation=same, test=same), unclear, opening
        case Situation.NO_DIFFERENCE:
            noisy = make(shared=(0.01, 0.01), boosting=(-0.2, -0.2), noise=0.03)
            return noisy, unclear, f"{unclear} between shared: equal, the best on validation, and"
        case Situation.WORSE_ON_TEST:
            test = table.test[:3].copy()
            test[2] = test[0] * 0.9 + 0.001 * np.arange(10).reshape(5, 2)
            return of(table, test=test), apart, "shared: equal is best on validation but worse than"
        case Situation.TOGETHER_WINS:
            headline = "Learn the tasks together (shared: equal)"
            return make(**better), headline, "shared: equal, chosen on validation, beats single-"
        case Situation.OTHER_MODEL_WINS:
            trees = make(shared=(0.0, 0.0), boosting=(0.05, 0.05))
            headline = "Use boosting, a model per task"
            return trees, headline, "boosting, chosen on validation, beats single-task networks"


@pytest.mark.parametrize("situation", Situation, ids=lambda situation: situation.name)
def test_headline_and_first_sentence_are_functions_of_the_situation(situation):
    analysis, headline, opening = situated(situation)
    verdict = reach_verdict(analysis, facts())
    assert verdict.situation is situation
    assert verdict.headline == headline
    assert str(verdict).startswith(opening)
    assert str(verdict) == " ".join(verdict.sentences)
    assert not set("{}") & set(str(verdict) + verdict.headline)


def test_names_with_braces_are_names():
    names = ("single-task", "{over}", "{winner}")
    analysis = make(shared=(0.05, 0.05), boosting=(0.0, 0.0), names=names)
    verdict = reach_verdict(analysis, facts(joint=["{winner}"], boosting=None, train_seconds={}))
    assert verdict.headline == "Learn the tasks together ({winner})"
    assert str(verdict).startswith("{winner}, chosen on validation, beats single-task networks")


def test_other_candidates_with_a_difference_are_named():
    analysis = make(shared=(0.05, 0.02), boosting=(-0.05, -0.05))
    mean = 100 * analysis.tests[1].interval.mean
    text = text_of(analysis, facts())
    assert f"Of the other candidates, boosting ({mean:+.1f} %, p < 0.001) is worse." in text
    analysis = make(shared=(0.05, 0.05), boosting=(0.02, 0.02))
    text = text_of(analysis, facts())
    mean = 100 * analysis.tests[1].interval.mean
    assert f"Of the other candidates, boosting ({mean:+.1f} %, p < 0.001) beats the single" in text
    silent = make(shared=(0.05, 0.05), boosting=(0.0, 0.0), noise=0.02)
    assert "Of the other candidates" not in text_of(silent, facts())


def test_noise_gives_no_difference_can_be_shown():
    analysis = make(shared=(0.001, 0.0), boosting=(-0.05, -0.05), noise=0.02)
    text = text_of(analysis, facts())
    assert "no difference can be shown" in text.lower()
    assert "beats single-task" not in text
    assert "For no single task can a gain or a loss with shared: equal be shown." in text


def test_a_task_that_is_hurt_is_named():
    analysis = make(shared=(0.10, -0.04), boosting=(-0.2, -0.2))
    text = text_of(analysis, facts())
    assert "price (" in text
    assert "sold (-" in text
    assert "is hurt" in text
    assert "learn price with shared: equal; keep sold alone (single-task)" in text


def test_single_task_learning_can_win():
    analysis = make(shared=(-0.05, -0.03), boosting=(-0.1, -0.1))
    text = text_of(analysis, facts())
    assert text.startswith("Keep the tasks apart: no candidate beats the single-task networks")
    assert "the next best, shared: equal, has Δm = -4" in text
    assert text.count("shared: equal, has Δm") == 1
    assert "keep price and sold alone (single-task)" in text


def test_the_baseline_first_by_a_hair_is_no_reason_to_keep_apart():
    analysis = make(shared=(-0.001, -0.001), boosting=(-0.3, -0.3), noise=0.02)
    assert analysis.winner == analysis.baseline
    text = text_of(analysis, facts())
    assert text.startswith("No difference can be shown: the single-task networks are the best on")
    assert "Keep the tasks apart" not in text


def test_boosting_can_beat_every_network():
    analysis = make(shared=(0.01, 0.01), boosting=(0.2, 0.2))
    text = text_of(analysis, facts())
    assert text.startswith("boosting, chosen on validation, beats single-task networks")
    assert "Gradient boosting beats every network here" in text
    assert "The best shared network, shared: equal, has Δm = +1" in text


def test_one_seed_shows_nothing():
    text = text_of(make(shared=(0.1, 0.1), boosting=(0.0, 0.0), seeds=1), facts())
    assert text.startswith("With one seed no difference can be shown")
    assert "interval -" not in text


def test_nothing_finished():
    analysis = make(shared=(0, 0), boosting=(0, 0), drop=np.s_[:, :, :])
    text = text_of(analysis, facts(num_failed=2, incomplete=True))
    assert text.startswith("No verdict yet")
    assert "2 runs failed" in text
    assert "ended early" in text


def test_undefined_scores_are_said():
    analysis = make(shared=(0.05, 0.02), boosting=(0, 0), drop=np.s_[:, 1, 1])
    assert analysis.undefined == ("task 'sold' has no auc in seed(s) 1",)
    assert "Task 'sold' has no auc in seed(s) 1: left out there." in text_of(analysis, facts())


# --- the analysis behind it ----------------------------------------------------------------------


def test_composite_takes_each_task_from_its_candidate_and_is_not_corrected():
    analysis = make(shared=(0.10, -0.04), boosting=(-0.2, 0.3))
    assert analysis.choice == (2, 1)
    assert analysis.table.candidates[-1] == CHOSEN_PER_TASK
    assert np.array_equal(analysis.table.test[-1][:, 0], analysis.table.test[2][:, 0])
    assert np.array_equal(analysis.table.test[-1][:, 1], analysis.table.test[1][:, 1])
    assert math.isnan(analysis.adjusted[-1])
    assert analysis.standings.win.shape == (3, 5)


def test_winner_is_chosen_on_validation_only():
    analysis = make(shared=(0.05, 0.05), boosting=(0.0, 0.0))
    swapped = of(analysis.table, validation=analysis.table.validation[[0, 2, 1]])
    assert analysis.winner == 2
    assert swapped.winner == 1


def test_p_values_are_corrected_over_candidates_and_over_tasks():
    analysis = make(shared=(0.01, 0.0), boosting=(0.005, 0.01), noise=0.01)
    raw = [analysis.tests[1].p, analysis.tests[2].p]
    assert min(analysis.adjusted[1:3]) == pytest.approx(min(1.0, 2 * min(raw)))
    tasks = [test.p for test in analysis.task_tests[2]]
    assert analysis.task_adjusted[2].min() == pytest.approx(min(1.0, 2 * min(tasks)))
    assert np.isnan(analysis.task_adjusted[0]).all()


def test_redrawn_splits_make_it_harder_to_show_something():
    one = make(shared=(0.01, 0.01), boosting=(0, 0), noise=0.005)
    other = make(shared=(0.01, 0.01), boosting=(0, 0), noise=0.005, overlap=1 / 3)
    assert other.tests[2].p > one.tests[2].p
    assert other.tests[2].interval.half_width > one.tests[2].interval.half_width


GROUPED = ("single-task", "2 copies", "groups: stg")


def grouped(**gains):
    analysis = make(names=GROUPED, **gains)
    told = facts(
        joint=GROUPED[1:],
        boosting=None,
        grouped={"groups: stg": ["single-task", "2 copies"]},
        controls=["2 copies"],
        train_seconds={"single-task": 10.0, "2 copies": 4.0, "groups: stg": 20.0},
    )
    return text_of(analysis, told)


def test_groups_have_to_beat_everything_simpler():
    text = grouped(shared=(0.05, 0.05), boosting=(0.01, 0.01))
    assert "Group the tasks: on the test rows groups: stg, the best of the groups" in text
    assert "beats single-task (+" in text
    assert "its training takes 2 times that of single-task" in text


def test_do_not_group_is_an_answer():
    text = grouped(shared=(-0.05, -0.05), boosting=(0.01, 0.01))
    assert "Do not group the tasks: on the test rows groups: stg" in text
    assert "is worse than single-task (-5" in text


def test_what_averaging_gains_is_no_gain_of_groups():
    text = grouped(shared=(0.05, 0.05), boosting=(0.05, 0.05))
    assert "Grouping does not explain the gain: on the test rows groups: stg" in text
    assert "shows no difference to 2 copies" in text
