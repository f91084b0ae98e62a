import pytest

from nnpipe.places import in_one_line, printable, printable_name


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31m", r"a\x1b[31m"),
        ("\x9b31m", r"\x9b31m"),
        ("a\x00\x07\x7f", r"a\x00\x07\x7f"),
        ("a\udcff\ud800", r"a\udcff\ud800"),
        ("gnp.\u202e3", r"gnp.\u202e3"),
        ("Größe 12 µm, 数字", "Größe 12 µm, 数字"),
    ],
)
def test_what_a_terminal_would_obey_becomes_an_escape(text, shown):
    assert printable(text) == in_one_line(text) == in_one_line(ValueError(text)) == shown


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n  ", "\x0b"])
def test_a_message_of_several_lines_becomes_one(end):
    assert in_one_line(f"a{end}b\n") == "a b"


@pytest.mark.parametrize("end", ["\x85", "\u2028", "\u2029", "\x1c"])
def test_an_odd_end_of_a_line_becomes_an_escape(end):
    """A name may hold it, and a message must give names as they are."""
    assert in_one_line(f"a{end}b") == printable(f"a{end}b") == f"a{ascii(end)[1:-1]}b"


def test_a_name_is_one_line():
    assert printable_name("3.png: 8\n4\x1b") == r"3.png: 8\n4\x1b"


def test_an_error_without_words_is_named_by_its_type():
    assert in_one_line(KeyError()) == "KeyError"
