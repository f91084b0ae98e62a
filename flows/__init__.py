"""The Prefect flows: each a thin layer over a stage of nnpipe."""

import logging
import os

from nnpipe.errors import NnpipeError

# Prefect reads these when it is imported. What nnpipe itself logs belongs into the flow run's log;
# and a temporary server, started for one run, has nothing to report to its makers, and may take its
# time on a busy machine.
os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "nnpipe")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
os.environ.setdefault("DO_NOT_TRACK", "1")


def _without_traceback(record: logging.LogRecord) -> bool:
    """An error that nnpipe foresees says all in its sentence; only a bug needs a traceback."""
    if record.exc_info and isinstance(record.exc_info[1], NnpipeError):
        record.exc_info = None
    return True


for _name in ("prefect.flow_runs", "prefect.task_runs"):
    logging.getLogger(_name).addFilter(_without_traceback)
