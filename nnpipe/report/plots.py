"""The plots of a report: each as a PNG, and its panels as SVGs in the colours of the page."""

import io
import re
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#3f83c8", "#d9722e", "#8b919a"
INK = "#1b1f24"
"""Colour of text and axes. On the page they take the colour of the text around the plot."""

RELIABILITY = "Reliability: on the line, confidence equals accuracy"

SQUARE = (5.2, 4.2)
"""Size of the plot of reliability, in inches."""

STYLE: Any = {
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "font.size": 9,
    "legend.frameon": False,
    "savefig.dpi": 130,
    "svg.fonttype": "none",
    "svg.hashsalt": "nnpipe",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


class Panel(NamedTuple):
    """One pair of axes."""

    title: str
    draw: Callable[[Axes], None]


class Plot(NamedTuple):
    """Panels of one size, in rows."""

    panels: list[Panel]
    size: tuple[float, float]  # of a panel, in inches
    columns: int = 1


def draw_all(metrics: dict[str, Any], folder: Path) -> dict[str, list[str]]:
    """Draw all plots.

    Args:
        metrics: see `metrics.contents`.
        folder: where the PNGs are written.

    Returns:
        The name of each plot → the SVGs of its panels.
    """
    svgs: dict[str, list[str]] = {}
    numbers = count()
    with mpl.rc_context(STYLE):
        for name, (panels, size, columns) in _plots(metrics).items():
            rows = -(-len(panels) // columns)
            figure = Figure((size[0] * columns, size[1] * rows), layout="constrained")
            axes = figure.subplots(rows, columns, squeeze=False).ravel()
            for panel, ax in zip(panels, axes, strict=True):
                _draw(panel, ax)
            figure.savefig(folder / f"{name}.png")
            svgs[name] = [_svg(panel, size, number=next(numbers)) for panel in panels]
    return svgs


def _plots(metrics: dict[str, Any]) -> dict[str, Plot]:
    counts = partial(_confusion, metrics["confusion"], text=_short_count)
    shares = partial(_confusion, metrics["confusion_shares"], text=_short_percent)
    coverage = partial(_coverage, metrics["coverage"])
    plots = {
        "confusion": Plot(
            [Panel("Counts", counts), Panel("% of each label", shares)], (4.6, 4.6), 2
        ),
        "coverage": Plot([Panel("Share of errors, by share that is read", coverage)], (6.4, 3.2)),
    }
    return plots | (_digit_plots(metrics) if "classes" in metrics else _number_plots(metrics))


def _digit_plots(metrics: dict[str, Any]) -> dict[str, Plot]:
    """Return the plots that only a report on single digits has."""
    calibration = metrics["calibration"]
    classes = partial(_classes, metrics["classes"])
    digits = [
        Panel(f"digit {digit['label']}", partial(_before_and_after, digit, small=True))
        for digit in calibration["classes"]
    ]
    changes = [Panel(kind["name"], partial(_robustness, kind)) for kind in metrics["robustness"]]
    return {
        "classes": Plot([Panel("Precision and recall, with 95 % intervals", classes)], (6.4, 3.0)),
        "reliability": Plot([Panel(RELIABILITY, partial(_before_and_after, calibration))], SQUARE),
        "reliability-per-class": Plot(digits, (2.2, 2.0), 5),
        "robustness": Plot(changes, (3.1, 2.5), 4),
    }


def _number_plots(metrics: dict[str, Any]) -> dict[str, Plot]:
    """Return the plots that only a report on numbers has."""
    if not metrics["reliability"]:
        return {}
    series = {"numbers": (metrics["reliability"]["bins"], BLUE)}
    return {"reliability": Plot([Panel(RELIABILITY, partial(_reliability, series))], SQUARE)}


def _draw(panel: Panel, ax: Axes) -> None:
    ax.set_title(panel.title)
    panel.draw(ax)


def _svg(panel: Panel, size: tuple[float, float], *, number: int) -> str:
    figure = Figure(size, layout="constrained")
    _draw(panel, figure.subplots())
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    # All plots are in one document, so their ids must differ.
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>p{number}-", text)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg [^>]*?) width="[\d.]+pt" height="[\d.]+pt"', r"\1", text, count=1)
    return text.replace("<svg ", f'<svg role="img" aria-label="{panel.title}" ', 1)


def _error_bars(estimates: list[dict[str, float]], *, scale: float = 1) -> dict[str, Any]:
    """Return estimates as arguments of `Axes.errorbar`."""
    table = scale * pd.DataFrame(estimates)
    return {"y": table.value, "yerr": [table.value - table.low, table.high - table.value]}


def _classes(figures: list[dict[str, Any]], ax: Axes) -> None:
    for name, colour, marker, offset in (
        ("precision", BLUE, "o", -0.13),
        ("recall", ORANGE, "s", 0.13),
    ):
        defined = [digit for digit in figures if digit[name]]
        ax.errorbar(
            [digit["label"] + offset for digit in defined],
            **_error_bars([digit[name] for digit in defined], scale=100),
            fmt=marker,
            color=colour,
            label=name,
            markersize=4,
            capsize=2,
        )
    ax.set(xticks=range(10), xlabel="digit", ylabel="%")
    ax.legend(loc="upper left", bbox_to_anchor=(0, -0.16), ncols=2)


def _confusion(
    figures: list[list[float | None]], ax: Axes, *, text: Callable[[float], str]
) -> None:
    table = np.nan_to_num(np.array(figures, float))
    errors = table - np.diag(table.diagonal())
    # Errors have a scale of their own; beside the diagonal they would all look alike.
    alphas = np.where(errors, 0.15 + 0.75 * errors / (errors.max() or 1), 0)
    image = np.dstack([np.full((*table.shape, 3), to_rgb(ORANGE)), alphas])
    for digit, hits in enumerate(table.diagonal()):
        image[digit, digit] = (*to_rgb(BLUE), 0.35 if hits else 0)
    ax.imshow(image, interpolation="nearest")
    for (row, column), value in np.ndenumerate(table):
        if value:
            ax.text(column, row, text(value), ha="center", va="center", fontsize=7.5)
    ax.set(xticks=range(10), yticks=range(10), xlabel="read as", ylabel="label")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _short_count(n: float) -> str:
    return f"{n:.0f}" if n < 10_000 else f"{n / 1000:.0f}k"


def _short_percent(share: float) -> str:
    return f"{100 * share:.1f}" if not 0.9995 <= share < 1 else ">99.9"


def _before_and_after(figures: dict[str, Any], ax: Axes, *, small: bool = False) -> None:
    colours = {"before": GREY, "after": BLUE}
    series = {
        f"{name} temperature scaling": (figures[name]["bins"], colour)
        for name, colour in colours.items()
    }
    _reliability(series, ax, small=small)


def _reliability(series: dict[str, tuple[Any, str]], ax: Axes, *, small: bool = False) -> None:
    """Draw series of bins; each has a name and a colour."""
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    ax.set(xlim=(0, 1), ylim=(0, 1))
    for label, (figures, colour) in series.items():
        bins = pd.DataFrame(figures)
        x, bars = bins.confidence, _error_bars(list(bins.accuracy))
        if not small:
            ax.errorbar(x, **bars, fmt="none", ecolor=colour, elinewidth=0.8)
        # Areas on a logarithmic scale: most bins hold a few pictures, and one holds nearly all.
        areas = 6 * np.log10(10 * bins.n)
        ax.scatter(x, bars["y"], areas, colour, label=label, clip_on=False, zorder=3)
    if small:
        ax.set(xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    else:
        ax.set(xlabel="confidence", ylabel="accuracy")
        if len(series) > 1:
            ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, handletextpad=0.2)


def _coverage(figures: dict[str, Any], ax: Axes) -> None:
    curve = 100 * pd.DataFrame(figures["curve"])
    ax.plot(curve.coverage, curve.error, color=BLUE, linewidth=1.5)
    # The axis starts shortly before the first error; before that the curve is 0.
    errors = curve.coverage[curve.error > 0]
    start = max(0, errors.min() - 10) if len(errors) else 0
    ax.set(xlim=(start, 101), ylim=(0, None))
    points: dict[tuple[float, float], list[str]] = {}
    for budget in figures["budgets"]:
        if budget["error"]:
            point = 100 * budget["coverage"], 100 * budget["error"]["value"]
            points.setdefault(point, []).append(f"{100 * budget['budget']:g} %")
    for (x, y), budgets in points.items():
        ax.plot(x, y, "o", color=ORANGE, markersize=5)
        left = x > (start + 100) / 2
        style: Any = {"xytext": (-6 if left else 6, 5), "ha": "right" if left else "left"}
        text = f"{', '.join(budgets)} allowed"
        ax.annotate(text, (x, y), textcoords="offset points", **style)
    ax.set(xlabel="% read, the most confident first", ylabel="% of them wrong")


def _robustness(figures: dict[str, Any], ax: Axes) -> None:
    x = figures["strengths"]
    accuracy = 100 * pd.DataFrame(figures["accuracy"]).value
    digits = 100 * pd.DataFrame(figures["classes"], dtype=float).dropna()
    ax.plot(x, digits.T, color=GREY, linewidth=0.5, alpha=0.6)
    ax.plot(x, accuracy, "o-", color=BLUE, markersize=3)
    # Label the worst and the best digit where the accuracy is lowest.
    worst = accuracy.argmin()
    shares = digits[worst]
    for share, digit, va in (
        (shares.min(), shares.idxmin(), "top"),
        (shares.max(), shares.idxmax(), "bottom"),
    ):
        ax.annotate(str(digit), (x[worst], share), fontsize=8, va=va, ha="center")
    ax.axvline(figures["unchanged"], color=GREY, linewidth=0.8, linestyle=":")
    ax.set(ylim=(-4, 104), xlabel=figures["unit"])
