"""The flow ``after-promotion``: what a new champion reads, measured and scored anew."""

from pathlib import Path

from prefect import flow

from flows.command import run
from flows.evaluate import evaluate_once
from flows.hooks import HOOKS
from flows.score import score_source
from nnpipe.scoring import Summary
from nnpipe.stages import DATA, REPORTS, WEIGHTS


@flow(name="after-promotion", flow_run_name="after-promotion-of-{model}", **HOOKS)
def after_promotion(
    model: str = "champion",
    weights: Path = WEIGHTS / "model_weights.npz",
    source: Path = Path("samples"),
    out: Path = REPORTS / "promoted",
    data_dir: Path = DATA,
) -> Summary:
    """Measure the champion on the test digits, and score the samples with it.

    Args:
        model: What was promoted, as the event says; it names the run.
        weights: Its weights file.
        source: Folder of pictures.
        out: Folder of the report and of the scores.
        data_dir: Folder where data sets are kept.
    """
    evaluate_once(False, weights, None, data_dir, out)
    return score_source(str(source), str(out / "scores.csv"), weights, incremental=True)


if __name__ == "__main__":
    run(after_promotion)
