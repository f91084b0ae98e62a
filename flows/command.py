"""Run a flow by hand: ``python -m flows.train --epochs 3``."""

import inspect
import sys
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer
from prefect import Flow

from nnpipe.errors import NnpipeError


def run(flow: Flow[..., Any]) -> None:
    """Make a flow a command, run it, and print what it returns.

    Parameters become options, and those without a default arguments. Their help is what the flow's
    docstring says of them, which Prefect's page shows, too.
    """

    @wraps(flow.fn)
    def command(**parameters: Any) -> None:
        try:
            print(f"\n{flow(**parameters)}")
        except NnpipeError as error:
            sys.exit(f"\n{flow.name}: {error}")

    hints = get_type_hints(flow.fn)
    parameters = []
    for parameter in inspect.signature(flow.fn).parameters.values():
        kind = typer.Argument if parameter.default is parameter.empty else typer.Option
        shown = kind(help=flow.parameters.properties[parameter.name]["description"])
        parameters.append(parameter.replace(annotation=Annotated[hints[parameter.name], shown]))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}

    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command(help=(flow.description or "").split("Args:")[0])(command)
    app()
