"""A report on weights: one page for people, figures for programs.

    report.html          all of it, in one file that opens anywhere
    report.md            its summary
    metrics.json         every number of it; docs/report.md explains the keys
    per_class.csv  confusion.csv  predictions.parquet
    plots/*.png

`measure` finds what `write` writes.
"""

import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from nnpipe.errors import OutputError
from nnpipe.files import cannot_write, write_json
from nnpipe.report.contents import contents
from nnpipe.report.measure import Measured, measure
from nnpipe.report.page import markdown, render
from nnpipe.report.pictures import encode_pictures

__all__ = ["Measured", "measure", "write"]

METRICS = "metrics.json"
PLOTS = tuple(
    Path("plots", f"{name}.png")
    for name in (
        "classes",
        "confusion",
        "coverage",
        "reliability",
        "reliability-per-class",
        "robustness",
    )
)
ESTIMATES = ("precision", "recall", "f1")


FILES = ("report.html", "report.md", "per_class.csv", "confusion.csv", "predictions.parquet")


def check_folder(folder: Path) -> None:
    """See that a report would overwrite nothing but another report.

    Raises:
        OutputError: a file with the name of one of a report's lies there, and no report does.
    """
    names = [name for name in (*FILES, METRICS) if (folder / name).exists()]
    if names and METRICS not in names:
        why = f"is not of a report (there is no {METRICS} beside it); name another --out"
        raise OutputError(f"{folder / names[0]}: {why}")


def write(folder: Path, measured: Measured, plots: bool = True) -> dict[str, Any]:
    """Write a report, ``metrics.json`` last.

    A report that cannot be written, for want of space, say, leaves an earlier one as it was.

    Args:
        folder: where to; it is made if need be.
        measured: what to report on.
        plots: whether to draw plots, which takes some seconds; the page has tables without them.

    Returns:
        What ``metrics.json`` holds.

    Raises:
        OutputError: a file cannot be written.
        ModuleNotFoundError: plots are asked for, and matplotlib is not installed.
    """
    metrics = contents(measured)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".nnpipe-", dir=folder) as name:
            new = Path(name)
            _write_files(new, metrics, measured, plots)
            files = [path.relative_to(new) for path in new.rglob("*") if path.is_file()]
            for file in sorted(files, key=lambda file: file.name == METRICS):
                (folder / file).parent.mkdir(exist_ok=True)
                (new / file).replace(folder / file)
            for plot in PLOTS:
                if plot not in files:  # it is of an earlier report
                    (folder / plot).unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    return metrics


def _write_files(folder: Path, metrics: dict[str, Any], measured: Measured, plots: bool) -> None:
    drawn: dict[str, list[str]] = {}
    if plots:
        from nnpipe.report.plots import draw_all

        (folder / "plots").mkdir()
        drawn = draw_all(metrics, folder / "plots")
    digits = pd.RangeIndex(10, name="label")
    confusion = pd.DataFrame(metrics["confusion"], index=digits, columns=range(10))
    per_class(metrics).to_csv(folder / "per_class.csv", index=False, lineterminator="\n")
    confusion.to_csv(folder / "confusion.csv", lineterminator="\n")
    with open(folder / "predictions.parquet", "wb") as stream:  # its path need not be UTF-8
        predictions(measured).to_parquet(stream, compression="zstd")
    page = render(metrics, drawn, encode_pictures(metrics, measured))
    (folder / "report.html").write_text(page, encoding="utf-8")
    (folder / "report.md").write_text(markdown(metrics), encoding="utf-8")
    write_json(folder / METRICS, metrics)


def per_class(metrics: dict[str, Any]) -> pd.DataFrame:
    """The per-class table: one row for each digit, an interval as two more columns."""
    rows = []
    for figures in metrics["classes"]:
        row = {"label": figures["label"], "support": figures["support"]}
        row["predicted"] = figures["predicted"]
        for name in ESTIMATES:
            estimate = figures[name] or dict.fromkeys(("value", "low", "high"))
            row |= {name: estimate["value"]}
            row |= {f"{name}_{end}": estimate[end] for end in ("low", "high")}
        rows.append(row | {key: figures[key] for key in ("confused_with", "confused")})
    return pd.DataFrame(rows).astype({"confused_with": "Int64"})


def predictions(measured: Measured) -> pd.DataFrame:
    """One row for each picture, those that cannot be read at the end."""
    p, evaluation = measured.probabilities, measured.evaluation
    confidence = p.max(axis=1)
    rejected = (confidence < evaluation.rejection.threshold) | [
        bool(refusal) for refusal in measured.labelled.refusals
    ]
    table = pd.DataFrame(
        {
            "name": measured.labelled.names,
            "label": measured.labelled.digits.labels,
            "answer": p.argmax(axis=1).astype("uint8"),
            "confidence": confidence.round(6),
            "status": pd.Series(rejected).map({True: "rejected", False: "ok"}),
            "reason": list(measured.labelled.refusals),
        }
        | {f"p{digit}": p[:, digit].round(6) for digit in range(p.shape[1])}
    )
    if measured.champion is not None:
        table["champion_answer"] = measured.champion.answers.astype("uint8")
    unreadable = pd.DataFrame(
        [(file.name, "error", file.reason) for file in measured.labelled.unreadable],
        columns=["name", "status", "reason"],
    )
    if not unreadable.empty:
        whole = dict.fromkeys(("label", "answer", "champion_answer"), "UInt8")
        table = table.astype({k: v for k, v in whole.items() if k in table})
        table = pd.concat([table, unreadable], ignore_index=True)
    return table
