"""Every parameter of nnpipe, once: its name, type, default, range and help.

A *request* says what one stage is to do. The command line and the flows take their options from the
requests and from `PARAMETERS`, build a request, and hand it to the stage.
"""

import reprlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Integral, Real
from pathlib import Path
from types import NoneType
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from nnpipe.errors import SettingError

DATA = Path("data")
REPORTS = Path("reports")

DataSet = Literal["mnist", "drawn"]
DataSource = Literal["auto", "mnist", "drawn"]
Engine = Literal["torch", "numpy"]
Recipe = Literal["augmented", "classic", "distilled"]
PipelineRecipe = Literal[Recipe, "champion"]
Runner = Literal["threads", "processes", "dask"]
ProgressStyle = Literal["auto", "json", "none"]

DEFAULT_RECIPE: Recipe = "augmented"
"""For the engine "torch"."""

NUMPY_RECIPE = "sgd"
"""Name of NumPy's only recipe, in records."""

ADAPTED = "adapted"
"""Name of the recipe of networks that began as another one, in records."""

IDX = "idx:"
"""How the name of a data set begins that consists of four files in a folder, in MNIST's format."""


@dataclass(frozen=True)
class Parameter:
    """The help of a parameter, and what is checked besides its type."""

    help: str
    if_none: str | None = None  # what None stands for
    least: float | None = None
    most: float | None = None
    kind: Literal["argument", "option"] | None = None  # None: an argument if it has no default
    metavar: str | None = None
    flag: str = ""  # by default the name

    def check(self, name: str, value: Any) -> None:
        """Raise a `SettingError` if the value of the parameter ``name`` is out of its range."""
        if self.least is not None and not value >= self.least:
            raise SettingError(f"{name} is {value}, expected at least {self.least:,}")
        if self.most is not None and not value <= self.most:
            raise SettingError(f"{name} is {value}, expected at most {self.most:,}")


PARAMETERS = {
    "again": Parameter("Judge it even if it was champion before and was rolled back."),
    "allow_host": Parameter("Name that the server answers to, such as a proxy's; may be repeated."),
    "allow_origin": Parameter("Origin of another page that may use the API; may be repeated."),
    "at_least": Parameter("Accuracy below which the run fails, after its report.", None, 0, 1),
    "between": Parameter(
        "For numbers: the least and the largest that is possible, such as 0-100.",
        "any",
        flag="--range",
    ),
    "batch_size": Parameter("Pictures per step.", "the recipe's; numpy: 128", 1, 1_000_000),
    "check": Parameter(
        "For numbers: how the check digit is computed: luhn, mod11, mod97, or another module of "
        "python-stdnum.",
        "without a check digit",
    ),
    "dask_address": Parameter("Address of a running Dask scheduler.", "one on this machine"),
    "data_dir": Parameter("Folder of the data sets."),
    "data": Parameter(
        "What to train on: mnist, drawn, idx:FOLDER, and pictures of your own: FOLDER/<digit>/…, "
        "or a CSV file with the columns file and label; may be repeated."
    ),
    "dataset": Parameter("Data set to train on."),
    "download.dataset": Parameter("auto: MNIST, or drawn digits if no mirror answers."),
    "evaluate.dataset": Parameter("Data set to measure on.", "the one it was trained on"),
    "evaluate.digits": Parameter(
        "With labels: how many digits a number has, such as 4 or 2-6.", "any"
    ),
    "pipeline.data": Parameter(
        "Pictures of your own to learn from as well: FOLDER/<digit>/…, or a CSV file with the "
        "columns file and label; may be repeated."
    ),
    "pipeline.dataset": Parameter("auto: MNIST, or drawn digits if no mirror answers."),
    "drop_suspects": Parameter("Leave out own pictures whose label may be wrong."),
    "device": Parameter("For torch: auto, cuda, mps or cpu."),
    "digits": Parameter("Read a number with this many digits: any, 4 or 2-6.", "a single digit"),
    "engine": Parameter("torch, or numpy: the trainer from scratch."),
    "epochs": Parameter("Passes over the training data.", "the recipe's; numpy: 10", 1),
    "escape_formulas": Parameter("In .csv, put ' before cells that a spreadsheet would run."),
    "explain": Parameter("Draw the ways to understand the picture into this .png."),
    "folder": Parameter(
        "Folder of pictures to measure on, FOLDER/<digit>/<picture>.", "the test digits"
    ),
    "form": Parameter(
        "Form (.toml) whose fields are read on every page: one row per field.", "none"
    ),
    "force": Parameter("Run even if there is a result for the same inputs."),
    "host": Parameter("Address to listen on."),
    "incremental": Parameter("Score only new and changed files; keep the rows of all others."),
    "as_json": Parameter("Print JSON, one object per line for each picture.", flag="--json"),
    "list_models.as_json": Parameter("Print a JSON list.", flag="--json"),
    "labels": Parameter(
        "CSV of pictures of numbers to measure on, with the columns file and label.",
        "the test digits",
    ),
    "lr": Parameter("Learning rate.", "the recipe's; numpy: 0.01", 1e-30, 1e30),
    "mirror": Parameter(
        "Where to get MNIST: https://…/ or file:///…/.",
        "$NNPIPE_MNIST_MIRROR, or the public mirrors",
    ),
    "model": Parameter("The promoted model, from the event; the flow run is named after it."),
    "name": Parameter(
        "Former champion: its name or number.", "the one before this one", kind="argument"
    ),
    "open_page": Parameter("Open the page in a browser.", flag="--open/--no-open"),
    "check.form": Parameter("Form (.toml).", kind="argument"),
    "check.out": Parameter("Drawing of the page (.png).", "PAGE.check.png"),
    "evaluate.out": Parameter("Folder of the report.", "reports/<run>"),
    "export.out": Parameter("Weights file to write.", "model_weights.npz in the run"),
    "find.out": Parameter("Form to write (.toml); a drawing of it lies beside it (.png)."),
    "score.out": Parameter(
        "Output: .csv, .jsonl, .parquet, .xlsx, or a folder for Parquet parts; path or URL.",
        kind="option",
    ),
    "after_promotion.out": Parameter("Folder of the report and the scores."),
    "page": Parameter("Page: a picture, or one of a PDF or a TIFF, such as scan.pdf#2."),
    "pictures": Parameter("Picture files; - reads stdin.", metavar="PICTURE..."),
    "plots": Parameter("Draw plots, which takes some seconds."),
    "port": Parameter("Port to listen on; 0 takes a free one.", None, 0, 65535),
    "progress": Parameter("auto: a bar if this is a terminal; json: JSON lines; none: nothing."),
    "promote": Parameter("Make the result the champion if the rules allow it."),
    "prune": Parameter("With incremental: drop the rows of files that are gone."),
    "recipe": Parameter("For torch: how to train.", DEFAULT_RECIPE),
    "pipeline.recipe": Parameter(
        "For torch: how to train; champion: with the engine and the recipe of the champion."
    ),
    "reject_rate": Parameter(
        "Share of true digits that may be rejected as unlike any digit; at 0, none is.",
        "what the weights say",
        0,
        0.1,
    ),
    "reports_dir": Parameter("Folder of all reports."),
    "retry_errors": Parameter("Score only the rows that were errors."),
    "run": Parameter("Folder of a finished run."),
    "train.run": Parameter(
        "Name of the run. With torch, reuse the name of an interrupted run to resume it.",
        "one with the data set, the recipe and the seed",
    ),
    "runner": Parameter("What runs the tasks: threads, processes, or dask."),
    "seed": Parameter("Seed of all random numbers.", None, 0, 2**32 - 1),
    "pipeline.seed": Parameter(
        "Seed of all random numbers; null: that of the week.", "the week's", 0, 2**32 - 1
    ),
    "separators": Parameter("For numbers: signs of .,:- that are kept in the label."),
    "settle": Parameter(
        "Seconds; files that changed less than this ago wait for the next run.", None, 0, 86_400
    ),
    "show_input": Parameter("Show the 28×28 pixels that the network sees."),
    "start": Parameter(
        "Network to adapt: champion, or a weights file.", "train from scratch", flag="--from"
    ),
    "source": Parameter(
        "Folder, pattern, PDF or picture, list of paths (- reads one from stdin), .zip, .tar, URL."
    ),
    "top_k": Parameter("Show only the most likely digits.", None, 1, 10),
    "valid": Parameter(
        "For numbers: file of the only ones that exist, one per line.", "all are possible"
    ),
    "valid_once": Parameter("With valid: each of these numbers is on at most one picture."),
    "weights": Parameter("Weights file.", "the one that comes with nnpipe"),
    "inspect.weights": Parameter(
        "Weights file.", "the one that comes with nnpipe", kind="argument"
    ),
    "weights_dir": Parameter(
        "Folder of the champion, with runs/ and former/ below it.", "weights, in the repository"
    ),
    "wide": Parameter("With form: write a table with one row per page as well, OUT.wide.csv."),
    "workers": Parameter("Processes.", "one per core", 1),
}
"""Parameters by name. Where one command's differs, its key is ``command.name``."""

PARAMETERS["pipeline.run"] = PARAMETERS["train.run"]


def command_line(command: str, options: Mapping[str, Any]) -> str:
    """Return a command with its options, except those that are None or the usual folder of data.

    An option whose value is a list is repeated.
    """
    used = ((n, v) for n, v in options.items() if v is not None and (n, v) != ("data_dir", DATA))
    each = ((n, one) for n, v in used for one in (v if isinstance(v, list) else [v]))
    words = (str(word) for n, v in each for word in (f"--{n.replace('_', '-')}", v))
    return shlex.join(["nnpipe", command, *words])


TAKEN: dict[type, Any] = {bool: bool, int: Integral, float: Real, str: str | Path, Path: str | Path}
"""Type of a field → the types that are taken for it."""

NAMED = {bool: "True or False", int: "an integer", float: "a number", str: "text", Path: "a path"}
"""Type of a field → what an error calls it."""


def parameter(name: str, command: str = "") -> Parameter:
    """Look up a parameter of a command.

    Raises:
        KeyError: it is not in the table.
    """
    return PARAMETERS.get(f"{command}.{name}") or PARAMETERS[name]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a stage is to do. Each value is checked when a request is made.

    A path may be given as text, and text as a path.

    Raises:
        SettingError: a value has another type, is none of the choices, or is out of its range.
    """

    def __post_init__(self) -> None:
        command = type(self).__name__.removesuffix("Request").lower()
        hints = get_type_hints(type(self))
        for field in fields(self):
            value, hint = getattr(self, field.name), hints[field.name]
            kind = get_args(hint)[0] if NoneType in get_args(hint) else hint
            if value is None and kind is not hint:
                continue
            if get_origin(hint) is tuple:
                object.__setattr__(self, field.name, _texts(field.name, value))
                continue
            choices = get_args(kind)
            right = value in choices if choices else isinstance(value, TAKEN[kind])
            if not right or isinstance(value, bool) != (kind is bool):  # True is an int for Python
                expected = ", ".join(choices) or NAMED[kind]
                raise SettingError(f"{field.name} is {reprlib.repr(value)}, expected {expected}")
            parameter(field.name, command).check(field.name, value)
            object.__setattr__(self, field.name, value if choices else kind(value))

    @classmethod
    def pick(cls, values: Mapping[str, Any], **changes: Any) -> Self:
        """Make a request from the values that it has fields for; ``changes`` replace some."""
        names = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in names} | changes)


def _texts(name: str, value: Any) -> tuple[str, ...]:
    """Return a list of texts or paths as texts."""
    if not isinstance(value, list | tuple) or not all(isinstance(one, str | Path) for one in value):
        raise SettingError(f"{name} is {reprlib.repr(value)}, expected a list of texts")
    return tuple(map(str, value))


@dataclass(frozen=True, kw_only=True)
class DownloadRequest(Request):
    """Get a data set."""

    dataset: DataSource = "auto"
    mirror: str | None = None
    data_dir: Path = DATA


@dataclass(frozen=True, kw_only=True)
class TrainRequest(Request):
    """Train a network."""

    data: tuple[str, ...] = ("mnist",)
    start: str | None = None
    drop_suspects: bool = False
    engine: Engine = "torch"
    recipe: Recipe | None = None
    seed: int = 0
    epochs: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    device: str = "auto"
    run: str | None = None
    weights_dir: Path | None = None
    data_dir: Path = DATA

    @property
    def name(self) -> str:
        """A name for the training, such as "mnist-augmented-seed0"."""
        recipe = self.recipe or (NUMPY_RECIPE if self.engine == "numpy" else DEFAULT_RECIPE)
        recipe = ADAPTED if self.start else recipe
        own = "-own" if self.own else ""
        return f"{self.dataset.partition(':')[0]}{own}-{recipe}-seed{self.seed}"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(self.data) or self.start == "" or IDX in self.data:
            raise SettingError("data or from is empty; name a data set, a folder or a file")
        sets = list(filter(_is_set, self.data))
        if len(sets) > 1:
            raise SettingError(
                f"data names {sets[0]!r} and {sets[1]!r}; name one data set, and pictures of your "
                "own beside it"
            )

    @property
    def dataset(self) -> str:
        """The data set: mnist, drawn, or idx:FOLDER."""
        return next(filter(_is_set, self.data), "mnist")

    @property
    def own(self) -> tuple[Path, ...]:
        """The folders and CSV files of one's own pictures."""
        return tuple(Path(one) for one in self.data if not _is_set(one))

    @property
    def changes(self) -> dict[str, Any]:
        """The settings of the recipe that are changed."""
        values = {name: getattr(self, name) for name in ("epochs", "batch_size", "lr")}
        return {name: value for name, value in values.items() if value is not None}


def _is_set(data: str) -> bool:
    return data in get_args(DataSet) or data.startswith(IDX)


@dataclass(frozen=True, kw_only=True)
class ExportRequest(Request):
    """Turn a PyTorch model into weights."""

    run: Path
    out: Path | None = None
    data_dir: Path = DATA


@dataclass(frozen=True, kw_only=True)
class EvaluateRequest(Request):
    """Measure weights and write a report."""

    weights: Path | None = None
    dataset: DataSet | None = None
    folder: Path | None = None
    labels: Path | None = None
    digits: str | None = None
    out: Path | None = None
    plots: bool = True
    weights_dir: Path | None = None
    data_dir: Path = DATA


@dataclass(frozen=True, kw_only=True)
class PromoteRequest(Request):
    """Make a run the champion."""

    run: Path
    again: bool = False
    weights_dir: Path | None = None
    data_dir: Path = DATA


@dataclass(frozen=True, kw_only=True)
class WeightsRequest(Request):
    """Read with a weights file, or with the champion of a folder."""

    weights: Path | None = None
    weights_dir: Path | None = None


@dataclass(frozen=True, kw_only=True)
class NumberRequest(Request):
    """Read numbers of several digits, if ``digits`` is set."""

    digits: str | None = None
    separators: str = ""
    valid: Path | None = None
    check: str | None = None
    between: str | None = None

    def options(self) -> dict[str, Any] | None:
        """Return the arguments of `numbers.constraints.wanted`; None if single digits are read.

        Raises:
            SettingError: another value is set without ``digits``.
        """
        if self.digits is not None:
            return dict(vars(self))
        for name, value in vars(self).items():
            if value:
                why = f"{name} is set without digits, and is only for numbers of several digits"
                raise SettingError(why, advice="digits")
        return None


@dataclass(frozen=True, kw_only=True)
class ScoreRequest(Request):
    """Read the pictures of a source and write one row for each page, or for each field."""

    source: str
    out: str
    digits: str | None = None
    separators: str = ""
    valid: Path | None = None
    valid_once: bool = False
    check: str | None = None
    between: str | None = None
    form: Path | None = None
    wide: bool = False
    weights: Path | None = None
    weights_dir: Path | None = None
    reject_rate: float | None = None
    workers: int | None = None
    incremental: bool = False
    retry_errors: bool = False
    escape_formulas: bool = False
    prune: bool = False
    settle: int = 0


@dataclass(frozen=True, kw_only=True)
class PipelineRequest(Request):
    """Run all stages in a row."""

    dataset: DataSource = "auto"
    data: tuple[str, ...] = ()
    engine: Engine = "torch"
    recipe: PipelineRecipe = DEFAULT_RECIPE
    seed: int | None = 0
    epochs: int | None = None
    device: str = "auto"
    source: Path = Path("samples")
    mirror: str | None = None
    run: str | None = None
    weights_dir: Path | None = None
    reports_dir: Path = REPORTS
    data_dir: Path = DATA
    promote: bool = False
    force: bool = False
