"""The flow ``promote``: make a candidate the champion if the rules allow it."""

from dataclasses import asdict
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from flows.interface import HOOKS, artifact_key, attempt, described, run_by_hand
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
        reasons = {rule.name: rule.reason for rule in done.decision.rules}
        announce(PROMOTED, store, name=done.name, why=reasons.get("better", ""))
    for line in str(done).splitlines():
        log.info(line)
    if not done.promoted:
        log.info("%s: not promoted; the champion stays", run.name)
    attempt(_show, done, request)
    return done


def _show(done: Promotion, request: PromoteRequest) -> None:
    create_table_artifact(
        [asdict(rule) for rule in done.decision.rules],
        key=artifact_key("promotion", Store(request.weights_dir).root),
        description=f"{request.run.name}: {'promoted' if done.promoted else 'not promoted'}",
    )


def announce(event: str, store: Store, *, name: str, why: str) -> None:
    """Emit an event about a new champion; automations.yaml makes a notification of it.

    Args:
        event: its name.
        store: where it is champion.
        name: of its folder below former.
        why: it is champion, for people.
    """
    former = store.archive.read(store.archive.folder / name)
    emit_event(
        event,
        resource={"prefect.resource.id": f"nnpipe.model.{name}"},
        payload={
            "name": name,
            "weights_dir": str(store.root.resolve()),
            "weights": str((store.archive.folder / name / WEIGHTS_FILE).resolve()),
            "sha256": former.sha256,
            "why": why,
        },
    )


@flow(name="promote", flow_run_name="promote-{run.name}", timeout_seconds=3600, **HOOKS)
@described
def promote(
    run: Path, again: bool = False, weights_dir: Path | None = None, data_dir: Path = DATA
) -> Promotion:
    """Make a candidate the champion if it reads the validation digits better."""
    request = PromoteRequest.pick(locals())
    return promote_stage(request)


if __name__ == "__main__":
    run_by_hand(promote)
