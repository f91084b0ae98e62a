"""The flow ``rollback``: make a former champion the champion again, without asking the rules."""

from pathlib import Path

from prefect import flow, get_run_logger
from prefect.runtime import flow_run

from flows.interface import HOOKS, described, run_by_hand
from flows.promote import announce
from nnpipe.champions import Former, Store

ROLLED_BACK = "nnpipe.model.rolled-back"
"""Event that says that a person has brought a former champion back."""


def _run_name() -> str:
    return f"rollback-to-{flow_run.parameters['name'] or 'the-one-before'}"


@flow(name="rollback", flow_run_name=_run_name, timeout_seconds=600, **HOOKS)
@described
def rollback(name: str | None = None, weights_dir: Path | None = None) -> Former:
    """Bring a former champion back. What it replaces is not promoted again by itself."""
    store = Store(weights_dir)
    former = store.rollback(name)
    announce(ROLLED_BACK, store, name=former.name, why="a person brought it back")
    get_run_logger().info(str(former))
    return former


if __name__ == "__main__":
    run_by_hand(rollback)
