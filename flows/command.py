"""Run a flow by hand: ``python -m flows.train --epochs 3``."""

import inspect
import sys
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer
from prefect import Flow
from pydantic.fields import FieldInfo

from nnpipe.errors import NnpipeError


def run(flow: Flow[..., Any]) -> None:
    """Give a flow's parameters as options of a command, run it, and print what it returns.

    Parameters carry a pydantic ``Field(description=…)``, which Prefect's page shows; here the same
    text becomes the option's help.
    """

    @wraps(flow.fn)
    def command(**parameters: Any) -> None:
        try:
            print(f"\n{flow(**parameters)}")
        except NnpipeError as error:
            sys.exit(f"\n{flow.name}: {error}")

    hints = get_type_hints(flow.fn, include_extras=True)
    signature = inspect.signature(flow.fn)
    command.__annotations__ = {name: _as_option(hint) for name, hint in hints.items()}
    command.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[
            parameter.replace(annotation=_as_option(hints[name]))
            for name, parameter in signature.parameters.items()
        ]
    )
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command(help=flow.description)(command)
    app()


def _as_option(hint: Any) -> Any:
    for extra in getattr(hint, "__metadata__", ()):
        if isinstance(extra, FieldInfo):
            return Annotated[hint.__origin__, typer.Option(help=extra.description)]
    return hint
