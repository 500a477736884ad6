"""Options that `compare` and `group` share: how much every run may spend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from polytask.cli.options import option

if TYPE_CHECKING:
    from polytask.candidates import Budget

__all__ = ["BudgetOptions", "WorkersOption"]

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

WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=0,
        help="Processes; left out: one per core, at most 8; 0: this process.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class BudgetOptions:
    """What the options about the budget said; what is not given comes from the preset.

    Raises:
        ValueError: There is no such preset.
    """

    preset: Annotated[
        str,
        option(
            f"Values of the options below that are not given: {', '.join(PRESETS)}.",
            panel=BUDGET_PANEL,
        ),
    ] = "default"
    seeds: Annotated[
        int | None,
        option("Repetitions; a table is split anew for each.", panel=BUDGET_PANEL, min=1),
    ] = None
    epochs: Annotated[
        int | None, option("Most passes over the training rows.", panel=BUDGET_PANEL, min=1)
    ] = None
    patience: Annotated[
        int | None,
        option(
            "Epochs without progress on validation before training stops.",
            panel=BUDGET_PANEL,
            min=1,
        ),
    ] = None
    trials: Annotated[
        int | None,
        option(
            "Learning rates tried per run; the best on validation is kept.",
            panel=BUDGET_PANEL,
            min=1,
        ),
    ] = None
    time_limit: Annotated[
        float | None, option("Seconds of training per run.", panel=BUDGET_PANEL)
    ] = None

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(
                f"`--preset` must be one of {', '.join(PRESETS)}, found {self.preset!r}."
            )

    @property
    def num_seeds(self) -> int:
        """Repetitions."""
        return self.seeds or PRESETS[self.preset].seeds

    def budget(self) -> Budget:
        """Of every run."""
        from polytask.candidates import Budget

        values = PRESETS[self.preset]
        return Budget(
            epochs=self.epochs or values.epochs,
            patience=self.patience or values.patience,
            trials=self.trials or values.trials,
            time_limit=self.time_limit,
        )
