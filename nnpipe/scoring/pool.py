"""Worker processes: they are given shards, watched, and replaced when they die.

A worker may die of a picture, or of something else: a system short of memory, someone's kill. Its
shard is given to another one, from its beginning. When two die of the same file, or one of taking
too long, it is the file, and its row says so.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import IO, Any, cast

from nnpipe import errors
from nnpipe.errors import ScoringError
from nnpipe.scoring.plan import Plan
from nnpipe.scoring.shard import score_shard

ENVIRONMENT = {
    # Each process has one core to compute on; threads beside it would only be in its way.
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "VECLIB_MAXIMUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",  # which asks for no more memory than it needs
}

# Nothing in the working folder is imported, whatever its name.
START = [
    *(sys.executable, "-P", "-c"),
    f"import sys; sys.path.append({str(Path(__file__).parents[2])!r}); "
    "from nnpipe.scoring.worker import main; main(int(sys.argv[1]))",
]

MOST_DEATHS = 5
"""So many deaths in one shard that no file is to blame for, and something else is wrong."""

SECONDS_BETWEEN_LOOKS = 0.1

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
            on_rows(sum(map(plan.files_of, shards[:number])))
        return
    pool = _Pool(plan, shards)
    with ThreadPoolExecutor(workers) as threads:
        try:
            futures = [threads.submit(pool.work) for _ in range(min(workers, len(shards)))]
            while wait(futures, SECONDS_BETWEEN_LOOKS, FIRST_EXCEPTION).not_done:
                on_rows(sum(pool.rows.values()))
                for future in futures:
                    if future.done():
                        future.result()  # raises what it has raised
            for future in futures:
                future.result()
        finally:
            pool.stop()
    on_rows(sum(pool.rows.values()))


class _Pool:
    """What the threads share, each of which looks after one worker."""

    def __init__(self, plan: Plan, shards: Sequence[int]) -> None:
        self.plan = plan
        self.rows: dict[int, int] = dict.fromkeys(shards, 0)  # of each shard
        self._left = iter(shards)
        self._workers: list[_Worker] = []
        self._stopped = False
        self._lock = threading.Lock()

    def stop(self) -> None:
        """End all workers at once."""
        with self._lock:
            self._stopped = True
            for worker in self._workers:
                worker.process.kill()
                worker.process.wait()

    def _start(self) -> "_Worker | None":
        with self._lock:
            if self._stopped:
                return None
            self._workers.append(_Worker())
            return self._workers[-1]

    def _next(self) -> int | None:
        with self._lock:
            return next(self._left, None)

    def work(self) -> None:
        """Have shards done while there are any."""
        worker = self._start()
        while worker and (shard := self._next()) is not None:
            blamed: dict[int, str] = {}
            deaths = Counter[int]()
            while worker and not worker.do(self.plan, shard, blamed, self.rows):
                number, how = worker.last_words()
                deaths[number] += 1
                if number >= 0 and how == "SIGALRM":
                    seconds = self.plan.reader.seconds
                    blamed[number] = f"reading it took longer than {seconds} seconds"
                elif number >= 0 and deaths[number] == 2:
                    blamed[number] = f"reading it ended the process, twice ({how})"
                elif sum(n for number, n in deaths.items() if number not in blamed) >= MOST_DEATHS:
                    raise ScoringError(
                        f"{self.plan.out}: worker processes end again and again ({how}); give the "
                        "machine more memory, or use fewer workers; what is done is kept"
                    )
                self.rows[shard] = 0
                worker = self._start()
        if worker:
            worker.dismiss()


class _Worker:
    """A worker process, see `worker`."""

    def __init__(self) -> None:
        self._marks = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the process)
        self._marks.write((-1).to_bytes(8, "little", signed=True))
        self._marks.flush()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115
        marks = self._marks.fileno()
        self.process = subprocess.Popen(
            [*START, str(marks)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            pass_fds=[marks],
            env=os.environ | ENVIRONMENT,
            text=True,
        )
        self._jobs = cast(IO[str], self.process.stdin)
        self._answers = cast(IO[str], self.process.stdout)

    def do(self, plan: Plan, shard: int, blamed: dict[int, str], rows: dict[int, int]) -> bool:
        """Have a shard done, and keep its number of rows up to date; False if the worker dies."""
        job = {"state": str(plan.state), "plan": plan.id, "shard": shard, "blamed": blamed}
        try:
            self._jobs.write(json.dumps(job) + "\n")
            self._jobs.flush()
        except BrokenPipeError:
            return False
        for line in self._answers:
            answer: dict[str, Any] = json.loads(line)
            if "error" in answer:
                raise getattr(errors, answer["error"], RuntimeError)(answer["message"])
            if "done" in answer:
                rows[shard] = plan.files_of(shard)
                return True
            rows[shard] = answer["rows"]
        return False

    def last_words(self) -> tuple[int, str]:
        """The number of the file that was being read when it died, −1 if none, and of what."""
        code = self.process.wait()
        self._marks.seek(0)
        number = int.from_bytes(self._marks.read(8), "little", signed=True)
        if code < 0:
            return number, signal.Signals(-code).name
        self._stderr.seek(0)
        told = self._stderr.read().decode(errors="replace").split("\n")
        return number, f"exit code {code}: {' '.join(told[-3:]).strip()}"

    def dismiss(self) -> None:
        """Let it end, as it does when there are no more jobs."""
        self._jobs.close()
        self.process.wait()
