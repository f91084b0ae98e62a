"""The flow ``score-folder``: a folder of pictures becomes a table with one row for each file."""

import time
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.command import run
from nnpipe.scoring import Summary, score

SECONDS_BETWEEN_LINES = 10


@task(name="score", task_run_name="score-{source.name}", cache_policy=NO_CACHE)
def score_stage(
    source: Path, out: Path, weights: Path | None, reject_rate: float | None = None
) -> Summary:
    """Score the folder, and say from time to time how far it is."""
    log = get_run_logger()
    said = time.monotonic()

    def report(done: int, of: int) -> None:
        nonlocal said
        if time.monotonic() - said > SECONDS_BETWEEN_LINES:
            log.info("%s of %s files", f"{done:,}", f"{of:,}")
            said = time.monotonic()

    summary = score(str(source), str(out), weights, reject_rate, on_progress=report)
    log.info("%s: %s", out, "\n".join(summary.lines()))
    return summary


@flow(name="score-folder", flow_run_name="score-{source.name}")
def score_folder(
    source: Path, out: Path, weights: Path | None = None, reject_rate: float | None = None
) -> Summary:
    """Read every picture in a folder and write one row for each file.

    Args:
        source: Folder of pictures; all files in it and below are read.
        out: Where the rows go: .csv, .jsonl or .parquet.
        weights: Weights file; by default the one that comes with nnpipe.
        reject_rate: Share of true digits that may be rejected; by default what the weights say.
    """
    return score_stage(source, out, weights, reject_rate)


if __name__ == "__main__":
    run(score_folder)
