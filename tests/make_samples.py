"""Draw ``samples/``: pictures of digits of every kind people have, and a few that are broken.

    python tests/make_samples.py [FOLDER]

A picture's name begins with the digit it shows, with ``no-digit`` if it is to be rejected, and with
``broken`` if it cannot be read. The same seed draws the same pictures.
"""

import io
import sys
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from nnpipe.datasets import drawn, strangers

SAMPLES = Path(__file__).parent.parent / "samples"
WRITERS = (7, 6, 8, 1, 11, 11, 4, 0, 11, 11)
"""For each digit the seed of a writer whom people can read, chosen by eye."""

BLACK, WHITE, BLUE, CREAM = (20, 20, 25), (255, 255, 255), (25, 60, 160), (248, 236, 190)


def coverage(label: int, size: tuple[int, int], height: float, at: tuple[float, float], pen: float):
    """A digit's ink as an "L" picture: its ``height`` in pixels, its middle ``at``, in shares."""
    strokes = drawn.strokes(label, np.random.default_rng(WRITERS[label]))
    return covered(strokes, size, height, at, pen)


def covered(
    strokes: list[np.ndarray],
    size: tuple[int, int],
    height: float,
    at: tuple[float, float],
    pen: float,
) -> Image.Image:
    """The ink of any strokes."""
    points = np.concatenate(strokes)
    middle = (points.min(0) + points.max(0)) / 2
    scale = 4 * height / np.ptp(points, axis=0).max()  # drawn four times as large, then shrunk
    image = Image.new("L", (4 * size[0], 4 * size[1]))
    draw = ImageDraw.Draw(image)
    radius = 2 * pen
    for stroke in strokes:
        path = (stroke - middle) * scale + np.array(image.size) * at
        draw.line([tuple(point) for point in path], 255, round(4 * pen), joint="curve")
        for x, y in path[[0, -1]]:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), 255)
    return image.resize(size, Image.Resampling.BOX)


def picture(label, size=(120, 140), height=90.0, at=(0.5, 0.5), pen=8.0, ink=BLACK, paper=WHITE):
    """A digit in a colour on paper of a colour, as "RGB"."""
    mask = coverage(label, size, height, at, pen)
    return Image.composite(Image.new("RGB", size, ink), Image.new("RGB", size, paper), mask)


def paper(label: int, light: str, lines: str) -> Image.Image:
    """A photo of a digit on paper, with grain, by even light, a slope of it or a sharp shadow, on
    ruled, squared or empty paper.
    """
    width, height = 320, 280
    rng = np.random.default_rng(label)
    ink = np.asarray(coverage(label, (width, height), 150, (0.55, 0.5), 9), float) / 255
    y, x = np.mgrid[:height, :width]
    sheet = np.full((height, width), 215.0)
    if lines != "none":
        sheet[(y - 0.02 * x) % 40 < 2] *= 0.75
    if lines == "squared":
        sheet[(x + 0.02 * y) % 40 < 2] *= 0.75
    levels = sheet * (1 - ink) + 45 * ink
    if light == "slope":
        levels *= 1 - 0.4 * x / width
    if light == "shadow":
        levels *= np.where(x + 0.4 * y > 190, 0.6, 1)
    levels = levels + rng.normal(0, 3, levels.shape)
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def written(hand: drawn.Hand, label: int, writer: int, pen: float = 8.0) -> Image.Image:
    """What one writer of some hand writes for a label, black on white."""
    strokes = drawn.strokes(label, np.random.default_rng(writer), hand=hand)
    return ImageOps.invert(covered(strokes, (120, 140), 90, (0.5, 0.5), pen))


def boxed(
    label: int | None,
    size: tuple[int, int] = (120, 140),
    lines: tuple[int, ...] = (8, 112, 10, 130),
) -> Image.Image:
    """The cell of a form with a digit or none: the columns of its upright lines, then the rows of
    the others; the lines go on into the neighbouring cells.
    """
    image = Image.new("L", size, 250)
    if label is not None:
        mask = coverage(label, size, 70, (0.52, 0.48), 6)
        image = Image.composite(Image.new("L", size, 60), image, mask)
    draw = ImageDraw.Draw(image)
    for x in lines[:2]:
        draw.line((x, 0, x + 2, size[1]), 40, 3)
    for y in lines[2:]:
        draw.line((0, y, size[0], y + 1), 40, 3)
    return image


def cut(label: int, pen: float = 6) -> Image.Image:
    """A digit, cut from a scan to its very ink."""
    image = picture(label, pen=pen).convert("L")
    return image.crop(ImageOps.invert(image).point(lambda level: 255 * (level > 60)).getbbox())


def row(labels: list[int]) -> Image.Image:
    """Digits side by side."""
    sheet = Image.new("L", (80 * len(labels), 140), 255)
    for place, label in enumerate(labels):
        sheet.paste(picture(label, (80, 140), 60, pen=6).convert("L"), (80 * place, 0))
    return sheet


def page() -> Image.Image:
    """Some lines of words."""
    sheet = Image.new("L", (320, 200), 250)
    words = "the network has never seen anything but digits and yet it must know a page of text"
    for line in range(9):
        ImageDraw.Draw(sheet).text((12, 12 + 20 * line), words[7 * line :][:48], 30)
    return sheet


def bomb() -> bytes:
    """A PNG of a few bytes whose header says that it has 2.5 thousand million pixels."""
    content = bytearray(encoded(Image.new("1", (1, 1)), "PNG"))
    content[16:24] = (50_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


def photo(label: int) -> Image.Image:
    """A digit on paper with grain and the shade of a lamp on one side, a little out of focus."""
    image = picture(label, (400, 300), 190, (0.45, 0.55), 14, BLUE, (232, 228, 220))
    rng = np.random.default_rng(label)
    shade = np.linspace(1, 0.85, 400)[None, :, None]
    grain = rng.normal(0, 4, (300, 400, 1))
    levels = np.asarray(image.filter(ImageFilter.GaussianBlur(1.5)), float) * shade + grain
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def make() -> dict[str, bytes]:
    """The files of ``samples/``: name → content."""
    files = {}

    def add(name: str, image: Image.Image, kind: str = "PNG", **options) -> None:
        files[name] = encoded(image, kind, **options)

    for label in range(10):
        add(f"{label}-dark-on-light.png", picture(label).convert("L"))
        add(f"{label}-light-on-dark.png", picture(label, ink=WHITE, paper=BLACK).convert("L"))
        mnist_like = drawn.draw(np.array([label]), np.random.default_rng(WRITERS[label]))[0]
        add(f"{label}-mnist-like.png", Image.fromarray(mnist_like))

    for name, ink in {"black": BLACK, "white": WHITE}.items():
        transparent = Image.new("RGBA", (120, 140), (*ink, 0))
        transparent.putalpha(coverage(4, (120, 140), 90, (0.5, 0.5), 8))
        add(f"4-transparent-{name}-ink.png", transparent)
    add("2-off-centre.png", picture(2, (300, 200), 60, (0.82, 0.25), 6))
    add("3-large.jpg", picture(3, (1600, 1200), 900, pen=70), "JPEG", quality=60)
    add("5-coloured.png", picture(5, ink=BLUE, paper=CREAM))
    add("6-photo.jpg", photo(6), "JPEG", quality=80)
    add("7-tiny.png", picture(7, (16, 20), 14, pen=1.6))
    add("8-one-bit.png", picture(8).convert("1", dither=Image.Dither.NONE))
    add("9-palette.gif", picture(9, ink=(180, 20, 40)).quantize(8), "GIF")
    add("0-cmyk.jpg", picture(0).convert("CMYK"), "JPEG", quality=80)
    deep = np.asarray(picture(1, pen=10).convert("L")).astype(np.uint16) * 12 + 900
    add("1-sixteen-bit.png", Image.fromarray(deep))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn a quarter to the right to view
    turned = picture(7, pen=10).transpose(Image.Transpose.ROTATE_90)
    add("7-turned-by-exif.jpg", turned, "JPEG", quality=80, exif=exif)
    add("3-inverted.webp", ImageOps.invert(picture(3)), "WEBP", quality=70)

    add("1-squared-paper.jpg", paper(1, "even", "squared"), "JPEG", quality=75)
    add("2-shadow.jpg", paper(2, "shadow", "none"), "JPEG", quality=75)
    add("3-squared-paper-in-shadow.jpg", paper(3, "shadow", "squared"), "JPEG", quality=75)
    add("5-ruled-paper.jpg", paper(5, "slope", "ruled"), "JPEG", quality=75)
    add("8-chalk.jpg", ImageOps.invert(paper(8, "slope", "none")), "JPEG", quality=75)
    add("3-in-a-box.png", boxed(3))
    add("7-in-a-corner-of-a-box.png", boxed(7, lines=(6, 900, 900, 100)))
    add("2-cut-to-its-ink.png", cut(2))
    add("0-slashed.png", written(drawn.ABROAD, 0, 19))
    add("1-flagged.png", written(drawn.ABROAD, 1, 6))
    add("4-open.png", written(drawn.ABROAD, 4, 2))
    add("7-crossed.png", written(drawn.ABROAD, 7, 6))
    add("9-hooked.png", written(drawn.ABROAD, 9, 6))
    add("4-thin-pencil.png", picture(4, pen=1.5, ink=(150,) * 3).convert("L"))
    specks = np.asarray(picture(6).convert("L")).copy()
    specks[tuple(np.random.default_rng(6).integers(0, 120, (2, 40)))] = 0
    add("6-specks.png", Image.fromarray(specks))
    frames = [picture(label).quantize(4) for label in (2, 7, 3)]
    add("2-first-of-three-frames.gif", frames[0], "GIF", save_all=True, append_images=frames[1:])

    rng = np.random.default_rng(0)
    grain = rng.normal(240, 2, (140, 120)).clip(0, 255).astype(np.uint8)
    add("no-digit-blank.png", Image.new("L", (120, 140), 250))
    add("no-digit-empty-paper.jpg", Image.fromarray(grain), "JPEG", quality=75)
    add("no-digit-empty-box.png", boxed(None))
    add("no-digit-noise.png", Image.fromarray(rng.integers(0, 256, (60, 80)).astype(np.uint8)))
    add("no-digit-several.png", row([4, 7]))
    add("no-digit-page.png", page())
    add("no-digit-letter.png", written(strangers.letters(), 0, 3))
    add("no-digit-scribble.png", written(strangers.scribbles(np.random.default_rng(11)), 0, 11))

    whole = files["8-dark-on-light.png"]
    files["broken-truncated.png"] = whole[: len(whole) // 2]
    files["broken-header-only.png"] = whole[:33]
    files["broken-bomb.png"] = bomb()
    files["broken-empty.png"] = b""
    files["broken-text.png"] = b"This is a text file, whatever its name says.\n"
    files["broken-lfs-pointer.png"] = b"version https://git-lfs.github.com/spec/v1\n"
    files["broken-drawing.svg"] = b"<svg xmlns='http://www.w3.org/2000/svg'/>\n"
    return files


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else SAMPLES
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in make().items():
        (folder / name).write_bytes(content)


if __name__ == "__main__":
    main()
