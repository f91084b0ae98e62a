import io
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageDraw
from scipy import ndimage

from nnpipe import preprocess
from nnpipe.datasets import drawn, mnist
from nnpipe.errors import PictureError
from nnpipe.preprocess import marks
from nnpipe.preprocess.drawing import centre_of_mass, stroke_width, thicken
from nnpipe.preprocess.mnist_like import look_like_mnist
from nnpipe.preprocess.paper import closing, histogram, otsu
from nnpipe.preprocess.pictures import ENOUGH, open_picture

from .make_samples import coverage, encoded, paper, picture
from .seen import prepare


@pytest.fixture(scope="module")
def digits():
    return drawn.draw(np.arange(200) % 10, np.random.default_rng(0))


def difference(a, b):
    """Difference of two pictures in shares of the ink of the first. A centre of mass that falls
    on the border between two pixels may be rounded either way, so the nearest shift counts."""
    shifts = [(down, across) for down in (-1, 0, 1) for across in (-1, 0, 1)]
    others = [np.roll(b.pixels, shift, (0, 1)) for shift in shifts]
    return min(np.abs(a.pixels.astype(float) - p).sum() for p in others) / a.pixels.sum()


def test_all_of_mnist_passes_unchanged(mnist_data):
    (training, _), (test, _) = mnist.read(mnist_data)
    assert look_like_mnist(test.astype(np.float32)).all()
    assert look_like_mnist(training.astype(np.float32)).all()


def test_mnist_as_png_files_is_shown_to_the_network_bit_for_bit(mnist_data):
    images = mnist.read(mnist_data)[1][0][:500]
    for image in images:
        for mode in ("L", "RGB"):
            content = encoded(Image.fromarray(image).convert(mode), "PNG")
            assert (prepare(content).pixels == image).all()


def test_what_it_draws_passes_unchanged():
    """Preparing twice is preparing once."""
    for label in range(10):
        once = prepare(picture(label))
        assert (prepare(once.pixels).pixels == once.pixels).all()


def test_what_it_draws_fits_and_is_centred_as_mnist_is():
    for label in range(10):
        pixels = prepare(picture(label, (300, 200), 60, (0.8, 0.3), 6)).pixels
        rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
        assert 19 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 20
        assert all(13.49 <= middle <= 14.51 for middle in centre_of_mass(pixels))
        assert pixels.max() == 255
        assert pixels[0].max() == 0


def test_polarity_size_place_and_colour_do_not_matter():
    """Of ten plainly written digits, the nearest to each variation is the same digit."""
    plain = [prepare(picture(label)) for label in range(10)]
    for label in range(10):
        for other in (
            picture(label, ink=(255, 255, 255), paper=(20, 20, 25)),
            picture(label, ink=(25, 60, 160), paper=(248, 236, 190)),
            picture(label, (400, 300), 90, (0.7, 0.3)),
            picture(label, (480, 560), 360, pen=32),
        ):
            found = prepare(other)
            assert int(np.argmin([difference(found, digit) for digit in plain])) == label


def test_transparent_pictures_keep_black_and_white_ink():
    for ink in (0, 255):
        mask = picture(4, ink=(255,) * 3, paper=(0,) * 3).convert("L")
        image = Image.new("LA", mask.size, (ink, 0))
        image.putalpha(mask)
        assert difference(prepare(picture(4)), prepare(image)) < 0.15


@pytest.mark.parametrize(
    "mode",
    ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I", "F", "I;16"],
)
def test_every_mode_is_read(mode):
    source = picture(3)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(source.convert("L")).astype(np.uint16) * 100)
    elif mode == "LAB":
        image = Image.frombytes("LAB", source.size, source.convert("YCbCr").tobytes())
    else:
        image = (
            source.convert("RGBA").convert(mode) if mode in ("PA", "LA") else source.convert(mode)
        )
    assert image.mode == mode
    assert difference(prepare(source), prepare(image)) < 0.3


def test_the_camera_being_turned_does_not_matter():
    upright = picture(7)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    content = encoded(turned, "JPEG", quality=95, exif=exif)
    found = prepare(content)
    assert (found.width, found.height) == upright.size
    assert difference(prepare(upright), found) < 0.1


def test_mnist_on_white_paper_is_only_inverted(mnist_data):
    for image in mnist.read(mnist_data)[1][0][:100]:
        assert (prepare(255 - image).pixels == image).all()


@pytest.mark.parametrize("light", ["even", "slope", "shadow"])
@pytest.mark.parametrize("lines", ["none", "ruled", "squared"])
def test_light_and_lines_on_paper_do_not_matter(light, lines):
    """Of ten plainly written digits, the nearest to each photo is the same digit, and none is
    refused.
    """
    plain = [prepare(picture(label)) for label in range(10)]
    for label in range(10):
        found = prepare(paper(label, light, lines))
        assert int(np.argmin([difference(found, other) for other in plain])) == label
        assert found.refusal == ""


@pytest.mark.parametrize("light", ["even", "slope", "shadow"])
@pytest.mark.parametrize("margin", [0, 2, 6])
def test_a_photo_cut_to_the_digits_very_edges_is_read_as_the_whole_one(light, margin):
    for label in range(10):
        ink = np.asarray(coverage(label, (320, 280), 150, (0.55, 0.5), 9)) > 127
        rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
        whole = paper(label, light, "none")
        box = columns[0] - margin, rows[0] - margin, columns[-1] + margin, rows[-1] + margin
        found = prepare(whole.crop(box))
        assert found.refusal == ""
        assert difference(prepare(whole), found) < 0.5


def test_what_leans_on_the_border_of_a_photo_is_no_digit():
    rng = np.random.default_rng(0)
    shades = np.linspace(200, 230, 160)[None, :] + rng.normal(0, 3, (140, 160))
    y, x = np.mgrid[:140, :160]
    shades[np.hypot(y - 70, x) < 25] -= 120
    found = prepare(shades.clip(0, 255).astype(np.uint8))
    assert found.refusal.startswith("cut off by the border, or no digit")


def test_faint_levels_in_28x28_are_no_digit():
    levels = np.zeros((28, 28), np.float32)
    levels[4:24, 13:16] = 0.001
    assert prepare(levels).refusal.startswith("blank")


@pytest.mark.parametrize("shape", [(5,), (5, 5, 5), (5, 5, 1, 1)])
def test_an_array_of_another_shape_is_an_error(shape):
    with pytest.raises(PictureError, match=r"an array of shape \(5.* is no picture; expected"):
        prepare(np.zeros(shape, np.int64))


def test_an_orientation_that_exif_does_not_know_turns_nothing():
    exif = Image.Exif()
    exif[0x0112] = 99
    found = prepare(encoded(picture(7), "JPEG", exif=exif))
    assert (found.width, found.height) == picture(7).size


def test_thin_strokes_are_thickened_and_thick_ones_kept():
    """A stroke's width in 28×28 pixels; MNIST's lie between 1.6 and 3.8, 5 % to either side."""
    widths = [stroke_width(prepare(picture(3, pen=pen)).pixels) for pen in (1, 2, 4, 8, 12, 20)]
    assert all(1.8 < width < 4.5 for width in widths), widths
    assert max(widths[:3]) - min(widths[:3]) < 0.3
    assert widths[3] < widths[4] < widths[5]


@pytest.mark.parametrize("level", [0, 100, 255])
def test_a_blank_picture_is_blank(level):
    noise = np.random.default_rng(0).integers(-3, 4, (80, 60))
    found = prepare((level + noise).clip(0, 255).astype(np.uint8))
    assert found.refusal.startswith("blank: ")
    assert not found.pixels.any()
    assert (found.width, found.height) == (60, 80)


@pytest.mark.parametrize("side", [3000, 9900])
def test_a_few_specks_on_a_large_page_are_no_error(side):
    """There is so little ink that hardly anything of it is left in 28×28 pixels."""
    page = np.full((side, side), 255, np.uint8)
    rows, columns = np.random.default_rng(0).integers(0, side, (2, 120))
    page[rows, columns] = 0
    assert prepare(page).refusal


def test_two_digits_are_refused_and_one_in_pieces_is_not():
    two = Image.new("RGB", (240, 140), (255, 255, 255))
    for number, digit in enumerate((4, 7)):
        two.paste(picture(digit), (120 * number, 0))
    assert prepare(two).refusal == "several marks; expected one digit"
    in_pieces = np.asarray(picture(5).convert("L")).copy()
    in_pieces[::24] = in_pieces[1::24] = in_pieces[2::24] = 255
    assert prepare(in_pieces).refusal == ""
    assert difference(prepare(picture(5)), prepare(in_pieces)) < 0.4


def test_the_detached_hat_of_a_5_belongs_to_it_and_an_underline_does_not():
    whole = np.asarray(picture(5).convert("L"))
    detached = whole.copy()
    detached[36:41] = 255
    assert prepare(detached).refusal == ""
    assert difference(prepare(whole), prepare(detached)) < 0.6
    underlined = np.asarray(picture(6).convert("L")).copy()
    underlined[136:139, 25:95] = 0
    assert prepare(underlined).refusal == ""
    assert difference(prepare(picture(6)), prepare(underlined)) < 0.05


@pytest.mark.parametrize("edge", [np.s_[:, -4:], np.s_[:, :4], np.s_[:4], np.s_[-4:]])
def test_the_edge_of_a_sheet_is_left_out(edge):
    scan = np.asarray(picture(6).convert("L")).copy()
    scan[edge] = 0
    assert prepare(scan).refusal == ""
    assert difference(prepare(picture(6)), prepare(scan)) < 0.05


def test_a_page_and_noise_are_refused():
    rng = np.random.default_rng(0)
    page = Image.new("L", (300, 200), 240)
    for line in range(10, 190, 20):
        ImageDraw.Draw(page).text((10, line), "".join(rng.choice(list("abcdefgh xyz"), 45)), 20)
    noise = Image.fromarray(rng.integers(0, 256, (90, 120)).astype(np.uint8))
    assert prepare(page).refusal == "like a text, a pattern or noise; expected one digit"
    assert prepare(noise).refusal.startswith(("like a text, a pattern or noise", "blank"))


def test_specks_beside_the_digit_are_left_out():
    speckled = np.asarray(picture(6).convert("L")).copy()
    speckled[5:8, 5:8] = speckled[130:132, 110:113] = speckled[10:12, 100:102] = 0
    assert difference(prepare(picture(6)), prepare(speckled)) < 0.05


def test_the_first_of_many_frames_is_read_and_the_note_says_so():
    frames = [picture(label).convert("P") for label in (2, 7, 3)]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    found = prepare(content)
    assert found.note == "the first of 3 frames was read"
    assert difference(prepare(picture(2)), found) < 0.3


def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size():
    content = encoded(picture(3, (1600, 1200), 900, pen=70), "JPEG", quality=90)
    opened = open_picture(content)
    assert (opened.width, opened.height) == (1600, 1200)
    assert ENOUGH <= max(opened.image.size) <= 400
    assert difference(prepare(picture(3, (400, 300), 225, pen=17.5)), prepare(content)) < 0.15


def test_a_picture_that_is_handed_over_is_not_changed():
    content = encoded(picture(3, (1600, 1200), 900, pen=70), "JPEG")
    with Image.open(io.BytesIO(content)) as image:
        prepare(image)
        assert image.size == (1600, 1200)


def test_the_stages_can_be_looked_at():
    """The brightness, and the ink of each way to understand the picture."""
    stages = []
    prepared = preprocess.prepare(picture(3), lambda *stage: stages.append(stage))
    assert [name for name, _ in stages] == ["brightness", *(c.name for c in prepared.candidates)]
    assert all(0 <= stage.min() < stage.max() <= 255 for _, stage in stages)


def test_marks_are_those_of_scipy():
    """Their pixels, boxes and masses."""
    rng = np.random.default_rng(0)
    for share in (0.0, 0.2, 0.4, 0.6, 1.0):
        for _ in range(20):
            mask = (rng.random(rng.integers(1, 40, 2)) < share).astype(np.uint8)
            strength = mask * rng.integers(1, 256, mask.shape).astype(np.uint8)
            labels, found = marks.measure(mask, strength)
            theirs, count = ndimage.label(mask, np.ones((3, 3)))
            assert len(found) == count
            boxes = dict(enumerate(ndimage.find_objects(theirs), start=1))
            for mark in found:
                (number,) = np.unique(theirs[labels == mark.label])
                assert ((theirs == number) == (labels == mark.label)).all()
                assert boxes.pop(number) == np.s_[mark.top : mark.bottom, mark.left : mark.right]
                assert mark.mass == strength[theirs == number].sum()


@pytest.mark.parametrize("reach", [1, 3])
def test_marks_within_reach_of_each_other_are_one(reach):
    """As the parts of a dilation are."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = (rng.random((40, 30)) < 0.02).astype(np.uint8)
        labels, found = marks.measure(mask, mask, reach=reach)
        wide = ndimage.binary_dilation(np.pad(mask, reach), np.ones((2 * reach + 1,) * 2))
        theirs, count = ndimage.label(wide, np.ones((3, 3)))
        theirs = theirs[reach:-reach, reach:-reach] * mask
        same = np.unique(np.stack([labels, theirs])[:, mask > 0], axis=1)
        assert len(found) == count == same.shape[1]
        for mark in found:
            rows, columns = np.nonzero(labels == mark.label)
            assert (mark.top, mark.bottom) == (rows.min(), rows.max() + 1)
            assert (mark.left, mark.right) == (columns.min(), columns.max() + 1)


def test_closing_is_that_of_scipy():
    levels = np.random.default_rng(0).integers(0, 256, (40, 30)).astype(np.uint8)
    for width in (2, 3, 7, 8):
        expected = ndimage.grey_closing(levels, (width | 1, width | 1), mode="nearest")
        inner = np.s_[width:-width, width:-width]  # SciPy's border goes on beyond the first step
        np.testing.assert_array_equal(closing(levels, width)[inner], expected[inner])


def test_thickening_is_a_dilation_with_a_disc():
    rng = np.random.default_rng(0)
    strength = np.where(rng.random((20, 25)) < 0.05, rng.integers(0, 256, (20, 25)), 0)
    strength = strength.astype(np.uint8)
    y, x = np.mgrid[-3:4, -3:4]
    disc = np.hypot(y, x)
    inner, outer = (
        ndimage.grey_dilation(np.pad(strength, 3), footprint=disc <= radius) for radius in (2, 3)
    )
    assert (thicken(strength, 3) == outer).all()
    between = thicken(strength, 2.3).astype(int)
    assert (between >= inner).all()
    assert (between <= outer).all()
    np.testing.assert_allclose(between, 0.7 * inner + 0.3 * outer, atol=0.51)


@pytest.mark.parametrize("width", [3, 8, 13.5])
@pytest.mark.parametrize("angle", [0, 20, 45, 90])
def test_the_width_of_a_stroke_is_measured(width, angle):
    """Within a quarter, whatever its direction."""
    y, x = np.mgrid[-60:60, -60:60] + 0.5
    turn = np.deg2rad(angle)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    stroke = (np.abs(across) < width / 2) & (np.abs(along) < 55)
    assert stroke_width(np.uint8(255) * stroke) == pytest.approx(width, rel=0.25)


def test_otsu_finds_the_least_variance_within_both():
    rng = np.random.default_rng(0)
    levels = np.rint(np.concatenate([rng.normal(80, 20, 700), rng.normal(180, 15, 300)]))
    levels = levels.clip(0, 255).astype(np.uint8)

    def within(threshold):
        parts = levels[levels <= threshold], levels[levels > threshold]
        return sum(part.var() * part.size for part in parts if part.size)

    best = min(within(threshold) for threshold in range(256))
    assert within(otsu(histogram(levels))) <= 1.001 * best


def test_floats_of_any_range_are_read():
    for low, high in ((-3.3e38, 3.3e38), (0, 1), (0, 250), (-5, -4)):
        shades = np.asarray(picture(3).convert("L")) / 255
        found = prepare((low + (np.float64(high) - low) * shades).astype(np.float32))
        assert difference(prepare(picture(3)), found) < 0.3


@pytest.mark.parametrize("bits", [12, 16])
def test_deep_pictures_keep_their_contrast(bits):
    """A blank page's grain stays a grain, whatever the number of its levels."""
    white = 2**bits - 1
    shades = np.asarray(picture(3).convert("L")) / 255
    assert difference(prepare(picture(3)), prepare((shades * white).astype(np.uint16))) < 0.1
    grain = np.random.default_rng(0).normal(0.9, 0.004, (90, 90))
    assert prepare((grain * white).astype(np.uint16)).refusal.startswith("blank")


def png_header(width, height):
    stream = io.BytesIO()
    Image.new("L", (1, 1)).save(stream, "PNG")
    content = bytearray(stream.getvalue())
    content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    import zlib

    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


WHOLE = encoded(picture(5), "PNG")
BROKEN = {
    "text": (b"hello", "this is text, not a picture that nnpipe reads"),
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\n", "with 'git lfs pull'"),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG, not a picture that nnpipe reads"),
    "PDF": (b"%PDF-1.7\n", "the PDF is damaged, or has no pages"),
    "a picture cut off": (WHOLE[: len(WHOLE) // 2], "damaged"),
    "a header only": (WHOLE[:40], "damaged"),
    "a bomb": (png_header(20_000, 20_000), "more than the 100 million pixels"),
    "a bigger bomb": (png_header(2**31 - 1, 2**31 - 1), "more than the 100 million pixels"),
    "a picture without pixels": (png_header(0, 0), "damaged|no pixels"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_no_whole_picture_is_an_error(what):
    content, message = BROKEN[what]
    with pytest.raises(PictureError, match=message):
        prepare(content)


def test_files_that_cannot_be_read_are_errors(tmp_path):
    with pytest.raises(PictureError, match="there is no such file"):
        prepare(tmp_path / "none.png")
    with pytest.raises(PictureError, match="this is a folder") as caught:
        prepare(tmp_path)
    assert caught.value.advice == "score"
    (tmp_path / "empty.png").touch()
    with pytest.raises(PictureError, match="the file is empty"):
        prepare(tmp_path / "empty.png")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_array_gives_pixels_or_a_picture_error(data):
    """Whatever sizes and values: 28×28 bytes, blank or fitted, never another exception."""
    dtype = data.draw(st.sampled_from([np.uint8, np.uint16, np.int32, np.float32, np.bool_]))
    side = st.integers(0, 40)
    shape = data.draw(st.tuples(side, side) | st.tuples(side, side, st.sampled_from([3, 4])))
    array = data.draw(hnp.arrays(dtype, shape))
    try:
        found = prepare(array)
    except PictureError:
        return
    assert found.pixels.shape == (28, 28)
    assert found.pixels.dtype == np.uint8
    assert found.pixels.any() or found.refusal


CONTENTS = {
    "noise": lambda rng, y, x: rng.random(y.shape),
    "one level": lambda rng, y, x: np.full(y.shape, rng.random()),
    "a slope": lambda rng, y, x: (x + rng.random() * y) / 400,
    "stripes": lambda rng, y, x: np.sin(x * rng.random()) > 0,
    "a disc": lambda rng, y, x: np.hypot(y - 40, x - 40) < 200 * rng.random(),
    "one pixel": lambda rng, y, x: (y == 0) & (x == 0),
}


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I", "F"]),
    st.sampled_from(sorted(CONTENTS)),
    st.integers(1, 600),
    st.integers(1, 600),
    st.integers(0, 1000),
)
def test_any_mode_size_and_content_gives_pixels(mode, content, height, width, seed):
    y, x = np.mgrid[:height, :width].astype(float)
    levels = CONTENTS[content](np.random.default_rng(seed), y, x) * 255.0
    source = Image.fromarray(levels.clip(0, 255).astype(np.uint8))
    found = prepare(source.convert("RGB").convert(mode) if mode != "L" else source)
    assert found.pixels.shape == (28, 28)
    assert found.pixels.dtype == np.uint8
    assert (found.width, found.height) == (width, height)
    assert found.pixels.any() or found.refusal


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_any_flipped_byte_gives_pixels_or_a_picture_error(position, flip):
    content = bytearray(WHOLE)
    content[position] ^= flip
    with suppress(PictureError):
        prepare(bytes(content))


def test_inputs_are_pixels_over_255(digits):
    X = preprocess.as_inputs(digits)
    assert X.shape == (200, 784)
    assert X.dtype == np.float32
    np.testing.assert_allclose(X, digits.reshape(200, -1) / 255, rtol=1e-6)
