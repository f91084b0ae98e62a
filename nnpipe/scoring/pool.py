"""The shards of a plan, done by worker processes."""

from collections.abc import Callable, Sequence
from functools import lru_cache

from nnpipe.classifier import Classifier
from nnpipe.errors import ProcessError, ScoringError
from nnpipe.places import place
from nnpipe.processes import Job, OnItem, run
from nnpipe.scoring.plan import Plan, load_plan
from nnpipe.scoring.shard import score_shard, try_file

OnRows = Callable[[int], None]


def run_shards(
    plan: Plan, shards: Sequence[int], *, workers: int, on_rows: OnRows = lambda rows: None
) -> None:
    """Score shards in worker processes.

    If this is interrupted or fails, all workers end, and finished shards are kept.

    Args:
        plan: the plan of the shards.
        shards: their numbers.
        workers: number of processes; each computes on one core.
        on_rows: called repeatedly with the number of rows that are done.

    Raises:
        ScoringError: workers die again and again, for no reason that could be found.
        NnpipeError: the error that stopped a worker, such as a full disk.
    """
    if "memory://" in f"{plan.reader} {plan.out}":  # which no other process can see
        classifier = plan.classifier()
        for number, shard in enumerate(shards, 1):
            score_shard(plan, shard, classifier=classifier)
            on_rows(plan.files_of(shards[:number]))
        return
    jobs = (Job((str(plan.state), plan.id, shard), size=plan.files_of([shard])) for shard in shards)
    seconds = plan.reader.seconds
    try:
        for _ in run(work, jobs, seconds=seconds, workers=workers, on_items=on_rows):
            pass
    except ProcessError as error:
        raise ScoringError(f"{plan.out}: {error}; what is done is kept") from None


def work(job: Job, on_item: OnItem) -> None:
    """Score a shard, or try one of its files; this is what a worker process does.

    Raises:
        ScoringError: the plan has gone.
        OutputError: the rows cannot be written.
    """
    state, plan_id, shard = job.content
    plan, classifier = _opened(state, plan_id)
    if job.alone is None:
        score_shard(plan, shard, classifier=classifier, blamed=job.blamed, on_item=on_item)
    else:
        try_file(plan, shard, number=job.alone, classifier=classifier, on_item=on_item)


@lru_cache(maxsize=1)
def _opened(state: str, plan_id: str) -> tuple[Plan, Classifier]:
    plan = load_plan(place(state))
    if plan is None or plan.id != plan_id:
        raise ScoringError(f"{state}: the plan has gone")
    return plan, plan.classifier()
