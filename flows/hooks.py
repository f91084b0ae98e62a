"""Hooks that log what happened to a failed flow run, and what to do."""

from typing import Any

from prefect import Flow
from prefect.logging.loggers import flow_run_logger

from nnpipe.errors import (
    DatasetError,
    NnpipeError,
    OutputError,
    ScoringError,
    WeightsError,
)
from nnpipe.hints import HINTS

# Advice for errors that have none of their own. The first class that matches counts.
ADVICE = {
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
    flow_run_logger(flow_run, flow).error(
        "%s failed: %s\nWhat to do: %s",
        flow_run.name,
        error if advice else state.message,
        advice or "this is a bug; the traceback above shows where it happened",
    )


def say_what_crashed(flow: Flow[..., Any], flow_run: Any, state: Any) -> None:
    """Log that the process of a run died, and what to do about it."""
    flow_run_logger(flow_run, flow).error(
        "%s crashed: %s\nWhat to do: if nobody ended it on purpose, check whether the machine ran "
        "out of memory. Then run it again with the same parameters. Scoring resumes, and so does "
        "a PyTorch training with a named run. No file is left half written.",
        flow_run.name,
        state.message,
    )


# Prefect passes the arguments of a hook by position or by name, so these names are fixed.
HOOKS: dict[str, Any] = {"on_failure": [say_what_failed], "on_crashed": [say_what_crashed]}
