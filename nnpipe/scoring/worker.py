"""What a worker process does: score shards, as `pool` asks it to."""

import errno
import tempfile
from functools import lru_cache
from pathlib import Path

from nnpipe.classifier import Classifier
from nnpipe.errors import ScoringError
from nnpipe.files import cannot_write
from nnpipe.places import place
from nnpipe.processes import Job, Mark
from nnpipe.scoring.plan import Plan, load_plan
from nnpipe.scoring.shard import score_shard, try_file


def work(job: Job, mark: Mark) -> None:
    """Score a shard, or try one of its files.

    Raises:
        ScoringError: the plan has gone.
        OutputError: there is no room for the rows, or for a temporary file.
    """
    state, plan_id, shard = job.content
    try:
        plan, classifier = _opened(state, plan_id)
        if job.alone is None:
            score_shard(plan, shard, classifier, job.blamed, mark)
        else:
            try_file(plan, shard, job.alone, classifier, mark)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise cannot_write(Path(error.filename or tempfile.gettempdir()), error) from error
        raise


@lru_cache(maxsize=1)
def _opened(state: str, plan_id: str) -> tuple[Plan, Classifier]:
    plan = load_plan(place(state))
    if plan is None or plan.id != plan_id:
        raise ScoringError(f"{state}: the plan has gone")
    return plan, plan.classifier()
