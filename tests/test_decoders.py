"""What is read from good, odd and damaged files."""

import io
import random
import re
import zlib

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from nnpipe.classifier import Classifier
from nnpipe.errors import PictureError
from nnpipe.preprocess import decoders as d
from nnpipe.preprocess import prepare_many
from nnpipe.preprocess.pictures import open_picture

from .make_samples import SAMPLES, encoded, picture
from .seen import prepare

WHOLE = picture(3)
PNG = encoded(WHOLE, "PNG")
JPEG = encoded(WHOLE, "JPEG")


@pytest.fixture(scope="module")
def champion():
    return Classifier.load()


# Which decoders are used


@pytest.mark.parametrize("kind", d.DECODERS)
def test_every_format_of_the_list_is_read(kind, champion):
    small = WHOLE.resize((96, 112))
    assert champion.read(encoded(small, d.DECODERS[kind][0])).label == 3


@pytest.fixture
def ghostscript(monkeypatch):
    """The times that Pillow starts Ghostscript."""
    starts = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: starts.append(1))
    return starts


def test_no_way_in_starts_ghostscript(tmp_path, ghostscript):
    """Not for a file with the name of a PNG, nor for an image that the caller has opened."""
    eps = encoded(WHOLE, "EPS")
    path = tmp_path / "3.png"
    path.write_bytes(eps)
    for handed in (path, str(path), eps, io.BytesIO(eps)):
        with pytest.raises(PictureError, match="this is PostScript, not a picture that nnpipe"):
            prepare(handed)
    with pytest.raises(PictureError, match="Pillow image is in the format EPS, not in one that"):
        prepare(Image.open(io.BytesIO(eps)))
    assert not ghostscript


@pytest.mark.parametrize("written", ["SGI", "TGA", "PCX", "DDS", "QOI"])
def test_other_formats_are_refused_with_the_list_of_those_that_are_read(written):
    with pytest.raises(PictureError) as refused:
        prepare(encoded(WHOLE, written))
    assert all(kind in str(refused.value) for kind in [*d.DECODERS, "HEIC", "PDF"])
    assert "PNG or JPEG" in str(refused.value)


def test_the_reason_names_what_is_not_read():
    with pytest.raises(PictureError, match=r"this is JPEG XL, .* save the picture as PNG or JPEG"):
        prepare(b"\xff\x0a\x7f")


# What is decoded


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("size", [(28, 28), (33, 7), (1, 1), (1201, 703), (3, 700)])
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": "4:4:4"}, {"subsampling": "4:2:2"}]
)
def test_a_jpeg_has_the_pixels_that_pillow_decodes(mode, size, options):
    content = encoded(Image.effect_noise(size, 60).convert(mode), "JPEG", **options)
    image = Image.open(io.BytesIO(content))
    part = next((n for n in (8, 4, 2) if max(size) >= n * d.ENOUGH), 1)
    if min(size) >= part:  # Pillow's draft knows no smaller ones
        image.draft("L" if mode == "RGB" else None, (size[0] // part, size[1] // part))
        expected = np.asarray(image if mode == "CMYK" else image.convert("L"))
        np.testing.assert_array_equal(np.asarray(open_picture(content).image), expected)
    assert (open_picture(content).width, open_picture(content).height) == size


def many_scans(n, side=64):
    """A progressive JPEG whose last scan is there n more times."""
    content = encoded(Image.effect_noise((side, side), 50), "JPEG", progressive=True)
    last = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + n * last + content[-2:]


def test_a_jpeg_with_thousands_of_scans_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(d, "_decode_jpeg", None)
    with pytest.raises(PictureError, match="more than the 100 scans that are read"):
        prepare(many_scans(3000))


def test_the_larger_a_jpeg_the_fewer_scans_it_may_have(monkeypatch):
    assert open_picture(many_scans(30)).width == 64
    monkeypatch.setattr(d, "MAX_WORK", 20 * 64 * 64)
    with pytest.raises(PictureError, match="more than the 20 scans that are read"):
        prepare(many_scans(30))


# Damage


def flipped(content, *, bits, seed, start=0):
    """Flip bits of a file after its headers."""
    rng, changed = random.Random(seed), bytearray(content)  # noqa: S311, of no secret
    for _ in range(bits):
        changed[rng.randrange(start, len(content) - 2)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def test_a_jpeg_that_libjpeg_finds_damaged_is_rejected_with_what_it_says(champion):
    """Of 60 with 20 flipped bits each, few remain that libjpeg has no doubts about."""
    contents = [
        flipped(good, bits=20, seed=seed, start=good.index(b"\xff\xda") + 14)
        for seed in range(60)
        for good in [encoded(picture(seed % 10), "JPEG")]
    ]
    readings = champion.read_many(contents)
    noted = [r for r in readings if re.search(r"picture is damaged \(Corrupt JPEG", r.reason)]
    assert len(noted) > 40  # of those drawn here; of photos of digits, 79 %
    assert all(r.status == "rejected" and r.label is None and r.probabilities for r in noted)


def test_zeros_before_the_end_of_a_jpeg_do_no_harm(champion):
    padded = JPEG[:-2] + b"\0\0\0" + JPEG[-2:]
    assert champion.read(padded) == champion.read(JPEG)
    assert champion.read(JPEG + b"more").reason == ""


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("missing", [1, 2])
def test_a_jpeg_that_lacks_its_last_bytes_is_read_and_noted(champion, mode, progressive, missing):
    content = encoded(WHOLE.convert(mode), "JPEG", progressive=progressive)
    found, whole = champion.read(content[:-missing]), champion.read(content)
    assert (found.pixels == whole.pixels).all()
    assert (found.status, found.label, found.width) == ("ok", 3, 120)
    assert "its last bytes are missing" in found.reason


def test_how_much_of_a_jpeg_may_be_missing():
    """A strip of paper below the digit may; half of the picture may not, nor any whole scan."""
    noise = np.random.default_rng(0).integers(-9, 10, (560, 480))
    photo = np.asarray(picture(3, (480, 560), 300, pen=30).convert("L")) + noise
    content = encoded(Image.fromarray(photo.clip(0, 255).astype(np.uint8)), "JPEG")
    found = prepare(content[: -len(content) // 50])
    assert re.fullmatch(r"the picture is cut off: the last [1-4]\.\d% of it is missing", found.note)
    for share in (0.5, 0.8):
        with pytest.raises(PictureError, match="cut off: its last part is missing"):
            prepare(content[: int(share * len(content))])
    progressive = encoded(WHOLE, "JPEG", progressive=True)
    with pytest.raises(PictureError, match="cut off: its last part is missing"):
        prepare(progressive[: int(0.9 * len(progressive))])


def with_part(name, data):
    """A PNG with one more chunk before its pixels."""
    chunk = len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4)
    return PNG[:33] + chunk + PNG[33:]


HARMLESS = {
    "a long comment": with_part(b"tEXt", b"Comment\0" + b"x" * 1_200_000),
    "a long comment, compressed": with_part(b"zTXt", b"a\0\0" + zlib.compress(bytes(2_000_000))),
    "a large colour profile": with_part(b"iCCP", b"x\0\0" + zlib.compress(bytes(2_000_000))),
    "a profile that is none": with_part(b"iCCP", b"x\0\0abcdef"),
    "an unknown part": with_part(b"zzZz", b"\0\1\2"),
    "XMP that is no XML": with_part(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x><<&&"),
}


@pytest.mark.parametrize("what", HARMLESS)
def test_a_png_is_read_whatever_its_other_parts_hold(what):
    found, whole = prepare(HARMLESS[what]), prepare(PNG)
    assert (found.pixels == whole.pixels).all()
    assert found[1:] == whole[1:]


WRONG = {
    "a damaged comment": (
        with_part(b"tEXt", b"Comment\0hello").replace(b"hello", b"hallo"),
        "tEXt",
    ),
    "damaged EXIF data": (with_part(b"eXIf", b"MM\0*").replace(b"eXIfMM", b"eXIfMN"), "eXIf"),
    "a method that is none": (with_part(b"iCCP", b"x\0\1abc"), "Unknown compression method 1"),
    "no end": (PNG[:-12], "its last bytes are missing"),
    "no checksum of the pixels": (PNG[:-16], "its last bytes are missing"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_png_whose_pixels_are_whole_is_read_and_noted(what):
    content, reason = WRONG[what]
    found, whole = prepare(content), prepare(PNG)
    assert (found.pixels == whole.pixels).all()
    assert found.refusal == ""
    assert re.fullmatch(rf"the file is damaged \(.*{reason}.*\), but the .* is whole", found.note)


@pytest.mark.parametrize("name", ["IHDR", "IDAT"])
def test_a_png_whose_pixels_are_damaged_is_an_error(name):
    content = bytearray(PNG)
    content[content.index(name.encode()) + 12] ^= 255
    with pytest.raises(PictureError, match="the picture is damaged"):
        prepare(bytes(content))


REASONS = re.compile(
    r"the picture is damaged( \((image file is truncated|broken data|Truncated|[Uu]n|Corrupt JPEG|"
    r"Inconsistent progression)[\w :()]*\))?"
    r"|the file (has no pages|is damaged: its list of pages is a loop)"
    r"|the first of \d+ pages was read"
    r"|the picture (is cut off: .*is missing|has no pixels|has more than the .* that are read.*)"
    r"|this is .*not a picture that nnpipe reads \(.*\); .*"
    r"|the file is damaged \((its |Unknown compression )[\w\ufffd\\ ]+\), but the .* is whole"
    r"|(blank|several marks|cut off by|like a text)[^']*|the first of \d+ frames was read|"
)


def damaged(content, other, seed):
    """Damage a file in one of many ways, chosen by the seed."""
    rng, changed = random.Random(seed), bytearray(content)  # noqa: S311, of no secret
    place = rng.randrange(rng.choice([64, len(content)])) % len(content)
    length = rng.choice([1, 2, 16, 400])
    match rng.randrange(6):
        case 0:
            return flipped(content, bits=rng.choice([1, 20]), seed=seed)
        case 1:
            del changed[place:]
        case 2:
            del changed[place : place + length]
        case 3:
            changed[place:place] = rng.randbytes(length)
        case 4:
            changed[place : place + length] = bytes(length)
        case 5:
            changed[:length] = other[:length]
    return bytes(changed)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("number", range(len(d.DECODERS)))
def test_a_damaged_file_has_a_reason_that_people_understand(number):
    contents = [encoded(WHOLE.resize((40, 46)), name) for name, _ in d.DECODERS.values()]
    contents += [path.read_bytes() for path in sorted(SAMPLES.glob("[79]-*.[jg]*"))]
    for seed in range(60):
        content = damaged(contents[number], contents[seed % len(contents)], seed)
        ((found, _),) = prepare_many([content])
        if isinstance(found, PictureError):
            reasons = [str(found) or "-"]
        else:
            reasons = [found.note, *(candidate.refusal for candidate in found.candidates)]
        assert all(REASONS.fullmatch(reason) for reason in reasons), (seed, reasons)


# What callers hand over


@pytest.mark.parametrize("thing", [None, 5, [1, 2], {}, np.float32(3), object()])
def test_what_is_no_picture_is_named_by_its_type(champion, thing):
    named = f"an object of the type {type(thing).__name__} is no picture;"
    with pytest.raises(TypeError, match=named):
        champion.read(thing)


def test_open_files_are_read(champion, tmp_path):
    path = tmp_path / "3.png"
    path.write_bytes(PNG)
    expected = champion.read(PNG)
    for stream in (path.open("rb"), path.open("rb", buffering=0), io.BytesIO(PNG)):
        with stream:
            assert champion.read(stream) == expected
        if not isinstance(stream, io.BytesIO):
            assert champion.read(stream).reason.startswith("the file cannot be read: ")
    with path.open(encoding="latin-1") as text, pytest.raises(TypeError, match="'rb'"):
        champion.read(text)
    assert champion.read(bytearray(PNG)) == expected
    assert champion.read(b"").reason == "the file is empty"


def test_an_open_file_that_is_too_large_is_refused(champion, monkeypatch):
    monkeypatch.setattr("nnpipe.preprocess.pictures.MAX_BYTES", 100)
    with (SAMPLES / "3-dark-on-light.png").open("rb") as stream:
        assert "MiB that are read" in champion.read(stream).reason


@pytest.mark.parametrize("kind", ["uint16", "int32", "uint32", "int64", "uint64", ">i8", "float16"])
def test_an_array_is_read_by_its_values_whatever_its_type(kind):
    levels = np.asarray(WHOLE.convert("L"))
    expected = prepare(levels)
    found = prepare(levels.astype(kind))
    assert np.abs(found.pixels.astype(int) - expected.pixels).max() <= 8
    assert found.refusal == ""


def test_colours_in_large_integers_are_read_as_in_bytes():
    colours = np.asarray(WHOLE)
    assert (prepare(colours.astype(np.int64)).pixels == prepare(colours).pixels).all()


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
def test_an_empty_array_has_no_pixels(shape):
    for kind in (np.uint8, np.int64, np.float32):
        with pytest.raises(PictureError, match="the picture has no pixels"):
            prepare(np.zeros(shape, kind))


def test_an_image_that_is_closed_says_so():
    image = Image.open(io.BytesIO(PNG))
    image.close()
    with Image.open(SAMPLES / "3-dark-on-light.png") as another:
        pass
    for closed in (image, another):
        with pytest.raises(PictureError, match="was closed before it was loaded"):
            prepare(closed)


def png(width, height, depth, colour, rows, *, interlaced=False):
    """A PNG with these bytes as its rows, however few, and nothing wrong with its parts."""
    header = width.to_bytes(4) + height.to_bytes(4) + bytes([depth, colour, 0, 0, interlaced])
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4)
        for name, data in parts
    )


@pytest.mark.parametrize(
    ("depth", "colour", "row"), [(8, 0, 41), (1, 0, 6), (8, 6, 161), (16, 2, 241)]
)
@pytest.mark.parametrize("level", [0, 1])
def test_a_png_whose_data_end_before_its_last_row_is_an_error(depth, colour, row, level):
    """Pillow leaves the missing rows black and says nothing."""
    rows = bytes([0, *[level] * (row - 1)]) * 30
    prepare(png(40, 30, depth, colour, rows))
    for length in (0, 1, 29 * row, 30 * row - 1):
        with pytest.raises(PictureError, match=r"is damaged \(image file is truncated"):
            prepare(png(40, 30, depth, colour, rows[:length]))


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 2), (5, 5), (8, 8), (33, 17)])
def test_the_last_pass_of_an_interlaced_png_may_not_be_missing(width, height):
    longest = next(
        length
        for length in range(2000)
        if "damaged" not in answer(png(width, height, 8, 0, bytes(length), interlaced=True))
    )
    passes = [len(range(y, height, dy)) for x, y, dx, dy in d.ADAM7 if x < width]
    assert longest == width * height + sum(passes)  # each row has a byte for its filter


def answer(content):
    try:
        return prepare(content).refusal
    except PictureError as error:
        return str(error)
