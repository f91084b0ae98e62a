"""The flow ``score-folder``: a folder of pictures becomes a table with one row for each file."""

import time
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event
from prefect.futures import PrefectFuture
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from flows.command import run
from flows.hooks import HOOKS
from flows.progress import Progress
from nnpipe.errors import MissingExtraError, NnpipeError, ScoringError
from nnpipe.places import place
from nnpipe.processes import cores
from nnpipe.scoring import Summary
from nnpipe.scoring.plan import load_plan, open_plan
from nnpipe.scoring.pool import run_shards
from nnpipe.scoring.summary import finish

TASKS_PER_WORKER = 4
"""Few, since Prefect records some ten a second; some, so that none waits long for the last one."""

MOST_TASKS = 100

LOOPBACK = "127.0.0.1"
"""Where a Dask cluster of one machine listens."""

TRIES = 3
"""So often the shards of tasks that were lost, with their machine maybe, are given out."""

DRIFTED = "nnpipe.scoring.drift"
"""The event of a run whose pictures are unlike the validation digits; automations wait for it."""

Runner = Literal["threads", "processes", "dask"]


def task_runner(kind: Runner, workers: int, dask_address: str | None) -> TaskRunner[Any]:
    """What runs the tasks of a run: threads, processes, or the workers of a Dask cluster.

    The pictures are read in a process for each task, whatever that is.

    Raises:
        MissingExtraError: Dask is asked for and not installed.
    """
    if kind == "threads":
        return ThreadPoolTaskRunner(max_workers=workers)
    if kind == "processes":
        return ProcessPoolTaskRunner(max_workers=workers)
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ModuleNotFoundError:
        why = "Dask needs prefect-dask: pip install '.[dask]' in nnpipe's folder"
        raise MissingExtraError(why) from None
    if dask_address:
        return DaskTaskRunner(address=dask_address)
    # Dask trusts everyone who reaches its ports, and its dashboard listens everywhere by default.
    cluster = {"host": LOOPBACK, "dashboard_address": f"{LOOPBACK}:8787"}
    return DaskTaskRunner(cluster_kwargs={**cluster, "n_workers": workers, "threads_per_worker": 1})


@task(
    name="score-shards",
    task_run_name="score-shards-from-{shards[0]}",
    cache_policy=NO_CACHE,
)
def score_shards(state: str, plan_id: str, shards: list[int]) -> int:
    """Do some shards of the plan in a folder that all machines can reach."""
    plan = load_plan(place(state))
    if plan is None or plan.id != plan_id:
        raise ScoringError(f"{state}: the plan has gone; can this machine reach the folder?")
    run_shards(plan, shards, 1, lambda rows: None)
    return plan.files_of(shards)


def score_source(
    source: str,
    out: str,
    weights: Path | None = None,
    reject_rate: float | None = None,
    incremental: bool = False,
    retry_errors: bool = False,
    workers: int | None = None,
    runner: Runner = "threads",
    dask_address: str | None = None,
    *,
    escape_formulas: bool = False,
) -> Summary:
    """Make a plan, have its shards done by tasks, and put the output together."""
    log = get_run_logger()
    start = time.perf_counter()
    workers = workers or cores()
    tasks = MOST_TASKS if runner == "dask" else min(MOST_TASKS, TASKS_PER_WORKER * workers)
    opened = open_plan(
        source, out, weights, reject_rate, incremental, retry_errors, escape_formulas
    )
    with opened as plan:
        given = {"state": str(plan.state), "plan_id": plan.id}
        left = plan.undone()
        before = plan.files - plan.files_of(left)
        progress = Progress(f"scoring {source}")
        for _ in range(TRIES):
            done = plan.files - plan.files_of(left)
            with task_runner(runner, workers, dask_address) as tasked:
                futures = [
                    tasked.submit(score_shards, given | {"shards": share})
                    for share in _shares(left, tasks)
                ]
                for future in futures:
                    done += _rows(future)
                    rate = (done - before) / (time.perf_counter() - start)
                    log.info("%s of %s files, %.0f a second", f"{done:,}", f"{plan.files:,}", rate)
                    progress.show(done / plan.files)
            if not (left := plan.undone()):
                break
            log.warning("%d shards were lost with what ran them", len(left))
        else:
            raise ScoringError(f"{out}: {len(left)} shards could not be done; see the task runs")
        summary = finish(plan, plan.files - before, time.perf_counter() - start)
    log.info("%s: %s", out, summary)
    lines = "\n".join(summary.lines())
    create_markdown_artifact(f"# {out}\n\n```\n{lines}\n```\n", key="scores", description=source)
    progress.show(1)
    if summary.drift and summary.drift.past:
        log.warning("%s: drift: %s", out, summary.drift)
        emit_event(
            DRIFTED,
            resource={
                "prefect.resource.id": f"nnpipe.scores.{plan.out}",
                "prefect.resource.name": out,
            },
            payload=asdict(summary.drift),
        )
    return summary


def _shares(shards: list[int], most: int) -> list[list[int]]:
    """Cut shards into as many runs of about the same length, or fewer."""
    number = min(len(shards), most)
    cuts = [len(shards) * share // number for share in range(number + 1)] if number else []
    return [shards[begin:end] for begin, end in pairwise(cuts)]


def _rows(future: PrefectFuture[int]) -> int:
    """How many rows a task has made; none if it was lost.

    Raises:
        NnpipeError: what it could not go on with.
    """
    future.wait()
    found = future.state.result(raise_on_failure=False)
    if isinstance(found, NnpipeError):
        raise found
    return found if isinstance(found, int) else 0


@flow(name="score-folder", flow_run_name="score-{source}", **HOOKS)
def score_folder(
    source: str,
    out: str,
    weights: Path | None = None,
    reject_rate: float | None = None,
    incremental: bool = False,
    retry_errors: bool = False,
    workers: int | None = None,
    runner: Runner = "threads",
    dask_address: str | None = None,
    *,
    escape_formulas: bool = False,
) -> Summary:
    """Read every picture of a folder, or of another source, and write one row for each file.

    Args:
        source: Folder, pattern, list of paths, .zip, .tar, or URL.
        out: Where the rows go: .csv, .jsonl, .parquet, or a folder of Parquet parts; or URL.
        weights: Weights file; by default the one that comes with nnpipe.
        reject_rate: Share of true digits that may be rejected; by default what the weights say.
        incremental: Score only what is new or has changed since the last run.
        retry_errors: Score only the rows that were errors.
        workers: Processes that read, on this machine; by default one for each core.
        runner: What runs the tasks: threads, processes, or dask.
        dask_address: Address of a Dask scheduler that is running; by default one on this machine.
        escape_formulas: Put a quote before the cells of a .csv that are formulas to a spreadsheet.
    """
    return score_source(
        source,
        out,
        weights,
        reject_rate,
        incremental,
        retry_errors,
        workers,
        runner,
        dask_address,
        escape_formulas=escape_formulas,
    )


if __name__ == "__main__":
    run(score_folder)
