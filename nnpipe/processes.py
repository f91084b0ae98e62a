"""Work in child processes: limited in time and memory, and ended with this process.

A child may die of what it works on, or of something else: a machine short of memory, a person's
kill. Its job is then done again. An item that crashes its child is tried once more, alone, before
it is blamed. A child that was killed from outside blames no item.
"""

import ctypes
import errno
import mmap
import os
import pickle
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnpipe.errors import NnpipeError, ProcessError
from nnpipe.files import cannot_write

MEMORY = 2 * 2**30
"""Bytes a child may take beyond what it has at its start. A picture of 100 million pixels takes up
to 1.6 GB."""

MOST_DEATHS = 5
"""Deaths of one job, without progress between them, after which the run ends with an error."""

SECONDS_BETWEEN_LOOKS = 0.1

LONG_AWAY = 2
"""Seconds between two looks after which this process must have been stopped, and nobody is late."""

UNMARKED = 10
"""Times the limit of one item: what a child may take for all that belongs to no item."""

CRASHES = {"SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS"}
"""Signals that a process brings upon itself. All others come from outside."""

ENVIRONMENT = {
    # Each process has one core to compute on; threads beside it would only be in its way.
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "VECLIB_MAXIMUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",  # which asks for no more memory than it needs
    # Else glibc takes 64 MB of addresses for each thread that fetches, and the limit is reached.
    "MALLOC_ARENA_MAX": "1",
    # glibc is to keep what it has for the next batch: that makes small pictures a tenth faster.
    "MALLOC_MMAP_THRESHOLD_": str(2**27),
    "MALLOC_TRIM_THRESHOLD_": str(2**28),
    "MALLOC_TOP_PAD_": str(2**24),
}

# Nothing in the working folder is imported, and the program that runs is not run again. The first
# lines are those of `_tie_to`: what is imported next takes a while.
START = [
    *(sys.executable, "-P", "-c"),
    "import ctypes, os, sys\n"
    "if sys.platform == 'linux': ctypes.CDLL(None).prctl(1, 9)\n"
    "if os.getppid() != int(sys.argv[1]): os._exit(1)\n"
    f"sys.path.append({str(Path(__file__).parents[1])!r})\n"
    "from nnpipe.processes import main; main(*map(int, sys.argv[1:]))",
]

Mark = Callable[[int], None]
"""Called with the number of the item that is worked on next, −1 when there is none."""


@dataclass
class Job:
    """Numbered items that one child works on, in any order, and what its deaths have shown."""

    content: Any  # what the child needs to know; it can be pickled
    size: int  # items
    key: Any = None  # what the caller knows the job by
    blamed: dict[int, str] = field(default_factory=dict)  # items not to be touched, and why
    alone: int | None = None  # the one item to try; that answer is thrown away
    suspects: set[int] = field(default_factory=set)  # items that have crashed a child once
    deaths: int = 0  # without progress
    made: int = -1  # the most marks that a child has made before it died


Function = Callable[[Any], Any]

Do = Callable[[Job, Mark], Any]
"""What a child does with a job: a function that can be imported by its name."""


def cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def over(
    function: Function,
    items: Sequence[Any],
    *,
    seconds: float,
    workers: int,
    batch: int = 1,
) -> list[Any]:
    """Call a function with each item in child processes.

    Args:
        function: one that can be imported by its name.
        items: what can be pickled.
        seconds: how long one item may take.
        workers: processes.
        batch: items that a child gets at once.

    Returns:
        For each item its result, or the `NnpipeError` that the function raised, or a
        `ProcessError` if the item took too long or crashed the child.

    Raises:
        ProcessError: children die again and again, for no reason that could be found.
    """
    parts = [items[first : first + batch] for first in range(0, len(items), batch)]
    jobs = [Job((function, part), len(part), number) for number, part in enumerate(parts)]
    results: dict[int, list[Any]] = {}

    def on_answer(job: Job, answer: list[Any]) -> None:
        results[job.key] = answer

    run(apply, jobs, on_answer, seconds=seconds, workers=workers)
    return [result for number in range(len(parts)) for result in results[number]]


def apply(job: Job, mark: Mark) -> list[Any]:
    """Call the function of a job with its items."""
    function, items = job.content
    results: list[Any] = []
    for number in range(len(items)) if job.alone is None else [job.alone]:
        if number in job.blamed:
            results.append(ProcessError(job.blamed[number]))
            continue
        mark(number)
        try:
            results.append(function(items[number]))
        except NnpipeError as error:
            results.append(error)
        mark(-1)
    return results


def run(
    do: Do,
    jobs: Iterable[Job],
    on_answer: Callable[[Job, Any], None],
    *,
    seconds: float,
    workers: int,
    fork: bool = False,
    on_items: Callable[[int], None] = lambda items: None,
) -> None:
    """Have jobs done by child processes. None of them goes on when this ends, however it ends.

    Args:
        do: what a child does with a job.
        jobs: the jobs; one is taken when a child is free.
        on_answer: called with a job and the answer to it.
        seconds: how long one item may take.
        workers: processes.
        fork: copy this process instead of starting another. That is faster, and only safe while
            this process has no other threads.
        on_items: called again and again with the number of items that are done in unfinished jobs.

    Raises:
        ProcessError: children die again and again, for no reason that could be found.
        NnpipeError: what a child could not go on with.
    """
    if os.name == "nt":  # which has neither fork nor poll
        for each in jobs:
            on_answer(each, do(each, lambda number: None))
        return
    waiting, again, children = iter(jobs), list[Job](), list[_Child]()
    looked = time.monotonic()

    def next_job() -> Job | None:
        return again.pop() if again else next(waiting, None)

    try:
        while True:
            while len(children) < workers and (job := next_job()):
                children.append(_Child(fork))
                children[-1].give(do, job)
            if not children:
                return
            ready = _wait(children)
            # When this process was stopped for a while, so were the children, and nobody is late.
            away, looked = time.monotonic() - looked > LONG_AWAY, time.monotonic()
            for child in children:
                child.look(seconds, away)
            on_items(sum(child.items for child in children))
            for child in ready:
                try:
                    answer = child.read()
                except EOFError:
                    children.remove(child)
                    _judge(child, child.end(), seconds)
                    again.append(child.job)
                    continue
                if child.busy:  # the answer is not whole yet
                    continue
                if isinstance(answer, BaseException):
                    raise answer
                if child.job.alone is None:
                    on_answer(child.job, answer)
                else:
                    child.job.alone = None
                    again.append(child.job)
                if job := next_job():
                    child.give(do, job)
                else:
                    children.remove(child)
                    child.end()
    finally:
        for child in children:
            child.kill()
        for child in children:
            child.end()


def _judge(child: "_Child", how: str, seconds: float) -> None:
    """Find out which item is to blame for the death of a child, and how its job goes on.

    Raises:
        ProcessError: too many have died.
    """
    job, item = child.job, child.item
    crash = how in CRASHES or how.startswith("exit")
    if item >= 0 and child.late is not None:
        job.blamed[item], job.alone = f"reading it took longer than {seconds} seconds", None
        return
    if crash and item in job.suspects:
        job.blamed[item], job.alone = f"reading it ended the process, twice ({how})", None
        return
    if crash and item >= 0:
        job.suspects.add(item)
        job.alone = item
    job.deaths = job.deaths + 1 if child.made <= job.made else 1
    job.made = max(job.made, child.made)
    if job.deaths >= MOST_DEATHS:
        raise ProcessError(
            f"worker processes end again and again ({how}); give the machine more memory, or use "
            "fewer workers"
        )


def _wait(children: "Sequence[_Child]") -> "list[_Child]":
    """Wait for answers, a short while; which children have some, or are dead."""
    poll = select.poll()
    for child in children:
        poll.register(child.answers, select.POLLIN)
        if child.unsent:
            poll.register(child.jobs, select.POLLOUT)
    events = dict(poll.poll(SECONDS_BETWEEN_LOOKS * 1000))
    for child in children:
        if child.jobs in events:
            child.write()
    return [child for child in children if child.answers in events]


class _Child:
    """A child process as its parent sees it.

    Jobs and answers go through two pipes. What the child works on stands in memory that both
    share, as three numbers: the item's number, −1 if none; how many marks there were; and how many
    of them said that an item is done.
    """

    def __init__(self, fork: bool) -> None:
        marks = _shared_memory()
        self._marks = memoryview(mmap.mmap(marks, 24)).cast("q")
        self._marks[0] = -1
        jobs, self.jobs = os.pipe()
        self.answers, answers = os.pipe()
        self._errors, errors = os.pipe()
        # Nobody waits here. What the child writes to stderr when that pipe is full is lost.
        for end in (self.jobs, self._errors, errors):
            os.set_blocking(end, False)
        self.busy = False
        self.unsent = b""
        self._received = bytearray()
        self.late: int | None = None  # the item that took too long
        self._process: subprocess.Popen[bytes] | None = None
        try:
            if fork:
                self._pid = _fork(jobs, answers, marks, self.jobs)
                return
            self._process = subprocess.Popen(
                [*START, *map(str, (os.getpid(), jobs, answers, marks))],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                pass_fds=(jobs, answers, marks),
                env=os.environ | ENVIRONMENT,
                start_new_session=True,
            )
            self._pid = self._process.pid
        except OSError as error:
            why = error.strerror or error
            raise ProcessError(f"a worker process cannot be started ({why})") from error
        finally:
            for end in (jobs, answers, marks, errors):
                os.close(end)

    def give(self, do: Do, job: Job) -> None:
        """Have a job done."""
        self.job, self.busy, self.unsent = job, True, pickle.dumps((do, job))
        self._begun = self._marks.tolist()
        self._seen = self._marks[1], time.monotonic()

    def write(self) -> None:
        """Send as much of the job as the pipe takes."""
        try:
            self.unsent = self.unsent[os.write(self.jobs, self.unsent[: 2**20]) :]
        except BrokenPipeError:
            self.unsent = b""  # it is dead, as the other pipe will tell

    def read(self) -> Any:
        """Take what has come of the answer; when it is whole, the child is busy no more.

        Raises:
            EOFError: the child is dead.
        """
        data = os.read(self.answers, 2**20)
        if not data:
            raise EOFError
        self._received += data
        if len(self._received) < 8 + int.from_bytes(self._received[:8], "big"):
            return None
        answer = pickle.loads(self._received[8:])  # noqa: S301 (nnpipe has written it)
        self._received.clear()
        self.busy = False
        return answer

    @property
    def items(self) -> int:
        """How many items of its job are done."""
        return min(self._marks[2] - self._begun[2], self.job.size) if self.busy else 0

    def look(self, seconds: float, away: bool) -> None:
        """Kill it if one item takes longer than this, and nobody was away."""
        item, marks, _ = self._marks
        if away or marks != self._seen[0]:
            self._seen = marks, time.monotonic()
        elif time.monotonic() - self._seen[1] > seconds * (1 if item >= 0 else UNMARKED):
            self.late = item
            self.kill()

    def kill(self) -> None:
        """Kill it, and what it has started."""
        for send in (os.killpg, os.kill):
            with suppress(ProcessLookupError, PermissionError):
                send(self._pid, signal.SIGKILL)

    def end(self) -> str:
        """Kill it unless it is dead, and say what it died of: a signal, or an exit code."""
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
        self.item = self._marks[0] if self.late is None else self.late
        self.made = self._marks[1] - self._begun[1]
        self._marks.release()
        said = b""
        with suppress(BlockingIOError):
            said = os.read(self._errors, 2**16)
        for end in (self.jobs, self.answers, self._errors):
            os.close(end)
        if code < 0:
            return next((s.name for s in signal.Signals if s == -code), f"signal {-code}")
        last = said.decode(errors="replace").split("\n")[-3:]
        return f"exit code {code}: {' '.join(last).strip()}"


def _shared_memory() -> int:
    """A file of three zeros that can be mapped by more than one process.

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


def main(parent: int, jobs: int, answers: int, marks: int) -> None:
    """Do jobs as a process of its own, which `START` starts."""
    _tie_to(parent)
    _serve(jobs, answers, marks)


def _fork(jobs: int, answers: int, marks: int, other_end: int) -> int:
    """Do jobs in a copy of this process; its number."""
    parent = os.getpid()
    with warnings.catch_warnings():  # of BLAS's threads, which are not used in the copy
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if not pid:
        try:
            _tie_to(parent)
            os.setsid()
            os.close(other_end)
            _serve(jobs, answers, marks)
        finally:
            os._exit(1)
    return pid


def _tie_to(parent: int) -> None:
    """Have this process end when its parent ends, whatever that dies of."""
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


def _serve(jobs: int, answers: int, mark_file: int) -> None:
    """Do jobs until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the parent decides
    warnings.filterwarnings("ignore", module="PIL")
    marks = memoryview(mmap.mmap(mark_file, 24)).cast("q")
    _limit_memory()

    def mark(number: int) -> None:
        marks[0] = number
        marks[1] += 1
        if number < 0:
            marks[2] += 1

    answer: Any
    with open(jobs, "rb", closefd=False) as asked, open(answers, "wb", closefd=False) as answered:
        while True:
            do, job = pickle.load(asked)  # noqa: S301 (the parent has written it)
            try:
                answer = do(job, mark)
            except NnpipeError as error:
                answer = error
            except OSError as error:
                full = error.errno in (errno.ENOSPC, errno.EDQUOT)
                where = Path(error.filename or tempfile.gettempdir())
                answer = cannot_write(where, error) if full else error
            except Exception:
                answer = RuntimeError(traceback.format_exc())
            marks[0] = -1
            content = pickle.dumps(answer)
            answered.write(len(content).to_bytes(8, "big") + content)
            answered.flush()


def _limit_memory() -> None:
    with suppress(OSError, ValueError, ImportError):  # no /proc, no limit
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
