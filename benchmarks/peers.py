"""How other programs read the same digits and numbers: accuracy and time, beside nnpipe.

    python benchmarks/peers.py SETS... [--pictures 60] [--weights FILE]

SETS are folders of sets of pictures: of digits, SETS/<set>/<digit>/…, or of numbers, with
SETS/<set>/labels.csv, whose columns are `file` and `number`; other sets are passed over. Of each
set the same random pictures are read. An answer is right if it is the whole digit or number and
nothing more; to what nnpipe rejects it gives none. No reader is told how long a number is.

The peers are Tesseract (Debian's package tesseract-ocr), RapidOCR and EasyOCR (with the rest, in
the extra `peers`); a missing one is left out. They get what suits them: dark ink on light paper, 64
pixels high, and digits alone to choose from. The options chosen are those best on such sets.
Intervals hold 95 % (Wilson), as if every picture came from another hand. The time is from decoded
pixels to the answer, one picture after the other: median (least to most).
"""

import csv
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
from measure import machine, option_parser, row, spread, table
from PIL import Image, ImageOps

from nnpipe.classifier import Classifier
from nnpipe.errors import NnpipeError
from nnpipe.evaluation.statistics import wilson

DIGITS, HEIGHT = "0123456789", 64  # what the peers may read; pixels, without the margin
Sets = dict[str, list[tuple[Path, str]]]  # by name: the pictures, and what they show
Read = Callable[[Image.Image], str]  # upright, any mode → the digits from left to right, or ""


def fair(picture: Image.Image, margin: int = 24) -> np.ndarray:
    """A picture as the peers like it: dark on light; uint8, (HEIGHT + 2 × margin, width)."""
    image = picture.convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("L")
    levels = np.asarray(image, float)
    paper = np.median(np.concatenate([levels[0], levels[-1], levels[:, 0], levels[:, -1]]))
    if paper < (levels.min() + levels.max()) / 2:
        image, paper = ImageOps.invert(image), 255 - paper
    size = max(1, round(image.width * HEIGHT / image.height)), HEIGHT
    return np.asarray(ImageOps.expand(image.resize(size), margin, fill=int(paper)))


def ours(weights: Path | None, *, numbers: bool) -> tuple[str, Read]:
    """The classifier of nnpipe, which prepares the picture itself."""
    classifier = Classifier.load(weights)

    def read(picture: Image.Image) -> str:
        if numbers:
            return classifier.read(picture, digits="any").label or ""
        label = classifier.read(picture).label
        return "" if label is None else str(label)

    return "nnpipe", read


def tesseract(*, numbers: bool) -> tuple[str, Read]:
    """Tesseract, a process for each picture; mode 10 expects one sign, 7 a line."""
    from pytesseract import get_tesseract_version, image_to_string

    mode = 7 if numbers else 10
    options = f"--psm {mode} -c tessedit_char_whitelist={DIGITS}"
    return (
        f"Tesseract {get_tesseract_version()}",
        lambda picture: "".join(image_to_string(fair(picture), config=options).split()),
    )


def rapidocr(*, numbers: bool) -> tuple[str, Read]:
    """RapidOCR's recognition alone; of the thousands of signs it knows, digits may be chosen."""
    from rapidocr import RapidOCR

    steps = {"Global.use_det": False, "Global.use_cls": False, "Global.log_level": "error"}
    engine = RapidOCR(params=steps)
    engine(np.full((HEIGHT, HEIGHT, 3), 255, np.uint8))  # loads the model
    every_sign, signs = engine.text_rec.session, engine.text_rec.postprocess_op.character
    allowed = np.array([sign in {"blank", *DIGITS} for sign in signs], np.float32)
    engine.text_rec.session = lambda batch: every_sign(batch) * allowed  # (n, places, signs)
    return (
        f"RapidOCR {version('rapidocr')}",
        lambda picture: str(engine(np.stack(3 * [fair(picture, margin=0)], -1)).txts[0]),
    )


def easyocr(*, numbers: bool) -> tuple[str, Read]:
    """EasyOCR; where it finds no text, it reads all of the picture as text."""
    from easyocr import Reader
    from easyocr_en_models import model_dir

    reader = Reader(["en"], False, *2 * [model_dir()], download_enabled=False, verbose=False)

    def read(picture: Image.Image) -> str:
        levels = fair(picture)
        text = reader.readtext(levels, allowlist=DIGITS, detail=0, text_threshold=0.3, low_text=0.2)
        return "".join(text or reader.recognize(levels, allowlist=DIGITS, detail=0))

    return f"EasyOCR {version('easyocr')}", read


def find_readers(weights: Path | None, *, numbers: bool) -> dict[str, Read]:
    """All readers that are installed, by name and version."""
    readers = [ours(weights, numbers=numbers)]
    for peer in (tesseract, rapidocr, easyocr):
        try:
            readers.append(peer(numbers=numbers))
        except (ImportError, OSError) as error:
            print(f"{peer.__name__} is left out, since it cannot start: {error}", file=sys.stderr)
    return dict(readers)


def compare(readers: dict[str, Read], sets: Sets, *, title: str) -> None:
    """Print the table: every picture by every reader in turn."""
    done: dict[str, list[tuple[bool, bool, float]]] = {name: [] for name in readers}
    table(f"{title}: read right, of all", "set", "pictures", *readers)
    for read in readers.values():
        read(Image.new("L", (HEIGHT, HEIGHT), 255))  # the first time takes longer
    for name_of_set, pictures in sets.items():
        for path, truth in pictures:
            picture = ImageOps.exif_transpose(Image.open(path))
            for name, read in readers.items():
                start = time.perf_counter()
                answer = read(picture)
                seconds = time.perf_counter() - start
                done[name].append((answer == truth, not answer, seconds * 1000))
        shares = [np.mean(results[-len(pictures) :], axis=0)[0] for results in done.values()]
        row(name_of_set, len(pictures), *(f"{share:.1%}" for share in shares))
    right, silent, times = zip(*(np.transpose(results) for results in done.values()), strict=True)
    found = [wilson(int(hits.sum()), len(hits)) for hits in right]
    row("all", len(times[0]), *(f"{e.value:.1%} ({e.low:.1%} to {e.high:.1%})" for e in found))
    row("no answer, of all", "", *(f"{np.mean(none):.1%}" for none in silent))
    row("milliseconds per picture", "", *(spread(taken, ".1f") for taken in times))


def find_sets(folders: list[Path], count: int) -> tuple[Sets, Sets]:
    """The sets of digits and the sets of numbers, each with at most ``count`` random pictures."""
    digits, numbers = Sets(), Sets()
    for folder in sorted(path for above in folders for path in above.glob("*")):
        pictures = [(path, path.parent.name) for path in sorted(folder.glob("[0-9]/*"))]
        kind = digits
        if (labels := folder / "labels.csv").exists():
            with labels.open(newline="") as stream:
                rows = [one for one in csv.DictReader(stream) if "number" in one]
            pictures, kind = [(folder / one["file"], one["number"]) for one in rows], numbers
        np.random.default_rng(0).shuffle(pictures)
        if pictures:
            kind[folder.name] = [(Path(path), str(truth)) for path, truth in pictures[:count]]
    return digits, numbers


def main() -> None:
    """Draw the pictures and print the tables as Markdown."""
    parser = option_parser(__doc__)
    parser.add_argument("sets", nargs="+", type=Path, metavar="SETS")
    parser.add_argument("--pictures", type=int, default=60, metavar="N", help="of each set")
    parser.add_argument("--weights", type=Path)
    chosen = parser.parse_args()
    digits, numbers = find_sets(chosen.sets, max(chosen.pictures, 1))
    if not digits and not numbers:
        parser.error("there are no pictures in these folders; expected SETS/<set>/<digit>/…")
    machine("pillow")
    try:
        if digits:
            compare(find_readers(chosen.weights, numbers=False), digits, title="Single digits")
        if numbers:
            compare(find_readers(chosen.weights, numbers=True), numbers, title="Numbers")
    except NnpipeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
