"""Files with several pages: PDF, TIFF and HEIC, good, odd and hostile."""

import io
import json
import os
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nnpipe import cli, pages
from nnpipe.classifier import Classifier
from nnpipe.errors import PictureError
from nnpipe.pages import Page
from nnpipe.preprocess import decoders, prepare
from nnpipe.preprocess.pictures import open_picture
from nnpipe.processes import over

from .conftest import ROOT
from .make_samples import encoded, picture

pypdfium2 = pytest.importorskip("pypdfium2")
pillow_heif = pytest.importorskip("pillow_heif")

LABELS = (2, 7, 3)
BOX = b"20 20 30 30 re f"  # a black box of 30 points, from the lower left corner


@pytest.fixture(scope="module")
def champion():
    return Classifier.load()


def several(kind, labels=LABELS, **options):
    """A file with a digit on each page."""
    first, *rest = (picture(label).convert("L") for label in labels)
    return encoded(first, kind, save_all=True, append_images=rest, **options)


def heic(image, **options):
    stream = io.BytesIO()
    pillow_heif.from_pillow(image).save(stream, quality=95, **options)
    return stream.getvalue()


def pdf(*objects, trailer=b""):
    """A PDF of these objects, of which the first is the catalog."""
    content, places = b"%PDF-1.7\n", []
    for number, one in enumerate(objects, 1):
        places.append(len(content))
        content += b"%d 0 obj\n%b\nendobj\n" % (number, one)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    end = b"trailer << /Size %d /Root 1 0 R %b >>\nstartxref\n%d\n%%%%EOF"
    size = len(objects) + 1
    start = b"xref\n0 %d\n0000000000 65535 f \n" % size
    return content + start + table + end % (size, trailer, len(content))


def stream(data, about=b""):
    return b"<< /Length %d %b >>\nstream\n%b\nendstream" % (len(data), about, data)


def one_page(box=b"0 0 100 100", *, content=BOX, page=b"", catalog=b"", more=(), trailer=b""):
    return pdf(
        b"<< /Type /Catalog /Pages 2 0 R %b >>" % catalog,
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [%b] /Contents 4 0 R %b >>" % (box, page),
        stream(content),
        *more,
        trailer=trailer,
    )


def empty_pages(n, *, kids=None, claimed=None):
    """A PDF of small empty pages."""
    each = kids or [b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] >>"] * n
    numbers = b" ".join(b"%d 0 R" % (number + 3) for number in range(len(each)))
    tree = b"<< /Type /Pages /Kids [%b] /Count %d >>" % (numbers, claimed or len(each))
    return pdf(b"<< /Type /Catalog /Pages 2 0 R >>", tree, *each)


def ink(image):
    """The share of a picture that is black."""
    return float((np.asarray(image) < 128).mean())


# What is read


@pytest.mark.parametrize("kind", ["PDF", "TIFF"])
def test_each_page_is_read(kind, champion):
    content = several(kind)
    assert pages.count(content) == 3
    for number, label in enumerate(LABELS, 1):
        (reading,) = champion.read_prepared([prepare(Page(content, number))])
        assert (reading.status, reading.label, reading.reason) == ("ok", label, "")


@pytest.mark.parametrize("kind", ["PDF", "TIFF"])
def test_a_file_without_a_page_number_is_its_first_page_and_the_note_says_so(kind):
    content = several(kind)
    assert open_picture(content).note == "the first of 3 pages was read"
    assert open_picture(Page(content, 1)).note == ""
    assert open_picture(several(kind, (5,))).note == ""


def test_an_animation_is_one_page_and_its_note_stays():
    content = several("GIF")
    assert pages.count(content) == 1
    assert open_picture(Page(content, 1)).note == "the first of 3 frames was read"


@pytest.mark.parametrize(
    ("kind", "number", "has"),
    [("PDF", 4, "3 pages"), ("TIFF", 4, "3 pages"), ("PDF", 0, "3 pages"), ("PNG", 2, "one page")],
)
def test_a_page_that_does_not_exist_is_an_error(kind, number, has):
    content = several(kind) if kind != "PNG" else encoded(picture(2), kind)
    with pytest.raises(PictureError, match=f"there is no page {number}; the file has {has}"):
        open_picture(Page(content, number))


@pytest.mark.parametrize("big", [False, True])
def test_a_page_of_a_tiff_has_the_pixels_that_pillow_reads(big):
    content = several("TIFF", compression="tiff_lzw", big_tiff=big)
    with Image.open(io.BytesIO(content)) as image:
        for frame in range(3):
            image.seek(frame)
            page = open_picture(Page(content, frame + 1)).image
            np.testing.assert_array_equal(np.asarray(page), np.asarray(image))


@pytest.mark.parametrize("dpi", [72, 150, 300, 600])
def test_a_scan_is_rendered_in_the_pixels_of_its_image(dpi):
    image = Image.effect_noise((301, 203), 60).quantize(2, dither=0).convert("1")  # without loss
    opened = open_picture(encoded(image, "PDF", resolution=dpi))
    assert opened.image.size == (opened.width, opened.height) == image.size
    assert (np.asarray(opened.image) != np.asarray(image.convert("L"))).mean() < 0.01


def test_the_resolution_stays_within_limits():
    small, fine = Image.new("L", (100, 100)), Image.new("L", (2400, 2400))
    # A picture as coarse as this is no scan, whatever it covers: 300 dpi.
    assert open_picture(encoded(small, "PDF", resolution=36)).width == 834
    assert open_picture(encoded(small, "PDF", resolution=72)).width == 100
    assert open_picture(encoded(fine, "PDF", resolution=2400)).width == 600
    assert open_picture(one_page()).width == 417  # no image: 300 dpi


def test_a_small_logo_does_not_make_a_page_a_scan():
    image = stream(b"\0", b"/Type /XObject /Subtype /Image /Width 1 /Height 1 "
                   b"/BitsPerComponent 8 /ColorSpace /DeviceGray")  # fmt: skip
    resources = b"/Resources << /XObject << /I 5 0 R >> >>"
    logo = one_page(content=b"9 0 0 9 0 0 cm /I Do", page=resources, more=[image])
    background = one_page(content=b"99 0 0 99 0 0 cm /I Do", page=resources, more=[image])
    assert open_picture(logo).width == 417
    assert open_picture(background).width == 417


def test_a_rotated_page_is_upright():
    wide = open_picture(one_page(b"0 0 200 100"))
    turned = open_picture(one_page(b"0 0 200 100", page=b"/Rotate 90"))
    assert (turned.width, turned.height) == (wide.height, wide.width)
    # Turned by 90° clockwise, the box at the lower left comes to the upper left.
    assert np.asarray(turned.image)[: turned.height // 2, : turned.width // 2].min() == 0
    assert np.asarray(turned.image)[turned.height // 2 :].min() == 255


def test_ink_that_was_written_on_a_page_is_drawn():
    note = b"<< /Type /Annot /Subtype /Ink /Rect [0 0 99 99] /F 4 /AP << /N 6 0 R >> >>"
    drawn = stream(b"9 w 10 10 m 90 90 l S", b"/Type /XObject /Subtype /Form /BBox [0 0 99 99]")
    opened = open_picture(one_page(content=b"", page=b"/Annots [5 0 R]", more=[note, drawn]))
    assert 0.05 < ink(opened.image) < 0.2


@pytest.mark.parametrize("kind", ["PDF", "HEIC"])
def test_a_digit_is_read_as_from_a_png(kind, champion):
    for label in range(10):
        image = picture(label).convert("L")
        content = heic(image) if kind == "HEIC" else encoded(image, "PDF", quality=95)
        same, png = champion.read(content), champion.read(encoded(image, "PNG"))
        assert (same.label, same.status, same.width) == (png.label, png.status, png.width)
        assert same.confidence == pytest.approx(png.confidence, abs=0.02)


def test_the_orientation_of_a_heic_counts_once():
    upright = picture(4).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90° clockwise
    lying = upright.transpose(Image.Transpose.ROTATE_90)
    opened = open_picture(heic(lying, exif=exif.tobytes()))
    assert opened.image.size == (opened.width, opened.height) == upright.size
    difference = np.asarray(opened.image, float) - np.asarray(upright, float)
    assert np.abs(difference).mean() < 5


def test_a_heic_is_no_part_of_pillow():
    """Opening one registers no decoder that other code would use."""
    open_picture(heic(picture(4)))
    assert "HEIF" not in Image.OPEN


@pytest.mark.parametrize(("module", "what"), [("pypdfium2", "a PDF"), ("pillow_heif", "a HEIC pi")])
def test_without_the_extra_one_sentence_says_what_to_install(module, what, monkeypatch):
    content = one_page() if module == "pypdfium2" else heic(picture(4))
    pages._document.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(PictureError, match=rf"^{what}.* needs {module}, .*pip install .*\[scans\]"):
        open_picture(content)


# What is odd or hostile

SCRIPT = b"<< /S /JavaScript /JS (app.alert\\(1\\)) >>"
LAUNCH = b"<< /S /Launch /F (touch) /Win << /F (calc.exe) >> >>"
LOCK = b"/Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <%b> /U <%b> >> /ID [<00> <00>]"
NO_PAGE = [b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] >>", b"[]"]

ERRORS = {
    "an encrypted PDF": (one_page(trailer=LOCK % (b"11" * 32, b"22" * 32)), "PDF is encrypted; sa"),
    "a header": (b"%PDF-1.7\n", "the PDF is damaged"),
    "half a PDF": (one_page()[:200], "the PDF is damaged"),
    "no pages": (pdf(b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Kids [] /Count 0 >>"), "no pages"),
    "too many pages": (empty_pages(10_001), "the file has more than 10,000 pages; split it"),
    "a claim of pages": (empty_pages(1, claimed=10**6), "more than 10,000 pages; split it"),
    "pages that hold themselves": (
        pdf(b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [2 0 R] /Count 1 >>"),
        "page 1 of the PDF is damaged",
    ),
    "a HEIC header": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "the picture is damaged"),
    "half a HEIC": (heic(picture(4))[:-900], "the picture is damaged"),
}


@pytest.mark.parametrize("what", ERRORS)
def test_a_bad_file_is_one_sentence(what):
    content, message = ERRORS[what]
    with pytest.raises(PictureError, match=message) as raised:
        open_picture(content)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", ["PDF", "TIFF"])
def test_the_pages_beside_a_damaged_one_are_read(kind):
    """In the TIFF, the second page starts with a tag of an impossible type."""
    if kind == "PDF":
        content = empty_pages(3, kids=[NO_PAGE[0], NO_PAGE[1], NO_PAGE[0]])
    else:
        content = bytearray(several(kind))
        at = pages._directories(bytes(content))[1]
        content[at + 2 : at + 26] = bytes(24)
        content = bytes(content)
    assert pages.count(content) == 3
    with pytest.raises(PictureError, match="damaged"):
        open_picture(Page(content, 2))
    assert open_picture(Page(content, 1)).width == open_picture(Page(content, 3)).width


def test_a_tiff_that_is_cut_off_has_an_error_for_the_page_where_it_ends():
    content = several("TIFF")
    content = content[: pages._directories(content)[2]]
    assert pages.count(content) == 3
    assert open_picture(Page(content, 2)).width == 120
    with pytest.raises(PictureError, match="the picture is damaged"):
        open_picture(Page(content, 3))


def test_a_tiff_whose_pages_form_a_loop_is_an_error():
    content = several("TIFF")
    first, _, last = pages._directories(content)
    (entries,) = struct.unpack_from("<H", content, last)
    end = last + 2 + 12 * entries
    loop = content[:end] + struct.pack("<I", first) + content[end + 4 :]
    for thing in (loop, Page(loop, 1), Page(loop, 3)):
        with pytest.raises(PictureError, match="its list of pages is a loop"):
            open_picture(thing)


def test_a_tiff_of_a_million_pages_is_refused_quickly():
    empty = b"".join(struct.pack("<HI", 0, 8 + 6 * number) for number in range(1, 1_000_000))
    with pytest.raises(PictureError, match="more than 10,000 pages; split it"):
        pages.count(b"II*\0\x08\0\0\0" + empty + bytes(6))


def test_as_many_pages_as_are_read_can_be_counted_and_opened():
    content = empty_pages(pages.MOST_PAGES)
    assert pages.count(content) == pages.MOST_PAGES
    assert open_picture(Page(content, pages.MOST_PAGES)).width == 38


@pytest.mark.parametrize(
    "box", [b"0 0 0 0", b"9 9 0 0", b"0 0 1036800 1036800", b"0 0 1036800 1", b"0 0 1e39 1e39"]
)
def test_a_page_of_any_size_is_rendered_within_the_limit(box):
    """14,400 inches are the most that the format allows."""
    opened = decoders.decode(io.BytesIO(one_page(box)), max_pixels=10_000_000)
    assert 0 < opened.width * opened.height <= 10_000_000


def large_scan(side):
    """A PDF of 100 by 100 inches with an image of this many pixels a side."""
    packer = zlib.compressobj(1)
    data = b"".join(packer.compress(bytes(side)) for _ in range(side)) + packer.flush()
    about = b"/Type /XObject /Subtype /Image /Width %d /Height %d /BitsPerComponent 8 " % (
        side,
        side,
    )
    image = stream(data, about + b"/ColorSpace /DeviceGray /Filter /FlateDecode")
    resources = b"/Resources << /XObject << /I 5 0 R >> >>"
    place = b"7200 0 0 7200 0 0 cm /I Do"
    return one_page(b"0 0 7200 7200", content=place, page=resources, more=[image])


@pytest.mark.slow
def test_an_image_of_30000_pixels_a_side_ends_no_run():
    """The child that renders it may run out of memory; the pages beside it are read."""
    items = [Page(one_page(), 1), Page(large_scan(30_000), 1), Page(one_page(), 1)]
    first, _, last = over(prepare, items, seconds=30)
    assert first.width == last.width == 417


def test_scripts_actions_and_attachments_do_nothing(tmp_path):
    """The page is the same as without them, and no process is started and no file is opened."""
    files = b"/Names << /EmbeddedFiles << /Names [(a) << /EF << /F 5 0 R >> >>] >> >>"
    link = (
        b"/Annots [<< /Subtype /Link /Rect [0 0 9 9] /A << /S /URI /URI (http://x.invalid) >> >>]"
    )
    content = one_page(
        catalog=b"/OpenAction %b /AA << /WC %b >> %b" % (SCRIPT, LAUNCH, files),
        page=b"/AA << /O %b >> %b" % (LAUNCH, link),
        more=[stream(b"attached", b"/Type /EmbeddedFile")],
    )
    (tmp_path / "odd.pdf").write_bytes(content)
    code = """
import sys
from nnpipe.preprocess.pictures import open_picture
open_picture("plain.pdf")
watched = "subprocess", "os.", "socket"
sys.addaudithook(lambda event, _: event.startswith(watched) and print(event))
print(open_picture("odd.pdf").image.tobytes() == open_picture("plain.pdf").image.tobytes())
"""
    (tmp_path / "plain.pdf").write_bytes(one_page())
    done = in_python(code, cwd=tmp_path)
    assert done.split() == ["True"]


def in_python(code, *, cwd):
    """Run code in a process of its own; return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# Many pages


def test_the_memory_of_500_pages_stays_flat(tmp_path):
    """Each page has an image of its own, of 100 kB. A bitmap that is not closed takes 500 kB."""
    make = """
import io, sys
from pathlib import Path
from nnpipe.pages import Page
from nnpipe.preprocess.pictures import open_picture

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

content = Path("long.pdf").read_bytes()
start = 0
for number in range(1, 501):
    assert open_picture(Page(content, number)).width == 700
    if number == 50:
        start = resident()
print(resident() - start)
"""
    rng = np.random.default_rng(0)
    noise = [Image.fromarray(rng.integers(0, 256, (700, 700), np.uint8)) for _ in range(20)]
    first, *rest = noise * 25
    first.save(tmp_path / "long.pdf", save_all=True, append_images=rest, quality=20)
    assert (tmp_path / "long.pdf").stat().st_size > 40 * 2**20
    assert float(in_python(make, cwd=tmp_path)) < 20


def test_consecutive_pages_parse_a_file_once(monkeypatch):
    opened = []
    real = pypdfium2.PdfDocument
    monkeypatch.setattr(pypdfium2, "PdfDocument", lambda c: opened.append(1) or real(c))
    pages._document.cache_clear()
    content = several("PDF")
    for number in (1, 2, 3):
        open_picture(Page(content, number))
    assert len(opened) == 1


def test_threads_can_read_pages_at_the_same_time():
    """PDFium itself must not be used by several threads."""
    contents = [several("PDF", labels) for labels in ((1, 2), (3, 4), (5, 6))]
    jobs = [Page(content, number) for content in contents for number in (1, 2)] * 8
    expected = [open_picture(page).image.tobytes() for page in jobs]
    with ThreadPoolExecutor(4) as pool:
        assert [image.image.tobytes() for image in pool.map(open_picture, jobs)] == expected


# The command line


@pytest.fixture
def predict(monkeypatch, tmp_path, capfd):
    """Run `nnpipe predict` in an empty folder; returns (exit code, out, err)."""
    monkeypatch.chdir(tmp_path)

    def predict(*arguments):
        monkeypatch.setattr(sys, "argv", ["nnpipe", "predict", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        captured = capfd.readouterr()
        return end.value.code or 0, captured.out, captured.err

    return predict


def answers(out):
    return dict(line.split("  (")[0].split(": ") for line in out.splitlines() if "  (" in line)


@pytest.mark.parametrize("kind", ["PDF", "TIFF"])
@pytest.mark.parametrize("options", [[], ["--digits", "1"]])
def test_predict_reads_all_pages_or_one(kind, options, predict):
    Path("scan").write_bytes(several(kind))
    Path("one").write_bytes(several(kind, (6,)))
    top = options or ["--top-k", "1"]
    _, out, err = predict(*top, "scan", "one")
    out = "\n".join(line for line in out.splitlines() if not line.startswith(" "))
    assert (answers(out), err) == ({"scan#1": "2", "scan#2": "7", "scan#3": "3", "one": "6"}, "")
    _, out, _ = predict("--json", *options, "scan#3", "one", "scan")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["path"], row["page"], int(row["label"])) for row in rows] == [
        ("scan", 3, 3), ("one", 1, 6), ("scan", 1, 2), ("scan", 2, 7), ("scan", 3, 3)
    ]  # fmt: skip


def test_a_file_whose_name_looks_like_a_page_is_read(predict):
    Path("scan.pdf").write_bytes(several("PDF"))
    Path("scan.pdf#3").write_bytes(encoded(picture(8), "PNG"))
    _, out, _ = predict("--json", "scan.pdf#3", "scan.pdf#2")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["path"], row["label"]) for row in rows] == [("scan.pdf#3", 8), ("scan.pdf", 7)]


def test_predict_names_pages_that_cannot_be_read(predict):
    Path("scan.pdf").write_bytes(empty_pages(2, kids=NO_PAGE))
    Path("locked.pdf").write_bytes(ERRORS["an encrypted PDF"][0])
    code, out, err = predict("scan.pdf", "scan.pdf#5", "locked.pdf", "none.pdf#2")
    assert code == 3
    assert out.startswith("scan.pdf#1: rejected (blank")
    assert err.splitlines() == [
        "nnpipe: scan.pdf#2: page 2 of the PDF is damaged",
        "nnpipe: scan.pdf#5: there is no page 5; the file has 2 pages",
        "nnpipe: locked.pdf: the PDF is encrypted; save a copy that opens without a password",
        "nnpipe: none.pdf#2: there is no such file",
    ]


def test_explain_takes_one_page(predict):
    Path("scan.pdf").write_bytes(several("PDF"))
    assert predict("--explain", "x.png", "scan.pdf")[0] == 2
    assert not Path("x.png").exists()
    assert predict("--explain", "x.png", "scan.pdf#2")[0] == 0
    assert Path("x.png").read_bytes().startswith(b"\x89PNG")


def test_predict_reads_the_pages_of_stdin(tmp_path):
    command = [sys.executable, "-m", "nnpipe.cli", "predict", "--top-k", "1", "-"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command,
        input=several("PDF"),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        timeout=60,
    )
    assert (done.stdout.count(b"-#"), done.stderr) == (3, b"")


# The page on the web


def test_the_page_on_the_web_renders_a_pdf_in_a_process_of_its_own(monkeypatch):
    fastapi = pytest.importorskip("fastapi")
    from nnpipe.demo import answers

    opened = answers.from_bytes(several("PDF"))
    assert opened.note == "the first of 3 pages was read"
    assert prepare(opened).note == opened.note
    scan = encoded(Image.new("1", (6000, 7000)), "PDF", resolution=600)
    assert answers.from_bytes(scan).width < 6000  # a lower resolution, not a refusal
    with pytest.raises(fastapi.HTTPException) as raised:
        answers.from_bytes(ERRORS["an encrypted PDF"][0])
    assert (raised.value.status_code, "password" in raised.value.detail) == (422, True)


def test_the_page_on_the_web_takes_a_heic_within_its_limit(monkeypatch):
    fastapi = pytest.importorskip("fastapi")
    from nnpipe.demo import answers

    content = heic(picture(4))
    assert prepare(answers.from_bytes(content)).width == 120
    monkeypatch.setattr(answers, "MAX_PIXELS", 1000)
    with pytest.raises(fastapi.HTTPException) as raised:
        answers.from_bytes(content)
    assert raised.value.status_code == 413
