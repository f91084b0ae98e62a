"""Progress of a long command, on stderr."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nnpipe.settings import ProgressStyle

SECONDS_BETWEEN_LINES = 5

Advance = Callable[[int, int, str], None]
"""Called with how much is done, of how much, and a remark."""


@contextmanager
def bar(what: str) -> Iterator[Advance]:
    """Show a bar on a terminal, and nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft

    console = Console(stderr=True)
    remarks = TextColumn("{task.fields[remark]}")
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeLeft(), remarks)
    with Progress(*columns, console=console, disable=not console.is_terminal) as shown:
        task = shown.add_task(what, total=None, remark="")
        yield lambda done, of, remark: shown.update(task, completed=done, total=of, remark=remark)


@contextmanager
def rate(what: str, style: ProgressStyle) -> Iterator[Callable[[int, int], None] | None]:
    """Show how much is done, of how much, and how many a second; give None for style "none"."""
    start = last_line = time.monotonic()
    ended = False
    before: int | None = None  # what was done when the command was given

    def speed(done: int) -> float:
        nonlocal before
        before = done if before is None else before
        return (done - before) / max(time.monotonic() - start, 1e-9)

    def line(done: int, of: int) -> None:
        nonlocal last_line, ended
        now = speed(done)
        if (done == of and not ended) or time.monotonic() - last_line >= SECONDS_BETWEEN_LINES:
            last_line, ended = time.monotonic(), done == of
            seconds_left = round((of - done) / now, 1) if now else None
            report = {"done": done, "of": of, "rate": round(now, 1), "seconds_left": seconds_left}
            print(json.dumps(report), file=sys.stderr)

    if style == "auto":
        with bar(what) as advance:
            yield lambda done, of: advance(done, of, f"{speed(done):,.0f} a second")
    else:
        yield line if style == "json" else None
