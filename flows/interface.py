"""What people see of a flow: its options and their help, its progress, and advice if it fails."""

import inspect
import logging
import re
import sys
import threading
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import is_dataclass
from functools import wraps
from typing import Annotated, Any, Self, TypeVar

import typer
from prefect import Flow
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.exceptions import ParameterTypeError
from prefect.logging.loggers import flow_run_logger
from prefect.runtime import deployment, flow_run
from prefect.settings import PREFECT_API_URL
from pydantic import Field

from nnpipe.errors import DatasetError, NnpipeError, OutputError, ScoringError, WeightsError
from nnpipe.hints import HINTS
from nnpipe.options import as_command
from nnpipe.settings import parameter

F = TypeVar("F", bound=Callable[..., Any])

SECONDS_BETWEEN_CALLS = 1
"""Least time between two calls that show progress."""

LAST_SECONDS = 2
"""How long a run waits at its end until its progress is shown."""

log = logging.getLogger(__name__)


def described(function: F) -> F:
    """Add help and ranges of a flow's parameters where Prefect reads them: docstring and types."""
    lines = [inspect.cleandoc(function.__doc__ or ""), "", "Args:"]
    for name, option in inspect.signature(function).parameters.items():
        about = parameter(name, function.__name__)
        otherwise = f" By default {about.if_none}." if option.default is None else ""
        lines.append(f"    {name}: {about.help}{otherwise}")
        if about.least is not None or about.most is not None:
            range_ = Field(ge=about.least, le=about.most)
            function.__annotations__[name] = Annotated[option.annotation, range_]
    function.__doc__ = "\n".join(lines)
    return function


def run_by_hand(flow: Flow[..., Any]) -> None:
    """Run a flow as a command, ``python -m flows.train --epochs 3``, and print its result."""

    @wraps(flow.fn)
    def call(**parameters: Any) -> None:
        try:
            print(f"\n{_shown(flow(**parameters))}")
        except NnpipeError as error:
            sys.exit(f"\n{flow.name}: {error}")
        except UnicodeEncodeError as error:
            sys.exit(f"\n{flow.name}: Prefect takes no text that is not UTF-8 ({error})")
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


def _shown(result: Any) -> str:
    """Return what people see of a result: a dataclass without a text of its own as a list."""
    if "__str__" in vars(type(result)) or not is_dataclass(result):
        return str(result)
    return "\n".join(f"  {name:19}  {value}" for name, value in vars(result).items())


def artifact_key(kind: str, about: object) -> str:
    """Return the key of an artifact; artifacts of one key are one history on Prefect's page.

    Args:
        kind: what it shows, such as "scores".
        about: what a run without a deployment is about, such as its source.
    """
    of = deployment.name or f"{flow_run.flow_name}-{about}"
    return re.sub("[^a-z0-9]+", "-", f"{kind}-{of}".lower()).strip("-")[:200]


class Progress:
    """A progress bar on the page of a flow run.

    A thread sends the latest value. If the server is slow or fails, the work goes on.
    """

    def __init__(self, description: str) -> None:
        self._share, self._over = 0.0, threading.Event()
        arguments = (self._send, description)  # in this context, which names the flow run
        self._thread = threading.Thread(target=copy_context().run, args=arguments, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join(LAST_SECONDS)

    def show(self, share: float) -> None:
        """Move the bar to a share in [0, 1]."""
        self._share = share

    def _send(self, description: str) -> None:
        shown, over = 0.0, False
        artifact = attempt(create_progress_artifact, shown, description=description)
        while artifact is not None and not over:
            over = self._over.wait(SECONDS_BETWEEN_CALLS)
            if shown != self._share:
                shown = self._share
                attempt(update_progress_artifact, artifact, round(100 * shown, 1))


def attempt(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function that shows something; if it fails, log that and return None."""
    try:
        return call(*args, **kwargs)
    except Exception as error:  # the server may answer anything
        log.warning("not shown on Prefect's page: %s", error)
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


RESUMES = (
    "To go on, run it again with the same parameters. Scoring resumes, and so does a PyTorch "
    "training. No file is left half written."
)


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
        f"check whether the machine ran out of memory. {RESUMES}"
    )


def say_what_was_cancelled(flow: Flow[..., Any], flow_run: Any, state: Any) -> None:
    """Log how to resume a run that somebody has cancelled."""
    flow_run_logger(flow_run, flow).warning(f"{flow_run.name} was cancelled. {RESUMES}")


# Prefect passes the arguments of a hook by position or by name, so these names are fixed.
HOOKS: dict[str, Any] = {
    "on_failure": [say_what_failed],
    "on_crashed": [say_what_crashed],
    "on_cancellation": [say_what_was_cancelled],
}
