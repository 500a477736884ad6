"""The answer: a situation, and one paragraph in words, made from measurements only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

import numpy as np

from polytask.evaluation.analysis import LEVEL, Analysis
from polytask.evaluation.scores import Interval, mean_of_known
from polytask.evaluation.significance import PairedTest, holm, paired_test

__all__ = ["Situation", "Verdict", "VerdictFacts", "find_situation", "reach_verdict"]

#: Names of tasks that a sentence lists before it counts the rest.
MOST_NAMES = 6


class Situation(Enum):
    """What a comparison found about the winner: the candidate that validation prefers."""

    NOTHING_FINISHED = auto()
    ONE_CANDIDATE = auto()
    #: The baseline is the winner, and the next best differs from it or has not finished.
    BASELINE_WINS = auto()
    #: The baseline is the winner; no difference to the next best can be shown.
    BASELINE_LEADS = auto()
    #: Another candidate is the winner, with one seed.
    ONE_SEED = auto()
    #: Another candidate is the winner, and its seeds allow no test.
    NO_TEST = auto()
    #: Another candidate is the winner; no difference to the baseline can be shown.
    NO_DIFFERENCE = auto()
    #: The winner is worse than the baseline on the test rows.
    WORSE_ON_TEST = auto()
    #: The winner is better and learns tasks together.
    TOGETHER_WINS = auto()
    #: The winner is better and learns each task alone, as the baseline does.
    OTHER_MODEL_WINS = auto()


#: The answer in a few words.
HEADLINES = {
    Situation.NOTHING_FINISHED: "No verdict yet",
    Situation.ONE_CANDIDATE: "One candidate only: nothing to compare it with",
    Situation.BASELINE_WINS: "Keep the tasks apart",
    Situation.BASELINE_LEADS: "No difference can be shown",
    Situation.ONE_SEED: "No difference can be shown",
    Situation.NO_TEST: "No difference can be shown",
    Situation.NO_DIFFERENCE: "No difference can be shown",
    Situation.WORSE_ON_TEST: "Keep the tasks apart",
    Situation.TOGETHER_WINS: "Learn the tasks together ({winner})",
    Situation.OTHER_MODEL_WINS: "Use {winner}, a model per task",
}
#: The first sentence of the paragraph.
OPENINGS = {
    Situation.NOTHING_FINISHED: "No verdict yet: no seed has finished for the single-task networks"
    " and another candidate.",
    Situation.ONE_CANDIDATE: "Only {name} was trained ({over}), so there is nothing to compare it"
    " with.",
    Situation.BASELINE_WINS: "Keep the tasks apart: no candidate beats the single-task networks on"
    " the validation rows {over}; {next_best}.",
    Situation.BASELINE_LEADS: "No difference can be shown: the single-task networks are the best on"
    " the validation rows {over}; {next_best}.",
    Situation.ONE_SEED: "With one seed no difference can be shown: {name} is best on validation and"
    " has {effect} against single-task networks on test, without interval or test; use more seeds.",
    Situation.NO_TEST: "No difference can be shown between {name}, the best on validation, and"
    " single-task networks ({effect}; {note}).",
    Situation.NO_DIFFERENCE: "No difference can be shown between {name}, the best on validation,"
    " and single-task networks {over}: {effect}.",
    Situation.WORSE_ON_TEST: "{name} is best on validation but worse than single-task networks on"
    " the test rows {over}: {effect}; keep the tasks apart.",
    Situation.TOGETHER_WINS: "{name}, chosen on validation, beats single-task networks on the test"
    " rows {over}: {effect}.",
    Situation.OTHER_MODEL_WINS: "{name}, chosen on validation, beats single-task networks on the"
    " test rows {over}: {effect}.",
}


@dataclass(frozen=True)
class Verdict:
    """The answer of a comparison; printed, it is one paragraph.

    Args:
        situation: Which of the possible answers it is.
        sentences: The answer in words, with its numbers.
        winner: The candidate that validation prefers; empty before any seed is complete.
    """

    situation: Situation
    sentences: tuple[str, ...]
    winner: str = ""

    @property
    def headline(self) -> str:
        """The answer in a few words."""
        return HEADLINES[self.situation].format(winner=self.winner)

    def __str__(self) -> str:
        return " ".join(self.sentences)


@dataclass(frozen=True)
class VerdictFacts:
    """What a verdict needs beside the scores.

    Args:
        joint: Candidates that learn several tasks with one model.
        boosting: Name of the boosting candidate, if there is one.
        train_seconds: Per candidate, mean training seconds per seed; NaN where unknown.
        num_failed: Runs without a result.
        incomplete: Whether the comparison was ended early.
        searched: Per candidate with searched fixed weights, the candidates that learn the same
            groups with a balancer.
        grouped: Per candidate that learns groups of tasks that were found or given, the candidates
            that it has to beat: those without groups, and the controls.
        controls: Candidates with groups that nobody thought about.
    """

    joint: Sequence[str]
    boosting: str | None
    train_seconds: Mapping[str, float]
    num_failed: int = 0
    incomplete: bool = False
    searched: Mapping[str, Sequence[str]] = field(default_factory=dict)
    grouped: Mapping[str, Sequence[str]] = field(default_factory=dict)
    controls: Sequence[str] = ()


def reach_verdict(analysis: Analysis, facts: VerdictFacts) -> Verdict:
    """Who wins and how surely, who gains or is hurt, the cost, what to do."""
    situation = find_situation(analysis, facts.joint)
    opening = OPENINGS[situation].format_map(_opening_facts(analysis))
    gaps = _gaps(analysis, facts)
    if situation is Situation.NOTHING_FINISHED:
        return Verdict(situation, (opening, *gaps))
    joint = _best_joint(analysis, facts)
    told = (analysis.winner, _runner_up(analysis))
    sentences = [
        opening,
        *([] if joint is None else _joint(analysis, joint, is_told=joint in told)),
        *_others(analysis, joint),
        *_boosting(analysis, facts),
        *_searched(analysis, facts),
        *_grouping(analysis, facts),
        *_cost(analysis, facts),
        *_advice(analysis, facts),
        *gaps,
    ]
    assert analysis.winner is not None  # otherwise nothing has finished
    return Verdict(situation, tuple(sentences), analysis.table.candidates[analysis.winner])


def find_situation(  # noqa: PLR0911 - one return per situation
    analysis: Analysis, joint: Sequence[str]
) -> Situation:
    """Which situation the numbers are.

    Args:
        analysis: Of all scores.
        joint: Candidates that learn several tasks with one model.
    """
    winner, baseline = analysis.winner, analysis.baseline
    if baseline is None or winner is None:
        return Situation.NOTHING_FINISHED
    if analysis.num_real == 1:
        return Situation.ONE_CANDIDATE
    if winner == baseline:
        best = _runner_up(analysis)
        is_clear = best is None or analysis.adjusted[best] < LEVEL
        return Situation.BASELINE_WINS if is_clear else Situation.BASELINE_LEADS
    test, p = analysis.tests[winner], analysis.adjusted[winner]
    assert test is not None  # only the baseline has none
    if test.interval.count == 1:
        return Situation.ONE_SEED
    if math.isnan(p):
        return Situation.NO_TEST
    if p >= LEVEL:
        return Situation.NO_DIFFERENCE
    if test.interval.mean < 0:
        return Situation.WORSE_ON_TEST
    is_joint = analysis.table.candidates[winner] in joint
    return Situation.TOGETHER_WINS if is_joint else Situation.OTHER_MODEL_WINS


def _opening_facts(analysis: Analysis) -> dict[str, str]:
    """What the first sentence is filled in with; nothing before a seed has finished."""
    winner = analysis.winner
    if winner is None:
        return {}
    seeds = int((~np.isnan(analysis.delta[winner])).sum())
    facts = {
        "name": analysis.table.candidates[winner],
        "over": f"over {_count(seeds, 'seed')} and {_count(len(analysis.table.tasks), 'task')}",
        "next_best": _next_best(analysis),
    }
    test, p = analysis.tests[winner], analysis.adjusted[winner]
    if test is not None:
        after = "" if math.isnan(p) else f", {_p(p)} after correction"
        facts |= {"effect": f"Δm = {_percent(test.interval)}{after}", "note": test.note}
    return facts


def _runner_up(analysis: Analysis) -> int | None:
    """Where the baseline wins: the candidate that validation puts next."""
    if analysis.winner != analysis.baseline:
        return None
    return _first(analysis, [c for c in range(analysis.num_real) if c != analysis.baseline])


def _first(analysis: Analysis, places: Sequence[int]) -> int | None:
    """The candidate with the best mean validation gain among some."""
    means = [mean_of_known(analysis.validation_delta[c]) for c in places]
    known = [(mean, -c) for mean, c in zip(means, places, strict=True) if not math.isnan(mean)]
    return -max(known)[1] if known else None


def _next_best(analysis: Analysis) -> str:
    best = _runner_up(analysis)
    if best is None:
        return "no other candidate has finished"
    test = analysis.tests[best]
    assert test is not None  # only the baseline has none
    p = analysis.adjusted[best]
    shown = "" if math.isnan(p) else f", {_p(p)} after correction"
    name = analysis.table.candidates[best]
    return f"the next best, {name}, has Δm = {_percent(test.interval)} on test{shown}"


def _best_joint(analysis: Analysis, facts: VerdictFacts) -> int | None:
    """The joint candidate that validation prefers."""
    names = analysis.table.candidates[: analysis.num_real]
    return _first(analysis, [c for c, name in enumerate(names) if name in facts.joint])


def _joint(analysis: Analysis, joint: int, *, is_told: bool) -> list[str]:
    """Which tasks gain and which are hurt by learning together."""
    table = analysis.table
    name = table.candidates[joint]
    sentences = []
    if not is_told:
        test = analysis.tests[joint]
        assert test is not None  # the baseline is not joint
        p = analysis.adjusted[joint]
        how = "no test" if math.isnan(p) else f"{_p(p)} after correction"
        verdict = "" if not math.isnan(p) and p < LEVEL else ": no difference can be shown"
        sentences.append(
            f"The best shared network, {name}, has Δm = {_percent(test.interval)} ({how}){verdict}."
        )
    gaining: list[tuple[float, str]] = []
    hurt: list[tuple[float, str]] = []
    for t, task in enumerate(table.tasks):
        gains = analysis.gains[joint, :, t]
        gains = gains[~np.isnan(gains)]
        p = analysis.task_adjusted[joint, t]
        if not len(gains) or math.isnan(p) or p >= LEVEL:
            continue
        mean = float(gains.mean())
        agreeing = int((np.sign(gains) == np.sign(mean)).sum())
        text = f"{task} ({100 * mean:+.1f} %, {agreeing} of {len(gains)} seeds)"
        (gaining if mean > 0 else hurt).append((abs(mean), text))
    for tasks, verb in ((gaining, "gain"), (hurt, "are hurt")):
        if tasks:
            named = _listing([text for _, text in sorted(tasks, reverse=True)])
            one = len(tasks) == 1
            verb_text = {"gain": "gains", "are hurt": "is hurt"}[verb] if one else verb
            sentences.append(f"With {name}, {named} {verb_text} (corrected over the tasks).")
    if not gaining and not hurt and len(table.tasks) > 1:
        sentences.append(f"For no single task can a gain or a loss with {name} be shown.")
    return sentences


def _others(analysis: Analysis, joint: int | None) -> list[str]:
    """Candidates that no other sentence tests and that a difference can be shown for."""
    told = {analysis.winner, analysis.baseline, joint, _runner_up(analysis)}
    better: list[str] = []
    worse: list[str] = []
    for c, name in enumerate(analysis.table.candidates[: analysis.num_real]):
        test, p = analysis.tests[c], analysis.adjusted[c]
        if c in told or test is None or math.isnan(p) or p >= LEVEL:
            continue
        text = f"{name} ({100 * test.interval.mean:+.1f} %, {_p(p)})"
        (better if test.interval.mean > 0 else worse).append(text)
    pieces = []
    if better:
        verb = "beats" if len(better) == 1 else "beat"
        pieces.append(f"{_listing(better)} {verb} the single-task networks on the test rows")
    if worse:
        pieces.append(f"{_listing(worse)} {'is' if len(worse) == 1 else 'are'} worse")
    return [f"Of the other candidates, {' and '.join(pieces)}."] if pieces else []


def _boosting(analysis: Analysis, facts: VerdictFacts) -> list[str]:
    """Whether trees beat the networks: a paired test against validation's favourite."""
    if facts.boosting is None or facts.boosting not in analysis.table.candidates:
        return []
    trees = analysis.table.place(facts.boosting)
    best = _first(analysis, [c for c in range(analysis.num_real) if c != trees])
    if best is None:
        return []
    difference = analysis.delta[trees] - analysis.delta[best]
    if np.isnan(difference).all():
        return ["Gradient boosting has not finished any seed."]
    test = paired_test(difference, overlap=analysis.overlap)
    name = analysis.table.candidates[best]
    by = f"{100 * test.interval.mean:+.1f} points of Δm"
    if math.isnan(test.p) or test.p >= LEVEL:
        return [
            f"Between gradient boosting and the best network ({name}) no difference can be shown"
            f" ({by})."
        ]
    if test.interval.mean > 0:
        return [f"Gradient boosting beats every network here: {by} against {name} ({_p(test.p)})."]
    return [
        f"{name} beats gradient boosting: {-100 * test.interval.mean:+.1f} points of Δm"
        f" ({_p(test.p)})."
    ]


def _searched(analysis: Analysis, facts: VerdictFacts) -> list[str]:
    """Whether searched fixed weights beat the balancers on test, and what the search costs."""
    sentences = []
    for name, others in facts.searched.items():
        tests = _duels(analysis, name, others)
        if not tests:
            continue
        _, told = _told(tests)
        sentences.append(
            f"Searching for fixed weights: on the test rows {name} {told} (paired, corrected for"
            f" {_count(len(tests), 'comparison')})"
            f"{_price(facts.train_seconds, name, list(tests))}."
        )
    return sentences


def _grouping(analysis: Analysis, facts: VerdictFacts) -> list[str]:
    """Whether groups that were found are worth having: tested against everything simpler, and
    against controls that average as many networks without any thought.
    """
    places = [analysis.table.place(name) for name in facts.grouped]
    best = _first(analysis, places)
    if best is None:
        return []
    name = analysis.table.candidates[best]
    rivals = facts.grouped[name]
    tests = _duels(analysis, name, rivals)
    if not tests:
        return []
    found, told = _told(tests)
    simpler = [rival for rival in tests if rival not in facts.controls]
    if all(rival in found[True] for rival in tests):
        headline = "Group the tasks"
    elif all(rival in found[True] for rival in simpler):
        headline = "Grouping does not explain the gain"
    else:
        headline = "Do not group the tasks"
    return [
        f"{headline}: on the test rows {name}, the best of the groups on validation, {told}"
        f" (paired, corrected for {_count(len(tests), 'comparison')})"
        f"{_price(facts.train_seconds, name, simpler or list(tests))}."
    ]


def _told(tests: Mapping[str, PairedTest]) -> tuple[dict[bool | None, list[str]], str]:
    """Whom a candidate beats (True), is worse than (False) or shows no difference to (None), and
    the same in words.
    """
    found: dict[bool | None, list[str]] = {True: [], False: [], None: []}
    texts: dict[bool | None, list[str]] = {True: [], False: [], None: []}
    adjusted = holm([test.p for test in tests.values()])
    for (other, test), p in zip(tests.items(), adjusted, strict=True):
        mean = test.interval.mean
        shown = "" if math.isnan(p) else f", {_p(p)}"
        # An undefined p is not below the level.
        outcome = mean > 0 if p < LEVEL else None
        found[outcome].append(other)
        texts[outcome].append(f"{other} ({100 * mean:+.1f} points of Δm{shown})")
    verbs = {True: "beats", False: "is worse than", None: "shows no difference to"}
    pieces = [f"{verbs[key]} {_listing(names)}" for key, names in texts.items() if names]
    return found, ", ".join(pieces)


def _duels(analysis: Analysis, name: str, others: Sequence[str]) -> dict[str, PairedTest]:
    """Paired tests of one candidate against others that share a finished seed with it."""
    own = analysis.delta[analysis.table.place(name)]
    differences = {other: own - analysis.delta[analysis.table.place(other)] for other in others}
    return {
        other: paired_test(difference, overlap=analysis.overlap)
        for other, difference in differences.items()
        if not np.isnan(difference).all()
    }


def _price(train_seconds: Mapping[str, float], name: str, others: Sequence[str]) -> str:
    """Training time of a candidate as a multiple of the mean of others."""
    own = train_seconds.get(name, math.nan)
    known = [s for other in others if (s := train_seconds.get(other, math.nan)) > 0]
    if not (own > 0 and known):
        return ""
    mean = sum(known) / len(known)
    what = f"that of {others[0]}" if len(others) == 1 else "their mean"
    return (
        f"; its training takes {_times(own / mean)} {what} ({own:.1f} s against {mean:.1f} s per"
        " seed)"
    )


def _cost(analysis: Analysis, facts: VerdictFacts) -> list[str]:
    assert analysis.baseline is not None and analysis.winner is not None  # checked by the caller
    names = analysis.table.candidates
    base = facts.train_seconds.get(names[analysis.baseline], math.nan)
    joint = _best_joint(analysis, facts)
    chosen = analysis.winner if analysis.winner != analysis.baseline else joint
    if chosen is None:
        return []
    own = facts.train_seconds.get(names[chosen], math.nan)
    if not (base > 0 and own > 0):
        return []
    return [
        f"Training {names[chosen]} takes {_times(own / base)} the time of the single-task networks"
        f" ({own:.1f} s against {base:.1f} s per seed)."
    ]


def _advice(analysis: Analysis, facts: VerdictFacts) -> list[str]:
    """Per task, what validation prefers."""
    if analysis.choice is None:
        return []
    table = analysis.table
    chosen: dict[str, list[str]] = {}
    for task, place in zip(table.tasks, analysis.choice, strict=True):
        chosen.setdefault(table.candidates[place], []).append(task)
    joint = {name: tasks for name, tasks in chosen.items() if name in facts.joint}
    alone = {name: tasks for name, tasks in chosen.items() if name not in facts.joint}
    pieces = [f"learn {_listing(tasks)} with {name}" for name, tasks in joint.items()]
    pieces += [f"keep {_listing(tasks)} alone ({name})" for name, tasks in alone.items()]
    composite = analysis.tests[-1]
    scored = ""
    # A choice of one candidate for all tasks repeats a row whose score has been given.
    if len(chosen) > 1 and composite is not None and not math.isnan(composite.interval.mean):
        scored = f"; that choice has Δm = {_percent(composite.interval)} on test"
    return [f"By validation, task by task: {'; '.join(pieces)}{scored}."]


def _gaps(analysis: Analysis, facts: VerdictFacts) -> list[str]:
    sentences = [
        f"{sentence[0].upper()}{sentence[1:]}: left out there."
        for sentence in analysis.undefined[:3]
    ]
    if facts.num_failed:
        sentences.append(
            f"{_count(facts.num_failed, 'run')} failed; the candidates concerned are compared on"
            " the seeds they finished."
        )
    if facts.incomplete:
        sentences.append("The comparison was ended early: this is what is finished so far.")
    return sentences


def _percent(interval: Interval) -> str:
    text = f"{100 * interval.mean:+.1f} %"
    if math.isnan(interval.low):
        return text
    return f"{text} (95 % interval {100 * interval.low:+.1f} to {100 * interval.high:+.1f} %)"


def _times(ratio: float) -> str:
    return f"{ratio:.2g} times" if ratio < 10 else f"{ratio:.0f} times"


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _listing(names: Sequence[str]) -> str:
    shown = list(names[:MOST_NAMES])
    if len(names) > MOST_NAMES:
        return f"{', '.join(shown)} and {len(names) - MOST_NAMES} more"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
