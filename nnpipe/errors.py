"""The errors that nnpipe raises on purpose. Anything else that escapes is a bug.

A message says what is wrong, in which file, and what was expected. What to do about it differs
between the command line, the flows and Python: `advice` is a key of `hints.HINTS`.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class NnpipeError(Exception):
    """Base class of all errors of this package.

    Args:
        message: one sentence.
        advice: which hint helps, a key of `hints.HINTS`; by default that of the class.
    """

    advice = ""

    def __init__(self, message: str, *, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice or type(self).advice


class SettingError(NnpipeError):
    """A setting that is none of the choices, or out of its range."""


class WeightsError(NnpipeError):
    """A weights file that is damaged, foreign, or not what it says it is."""


class PictureError(NnpipeError):
    """A file that cannot be read as a picture."""


class DatasetError(NnpipeError):
    """A data set that is missing, damaged, or not the official one."""


class MirrorError(DatasetError):
    """No mirror answered with the files. With ``dataset="auto"``, digits are then drawn instead."""

    advice = "mirror"


class TrainingError(NnpipeError):
    """A training that cannot start or had to stop."""


class EvaluationError(NnpipeError):
    """Labels and predictions that cannot be compared."""


class LabelError(EvaluationError):
    """Labelled pictures that are missing, or labels that are wrong."""


class ExportError(NnpipeError):
    """A PyTorch model that cannot be exported, or whose export does not match it."""


class PromotionError(NnpipeError):
    """A candidate that may not become the champion, or a former champion that cannot be again."""


class ScoringError(NnpipeError):
    """A source that cannot be scored, or an output that cannot be used."""


class FormError(NnpipeError):
    """A form whose description is wrong, or whose reference cannot be used."""


class LostError(ScoringError):
    """A source that went away, or whose files did, after they were listed."""

    advice = "lost"


class ProcessError(NnpipeError):
    """A worker process that cannot be started, or that ended or was ended while it worked."""


class OutputError(NnpipeError):
    """A file that could not be written; what stood there before is untouched."""


class ServerError(NnpipeError):
    """The drawing page cannot be served there."""


class MissingExtraError(NnpipeError):
    """A command that needs packages which are not installed."""


@contextmanager
def needs(extra: str, what: str) -> Iterator[None]:
    """Turn a failing import into one sentence that says which extra brings the package.

    Raises:
        MissingExtraError: an import in the block failed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{what} needs {error.name}, which is not installed: "
            f"pip install '.[{extra}]' in nnpipe's folder"
        ) from None
