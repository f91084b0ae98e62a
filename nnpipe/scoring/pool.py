"""Worker processes: they are given shards, watched, and replaced when they die.

A worker may die of a picture, or of something else: a system short of memory, someone's kill. Its
shard is given to another one, from its beginning. When two die of the same file, or one of taking
too long, it is the file, and its row says so.
"""

import json
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import IO, cast

from nnpipe import errors
from nnpipe.errors import ScoringError
from nnpipe.scoring.plan import Plan
from nnpipe.scoring.shard import score_shard

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

# Nothing in the working folder is imported, whatever its name.
START = [
    *(sys.executable, "-P", "-c"),
    f"import sys; sys.path.append({str(Path(__file__).parents[2])!r}); "
    "from nnpipe.scoring.worker import main; main(int(sys.argv[1]))",
]

MOST_DEATHS = 5
"""So many deaths in one shard that no file is to blame for, and something else is wrong."""

TOO_LONG = signal.SIGALRM
"""What a worker is ended with that reads one file for too long."""

SECONDS_BETWEEN_LOOKS = 0.1

LONG_AWAY = 2
"""More seconds than this between two looks, and this process must have been stopped."""

OnRows = Callable[[int], None]


def cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_shards(plan: Plan, shards: Sequence[int], workers: int, on_rows: OnRows) -> None:
    """Score shards in worker processes.

    When this is interrupted, or fails, no worker goes on, and what is done stays done.

    Args:
        plan: what the shards are of.
        shards: their numbers.
        workers: how many processes; each computes on one core.
        on_rows: is told the number of rows that are done, again and again.

    Raises:
        ScoringError: workers die again and again, for no reason that could be found.
        NnpipeError: what a worker could not go on with, such as a full disk.
    """
    if "memory://" in f"{plan.reader} {plan.out}":  # which no other process can see
        for number, shard in enumerate(shards, 1):
            score_shard(plan, shard, plan.classifier())
            on_rows(plan.files_of(shards[:number]))
        return
    pool = _Pool(plan, shards)
    with ThreadPoolExecutor(workers) as threads:
        try:
            futures = [threads.submit(pool.work) for _ in range(min(workers, len(shards)))]
            going = True
            while going:
                going = bool(wait(futures, SECONDS_BETWEEN_LOOKS, FIRST_EXCEPTION).not_done)
                on_rows(pool.look())
                for future in futures:
                    if future.done():
                        future.result()  # raises what it has raised
        finally:
            pool.stop()


class _Pool:
    """What the threads share, each of which looks after one worker."""

    def __init__(self, plan: Plan, shards: Sequence[int]) -> None:
        self._plan = plan
        self._left = iter(shards)
        self._done = 0  # rows
        self._workers: list[_Worker] = []
        self._stopped = False
        self._looked = time.monotonic()
        self._lock = threading.Lock()

    def work(self) -> None:
        """Have shards done while there are any."""
        worker = self._start()
        try:
            while worker and (shard := self._next()) is not None:
                worker = self._see_done(worker, shard)
        finally:
            if worker:
                worker.close()

    def _see_done(self, worker: "_Worker | None", shard: int) -> "_Worker | None":
        """Have a shard done, by one worker after the other if need be; the last one comes back."""
        blamed: dict[int, str] = {}
        deaths = Counter[int]()
        while worker and not worker.do(self._plan, shard, blamed):
            number, how = worker.last_words()
            deaths[number] += 1
            if number >= 0 and how == TOO_LONG.name:
                blamed[number] = f"reading it took longer than {self._plan.reader.seconds} seconds"
            elif number >= 0 and deaths[number] == 2:
                blamed[number] = f"reading it ended the process, twice ({how})"
            elif sum(n for number, n in deaths.items() if number not in blamed) >= MOST_DEATHS:
                raise ScoringError(
                    f"{self._plan.out}: worker processes end again and again ({how}); give the "
                    "machine more memory, or use fewer workers; what is done is kept"
                )
            worker = self._start(worker)
        if worker:
            with self._lock:
                self._done += self._plan.files_of([shard])
                worker.finish()
        return worker

    def look(self) -> int:
        """End the workers that have been reading one file for too long; how many rows are done."""
        now = time.monotonic()
        with self._lock:
            # When this process was stopped for a while, so were the workers, and nobody is late.
            away, self._looked = now - self._looked > LONG_AWAY, now
            for worker in self._workers:
                worker.look(self._plan.reader.seconds, away)
            return self._done + sum(worker.rows for worker in self._workers)

    def stop(self) -> None:
        """End all workers at once."""
        with self._lock:
            self._stopped = True
            for worker in self._workers:
                worker.process.kill()
            for worker in self._workers:
                with suppress(subprocess.TimeoutExpired):  # a file system may not let it go
                    worker.process.wait(timeout=1)

    def _next(self) -> int | None:
        with self._lock:
            return next(self._left, None)

    def _start(self, instead: "_Worker | None" = None) -> "_Worker | None":
        with self._lock:
            if instead:
                self._workers.remove(instead)
            if self._stopped:
                return None
            self._workers.append(_Worker())
            return self._workers[-1]


class _Worker:
    """A worker process; what its marks are, `worker` says."""

    def __init__(self) -> None:
        self._begun = 0  # marks when its shard was begun
        self._seen = (0, time.monotonic())  # marks at the last look that found new ones, and when
        self._late: int | None = None  # the file for which it was ended
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the worker)
        with tempfile.TemporaryFile() as shared:  # both processes keep what is mapped
            shared.truncate(16)
            self._marks = memoryview(mmap.mmap(shared.fileno(), 16)).cast("q")
            self._marks[0] = -1
            self.process = subprocess.Popen(
                [*START, str(shared.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                pass_fds=[shared.fileno()],
                env=os.environ | ENVIRONMENT,
                text=True,
            )
        self._jobs = cast(IO[str], self.process.stdin)
        self._answers = cast(IO[str], self.process.stdout)

    def do(self, plan: Plan, shard: int, blamed: dict[int, str]) -> bool:
        """Have a shard done; False if the worker dies of it.

        Raises:
            NnpipeError: what the worker could not go on with.
        """
        job = {"state": str(plan.state), "plan": plan.id, "shard": shard, "blamed": blamed}
        try:
            self._jobs.write(json.dumps(job) + "\n")
            self._jobs.flush()
        except BrokenPipeError:
            return False
        answer = self._answers.readline()
        if answer and (failed := json.loads(answer)):
            raise getattr(errors, failed["error"], RuntimeError)(failed["message"])
        return bool(answer)

    @property
    def rows(self) -> int:
        """How many rows of its shard are done, nearly: every file is marked twice."""
        return (self._marks[1] - self._begun) // 2

    def finish(self) -> None:
        """Count rows from here on."""
        self._begun = self._marks[1]

    def look(self, seconds: float, away: bool) -> None:
        """End it if it has been reading one file for longer than this, and nobody was away."""
        number, marks = self._marks
        if number < 0 or away or marks != self._seen[0]:
            self._seen = marks, time.monotonic()
        elif time.monotonic() - self._seen[1] > seconds and self._late is None:
            self._late = number
            self.process.send_signal(TOO_LONG)

    def last_words(self) -> tuple[int, str]:
        """The number of the file that was being read when it died, −1 if none, and of what."""
        code = self.process.wait()
        self._stderr.seek(0)
        told = self._stderr.read().decode(errors="replace").split("\n")
        self.close()
        number = self._marks[0] if self._late is None else self._late
        if code < 0:
            known = {known.value: known.name for known in signal.Signals}
            return number, known.get(-code, f"signal {-code}")
        return number, f"exit code {code}: {' '.join(told[-3:]).strip()}"

    def close(self) -> None:
        """Let it end, as it does when there are no more jobs."""
        with suppress(BrokenPipeError):
            self._jobs.close()
        self.process.wait()
        self._answers.close()
        self._stderr.close()
