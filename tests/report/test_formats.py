"""Numbers and names as the report writes them."""

from __future__ import annotations

import math

import pytest

from polytask.report import Estimate, formats

NAN = float("nan")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.81234, "0.8123"),
        (-12.3456, "−12.35"),
        (1234567.0, "1,234,567"),
        (0.00012345, "0.0001234"),
        (3.21e-9, "3.210e−09"),
        (5e12, "5.000e+12"),
        (NAN, "–"),
        (math.inf, "–"),
    ],
)
def test_number(value, text):
    assert formats.number(value) == text


def test_signs_percent_and_probability():
    assert formats.signed(2.345) == "+2.35"
    assert formats.signed(-0.5) == "−0.50"
    assert formats.percent(33.333) == "33.3"
    assert formats.probability(0.0004) == "< 0.001"
    assert formats.probability(0.0316) == "0.032"
    assert formats.probability(NAN) == "–"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0123, "12.3 ms"), (1.5, "1.50 s"), (125, "2 min 05 s"), (7384, "2 h 03 min"), (NAN, "–")],
)
def test_duration(seconds, text):
    assert formats.duration(seconds) == text


def test_size_and_count():
    assert formats.size(3 * 2**20) == "3.00 MiB"
    assert formats.size(1.5 * 2**30) == "1.50 GiB"
    assert formats.count(472612.0) == "472,612"


def test_intervals_are_empty_without_ends():
    assert formats.interval(Estimate(1.0, -0.5, 2.5)) == "−0.50 to +2.50"
    assert formats.half_width(Estimate(1.0, -0.5, 2.5)) == "± 1.5"
    assert formats.interval(Estimate(1.0)) == formats.half_width(Estimate(1.0)) == ""


def test_clean_keeps_scripts_and_drops_what_draws_nothing():
    assert formats.clean("Größe 価格 👩‍🔬") == "Größe 価格 👩‍🔬"
    assert formats.clean(" two\n\twords ") == "two words"
    assert formats.clean("a\x00b\x1bc\u202ed\ud800") == "a�b�c�d�"


def test_shorten_keeps_both_ends():
    short = formats.shorten("first" + "x" * 200 + "last", 20)
    assert len(short) == 20
    assert short.startswith("first")
    assert short.endswith("last")
    assert formats.shorten("short") == "short"


def test_short_names_are_unique_and_short():
    names = ["x" * 200 + str(i) + "x" * 200 for i in range(12)]
    labels = formats.short_names(names, 20)
    assert list(labels) == names
    assert len(set(labels.values())) == 12
    assert max(map(len, labels.values())) <= 20


def test_listing_counts_the_rest():
    assert formats.listing(["a"]) == "a"
    assert formats.listing(["a", "b", "c"]) == "a, b and c"
    assert formats.listing(list("abcdefg"), most=3) == "a, b, c and 4 more"


def test_lines_keeps_the_end_of_a_long_error():
    assert formats.lines("first\nsecond\x00") == "first\nsecond "
    long = formats.lines("x" * 9000 + "ValueError: the reason")
    assert len(long) == 4001
    assert long.endswith("ValueError: the reason")
