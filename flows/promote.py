"""The flow ``promote``: a candidate replaces the champion, if the rules let it."""

from dataclasses import asdict
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from flows.command import run as run_by_hand
from flows.hooks import HOOKS
from nnpipe import registry
from nnpipe.registry import Promotion
from nnpipe.runs import WEIGHTS as WEIGHTS_FILE
from nnpipe.stages import DATA, WEIGHTS

PROMOTED = "nnpipe.model.promoted"
"""The event on which the deployment ``after-promotion`` waits."""


@task(name="promote", task_run_name="promote-{run.name}", cache_policy=NO_CACHE)
def promote_stage(run: Path, weights_dir: Path, data_dir: Path) -> Promotion:
    """Judge the candidate, promote it if every rule is kept, and say so to whoever waits for it."""
    log = get_run_logger()
    done = registry.promote(run, weights_dir, data_dir)
    if done.promoted and done.name:  # before all that may still fail
        former = weights_dir / registry.FORMER / done.name
        emit_event(
            PROMOTED,
            resource={"prefect.resource.id": f"nnpipe.model.{done.name}"},
            payload={"weights": str(former / WEIGHTS_FILE), "sha256": done.sha256},
        )
        log.info("%s is the champion now", run.name)
    for rule in done.decision.rules:
        log.info("%s: %s (%s)", rule.name, "kept" if rule.passed else "NOT KEPT", rule.reason)
    create_table_artifact(
        [asdict(rule) for rule in done.decision.rules],
        key="promotion",
        description=f"{run.name}: {'promoted' if done.promoted else 'not promoted'}",
    )
    return done


@flow(name="promote", flow_run_name="promote-{run.name}", timeout_seconds=3600, **HOOKS)
def promote(run: Path, weights_dir: Path = WEIGHTS, data_dir: Path = DATA) -> Promotion:
    """Make a candidate the champion, if it is not worse on the validation digits.

    Args:
        run: Folder of a finished run that has been exported.
        weights_dir: Folder of the champion.
        data_dir: Folder where data sets are kept.
    """
    return promote_stage(run, weights_dir, data_dir)


if __name__ == "__main__":
    run_by_hand(promote)
