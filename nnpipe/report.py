"""An evaluation as files: JSON for programs, CSV for tables, Markdown for people."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from nnpipe.evaluation import Evaluation
from nnpipe.files import replacing, write_json


def write(folder: Path, evaluation: Evaluation, about: dict[str, Any]) -> None:
    """Write ``metrics.json``, ``per_class.csv``, ``confusion.csv`` and ``report.md``.

    Args:
        folder: where to; it is made if need be.
        evaluation: the figures.
        about: what was evaluated (weights, data set, recipe, …); it heads the report.

    Raises:
        OutputError: a file cannot be written.
    """
    figures = asdict(evaluation) | {"confusion": evaluation.confusion.tolist()}
    write_json(folder / "metrics.json", {"about": about, **figures})

    per_class = pd.DataFrame(asdict(figures) for figures in evaluation.classes)
    per_class["confused_with"] = per_class["confused_with"].astype("Int64")
    digits = pd.RangeIndex(10, name="label")
    confusion = pd.DataFrame(evaluation.confusion, index=digits, columns=list(range(10)))
    with replacing(folder / "per_class.csv", "w", encoding="utf-8", newline="") as stream:
        per_class.to_csv(stream, index=False)
    with replacing(folder / "confusion.csv", "w", encoding="utf-8", newline="") as stream:
        confusion.to_csv(stream)
    with replacing(folder / "report.md", "w", encoding="utf-8") as stream:
        stream.write(markdown(evaluation, about))


def markdown(evaluation: Evaluation, about: dict[str, Any]) -> str:
    """The report as Markdown: headline, what was evaluated, per class, confusion matrix."""
    headline = (
        f"# {evaluation.accuracy:.2%} of {evaluation.n:,} digits read right\n\n"
        f"{evaluation.errors:,} errors; mean loss {evaluation.loss:.4f}; "
        f"macro F1 {evaluation.macro_f1:.4f}.\n"
    )
    facts = _table(
        ["what", "value"],
        [[name, f"{v:.6g}" if isinstance(v, float) else v] for name, v in about.items()],
    )
    per_class = _table(
        ["digit", "support", "precision", "recall", "F1", "most often taken for"],
        [
            [
                c.label,
                f"{c.support:,}",
                *("–" if share is None else f"{share:.2%}" for share in (c.precision, c.recall)),
                "–" if c.f1 is None else f"{c.f1:.4f}",
                "–" if c.confused_with is None else c.confused_with,
            ]
            for c in evaluation.classes
        ],
    )
    confusion = _table(
        ["label", *(f"read {digit}" for digit in range(10))],
        [
            [label, *(f"**{n}**" if label == answer else n or "·" for answer, n in enumerate(row))]
            for label, row in enumerate(evaluation.confusion)
        ],
    )
    return "\n".join(
        [headline, facts, "## Per class\n", per_class, "## Confusion matrix\n", confusion]
    )


def _table(header: list[str], rows: list[list[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(str(cell) for cell in line)} |\n" for line in lines)
