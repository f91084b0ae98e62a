"""Run a flow by hand: ``python -m flows.train --epochs 3``."""

import inspect
import sys
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer
from prefect import Flow
from prefect.settings import PREFECT_API_URL

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
        except RuntimeError as error:
            if not str(error).startswith("Failed to reach API"):
                raise
            sys.exit(
                f"\n{flow.name}: no Prefect server answers at {PREFECT_API_URL.value()}; start it "
                "with 'prefect server start', or do without: 'prefect config unset PREFECT_API_URL'"
            )

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
