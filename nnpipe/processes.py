"""Work in child processes, which have limits of time and memory, and end when this process ends.

`over` calls a function with each item. It is a thin layer over `run`, which hands out *jobs*: each
is a number of items for one child. Before a child touches an item, it reports the item's number.

A child may die because of its item, or for another reason: the machine is short of memory, or a
person killed it. Its job is then done again. An item that crashes its child is tried once more,
alone, before it is blamed. If a child was killed from outside, no item is blamed.
"""

import ctypes
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any

from nnpipe.errors import NnpipeError, ProcessError
from nnpipe.files import cannot_write, is_full

MEMORY = 2 * 2**30
"""Bytes that a child may take beyond what it has at its start. A picture of 100 million pixels
takes up to 1.6 GB."""

MOST_DEATHS = 5
"""Deaths of one job, without progress between them, after which the run ends with an error."""

SECONDS_BETWEEN_LOOKS = 0.1
"""Time between two looks at the children."""

LONG_AWAY = 2
"""If two looks are further apart, in seconds, this process was suspended, and its children with
it."""

BETWEEN_ITEMS = 10
"""Work that belongs to no item may take this many times the limit of one item."""

CRASHES = {"SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS"}
"""Signals that a process brings upon itself. All others come from outside."""

ENVIRONMENT = {
    # Each process has one core to compute on. More threads would only be in its way.
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "VECLIB_MAXIMUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",  # which asks for no more memory than it needs
    # By default glibc takes 64 MB of addresses for each fetching thread, up to the limit.
    "MALLOC_ARENA_MAX": "1",
    # glibc keeps what it has for the next batch: that makes small pictures a tenth faster.
    "MALLOC_MMAP_THRESHOLD_": str(2**27),
    "MALLOC_TRIM_THRESHOLD_": str(2**28),
    "MALLOC_TOP_PAD_": str(2**24),
}
"""Environment variables of a child."""

# A child imports nothing from the working folder and does not run the parent's program again. The
# first lines do what `tie_to` does, because the import after them takes a while.
START = [
    *(sys.executable, "-P", "-c"),
    "import ctypes, os, sys\n"
    "if sys.platform == 'linux': ctypes.CDLL(None).prctl(1, 9)\n"
    "if os.getppid() != int(sys.argv[1]): os._exit(1)\n"
    f"sys.path.append({str(Path(__file__).parents[1])!r})\n"
    "from nnpipe.processes import main; main()",
]
"""Command that starts a child."""

OnItem = Callable[[int], None]
"""Called with the number of the item that is worked on next, −1 when there is none."""

Function = Callable[[Any], Any]
"""A function of an item."""


@dataclass
class Job:
    """Numbered items that one child works on, in any order, and what its deaths have shown."""

    content: Any  # what the child needs to know; it can be pickled
    size: int  # items
    number: int = 0  # for the caller
    blamed: dict[int, str] = field(default_factory=dict)  # items not to be touched, and why
    alone: int | None = None  # the one item to try; that answer is thrown away
    suspects: set[int] = field(default_factory=set)  # items that have crashed a child once
    deaths: int = 0  # without progress
    most_reports: int = -1  # the most reports that a child has made before it died


Do = Callable[[Job, OnItem], Any]
"""What a child does with a job: a function that can be imported by its name."""


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def over(
    function: Function,
    items: Iterable[Any],
    *,
    seconds: float,
    workers: int = 1,
    batch: int = 1,
    fork: bool = False,
) -> Iterator[Any]:
    """Call a function with each item in child processes; yield the results in the items' order.

    A result is what the function returns, or the `NnpipeError` that it raises, or a `ProcessError`
    if the item takes too long or crashes the child.

    Args:
        function: one that can be imported by its name.
        items: objects that can be pickled; they are taken when a child is free.
        seconds: time limit of one item.
        workers: processes.
        batch: items that a child gets at once.
        fork: see `run`.

    Raises:
        ProcessError: children die again and again, for no reason that could be found.
    """
    rest = iter(items)
    parts = iter(lambda: list(islice(rest, batch)), [])
    jobs = (Job((function, part), len(part), number) for number, part in enumerate(parts))
    results: dict[int, list[Any]] = {}
    due = 0
    for job, answer in run(_call, jobs, seconds=seconds, workers=workers, fork=fork):
        results[job.number] = answer
        while due in results:
            yield from results.pop(due)
            due += 1


def _call(job: Job, on_item: OnItem) -> list[Any]:
    """Call the function of a job with its items."""
    function, items = job.content
    results: list[Any] = []
    for number in range(len(items)) if job.alone is None else [job.alone]:
        if number in job.blamed:
            results.append(ProcessError(job.blamed[number]))
            continue
        on_item(number)
        try:
            results.append(function(items[number]))
        except NnpipeError as error:
            results.append(error)
        on_item(-1)
    return results


def run(
    do: Do,
    jobs: Iterable[Job],
    *,
    seconds: float,
    workers: int,
    fork: bool = False,
    on_items: Callable[[int], None] = lambda items: None,
) -> Iterator[tuple[Job, Any]]:
    """Do jobs in child processes; yield each job with its answer as soon as it is done.

    When this ends, for whatever reason, all children end.

    Args:
        do: what a child does with a job.
        jobs: the jobs; one is taken when a child is free.
        seconds: time limit of one item.
        workers: processes.
        fork: copy this process instead of starting another. That is faster, and only safe while
            this process has no other threads.
        on_items: called repeatedly with the number of items that are done.

    Raises:
        ProcessError: children die again and again, for no reason that could be found.
        NnpipeError: the error that stopped a child.
    """
    if os.name == "nt":  # which has neither fork nor process groups
        yield from ((job, do(job, lambda number: None)) for job in jobs)
        return
    waiting, again, children = iter(jobs), list[Job](), list[_Child]()
    done, looked = 0, time.monotonic()

    def next_job() -> Job | None:
        return again.pop() if again else next(waiting, None)

    try:
        while True:
            while len(children) < workers and (job := next_job()):
                children.append(_Child(job, fork=fork))
            if not children:
                return
            ready = wait([child.pipe for child in children], SECONDS_BETWEEN_LOOKS)
            # When this process was stopped for a while, so were the children, and nobody is late.
            away, looked = time.monotonic() - looked > LONG_AWAY, time.monotonic()
            for child in children:
                child.look(seconds, away=away)
            on_items(done + sum(child.items for child in children))
            for child in [child for child in children if child.pipe in ready]:
                try:
                    answer = child.pipe.recv()
                except (EOFError, OSError):
                    children.remove(child)
                    _judge(child, child.end(), seconds=seconds)
                    again.append(child.job)
                    continue
                if isinstance(answer, BaseException):
                    raise answer
                if child.has_started:
                    if child.job.alone is None:
                        done += child.job.size
                        yield child.job, answer
                    else:
                        child.job.alone = None
                        again.append(child.job)
                    if not (job := next_job()):
                        children.remove(child)
                        child.end()
                        continue
                    child.job = job
                child.give(do)
    finally:
        for child in children:
            child.kill()
        for child in children:
            child.end()


def _judge(child: "_Child", cause: str, *, seconds: float) -> None:
    """Decide which item, if any, is to blame for the death of a child, and what to do next.

    Raises:
        ProcessError: too many children have died at this job.
    """
    job, item = child.job, child.item
    crash = cause in CRASHES or cause.startswith("exit")
    if item >= 0 and child.late is not None:
        job.blamed[item], job.alone = f"reading it took longer than {seconds} seconds", None
        return
    if crash and item in job.suspects:
        job.blamed[item], job.alone = f"reading it ended the process, twice ({cause})", None
        return
    if crash and item >= 0:
        job.suspects.add(item)
        job.alone = item
    job.deaths = job.deaths + 1 if child.reports <= job.most_reports else 1
    job.most_reports = max(job.most_reports, child.reports)
    if job.deaths >= MOST_DEATHS:
        raise ProcessError(
            f"worker processes end again and again ({cause}); give the machine more memory, or use "
            "fewer workers"
        )


class _Child:
    """A child process as its parent sees it.

    Jobs and answers go through a pipe; the first answer says that the child has started. Its
    reports are in memory that both share, as three numbers: the number of the item that it works
    on, −1 if none; how many reports it has made; and how many of them said that an item is done.
    """

    def __init__(self, job: Job, *, fork: bool) -> None:
        self.job, self.has_started = job, False
        reports = _shared_memory()
        self._reports = memoryview(mmap.mmap(reports, 24)).cast("q")
        self._reports[0] = -1
        self._note()
        self.late: int | None = None  # the item that took too long
        self.pipe, pipe = Pipe()
        self._errors, errors = os.pipe()
        # Nobody waits here: what a child writes to stderr when this pipe is full is lost.
        os.set_blocking(self._errors, False)
        os.set_blocking(errors, False)
        self._process: subprocess.Popen[bytes] | None = None
        try:
            if fork:
                self._pid = _fork(pipe, reports)
                return
            self._process = subprocess.Popen(
                [*START, *map(str, (os.getpid(), pipe.fileno(), reports))],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                pass_fds=(pipe.fileno(), reports),
                env=os.environ | ENVIRONMENT,
                start_new_session=True,
            )
            self._pid = self._process.pid
        except OSError as error:
            why = error.strerror or error
            raise ProcessError(f"a worker process cannot be started ({why})") from error
        finally:
            pipe.close()
            os.close(reports)
            os.close(errors)

    def _note(self) -> None:
        """Note what it has done up to now."""
        self._before = self._reports.tolist()
        self._last_report = self._reports[1], time.monotonic()

    def give(self, do: Do) -> None:
        """Have its job done."""
        self.has_started = True
        self._note()
        with suppress(ConnectionError):  # it is dead, as the next answer shows
            self.pipe.send((do, self.job))

    @property
    def items(self) -> int:
        """How many items of its job are done."""
        return min(self._reports[2] - self._before[2], self.job.size)

    def look(self, seconds: float, *, away: bool) -> None:
        """Kill it if its item takes longer than ``seconds``, unless this process was suspended."""
        item, reports, _ = self._reports
        if away or reports != self._last_report[0]:
            self._last_report = reports, time.monotonic()
            return
        limit = seconds if item >= 0 else seconds * BETWEEN_ITEMS
        if time.monotonic() - self._last_report[1] > limit:
            self.late = item
            self.kill()

    def kill(self) -> None:
        """Kill it, and what it has started."""
        for send in (os.killpg, os.kill):
            with suppress(ProcessLookupError, PermissionError):
                send(self._pid, signal.SIGKILL)

    def end(self) -> str:
        """Kill it unless it is dead, and return what it died of: a signal, or an exit code."""
        self.kill()  # which changes nothing for a process that is already ending
        code = -signal.SIGKILL.value
        for _ in range(1000):  # a file system may not let it go
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                break
            time.sleep(0.001)
        if self._process:
            self._process.returncode = code
        self.item = self._reports[0] if self.late is None else self.late
        self.reports = self._reports[1] - self._before[1]
        self._reports.release()
        last_words = b""
        with suppress(BlockingIOError):
            last_words = os.read(self._errors, 2**16)
        os.close(self._errors)
        self.pipe.close()
        if code < 0:
            return next((s.name for s in signal.Signals if s == -code), f"signal {-code}")
        last_lines = last_words.decode(errors="replace").split("\n")[-3:]
        return f"exit code {code}: {' '.join(last_lines).strip()}"


def _shared_memory() -> int:
    """Return a file of three zeros that more than one process can map.

    Raises:
        OutputError: there is no room for it.
    """
    try:
        if hasattr(os, "memfd_create"):  # which takes no room on a disk
            file = os.memfd_create("nnpipe")
        else:
            with tempfile.TemporaryFile() as opened:
                file = os.dup(opened.fileno())
        os.write(file, bytes(24))
        return file
    except OSError as error:
        raise cannot_write(Path(tempfile.gettempdir()), error) from error


# --- the child's side -----------------------------------------------------------------------------


def main() -> None:
    """Do jobs as a process of its own, which `START` starts."""
    parent, pipe, reports = map(int, sys.argv[1:])
    tie_to(parent)
    _serve(Connection(pipe), reports)


def _fork(pipe: Connection, reports: int) -> int:
    """Do jobs in a copy of this process; return its number."""
    parent = os.getpid()
    with warnings.catch_warnings():  # of BLAS's threads, which are not used in the copy
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if not pid:
        try:
            tie_to(parent)
            os.setsid()
            _serve(pipe, reports)
        finally:
            os._exit(1)
    return pid


def tie_to(parent: int) -> None:
    """End this process when its parent ends, in whatever way."""
    set_death_signal = 1  # PR_SET_PDEATHSIG of linux/prctl.h
    if sys.platform != "linux" or ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL):
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it had ended before
        os._exit(1)


def _follow(parent: int) -> None:
    """End this process when the parent has ended, where the system does not."""
    while os.getppid() == parent:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    os._exit(1)


def _serve(pipe: Connection, reports_file: int) -> None:
    """Do jobs until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the parent decides
    warnings.filterwarnings("ignore", module="PIL")
    reports = memoryview(mmap.mmap(reports_file, 24)).cast("q")
    _limit_memory()

    def on_item(number: int) -> None:
        reports[0] = number
        reports[1] += 1
        if number < 0:
            reports[2] += 1

    answer: Any = None
    while True:
        pipe.send(answer)
        do, job = pipe.recv()
        try:
            answer = do(job, on_item)
        except NnpipeError as error:
            answer = error
        except OSError as error:
            where = Path(error.filename or tempfile.gettempdir())
            answer = cannot_write(where, error) if is_full(error) else error
        except Exception:
            answer = RuntimeError(traceback.format_exc())
        reports[0] = -1


def _limit_memory() -> None:
    with suppress(OSError, ValueError, ImportError):  # no /proc, no limit
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
