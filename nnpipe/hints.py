"""What to do about an error, for the command line and for the flows.

An error says what is wrong and what is needed; its `advice` is a key of `HINTS`.
"""

from typing import NamedTuple


class Hint(NamedTuple):
    """One piece of advice, in the words of the command line and of the flows."""

    command_line: str
    flow: str | None = None  # None: the same words


HINTS = {
    "again": Hint(
        "add --again to promote it all the same", "set 'again' to promote it all the same"
    ),
    "data_dir": Hint(
        "name the folder that holds them with --data-dir",
        "name the folder that holds them with 'data_dir'",
    ),
    "digits": Hint("for a number add --digits any", "for a number set 'digits' to any"),
    "download": Hint(
        "get it with 'nnpipe download --dataset mnist'", "get it with the flow 'download'"
    ),
    "export": Hint(
        "make the weights with 'nnpipe export RUN'", "make the weights with the flow 'export'"
    ),
    "lost": Hint(
        "what is done is kept; score again when the files are back, and it resumes; if they stay "
        "away, remove the folder beside the output whose name ends with .nnpipe, and score again"
    ),
    "mirror": Hint(
        "name another with --mirror or $NNPIPE_MNIST_MIRROR, or draw digits with --dataset drawn",
        "name another with 'mirror' or $NNPIPE_MNIST_MIRROR, or draw digits with dataset 'drawn'",
    ),
    "models": Hint("'nnpipe models list' shows all champions and runs"),
    "out": Hint("name another one with --out", "name another one with 'out'"),
    "port": Hint("choose another with --port; 0 takes a free one", "choose another port"),
    "predict": Hint("to read a single picture, use 'nnpipe predict'", "score a folder or a list"),
    "relist": Hint("what is done is kept; the next run lists the files again"),
    "retry_errors": Hint("score it without --retry-errors", "score it without 'retry_errors'"),
    "rollback": Hint(
        "'nnpipe models list' shows all, 'nnpipe models rollback NAME' brings one back",
        "'nnpipe models list' shows all; the flow 'rollback' or 'nnpipe models rollback NAME' "
        "brings one back",
    ),
    "score": Hint("to read folders, use 'nnpipe score'", "use the flow 'score-folder'"),
    "train": Hint("train one with 'nnpipe train'", "train one with the flow 'train'"),
    "unfinished": Hint(
        "resume it with 'nnpipe train --run NAME', or train another",
        "resume it with the flow 'train' and its name as 'run', or train another",
    ),
    "valid": Hint("name their file with --valid", "name their file with 'valid'"),
    "weights_dir": Hint(
        "give the champion's folder with --weights-dir",
        "give the champion's folder with 'weights_dir'",
    ),
}

REASONS = {"several marks; expected one digit": "digits"}
"""Reason of a rejected picture → its advice."""
