"""How well nnpipe reads what people have, how surely it refuses what is no digit, and at what cost.

    python benchmarks/pictures.py [SETS] [--weights FILE] [--data-dir data] [--out FOLDER]
                                  [--digits 200]

SETS is a folder of sets of pictures, SETS/<set>/<digit>/…; where a name holds two underscores, what
stands before them is its source. A picture counts as read right if it was not rejected and its
digit is the folder's. Beside it stand two other ways to prepare pictures, with the same weights
and never rejecting: *resized* shrinks the whole picture to 28×28, and inverts it if its border is
bright; *textbook* does as MNIST's makers wrote: Otsu's threshold, fitted into 20×20, centred.

The ways to present a digit, the empty pictures and the pairs of digits are those of `ways`, made of
MNIST's validation digits, as many of each as --digits says.

Intervals hold 95 %, from a bootstrap over sources; a picture without a source stands for itself.
With --out, the pictures that were not read right are drawn, with what the network was shown.
"""

import io
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import no_digits
import numpy as np
import ways
from measure import machine, option_parser, row, spread, table
from PIL import Image, ImageDraw, ImageOps

from nnpipe import datasets
from nnpipe.classifier import Classifier, Reading
from nnpipe.datasets import drawn
from nnpipe.errors import NnpipeError
from nnpipe.preprocess import prepare
from nnpipe.preprocess.drawing import centre, crop, fit
from nnpipe.preprocess.mnist_like import BOX
from nnpipe.preprocess.paper import histogram, otsu
from nnpipe.preprocess.pictures import grey, open_picture

NO_DIGITS = 1000  # of each kind
TILE = 110


def resized(picture: Path) -> np.ndarray:
    """The whole picture, shrunk to 28×28, ink bright."""
    levels = np.asarray(Image.open(picture).convert("L").resize((28, 28)))
    border = np.concatenate([levels[0], levels[-1], levels[:, 0], levels[:, -1]])
    return 255 - levels if np.median(border) > 127 else levels


def textbook(picture: Path) -> np.ndarray:
    """Ink parted from paper by Otsu's threshold, fitted into 20×20, centred by mass."""
    levels = np.asarray(ImageOps.exif_transpose(Image.open(picture)).convert("L"))
    border = np.concatenate([levels[0], levels[-1], levels[:, 0], levels[:, -1]])
    levels = 255 - levels if np.median(border) > otsu(histogram(levels)) else levels
    bright = levels > otsu(histogram(levels))
    ink = np.where(bright, levels / max(float(levels.max()), 1) * 255, 0).astype(np.uint8)
    return centre(fit(crop(ink), BOX)) if ink.any() else np.zeros((28, 28), np.uint8)


def interval(hits: np.ndarray, sources: Iterable[str]) -> str:
    """The share of hits in per cent, with its interval."""
    _, number = np.unique(list(sources), return_inverse=True)
    pictures, right = np.bincount(number), np.bincount(number, hits)
    chosen = np.random.default_rng(0).integers(0, len(pictures), (2000, len(pictures)))
    shares = right[chosen].sum(1) / pictures[chosen].sum(1)
    low, high = np.percentile(shares, [2.5, 97.5])
    return f"{hits.mean():.1%} ({low:.1%} to {high:.1%})"


def source(path: Path) -> str:
    """Whose picture it is, as its name says."""
    return path.name.split("__")[0] if "__" in path.name else str(path)


def read_sets(classifier: Classifier, folder: Path, out: Path | None) -> None:
    """Accuracy on every set, beside the baselines."""
    columns = ("set", "pictures", "sources", "nnpipe", "rejected", "textbook", "resized")
    table("Digits of other hands: read right, of all", *columns)
    for path in sorted(folder.iterdir()):
        paths, readings = [], []
        for picture in sorted(path.glob("[0-9]/*")):
            reading = classifier.read(picture)
            if reading.status == "error":
                print(f"{picture}: {reading.reason}; left out", file=sys.stderr)
                continue
            paths.append(picture)
            readings.append(reading)
        if not paths:
            continue
        labels = np.array([int(path.parent.name) for path in paths])
        sources = [source(path) for path in paths]
        hits = np.array([reading.label for reading in readings]) == labels
        rejected = np.mean([reading.status != "ok" for reading in readings])
        baselines = []
        for way in (textbook, resized):
            pixels = np.stack([way(path) for path in paths])
            baselines.append(
                interval(classifier.probabilities(pixels).argmax(1) == labels, sources)
            )
        named = len(set(sources)) if len(set(sources)) < len(paths) else "not named"
        row(path.name, len(paths), named, interval(hits, sources), f"{rejected:.1%}", *baselines)
        if out:
            wrong = [index for index, hit in enumerate(hits) if not hit]
            draw_sheet(
                [(paths[i], int(labels[i]), readings[i]) for i in wrong], out / f"{path.name}.png"
            )


def draw_sheet(wrong: list[tuple[Path, int, Reading]], path: Path) -> None:
    """Each picture, what the network was shown, its label → what was read."""
    sheet = Image.new("L", (6 * 2 * TILE, (len(wrong) + 5) // 6 * (TILE + 15) + 1), 200)
    draw = ImageDraw.Draw(sheet)
    for index, (picture, label, reading) in enumerate(wrong):
        x, y = index % 6 * 2 * TILE, index // 6 * (TILE + 15)
        image = Image.fromarray(grey(open_picture(picture).image).astype(np.uint8))
        sheet.paste(ImageOps.contain(image, (TILE - 4, TILE - 4)), (x, y))
        if reading.pixels is not None:
            seen = Image.fromarray(reading.pixels).resize((TILE - 4, TILE - 4))
            sheet.paste(seen, (x + TILE, y))
        read = reading.reason if reading.label is None else f"{reading.confidence:.0%}"
        best = np.argmax(reading.probabilities) if reading.probabilities else "?"
        draw.text((x, y + TILE - 3), f"{label} as {best}: {read}"[:34], 0)
    sheet.save(path)


def read_mnist(classifier: Classifier, folder: Path) -> None:
    """The test digits as PNG files, and as they are."""
    test = datasets.load("mnist", folder).test
    files = [encoded(Image.fromarray(pixels), "PNG") for pixels in test.images]
    readings = classifier.read_many(files)
    found = np.array([reading.label for reading in readings])
    best = np.array([np.argmax(reading.probabilities) for reading in readings])
    alone = classifier.probabilities(test.images).argmax(1)
    columns = ("read right, of all", "rejected", "best guess right", "evaluated from the arrays")
    table(f"MNIST's {len(test.labels):,} test digits, each as a PNG", *columns)
    row(
        f"{np.mean(found == test.labels):.2%}",
        f"{np.mean(found == None):.2%}",  # noqa: E711, an array of objects
        f"{np.mean(best == test.labels):.2%}",
        f"{np.mean(alone == test.labels):.2%}",
    )


def read_ways(classifier: Classifier, folder: Path, n: int) -> None:
    """Validation digits presented in every way, empty pictures, and pairs of digits."""
    validation = datasets.load("mnist", folder).validation
    order = np.random.default_rng(0).permutation(len(validation.labels))
    digits, labels = validation.images[order], validation.labels[order]

    def share_read(way: Callable[..., Image.Image]) -> tuple[str, str, float]:
        pictures = [way(digits[i], np.random.default_rng(i)) for i in range(n)]
        readings = classifier.read_many(pictures)
        hits = np.array([reading.label for reading in readings]) == labels[:n]
        rejected = np.mean([reading.status != "ok" for reading in readings])
        return interval(hits, map(str, range(n))), f"{rejected:.1%}", float(hits.mean())

    table(
        f"The same {n:,} validation digits, presented in {len(ways.WAYS)} ways",
        "way", "read right, of all", "rejected", "points from the plain ones",
    )  # fmt: skip
    shares: list[float] = []
    for name, way in ways.WAYS.items():
        right, rejected, share = share_read(way)
        shares.append(share)
        row(name, right, rejected, f"{100 * (share - shares[0]):+.1f}")
    row(f"all {len(shares)} ways, mean", f"{np.mean(shares):.1%}", "", "")

    table(f"Empty pictures: rejected, of {n:,} each", "picture", "rejected")
    for name, empty in ways.EMPTY.items():
        readings = classifier.read_many([empty(np.random.default_rng(i)) for i in range(n)])
        rejected = np.array([reading.status == "rejected" for reading in readings])
        row(name, interval(rejected, map(str, range(n))))

    table(f"Two digits, apart by pixels of 28: rejected, of {5 * n:,} each", "gap", "rejected")
    for gap in (0, 1, 2, 3, 4, 6):
        rng = np.random.default_rng(gap)
        pairs = rng.integers(0, len(digits), (5 * n, 2))
        pictures = [ways.pair(digits[a], digits[b], gap, rng) for a, b in pairs]
        rejected = np.array([r.status == "rejected" for r in classifier.read_many(pictures)])
        row(gap, interval(rejected, map(str, range(5 * n))))


def refuse(classifier: Classifier) -> None:
    """What is no digit, and how much of it is rejected."""
    columns = ("kind", "rejected", "among them for the ink's shape, before the network")
    table(f"What is no digit: rejected, of {NO_DIGITS:,} drawn pictures each", *columns)
    for kind, make in no_digits.KINDS.items():
        rng = np.random.default_rng(0)
        readings = classifier.read_many([make(rng) for _ in range(NO_DIGITS)])
        rejected = np.array([reading.status == "rejected" for reading in readings])
        early = np.mean([r.status == "rejected" and "unlike" not in r.reason for r in readings])
        row(kind, interval(rejected, map(str, range(NO_DIGITS))), f"{early:.1%}")


def photo(size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """A digit on paper in uneven light, with grain."""
    digit = Image.fromarray(drawn.draw(np.array([3]), rng)[0]).resize(size)
    ink = np.asarray(digit, np.float32) / 255
    light = np.linspace(230, 160, size[0], dtype=np.float32)
    levels = light * (1 - 0.8 * ink) + rng.normal(0, 3, ink.shape)
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8)).convert("RGB")


def encoded(image: Image.Image, kind: str) -> bytes:
    """The bytes of a file."""
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def milliseconds(
    work: Callable[[bytes], object], pictures: list[bytes], rounds: int
) -> list[float]:
    """Time per picture of each round, after one to warm up."""
    taken = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        for picture in pictures:
            work(picture)
        taken.append((time.perf_counter() - start) / len(pictures) * 1000)
    return taken[1:]


def cost() -> None:
    """Time per picture on one core, beside decoding it and nothing else."""
    rng = np.random.default_rng(0)
    digits = drawn.draw(np.arange(10), rng)

    def presented(way: str, kind: str) -> list[bytes]:
        return [encoded(ways.WAYS[way](pixels, rng), kind) for pixels in digits]

    kinds = {
        "28×28, MNIST-like, PNG": [encoded(Image.fromarray(pixels), "PNG") for pixels in digits],
        "100×100, photo, JPEG": [encoded(photo((100, 100), rng), "JPEG") for _ in range(10)],
        "84×62, scan, PNG": presented("scanned at 200 dpi", "PNG"),
        "131×116, cell of a table, PNG": presented("in a cell of a table", "PNG"),
        "400×400, canvas, PNG": presented("canvas of 400 pixels", "PNG"),
        "480×640, photo, JPEG": presented("photo of a sheet", "JPEG"),
        "4000×3000, photo, JPEG": [encoded(photo((4000, 3000), rng), "JPEG")],
    }

    def decode(content: bytes) -> None:
        open_picture(content)

    columns = ("picture", "prepared, all in all", "decoding alone", "beyond decoding")
    table("Milliseconds per picture, one core: median (least to most) of 15 rounds", *columns)
    for name, pictures in kinds.items():
        rounds = [milliseconds(work, pictures, 15) for work in (prepare, decode)]
        whole, alone = (statistics.median(taken) for taken in rounds)
        row(name, *map(spread, rounds), f"{whole - alone:.2f}")


def main() -> None:
    """Print all tables as Markdown."""
    parser = option_parser(__doc__)
    parser.add_argument("sets", nargs="?", type=Path, metavar="SETS")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--digits", type=int, default=200)
    chosen = parser.parse_args()
    if chosen.sets and not chosen.sets.is_dir():
        sys.exit(f"{chosen.sets}: there is no such folder; expected SETS/<set>/<digit>/…")
    if chosen.out:
        chosen.out.mkdir(parents=True, exist_ok=True)
    machine("pillow")
    try:
        classifier = Classifier.load(chosen.weights)
        if chosen.sets:
            read_sets(classifier, chosen.sets, chosen.out)
        read_mnist(classifier, chosen.data_dir)
        read_ways(classifier, chosen.data_dir, chosen.digits)
    except NnpipeError as error:
        sys.exit(str(error))
    refuse(classifier)
    cost()


if __name__ == "__main__":
    main()
