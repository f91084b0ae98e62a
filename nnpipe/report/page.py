"""The page of a report, and its summary in Markdown."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from nnpipe.evaluation.confidence import BINS

NARROW = "\N{NARROW NO-BREAK SPACE}"


def render(
    name: str, metrics: dict[str, Any], *, plots: dict[str, list[str]], pictures: dict[str, Any]
) -> str:
    """Return the text of ``report.html`` or ``report.md``.

    Args:
        name: of the file.
        metrics: see `contents.contents`.
        plots: SVGs by the name of the plot; without them the page shows tables.
        pictures: data URIs, see `pictures.encode_pictures`.
    """
    environment = Environment(
        loader=PackageLoader("nnpipe.report", "."),
        autoescape=name.endswith(".html"),
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {f.__name__: f for f in (percent, number, share, estimate)}
    # This package draws the plots; everything else is escaped.
    safe = {plot: [Markup(svg) for svg in svgs] for plot, svgs in plots.items()}  # noqa: S704
    template = environment.get_template(f"{name}.jinja")
    return template.render(bins=BINS, m=metrics, plots=safe, pictures=pictures)


def percent(value: float, digits: int = 2) -> str:
    """Write a share in [0, 1] as per cent."""
    return f"{100 * value:.{digits}f}{NARROW}%"


def number(value: int) -> str:
    """Write a count with a comma between thousands."""
    return f"{value:,}"


def share(value: float | None, digits: int = 4) -> str:
    """Write a figure as a decimal fraction, None as a dash."""
    return "–" if value is None else f"{value:.{digits}f}"


def estimate(value: dict[str, float] | None, digits: int = 2) -> str:
    """Write a share with its interval in HTML, None as a dash."""
    if value is None:
        return "–"
    low, high = (f"{100 * value[end]:.{digits}f}" for end in ("low", "high"))
    return Markup('{} <span class="interval">{} to {}</span>').format(
        percent(value["value"], digits), low, high
    )
