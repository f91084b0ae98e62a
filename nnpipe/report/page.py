"""A report as a page, and its summary as Markdown, from the figures alone."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from nnpipe.evaluation.reliability import BINS

NARROW = "\N{NARROW NO-BREAK SPACE}"


def render(metrics: dict[str, Any], plots: dict[str, list[str]], pictures: dict[str, Any]) -> str:
    """Put the figures into the page; it needs nothing but itself.

    Args:
        metrics: what `contents.contents` has put together.
        plots: SVGs by the name of the plot; without them there are tables alone.
        pictures: data URIs, see `pictures.encode_pictures`.
    """
    environment = Environment(
        loader=PackageLoader("nnpipe.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "number": number,
        "share": share,
        "estimate": estimate,
    }
    template = environment.get_template("page.html.jinja")
    # The plots are drawn by this package; everything else is escaped.
    safe = {name: [Markup(svg) for svg in svgs] for name, svgs in plots.items()}  # noqa: S704
    return template.render(bins=BINS, m=metrics, plots=safe, pictures=pictures)


def percent(value: float, digits: int = 2) -> str:
    """A share in [0, 1] as percent."""
    return f"{100 * value:.{digits}f}{NARROW}%"


def number(value: int) -> str:
    """A count, with thousands apart."""
    return f"{value:,}"


def share(value: float | None, digits: int = 4) -> str:
    """A figure as a decimal fraction; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def estimate(value: dict[str, float] | None, digits: int = 2) -> str:
    """A share with its interval; a dash where there is none."""
    if value is None:
        return "–"
    low, high = (f"{100 * value[end]:.{digits}f}" for end in ("low", "high"))
    return Markup('{} <span class="interval">{} to {}</span>').format(
        percent(value["value"], digits), low, high
    )


def markdown(metrics: dict[str, Any]) -> str:
    """The summary: headline, what goes wrong, what was evaluated, per class."""
    about, accuracy = metrics["about"], metrics["accuracy"]
    facts = [
        ["measured on", about["measured_on"]],
        ["weights", f"`{about['weights']}`, {about['parameters']:,} parameters"],
        ["trained", f"on {about['trained_on']}, recipe `{about['recipe']}`, seed {about['seed']}"],
        ["errors", f"{metrics['errors']:,} of {metrics['n']:,}"],
        ["accuracy", f"{accuracy['value']:.2%} ({accuracy['low']:.2%} to {accuracy['high']:.2%})"],
        ["log loss, calibration error", _calibration(metrics["calibration"]["after"])],
    ]
    rows = [
        [
            figures["label"],
            f"{figures['support']:,}",
            *(_cell(figures[name]) for name in ("precision", "recall", "f1")),
            "–" if figures["confused_with"] is None else figures["confused_with"],
        ]
        for figures in metrics["classes"]
    ]
    return "\n".join(
        [
            f"# {metrics['summary']['headline']}\n",
            f"{metrics['summary']['mistakes']} {metrics['summary']['against_champion']}\n",
            _table(["what", "value"], facts),
            "## Per class\n",
            _table(["digit", "pictures", "precision", "recall", "F1", "most taken for"], rows),
            "In brackets 95 % intervals. `report.html` has all figures, plots and pictures.\n",
        ]
    )


def _calibration(figures: dict[str, float]) -> str:
    return f"{figures['nll']:.4f}, {figures['ece']:.4f}"


def _cell(figures: dict[str, float] | None) -> str:
    if figures is None:
        return "–"
    return f"{figures['value']:.2%} ({figures['low']:.2%} to {figures['high']:.2%})"


def _table(header: list[str], rows: list[list[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(str(cell) for cell in line)} |\n" for line in lines)
