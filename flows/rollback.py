"""The flow ``rollback``: make a former champion the champion again, without asking the rules."""

from pathlib import Path

from prefect import flow, get_run_logger
from prefect.events import emit_event

from flows.interface import HOOKS, described, run_by_hand
from nnpipe.champions import Former, Store
from nnpipe.runs import WEIGHTS_FILE

ROLLED_BACK = "nnpipe.model.rolled-back"
"""Event that says that a person has brought a former champion back."""


# Seconds, unless another process holds the champion.
@flow(name="rollback", flow_run_name="rollback-to-{name}", timeout_seconds=600, **HOOKS)
@described
def rollback(name: str | None = None, weights_dir: Path | None = None) -> Former:
    """Bring a former champion back. What it replaces is not promoted again by itself."""
    store = Store(weights_dir)
    former = store.rollback(name)
    emit_event(
        ROLLED_BACK,
        resource={"prefect.resource.id": f"nnpipe.model.{former.name}"},
        payload={
            "weights": str(store.archive.folder / former.name / WEIGHTS_FILE),
            "sha256": former.sha256,
        },
    )
    get_run_logger().info("%s is the champion now", former.name)
    return former


if __name__ == "__main__":
    run_by_hand(rollback)
