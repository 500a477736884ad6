"""Eight tasks: their answers are right, their test rows tell nothing, and both follow the seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polytask.datasets.answers import with_answers
from polytask.datasets.eight_tasks import (
    COLUMN_LEVELS,
    EIGHT_LENGTHS,
    NUMBERS,
    SAMPLES,
    VOCABULARY,
    EightSizes,
    eight_tasks,
    text_of,
)
from polytask.tasks import TokenSequence

SIZES = EightSizes(text=300, parse=30, other=200)


@pytest.fixture(scope="module")
def problem():
    return eight_tasks(seed=3, sizes=SIZES)


def answers(problem, name, part="train"):
    return [text_of(row) for row in getattr(problem, part).parts[name].targets[name].tolist()]


def sources(problem, name, part="train"):
    inputs = getattr(problem, part).parts[name].inputs
    return [text_of(row) for row in inputs[:, : 1 - EIGHT_LENGTHS[name]].long().tolist()]


def test_tasks_have_the_inputs_of_their_modality(problem):
    shapes = {name: tuple(part.inputs.shape) for name, part in problem.train.parts.items()}
    assert shapes == {
        "digit": (1078, 1, 8, 8),
        "caption": (1078, 64 + 2),
        "reverse": (300, 8 + 7),
        "sort": (300, 8 + 7),
        "translate": (300, 8 + 7),
        "parse": (30, 8 + 15),
        "tone": (200, SAMPLES),
        "table": (200, len(COLUMN_LEVELS)),
    }
    assert {len(problem.test.parts[n]) for n in ("reverse", "parse", "tone", "table")} == {200}
    assert len(set(VOCABULARY)) == len(VOCABULARY)
    for task in problem.tasks:
        if isinstance(task.kind, TokenSequence):
            length = problem.train.parts[task.name].targets[task.name].shape[1]
            assert length == EIGHT_LENGTHS[task.name]


def test_rows_that_are_learned_from_carry_their_answers_and_test_rows_do_not(problem):
    for name, length in EIGHT_LENGTHS.items():
        for part in ("train", "validation", "test"):
            rows = getattr(problem, part).parts[name]
            known, target = rows.inputs[:, 1 - length :], rows.targets[name][:, :-1]
            if part == "test":
                assert (known == -1).all()
            else:
                assert torch.equal(known.long(), target.clamp_min(0))


def test_letters_are_reversed_and_sorted(problem):
    for word, answer in zip(sources(problem, "reverse"), answers(problem, "reverse"), strict=True):
        assert answer.split() == word.split()[::-1]
    for word, answer in zip(sources(problem, "sort"), answers(problem, "sort"), strict=True):
        assert answer.split() == sorted(word.split())
        assert 3 <= len(word.split()) <= 7


def test_translations_say_the_same_in_another_order(problem):
    pairs = list(zip(sources(problem, "translate"), answers(problem, "translate"), strict=True))
    orders = set()
    for sentence, translation in pairs:
        first, second = sentence.split(), translation.split()
        assert sorted(w[:-1] for w in first) == sorted(w[:-1] for w in second)
        assert {w[-1] for w in first} | {w[-1] for w in second} == {"x", "y"}
        orders.add(("".join(w[0] for w in first), "".join(w[0] for w in second)))
    assert orders == {
        ("DNV", "NDV"),
        ("DJNV", "NJDV"),
        ("DNTDN", "NDNDT"),
        ("DJNTDN", "NJDNDT"),
        ("DNTDJN", "NDNJDT"),
        ("DJNTDJN", "NJDNJDT"),
    }


def test_parses_are_balanced_and_hold_the_parts_of_speech_in_order(problem):
    for part in ("train", "test"):
        pairs = zip(sources(problem, "parse", part), answers(problem, "parse", part), strict=True)
        for sentence, parse in pairs:
            tokens = parse.split()
            assert tokens[0] == "(S"
            assert sum(t.startswith("(") for t in tokens) == tokens.count(")")
            parts = [t for t in tokens if t[0] not in "()"]
            assert parts == [word[0] for word in sentence.split()]
            assert tokens.count("(NP") == 1 + ("T" in parts)


def test_most_words_that_parse_does_not_teach_occur_in_translate(problem):
    taught, others, asked = (
        {word for sentence in sources(problem, name, part) for word in sentence.split()}
        for name, part in (("parse", "train"), ("translate", "train"), ("parse", "test"))
    )
    assert len(asked - taught) >= 5
    assert asked <= others


def test_captions_describe_the_image(problem):
    part = problem.train.parts["caption"]
    images = part.inputs[:, :64].reshape(-1, 8, 8)
    looks = [caption.split() for caption in answers(problem, "caption")]
    # On a written digit most of the border is background.
    border = torch.cat([images[:, :, 0], images[:, :, 7]], dim=1).mean(1)
    assert all((b > 0.5) == (look[0] == "dark") for b, look in zip(border, looks, strict=True))
    digits = problem.train.parts["digit"]
    upright = images.flip(1, 2)
    for row in range(50):
        image = upright[row] if looks[row][1] == "turned" else images[row]
        image = 1 - image if looks[row][0] == "dark" else image
        torch.testing.assert_close(image, digits.inputs[row, 0])
        assert NUMBERS.index(looks[row][2]) == digits.targets["digit"][row]


def test_tones_have_the_pitch_of_their_label(problem):
    part = problem.train.parts["tone"]
    spectrum = torch.fft.rfft(part.inputs).abs()
    cycles = spectrum[:, 3:21].argmax(1) + 3
    assert ((cycles >= 10) == (part.targets["tone"] >= 3)).float().mean() >= 0.99


def test_the_same_row_of_the_table_has_the_same_class_in_every_draw(problem):
    seen = {}
    for seed in (3, 4):
        part = eight_tasks(seed=seed, sizes=SIZES).train.parts["table"]
        for row, label in zip(part.inputs.tolist(), part.targets["table"].tolist(), strict=True):
            assert seen.setdefault(tuple(row), label) == label
    assert len(seen) < 400


def test_everything_follows_the_seed(problem):
    same, other = (eight_tasks(seed=s, sizes=SIZES) for s in (3, 4))
    assert same.fingerprint() == problem.fingerprint()
    assert other.fingerprint() != problem.fingerprint()


def test_known_and_unknown_answers_are_rows_of_one_form():
    images = np.zeros((2, 1, 3, 2))
    packed = with_answers(images, np.array([[5, 2, -1, -1], [4, 3, 2, 1]]))
    assert packed[:, 6:].tolist() == [[5, 2, 0], [4, 3, 2]]
    assert with_answers(images, None, length=4)[:, 6:].tolist() == [[-1] * 3] * 2
    assert packed.shape == (2, 9)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="Without answers `length` must be at least 1, found None"):
        with_answers(np.zeros((2, 3)), None)
    with pytest.raises(ValueError, match="found 2 sources and 1 answers"):
        with_answers(np.zeros((2, 3)), np.zeros((1, 3)))
    with pytest.raises(ValueError, match="`parse` must be at least 1, found 0"):
        EightSizes(parse=0)
