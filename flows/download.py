"""The flow ``download``: get MNIST from a mirror, with retries, or draw digits."""

from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from flows.interface import HOOKS, described, run_by_hand
from nnpipe import stages
from nnpipe.datasets import mnist
from nnpipe.errors import DatasetError
from nnpipe.settings import DATA, DataSource, DownloadRequest
from nnpipe.stages import Downloaded


def _network_failed(task: Any, run: Any, state: Any) -> bool:
    """Return True for errors that a retry may fix: a silent mirror, an incomplete file."""
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
    """Download the four official files unless they are there."""
    mnist.fetch(data_dir, mirror)


@task(name="download", task_run_name="download-{request.dataset}", cache_policy=NO_CACHE)
def download_stage(request: DownloadRequest) -> Downloaded:
    """Get the data set."""
    return stages.download(request, fetch=fetch_mnist)


@flow(name="download", flow_run_name="download-{dataset}", timeout_seconds=3600, **HOOKS)
@described
def download(
    dataset: DataSource = "auto", mirror: str | None = None, data_dir: Path = DATA
) -> Downloaded:
    """Download MNIST, or draw digits if no mirror can be reached."""
    request = DownloadRequest.pick(locals())
    return download_stage(request)


if __name__ == "__main__":
    run_by_hand(download)
