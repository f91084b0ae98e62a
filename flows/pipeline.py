"""The flow ``pipeline``: download → train → export → evaluate → promote → score."""

import os
import shutil
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

from prefect import flow
from prefect.runtime import flow_run

from flows.command import run as run_by_hand
from flows.download import download_stage
from flows.evaluate import evaluate_once
from flows.export import export_once
from flows.hooks import HOOKS
from flows.promote import promote_stage
from flows.score import score_source
from flows.train import Recipe, train_once
from nnpipe.registry import Promotion
from nnpipe.scoring import Summary
from nnpipe.stages import DATA, REPORTS, WEIGHTS, Downloaded, Evaluated, Exported, Trained


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
    promoted: Promotion | None  # None: nobody asked for it
    scored: Summary
    source: Path
    scores: Path

    def _promotion(self) -> list[str]:
        if self.promoted is None:
            return []
        broken = [rule.reason for rule in self.promoted.decision.rules if not rule.passed]
        return [
            f"  champion {'this one now' if self.promoted.promoted else f'as it was: {broken[0]}'}"
        ]

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
                f"  report   {self.evaluated.report / 'report.html'}",
                *self._promotion(),
                f"  scores   {self.scores}  "
                f"({self.scored.files} files of {self.source}: {statuses})",
                "",
                f"next: {_command()} predict --weights {self.exported.weights} PICTURE",
            ]
        )


def _run_name() -> str:
    given = flow_run.parameters
    seed = "of-the-week" if given["seed"] is None else given["seed"]
    return f"pipeline-{given['dataset']}-{given['recipe']}-seed{seed}"


@flow(name="pipeline", flow_run_name=_run_name, **HOOKS)
def pipeline(
    dataset: Literal["auto", "mnist", "drawn"] = "auto",
    recipe: Recipe = "augmented",
    seed: int | None = 0,
    epochs: int | None = None,
    source: Path = Path("samples"),
    mirror: str | None = None,
    run: str | None = None,
    data_dir: Path = DATA,
    weights_dir: Path = WEIGHTS,
    runs_dir: Path | None = None,
    reports_dir: Path = REPORTS,
    promote: bool = False,
    force: bool = False,
) -> Done:
    """Download MNIST, train, export to NumPy, evaluate, and score a folder of pictures.

    Args:
        dataset: mnist, drawn, or auto: MNIST, and drawn digits if no mirror answers.
        recipe: augmented, classic or distilled.
        seed: Of everything random; null for one of its own in each week.
        epochs: Passes over the data; by default the recipe's.
        source: Folder of pictures; all files in it and below are read.
        mirror: Where to get MNIST, https://…/ or file:///…/; by default the public mirrors.
        run: Name of the run; that of an interrupted one goes on with it.
        data_dir: Folder where data sets are kept.
        weights_dir: Folder of the champion.
        runs_dir: Folder of all runs; by default "runs" in that of the champion.
        reports_dir: Folder of all reports.
        promote: Whether the result replaces the champion, if the rules let it.
        force: Do every stage, even if it was done with the same data, recipe, seed and code.
    """
    if seed is None:
        year, week, _ = date.today().isocalendar()
        seed = 100 * year + week
    downloaded = download_stage(dataset, data_dir, mirror)
    trained = train_once(
        force,
        dataset=downloaded.dataset,
        recipe=recipe,
        seed=seed,
        epochs=epochs,
        run=run,
        data_dir=data_dir,
        runs_dir=runs_dir or weights_dir / "runs",
    )
    exported = export_once(trained.run, data_dir, force)
    reports = reports_dir / trained.run.name
    evaluated = evaluate_once(force, exported.weights, downloaded.dataset, data_dir, reports)
    promoted = promote_stage(trained.run, weights_dir, data_dir) if promote else None
    scores = reports / "scores.csv"
    scored = score_source(str(source), str(scores), exported.weights, incremental=not force)
    return Done(downloaded, trained, exported, evaluated, promoted, scored, source, scores)


if __name__ == "__main__":
    run_by_hand(pipeline)
