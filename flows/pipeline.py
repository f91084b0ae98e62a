"""The flow ``pipeline``: download → train → export → evaluate → promote → score."""

import os
import shutil
import sys
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, get_args

from prefect import flow, get_run_logger
from prefect.runtime import flow_run

from flows.download import download_stage
from flows.evaluate import evaluate_once
from flows.export import export_once
from flows.interface import HOOKS, described, run_by_hand
from flows.promote import promote_stage
from flows.score import score_source
from flows.train import train_once
from nnpipe import settings, weights
from nnpipe.champions import Promotion, champion_of
from nnpipe.errors import SettingError, WeightsError
from nnpipe.runs import OWN
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
    exported: Exported | None  # None: NumPy trained the network
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
        same = self.exported and f"same as PyTorch within {self.exported.largest_difference:.1e}"
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
                f"  weights  {self.trained.weights}  ({same or 'trained with NumPy'})",
                f"  report   {self.evaluated.report / 'report.html'}",
                *self._promotion(),
                f"  scores   {self.scores}  "
                f"({self.scored.files} files of {self.source}: {statuses})",
                "",
                f"next: {_command()} predict --weights {self.trained.weights} PICTURE",
            ]
        )


def _seed(seed: int | None) -> int:
    """Return the seed, by default that of the week, such as 202648.

    A week begins on Sunday, the day of the weekly run, so that a repetition on Monday resumes it.
    """
    if seed is None:
        year, week, _ = (date.today() + timedelta(days=1)).isocalendar()
        seed = 100 * year + week
    return seed


def _how_to_train(request: settings.PipelineRequest) -> dict[str, Any]:
    """Return the engine and the recipe: those that are requested, or those of the champion.

    Raises:
        SettingError: nnpipe does not have the champion's recipe.
        WeightsError: the champion is damaged.
    """
    engine: str = request.engine
    recipe: str | None = request.recipe
    champion = champion_of(request.weights_dir)
    if recipe == "champion" and not os.path.lexists(champion):
        recipe = settings.DEFAULT_RECIPE
        get_run_logger().info("%s: there is no champion; the recipe is '%s'", champion, recipe)
    elif recipe == "champion":
        try:
            metadata = weights.load(champion).metadata
        except WeightsError as error:
            raise WeightsError(f"{error}; it is the champion", advice="rollback") from error
        trained = metadata.origin or metadata  # an adapted network began as another one
        engine, recipe = trained.engine, trained.recipe
        if engine != request.engine:
            get_run_logger().info("the champion was trained with %s, so this is, too", engine)
        known = get_args(settings.Recipe)
        if engine == "torch" and recipe not in known:
            raise SettingError(
                f"{champion}: was trained with the recipe '{recipe}', which nnpipe does not have; "
                f"name one of {', '.join(known)} as 'recipe'"
            )
    if engine == "numpy" and recipe in (settings.NUMPY_RECIPE, settings.DEFAULT_RECIPE):
        recipe = None  # NumPy has only one
    return {"engine": engine, "recipe": recipe}


def _own(request: settings.PipelineRequest) -> tuple[str, ...]:
    """Return pictures of one's own to learn from: what is new, and the champion's."""
    before = champion_of(request.weights_dir).parent / OWN
    champions = (str(before),) if request.recipe == "champion" and before.exists() else ()
    return (*champions, *request.data)


def _run_name() -> str:
    parameters = flow_run.parameters
    how = parameters["recipe"] if parameters["engine"] == "torch" else parameters["engine"]
    return f"pipeline-{parameters['dataset']}-{how}-seed{_seed(parameters['seed'])}"


# No timeout: nobody knows how long the epochs of a recipe take on this machine.
@flow(name="pipeline", flow_run_name=_run_name, **HOOKS)
@described
def pipeline(
    dataset: settings.DataSource = "auto",
    data: tuple[str, ...] = (),
    engine: settings.Engine = "torch",
    recipe: settings.PipelineRecipe = settings.DEFAULT_RECIPE,
    seed: int | None = 0,
    epochs: int | None = None,
    device: str = "auto",
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
    request = settings.PipelineRequest(**locals())
    return _run(request)


def _run(request: settings.PipelineRequest) -> PipelineResult:
    given = vars(request)
    with open_source(str(request.source)):  # fails before hours of training rather than after
        how = _how_to_train(request)
    downloaded = download_stage(settings.DownloadRequest.pick(given))
    training = settings.TrainRequest.pick(
        given, data=(downloaded.dataset, *_own(request)), seed=_seed(request.seed), **how
    )
    trained = train_once(training, force=request.force)
    exported = None
    if training.engine == "torch":
        export = settings.ExportRequest(run=trained.run, data_dir=request.data_dir)
        exported = export_once(export, force=request.force)
    reports = request.reports_dir / trained.run.name
    evaluation = settings.EvaluateRequest.pick(
        given, weights=trained.weights, dataset=training.dataset, out=reports
    )
    evaluated = evaluate_once(evaluation, force=request.force)
    promotion = settings.PromoteRequest.pick(given, run=trained.run)
    promoted = promote_stage(promotion) if request.promote else None
    source, scores = request.source, reports / "scores.csv"
    scoring = settings.ScoreRequest(
        source=str(source), out=str(scores), weights=trained.weights, incremental=not request.force
    )
    scored = score_source(scoring)
    return PipelineResult(
        downloaded, trained, exported, evaluated, promoted, scored, source, scores
    )


if __name__ == "__main__":
    run_by_hand(pipeline)
