"""Places and how they fail; names and messages that are safe to print."""

from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from nnpipe import files
from nnpipe.errors import OutputError, ScoringError
from nnpipe.places import RemotePath, in_one_line, place, printable, printable_name


@pytest.fixture
def remote():
    """A folder in an empty memory, which takes the place of a server."""
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    yield place("memory://bucket/out")
    MemoryFileSystem.store.clear()


def test_a_path_and_a_file_url_are_places_of_this_machine():
    assert place("a/b") == Path("a/b")
    assert place("file:///a/b") == Path("/a/b")


def test_a_remote_place_has_names_as_a_path_has(remote):
    table = remote / "scores.csv"
    assert str(table) == "memory://bucket/out/scores.csv"
    assert (table.name, table.suffix) == ("scores.csv", ".csv")
    assert str(table.with_name("x")) == "memory://bucket/out/x"
    assert RemotePath("s3://bucket", None, "bucket").name == ""


def test_a_remote_file_is_written_read_listed_and_removed(remote):
    for name in ("a.txt", "b.txt"):
        with files.replacing(remote / name) as stream:
            stream.write(b"0123456789")
    assert files.read_range(remote / "b.txt", 2, end=5) == b"234"
    assert files.size_of(remote / "b.txt") == 10
    assert sorted(path.name for path in remote.iterdir()) == ["a.txt", "b.txt"]
    (remote / "a.txt").unlink()
    (remote / "a.txt").unlink(missing_ok=True)
    assert not (remote / "a.txt").exists()
    files.remove_files(remote, lambda path: path == "b.txt")
    assert not remote.exists()


def test_a_remote_file_that_is_missing_is_missing_and_no_fault_of_the_server(remote):
    with pytest.raises(FileNotFoundError), files.open_regular(remote / "none"):
        pass
    with pytest.raises(FileNotFoundError):
        files.read_range(remote / "none", 0, end=1)


@pytest.mark.parametrize("error", [ValueError("\nodd"), PermissionError("odd"), OSError("odd")])
def test_whatever_a_file_system_raises_becomes_one_sentence(remote, monkeypatch, error):
    """Its packages have errors of their own."""

    def fail(*anything, **options):
        raise error

    for name in ("exists", "isdir", "ls", "_open", "cat_file", "put_file", "rm"):
        monkeypatch.setattr(MemoryFileSystem, name, fail)
    file = remote / "a.csv"
    reads = [
        file.exists,
        file.is_dir,
        lambda: list(remote.iterdir()),
        lambda: files.size_of(file),
        lambda: files.read_range(file, 0, end=1),
    ]
    for read in reads:
        with pytest.raises(ScoringError, match=r"^memory://bucket/out.*: cannot be accessed \(odd"):
            read()
    for write in (lambda: file.put(Path(__file__)), file.unlink):
        with pytest.raises(OutputError, match=r"a\.csv: could not be written \(odd\); name anoth"):
            write()


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
