"""Where pictures come from, and how odd they may be; S3 and archives are in test_scoring_remote."""

import io
import os
import socket
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from nnpipe.errors import ScoringError
from nnpipe.scoring import decode_path, read_rows
from nnpipe.scoring.entries import Entry, is_litter
from nnpipe.scoring.local import Local
from nnpipe.scoring.sources import open_source

from .make_samples import encoded, picture
from .scoring import score
from .test_scoring import folder, read_csv, score_here

__all__ = ["folder"]

DIGIT = encoded(picture(5), "PNG")


def entries(source, **options):
    """Paths of a source in order, and what it skips."""
    skipped = {}
    with open_source(str(source), **options) as found:
        paths = sorted(entry.path for entry in found.entries(skipped.__setitem__))
        contents = dict(zip(paths, found.reader.read([*map(Entry, paths)]), strict=True))
    return paths, skipped, contents


def test_what_is_no_file_is_named_and_links_to_nothing_are_errors(folder, tmp_path):
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(tmp_path / "pipe")
    (folder / "link-to-pipe.png").symlink_to(tmp_path / "pipe")
    (folder / "folder.png").mkdir()
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "self.png").symlink_to(folder / "self.png")
    (folder / "dangling.png").symlink_to(folder / "none.png")
    (folder / "link.png").symlink_to(folder / "b.png")
    (folder / "null.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(folder / "s"))
        summary = score_here(folder, tmp_path / "out.csv")
    rows = read_csv(tmp_path / "out.csv")
    assert summary.skipped_named == {
        "link-to-pipe.png": "neither file nor folder",
        "null.png": "neither file nor folder",
        "pipe.png": "neither file nor folder",
        "s": "neither file nor folder",
        "loop": "link to a folder",
    }
    assert summary.skipped == {"neither file nor folder": 4, "link to a folder": 1}
    assert rows["link.png"]["label"] == rows["b.png"]["label"] != ""
    assert rows["dangling.png"]["reason"] == "there is no such file"
    assert "Too many levels of symbolic links" in rows["self.png"]["reason"]
    assert len(rows) == 10


NAMES = [
    b"caf\xe9\\.png",
    b"new\nline.png",
    b"tab\tand\rreturn.png",
    b'comma, "quote".png',
    b"-leading.png",
    b"=1+1.png",
    b"NA",
    b"1e5",
    b"null",
    b" space ",
    "ä中😀\u2028.png".encode(),
    b"C1 \xc2\x85 \xc2\x9b2J.png",
    b"alone \x85.png",
    "evil\u202egnp.exe".encode(),
    b"x" * 255,
    b"\\x0a",
    b"*?[a].png",
    b"#%41.png",
]


@pytest.mark.parametrize("out", ["out.csv", "out.jsonl", "out.parquet"])
def test_every_name_has_its_row_and_comes_back(tmp_path, out):
    folder = tmp_path / "in"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        content = encoded(picture(number % 10), "PNG")
        (folder / os.fsdecode(name)).write_bytes(content)
    score_here(folder, tmp_path / out)
    rows = {decode_path(row.path): row.label for row in read_rows(tmp_path / out)}
    assert rows == {name: number % 10 for number, name in enumerate(NAMES)}
    if out != "out.parquet":
        text = (tmp_path / out).read_text("utf-8")
        lines = [*text.splitlines(), ""]  # at every character that ends a line for anyone
        assert not set(text) & set("\x1b\x9b\u202e")
        assert len(lines) == len(NAMES) + 1 + (out == "out.csv")


file_names = (
    st.binary(min_size=1, max_size=40)
    .filter(lambda name: not set(name) & {0, ord("/")} and not is_litter(os.fsdecode(name)))
    .filter(lambda name: name not in (b".", b".."))
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.sets(file_names, max_size=8), deep=file_names)
def test_any_tree_of_names_is_listed_once_and_in_order(tmp_path_factory, names, deep):
    root = tmp_path_factory.mktemp("tree")
    below = os.path.join(os.fsencode(root), b"d" + deep[:39])
    os.mkdir(below)
    expected = set()
    for name in names:
        for at in (os.fsencode(root), below):
            path = os.path.join(at, name)
            if not os.path.exists(path):
                Path(os.fsdecode(path)).write_bytes(name)
                expected.add(os.path.relpath(path, os.fsencode(root)))
    paths, skipped, contents = entries(root)
    assert {decode_path(path) for path in paths} == expected
    assert len(paths) == len(expected)
    assert not skipped
    for path, content in contents.items():
        assert content == os.path.basename(decode_path(path))


def test_a_pattern_takes_what_fits_relative_to_where_it_begins_to_vary(folder):
    paths, _, contents = entries(folder / "**" / "*.[pP][nN][gG]")
    assert paths == ["b.png", "sub/blank.png", "sub/cut.png", "sub/deep/c.PNG"]
    assert contents["b.png"] == (folder / "b.png").read_bytes()
    paths, skipped, _ = entries(folder / "sub" / "*")
    assert paths == ["blank.png", "cut.png"]
    assert skipped == {"deep": "folder"}


@pytest.mark.parametrize("pattern", ["***", "a**", "x/***", "a/**b/*.png"])
def test_two_stars_beside_other_characters_are_one_sentence(tmp_path, monkeypatch, pattern):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ScoringError, match=r"\*\* stands for folders; put it between two /"):
        score_here(pattern, tmp_path / "out.csv")


def test_a_source_without_a_name_is_not_the_working_folder(tmp_path):
    with pytest.raises(ScoringError, match="the source has no name; expected a folder"):
        score_here("", tmp_path / "out.csv")


def test_a_path_of_any_length_has_its_row(folder, tmp_path):
    longest = "x" * 65_000
    (tmp_path / "list.txt").write_text(f"{folder / 'b.png'}\n{longest}\n")
    score_here(tmp_path / "list.txt", tmp_path / "out.jsonl")
    assert [row.status for row in read_rows(tmp_path / "out.jsonl")] == ["ok", "error"]


def test_a_pattern_does_not_go_in_circles(folder):
    (folder / "sub" / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "sub" / "again").symlink_to(folder, target_is_directory=True)
    paths, _, _ = entries(folder / "**" / "*.png")
    assert paths == ["b.png", "sub/blank.png", "sub/cut.png"]


def test_a_folder_whose_name_looks_like_a_pattern_is_a_folder(tmp_path):
    (tmp_path / "[x]*").mkdir()
    (tmp_path / "[x]*" / "a").write_bytes(b"a")
    assert entries(tmp_path / "[x]*")[0] == ["a"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\0"])
def test_a_list_names_files_from_anywhere(folder, tmp_path, monkeypatch, end):
    monkeypatch.chdir(tmp_path)
    names = [b"pictures/b.png", os.fsencode(folder / "a.jpg"), b"none.png", b"pictures/b.png", b""]
    (tmp_path / "list.txt").write_bytes(end.join(names) + (b"" if end == b"\n" else end))
    summary = score_here("list.txt", tmp_path / "out.csv")
    rows = read_csv(tmp_path / "out.csv")
    assert list(rows) == sorted([str(folder / "a.jpg"), "none.png", "pictures/b.png"])
    assert rows["pictures/b.png"]["label"] == "1"
    assert rows["none.png"]["reason"] == "there is no such file"
    assert summary.files == 3


def test_names_with_line_ends_are_listed_with_nul(folder, tmp_path):
    (folder / "new\nline.png").write_bytes(DIGIT)
    (tmp_path / "list").write_bytes(os.fsencode(folder / "new\nline.png") + b"\0")
    score_here(tmp_path / "list", tmp_path / "out.jsonl")
    (row,) = read_rows(tmp_path / "out.jsonl")
    assert row.label == 5


def test_a_list_may_come_from_stdin(folder, tmp_path):
    command = [sys.executable, "-m", "nnpipe.cli", "score", "-", "--out", str(tmp_path / "out.csv")]
    text = f"{folder}/b.png\n{folder}/a.jpg\n"
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert list(read_csv(tmp_path / "out.csv")) == [f"{folder}/a.jpg", f"{folder}/b.png"]


def test_folders_in_a_list_are_named(folder, tmp_path):
    (tmp_path / "list").write_text(f"{folder}\n{folder}/b.png\n")
    summary = score_here(tmp_path / "list", tmp_path / "out.csv")
    assert (summary.files, summary.skipped) == (1, {"folder": 1})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_closed_folders_and_files_are_named(folder, tmp_path):
    (folder / "sub").chmod(0)
    (folder / "b.png").chmod(0)
    try:
        summary = score_here(folder, tmp_path / "out.csv")
    finally:
        (folder / "sub").chmod(0o755)
    assert "Permission denied" in read_csv(tmp_path / "out.csv")["b.png"]["reason"]
    assert summary.skipped_named == {"sub": "folder cannot be read (Permission denied)"}


def kinds():
    """Pictures of every kind: what is in them, and what is to come out."""
    digit = picture(3).convert("L")
    rgb = digit.convert("RGB")
    turned = Image.Exif()
    turned[0x0112] = 6
    return {
        "truncated.png": (DIGIT[:600], "error", "truncated"),
        "zero": (b"", "error", "empty"),
        "misnamed.txt": (encoded(rgb, "JPEG"), "ok", ""),
        "animated.gif": (
            encoded(digit.convert("P"), "GIF", save_all=True, append_images=[rgb.convert("P")]),
            "ok",
            "the first of",
        ),
        "deep.png": (
            encoded(Image.fromarray(np.asarray(digit, np.uint16) * 257), "PNG"),
            "ok",
            "",
        ),
        "cmyk.jpg": (encoded(rgb.convert("CMYK"), "JPEG"), "ok", ""),
        "palette.png": (encoded(rgb.quantize(8), "PNG"), "ok", ""),
        "clear.png": (encoded(transparent(digit), "PNG"), "ok", ""),
        "turned.jpg": (
            encoded(rgb.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=turned),
            "ok",
            "",
        ),
        "bomb.png": (bomb(), "error", "million pixels"),
        "text.png": (b"I am a picture", "error", "this is text, not a picture"),
        "one.bmp": (encoded(Image.new("L", (1, 1)), "BMP"), "rejected", "blank"),
    }


def transparent(image):
    alpha = Image.fromarray(255 - np.asarray(image))
    return Image.merge("LA", (Image.new("L", image.size), alpha))


def bomb():
    """A PNG of 60,000 × 60,000 pixels in a few bytes of header."""
    content = bytearray(encoded(Image.new("L", (1, 1)), "PNG"))
    content[16:24] = (60_000).to_bytes(4) * 2
    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4)
    return bytes(content)


def test_pictures_of_every_kind_have_their_own_row_and_reason(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, (content, _, _) in kinds().items():
        (folder / name).write_bytes(content)
    score_here(folder, tmp_path / "out.jsonl")
    rows = {row.path: row for row in read_rows(tmp_path / "out.jsonl")}
    for name, (_, status, reason) in kinds().items():
        assert rows[name].status == status, rows[name]
        assert reason in rows[name].reason, rows[name]
        if status == "ok":
            assert rows[name].label == 3, rows[name]


def test_a_source_that_does_not_exist_is_one_sentence(tmp_path):
    for source in ("none", "none/*.png", "s3nothing", "none.zip"):
        with pytest.raises(ScoringError):
            score_here(tmp_path / source, tmp_path / "out.csv")


@pytest.mark.slow
def test_a_picture_of_a_hundred_million_pixels_stays_within_the_memory(tmp_path, monkeypatch):
    """In a worker, whose memory is limited: 16 bits deep, transparent, and plain."""
    monkeypatch.setattr(Local, "seconds", 300)  # a busy machine may need more than 30
    folder = tmp_path / "in"
    folder.mkdir()
    for mode in ("L", "LA", "I;16"):
        large = Image.new(mode, (10_000, 10_000))
        buffer = io.BytesIO()
        large.save(buffer, "PNG", compress_level=1)
        (folder / f"{mode}.png").write_bytes(buffer.getvalue())
    score(str(folder), str(tmp_path / "out.jsonl"), workers=1)
    reasons = {row.path: row.reason for row in read_rows(tmp_path / "out.jsonl")}
    assert all("blank" in reason for reason in reasons.values()), reasons
