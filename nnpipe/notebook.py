"""Training from Python, such as from a notebook: what the commands do, as two functions.

They need no ``if __name__ == "__main__"``: the processes that read pictures do not run the caller's
file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # loaded when they are needed, since most of those who import nnpipe only read
    from nnpipe.own.collecting import Collection
    from nnpipe.stages import Trained


def labelled(
    *sources: str | Path, weights: str | Path | None = None, drop_suspects: bool = False
) -> Collection:
    """Look at labelled pictures of one's own, as a training would.

    Print ``list(labelled(…).lines())`` for what is odd about them.

    Args:
        sources: folders with a sub-folder for each digit, or CSV files with the columns file and
            label.
        weights: the network that doubts labels; by default the champion that comes with nnpipe.
        drop_suspects: leave out pictures whose label may be wrong.

    Raises:
        LabelError: a source is missing, its labels are wrong, or it has no picture of a digit.
    """
    from nnpipe.classifier import Classifier
    from nnpipe.own.collecting import collect

    reader = Classifier.load(weights)
    return collect([Path(one) for one in sources], reader, drop_suspects=drop_suspects)


def train(
    *data: str | Path, start: str | Path | None = None, run: str | None = None, **options: Any
) -> Trained:
    """Train a network, and write it into a folder of its own below ``weights/runs``.

    ``train("mnist", "my-hand", start="champion")`` adapts the champion to the pictures in a folder.

    Args:
        data: "mnist", "drawn" or "idx:FOLDER", and folders or CSV files of labelled pictures.
        start: the network to adapt: "champion", or a weights file. By default training begins from
            scratch.
        run: name of the run; by default one with the time.
        options: other fields of `settings.TrainRequest`, such as ``engine="numpy"``, ``epochs``,
            ``seed``, ``weights_dir`` and ``data_dir``.

    Raises:
        SettingError: a value is none of the choices, or out of its range.
        LabelError: see `labelled`.
        TrainingError, DatasetError, WeightsError, MissingExtraError: see `stages.train`.
    """
    from nnpipe import stages
    from nnpipe.champions import Store
    from nnpipe.runs import open_run
    from nnpipe.settings import TrainRequest

    named = tuple(map(str, data)) or ("mnist",)
    request = TrainRequest(data=named, start=str(start) if start else None, run=run, **options)
    root = Store(request.weights_dir).runs
    with open_run(root, request.run, label=request.name) as folder:
        return stages.train(folder, request, on_line=print)
