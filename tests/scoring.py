"""Scoring in the words of tests: each call builds the request that it needs."""

from functools import cache

import numpy as np

from nnpipe import scoring
from nnpipe.datasets import Digits, composed, drawn
from nnpipe.scoring import planning
from nnpipe.scoring.shards import score_shard
from nnpipe.scoring.summary import finish
from nnpipe.settings import ScoreRequest


def request(source, out, weights=None, **options):
    """The request to score a source into an output."""
    return ScoreRequest(source=str(source), out=str(out), weights=weights, **options)


def score(source, out, weights=None, *, on_progress=None, **options):
    """Score with worker processes."""
    return scoring.score(request(source, out, weights, **options), on_progress=on_progress)


def open_plan(source, out, weights=None, **options):
    """Begin or resume a plan."""
    return planning.open_plan(request(source, out, weights, **options))


def score_here(source, out, **options):
    """Score without worker processes."""
    with open_plan(source, out, **options) as plan:
        for shard in plan.undone():
            score_shard(plan, shard)
        return finish(plan, rows=plan.files, seconds=1)


@cache
def large_numbers():
    """Eight large numbers of two to four drawn digits on plain paper."""
    rng = np.random.default_rng(3)
    labels = np.arange(200) % 10
    digits = drawn.draw(labels, rng)
    some = composed.compose(Digits(digits, labels), rng, count=40, length=(2, 4), kind="apart")
    return [n for n in some if np.ptp(n.boxes[:, 1::2], axis=1).min() > 40][:8]
