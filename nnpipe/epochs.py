"""What the trainers, in NumPy and in PyTorch, report after an epoch, and when they give up."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from nnpipe.errors import SettingError, TrainingError
from nnpipe.settings import PARAMETERS


@dataclass(frozen=True)
class Epoch:
    """One pass over the training data."""

    number: int  # from 1
    of: int
    loss: float  # mean cross-entropy of all examples, measured before each step
    validation_loss: float
    validation_accuracy: float  # in [0, 1]
    seconds: float
    teacher: int = 0  # number of the teacher that is trained, from 1; 0 is the network itself

    @property
    def whose(self) -> str:
        """The start of a line about this epoch: "teacher 1, ", or "" for the network itself."""
        return f"teacher {self.teacher}, " if self.teacher else ""


OnEpoch = Callable[[Epoch], None]


@dataclass(frozen=True)
class Sgd:
    """Settings of stochastic gradient descent with momentum; see `training.train`.

    Raises:
        SettingError: a setting is out of its range.
    """

    epochs: int = 10  # passes over the training data, at least 1
    batch_size: int = 128  # pictures per step, at least 1
    lr: float = 0.01  # learning rate; PyTorch keeps it as a float32, which ends at 3.4e38
    momentum: float = 0.9  # in [0, 1)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "lr"):
            PARAMETERS[name].check(name, getattr(self, name))
        if not 0 <= self.momentum < 1:
            raise SettingError(f"momentum must be at least 0 and below 1, not {self.momentum:g}")


def check_loss(loss: float, *, epoch: int, lr: float) -> None:
    """Raise a `TrainingError` that names the likely cause if the loss is NaN or infinite."""
    if not math.isfinite(loss):
        raise TrainingError(
            f"training stopped in epoch {epoch}: the loss became {loss} at learning rate {lr:g}; "
            f"most likely the learning rate is too high, try {lr / 10:g}"
        )
