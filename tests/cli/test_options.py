"""Dataclasses of options become options of the command line."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Annotated

import pytest
import typer

from polytask.cli.main import commands
from polytask.cli.options import Without, expanded, option


@dataclass(frozen=True, kw_only=True)
class Oven:
    """Options."""

    heat: Annotated[int, option("Degrees.", panel="Oven", min=1)] = 180
    fan: Annotated[bool, option("Blow.")] = False


def bake(
    *,
    cake: Annotated[str, typer.Argument(help="What.")],
    oven: Annotated[Oven, Without(("fan",))],
    minutes: Annotated[int, typer.Option(help="How long.")] = 30,
) -> tuple[str, Oven, int]:
    """Bake a cake."""
    return cake, oven, minutes


def test_every_field_is_an_option_where_the_dataclass_stood():
    command = expanded(bake)
    parameters = inspect.signature(command).parameters
    assert list(parameters) == ["cake", "heat", "minutes"]
    assert parameters["heat"].default == 180
    assert command.__doc__ == "Bake a cake."
    assert command(cake="x", heat=200, minutes=5) == ("x", Oven(heat=200), 5)


def test_typer_reads_and_checks_them():
    app = typer.Typer()
    baked = []

    def record(*, oven: Oven) -> None:
        baked.append(oven)

    app.command()(expanded(record))
    app(["--heat", "90", "--fan"], standalone_mode=False)
    assert baked == [Oven(heat=90, fan=True)]
    with pytest.raises(Exception, match="greater than or equal to 1"):
        app(["--heat", "0"], standalone_mode=False)


@pytest.mark.parametrize("name", ["compare", "group", "train"])
def test_commands_take_few_arguments_and_offer_many_options(name):
    function = dict(commands())[name]
    own, shown = (inspect.signature(f).parameters for f in (function, expanded(function)))
    assert len(own) <= 8 < len(shown)
