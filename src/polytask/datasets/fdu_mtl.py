"""FDU-MTL: reviews of 16 sorts of things as 16 sentiment tasks with rows of their own."""

from __future__ import annotations

import lzma
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from polytask.problems.problem import Problem
from polytask.problems.splits import SeparateSplit, Split
from polytask.tasks import Binary, Task

__all__ = ["FIRST_WORD", "fdu_mtl"]

FILE = "fdu_mtl_reviews.tsv.xz"
#: Ids before those of words.
PADDING, UNKNOWN, START = 0, 1, 2
FIRST_WORD = 3

#: Label and tokens of reviews.
Reviews = list[tuple[int, list[str]]]


def fdu_mtl(
    folder: Path | str,
    *,
    length: int = 128,
    vocabulary: int = 10_000,
    validation: int = 200,
    tasks: Sequence[str] | None = None,
    seed: int = 0,
) -> Problem:
    """Reviews of 14 sorts of products, of IMDB and of MR films, positive or negative: 16 tasks.

    Each task has 1,500 to 1,600 training and 400 test reviews of its own (separate layout). A row
    is ``length`` token ids: 2 (start), then the review's first words, then 0 (padding). Ids 3, 4,
    ... are the most frequent words of the training rows of the tasks, 1 stands for all others;
    validation and test rows have no say in the vocabulary.

    Args:
        folder: Where ``fdu_mtl_reviews.tsv.xz`` lies: one review per line, task, "train" or "test",
            label 0 or 1, and tokens separated by spaces, with tabs between these four.
        length: Ids per row, at least 2.
        vocabulary: Most ids, at least 4; fewer if there are fewer words.
        validation: Training reviews of each task that are held out (200, as in the publication).
        tasks: Names of the tasks to read; None means all, in order of the alphabet.
        seed: Of the choice of the validation rows.

    Raises:
        ValueError: the file is missing or a line is malformed, an unknown task, a task with too few
            training reviews, an argument out of its range.

    References:
        P. Liu, X. Qiu, X. Huang, Adversarial Multi-task Learning for Text Classification, ACL 2017,
        https://arxiv.org/abs/1704.05742.
    """
    if length < 2 or vocabulary <= FIRST_WORD:
        raise ValueError(
            f"`length` must be at least 2 and `vocabulary` at least {FIRST_WORD + 1}, found "
            f"{length} and {vocabulary}."
        )
    if validation < 1:
        raise ValueError(f"`validation` must be at least 1, found {validation}.")
    reviews = _read(Path(folder) / FILE)
    known = sorted({task for task, _ in reviews})
    names = known if tasks is None else list(tasks)
    for name in names:
        if name not in known:
            raise ValueError(f"No task {name!r} in {FILE}; it has {known}.")
    parts: dict[str, dict[str, Reviews]] = {"train": {}, "validation": {}, "test": {}}
    for name in names:
        kept, held_out = _hold_out(name, reviews.get((name, "train"), []), validation, seed)
        test = reviews.get((name, "test"), [])
        for part, rows in (("train", kept), ("validation", held_out), ("test", test)):
            parts[part][name] = rows
    ids = _vocabulary((words for rows in parts["train"].values() for _, words in rows), vocabulary)
    splits = {
        part: SeparateSplit({name: _split(name, rows[name], ids, length) for name in names})
        for part, rows in parts.items()
    }
    return Problem(
        name="fdu_mtl",
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        notes=(f"{len(ids) + FIRST_WORD} token ids; reviews cut after {length - 1} tokens",),
    )


def _read(path: Path) -> dict[tuple[str, str], Reviews]:
    """Reviews by task and part."""
    if not path.is_file():
        raise ValueError(f"FDU-MTL needs the file {FILE} in {str(path.parent)!r}, found none.")
    # A few stray bytes are no UTF-8; only "\n" ends a review (some hold other line separators).
    text = lzma.decompress(path.read_bytes()).decode("utf-8", errors="replace")
    found: dict[tuple[str, str], Reviews] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line:
            continue
        fields = line.split("\t")
        if len(fields) != 4 or fields[1] not in ("train", "test") or fields[2] not in ("0", "1"):
            raise ValueError(
                f"Line {number} of {FILE} must be task, train or test, 0 or 1, and tokens, with "
                f"tabs between them; found {line[:60]!r}."
            )
        # The empty tokens are doubled spaces.
        words = [word for word in fields[3].split(" ") if word]
        found.setdefault((fields[0], fields[1]), []).append((int(fields[2]), words))
    return found


def _hold_out(name: str, rows: Reviews, validation: int, seed: int) -> tuple[Reviews, Reviews]:
    """Training rows in their order, and as many random validation rows as asked for."""
    if len(rows) <= validation:
        raise ValueError(
            f"Task {name!r} has {len(rows)} training reviews, too few to hold out {validation}."
        )
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
    kept, held_out = sorted(order[validation:]), sorted(order[:validation])
    return [rows[i] for i in kept], [rows[i] for i in held_out]


def _vocabulary(reviews: Iterable[list[str]], size: int) -> dict[str, int]:
    """Ids of the most frequent words; words that are equally frequent in order of the alphabet."""
    counts = Counter(word for words in reviews for word in words)
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return {word: FIRST_WORD + i for i, word in enumerate(ranked[: size - FIRST_WORD])}


def _split(name: str, rows: Reviews, ids: Mapping[str, int], length: int) -> Split:
    inputs = torch.full((len(rows), length), PADDING)
    for row, (_, words) in zip(inputs, rows, strict=True):
        codes = [START, *(ids.get(word, UNKNOWN) for word in words[: length - 1])]
        row[: len(codes)] = torch.tensor(codes)
    labels: Tensor = torch.tensor([label for label, _ in rows])
    return Split(inputs, {name: labels}, [Task(name, Binary(("negative", "positive")))])
