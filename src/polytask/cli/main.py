"""The `polytask` command: find the commands, run one, turn errors into one line and an exit code.

A command is a module of this package with a function of the same name: `cli/compare.py` with
`compare(...)`, annotated for typer; its docstring is the command's help. Adding a command is adding
its file. Command modules import nothing heavy at the top, so that `--help` answers at once.

Exit codes:

| code | meaning |
|------|---------|
| 0    | done |
| 1    | good input, but a run failed: training diverged, memory ran out, nothing finished |
| 2    | bad input: an option, a file, a column or a value; or a package that is not installed |
| 70   | a fault in Polytask itself |
| 130  | interrupted with Ctrl-C; what was finished is kept |
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated

import typer

from polytask import cli
from polytask._version import __version__
from polytask.cli.options import expanded

OK, FAILED, BAD_INPUT, FAULT, INTERRUPTED = 0, 1, 2, 70, 130

EXAMPLES = """
[bold]Examples[/bold]

polytask compare --dataset digits13 --preset demo --out runs/demo

polytask compare --data houses.csv --target price:regression --target sold:binary --out runs/houses

polytask predict runs/houses new.csv --out predictions.csv

polytask report runs/houses

polytask COMMAND --help shows the options and examples of one command.
"""


def commands() -> Iterator[tuple[str, Callable[..., object]]]:
    """Name and function of every command, in the order of the alphabet."""
    for module in pkgutil.iter_modules(cli.__path__):
        if module.name != "main":
            function = getattr(
                importlib.import_module(f"{cli.__name__}.{module.name}"), module.name, None
            )
            if callable(function):
                yield module.name, function


def build_app() -> typer.Typer:
    """The typer application with every command of the package."""
    app = typer.Typer(
        name="polytask",
        help="Learn many tasks with one system, and measure whether learning them together helps.",
        epilog=EXAMPLES,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,  # `main` reports errors
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_global_options)
    for name, function in commands():
        app.command(name)(expanded(function))
    return app


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"polytask {__version__}")
        raise typer.Exit


def _global_options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the full trace of an error (in any place).")
    ] = False,
) -> None:
    """Options that stand before a command; `main` has taken `--debug` out of the arguments."""


def run(arguments: Sequence[str], *, debug: bool = False) -> int:
    """Run one command line and return its exit code; errors become one line on stderr."""
    command = typer.main.get_command(build_app())
    cli.given_words.set(tuple(arguments))
    try:
        code = command.main(list(arguments), prog_name="polytask", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (`| head`) has left. Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:  # the outermost edge: nothing is lost, it is reported and coded
        if debug:
            traceback.print_exception(error)
        line, code = explain(error)
        print(f"error: {line}", file=sys.stderr)
        return code
    if code == INTERRUPTED:  # newer versions of typer give the code instead of an exception
        print("error: interrupted", file=sys.stderr)
    return code if isinstance(code, int) else OK


def explain(error: Exception) -> tuple[str, int]:
    """One line that says what went wrong, and the exit code that goes with it."""
    if hasattr(error, "format_message"):  # typer's and click's errors about the command line
        text, code = f"{error.format_message()} (see `polytask --help`)", BAD_INPUT
    elif isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        text, code = f"{where}{error.strerror}", BAD_INPUT
    elif isinstance(error, (ValueError, TypeError, OSError, ImportError)):
        text, code = str(error), BAD_INPUT
    elif isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        text, code = f"out of memory ({error}); use a smaller batch or fewer workers", FAILED
    elif isinstance(error, ArithmeticError):
        text, code = str(error), FAILED
    else:
        text = f"{type(error).__name__}: {error}; this is a bug in polytask: rerun with --debug"
        code = FAULT
    return " ".join(text.split()) or type(error).__name__, code


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the `polytask` script; exits with the code of the table above."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Whoever is told to "rerun with --debug" appends it, so it counts before and after the command.
    end = words.index("--") if "--" in words else len(words)
    debug = "--debug" in words[:end]
    words = [word for word in words[:end] if word != "--debug"] + words[end:]
    sys.exit(run(words, debug=debug))


if __name__ == "__main__":
    main()
