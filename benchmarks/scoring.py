"""How fast folders are scored, beside PyTorch's DataLoader and the floor.

    python benchmarks/scoring.py [small] [photos] [scaling] [curve]

All ways read the same files in one run, taking turns, on the same cores, each process computing
with one thread; what counts is the ratio, as machines differ and are never quiet. Ratios are taken
in each round; what stands in brackets is the least and the most. nnpipe's time is that from the
call of `score` to the finished table, with the start of its workers; the others have all imported
when they begin, and fork. The floor opens and decodes the pictures with Pillow, and nothing else.

*curve* takes long, and must be named: it scores folders of ever more files by the command line, and
shows whether time and memory grow as they should.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch
from measure import machine, ratios, row, spread, table
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets.folder import default_loader

from nnpipe.datasets import drawn
from nnpipe.preprocess.drawing import as_mnist
from nnpipe.scoring import ScoreRequest, score
from nnpipe.torch_training.model import build

SMALL, PHOTOS, DIFFERENT_PHOTOS, DIFFERENT_IN_CURVE = 10_000, 200, 10, 500
SECONDS_BETWEEN_SAMPLES = 0.2

PARTS = ("small", "photos", "scaling", "curve")
SIZES = (20_000, 100_000, 300_000, 1_000_000)

model = nn.Sequential(nn.Flatten(), build()).eval()


# The ways. Each reads a folder with a number of worker processes, writes a table, and returns the
# seconds that its workers were busy, added up, if it knows.


class Way(Protocol):
    """A way to read a folder."""

    def __call__(self, folder: Path, out: Path, *, workers: int) -> float | None:
        """Read a folder and write a table."""


def nnpipe(folder: Path, out: Path, *, workers: int) -> float:
    """What is measured."""
    request = ScoreRequest(source=str(folder), out=str(out), workers=workers)
    return score(request).process_seconds


class Pictures(Dataset[tuple[Any, int]]):
    """The pictures of a folder, in RGB as torchvision's ImageFolder reads them, with a number."""

    def __init__(self, folder: Path, transform: Callable[[Image.Image], Any]) -> None:
        self.paths = sorted(folder.iterdir())
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> tuple[Any, int]:
        return self.transform(default_loader(str(self.paths[number]))), number


def besides(workers: int) -> int:
    """Return the processes besides the main one; on a single core, a DataLoader is faster alone."""
    return workers if workers > 1 else 0


@torch.inference_mode()
def data_loader(folder: Path, out: Path, *, workers: int) -> None:
    """The usual way: torchvision's transforms in a DataLoader, batches of 128, a CSV by pandas."""
    transform = transforms.Compose(
        [
            transforms.Grayscale(),
            transforms.Resize((28, 28)),
            transforms.ToTensor(),
            transforms.Normalize(0, 1),
        ]
    )
    pictures = Pictures(folder, transform)
    loader = DataLoader(pictures, batch_size=128, num_workers=besides(workers))
    rows: list[tuple[str, int, float]] = []
    for inputs, numbers in loader:
        confidence, label = model(inputs).softmax(1).max(1)
        names = [str(pictures.paths[number]) for number in numbers]
        rows += zip(names, label.tolist(), confidence.tolist(), strict=True)
    pd.DataFrame(rows, columns=["path", "label", "confidence"]).to_csv(out, index=False)


@torch.inference_mode()
def timm_way(folder: Path, out: Path, *, workers: int) -> None:
    """What timm's inference.py does: bytes are collated, and made floats in the main process."""

    def collate(batch: list[tuple[np.ndarray, int]]) -> Tensor:
        return torch.from_numpy(np.stack([pixels for pixels, _ in batch]))

    bicubic = transforms.InterpolationMode.BICUBIC
    transform = transforms.Compose(
        [
            transforms.Resize(28, bicubic),
            transforms.CenterCrop(28),
            lambda image: np.array(image.convert("L"))[np.newaxis],
        ]
    )
    pictures = Pictures(folder, transform)
    loader = DataLoader(pictures, 256, num_workers=besides(workers), collate_fn=collate)
    tops = [model(inputs.float().sub_(0).div_(255)).softmax(1).topk(1) for inputs in loader]
    table = {
        "filename": [path.name for path in pictures.paths],
        "label": np.concatenate([top.indices.numpy() for top in tops]).squeeze(1),
        "prob": np.concatenate([top.values.numpy() for top in tops]).squeeze(1),
    }
    pd.DataFrame(table).set_index("filename").to_csv(out)


def decode(paths: list[Path]) -> float:
    """Seconds that it takes to decode the pictures."""
    start = time.perf_counter()
    kind = "PNG" if paths[0].suffix == ".png" else "JPEG"
    for path in paths:
        with Image.open(path, formats=[kind]) as image:
            image.load()
    return time.perf_counter() - start


def floor(folder: Path, out: Path, *, workers: int) -> float:
    """Decoding alone, each process its share."""
    paths = sorted(folder.iterdir())
    with ProcessPoolExecutor(workers) as pool:
        return sum(pool.map(decode, [paths[first::workers] for first in range(workers)]))


# Measuring.


class Times(NamedTuple):
    """Seconds of each round."""

    wall: list[float]
    busy: list[float]  # of all workers; empty if not known


def measure(folder: Path, ways: list[tuple[Way, int]], *, rounds: int) -> list[Times]:
    """Time each way, with its number of workers, in turn, after one round to warm up."""
    times = [Times([], []) for _ in ways]
    with tempfile.TemporaryDirectory() as outputs:
        for turn in range(rounds + 1):
            for number, (way, workers) in enumerate(ways):
                start = time.perf_counter()
                busy = way(folder, Path(outputs, f"{turn}-{number}.csv"), workers=workers)
                if turn:
                    times[number].wall.append(time.perf_counter() - start)
                    times[number].busy.extend([] if busy is None else [busy])
    return times


def compare(title: str, folder: Path, *, ways: Mapping[str, Way], rounds: int, cores: int) -> None:
    """Print a table of ways, the first of which is nnpipe."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:cores])
    times = measure(folder, [(way, cores) for way in ways.values()], rounds=rounds)
    os.sched_setaffinity(0, allowed)
    files = sum(1 for _ in folder.iterdir())
    table(
        f"{files:,} {title}, workers and cores: {cores}, n = {rounds} rounds",
        "", "files/s", "s", "nnpipe's rate / its", "files/s of a busy worker", "nnpipe's / its",
    )  # fmt: skip
    for name, (wall, busy) in zip(ways, times, strict=True):
        row(
            name,
            f"{files / statistics.median(wall):,.0f}",
            spread(wall),
            spread(ratios(wall, times[0].wall)),
            f"{files / statistics.median(busy):,.0f}" if busy else "",
            spread(ratios(busy, times[0].busy)) if busy else "",
        )


def scaling(folder: Path, rounds: int) -> None:
    """Print how much faster two workers are than one, and how much faster they could be."""
    times = measure(folder, [(nnpipe, 1), (nnpipe, 2), (floor, 1), (floor, 2)], rounds=rounds)
    files = sum(1 for _ in folder.iterdir())
    table(
        f"{files:,} PNGs of 28×28: two workers beside one, n = {rounds} rounds",
        "", "1 worker, s", "2 workers, s", "ratio", "ratio of the rates while busy",
    )  # fmt: skip
    for name, (one, two) in {"nnpipe": times[:2], "floor: decoding": times[2:]}.items():
        busy = [2 * ratio for ratio in ratios(one.busy, two.busy)]
        row(name, *map(spread, (one.wall, two.wall, ratios(one.wall, two.wall), busy)))


def imports(rounds: int) -> None:
    """Print how long it takes to import what all ways had imported when their time began."""
    packages = ("nnpipe.scoring", "torch, torchvision, pandas")

    def start(names: str) -> Way:
        return lambda *_, **__: subprocess.call([sys.executable, "-c", f"import {names}"])

    times = measure(Path(), [(start(names), 1) for names in packages], rounds=rounds)
    print("\nSeconds to start Python and import, in none of these times:")
    print("; ".join(f"{names} {spread(t.wall)}" for names, t in zip(packages, times, strict=True)))


# Pictures.


def draw_small(folder: Path, count: int) -> None:
    """Drawn digits that could be MNIST's, as PNGs of 28×28 grey pixels."""
    digits = drawn.draw(np.arange(2 * count) % 10, np.random.default_rng(0))
    # All of MNIST's are alike; of those drawn, one in a hundred is not, and takes far longer.
    alike = (pixels for pixels in as_mnist(digits) if pixels is not None)
    for number, pixels in enumerate(islice(alike, count)):
        Image.fromarray(pixels).save(folder / f"{number:05}.png")


def draw_photos(folder: Path) -> None:
    """Digits on yellow paper in uneven light, with grain: JPEGs of 12 megapixels, 2 to 4 MB."""
    rng = np.random.default_rng(0)
    light = np.linspace(230, 160, 4000) * np.linspace(1, 0.9, 3000)[:, np.newaxis]
    for number, pixels in enumerate(drawn.draw(np.arange(DIFFERENT_PHOTOS) % 10, rng)):
        ink = np.zeros(light.shape)
        ink[500:2500, 1000:3000] = np.asarray(Image.fromarray(pixels).resize((2000, 2000))) / 255
        levels = (light * (1 - 0.8 * ink))[..., np.newaxis] * [1, 0.97, 0.9]
        levels += rng.normal(0, 7, levels.shape)
        photo = Image.fromarray(levels.clip(0, 255).astype(np.uint8))
        photo.save(folder / f"{number:03}.jpg", quality=90)


def link(pictures: Path, folder: Path, *, files: int, per_folder: int = 0) -> None:
    """Fill a folder, or folders in it, with hard links to pictures in turn."""
    paths = sorted(pictures.iterdir())
    for number in range(files):
        inside = folder / f"{number // per_folder:04}" if per_folder else folder
        inside.mkdir(exist_ok=True)
        path = paths[number % len(paths)]
        os.link(path, inside / f"{number:07}{path.suffix}")


# The curve.


def peak(process: str | int) -> int:
    """The most memory that a process has held so far, in MiB; 0 if it has gone."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) >> 10
    except (OSError, IndexError):
        return 0


def children(process: int) -> list[str]:
    """The processes that a process has started."""
    numbers = []
    for thread in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):
            numbers += thread.read_text().split()
    return numbers


def watch(folder: Path, out: Path) -> tuple[float, int, int, list[tuple[float, int]]]:
    """Score a folder with the command line, and look at its processes again and again.

    Returns the seconds, the most MiB of the parent and of the largest worker, and a list of seconds
    since the start and rows done by then.
    """
    command = ["-m", "nnpipe.cli", "score", str(folder), "--out", str(out)]
    command += ["--workers", "2", "--progress", "json"]
    parent = worker = 0
    with tempfile.TemporaryFile("w+") as log:
        start = time.monotonic()
        process = subprocess.Popen([sys.executable, *command], stderr=log)
        try:
            while process.poll() is None:
                parent = max(parent, peak(process.pid))
                worker = max([worker, *map(peak, children(process.pid))])
                with suppress(subprocess.TimeoutExpired):
                    process.wait(SECONDS_BETWEEN_SAMPLES)
        finally:
            process.kill()  # its workers follow
        seconds = time.monotonic() - start
        log.seek(0)
        lines = log.read().splitlines()
    if process.returncode not in (0, 3):
        sys.exit("\n".join(lines))
    reports = [json.loads(line) for line in lines if line.startswith("{")]
    # The rate is the mean since the start, which tells when that was.
    done = [(line["done"] / line["rate"], line["done"]) for line in reports if line["rate"]]
    return seconds, parent, worker, done


def curve(sizes: list[int], *, flat: bool, folder: Path | None) -> None:
    """Print seconds, memory and rows for folders of ever more files, and how even the rate is."""
    lie = "in one folder" if flat else "in folders of 1,000"
    table(
        f"Ever more PNGs of 28×28, {lie}, by the command line with 2 workers, once each",
        "files", "s", "rows/s", "parent, MiB", "largest worker, MiB", "rows in the table",
    )  # fmt: skip
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        pictures = Path(scratch, "pictures")
        pictures.mkdir()
        draw_small(pictures, DIFFERENT_IN_CURVE)
        for size in sizes:
            files, out = Path(scratch, "files"), Path(scratch, f"{size}.csv")
            files.mkdir()
            link(pictures, files, files=size, per_folder=0 if flat else 1000)
            seconds, parent, worker, progress = watch(files, out)
            with out.open("rb") as lines:
                rows = sum(1 for _ in lines) - 1
            row(
                f"{size:,}", f"{seconds:.1f}", f"{size / seconds:,.0f}", parent, worker, f"{rows:,}"
            )
            shutil.rmtree(files)
    # The last line comes when all is done, not after 5 s as the others do.
    rates = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(progress) if b[0] - a[0] > 4]
    early, late = rates[: len(rates) // 2], rates[-(len(rates) // 2) :]
    if early:
        print(
            f"\nRows/s in the last run, in windows of 5 s: {spread(early, ',.0f')} in its first "
            f"half, {spread(late, ',.0f')} in its last; late / early "
            f"{statistics.median(late) / statistics.median(early):.3f}"
        )


def main() -> None:
    """Print tables as Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=" ".join(PARTS))
    parser.add_argument("--rounds", type=int, default=4, help="of each way; for photos 2 at most")
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2], help="of small, photos")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="of the curve")
    parser.add_argument("--flat", action="store_true", help="the curve's files lie in one folder")
    parser.add_argument("--dir", type=Path, help="where the curve's files lie for the time being")
    args = parser.parse_args()
    chosen = args.parts or PARTS[:-1]
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"no part is named {', '.join(unknown)}; there are {', '.join(PARTS)}")
    torch.set_num_threads(1)
    machine("pillow", "torch", "torchvision")
    with tempfile.TemporaryDirectory() as scratch:
        names = ("small", "many", "different", "photos")
        small, many, different, photos = (Path(scratch, name) for name in names)
        small.mkdir()
        draw_small(small, SMALL)
        ways = {"nnpipe": nnpipe, "PyTorch's DataLoader": data_loader}
        if "small" in chosen:
            more = {"as timm does": timm_way, "floor: decoding": floor}
            for cores in args.cores:
                compare("PNGs of 28×28", small, ways=ways | more, rounds=args.rounds, cores=cores)
            imports(args.rounds)
        if "photos" in chosen:
            different.mkdir()
            draw_photos(different)
            link(different, photos, files=PHOTOS)
            more, rounds = {"floor: decoding": floor}, min(args.rounds, 2)
            for cores in args.cores:
                compare("JPEGs of 12 MP", photos, ways=ways | more, rounds=rounds, cores=cores)
        if "scaling" in chosen:
            link(small, many, files=4 * SMALL)
            scaling(many, args.rounds)
    if "curve" in chosen:
        curve(args.sizes, flat=args.flat, folder=args.dir)


if __name__ == "__main__":
    main()
