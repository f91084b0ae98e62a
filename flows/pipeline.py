"""The flow ``pipeline``: download → train → export → evaluate → score."""

from dataclasses import dataclass
from pathlib import Path

from prefect import flow

from flows.command import run as run_by_hand
from flows.download import download_stage
from flows.evaluate import evaluate_stage
from flows.export import export_stage
from flows.parameters import (
    DataDir,
    Dataset,
    Epochs,
    Mirror,
    Recipe,
    ReportsDir,
    Run,
    RunsDir,
    Seed,
    Source,
)
from flows.score import score_stage
from flows.train import train_stage
from nnpipe.scoring import Summary
from nnpipe.stages import DATA, REPORTS, RUNS, Downloaded, Evaluated, Exported, Trained


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
        return "\n".join(
            [
                f"{self.evaluated.accuracy:.2%} of {self.evaluated.n:,} "
                f"{self.downloaded.dataset} test digits read right, {self.evaluated.errors} errors",
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
                f"next: nnpipe predict --weights {self.exported.weights} PICTURE",
            ]
        )


@flow(name="pipeline", flow_run_name="pipeline-{dataset}-{recipe}-seed{seed}")
def pipeline(
    dataset: Dataset = "auto",
    recipe: Recipe = "augmented",
    seed: Seed = 0,
    epochs: Epochs = None,
    source: Source = Path("samples"),
    mirror: Mirror = None,
    run: Run = None,
    data_dir: DataDir = DATA,
    runs_dir: RunsDir = RUNS,
    reports_dir: ReportsDir = REPORTS,
) -> Done:
    """Download MNIST, train, export to NumPy, evaluate, and score a folder of pictures."""
    downloaded = download_stage(dataset, data_dir, mirror)
    trained = train_stage(downloaded.dataset, recipe, seed, epochs, run, data_dir, runs_dir)
    exported = export_stage(trained.run, data_dir)
    reports = reports_dir / trained.run.name
    evaluated = evaluate_stage(exported.weights, downloaded.dataset, data_dir, reports)
    scores = reports / "scores.csv"
    scored = score_stage(source, scores, exported.weights)
    return Done(downloaded, trained, exported, evaluated, scored, source, scores)


if __name__ == "__main__":
    run_by_hand(pipeline)
