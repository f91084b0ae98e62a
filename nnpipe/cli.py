"""The command line. Results go to stdout, everything else to stderr.

A command's options are the parameters of its function; see `options.as_command`.

Exit codes: 0 all well; 1 failed, with one sentence on stderr; 2 wrong usage; 3 finished, but some
files were rejected or could not be read; 130 interrupted.
"""

import io
import json
import logging
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from nnpipe import __version__, settings
from nnpipe.arguments import NamedPage, each, first_page, pages_of
from nnpipe.classifier import Classifier, Reading, file_of
from nnpipe.errors import NnpipeError, OutputError, PromotionError, needs
from nnpipe.files import replacing
from nnpipe.numbers.constraints import Wanted, wanted
from nnpipe.options import as_command
from nnpipe.places import encode_path, printable_name
from nnpipe.preprocess import attempt, prepare
from nnpipe.processes import Function
from nnpipe.progress import bar, rate
from nnpipe.terminal import (
    as_blocks,
    digit_as_text,
    most_likely,
    number_as_text,
    print_table,
    say,
    with_hint,
)

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
    help="Candidates and the champion: list them, promote one, bring a former one back.",
    no_args_is_help=True,
)
app.add_typer(models_app, name="models")

form_app = typer.Typer(
    help="Forms, whose fields 'nnpipe score --form' reads: propose one, try one.",
    no_args_is_help=True,
)
app.add_typer(form_app, name="form")


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
        sys.exit(printable_name(f"nnpipe: {with_hint(error)}"))
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        sys.exit(printable_name(f"nnpipe: {place}{error.strerror or error}"))


def _version(show: bool) -> None:
    if show:
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
@as_command
def predict(
    pictures: list[str],
    numbers: settings.NumberRequest,
    *,
    reader: settings.WeightsRequest,
    as_json: bool = False,
    top_k: int = 10,
    show_input: bool = False,
    explain: Path | None = None,
    reject_rate: float | None = None,
) -> None:
    """Read the digit in each picture, or the number if --digits is given.

    A picture may be a photo, a scan or a drawing, dark on light or light on dark. All pages of a
    PDF or a TIFF are read; scan.pdf#3 is the third page. If a page shows no digit, or, without
    --digits, more than one, it is rejected. A page that takes more than 30 seconds or 2 GiB is an
    error, and the next ones are read. Exits with 3 if some pages were rejected or unreadable, with
    1 if none could be read.
    """
    pages = pages_of(pictures)
    if explain:
        pages = iter(first := list(islice(pages, 2)))
        if len(first) > 1 or explain.suffix.lower() != ".png":
            why = "needs the name of a .png file, and exactly one picture, or page (scan.pdf#1)"
            raise typer.BadParameter(why, param_hint="--explain")
        if explain.exists() and explain.samefile(first[0].path):
            raise typer.BadParameter("would overwrite the picture", param_hint="--explain")
    if options := numbers.options():
        for flag, is_set in (
            ("--top-k", top_k != 10),
            ("--show-input", show_input),
            ("--explain", explain),
            ("--reject-rate", reject_rate is not None),
        ):
            if is_set:
                raise typer.BadParameter("is not for numbers; leave it out", param_hint=flag)
        classifier = Classifier.load(file_of(reader))
        _predict_numbers(pages, wanted(**options), classifier=classifier, as_json=as_json)
        return
    classifier = Classifier.load(file_of(reader), reject_rate)
    function: Function = prepare
    if explain:
        from nnpipe.explain import collect_stages as function
        from nnpipe.explain import draw_stages
    statuses = []

    for page, prepared in each(pages, function):
        name, stages = printable_name(page.name), None
        if explain and not isinstance(prepared, NnpipeError):
            stages, prepared = prepared, prepared.prepared
        (reading,) = classifier.read_prepared([prepared])
        statuses.append(reading.status)
        if as_json:
            print(json.dumps(_as_json(page, reading, top_k=top_k, show_input=show_input)))
        elif reading.status == "error":
            say(f"nnpipe: {name}: {with_hint(prepared)}")
        else:
            print(digit_as_text(name, reading, top_k=top_k))
            if show_input and reading.pixels is not None:
                print(as_blocks(reading.pixels))
        if explain and stages:
            with replacing(explain) as stream:
                stream.write(draw_stages(stages, *classifier.judge([prepared])))
            say(f"{explain}: {name}, and how it was understood")
    _exit(statuses)


def _predict_numbers(
    pages: Iterator[NamedPage], looked_for: Wanted, *, classifier: Classifier, as_json: bool
) -> None:
    """Read the number on each page."""
    from nnpipe.numbers import ways

    statuses = []
    cut = partial(ways.prepare, separators=bool(looked_for.separators))
    for page, prepared in each(pages, partial(attempt, cut)):
        name = printable_name(page.name)
        (number,) = classifier.read_numbers([prepared], looked_for)
        statuses.append(number.status)
        if as_json:
            print(json.dumps({"path": page.path, "page": page.number, **number.shown}))
        elif number.status == "error":
            say(f"nnpipe: {name}: {with_hint(prepared)}")
        else:
            print(number_as_text(name, number))
    _exit(statuses)


def _as_json(page: NamedPage, reading: Reading, *, top_k: int, show_input: bool) -> dict[str, Any]:
    fields = dict(vars(reading))
    pixels = fields.pop("pixels")
    fields["probabilities"] = {str(digit): share for digit, share in most_likely(reading, top_k)}
    if show_input:
        fields["pixels"] = None if pixels is None else pixels.tolist()
    return {"path": page.path, "page": page.number, **fields}


def _exit(statuses: Sequence[str]) -> None:
    """Exit with the code that says whether all, some or none of the pictures could be read."""
    if all(status == "error" for status in statuses):
        raise typer.Exit(1)
    if any(status != "ok" for status in statuses):
        raise typer.Exit(INCOMPLETE)


@app.command()
@as_command
def score(request: settings.ScoreRequest, *, progress: settings.ProgressStyle = "auto") -> None:
    """Read every page of a folder, a PDF or another source, and write one row for each.

    With --form, each field of a page has a row. Rows come in the order of the paths. Hidden files
    and system litter get none. The row of a page that cannot be read gives the reason. The same
    command resumes an interrupted run. Exits with 3 if some rows are not ok, with 130 if
    interrupted.
    """
    from nnpipe import scoring

    try:
        with rate("scoring", progress) as advance:
            summary = scoring.score(request, on_progress=advance)
    except KeyboardInterrupt:
        say("interrupted; what is done is kept, and the same command goes on from there")
        raise typer.Exit(INTERRUPTED) from None
    say(f"{request.out}: {summary}")
    if not summary.complete:
        raise typer.Exit(INCOMPLETE)


@app.command()
@as_command
def download(request: settings.DownloadRequest) -> None:
    """Download MNIST, or draw digits where it cannot be reached."""
    from nnpipe import stages

    done = stages.download(request)
    say(f"{done.dataset} is below {done.data_dir}")


@app.command()
@as_command
def train(request: settings.TrainRequest) -> None:
    """Train the network into a folder of its own below weights/runs, and write its weights."""
    from nnpipe import stages
    from nnpipe.champions import Store
    from nnpipe.runs import RECORD, open_run

    with (
        open_run(Store(request.weights_dir).runs, request.run, label=request.name) as folder,
        bar("training") as advance,
    ):
        finished = (folder / RECORD).exists()
        say(f"{folder}: is finished" if finished else f"training into {folder}")
        try:
            trained = stages.train(
                folder,
                request,
                on_line=say,
                on_epoch=lambda e: advance(
                    e.number,
                    e.of,
                    f"{e.whose}loss {e.loss:.4f}, validation {e.validation_accuracy:.2%}",
                ),
            )
        except KeyboardInterrupt:
            if request.engine == "torch":
                say(f"interrupted; add --run {folder.name} to resume it")
            raise typer.Exit(INTERRUPTED) from None
    which = "adapted" if request.start else f"best epoch {trained.best_epoch}"
    share, seconds = f"{trained.validation_accuracy:.2%}", f"{trained.seconds:.0f} s"
    say(f"{which}: {share} of the validation digits read right, after {seconds}")
    folders = {"weights_dir": request.weights_dir, "data_dir": request.data_dir}
    say(f"next: {settings.command_line('evaluate', {'weights': trained.weights} | folders)}")


@app.command()
@as_command
def export(request: settings.ExportRequest) -> None:
    """Turn a run's PyTorch model into NumPy weights again, and check that both answer alike.

    Training writes the weights, too. This is for models that were trained or changed elsewhere.
    """
    from nnpipe import stages

    done = stages.export(request)
    say(
        f"{done.weights}: NumPy and PyTorch read all {done.digits:,} test digits alike "
        f"(probabilities within {done.largest_difference:.1e})"
    )
    folder = {"data_dir": request.data_dir}
    say(f"next: {settings.command_line('evaluate', {'weights': done.weights} | folder)}")


@app.command()
@as_command
def evaluate(request: settings.EvaluateRequest) -> None:
    """Measure weights on the test digits, or on your own pictures, and write a report.

    --folder holds pictures of single digits. --labels lists pictures of numbers of several digits.
    The report is one page, report.html; its figures lie beside it as JSON, CSV, Parquet and PNG.
    """
    from nnpipe import stages

    done = stages.evaluate(request)
    say(f"{done.accuracy:.2%} of {done.n:,} {done.what} read right, {done.errors:,} errors")
    if done.unreadable:
        files = "file" if done.unreadable == 1 else "files"
        say(f"{done.unreadable:,} {files} could not be read; the report lists them")
    say(f"report: {done.report / 'report.html'}")
    if done.unreadable:
        raise typer.Exit(INCOMPLETE)


@app.command()
@as_command
def inspect(weights: Path | None = None) -> None:
    """Check a weights file and show its metadata as JSON."""
    from nnpipe.classifier import champion
    from nnpipe.weights import load

    path = weights or champion()
    print(json.dumps({"path": str(path), **asdict(load(path).metadata)}, indent=2))


@app.command()
@as_command
def demo(
    reader: settings.WeightsRequest,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    allow_origin: list[str] | None = None,
    allow_host: list[str] | None = None,
    open_page: bool = True,
) -> None:
    """Serve a page to draw a digit on and watch the network read it; Ctrl-C ends it."""
    with needs("demo", "the drawing page"):
        from nnpipe.demo.server import serve

    serve(
        Classifier.load(file_of(reader)),
        host=host,
        port=port,
        allow_origins=allow_origin or (),
        allow_hosts=allow_host or (),
        open_page=open_page,
    )


@models_app.command("list")
@as_command
def list_models(*, as_json: bool = False, weights_dir: Path | None = None) -> None:
    """List the champion, former champions, and candidates below runs/.

    The accuracies are those in the weights files, on validation and on test digits.
    """
    from nnpipe.champions import Store

    models = Store(weights_dir).models()
    if as_json:
        print(json.dumps([asdict(model) for model in models], indent=2))
        return
    head = ("name", "state", "data", "recipe", "seed", "validation", "test", "created")
    table: list[tuple[str, ...]] = [head]
    for model in models:
        accuracies = (model.validation_accuracy, model.test_accuracy)
        shares = ("-" if share is None else f"{share:.2%}" for share in accuracies)
        about = (model.name, model.state, model.dataset, model.recipe, model.seed, *shares)
        cells = ("-" if cell is None else str(cell) for cell in (*about, model.created))
        table.append(tuple(map(encode_path, cells)))
    print_table(table)
    for model in models:
        if model.reason:
            say(f"damaged: {model.reason}")


@models_app.command()
@as_command
def promote(request: settings.PromoteRequest) -> None:
    """Make a run the champion if it reads the validation digits better.

    The run must have learned from the same data set and be whole. It must not read fewer digits
    right, must gain more than chance explains on the digits and their redrawn pictures, and no
    digit may lose more than one point of recall. Exits with 1 if refused.
    """
    from nnpipe.champions import Store

    store = Store(request.weights_dir)
    done = store.promote(request.run, data_dir=request.data_dir, again=request.again)
    *rules, verdict = str(done).splitlines()
    for rule in rules:
        say(rule)
    if not done.promoted:
        vetoed = done.decision.rules[0].name == "veto"
        raise PromotionError(
            f"{request.run}: {verdict}; the champion stays", advice="again" if vetoed else ""
        )
    say(verdict)


@models_app.command()
@as_command
def rollback(name: str | None = None, *, weights_dir: Path | None = None) -> None:
    """Bring a former champion back, byte for byte; 'nnpipe models list' shows them."""
    from nnpipe.champions import Store

    say(str(Store(weights_dir).rollback(name)))


@form_app.command()
@as_command
def find(page: str, *, out: Path = Path("form.toml")) -> None:
    """Propose a form: look for boxes, combs and ruled cells on a page, best an empty one.

    The page becomes the form's reference. Look at the drawing, name the fields in the .toml, and
    try it with 'nnpipe form check'.
    """
    from nnpipe.forms import making

    drawing = out.with_suffix(".fields.png")
    if out.suffix != ".toml":
        raise typer.BadParameter("needs a name that ends with .toml", param_hint="--out")
    for path in (out, drawing):
        if path.exists():
            raise OutputError(f"{path}: exists, and nnpipe does not overwrite it", advice="out")
    draft = first_page(page, making.propose)
    with replacing(out) as stream:
        stream.write(making.as_toml(draft, page=page, folder=out.parent))
    with replacing(drawing) as stream:
        stream.write(draft.drawing)
    fields = "1 field" if len(draft.fields) == 1 else f"{len(draft.fields):,} fields"
    say(f"{out}: {fields}, drawn in {drawing}; name them, and remove what you do not need")
    say(f"next: {shlex.join(['nnpipe', 'form', 'check', str(out)])} FILLED_PAGE")


@form_app.command()
@as_command
def check(form: Path, page: str, *, out: Path | None = None, weights: Path | None = None) -> None:
    """Read one page with a form, and draw where its fields fall and what is read in each.

    In the drawing, green fields are ok, amber ones are doubtful, and red ones are rejected. Exits
    with 3 if a field is not ok, with 1 if the page does not look like the form.
    """
    from nnpipe.forms import making
    from nnpipe.forms.drawing import is_drawing
    from nnpipe.forms.loading import load_form

    name, _, number = Path(page).name.partition("#")
    stem = Path(name).stem if page != "-" else "stdin"
    out = out or Path(f"{stem}.{number}.check.png" if number else f"{stem}.check.png")
    if out.suffix != ".png" or (out.exists() and Path(page).exists() and out.samefile(page)):
        why = "needs a name that ends with .png, and is not the page's"
        raise typer.BadParameter(why, param_hint="--out")
    if out.exists() and not is_drawing(out):
        raise OutputError(f"{out}: exists, and nnpipe did not draw it", advice="out")
    trial = first_page(page, partial(making.try_form, form=load_form(form), weights=weights))
    with replacing(out) as stream:
        stream.write(trial.drawing)
    print_table(making.as_table(trial))
    say(f"{out}: shows the fields on the page, which matches the form: {trial.alignment:.0%}")
    if any(number.status != "ok" for number in trial.numbers):
        raise typer.Exit(INCOMPLETE)


if __name__ == "__main__":
    main()
