"""Run a flow by hand: ``python -m flows.train --epochs 3``."""

import inspect
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import typer
from prefect import Flow
from prefect.settings import PREFECT_API_URL

from nnpipe.errors import NnpipeError
from nnpipe.options import as_command
from nnpipe.settings import parameter

F = TypeVar("F", bound=Callable[..., Any])


def described(function: F) -> F:
    """Add the help of its parameters to a flow's docstring, where Prefect's page looks for it."""
    lines = [inspect.cleandoc(function.__doc__ or ""), "", "Args:"]
    for name in inspect.signature(function).parameters:
        about = parameter(name, function.__name__)
        otherwise = f" By default {about.if_none}." if about.if_none else ""
        lines.append(f"    {name}: {about.help}{otherwise}")
    function.__doc__ = "\n".join(lines)
    return function


def run(flow: Flow[..., Any]) -> None:
    """Make a flow a command, run it, and print what it returns."""

    @wraps(flow.fn)
    def call(**parameters: Any) -> None:
        try:
            print(f"\n{flow(**parameters)}")
        except NnpipeError as error:
            sys.exit(f"\n{flow.name}: {error}")
        except RuntimeError as error:
            if not str(error).startswith("Failed to reach API"):
                raise
            sys.exit(
                f"\n{flow.name}: no Prefect server answers at {PREFECT_API_URL.value()}; start it "
                "with 'prefect server start', or do without: 'prefect config unset PREFECT_API_URL'"
            )

    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command(help=(flow.description or "").split("Args:")[0])(as_command(call))
    app()
