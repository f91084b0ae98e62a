"""Stopping the tasks of a run at once, wherever they run, when the run is cancelled or fails.

Prefect raises an exception in the main thread of a cancelled run. Its task runners then wait until
all running tasks have ended, which may take minutes.
"""

import multiprocessing
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from nnpipe.errors import NnpipeError

Report = Callable[[int, int], None]
"""Called with the number of a task and the number of its rows that are done."""

# The threads of a task runner have a copy of the context. Other processes have the default.
_report: ContextVar[Report] = ContextVar("_report", default=lambda task, rows: None)


class StoppedError(NnpipeError):
    """The run has ended, so this task ends as well."""


def report(task: int, rows: int) -> None:
    """Report the progress of a task; call this several times a second.

    Raises:
        StoppedError: the run has ended.
    """
    _report.get()(task, rows)


@contextmanager
def stoppable(on_report: Report) -> Iterator[None]:
    """If this block raises, end all tasks that were started in it.

    Args:
        on_report: called, from any thread, with the reports of tasks in threads.
    """
    stop = threading.Event()

    def check(task: int, rows: int) -> None:
        if stop.is_set():
            raise StoppedError("the run has ended")
        on_report(task, rows)

    token, before = _report.set(check), multiprocessing.active_children()
    try:
        yield
    except BaseException:
        stop.set()
        for child in multiprocessing.active_children():  # of a pool of processes, or of Dask
            if child not in before:
                child.kill()
        raise
    finally:
        _report.reset(token)
