"""The Prefect flows: each a thin layer over a stage of nnpipe."""

import logging
import os

from nnpipe.errors import NnpipeError

# Prefect reads these variables when it is imported. They show nnpipe's log messages in the log of
# the flow run, turn off usage statistics, and give a temporary server 120 seconds to start, because
# a busy machine is slow.
os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "nnpipe")
os.environ.setdefault("PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
os.environ.setdefault("DO_NOT_TRACK", "1")


def _without_traceback(record: logging.LogRecord) -> bool:
    """Drop the traceback of an `NnpipeError`: its message says enough. Bugs keep theirs."""
    if record.exc_info and isinstance(record.exc_info[1], NnpipeError):
        record.exc_info = None
    return True


for _name in ("prefect.flow_runs", "prefect.task_runs"):
    logging.getLogger(_name).addFilter(_without_traceback)
if logging.getLogger("nnpipe").level == logging.NOTSET:  # Prefect sets no level
    logging.getLogger("nnpipe").setLevel(logging.INFO)
