"""The report's plots: each as a PNG, and panel by panel as SVG that takes the page's colours."""

import io
import math
import re
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#3f83c8", "#d9722e", "#8b919a"
INK = "#1b1f24"
"""Text and axes. In the page it becomes the colour of the text around it."""

STYLE: Any = {
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "axes.titlecolor": INK,
    "font.size": 9,
    "legend.frameon": False,
    "legend.labelcolor": INK,
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
    size: tuple[float, float]  # inches


def draw_all(metrics: dict[str, Any], folder: Path) -> dict[str, list[str]]:
    """Draw every plot.

    Args:
        metrics: what `contents.contents` has put together.
        folder: where a PNG of each goes.

    Returns:
        The name of each plot → the SVGs of its panels.
    """
    with mpl.rc_context(STYLE):
        numbers = count()
        svgs = {}
        for name, panels, columns in _plots(metrics):
            _write_png(folder / f"{name}.png", panels, columns)
            svgs[name] = [_svg(panel, next(numbers)) for panel in panels]
        return svgs


def _plots(metrics: dict[str, Any]) -> Iterator[tuple[str, list[Panel], int]]:
    yield "classes", [_classes(metrics["classes"])], 1
    yield "confusion", _confusion(metrics["confusion"], metrics["confusion_shares"]), 2
    calibration = metrics["calibration"]
    yield "reliability", [_reliability(calibration)], 1
    yield "reliability-per-class", _reliability_per_class(calibration), 5
    yield "coverage", [_coverage(metrics["coverage"])], 1
    yield "robustness", [_robustness(series) for series in metrics["robustness"]], 4


def _write_png(path: Path, panels: list[Panel], columns: int) -> None:
    rows = -(-len(panels) // columns)
    width, height = panels[0].size
    figure = Figure((width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, ax in zip(panels, axes, strict=True):
        _draw(panel, ax)
    figure.savefig(path)


def _svg(panel: Panel, number: int) -> str:
    figure = Figure(panel.size, layout="constrained")
    _draw(panel, figure.subplots())
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    # Ids are the document's; several plots in one page must not share theirs.
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>p{number}-", text)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg [^>]*?) width="[\d.]+pt" height="[\d.]+pt"', r"\1", text, count=1)
    return text.replace("<svg ", f'<svg role="img" aria-label="{panel.title}" ', 1)


def _draw(panel: Panel, ax: Axes) -> None:
    ax.set_title(panel.title)
    panel.draw(ax)


def _errors(estimates: list[dict[str, float]]) -> list[list[float]]:
    """Error bars, as matplotlib wants them, in percent."""
    return [
        [100 * (e["value"] - e["low"]) for e in estimates],
        [100 * (e["high"] - e["value"]) for e in estimates],
    ]


def _classes(classes: list[dict[str, Any]]) -> Panel:
    def draw(ax: Axes) -> None:
        for name, colour, marker, offset in (
            ("precision", BLUE, "o", -0.13),
            ("recall", ORANGE, "s", 0.13),
        ):
            there = [c for c in classes if c[name]]
            ax.errorbar(
                [c["label"] + offset for c in there],
                [100 * c[name]["value"] for c in there],
                yerr=_errors([c[name] for c in there]),
                fmt=marker,
                color=colour,
                label=name,
                markersize=4,
                capsize=2,
            )
        ax.set_xticks(range(10))
        ax.set_xlabel("digit")
        ax.set_ylabel("%")
        ax.legend(loc="upper left", bbox_to_anchor=(0, -0.16), ncols=2)

    return Panel("Precision and recall, with 95 % intervals", draw, (6.4, 3.0))


def _confusion(counts: list[list[int]], shares: list[list[float | None]]) -> list[Panel]:
    def panel(title: str, values: list[list[Any]], text: Callable[[Any], str]) -> Panel:
        def draw(ax: Axes) -> None:
            rows = [[value or 0 for value in row] for row in values]
            # Errors are what one looks for; on a common scale the diagonal would drown them.
            most = max(value for i, row in enumerate(rows) for value in row[:i] + row[i + 1 :])
            image = [
                [
                    to_rgba(BLUE, 0.35 if value else 0)
                    if i == j
                    else to_rgba(ORANGE, 0.15 + 0.75 * value / most if value else 0)
                    for j, value in enumerate(row)
                ]
                for i, row in enumerate(rows)
            ]
            ax.imshow(image, interpolation="nearest")
            for i, row in enumerate(rows):
                for j, value in enumerate(row):
                    if value:
                        ax.text(j, i, text(value), ha="center", va="center", fontsize=7.5)
            ax.set_xticks(range(10))
            ax.set_yticks(range(10))
            ax.set_xlabel("read as")
            ax.set_ylabel("label")
            ax.tick_params(length=0)
            ax.spines[:].set_visible(False)

        return Panel(title, draw, (4.6, 4.6))

    return [
        panel("Counts", counts, lambda n: str(n) if n < 10_000 else f"{n / 1000:.0f}k"),
        panel(
            "% of each label",
            shares,
            lambda share: f"{100 * share:.1f}" if not 0.9995 <= share < 1 else ">99.9",
        ),
    ]


def _diagonal(ax: Axes) -> None:
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)


def _reliability(calibration: dict[str, Any]) -> Panel:
    def draw(ax: Axes) -> None:
        _diagonal(ax)
        for name, colour in (("before", GREY), ("after", BLUE)):
            bins = calibration[name]["bins"]
            x, estimates = [b["confidence"] for b in bins], [b["accuracy"] for b in bins]
            sides = [[e / 100 for e in side] for side in _errors(estimates)]
            y = [e["value"] for e in estimates]
            ax.errorbar(x, y, yerr=sides, fmt="none", ecolor=colour, elinewidth=0.8)
            label = f"{name} temperature scaling"
            ax.scatter(x, y, _sizes(bins), colour, label=label, clip_on=False, zorder=3)
        ax.set_xlabel("confidence")
        ax.set_ylabel("share that is right")
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, handletextpad=0.2)

    return Panel("Reliability: on the line, confidence is what it says", draw, (5.2, 4.2))


def _reliability_per_class(calibration: dict[str, Any]) -> list[Panel]:
    def panel(figures: dict[str, Any]) -> Panel:
        def draw(ax: Axes) -> None:
            _diagonal(ax)
            for name, colour in (("before", GREY), ("after", BLUE)):
                bins = figures[name]["bins"]
                x, y = [b["confidence"] for b in bins], [b["accuracy"]["value"] for b in bins]
                ax.scatter(x, y, _sizes(bins), colour, clip_on=False, zorder=3)
            ax.set_xticks([0, 0.5, 1])
            ax.set_yticks([0, 0.5, 1])

        return Panel(f"digit {figures['label']}", draw, (2.2, 2.0))

    return [panel(figures) for figures in calibration["classes"]]


def _sizes(bins: list[dict[str, Any]]) -> list[float]:
    """Areas of points: most bins hold a few pictures, and one holds nearly all."""
    return [6 * math.log10(10 * b["n"]) for b in bins]


def _coverage(coverage: dict[str, Any]) -> Panel:
    def draw(ax: Axes) -> None:
        curve = coverage["curve"]
        ax.plot(
            [100 * point["coverage"] for point in curve],
            [100 * point["error"] for point in curve],
            color=BLUE,
            linewidth=1.5,
        )
        for budget in coverage["budgets"]:
            if budget["error"]:
                x, y = 100 * budget["coverage"], 100 * budget["error"]["value"]
                ax.plot(x, y, "o", color=ORANGE, markersize=5)
                ax.annotate(
                    f"{100 * budget['budget']:g} % allowed ",
                    (x, y),
                    textcoords="offset points",
                    xytext=(-6, 5),
                    ha="right",
                )
        ax.set_xlabel("% read, the most confident first")
        ax.set_ylabel("% of them wrong")
        ax.set_ylim(bottom=0)
        # Up to there nothing is wrong, and nothing to be seen.
        first = next((point["coverage"] for point in curve if point["error"]), 0)
        ax.set_xlim(max(0, 100 * first - 10), 101)

    return Panel("How much can be read, at which error", draw, (6.4, 3.2))


def _robustness(series: dict[str, Any]) -> Panel:
    def draw(ax: Axes) -> None:
        x = series["strengths"]
        for shares in series["classes"]:
            if None not in shares:
                ax.plot(x, [100 * share for share in shares], color=GREY, linewidth=0.5, alpha=0.6)
        accuracy = series["accuracy"]
        ax.plot(x, [100 * a["value"] for a in accuracy], "o-", color=BLUE, markersize=3)
        # The digit that suffers most where it is worst, by name.
        worst = min(range(len(x)), key=lambda i: accuracy[i]["value"])
        there = [
            (s[worst], digit) for digit, s in enumerate(series["classes"]) if s[worst] is not None
        ]
        for (share, digit), va in ((min(there), "top"), (max(there), "bottom")):
            ax.annotate(str(digit), (x[worst], 100 * share), fontsize=8, va=va, ha="center")
        ax.axvline(series["unchanged"], color=GREY, linewidth=0.8, linestyle=":")
        ax.set_ylim(-4, 104)
        ax.set_xlabel(series["unit"])

    return Panel(series["name"], draw, (3.1, 2.5))
