"""The flow ``score-folder``: score a folder of pictures into a table with one row per file."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event
from prefect.futures import PrefectFuture
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from flows.interface import HOOKS, Progress, described, run_by_hand
from nnpipe.errors import NnpipeError, ScoringError, needs
from nnpipe.places import place
from nnpipe.processes import cores
from nnpipe.scoring import Summary
from nnpipe.scoring.plan import open_again
from nnpipe.scoring.planning import open_plan
from nnpipe.scoring.shards import run_shards
from nnpipe.scoring.summary import finish
from nnpipe.settings import Runner, ScoreRequest

TASKS_PER_WORKER = 4
"""Tasks per worker: few, because Prefect starts about ten per second, but enough that no worker
waits long for the last task."""

MOST_TASKS = 100
"""Limit of the tasks of a run."""

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
        return ProcessPoolTaskRunner(max_workers=workers)
    with needs("dask", "Dask"):
        from prefect_dask.task_runners import DaskTaskRunner
    if dask_address:
        if "://" not in dask_address:
            raise ScoringError(f"{dask_address}: is no address; expected one as tcp://HOST:PORT")
        return DaskTaskRunner(address=dask_address)
    # Dask trusts anyone who reaches its ports, and its dashboard listens everywhere by default.
    cluster = {"host": LOOPBACK, "dashboard_address": f"{LOOPBACK}:8787"}
    return DaskTaskRunner(cluster_kwargs={**cluster, "n_workers": workers, "threads_per_worker": 1})


@task(name="score-shards", task_run_name="score-shards-from-{shards[0]}", cache_policy=NO_CACHE)
def score_shards(state: str, plan_id: str, *, shards: list[int]) -> int:
    """Score some shards of the plan and return the number of their files."""
    plan = open_again(place(state), plan_id)
    run_shards(plan, shards, workers=1)
    return plan.files_of(shards)


def score_source(
    request: ScoreRequest, *, runner: Runner = "threads", dask_address: str | None = None
) -> Summary:
    """Make a plan, run its shards in tasks, and join the output."""
    log = get_run_logger()
    start = time.perf_counter()
    source, out = request.source, request.out
    workers = request.workers or cores()
    tasks = MOST_TASKS if runner == "dask" else min(MOST_TASKS, TASKS_PER_WORKER * workers)
    with open_plan(request) as plan:
        task_arguments = {"state": str(plan.state), "plan_id": plan.id}
        left = plan.undone()
        before = plan.files - plan.files_of(left)
        progress = Progress(f"scoring {source}")
        for _ in range(TRIES):
            done = plan.files - plan.files_of(left)
            with task_runner(runner, workers=workers, dask_address=dask_address) as tasked:
                futures = [
                    tasked.submit(score_shards, task_arguments | {"shards": left[first::tasks]})
                    for first in range(min(tasks, len(left)))
                ]
                for future in futures:
                    done += _rows(future)
                    rate = (done - before) / (time.perf_counter() - start)
                    log.info("%s of %s files, %.0f a second", f"{done:,}", f"{plan.files:,}", rate)
                    progress.show(done / plan.files)
            if not (left := plan.undone()):
                break
            log.warning("%d shards were lost with their workers; they run again", len(left))
        else:
            raise ScoringError(f"{out}: {len(left)} shards could not be done; see the task runs")
        summary = finish(plan, rows=plan.files - before, seconds=time.perf_counter() - start)
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


@flow(name="score-folder", flow_run_name="score-{source}", **HOOKS)
@described
def score(
    source: str,
    out: str,
    weights: Path | None = None,
    reject_rate: float | None = None,
    workers: int | None = None,
    incremental: bool = False,
    retry_errors: bool = False,
    escape_formulas: bool = False,
    runner: Runner = "threads",
    dask_address: str | None = None,
) -> Summary:
    """Read every picture of a folder or another source, and write one row per file."""
    request = ScoreRequest.pick(locals())
    return score_source(request, runner=runner, dask_address=dask_address)


if __name__ == "__main__":
    run_by_hand(score)
