"""The flow ``pipeline``: download → train → export → evaluate → score."""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prefect import flow

from flows.command import run as run_by_hand
from flows.download import download_stage
from flows.evaluate import evaluate_stage
from flows.export import export_stage
from flows.score import score_source
from flows.train import train_stage
from nnpipe.scoring import Summary
from nnpipe.stages import DATA, REPORTS, RUNS, Downloaded, Evaluated, Exported, Trained
from nnpipe.torch_training.recipes import DEFAULT


def _command() -> str:
    """How the shell finds nnpipe: by its name, or beside the Python that runs this."""
    if shutil.which("nnpipe"):
        return "nnpipe"
    return os.path.relpath(Path(sys.executable).with_name("nnpipe"))


@dataclass(frozen=True)
class Done:
    """What a run of the pipeline has left, and where."""

    downloaded: Downloaded
    trained: Trained
    exported: Exported
    evaluated: Evaluated
    scored: Summary
    source: Path
    scores: Path

    def __str__(self) -> str:
        statuses = ", ".join(f"{n:,} {status}" for status, n in self.scored.statuses.items())
        kind = "MNIST" if self.downloaded.dataset == "mnist" else "DRAWN (not MNIST)"
        return "\n".join(
            [
                f"{self.evaluated.accuracy:.2%} of {self.evaluated.n:,} {kind} test digits read "
                f"right, {self.evaluated.errors:,} errors",
                "",
                f"  data     {self.downloaded.data_dir}",
                f"  model    {self.trained.run}  "
                f"(epoch {self.trained.best_epoch}, validation "
                f"{self.trained.validation_accuracy:.2%}, {self.trained.seconds:.0f} s)",
                f"  weights  {self.exported.weights}  "
                f"(as PyTorch, within {self.exported.largest_difference:.1e})",
                f"  report   {self.evaluated.report / 'report.md'}",
                f"  scores   {self.scores}  "
                f"({self.scored.files} files of {self.source}: {statuses})",
                "",
                f"next: {_command()} predict --weights {self.exported.weights} PICTURE",
            ]
        )


@flow(name="pipeline", flow_run_name="pipeline-{dataset}-{recipe}-seed{seed}")
def pipeline(
    dataset: Literal["auto", "mnist", "drawn"] = "auto",
    recipe: str = DEFAULT,
    seed: int = 0,
    epochs: int | None = None,
    source: Path = Path("samples"),
    mirror: str | None = None,
    run: str | None = None,
    data_dir: Path = DATA,
    runs_dir: Path = RUNS,
    reports_dir: Path = REPORTS,
) -> Done:
    """Download MNIST, train, export to NumPy, evaluate, and score a folder of pictures.

    Args:
        dataset: mnist, drawn, or auto: MNIST, and drawn digits if no mirror answers.
        recipe: augmented or classic.
        seed: Of everything random.
        epochs: Passes over the data; by default the recipe's.
        source: Folder of pictures; all files in it and below are read.
        mirror: Where to get MNIST, https://…/ or file:///…/; by default the public mirrors.
        run: Name of the run; that of an interrupted one goes on with it.
        data_dir: Folder where data sets are kept.
        runs_dir: Folder of all runs.
        reports_dir: Folder of all reports.
    """
    downloaded = download_stage(dataset, data_dir, mirror)
    trained = train_stage(downloaded.dataset, recipe, seed, epochs, run, data_dir, runs_dir)
    exported = export_stage(trained.run, data_dir)
    reports = reports_dir / trained.run.name
    evaluated = evaluate_stage(exported.weights, downloaded.dataset, data_dir, reports)
    scores = reports / "scores.csv"
    scored = score_source(str(source), str(scores), exported.weights)
    return Done(downloaded, trained, exported, evaluated, scored, source, scores)


if __name__ == "__main__":
    run_by_hand(pipeline)
