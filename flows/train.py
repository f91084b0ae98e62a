"""The flow ``train``: PyTorch training into a folder of its own below ``weights/runs``."""

from pathlib import Path
from typing import Literal

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.command import run as run_by_hand
from nnpipe import stages
from nnpipe.epochs import Epoch
from nnpipe.runs import open_run
from nnpipe.stages import DATA, RUNS, Trained
from nnpipe.torch_training.recipes import DEFAULT


@task(name="train", task_run_name="train-{dataset}-{recipe}-seed{seed}", cache_policy=NO_CACHE)
def train_stage(
    dataset: str,
    recipe: str,
    seed: int,
    epochs: int | None,
    run: str | None,
    data_dir: Path,
    runs_dir: Path,
) -> Trained:
    """Train, and log some ten epochs on the way."""
    log = get_run_logger()

    def report(epoch: Epoch) -> None:
        if epoch.number % max(1, epoch.of // 10) == 0 or epoch.number == epoch.of:
            log.info(
                "epoch %d of %d: loss %.4f, validation accuracy %.2f %%",
                epoch.number,
                epoch.of,
                epoch.loss,
                100 * epoch.validation_accuracy,
            )

    with open_run(runs_dir, run, dataset, recipe, f"seed{seed}") as folder:
        log.info("training into %s", folder)
        return stages.train(
            folder,
            dataset=dataset,
            data_dir=data_dir,
            recipe=recipe,
            seed=seed,
            epochs=epochs,
            on_epoch=report,
        )


@flow(name="train", flow_run_name="train-{dataset}-{recipe}-seed{seed}")
def train(
    dataset: Literal["mnist", "drawn"] = "mnist",
    recipe: str = DEFAULT,
    seed: int = 0,
    epochs: int | None = None,
    run: str | None = None,
    data_dir: Path = DATA,
    runs_dir: Path = RUNS,
) -> Trained:
    """Train the network with PyTorch; the best epoch on the validation digits is kept.

    Args:
        dataset: mnist or drawn.
        recipe: augmented or classic.
        seed: Of everything random.
        epochs: Passes over the data; by default the recipe's.
        run: Name of the run; that of an interrupted one goes on with it.
        data_dir: Folder where data sets are kept.
        runs_dir: Folder of all runs.
    """
    return train_stage(dataset, recipe, seed, epochs, run, data_dir, runs_dir)


if __name__ == "__main__":
    run_by_hand(train)
