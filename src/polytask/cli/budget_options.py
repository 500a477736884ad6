"""Options that `compare` and `group` share: how much every run may spend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

__all__ = [
    "BUDGET_PANEL",
    "EpochsOption",
    "Preset",
    "PresetOption",
    "SeedsOption",
    "WorkersOption",
    "preset_named",
]

BUDGET_PANEL = "Budget (the same for every candidate)"


@dataclass(frozen=True)
class Preset:
    """Values of options that are not given."""

    seeds: int
    epochs: int
    patience: int
    trials: int


PRESETS = {
    "default": Preset(seeds=5, epochs=100, patience=16, trials=1),
    "demo": Preset(seeds=3, epochs=20, patience=4, trials=1),
    "thorough": Preset(seeds=10, epochs=200, patience=24, trials=3),
}

PresetOption = Annotated[
    str,
    typer.Option(
        "--preset",
        help=f"Values of the options below that are not given: {', '.join(PRESETS)}.",
        rich_help_panel=BUDGET_PANEL,
    ),
]
SeedsOption = Annotated[
    int | None,
    typer.Option(
        "--seeds",
        min=1,
        help="Repetitions; a table is split anew for each.",
        rich_help_panel=BUDGET_PANEL,
    ),
]
EpochsOption = Annotated[
    int | None,
    typer.Option(
        "--epochs",
        min=1,
        help="Most passes over the training rows.",
        rich_help_panel=BUDGET_PANEL,
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=0,
        help="Processes; left out: one per core, at most 8; 0: this process.",
    ),
]


def preset_named(name: str) -> Preset:
    """The preset of a name.

    Raises:
        ValueError: There is none.
    """
    if name not in PRESETS:
        raise ValueError(f"`--preset` must be one of {', '.join(PRESETS)}, found {name!r}.")
    return PRESETS[name]
