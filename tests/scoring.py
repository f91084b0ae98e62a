"""Scoring in the words of tests: each call builds the request that it needs."""

from nnpipe import scoring
from nnpipe.scoring import planning
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
