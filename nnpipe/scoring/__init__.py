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
from nnpipe.scoring.rows import NumberRow, Row
from nnpipe.scoring.shards import run_shards
from nnpipe.scoring.summary import Summary, finish
from nnpipe.settings import ScoreRequest

__all__ = [
    "NumberRow",
    "Row",
    "ScoreRequest",
    "Summary",
    "decode_path",
    "encode_path",
    "read_rows",
    "score",
]


def score(
    request: ScoreRequest, *, on_progress: Callable[[int, int], None] | None = None
) -> Summary:
    """Read every file of a source and write one row for each.

    If this ends early, for whatever reason, call it again with the same request: it resumes, and
    the output is the same, byte for byte. The output appears when all rows are written.

    Args:
        request: what to score, where to, and how; see `settings.PARAMETERS`. ``incremental`` keeps
            the rows of files that have not changed since the last incremental run, and, unless
            ``prune`` is set, those of files that are gone; ``settle``, in seconds, leaves
            local files that changed more recently for the next run; ``retry_errors`` scores only
            the rows that were errors; ``escape_formulas``, for .csv only, puts a ``'`` before each
            path or reason that a spreadsheet would take for a formula, and before each that begins
            with ``'``; ``valid_once`` gives each number of the list to at most one picture.
        on_progress: called repeatedly with two numbers: the rows done, and all rows.

    Raises:
        ScoringError: the source cannot be listed, or it holds no files and the run is not
            incremental; the output has an unknown format, another process is scoring into it, or
            it would replace a file that nnpipe did not write.
        SettingError: ``prune`` is set without ``incremental``; ``valid_once`` is set without
            ``valid``, or with ``incremental`` or ``retry_errors``; or what is said of numbers has
            another form; see `numbers.constraints.wanted`.
        OutputError: the rows cannot be written; the earlier output is unchanged.
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
