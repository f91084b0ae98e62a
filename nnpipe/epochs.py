"""What both trainers, NumPy's and PyTorch's, report after an epoch and refuse to go on with."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from nnpipe.errors import TrainingError


@dataclass(frozen=True)
class Epoch:
    """One pass over the training data."""

    number: int  # from 1
    of: int
    loss: float  # mean cross-entropy of the epoch's batches, each weighted by its size
    validation_loss: float
    validation_accuracy: float  # in [0, 1]
    seconds: float
    teacher: int = 0  # which of the teachers, from 1; 0 is the network itself

    @property
    def whose(self) -> str:
        """What to begin a line about it with."""
        return f"teacher {self.teacher}, " if self.teacher else ""


@dataclass(frozen=True)
class Sgd:
    """Settings of stochastic gradient descent with momentum; see `training.train`.

    Raises:
        TrainingError: a setting is out of its range.
    """

    epochs: int = 10  # passes over the training data, at least 1
    batch_size: int = 128  # pictures per step, at least 1
    lr: float = 0.01  # learning rate, above 0
    momentum: float = 0.9  # in [0, 1)

    def __post_init__(self) -> None:
        check_settings(**vars(self))


MAX_BATCH = 1_000_000

OnEpoch = Callable[[Epoch], None]


def check_settings(*, epochs: int, batch_size: int, lr: float, momentum: float = 0.0) -> None:
    """Raise `TrainingError` for a setting with which no training is possible."""
    if epochs < 1:
        raise TrainingError(f"epochs must be at least 1, not {epochs}")
    if not 1 <= batch_size <= MAX_BATCH:
        raise TrainingError(f"batch size must lie in 1…{MAX_BATCH:,}, not {batch_size}")
    if not 0 < lr < math.inf:
        raise TrainingError(f"the learning rate must be above 0 and finite, not {lr:g}")
    if not 0 <= momentum < 1:
        raise TrainingError(f"momentum must be at least 0 and below 1, not {momentum:g}")


def check_loss(loss: float, epoch: int, lr: float) -> None:
    """Raise `TrainingError` with the likely cause when ``loss`` is NaN or infinite."""
    if not math.isfinite(loss):
        raise TrainingError(
            f"training stopped in epoch {epoch}: the loss became {loss} at learning rate {lr:g}; "
            f"most likely the learning rate is too high, try {lr / 10:g}"
        )
