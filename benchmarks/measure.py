"""What the benchmarks share: timing in turns, ratios within a round, tables, and the machine.

Machines differ and are never quiet. So all ways of a comparison run in one process and take turns,
and a ratio is taken within each round, where both ways met the same noise.
"""

import argparse
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from nnpipe import datasets
from nnpipe.datasets import Dataset, Digits
from nnpipe.errors import DatasetError
from nnpipe.preprocess import as_inputs

Inputs = tuple[np.ndarray, np.ndarray]
"""Pixels in [0, 1], float32 (n, 784), and labels, int64 (n,)."""

Times = dict[tuple[str, int], list[float]]
"""Seconds of each round, by a way's name and its number of threads."""

PAUSE = 0.1  # seconds; idle threads of the way before still look for work for a while


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """Hold NumPy's BLAS and PyTorch to so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads):
            yield
    finally:
        torch.set_num_threads(before)


def in_turns(
    ways: Mapping[str, Callable[[int], object]], rounds: int, threads: Sequence[int] = (1, 2)
) -> Times:
    """Time each way with each number of threads, in so many rounds after one to warm up.

    A way is `limited` to that number, and called with it.
    """
    times: Times = {(name, count): [] for name in ways for count in threads}
    for turn in range(rounds + 1):
        for (name, count), taken in times.items():
            with limited(count):
                time.sleep(PAUSE)
                start = time.perf_counter()
                ways[name](count)
                if turn:
                    taken.append(time.perf_counter() - start)
    return times


def best(times: Times, name: str) -> list[float]:
    """A way's times with the number of threads that suits it best."""
    return min((t for (way, _), t in times.items() if way == name), key=statistics.median)


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """The ratio of each round."""
    return [a / b for a, b in zip(above, below, strict=True)]


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Median, least and most."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def row(*cells: object) -> None:
    """Print a line of a Markdown table."""
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def table(title: str, *columns: str) -> None:
    """Print a table's title and head; `row` prints the rest."""
    print(f"\n### {title}\n")
    row(*columns)
    row(*len(columns) * ["---"])


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine(*packages: str) -> None:
    """Print the processor, its cores, and the versions of Python, NumPy and further packages."""
    cpuinfo = Path("/proc/cpuinfo")
    known = re.search("model name\t: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    processor = known[1] if known else platform.processor() or platform.machine()
    versions = [f"{name} {version(name)}" for name in ("numpy", *packages)]
    python = f"Python {platform.python_version()}"
    print(", ".join([processor, f"{cores()} cores", python, *versions]), flush=True)


def option_parser(about: str | None) -> argparse.ArgumentParser:
    """A parser of a benchmark's options; all that need digits have --data-dir."""
    parser = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    return parser


def load(folder: Path) -> Dataset:
    """MNIST if it lies below ``folder``, else drawn digits; prints which."""
    try:
        dataset = datasets.load("mnist", folder)
    except DatasetError as error:
        print(f"NOT MNIST, but digits that nnpipe draws itself: {error}")
        dataset = datasets.load("drawn", folder)
    sizes = [len(part.labels) for part in (dataset.training, dataset.validation, dataset.test)]
    training, validation, test = (f"{size:,}" for size in sizes)
    print(
        f"Digits: {dataset.name}, {training} to train on, {validation} to validate, {test} to test"
    )
    return dataset


def inputs(digits: Digits) -> Inputs:
    """Digits as the network takes them."""
    return as_inputs(digits.images), digits.labels.astype(np.int64)
