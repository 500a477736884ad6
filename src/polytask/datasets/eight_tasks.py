"""Eight small tasks of four modalities, made here: what a model for everything should learn at
once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from polytask.datasets.answers import with_answers
from polytask.problems.problem import Problem
from polytask.problems.splits import SPLIT_NAMES
from polytask.tasks import Kind, Multiclass, TokenSequence

__all__ = [
    "COLUMN_LEVELS",
    "EIGHT_LENGTHS",
    "SAMPLES",
    "VOCABULARY",
    "EightSizes",
    "eight_tasks",
    "text_of",
]

END = "<end>"
LETTERS = tuple("abcdefgh")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LOOKS = ("bright", "dark", "upright", "turned")
#: Parts of speech and how many words both languages have of each.
LEXICON = {"D": 2, "J": 10, "N": 24, "V": 8, "T": 8}
BRACKETS = ("(S", "(NP", "(VP", ")", *LEXICON)


def _words(language: str) -> dict[str, tuple[str, ...]]:
    """Words of a language by part of speech."""
    return {part: tuple(f"{part}{i}{language}" for i in range(n)) for part, n in LEXICON.items()}


FIRST, SECOND = _words("x"), _words("y")
#: All tokens of the text modality; the code of a token is its place.
VOCABULARY: tuple[str, ...] = (
    END,
    *LETTERS,
    *NUMBERS,
    *LOOKS,
    *(word for language in (FIRST, SECOND) for words in language.values() for word in words),
    *BRACKETS,
)
CODES = {token: code for code, token in enumerate(VOCABULARY)}

LONGEST_WORD = 7
LONGEST_SENTENCE = 7
#: Length of the answers of the sequence tasks, end token included.
EIGHT_LENGTHS = {
    "caption": 3,
    "reverse": LONGEST_WORD + 1,
    "sort": LONGEST_WORD + 1,
    "translate": LONGEST_SENTENCE + 1,
    "parse": LONGEST_SENTENCE + 9,
}
#: Levels of the columns of the table.
COLUMN_LEVELS = (4, 4, 3, 3, 2, 2)
#: Length of the waveforms.
SAMPLES = 128
TONES = ("low sine", "low square", "low saw", "high sine", "high square", "high saw")
HELD_OUT = 200

Rows = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class EightSizes:
    """Training rows of the tasks that are generated.

    Args:
        text: Of "reverse", "sort" and "translate" each.
        parse: Of the task with little data.
        other: Of "tone" and "table" each.
    """

    text: int = 1500
    parse: int = 12
    other: int = 600

    def __post_init__(self) -> None:
        """Check the arguments."""
        for name in ("text", "parse", "other"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, found {getattr(self, name)}.")


def eight_tasks(*, seed: int = 0, sizes: EightSizes | None = None) -> Problem:
    """Eight tasks with images, text, audio and a table as inputs, in the separate layout.

    ========== ======================================= ==========================================
    task       inputs                                  answer
    ========== ======================================= ==========================================
    digit      image [1, 8, 8] of a written digit      its class
    caption    image, perhaps dark on bright or turned three words: look, turn, number
    reverse    3 to 7 letters and an end token         the letters from last to first
    sort       3 to 7 letters and an end token         the letters in order
    translate  sentence of a small language            the sentence in another: verb last, article
                                                       and adjective after the noun
    parse      sentence of the same first language     brackets around its parts of speech
    tone       waveform [128]                          pitch (2) and timbre (3), one class
    table      six categorical columns                 one of three classes
    ========== ======================================= ==========================================

    The five tasks with words as answers are of kind ``Sequence`` over one ``VOCABULARY``; their
    inputs are those of ``with_answers``. Training and validation rows carry their answers, so that
    a validation loss is that of the next token; test rows do not, and are decoded. "parse" has
    little data: many of the words of its test sentences occur in those of "translate" only.
    Nothing but the digits' handwriting is noisy: on all other tasks everything can be right, but
    for the tones' noise.

    Args:
        seed: Of all that is drawn, and of the split of the images.
        sizes: Training rows; each generated task has 200 validation and 200 test rows.

    References:
        L. Kaiser et al., One Model To Learn Them All, 2017, https://arxiv.org/abs/1706.05137, whose
        eight tasks (speech, images, captions, parsing, translation) these stand for.
    """
    sizes = sizes or EightSizes()
    made: dict[str, tuple[Kind, Callable[[np.random.Generator, int], Rows], int]] = {
        "reverse": (_TEXT, _reverse, sizes.text),
        "sort": (_TEXT, _sort, sizes.text),
        "translate": (_TEXT, _translate, sizes.text),
        "parse": (_TEXT, _parse, sizes.parse),
        "tone": (Multiclass(len(TONES), labels=TONES), _tones, sizes.other),
        "table": (Multiclass(3), _table, sizes.other),
    }
    problems = _image_problems(np.random.default_rng([seed, 0]))
    for number, (name, (kind, make, count)) in enumerate(made.items(), start=1):
        sources, answers = make(np.random.default_rng([seed, number]), count + 2 * HELD_OUT)
        stops = np.cumsum([count, HELD_OUT, HELD_OUT])
        splits = dict(zip(SPLIT_NAMES, np.split(np.arange(stops[-1]), stops[:-1]), strict=True))
        problems[name] = _problem(name, kind, (sources, answers), splits)
    return Problem.join(problems, name="eight_tasks")


def text_of(codes: Sequence[int]) -> str:
    """The tokens with these codes, up to the end token or padding."""
    words: list[str] = []
    for code in codes:
        if code < 0 or VOCABULARY[code] == END:
            break
        words.append(VOCABULARY[code])
    return " ".join(words)


def _problem(name: str, kind: Kind, rows: Rows, splits: dict[str, np.ndarray]) -> Problem:
    """One task; the answers of a Sequence are in its training and validation inputs."""
    inputs, answers = rows
    if isinstance(kind, TokenSequence):
        known = answers.copy()
        known[splits["test"]] = -1
        packed = with_answers(inputs, known)
        packed[splits["test"], inputs[0].size :] = -1
        inputs = packed
    return Problem.from_arrays(inputs, {name: answers}, {name: kind}, name=name, splits=splits)


def _image_problems(generator: np.random.Generator) -> dict[str, Problem]:
    """Digits and captions of the same images, so with the same split."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    images = (loaded.images / 16).astype(np.float32)[:, None]
    label = loaded.target.astype(np.int64)
    order = generator.permutation(len(images))
    stops = [round(0.6 * len(order)), round(0.8 * len(order))]
    splits = dict(zip(SPLIT_NAMES, np.split(order, stops), strict=True))
    dark, turned = (generator.random(len(images)) < 0.5 for _ in range(2))
    seen = np.where(dark[:, None, None, None], 1 - images, images)
    seen = np.where(turned[:, None, None, None], seen[:, :, ::-1, ::-1], seen)
    words = np.stack(
        [
            np.where(dark, CODES["dark"], CODES["bright"]),
            np.where(turned, CODES["turned"], CODES["upright"]),
            np.array([CODES[number] for number in NUMBERS])[label],
        ],
        axis=1,
    )
    return {
        "digit": _problem("digit", Multiclass(10), (images, label), splits),
        "caption": _problem("caption", _TEXT, (seen, words), splits),
    }


def _reverse(generator: np.random.Generator, count: int) -> Rows:
    words = _letters(generator, count)
    return _coded(words, LONGEST_WORD + 1), _coded([w[::-1] for w in words], LONGEST_WORD + 1)


def _sort(generator: np.random.Generator, count: int) -> Rows:
    words = _letters(generator, count)
    return _coded(words, LONGEST_WORD + 1), _coded([sorted(w) for w in words], LONGEST_WORD + 1)


def _letters(generator: np.random.Generator, count: int) -> list[list[str]]:
    lengths = generator.integers(3, LONGEST_WORD, endpoint=True, size=count)
    return [[LETTERS[i] for i in generator.integers(len(LETTERS), size=n)] for n in lengths]


#: A noun phrase: places of article, adjective (None without one) and noun in the lexicon.
Phrase = tuple[int, int | None, int]


@dataclass(frozen=True)
class Sentence:
    """Subject, verb, and the object of a transitive verb (T; V is intransitive)."""

    subject: Phrase
    verb: int
    object: Phrase | None

    @classmethod
    def draw(cls, generator: np.random.Generator) -> Sentence:
        """Two in three verbs are transitive, one in two nouns has an adjective."""
        subject, verb = _draw_phrase(generator), int(generator.integers(LEXICON["T"]))
        transitive = generator.random() < 2 / 3
        return cls(subject, verb, _draw_phrase(generator) if transitive else None)

    @property
    def verb_part(self) -> str:
        return "V" if self.object is None else "T"

    def first(self) -> list[str]:
        """Subject, verb, object; article, adjective, noun."""
        tail = [] if self.object is None else _phrase(self.object, FIRST, "DJN")
        return [*_phrase(self.subject, FIRST, "DJN"), FIRST[self.verb_part][self.verb], *tail]

    def second(self) -> list[str]:
        """Subject, object, verb; noun, adjective, article."""
        middle = [] if self.object is None else _phrase(self.object, SECOND, "NJD")
        return [*_phrase(self.subject, SECOND, "NJD"), *middle, SECOND[self.verb_part][self.verb]]

    def parsed(self) -> list[str]:
        """Brackets around parts of speech."""
        tail = [] if self.object is None else _brackets(self.object)
        return ["(S", *_brackets(self.subject), "(VP", self.verb_part, *tail, ")", ")"]


def _draw_phrase(generator: np.random.Generator) -> Phrase:
    article, adjective, noun = (int(generator.integers(LEXICON[part])) for part in "DJN")
    return article, adjective if generator.random() < 0.5 else None, noun


def _phrase(phrase: Phrase, language: dict[str, tuple[str, ...]], order: str) -> list[str]:
    places = dict(zip("DJN", phrase, strict=True))
    found = [(part, places[part]) for part in order]
    return [language[part][place] for part, place in found if place is not None]


def _brackets(phrase: Phrase) -> list[str]:
    return ["(NP", "D", *(["J"] if phrase[1] is not None else []), "N", ")"]


def _translate(generator: np.random.Generator, count: int) -> Rows:
    sentences = [Sentence.draw(generator) for _ in range(count)]
    length = LONGEST_SENTENCE + 1
    return _coded([s.first() for s in sentences], length), _coded(
        [s.second() for s in sentences], length
    )


def _parse(generator: np.random.Generator, count: int) -> Rows:
    sentences = [Sentence.draw(generator) for _ in range(count)]
    return (
        _coded([s.first() for s in sentences], LONGEST_SENTENCE + 1),
        _coded([s.parsed() for s in sentences], EIGHT_LENGTHS["parse"]),
    )


def _coded(sentences: Sequence[Sequence[str]], length: int) -> np.ndarray:
    """Codes ``[B, length]`` with an end token, then -1."""
    codes = np.full((len(sentences), length), -1, dtype=np.int64)
    for row, sentence in enumerate(sentences):
        tokens = [*sentence, END]
        codes[row, : len(tokens)] = [CODES[token] for token in tokens]
    return codes


def _tones(generator: np.random.Generator, count: int) -> Rows:
    """Sine, square and saw waves of two ranges of pitch, in noise."""
    label = generator.integers(len(TONES), size=count)
    cycles = np.where(label >= 3, generator.uniform(12, 18, count), generator.uniform(5, 8, count))
    time = np.arange(SAMPLES) / SAMPLES
    phase = cycles[:, None] * time + generator.random((count, 1))
    sine = np.sin(2 * np.pi * phase)
    waves = np.stack([sine, np.sign(sine), 2 * (phase % 1) - 1])
    wave = waves[label % 3, np.arange(count)]
    volume = generator.uniform(0.5, 1.5, (count, 1))
    noisy = volume * wave + 0.3 * generator.standard_normal(wave.shape)
    return noisy.astype(np.float32), np.array(TONES)[label]


def _table(generator: np.random.Generator, count: int) -> Rows:
    """Classes by the largest of three scores: effects of the levels, and of two pairs of levels."""
    rule = np.random.default_rng(20_260_705)
    codes = np.stack([generator.integers(n, size=count) for n in COLUMN_LEVELS], axis=1)
    scores = np.zeros((count, 3))
    for column, levels in enumerate(COLUMN_LEVELS):
        scores += rule.standard_normal((levels, 3))[codes[:, column]]
    for a, b in ((0, 2), (1, 3)):
        pairs = rule.standard_normal((COLUMN_LEVELS[a], COLUMN_LEVELS[b], 3))
        scores += pairs[codes[:, a], codes[:, b]]
    return codes, scores.argmax(1)


_TEXT = TokenSequence(len(VOCABULARY))
