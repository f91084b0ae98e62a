"""The shards of a plan, done by worker processes."""

from collections.abc import Callable, Sequence

from nnpipe import processes
from nnpipe.errors import ProcessError, ScoringError
from nnpipe.processes import Job, cores
from nnpipe.scoring.plan import Plan
from nnpipe.scoring.shard import score_shard
from nnpipe.scoring.worker import work

__all__ = ["cores", "run_shards"]

OnRows = Callable[[int], None]


def run_shards(plan: Plan, shards: Sequence[int], workers: int, on_rows: OnRows) -> None:
    """Score shards in worker processes.

    When this is interrupted, or fails, no worker goes on, and what is done stays done.

    Args:
        plan: what the shards are of.
        shards: their numbers.
        workers: how many processes; each computes on one core.
        on_rows: called again and again with the number of rows that are done.

    Raises:
        ScoringError: workers die again and again, for no reason that could be found.
        NnpipeError: what a worker could not go on with, such as a full disk.
    """
    if "memory://" in f"{plan.reader} {plan.out}":  # which no other process can see
        for number, shard in enumerate(shards, 1):
            score_shard(plan, shard, plan.classifier())
            on_rows(plan.files_of(shards[:number]))
        return
    state, rows = str(plan.state), 0

    def on_answer(job: Job, answer: None) -> None:
        nonlocal rows
        rows += job.size
        on_rows(rows)

    jobs = (Job((state, plan.id, shard), plan.files_of([shard])) for shard in shards)
    try:
        processes.run(
            work,
            jobs,
            on_answer,
            plan.reader.seconds,
            workers,
            on_items=lambda items: on_rows(rows + items),
        )
    except ProcessError as error:
        raise ScoringError(f"{plan.out}: {error}; what is done is kept") from None
