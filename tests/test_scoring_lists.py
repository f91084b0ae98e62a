"""Lists of paths: their encodings, and what is told apart from them."""

import io
import os
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nnpipe.errors import ScoringError
from nnpipe.scoring import decode_path
from nnpipe.scoring.sources import BLOCK, PathList, open_source

from .make_samples import SAMPLES, encoded
from .test_scoring import score_here


def listed(source):
    """The paths of a source, decoded and in order."""
    with open_source(str(source)) as found:
        return [decode_path(entry.path) for entry in found.entries(lambda path, why: None)]


def paths(content):
    return list(PathList("list", io.BytesIO(content)).paths())


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"]


def encode(text, encoding):
    """With a byte order mark, where one is usual."""
    return ("\ufeff" * (encoding == "utf-16-be") + text).encode(encoding, "surrogatepass")


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\0"])
def test_a_list_is_read_in_every_encoding_with_every_line_end(tmp_path, encoding, end):
    """PowerShell's ``>`` writes UTF-16 with CRLF."""
    names = ["pictures/a.png", "ä 中😀.png", "c.png"]
    (tmp_path / "list.txt").write_bytes(encode(end.join(names) + end, encoding))
    assert listed(tmp_path / "list.txt") == [name.encode() for name in names]


@given(
    st.lists(st.text(st.characters(exclude_characters="\0\r\n", exclude_categories=["Cc"]))),
    st.sampled_from(["utf-16", "utf-16-be"]),
)
def test_whatever_stands_in_a_list_with_a_mark_comes_back(names, encoding):
    """Half a surrogate pair, too, as a name on Windows may have it."""
    names = ["first", *filter(None, names)]
    expected = [name.encode("utf-8", "surrogatepass") for name in names]
    assert paths(encode("\n".join(names), encoding)) == expected


def test_paths_that_cross_blocks_are_whole():
    names = [f"{n:07}/ä.png" for n in range(BLOCK // 8)]
    for encoding in ENCODINGS:
        assert paths(encode("\n".join(names), encoding)) == [name.encode() for name in names]


def test_bytes_that_are_no_utf8_are_paths_too(tmp_path):
    (tmp_path / "list").write_bytes(b"caf\xe9.png\n\xed\xa0\x80.png\n")
    assert listed(tmp_path / "list") == [b"caf\xe9.png", b"\xed\xa0\x80.png"]


def test_odd_names_may_be_ended_by_nul(tmp_path):
    odd = os.fsencode(tmp_path / "\x01\n\x1b.png")
    with open(odd, "wb"):
        pass
    (tmp_path / "list").write_bytes(odd + b"\0other\x02\0")
    assert listed(tmp_path / "list") == [odd, b"other\x02"]


WHITE = Image.new("L", (300, 300), 255)
NO_LISTS = {
    "PNG": encoded(WHITE, "PNG"),
    "JPEG": (SAMPLES / "6-photo.jpg").read_bytes(),
    "TIFF": encoded(WHITE, "TIFF"),
    "BMP": encoded(WHITE, "BMP"),
    "WebP": encoded(WHITE, "WEBP"),
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic\n\0\n\0" * 50,
    "PDF": b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog >>\nendobj\n",
    "SVG": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>\n',
    "HTML": b"<!doctype html>\n<html>\n",
    "an archive": b"\x1f\x8b\x08\x00" * 9,
    "nothing but zeros": bytes(3 * BLOCK),
    "it is no text": bytes(range(256)) * 9,
    "UTF-16 without": "pictures/a.png\r\n".encode("utf-16-le"),
    "begins as UTF-16": b"\xff\xfea",
    "no text with lines": b"x" * (2 * BLOCK),
}


@pytest.mark.parametrize("kind", NO_LISTS)
def test_what_is_no_list_is_named(kind):
    """No picture, PDF or other file becomes rows of rubbish."""
    with pytest.raises(ScoringError, match="list: is no list of paths") as raised:
        PathList("list", io.BytesIO(NO_LISTS[kind]))
    assert kind in str(raised.value)
    assert str(raised.value).isprintable()


def test_a_text_that_goes_on_as_something_else_is_refused():
    with pytest.raises(ScoringError, match="it is no text"):
        PathList("list", io.BytesIO(b"a.png\n" * BLOCK + b"\0"))


def stdin(monkeypatch, stream):
    monkeypatch.setattr(sys, "stdin", stream and SimpleNamespace(buffer=stream))


def test_stdin_is_read_once(monkeypatch):
    stdin(monkeypatch, io.BufferedReader(io.BytesIO(encode("ä\r\nb\r\n", "utf-16"))))
    assert listed("-") == ["ä".encode(), b"b"]


class Endless(io.RawIOBase):
    def read(self, size=-1):
        assert size > 0
        return bytes(size)


def test_an_endless_device_on_stdin_is_refused_at_once(monkeypatch):
    stdin(monkeypatch, Endless())
    with pytest.raises(ScoringError, match=r"stdin: .*nothing but zeros"):
        listed("-")


def test_stdin_that_is_closed_is_one_sentence(monkeypatch):
    stdin(monkeypatch, None)
    with pytest.raises(ScoringError, match="stdin: is closed; expected a list of paths"):
        listed("-")


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\r\n", b"\xef\xbb\xbf", b"\xff\xfe", b"\0"])
def test_an_empty_list_is_one_sentence(tmp_path, content):
    (tmp_path / "list").write_bytes(content)
    with pytest.raises(ScoringError, match="list: is an empty list; expected one path per line"):
        listed(tmp_path / "list")


def test_pipes_and_devices_are_one_sentence(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for source in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ScoringError, match=r"is a pipe, a socket or a device; .* give - and"):
            listed(source)


@pytest.mark.parametrize("source", ["a\0b", "none/\x85", "/dev/null/x"])
def test_a_name_that_cannot_be_is_one_sentence(tmp_path, source):
    with pytest.raises(ScoringError, match="cannot be listed") as raised:
        listed(tmp_path / source)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("name", ["x\x1b[31m", "x\u202e*", "\x9b2J.png"])
def test_no_escape_sequence_of_a_name_reaches_a_terminal(tmp_path, name):
    with pytest.raises(ScoringError) as raised:
        score_here(tmp_path / name, tmp_path / "out.csv")
    assert str(raised.value).isprintable()
