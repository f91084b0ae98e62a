"""What a failed flow run says in its log: what happened, and what to do."""

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

# For errors without advice of their own. The first class that fits counts.
ADVICE = {
    DatasetError: "get the data set again with the flow 'download'",
    OutputError: "make room or name another place, and run it again: it goes on where it was",
    WeightsError: "name other weights, or export them again; if it is the champion itself, "
    "'nnpipe models rollback' brings back the one before",
    ScoringError: "see whether source and output are what they should be",
    NnpipeError: "mend what the sentence says, and run it again",
}


def say_what_failed(flow: Flow[..., Any], flow_run: Any, state: Any) -> None:
    """After a failure: the sentence of the error, and what to do about it."""
    error = state.result(raise_on_failure=False)
    advice = next((text for kind, text in ADVICE.items() if isinstance(error, kind)), None)
    if isinstance(error, NnpipeError) and error.advice:
        advice = HINTS[error.advice].flow
    flow_run_logger(flow_run, flow).error(
        "%s failed: %s\nWhat to do: %s",
        flow_run.name,
        error if advice else state.message,
        advice or "this is not foreseen; the traceback above says where it happened",
    )


def say_what_crashed(flow: Flow[..., Any], flow_run: Any, state: Any) -> None:
    """After the process of a run died: nothing is lost."""
    flow_run_logger(flow_run, flow).error(
        "%s crashed: %s\nWhat to do: if it was not ended on purpose, see whether the machine ran "
        "out of memory; then run it again with the same parameters. Files are whole or not "
        "there; scoring goes on where it was, and so does a training whose run was named.",
        flow_run.name,
        state.message,
    )


# Prefect hands a hook its arguments by position here, and by name there: these names are its own.
HOOKS: dict[str, Any] = {"on_failure": [say_what_failed], "on_crashed": [say_what_crashed]}
