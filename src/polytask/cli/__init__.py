"""The command line: one file per command, found by its name (see `polytask.cli.main`)."""

from __future__ import annotations

import shlex
from contextvars import ContextVar

__all__ = ["command_line", "given_words"]

#: The words after `polytask` of the command that is running.
given_words: ContextVar[tuple[str, ...]] = ContextVar("given_words", default=())


def command_line() -> str:
    """The command that is running, as a person would type it; it is kept with the results."""
    return shlex.join(["polytask", *given_words.get()])
