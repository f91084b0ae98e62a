"""The flow ``download``: MNIST from a mirror, trying again when none answers, or drawn digits."""

from pathlib import Path
from typing import Any, Literal

from prefect import flow, task
from prefect.assets import materialize
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from flows.command import run
from flows.hooks import HOOKS
from nnpipe import stages
from nnpipe.datasets import mnist
from nnpipe.errors import DatasetError
from nnpipe.stages import DATA, Downloaded


def _network_failed(task: Any, run: Any, state: Any) -> bool:
    """Silence, or a file that was cut off, is worth another try; a full disk stays full."""
    return isinstance(state.result(raise_on_failure=False), DatasetError)


@task(
    name="fetch-mnist",
    retries=2,
    retry_delay_seconds=exponential_backoff(backoff_factor=2),
    retry_jitter_factor=0.5,
    retry_condition_fn=_network_failed,
    cache_policy=NO_CACHE,
)
def fetch_mnist(data_dir: Path, mirror: str | None) -> None:
    """Get the four official files, unless they are there."""
    mnist.fetch(data_dir, mirror)


DATA_ASSET = "nnpipe://data"


@materialize(DATA_ASSET, name="download", task_run_name="download-{dataset}", cache_policy=NO_CACHE)
def download_stage(dataset: str, data_dir: Path, mirror: str | None) -> Downloaded:
    """See to it that the data set is there."""
    return stages.download(dataset, data_dir, mirror, fetch=fetch_mnist)


@flow(name="download", flow_run_name="download-{dataset}", timeout_seconds=3600, **HOOKS)
def download(
    dataset: Literal["auto", "mnist", "drawn"] = "auto",
    data_dir: Path = DATA,
    mirror: str | None = None,
) -> Downloaded:
    """Download MNIST, or draw digits where it cannot be reached.

    Args:
        dataset: mnist, drawn, or auto: MNIST, and drawn digits if no mirror answers.
        data_dir: Folder where data sets are kept.
        mirror: Where to get MNIST, https://…/ or file:///…/; by default the public mirrors.
    """
    return download_stage(dataset, data_dir, mirror)


if __name__ == "__main__":
    run(download)
