"""Work in child processes: limited in time and memory, and ended with this process.

A child may die of what it works on, or of something else: a machine short of memory, a person's
kill. Its job is then done again. An item that crashes its child is tried once more, alone, before
it is blamed. A child that was killed from outside blames no item.
"""

import ctypes
import importlib
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
from typing import Any, NamedTuple

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

CRASHES = {
    signal.Signals[name]
    for name in ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS")
    if hasattr(signal, name)
}
"""Signals that a process brings upon itself. All others come from outside."""

LAST_WORDS = 4096
"""Bytes of a child's stderr that are kept."""

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

# Nothing in the working folder is imported, and the program that runs is not run again.
START = [
    *(sys.executable, "-P", "-c"),
    f"import sys; sys.path.append({str(Path(__file__).parents[1])!r}); "
    "from nnpipe.processes import main; main(*sys.argv[1:])",
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
    marks: int = -1  # the most that a child has made before it died


Do = Callable[[Job, Mark], Any]
"""What a child does with a job: a function that can be imported by its name."""


def cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def over(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    *,
    seconds: float,
    workers: int | None = None,
    batch: int = 1,
) -> list[Any]:
    """Call a function with each item in child processes.

    Args:
        function: one that can be imported by its name.
        items: what can be pickled.
        seconds: how long one item may take.
        workers: processes; by default one for each core.
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
    run(apply, jobs, lambda job, answer: results.update({job.key: answer}), seconds, workers)
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
    seconds: float,
    workers: int | None = None,
    *,
    fork: bool = False,
    on_items: Callable[[int], None] = lambda items: None,
) -> None:
    """Have jobs done by child processes. None of them goes on when this ends, however it ends.

    Args:
        do: what a child does with a job.
        jobs: the jobs; one is taken when a child is free.
        on_answer: called with a job and the answer to it.
        seconds: how long one item may take.
        workers: processes; by default one for each core.
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
    waiting, again = iter(jobs), list[Job]()
    children: list[_Child] = []
    looked = time.monotonic()
    try:
        while True:
            idle = [child for child in children if not child.busy]
            while len(children) - len(idle) < (workers or cores()):
                job = again.pop() if again else next(waiting, None)
                if job is None:
                    break
                if idle:
                    child = idle.pop()
                else:
                    child = _Child(do, fork)
                    children.append(child)
                child.give(job)
            for child in idle:
                children.remove(child)
                child.end()
            if not children:
                return
            ready = _wait(children)
            # When this process was stopped for a while, so were the children, and nobody is late.
            away, looked = time.monotonic() - looked > LONG_AWAY, time.monotonic()
            for child in children:
                child.look(seconds, away)
            on_items(sum(child.items for child in children))
            for child in ready:
                job = child.job
                try:
                    answer = child.read()
                except EOFError:
                    children.remove(child)
                    again.append(job)
                    _judge(job, child.end(), seconds)
                    continue
                if child.busy:  # the answer is not whole yet
                    continue
                if isinstance(answer, BaseException):
                    raise answer
                if job.alone is None:
                    on_answer(job, answer)
                else:
                    job.alone = None
                    again.append(job)
    finally:
        for child in children:
            child.kill()
        for child in children:
            child.end()


class _Death(NamedTuple):
    """How a child ended."""

    item: int  # that it worked on, −1 if none
    marks: int  # that it made in its job
    how: str
    crash: bool
    late: bool


def _judge(job: Job, death: _Death, seconds: float) -> None:
    """Find out which item is to blame for a death, and how the job goes on.

    Raises:
        ProcessError: too many have died.
    """
    if death.item >= 0 and death.late:
        job.blamed[death.item] = f"reading it took longer than {seconds} seconds"
    elif death.item in job.suspects and death.crash:
        job.blamed[death.item] = f"reading it ended the process, twice ({death.how})"
    else:
        if death.item >= 0 and death.crash:
            job.suspects.add(death.item)
            job.alone = death.item
        job.deaths = job.deaths + 1 if death.marks <= job.marks else 1
        job.marks = max(job.marks, death.marks)
        if job.deaths >= MOST_DEATHS:
            raise ProcessError(
                f"worker processes end again and again ({death.how}); give the machine more "
                "memory, or use fewer workers"
            )
        return
    job.alone = None


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

    def __init__(self, do: Do, fork: bool) -> None:
        marks = _shared_memory(24)
        self._marks = memoryview(mmap.mmap(marks, 24)).cast("q")
        self._marks[0] = -1
        jobs, self.jobs = os.pipe()
        self.answers, answers = os.pipe()
        self._errors, errors = os.pipe()
        os.set_blocking(self.jobs, False)
        os.set_blocking(self._errors, False)
        self.busy = False
        self.unsent = b""
        self._received = bytearray()
        self._last_words = b""
        self._late: int | None = None
        self._begun = 0, 0
        self._process: subprocess.Popen[bytes] | None = None
        try:
            if fork:
                self._pid = _fork(do, jobs, answers, marks, self.jobs)
                return
            name = f"{do.__module__}:{do.__qualname__}"
            self._process = subprocess.Popen(
                [*START, name, *map(str, (os.getpid(), jobs, answers, marks))],
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

    def give(self, job: Job) -> None:
        """Have a job done."""
        self.job, self.busy, self.unsent = job, True, pickle.dumps(job)
        self._begun = self._marks[1], self._marks[2]
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
        return min(self._marks[2] - self._begun[1], self.job.size) if self.busy else 0

    def look(self, seconds: float, away: bool) -> None:
        """Kill it if one item takes longer than this, and nobody was away."""
        self._listen()
        number, marks, _ = self._marks
        if away or marks != self._seen[0]:
            self._seen = marks, time.monotonic()
        elif time.monotonic() - self._seen[1] > seconds * (1 if number >= 0 else UNMARKED):
            self._late = number
            self.kill()

    def kill(self) -> None:
        """Kill it, and what it has started."""
        for send in (os.killpg, os.kill):
            with suppress(ProcessLookupError, PermissionError):
                send(self._pid, signal.SIGKILL)

    def end(self) -> _Death:
        """Kill it unless it is dead, and say how it died."""
        self.kill()  # which changes nothing for a process that is already ending
        code = -signal.SIGKILL.value
        with suppress(ChildProcessError):  # another has waited for it
            for _ in range(1000):  # a file system may not let it go
                pid, status = os.waitpid(self._pid, os.WNOHANG)
                if pid:
                    code = os.waitstatus_to_exitcode(status)
                    break
                time.sleep(0.001)
        if self._process:
            self._process.returncode = code
        self._listen()
        for end in (self.jobs, self.answers, self._errors):
            os.close(end)
        crash = True
        if code < 0:
            names = {known.value: known.name for known in signal.Signals}
            how, crash = names.get(-code, f"signal {-code}"), -code in CRASHES
        else:
            said = self._last_words.decode(errors="replace").split("\n")
            how = f"exit code {code}: {' '.join(said[-3:]).strip()}"
        item = self._marks[0] if self._late is None else self._late
        return _Death(item, self._marks[1] - self._begun[0], how, crash, self._late is not None)

    def _listen(self) -> None:
        """Keep the last of what it has written to stderr."""
        with suppress(BlockingIOError):
            while said := os.read(self._errors, 2**16):
                self._last_words = (self._last_words + said)[-LAST_WORDS:]


def _shared_memory(size: int) -> int:
    """A file that can be mapped by more than one process; in memory where that is possible.

    Raises:
        OutputError: there is no room for it.
    """
    try:
        if hasattr(os, "memfd_create"):
            file = os.memfd_create("nnpipe")
        else:
            with tempfile.TemporaryFile() as opened:
                file = os.dup(opened.fileno())
        os.ftruncate(file, size)
    except OSError as error:
        raise cannot_write(Path(os.environ.get("TMPDIR", "/tmp")), error) from error  # noqa: S108
    return file


# --- the child's side -----------------------------------------------------------------------------


def main(name: str, parent: str, jobs: str, answers: str, marks: str) -> None:
    """Do jobs as a process of its own, which `START` starts."""
    _tie_to(int(parent))
    module, _, do = name.partition(":")
    _serve(getattr(importlib.import_module(module), do), int(jobs), int(answers), int(marks))


def _fork(do: Do, jobs: int, answers: int, marks: int, other_end: int) -> int:
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
            _serve(do, jobs, answers, marks)
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


def _serve(do: Do, jobs: int, answers: int, mark_file: int) -> None:
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
    with open(jobs, "rb", closefd=False) as stream:
        while True:
            try:
                job = pickle.load(stream)  # noqa: S301 (the parent has written it)
            except EOFError:
                return
            try:
                answer = do(job, mark)
            except NnpipeError as error:
                answer = error
            except Exception:
                answer = RuntimeError(traceback.format_exc())
            marks[0] = -1
            content = pickle.dumps(answer)
            unsent = memoryview(len(content).to_bytes(8, "big") + content)
            while unsent:
                unsent = unsent[os.write(answers, unsent) :]


def _limit_memory() -> None:
    with suppress(OSError, ValueError, ImportError):  # no /proc, no limit
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
