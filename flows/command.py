"""Run a flow from the command line: ``python -m flows.train --epochs 3``."""

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
    """Add the help of a flow's parameters to its docstring, where Prefect's page reads it."""
    lines = [inspect.cleandoc(function.__doc__ or ""), "", "Args:"]
    for name in inspect.signature(function).parameters:
        about = parameter(name, function.__name__)
        otherwise = f" By default {about.if_none}." if about.if_none else ""
        lines.append(f"    {name}: {about.help}{otherwise}")
    function.__doc__ = "\n".join(lines)
    return function


def run(flow: Flow[..., Any]) -> None:
    """Run a flow as a command and print its result."""

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
                "with 'prefect server start', or run 'prefect config unset PREFECT_API_URL' to use "
                "a temporary one"
            )

    names = {"help_option_names": ["-h", "--help"]}
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False, context_settings=names)
    app.command(help=(flow.description or "").split("Args:")[0])(as_command(call))
    app()
