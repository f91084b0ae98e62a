"""The flow ``pipeline``: download → train → export → evaluate → promote → score."""

import os
import shutil
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from prefect import flow
from prefect.runtime import flow_run

from flows.download import download_stage
from flows.evaluate import evaluate_once
from flows.export import export_once
from flows.interface import HOOKS, described, run_by_hand
from flows.promote import promote_stage
from flows.score import score_source
from flows.train import train_once
from nnpipe import settings
from nnpipe.champions import Promotion
from nnpipe.scoring import Summary
from nnpipe.scoring.sources import open_source
from nnpipe.stages import Downloaded, Evaluated, Exported, Trained


def _command() -> str:
    """Return the command that starts nnpipe: its name if on the PATH, else its path."""
    if shutil.which("nnpipe"):
        return "nnpipe"
    return os.path.relpath(Path(sys.executable).with_name("nnpipe"))


@dataclass(frozen=True)
class PipelineResult:
    """The results of a run of the pipeline, and where they are."""

    downloaded: Downloaded
    trained: Trained
    exported: Exported
    evaluated: Evaluated
    promoted: Promotion | None  # None: not requested
    scored: Summary
    source: Path
    scores: Path

    def _promotion(self) -> list[str]:
        if self.promoted is None:
            return []
        broken = [rule.reason for rule in self.promoted.decision.rules if not rule.passed]
        return [f"  champion {'this run' if self.promoted.promoted else f'unchanged: {broken[0]}'}"]

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
                f"(same as PyTorch within {self.exported.largest_difference:.1e})",
                f"  report   {self.evaluated.report / 'report.html'}",
                *self._promotion(),
                f"  scores   {self.scores}  "
                f"({self.scored.files} files of {self.source}: {statuses})",
                "",
                f"next: {_command()} predict --weights {self.exported.weights} PICTURE",
            ]
        )


def _run_name() -> str:
    parameters = flow_run.parameters
    seed = "of-the-week" if parameters["seed"] is None else parameters["seed"]
    return f"pipeline-{parameters['dataset']}-{parameters['recipe']}-seed{seed}"


@flow(name="pipeline", flow_run_name=_run_name, **HOOKS)
@described
def pipeline(
    dataset: settings.DataSource = "auto",
    recipe: settings.Recipe = settings.DEFAULT_RECIPE,
    seed: int | None = 0,
    epochs: int | None = None,
    source: Path = Path("samples"),
    mirror: str | None = None,
    run: str | None = None,
    weights_dir: Path | None = None,
    reports_dir: Path = settings.REPORTS,
    data_dir: Path = settings.DATA,
    promote: bool = False,
    force: bool = False,
) -> PipelineResult:
    """Download MNIST, train, export to NumPy, evaluate, promote, and score a folder."""
    parameters = locals()
    with open_source(str(source)):  # fails before hours of training rather than after
        pass
    downloaded = download_stage(settings.DownloadRequest.pick(parameters))
    if seed is None:
        year, week, _ = date.today().isocalendar()
        seed = 100 * year + week
    training = settings.TrainRequest.pick(parameters, dataset=downloaded.dataset, seed=seed)
    trained = train_once(training, force=force)
    exported = export_once(settings.ExportRequest(run=trained.run, data_dir=data_dir), force=force)
    reports = reports_dir / trained.run.name
    evaluation = settings.EvaluateRequest.pick(
        parameters, weights=exported.weights, dataset=training.dataset, out=reports
    )
    evaluated = evaluate_once(evaluation, force=force)
    promotion = settings.PromoteRequest.pick(parameters, run=trained.run)
    promoted = promote_stage(promotion) if promote else None
    scores = reports / "scores.csv"
    scoring = settings.ScoreRequest(
        source=str(source), out=str(scores), weights=exported.weights, incremental=not force
    )
    scored = score_source(scoring)
    return PipelineResult(
        downloaded, trained, exported, evaluated, promoted, scored, source, scores
    )


if __name__ == "__main__":
    run_by_hand(pipeline)
