"""The progress of a run, as an artifact that Prefect's page shows."""

import logging
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

log = logging.getLogger(__name__)


class Progress:
    """A progress bar on the page of a flow run. If it cannot be shown, the work goes on."""

    def __init__(self, description: str) -> None:
        self.artifact: UUID | None = None
        try:
            artifact = create_progress_artifact(0, description=description)
            self.artifact = artifact if isinstance(artifact, UUID) else None
        except Exception as error:  # the server may answer anything
            log.warning("progress is not shown: %s", error)

    def show(self, share: float) -> None:
        """Move the bar to a share in [0, 1]."""
        if self.artifact is None:
            return
        try:
            update_progress_artifact(self.artifact, round(100 * share, 1))
        except Exception as error:
            log.warning("progress is not shown: %s", error)
