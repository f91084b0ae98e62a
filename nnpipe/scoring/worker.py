"""A process that scores shards, one after the other, as `pool` asks it to.

It is a process of its own so that no picture can do more than end it. Linux ends it when a picture
takes too long, and refuses it memory beyond a limit; what it was reading then is in its mark.

It reads jobs from stdin, a line of JSON each, and writes what happens to stdout:

    → {"state": …, "plan": …, "shard": 3, "blamed": {"17": "reading it took …"}}
    ← {"rows": 128}  {"rows": 256}  …  {"done": 3}
    ← {"error": "OutputError", "message": …}, and ends
"""

import json
import mmap
import os
import resource
import signal
import sys
import time
import traceback
import warnings
from contextlib import suppress
from pathlib import Path

from nnpipe.errors import NnpipeError, ScoringError
from nnpipe.places import place
from nnpipe.scoring.plan import Plan, load_plan
from nnpipe.scoring.shard import score_shard

MEMORY = 2 * 2**30
"""Bytes that a process may take beyond what it has when it starts: a picture of 100 million pixels
takes up to 1.6 GB."""

SECONDS_BETWEEN_LINES = 0.2


def main(mark_file: int) -> None:
    """Do jobs until stdin ends, or the process that wrote them has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the parent decides
    warnings.filterwarnings("ignore", module="PIL")
    parent = os.getppid()
    # Nothing but what is meant to may reach the parent.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    marks = mmap.mmap(mark_file, 8)
    _limit_memory()
    plan: Plan | None = None

    def tell(**answer: object) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    for line in sys.stdin:
        job = json.loads(line)
        try:
            if plan is None or plan.id != job["plan"]:
                plan = load_plan(place(job["state"]))
                if plan is None or plan.id != job["plan"]:
                    raise ScoringError(f"{job['state']}: the plan has gone")
                classifier = plan.classifier()
            limit = plan.reader.seconds
            told = time.monotonic()

            def mark(number: int, limit: float = limit) -> None:
                if os.getppid() != parent:
                    os._exit(1)
                marks[:] = number.to_bytes(8, "little", signed=True)
                signal.setitimer(signal.ITIMER_REAL, limit if number >= 0 else 0)

            def on_rows(rows: int) -> None:
                nonlocal told
                if time.monotonic() - told > SECONDS_BETWEEN_LINES:
                    tell(rows=rows)
                    told = time.monotonic()

            blamed = {int(number): reason for number, reason in job["blamed"].items()}
            score_shard(plan, job["shard"], classifier, blamed, mark, on_rows)
            tell(done=job["shard"])
        except NnpipeError as error:
            tell(error=type(error).__name__, message=str(error))
        except Exception:
            tell(error="", message=traceback.format_exc())


def _limit_memory() -> None:
    with suppress(OSError, ValueError):  # where there is no /proc, there is no limit either
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
