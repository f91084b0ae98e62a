"""A process that scores shards, one after the other, as `pool` asks it to.

It is a process of its own so that no picture can do more than end it. The parent ends it when a
picture takes too long, and the system refuses it memory beyond a limit; what it is reading, it
leaves in two marks that both processes see: the number of the file in its shard, −1 if none, and
how many marks there were before.

It reads jobs from stdin, a line of JSON each, and writes what happens to stdout:

    → {"state": …, "plan": …, "shard": 3, "blamed": {"17": "reading it took …"}}
    ← {}                                             when it is done
    ← {"error": "OutputError", "message": …}         when it cannot be
"""

import json
import mmap
import os
import resource
import signal
import sys
import threading
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

SECONDS_BETWEEN_LOOKS = 0.5


def main(mark_file: int) -> None:
    """Do jobs until stdin ends, or the process that wrote them has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the parent decides
    warnings.filterwarnings("ignore", module="PIL")
    threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()
    # Nothing but what is meant to may reach the parent.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    marks = memoryview(mmap.mmap(mark_file, 16)).cast("q")
    _limit_memory()
    plan: Plan | None = None

    def mark(number: int) -> None:
        marks[0] = number
        marks[1] += 1

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
            blamed = {int(number): reason for number, reason in job["blamed"].items()}
            score_shard(plan, job["shard"], classifier, blamed, mark)
            tell()
        except NnpipeError as error:
            tell(error=type(error).__name__, message=str(error))
        except Exception:
            tell(error="", message=traceback.format_exc())


def _follow(parent: int) -> None:
    """End when the parent has ended, whatever it died of."""
    while os.getppid() == parent:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    os._exit(1)


def _limit_memory() -> None:
    with suppress(OSError, ValueError):  # where there is no /proc, there is no limit either
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
