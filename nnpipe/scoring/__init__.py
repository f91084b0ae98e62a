"""A source of pictures → one row for each file, in the order of the paths.

    sources → manifest → planning → shards, by worker processes → outputs → summary

`score` does all of it. A flow that shares the work among machines takes the same steps one by one:
`open_plan`, `run_shards` on each machine, `finish`.
"""

import time
from collections.abc import Callable

from nnpipe.places import decode_path, encode_path
from nnpipe.processes import cores
from nnpipe.scoring.outputs import read_rows
from nnpipe.scoring.planning import open_plan
from nnpipe.scoring.pool import run_shards
from nnpipe.scoring.rows import Row
from nnpipe.scoring.summary import Summary, finish
from nnpipe.settings import ScoreRequest

__all__ = ["Row", "ScoreRequest", "Summary", "decode_path", "encode_path", "read_rows", "score"]


def score(
    request: ScoreRequest, *, on_progress: Callable[[int, int], None] | None = None
) -> Summary:
    """Read every file of a source and write one row for each.

    If this ends early, in whatever way, the same request resumes it, and the output is the same to
    the last byte. The output gets its name when all rows are there.

    Args:
        request: what to score, where to, and how; see `settings.PARAMETERS`. ``incremental`` keeps
            the rows of files that have not changed since the last incremental run;
            ``retry_errors`` keeps all rows but errors; ``escape_formulas`` puts a ``'`` before each
            path and reason in a .csv file that a spreadsheet would take for a formula, and before
            each that begins with ``'``.
        on_progress: called repeatedly with the number of rows done and of all rows.

    Raises:
        ScoringError: the source cannot be listed or holds no file, the output's form is not known,
            another process writes it, or it would replace a file that nnpipe did not write.
        OutputError: the rows cannot be written; what stood there before is untouched.
        WeightsError: the weights are missing or damaged.
        MissingExtraError: a package is missing that the source or the output needs.
    """
    start = time.perf_counter()
    with open_plan(request) as plan:
        undone = plan.undone()
        done = plan.files - plan.files_of(undone)

        def on_rows(rows: int) -> None:
            if on_progress:
                on_progress(done + rows, plan.files)

        run_shards(plan, undone, workers=request.workers or cores(), on_rows=on_rows)
        return finish(plan, rows=plan.files - done, seconds=time.perf_counter() - start)
