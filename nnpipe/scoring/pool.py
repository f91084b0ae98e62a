"""The shards of a plan, done by worker processes."""

from collections.abc import Callable, Sequence
from functools import lru_cache

from nnpipe.classifier import Classifier
from nnpipe.errors import ProcessError, ScoringError
from nnpipe.places import place
from nnpipe.processes import Job, OnItem, cores, run
from nnpipe.scoring.plan import Plan, load_plan
from nnpipe.scoring.shard import score_shard, try_file

__all__ = ["cores", "run_shards"]

OnRows = Callable[[int], None]


def run_shards(
    plan: Plan,
    shards: Sequence[int],
    *,
    workers: int,
    on_rows: OnRows = lambda rows: None,
) -> None:
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
    content, seconds = (str(plan.state), plan.id), plan.reader.seconds
    jobs = (Job((*content, shard), plan.files_of([shard])) for shard in shards)
    try:
        for _ in run(work, jobs, seconds=seconds, workers=workers, on_items=on_rows):
            pass
    except ProcessError as error:
        raise ScoringError(f"{plan.out}: {error}; what is done is kept") from None


def work(job: Job, mark: OnItem) -> None:
    """Score a shard, or try one of its files; this is what a worker process does.

    Raises:
        ScoringError: the plan has gone.
        OutputError: the rows cannot be written.
    """
    *of_plan, shard = job.content
    plan, classifier = _opened(*of_plan)
    if job.alone is None:
        score_shard(plan, shard, classifier, job.blamed, mark)
    else:
        try_file(plan, shard, job.alone, classifier, mark)


@lru_cache(maxsize=1)
def _opened(state: str, plan_id: str) -> tuple[Plan, Classifier]:
    plan = load_plan(place(state))
    if plan is None or plan.id != plan_id:
        raise ScoringError(f"{state}: the plan has gone")
    return plan, plan.classifier()
