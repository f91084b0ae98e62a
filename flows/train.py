"""The flow ``train``: PyTorch training into a folder of its own below ``weights/runs``."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from prefect import flow, get_run_logger
from prefect.assets import materialize

from flows.caching import once
from flows.command import run as run_by_hand
from flows.download import DATA_ASSET
from flows.hooks import HOOKS
from flows.progress import Progress
from nnpipe import datasets, stages
from nnpipe.epochs import Epoch
from nnpipe.runs import MODEL, RECORD, open_run
from nnpipe.stages import DATA, RUNS, Trained
from nnpipe.torch_training.recipes import recipe as recipe_of

MODEL_ASSET = "nnpipe://model"

Recipe = Literal["augmented", "classic", "distilled"]


def _inputs(
    dataset: str,
    recipe: str,
    seed: int,
    epochs: int | None,
    run: str | None,
    data_dir: Path,
    runs_dir: Path,
) -> dict[str, Any]:
    return {
        "data": datasets.load(dataset, data_dir).checksum,
        "recipe": asdict(recipe_of(recipe, epochs=epochs)),
        "seed": seed,
        "run": run,
        "runs": runs_dir.resolve(),
    }


@materialize(
    MODEL_ASSET,
    name="train",
    task_run_name="train-{dataset}-{recipe}-seed{seed}",
    asset_deps=[DATA_ASSET],
    persist_result=False,
)
def train_stage(
    dataset: str,
    recipe: str,
    seed: int,
    epochs: int | None,
    run: str | None,
    data_dir: Path,
    runs_dir: Path,
) -> Trained:
    """Train, and tell of some ten epochs on the way."""
    log = get_run_logger()
    progress = Progress(f"training {recipe}, seed {seed}")

    def report(epoch: Epoch) -> None:
        if epoch.number % max(1, epoch.of // 10) == 0 or epoch.number == epoch.of:
            if not epoch.teacher:
                progress.show(epoch.number / epoch.of)
            log.info(
                "%sepoch %d of %d: loss %.4f, validation accuracy %.2f %%",
                epoch.whose,
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


def train_once(force: bool, **parameters: Any) -> Trained:
    """Train, unless that was done with the same data, recipe, seed and code."""

    def outputs(trained: Trained) -> dict[Path, str | None]:
        return {trained.run / MODEL: trained.sha256, trained.run / RECORD: None}

    return once(train_stage, _inputs, outputs, force=force)(**parameters)


@flow(name="train", flow_run_name="train-{dataset}-{recipe}-seed{seed}", **HOOKS)
def train(
    dataset: Literal["mnist", "drawn"] = "mnist",
    recipe: Recipe = "augmented",
    seed: int = 0,
    epochs: int | None = None,
    run: str | None = None,
    data_dir: Path = DATA,
    runs_dir: Path = RUNS,
    force: bool = False,
) -> Trained:
    """Train the network with PyTorch; the best epoch on the validation digits is kept.

    Args:
        dataset: mnist or drawn.
        recipe: augmented, classic or distilled.
        seed: Of everything random.
        epochs: Passes over the data; by default the recipe's.
        run: Name of the run; that of an interrupted one goes on with it.
        data_dir: Folder where data sets are kept.
        runs_dir: Folder of all runs.
        force: Train even if that was done with the same data, recipe, seed and code.
    """
    return train_once(
        force,
        dataset=dataset,
        recipe=recipe,
        seed=seed,
        epochs=epochs,
        run=run,
        data_dir=data_dir,
        runs_dir=runs_dir,
    )


if __name__ == "__main__":
    run_by_hand(train)
