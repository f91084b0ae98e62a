"""A training run: its folder, and the record that it leaves there.

weights/runs/<run>/training.json        what was trained, on what, and how it went
                   pytorch_model.pth    the state dict (engine "torch")
                   model_weights.npz    the weights that nnpipe reads
                   own.npz              pictures of one's own, as the network sees them
                   own.json             what learning from them brought
                   checkpoint.pth       while it trains
                   .lock                held while it trains
"""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from nnpipe import records
from nnpipe.epochs import Epoch
from nnpipe.errors import TrainingError
from nnpipe.files import cannot_write, locked, sha256, write_json
from nnpipe.places import UNSAFE, in_one_line
from nnpipe.weights import Origin, OwnData

RECORD = "training.json"
MODEL = "pytorch_model.pth"
WEIGHTS_FILE = "model_weights.npz"
OWN, OWN_REPORT = "own.npz", "own.json"
CHECKPOINT = "checkpoint.pth"
LOCK = ".lock"
CHECKPOINTS = re.compile(r"checkpoint(-teacher-[0-9]+)?\.pth")


@dataclass(frozen=True)
class Record:
    """What ``training.json`` holds."""

    engine: str  # "torch" or "numpy"
    recipe: str
    seed: int
    parameters: dict[str, Any]  # epochs, batch size, learning rate, distortions, …
    dataset: str
    dataset_checksum: str
    created: str  # when it was done, ISO 8601, UTC
    git_commit: str | None
    seconds: float  # of all epochs
    history: list[Epoch]  # the teachers' first, if there were any
    own: OwnData | None = None
    origin: Origin | None = None

    @property
    def best(self) -> Epoch:
        """The epoch whose weights were kept: the first of the best validation accuracy."""
        own = [epoch for epoch in self.history if not epoch.teacher]
        return max(own, key=lambda epoch: epoch.validation_accuracy)


@contextmanager
def open_run(root: Path, name: str | None, *, label: str) -> Iterator[Path]:
    """Make the folder of a run, or find the one of that name to resume it, and keep others out.

    If the block leaves nothing in the folder, the folder is removed.

    Args:
        root: folder of all runs.
        name: of the run; by default the time and ``label``.
        label: what is trained, such as "mnist-augmented-seed0".

    Raises:
        TrainingError: a folder cannot have this name, or another process trains in it.
        OutputError: the folder cannot be made.
    """
    odd = name is not None and (Path(name).name != name or UNSAFE.search(name))
    if odd or name in ("", ".."):
        raise TrainingError(f"'{name}' is no name for a run: use letters, digits and hyphens")
    try:
        folder = root / name if name else _make_unused(root, label)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(root, error) from error
    busy = f"{folder}: another process is training in it; wait for it, or name another run"
    try:
        with locked(folder / LOCK, busy=TrainingError(busy)):
            try:
                yield folder
            finally:
                (folder / LOCK).unlink(missing_ok=True)
    finally:
        with suppress(OSError):  # not empty
            folder.rmdir()


def _make_unused(root: Path, label: str) -> Path:
    """Make a folder that nobody has made before: runs may start within the same second."""
    stem = f"{datetime.now():%Y%m%d-%H%M%S}-{label}"
    root.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        folder = root / (stem if number == 1 else f"{stem}-{number}")
        with suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise AssertionError("count() does not end")


def write_record(run: Path, record: Record) -> None:
    """Write ``training.json``, which marks the run as finished."""
    write_json(run / RECORD, asdict(record))


def read_record(run: Path) -> Record:
    """Read ``training.json``.

    Raises:
        TrainingError: it is missing or damaged.
    """
    path = run / RECORD
    try:
        record: Record = records.load(Record, path)
        epochs = any(not epoch.teacher for epoch in record.history)
        shares = all(0 <= epoch.validation_accuracy <= 1 for epoch in record.history)
        if not (record.engine in ("torch", "numpy") and epochs and shares):
            raise ValueError("the engine, the epochs or an accuracy is impossible")
        return record
    except FileNotFoundError:
        raise TrainingError(
            f"{path}: is missing, so {run} is no finished run", advice="unfinished"
        ) from None
    except (ValueError, OSError) as error:
        raise TrainingError(
            f"{path}: cannot be understood ({in_one_line(error)}); train again under another name"
        ) from error


def checkpoints(run: Path) -> list[Path]:
    """The checkpoints that nnpipe writes into a run."""
    return [path for path in sorted(run.glob("*")) if CHECKPOINTS.fullmatch(path.name)]


def remove_checkpoints(run: Path) -> None:
    """Remove the checkpoints that nnpipe writes into a run, and no other file."""
    for path in checkpoints(run):
        with suppress(OSError):  # a folder, maybe
            path.unlink()


def belongs_to_another(checkpoint: Path) -> TrainingError:
    """Return the error for a checkpoint that a training cannot resume, and must not remove."""
    why = "belongs to a training with other settings; give the run another name, or remove it"
    return TrainingError(f"{checkpoint}: {why}")


def now() -> str:
    """The time, in UTC, as ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@cache
def code_version() -> str:
    """A hash of nnpipe's own code: with another one, a stage may compute something else."""
    package = Path(__file__).parent
    files = sorted(path for path in package.rglob("*") if path.suffix in (".py", ".json", ".jinja"))
    names = "\n".join(f"{path.relative_to(package)} {sha256(path.read_bytes())}" for path in files)
    return sha256(names.encode())[:16]


def git_commit() -> str | None:
    """The commit of the code that runs, "+" added if files differ from it; None outside git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        # The package may lie in somebody else's repository, inside a virtual environment.
        if not git("ls-files", Path(__file__).name):
            return None
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None
