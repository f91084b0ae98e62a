"""The command line. Answers go to stdout, everything else to stderr.

Exit codes: 0 all well; 1 failed, with one sentence on stderr; 2 wrong usage; 3 finished, but some
files were rejected or could not be read; 130 interrupted.
"""

import io
import json
import logging
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from nnpipe import __version__
from nnpipe.classifier import Classifier, Reading
from nnpipe.errors import NnpipeError, PictureError, PromotionError, needs
from nnpipe.files import replacing
from nnpipe.places import printable, printable_name
from nnpipe.preprocess import SECONDS, Picture, prepare, read_file
from nnpipe.processes import Function, Job, apply, run
from nnpipe.progress import How, bar, rate

INCOMPLETE = 3
INTERRUPTED = 130  # as shells have it for Ctrl-C

app = typer.Typer(
    name="nnpipe",
    help="Read handwritten digits with a small neural network, and train it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

models_app = typer.Typer(
    help="Candidates and the champion: see them, promote one, bring a former one back.",
    no_args_is_help=True,
)
app.add_typer(models_app, name="models")

WeightsOption = Annotated[
    Path | None,
    typer.Option("--weights", help="Weights file.", show_default="the ones that come with nnpipe"),
]
RejectOption = Annotated[
    float | None,
    typer.Option(
        "--reject-rate",
        help="Share of true digits that may be rejected as unlike any digit; 0: none for that.",
        show_default="what the weights say",
    ),
]
DataOption = Annotated[Path, typer.Option("--data-dir", help="Folder where data sets are kept.")]
RunArgument = Annotated[Path, typer.Argument(help="Folder of a run, below weights/runs.")]
WeightsDirOption = Annotated[
    Path | None,
    typer.Option(
        "--weights-dir",
        help="Folder of the champion, with runs/ and former/ below it.",
        show_default="weights, in the repository",
    ),
]


def main() -> None:
    """Run the command line; every expected error ends as one sentence."""
    for stream in (sys.stdout, sys.stderr):
        # A file's name may hold what the terminal cannot show; the answer matters more.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    warnings.filterwarnings("ignore", module="PIL")  # of odd metadata in pictures that are read
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("nnpipe").setLevel(logging.INFO)
    try:
        app(prog_name="nnpipe")
    except NnpipeError as error:
        sys.exit(printable_name(f"nnpipe: {error}"))
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        sys.exit(printable_name(f"nnpipe: {place}{error.strerror or error}"))


def _version(wanted: bool) -> None:
    if wanted:
        print(f"nnpipe {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def predict(
    pictures: Annotated[
        list[str], typer.Argument(metavar="PICTURE...", help="Picture files; - reads stdin.")
    ],
    weights: WeightsOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per line for each picture.")
    ] = False,
    top_k: Annotated[
        int, typer.Option("--top-k", min=1, max=10, help="Show only the most likely digits.")
    ] = 10,
    show_input: Annotated[
        bool, typer.Option("--show-input", help="Show the 28×28 pixels that the network sees.")
    ] = False,
    explain: Annotated[
        Path | None,
        typer.Option(help="Write the stages of the preprocessing, side by side, to this .png."),
    ] = None,
    reject_rate: RejectOption = None,
) -> None:
    """Read the digit in each picture.

    Any picture of one digit will do: a photo, a scan, a drawing; dark on light or light on dark.
    What shows no digit, or more than one, is rejected. A picture that takes more than 30 seconds or
    2 GiB is an error, and the next ones are read all the same. Exits with 3 when some pictures were
    rejected or unreadable, with 1 when none could be read.
    """
    if explain and (len(pictures) > 1 or explain.suffix.lower() != ".png"):
        raise typer.BadParameter("takes a .png to write, and one picture", param_hint="--explain")
    if explain and explain.exists() and explain.samefile(pictures[0]):
        raise typer.BadParameter("would overwrite the picture", param_hint="--explain")
    classifier = Classifier.load(weights, reject_rate)
    function: Function = prepare
    if explain:
        from nnpipe.explain import draw_stages as function
    statuses = []

    def show(job: Job, answer: list[Any]) -> None:
        name, (prepared,), stages = job.key, answer, b""
        if explain and not isinstance(prepared, NnpipeError):
            prepared, stages = prepared
        (reading,) = classifier.read_prepared([prepared])
        statuses.append(reading.status)
        if as_json:
            print(json.dumps(_as_json(name, reading, top_k, show_input)))
        elif reading.status == "error":
            _say(f"nnpipe: {printable_name(name)}: {reading.reason}")
        else:
            print(_as_text(printable_name(name), reading, top_k))
            if show_input and reading.pixels is not None:
                print(_as_blocks(reading.pixels))
        if explain and stages:
            with replacing(explain) as stream:
                stream.write(stages)
            _say(f"{explain}: {printable_name(name)}, stage by stage")

    jobs = (Job((function, [_picture(name)]), 1, name) for name in pictures)
    run(apply, jobs, show, seconds=SECONDS, workers=1, fork=True)
    if all(status == "error" for status in statuses):
        raise typer.Exit(1)
    if any(status != "ok" for status in statuses):
        raise typer.Exit(INCOMPLETE)


def _picture(name: str) -> Picture | PictureError:
    """What a child process is to prepare: a file, or the bytes of what is none."""
    if name == "-" and sys.stdin is None:
        raise PictureError("stdin is closed; pipe a picture into nnpipe, or name a file")
    if name == "-":
        return sys.stdin.buffer.read()
    try:  # a pipe is read here, where it may take its time
        return Path(name) if Path(name).is_file() else read_file(name)
    except PictureError as error:
        return error


def _most_likely(reading: Reading, top_k: int) -> list[tuple[int, float]]:
    """The ``top_k`` most likely digits; all ten are shown in order, fewer by probability."""
    shares = list(enumerate(reading.probabilities or ()))
    if top_k == len(shares):
        return shares
    return sorted(shares, key=lambda pair: -pair[1])[:top_k]


def _as_json(name: str, reading: Reading, top_k: int, show_input: bool) -> dict[str, Any]:
    fields = reading._asdict()
    pixels = fields.pop("pixels")
    fields["probabilities"] = {str(digit): share for digit, share in _most_likely(reading, top_k)}
    if show_input:
        fields["pixels"] = None if pixels is None else pixels.tolist()
    return {"path": name, **fields}


def _as_text(name: str, reading: Reading, top_k: int) -> str:
    if reading.status == "ok":
        note = f"; {reading.reason}" if reading.reason else ""
        headline = f"{name}: {reading.label}  ({reading.confidence:.1%}{note})"
    else:
        headline = f"{name}: rejected ({reading.reason})"
    bars = [
        f"  {digit}  {'█' * round(share * 40):<40} {share:6.1%}"
        for digit, share in _most_likely(reading, top_k)
    ]
    return "\n".join([headline, *bars])


def _as_blocks(pixels: Any) -> str:
    """Draw pixels with five shades, two characters wide, since characters are tall."""
    return "\n".join("".join(" ░▒▓█"[level // 52] * 2 for level in row) for row in pixels)


@app.command()
def score(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder, pattern, list of paths (- reads one from stdin), .zip, .tar, or URL."
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out", help="Where to: .csv, .jsonl, .parquet, or a folder for Parquet parts; or URL."
        ),
    ],
    weights: WeightsOption = None,
    reject_rate: RejectOption = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes.", show_default="one for each core")
    ] = None,
    incremental: Annotated[
        bool, typer.Option("--incremental", help="Score only what is new or has changed.")
    ] = False,
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="Score only the rows that were errors.")
    ] = False,
    escape_formulas: Annotated[
        bool, typer.Option("--escape-formulas", help="In .csv, put ' before what is a formula.")
    ] = False,
    progress: Annotated[
        How, typer.Option(help="A bar if this is a terminal, JSON lines, or nothing.")
    ] = How.AUTO,
) -> None:
    """Read every picture of a folder, or of another source, and write one row for each file.

    Rows come in the order of the paths, and no file is left out but hidden ones and system litter:
    what cannot be read has its row with the reason. If it is interrupted, the same command goes on
    where it was. Exits with 3 when some files were rejected or could not be read; 130 interrupted.
    """
    from nnpipe import scoring

    try:
        with rate("scoring", progress) as advance:
            summary = scoring.score(
                source,
                out,
                weights,
                reject_rate,
                workers,
                incremental,
                retry_errors,
                advance,
                escape_formulas=escape_formulas,
            )
    except KeyboardInterrupt:
        _say("interrupted; what is done is kept, and the same command goes on from there")
        raise typer.Exit(INTERRUPTED) from None
    _say(f"{out}: {summary}")
    if not summary.complete:
        raise typer.Exit(INCOMPLETE)


@app.command()
def download(
    dataset: Annotated[
        str, typer.Option(help="mnist, drawn, or auto: MNIST, else drawn digits.")
    ] = "auto",
    data_dir: DataOption = Path("data"),
    mirror: Annotated[
        str | None,
        typer.Option(
            help="Where to get MNIST: https://…/ or file:///…/.",
            show_default="$NNPIPE_MNIST_MIRROR, or the public mirrors",
        ),
    ] = None,
) -> None:
    """Download MNIST, or draw digits where it cannot be reached."""
    from nnpipe import stages

    done = stages.download(dataset, data_dir, mirror)
    _say(f"{done.dataset} is below {done.data_dir}")


@app.command()
def train(
    dataset: Annotated[str, typer.Option(help="mnist or drawn.")] = "mnist",
    engine: Annotated[
        str, typer.Option(help="torch, or numpy: the trainer from scratch.")
    ] = "torch",
    recipe: Annotated[
        str | None,
        typer.Option(help="For torch: augmented, classic or distilled.", show_default="augmented"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    epochs: Annotated[int | None, typer.Option(show_default="the recipe's; numpy: 10")] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", show_default="the recipe's; numpy: 128")
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Learning rate.", show_default="the recipe's; numpy: 0.01")
    ] = None,
    device: Annotated[str, typer.Option(help="For torch: auto, cuda, mps or cpu.")] = "auto",
    run: Annotated[
        str | None,
        typer.Option(
            help="Name of the run; for torch, that of an interrupted one goes on with it.",
            show_default="the time, the data set and the recipe",
        ),
    ] = None,
    runs_dir: Annotated[Path, typer.Option(help="Folder of all runs.")] = Path("weights/runs"),
    data_dir: DataOption = Path("data"),
) -> None:
    """Train the network into a folder of its own below weights/runs.

    With --engine torch, 'nnpipe export' then turns the result into weights that nnpipe reads.
    """
    from nnpipe import stages
    from nnpipe.runs import WEIGHTS, open_run
    from nnpipe.torch_training.recipes import DEFAULT

    kind = recipe or ("sgd" if engine == "numpy" else DEFAULT)
    with (
        open_run(runs_dir, run, dataset, kind, f"seed{seed}") as folder,
        bar("training") as advance,
    ):
        hint = "" if engine == "numpy" else f"; if interrupted, go on with --run {folder.name}"
        _say(f"training into {folder}{hint}")
        trained = stages.train(
            folder,
            dataset=dataset,
            data_dir=data_dir,
            engine=engine,
            recipe=recipe,
            seed=seed,
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            device=device,
            on_epoch=lambda epoch: advance(
                epoch.number,
                epoch.of,
                f"{epoch.whose}loss {epoch.loss:.4f}, validation {epoch.validation_accuracy:.2%}",
            ),
        )
    _say(
        f"best epoch {trained.best_epoch}: {trained.validation_accuracy:.2%} of the validation "
        f"digits, after {trained.seconds:.0f} s"
    )
    step = f"evaluate --weights {folder / WEIGHTS}" if engine == "numpy" else f"export {folder}"
    _say(f"next: nnpipe {step}")


@app.command()
def export(
    run: RunArgument,
    out: Annotated[
        Path | None,
        typer.Option(help="Weights file to write.", show_default="model_weights.npz in the run"),
    ] = None,
    data_dir: DataOption = Path("data"),
) -> None:
    """Turn a run's PyTorch model into NumPy weights, and prove that both read alike."""
    from nnpipe import stages

    done = stages.export(run, data_dir, out)
    _say(
        f"{done.weights}: NumPy and PyTorch read all {done.digits:,} test digits alike "
        f"(probabilities within {done.largest_difference:.1e})"
    )
    _say(f"next: nnpipe evaluate --weights {done.weights}")


@app.command()
def evaluate(
    weights: WeightsOption = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="mnist or drawn.", show_default="the one it was trained on"),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(help="Folder of pictures to measure on instead: FOLDER/<digit>/<picture>."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the report.", show_default="reports/<run>"),
    ] = None,
    plots: Annotated[
        bool, typer.Option("--plots/--no-plots", help="Draw plots, which takes some seconds.")
    ] = True,
    data_dir: DataOption = Path("data"),
) -> None:
    """Measure weights on the test digits, or on your own pictures, and write a report.

    It is one page, report.html, with all its figures as JSON, CSV, Parquet and PNG beside it.
    """
    from nnpipe import stages

    done = stages.evaluate(weights, dataset, data_dir, out, folder, plots)
    _say(f"{done.accuracy:.2%} of {done.n:,} digits read right, {done.errors:,} errors")
    if done.unreadable:
        _say(f"{done.unreadable:,} files could not be read; the report lists them")
    _say(f"report: {done.report / 'report.html'}")
    if done.unreadable:
        raise typer.Exit(INCOMPLETE)


@app.command()
def inspect(
    weights: Annotated[
        Path | None,
        typer.Argument(help="Weights file.", show_default="the one that comes with nnpipe"),
    ] = None,
) -> None:
    """Check a weights file and show what it says of itself, as JSON."""
    from nnpipe.classifier import champion
    from nnpipe.weights import load

    path = weights or champion()
    print(json.dumps({"path": str(path), **asdict(load(path).metadata)}, indent=2))


@app.command()
def demo(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    weights: WeightsOption = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(help="Origin of a page elsewhere that may ask the API; may be repeated."),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Name the server answers to, such as a proxy's; may be repeated."),
    ] = None,
    open_page: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in a browser.")
    ] = True,
) -> None:
    """Serve a page where one draws a digit and watches the network read it, till Ctrl-C."""
    with needs("demo", "the drawing page"):
        from nnpipe.demo.server import serve

    names = allow_host or ()
    serve(Classifier.load(weights), host, port, allow_origin or (), open_page, allow_hosts=names)


@models_app.command("list")
def list_models(
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON list instead.")] = False,
    weights_dir: WeightsDirOption = None,
) -> None:
    """Show the champion, former champions, and candidates below runs/.

    Accuracies are what a weights file says of itself, on validation and on test digits.
    """
    from nnpipe import registry
    from nnpipe.scoring.rows import encode_path

    found = registry.models(weights_dir or registry.default_root())
    if as_json:
        print(json.dumps([asdict(model) for model in found], indent=2))
        return
    table: list[tuple[str, ...]] = [
        ("name", "state", "data", "recipe", "seed", "validation", "test", "created")
    ]
    for model in found:
        accuracies = (model.validation_accuracy, model.test_accuracy)
        shares = ("-" if share is None else f"{share:.2%}" for share in accuracies)
        told = (model.name, model.state, model.dataset, model.recipe, model.seed, *shares)
        cells = ("-" if cell is None else str(cell) for cell in (*told, model.created))
        table.append(tuple(map(encode_path, cells)))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        print(printable("  ".join(map(str.ljust, row, widths)).rstrip()))
    for model in found:
        if model.reason:
            _say(f"damaged: {model.reason}")


@models_app.command()
def promote(
    run: RunArgument,
    data_dir: DataOption = Path("data"),
    weights_dir: WeightsDirOption = None,
) -> None:
    """Make a run the champion, if it is as good on the validation digits.

    It must have learned from the same data set, be whole, not be worse by an exact McNemar test,
    and not lose more than a point of any digit's recall. Exits with 1 when it is refused.
    """
    from nnpipe import registry

    done = registry.promote(run, weights_dir or registry.default_root(), data_dir)
    for rule in done.decision.rules:
        _say(f"{rule.name:9}  {'ok' if rule.passed else 'refused':7}  {rule.reason}")
    if not done.promoted:
        failed = ", ".join(f"'{rule.name}'" for rule in done.decision.rules if not rule.passed)
        raise PromotionError(f"{run}: is refused by {failed}, and the champion stays what it was")
    _say(f"{done.name} is champion now; 'nnpipe models rollback' undoes it")


@models_app.command()
def rollback(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Former champion: its name or number.", show_default="the one before this one"
        ),
    ] = None,
    weights_dir: WeightsDirOption = None,
) -> None:
    """Bring a former champion back, byte for byte; 'nnpipe models list' shows them."""
    from nnpipe import registry

    former = registry.rollback(weights_dir or registry.default_root(), name)
    _say(f"{former.name} is champion now")


def _say(text: str) -> None:
    print(printable(text), file=sys.stderr)


if __name__ == "__main__":
    main()
