"""A report on weights: a page for people, figures for programs.

    report.html          everything, in one file that needs no other
    report.md            a summary
    metrics.json         every number; docs/report.md explains the keys
    per_class.csv  confusion.csv  predictions.parquet
    plots/*.png

A report on numbers of several digits has no ``per_class.csv`` and fewer plots. `measure` and
`measure_numbers` compute what `write` writes.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nnpipe.errors import OutputError
from nnpipe.files import cannot_write, write_json
from nnpipe.report.metrics import Measured, contents, measure
from nnpipe.report.numbers import (
    MeasuredNumbers,
    measure_numbers,
    number_contents,
    number_predictions,
)
from nnpipe.report.page import encode_numbers, encode_pictures, render

__all__ = ["Measured", "MeasuredNumbers", "measure", "measure_numbers", "write"]

METRICS = "metrics.json"
FILES = ("report.html", "report.md", "per_class.csv", "confusion.csv", "predictions.parquet")
PLOTS = tuple(
    f"plots/{plot}.png"
    for plot in (
        *("classes", "confusion", "coverage"),
        *("reliability", "reliability-per-class", "robustness"),
    )
)


def check_folder(folder: Path) -> None:
    """Check that a report would overwrite nothing but another report.

    Raises:
        OutputError: the folder has a file with a report's name, but no report.
    """
    names = [name for name in (*FILES, METRICS) if (folder / name).exists()]
    if names and METRICS not in names:
        why = f"is not part of a report: there is no {METRICS} beside it"
        raise OutputError(f"{folder / names[0]}: {why}", advice="out")


def write(
    folder: Path, measured: Measured | MeasuredNumbers, *, plots: bool = True
) -> dict[str, Any]:
    """Write a report, ``metrics.json`` last.

    If it cannot be written, for example because the disk is full, an earlier one stays as it is.

    Args:
        folder: where to write it; it is made if it is missing.
        measured: the content.
        plots: draw plots, which takes some seconds. Without them the page shows tables.

    Returns:
        The content of ``metrics.json``.

    Raises:
        OutputError: a file cannot be written.
        ModuleNotFoundError: plots are requested, and matplotlib is not installed.
    """
    metrics = contents(measured) if isinstance(measured, Measured) else number_contents(measured)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".nnpipe-", dir=folder) as name:
            new = Path(name)
            _write_files(new, metrics, measured=measured, plots=plots)
            files = [path.relative_to(new) for path in new.rglob("*") if path.is_file()]
            for file in sorted(files, key=lambda file: file.name == METRICS):
                (folder / file).parent.mkdir(exist_ok=True)
                (new / file).replace(folder / file)
            for file in {Path(name) for name in (*FILES, *PLOTS)}.difference(files):
                (folder / file).unlink(missing_ok=True)  # of an earlier report
    except OSError as error:
        raise cannot_write(folder, error) from error
    return metrics


def _write_files(
    folder: Path, metrics: dict[str, Any], *, measured: Measured | MeasuredNumbers, plots: bool
) -> None:
    svgs: dict[str, list[str]] = {}
    if plots:
        from nnpipe.report.plots import draw_all

        (folder / "plots").mkdir()
        svgs = draw_all(metrics, folder / "plots")
    if isinstance(measured, Measured):
        per_class(metrics).to_csv(folder / "per_class.csv", index=False, lineterminator="\n")
        kind, table = "report", predictions(measured)
        pictures = encode_pictures(metrics, measured)
    else:
        kind, table = "numbers", number_predictions(measured)
        pictures = encode_numbers(metrics, measured)
    digits = pd.RangeIndex(10, name="label")
    confusion = pd.DataFrame(metrics["confusion"], index=digits, columns=range(10))
    confusion.to_csv(folder / "confusion.csv", lineterminator="\n")
    with open(folder / "predictions.parquet", "wb") as stream:  # its path need not be UTF-8
        table.to_parquet(stream, compression="zstd")
    for suffix in ("html", "md"):
        text = render(f"{kind}.{suffix}", metrics, plots=svgs, pictures=pictures)
        (folder / f"report.{suffix}").write_text(text, encoding="utf-8")
    write_json(folder / METRICS, metrics)


def per_class(metrics: dict[str, Any]) -> pd.DataFrame:
    """Return a table with a row for each digit; the ends of an interval are two more columns."""
    ends = ("value", "low", "high")
    estimates = [f"{name}_{end}" for name in ("precision", "recall", "f1") for end in ends]
    columns = ["label", "support", "predicted", *estimates, "confused_with", "confused"]
    table = pd.json_normalize(metrics["classes"], sep="_").reindex(columns=columns)
    table = table.rename(columns=lambda name: name.removesuffix("_value"))
    return table.astype({"confused_with": "Int64"})


def predictions(measured: Measured) -> pd.DataFrame:
    """Return a table with a row for each picture; unreadable files come last."""
    labelled, p = measured.labelled, measured.probabilities
    confidence = p.max(axis=1)
    refused = [bool(refusal) for refusal in labelled.refusals]
    rejected = (confidence < measured.evaluation.rejection.threshold) | refused
    table = pd.DataFrame(
        {
            "name": labelled.names,
            "label": labelled.digits.labels,
            "answer": p.argmax(axis=1).astype("uint8"),
            "confidence": confidence.round(6),
            "status": np.where(rejected, "rejected", "ok"),
            "reason": list(labelled.refusals),
        }
        | {f"p{digit}": p[:, digit].round(6) for digit in range(p.shape[1])}
    )
    if measured.champion is not None:
        table["champion_answer"] = measured.champion.answers.astype("uint8")
    if labelled.unreadable:
        unreadable = pd.DataFrame(list(labelled.unreadable)).assign(status="error")
        digits = table.columns.intersection(["label", "answer", "champion_answer"])
        table = table.astype(dict.fromkeys(digits, "UInt8"))
        table = pd.concat([table, unreadable], ignore_index=True)
    return table
