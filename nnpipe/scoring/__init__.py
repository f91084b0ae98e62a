"""Folders of pictures → one row for each file, in the order of their paths, none ever missing.

    sources → manifest → plan → (shard, by worker processes of a pool) → sinks → summary

`score` does it all. A flow that shares the work among machines takes the same steps one by one:
`open_plan`, `run_shards` on each machine, `finish`.
"""

import time
from collections.abc import Callable
from pathlib import Path

from nnpipe.processes import cores
from nnpipe.scoring.plan import open_plan
from nnpipe.scoring.pool import run_shards
from nnpipe.scoring.rows import Row, decode_path, encode_path
from nnpipe.scoring.sinks import read_rows
from nnpipe.scoring.summary import Summary, finish

__all__ = ["Row", "Summary", "decode_path", "encode_path", "read_rows", "score"]


def score(
    source: str,
    out: str,
    weights: Path | None = None,
    reject_rate: float | None = None,
    workers: int | None = None,
    incremental: bool = False,
    retry_errors: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
    *,
    escape_formulas: bool = False,
) -> Summary:
    """Read every file of a source and write one row for each.

    If this ends before it is done, in whatever way, the same call goes on where it was, and the
    output is the same to the last byte. It takes its name when all is done.

    Args:
        source: a folder with all below it; a pattern (``scans/**/*.png``); a text file of paths, or
            ``-`` for one on stdin; a .zip or .tar file; or a URL that fsspec knows.
        out: where to: a .csv, .jsonl or .parquet file, or, with no suffix, a folder of Parquet
            parts; a path or a URL.
        weights: the weights file, by default the champion that comes with nnpipe.
        reject_rate: see `Classifier.load`.
        workers: how many processes; by default one for each core.
        incremental: keep the rows of files that have not changed since the last run that was
            incremental, and remember this one for the next.
        retry_errors: keep all rows of the last run but those that are errors.
        on_progress: is called again and again with the number of rows done and of all.
        escape_formulas: put a ``'`` before each path and reason in a .csv file that a spreadsheet
            would take for a formula, and before each that begins with ``'``.

    Raises:
        ScoringError: the source cannot be listed or holds no file, the output's form is not known,
            another process writes it, or it would replace a file that nnpipe did not write.
        OutputError: the rows cannot be written; what stood there before is untouched.
        WeightsError: the weights are missing or damaged.
        MissingExtraError: a package is missing that the source or the output needs.
    """
    start = time.perf_counter()
    opened = open_plan(
        source, out, weights, reject_rate, incremental, retry_errors, escape_formulas
    )
    with opened as plan:
        undone = plan.undone()
        done = plan.files - plan.files_of(undone)

        def on_rows(rows: int) -> None:
            if on_progress:
                on_progress(done + rows, plan.files)

        run_shards(plan, undone, workers or cores(), on_rows)
        return finish(plan, plan.files - done, time.perf_counter() - start)
