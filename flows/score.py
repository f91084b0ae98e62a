"""The flow ``score-folder``: score a folder of pictures into a table with one row per file."""

import os
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.futures import PrefectFuture
from prefect.states import Cancelled
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from flows.interface import HOOKS, Progress, artifact_key, attempt, described, run_by_hand
from flows.stopping import StoppedError, report, stoppable
from nnpipe.errors import NnpipeError, ScoringError, needs
from nnpipe.places import place
from nnpipe.processes import cores, tie_to
from nnpipe.scoring import Summary
from nnpipe.scoring.outputs import output_of
from nnpipe.scoring.plan import Plan, open_again
from nnpipe.scoring.planning import open_plan
from nnpipe.scoring.shards import run_shards
from nnpipe.scoring.summary import finish
from nnpipe.settings import Runner, ScoreRequest

TASKS_PER_WORKER, FILES_PER_TASK = 4, 2000
"""There are as many tasks as one of these says, whichever says more. A task takes a quarter of a
second to start; few tasks show little progress, and a worker may wait long for the last one."""

MOST_TASKS = 100
"""Limit of the tasks of a run."""

SECONDS_BETWEEN_LINES = 5
"""Least time between two lines about progress in the log."""

LOOPBACK = "127.0.0.1"
"""Address of a Dask cluster that the flow itself starts."""

TRIES = 3
"""How often a shard is given to a task before the run fails."""

DRIFTED = "nnpipe.scoring.drift"
"""Event that says that the pictures of a run differ from the validation digits."""


def task_runner(kind: Runner, *, workers: int, dask_address: str | None) -> TaskRunner[Any]:
    """Make the task runner: threads, processes, or the workers of a Dask cluster.

    Each task reads its pictures in a process of its own.

    Raises:
        MissingExtraError: Dask is requested and not installed.
    """
    if kind == "threads":
        return ThreadPoolTaskRunner(max_workers=workers)
    if kind == "processes":
        return ProcessPoolTaskRunner(
            max_workers=workers, initializer=tie_to, initargs=(os.getpid(),)
        )
    with needs("dask", "Dask"):
        from prefect_dask.task_runners import DaskTaskRunner
    if dask_address:
        if "://" not in dask_address:
            raise ScoringError(f"{dask_address}: is no address; expected one as tcp://HOST:PORT")
        return DaskTaskRunner(address=dask_address)
    # Dask trusts anyone who reaches its ports, and its dashboard listens everywhere by default.
    cluster = {"host": LOOPBACK, "dashboard_address": f"{LOOPBACK}:8787"}
    return DaskTaskRunner(cluster_kwargs={**cluster, "n_workers": workers, "threads_per_worker": 1})


# No tag: each start of a tagged task asks the server for a slot, and fails if it is away.
@task(name="score-shards", task_run_name="score-shards-from-{shards[0]}", cache_policy=NO_CACHE)
def score_shards(state: str, plan_id: str, *, shards: list[int]) -> int | State[int]:
    """Score some shards of the plan and return the number of their files."""
    plan = open_again(place(state), plan_id)
    try:
        run_shards(plan, shards, workers=1, on_rows=lambda rows: report(shards[0], rows))
    except StoppedError as stopped:
        return Cancelled(message=str(stopped))
    return plan.files_of(shards)


def score_source(
    request: ScoreRequest, *, runner: Runner = "threads", dask_address: str | None = None
) -> Summary:
    """Make a plan, run its shards in tasks, and join the output."""
    log = get_run_logger()
    start = time.perf_counter()
    source, out = request.source, request.out
    workers = request.workers or cores()
    with open_plan(request) as plan, Progress(f"scoring {source}") as progress:
        left = plan.undone()
        before = plan.files - plan.files_of(left)
        many = max(TASKS_PER_WORKER * workers, plan.files_of(left) // FILES_PER_TASK)
        tasks = MOST_TASKS if runner == "dask" else min(many, MOST_TASKS)
        for _ in range(TRIES):
            shares = [left[first::tasks] for first in range(min(tasks, len(left)))]
            # The parameters of the run choose the task runner, so no decorator can.
            with task_runner(runner, workers=workers, dask_address=dask_address) as tasked:
                _run_tasks(plan, shares, tasked=tasked, progress=progress)
            if not (left := plan.undone()):
                break
            log.warning("%d shards were lost with their workers; they run again", len(left))
        else:
            raise ScoringError(f"{out}: {len(left)} shards could not be done; see the task runs")
        summary = finish(plan, rows=plan.files - before, seconds=time.perf_counter() - start)
        progress.show(1)
    log.info("%s: %s", out, summary)
    text = f"# {out}\n\n```\n{summary}\n```\n"
    attempt(_show, text, source=source)
    return summary


def _show(text: str, *, source: str) -> None:
    create_markdown_artifact(text, key=artifact_key("scores", source), description=source)


def _run_tasks(
    plan: Plan, shares: list[list[int]], *, tasked: TaskRunner[Any], progress: Progress
) -> None:
    """Do each share of the shards in a task, and show the progress.

    Raises:
        NnpipeError: a task failed with it.
    """
    log, start, lock = get_run_logger(), time.monotonic(), threading.Lock()
    rows: dict[int, int] = {}  # first shard of a task → its rows
    said, before = start, plan.files - sum(map(plan.files_of, shares))

    def show(task: int, done: int) -> None:
        nonlocal said
        with lock:
            rows[task] = done
            total, now = sum(rows.values()), time.monotonic()
            progress.show((before + total) / plan.files)
            if now - said > SECONDS_BETWEEN_LINES:
                said, rate = now, total / (now - start)
                files = f"{before + total:,} of {plan.files:,} files"
                log.info("%s, %s a second", files, f"{rate:,.0f}")

    with stoppable(show):
        arguments = {"state": str(plan.state), "plan_id": plan.id}
        futures = [tasked.submit(score_shards, arguments | {"shards": share}) for share in shares]
        for share, future in zip(shares, futures, strict=True):
            show(share[0], _rows(future))


def _rows(future: PrefectFuture[int]) -> int:
    """Return the number of rows that a task has written; 0 if it was lost.

    Raises:
        NnpipeError: the task failed with it.
    """
    future.wait()
    result = future.state.result(raise_on_failure=False)
    if isinstance(result, NnpipeError):
        raise result
    return result if isinstance(result, int) else 0


# No timeout: a million large pictures may take days.
@flow(name="score-folder", flow_run_name="score-{source}", **HOOKS)
@described
def score(
    source: str,
    out: str,
    weights: Path | None = None,
    weights_dir: Path | None = None,
    digits: str | None = None,
    separators: str = "",
    valid: Path | None = None,
    valid_once: bool = False,
    check: str | None = None,
    between: str | None = None,
    form: Path | None = None,
    wide: bool = False,
    reject_rate: float | None = None,
    workers: int | None = None,
    incremental: bool = False,
    prune: bool = False,
    settle: int = 0,
    retry_errors: bool = False,
    escape_formulas: bool = False,
    runner: Runner = "threads",
    dask_address: str | None = None,
) -> Summary:
    """Read every page of a folder or another source, and write one row per page, or per field."""
    request = ScoreRequest.pick(locals())
    summary = score_source(request, runner=runner, dask_address=dask_address)
    if summary.drift and summary.drift.past:
        get_run_logger().warning("%s: drift: %s", out, summary.drift)
        emit_event(
            DRIFTED,
            resource={
                "prefect.resource.id": f"nnpipe.scores.{output_of(request)}",
                "prefect.resource.name": out,
            },
            payload=asdict(summary.drift),
        )
    return summary


if __name__ == "__main__":
    run_by_hand(score)
