"""The flow ``after-promotion``: measure a new champion and score the samples with it."""

from pathlib import Path

from prefect import flow

from flows.evaluate import evaluate_once
from flows.interface import HOOKS, described, run_by_hand
from flows.score import score_source
from nnpipe.scoring import Summary
from nnpipe.settings import DATA, REPORTS, EvaluateRequest, ScoreRequest


@flow(
    name="after-promotion",
    flow_run_name="after-promotion-of-{model}",
    timeout_seconds=3600,
    **HOOKS,
)
@described
def after_promotion(
    model: str = "champion",
    weights: Path | None = None,
    weights_dir: Path | None = None,
    source: str = "samples",
    out: Path = REPORTS / "promoted",
    data_dir: Path = DATA,
) -> Summary:
    """Measure a new champion on the test digits and score the samples with it."""
    evaluation = EvaluateRequest(
        weights=weights, weights_dir=weights_dir, out=out, data_dir=data_dir
    )
    scores = str(out / "scores.csv")
    scoring = ScoreRequest(source=source, out=scores, weights=weights, incremental=True)
    evaluate_once(evaluation, force=False)
    return score_source(scoring)


if __name__ == "__main__":
    run_by_hand(after_promotion)
