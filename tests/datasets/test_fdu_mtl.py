"""FDU-MTL: ids by hand, no word from rows that are held out, bad files, the real set."""

from __future__ import annotations

import lzma

import pytest
import torch

from polytask.datasets.fdu_mtl import FIRST_WORD, fdu_mtl

TRAIN = [
    ("films", "train", "1", "good good  good film\u2028here"),
    ("films", "train", "0", "bad bad film"),
    ("films", "train", "1", "good"),
    ("films", "train", "0", "bad thing"),
    ("films", "train", "1", "good thing"),
    ("films", "train", "0", "film"),
    ("books", "train", "1", "good book"),
    ("books", "train", "0", "bad book bad"),
    ("books", "train", "0", "bad"),
    ("books", "train", "1", "good good"),
    ("books", "train", "1", "good good good"),
    ("books", "train", "0", "bad bad bad book"),
]
TEST = [
    ("films", "test", "1", "splendid splendid splendid film good"),
    ("books", "test", "0", "bad splendid book"),
]


def write(folder, rows):
    text = "".join("\t".join(row) + "\n" for row in rows)
    (folder / "fdu_mtl_reviews.tsv.xz").write_bytes(lzma.compress(text.encode()))
    return folder


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path, [*TRAIN, *TEST])


def test_rows_are_start_words_and_padding(folder):
    problem = fdu_mtl(folder, length=4, vocabulary=6, validation=1)
    assert [task.name for task in problem.tasks] == ["books", "films"]
    test = problem.test.parts["films"]
    # Unknown (never in training rows) three times, then the row is full.
    assert test.inputs.tolist() == [[2, 1, 1, 1]]
    assert test.targets["films"].tolist() == [1]
    ids = problem.train.parts["films"].inputs
    assert ids.shape == (5, 4)
    assert (ids[:, 0] == 2).all()
    assert ids.max() < 6


def test_ids_are_ranks_in_the_training_rows(folder):
    problem = fdu_mtl(folder, length=5, vocabulary=100, validation=1)
    kept = [
        [word for code in row.tolist() if code >= FIRST_WORD for word in [code]]
        for part in problem.train.parts.values()
        for row in part.inputs
    ]
    counts = torch.bincount(torch.tensor([code for row in kept for code in row]))[FIRST_WORD:]
    assert (counts > 0).all()
    assert counts.tolist() == sorted(counts.tolist(), reverse=True)


def test_held_out_words_have_no_ids(tmp_path):
    folder = write(tmp_path, [*TRAIN, ("films", "train", "1", "rare word here"), *TEST])
    held_out = []
    for seed in range(12):
        problem = fdu_mtl(folder, length=4, vocabulary=100, validation=2, seed=seed)
        rows = problem.validation.parts["films"].inputs.tolist()
        held_out.append([2, 1, 1, 1] in rows)
        trained = problem.train.parts["films"].inputs
        assert (len(rows), len(trained)) == (2, 5)
        assert (trained != 1).all()
    assert set(held_out) == {True, False}


def test_chosen_tasks_have_a_vocabulary_of_their_own(folder):
    problem = fdu_mtl(folder, length=4, vocabulary=100, validation=1, tasks=["books"])
    assert [task.name for task in problem.tasks] == ["books"]
    # bad, good, book are all that its training rows can hold.
    assert problem.train.parts["books"].inputs.max() <= FIRST_WORD + 2


def test_a_seed_is_a_choice_of_validation_rows(folder):
    def inputs(seed):
        return fdu_mtl(folder, length=4, validation=2, seed=seed).validation.parts["films"].inputs

    assert torch.equal(inputs(0), inputs(0))
    assert any(not torch.equal(inputs(0), inputs(seed)) for seed in range(1, 8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 1}, "`length` must be at least 2"),
        ({"vocabulary": 3}, "`vocabulary` at least 4, found 4 and 3"),
        ({"validation": 0}, "`validation` must be at least 1"),
        ({"validation": 6}, "'books' has 6 training reviews, too few to hold out 6"),
        ({"tasks": ["music"]}, r"No task 'music' .* it has \['books', 'films'\]"),
    ],
)
def test_bad_arguments_are_named(folder, options, message):
    with pytest.raises(ValueError, match=message):
        fdu_mtl(folder, **{"length": 4, "validation": 1, **options})


@pytest.mark.parametrize(
    "row",
    [("films", "train", "2", "x"), ("films", "dev", "1", "x"), ("films", "train", "1")],
)
def test_a_malformed_line_is_named(tmp_path, row):
    with pytest.raises(ValueError, match=r"Line 3 of .* must be task, train or test, 0 or 1"):
        fdu_mtl(write(tmp_path, [*TRAIN[:2], row]), validation=1)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"needs the file fdu_mtl_reviews.tsv.xz"):
        fdu_mtl(tmp_path)


def test_the_real_set_has_the_published_sizes(shared):
    problem = fdu_mtl(shared / "data" / "fdu_mtl_reviews", length=16, vocabulary=500)
    assert len(problem.tasks) == 16
    rows = {name: len(part) for name, part in problem.train.parts.items()}
    assert sum(rows.values()) == 25_380 - 16 * 200
    assert rows["baby"] == 1300
    assert all(len(part) == 400 for part in problem.test.parts.values())
    assert all(part.inputs.max() < 500 for part in problem.test.parts.values())
