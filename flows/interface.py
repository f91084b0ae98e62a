"""What people see of a flow: its options and their help, its progress, and advice if it fails."""

import inspect
import logging
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import typer
from prefect import Flow
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.exceptions import ParameterTypeError
from prefect.logging.loggers import flow_run_logger
from prefect.settings import PREFECT_API_URL

from nnpipe.errors import DatasetError, NnpipeError, OutputError, ScoringError, WeightsError
from nnpipe.hints import HINTS
from nnpipe.options import as_command
from nnpipe.settings import parameter

F = TypeVar("F", bound=Callable[..., Any])

log = logging.getLogger(__name__)


def described(function: F) -> F:
    """Add the help of a flow's parameters to its docstring, where Prefect's page reads it."""
    lines = [inspect.cleandoc(function.__doc__ or ""), "", "Args:"]
    for name, option in inspect.signature(function).parameters.items():
        about = parameter(name, function.__name__)
        otherwise = f" By default {about.if_none}." if option.default is None else ""
        lines.append(f"    {name}: {about.help}{otherwise}")
    function.__doc__ = "\n".join(lines)
    return function


def run_by_hand(flow: Flow[..., Any]) -> None:
    """Run a flow as a command, ``python -m flows.train --epochs 3``, and print its result."""

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


class Progress:
    """A progress bar on the page of a flow run. If it cannot be shown, the work goes on."""

    def __init__(self, description: str) -> None:
        self.artifact = _attempt(create_progress_artifact, 0, description=description)

    def show(self, share: float) -> None:
        """Move the bar to a share in [0, 1]."""
        if self.artifact is not None:
            _attempt(update_progress_artifact, self.artifact, round(100 * share, 1))


def _attempt(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function of Prefect; if it fails, log that and return None."""
    try:
        return call(*args, **kwargs)
    except Exception as error:  # the server may answer anything
        log.warning("progress is not shown: %s", error)
        return None


# --- failed and crashed runs ----------------------------------------------------------------------

# Advice for errors that have none of their own. The first class that matches counts.
ADVICE = {
    ParameterTypeError: "choose another value for this parameter, then run it again",
    DatasetError: "get the data set again with the flow 'download'",
    OutputError: "free some space or name another place, then run it again to resume",
    WeightsError: "name other weights, or export them again; if the champion is damaged, "
    "'nnpipe models rollback' brings back the one before",
    ScoringError: "check the source and the output",
    NnpipeError: "fix the error above, then run it again",
}


def say_what_failed(flow: Flow[..., Any], flow_run: Any, state: Any) -> None:
    """Log the error of a failed run, and what to do about it."""
    error = state.result(raise_on_failure=False)
    advice = next((text for kind, text in ADVICE.items() if isinstance(error, kind)), None)
    if isinstance(error, NnpipeError) and error.advice:
        hint = HINTS[error.advice]
        advice = hint.flow or hint.command_line
    what = error if advice else state.message
    advice = advice or "this is a bug; the traceback above shows where it happened"
    log = flow_run_logger(flow_run, flow)
    log.error("%s failed: %s\nWhat to do: %s", flow_run.name, what, advice)


def say_what_crashed(flow: Flow[..., Any], flow_run: Any, state: Any) -> None:
    """Log that the process of a run died, and what to do about it."""
    flow_run_logger(flow_run, flow).error(
        f"{flow_run.name} crashed: {state.message}\nWhat to do: if nobody ended it on purpose, "
        "check whether the machine ran out of memory. Then run it again with the same parameters. "
        "Scoring resumes, and so does a PyTorch training with a named run. No file is left half "
        "written."
    )


# Prefect passes the arguments of a hook by position or by name, so these names are fixed.
HOOKS: dict[str, Any] = {"on_failure": [say_what_failed], "on_crashed": [say_what_crashed]}
