"""The flow ``promote``: make a candidate the champion if the rules allow it."""

from dataclasses import asdict
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from flows.interface import HOOKS, described, run_by_hand
from nnpipe.champions import Promotion, Store
from nnpipe.runs import WEIGHTS_FILE
from nnpipe.settings import DATA, PromoteRequest

PROMOTED = "nnpipe.model.promoted"
"""Event that starts the flow ``after-promotion``."""


@task(name="promote", task_run_name="promote-{request.run.name}", cache_policy=NO_CACHE)
def promote_stage(request: PromoteRequest) -> Promotion:
    """Judge the candidate; if it meets all rules, promote it and emit an event."""
    log = get_run_logger()
    store, run = Store(request.weights_dir), request.run
    done = store.promote(run, data_dir=request.data_dir, again=request.again)
    if done.promoted and done.name:  # first, because the rest may fail
        emit_event(
            PROMOTED,
            resource={"prefect.resource.id": f"nnpipe.model.{done.name}"},
            payload={
                "weights": str(store.archive.folder / done.name / WEIGHTS_FILE),
                "sha256": done.sha256,
            },
        )
        log.info("%s is the champion now", run.name)
    for rule in done.decision.rules:
        log.info("%s: %s (%s)", rule.name, "met" if rule.passed else "NOT MET", rule.reason)
    create_table_artifact(
        [asdict(rule) for rule in done.decision.rules],
        key="promotion",
        description=f"{run.name}: {'promoted' if done.promoted else 'not promoted'}",
    )
    return done


@flow(name="promote", flow_run_name="promote-{run.name}", timeout_seconds=3600, **HOOKS)
@described
def promote(
    run: Path, again: bool = False, weights_dir: Path | None = None, data_dir: Path = DATA
) -> Promotion:
    """Make a candidate the champion if it reads the validation digits better."""
    return promote_stage(PromoteRequest.pick(locals()))


if __name__ == "__main__":
    run_by_hand(promote)
