"""Numbers that no network can compute with: beyond float32, or so far out that nothing else counts.

A single 1e308 in a target makes its mean and variance infinite; a single 1e20 makes all other
values equal after scaling. The first cannot be learned and is taken as missing, the second is
noted.
"""

from __future__ import annotations

import numpy as np

from polytask.tables.words import count_of

__all__ = ["LARGEST", "beyond_float32", "extreme_notes"]

#: The largest float32; networks compute in it.
LARGEST = float(np.finfo(np.float32).max)
#: Values this many interquartile ranges from the median make the rest look constant.
WILD = 1e6
#: More of them are no slips but the scale of the column.
FEW = 0.01
#: Floats hold all whole numbers up to here.
EXACT = 2.0**53


def beyond_float32(numbers: np.ndarray) -> np.ndarray:
    """Mask ``[N]`` of the few values beyond float32 in a column whose other values fit."""
    with np.errstate(invalid="ignore"):
        beyond = np.abs(numbers) > LARGEST
    fits = bool(np.isfinite(numbers).any()) and beyond.sum() <= max(1, FEW * len(numbers))
    return beyond if fits else np.zeros_like(beyond)


def extreme_notes(name: str, numbers: np.ndarray, *, is_target: bool) -> list[str]:
    """What should be known about the extremes of a column.

    Args:
        name: Of the column.
        numbers: ``[N]`` finite numbers, NaN where missing.
        is_target: Whether cells beyond float32 become missing labels.
    """
    notes = []
    beyond = beyond_float32(numbers)
    if beyond.any():
        becomes = "taken as missing" if is_target else "cut"
        notes.append(
            f"{_first(numbers, beyond)} of `{name}` is beyond float32 ({LARGEST:.1e}), in which"
            f" networks compute: {becomes}"
        )
    present = numbers[~np.isnan(numbers) & ~beyond]
    if len(present) < 8:
        return notes
    low, middle, high = np.percentile(present, [25, 50, 75])
    if high > low:
        with np.errstate(invalid="ignore"):
            wild = (np.abs(numbers - middle) > WILD * (high - low)) & ~beyond
        if 0 < wild.sum() <= max(1, FEW * len(present)):
            notes.append(
                f"{_first(numbers, wild)} of `{name}` is far from the rest (half of it between"
                f" {low:.4g} and {high:.4g}): a slip? correct the cell or leave it empty"
            )
    large = (np.abs(present) > EXACT) & (present % 1 == 0)
    if not is_target and large.sum() > 0 and high <= LARGEST and (present % 1 == 0).all():
        notes.append(
            f"{count_of(int(large.sum()), 'whole number')} of `{name}` above 2^53 are rounded to"
            " floats; leave the column out if it is an identifier"
        )
    return notes


def _first(numbers: np.ndarray, mask: np.ndarray) -> str:
    row = int(mask.argmax())
    more = int(mask.sum()) - 1
    others = f" (and {count_of(more, 'other')})" if more else ""
    return f"{numbers[row]:.12g} in row {row + 1}{others}"
