import json
import os
import re
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from nnpipe import records
from nnpipe.epochs import Epoch
from nnpipe.errors import TrainingError
from nnpipe.runs import RECORD, Record, read_record, remove_checkpoints, write_record

from .damage import DAMAGE


@dataclass(frozen=True)
class Inner:
    share: float


@dataclass(frozen=True)
class Outer:
    text: str
    number: int
    yes: bool
    place: Path
    sizes: tuple[int, ...]
    parts: list[Inner]
    named: dict[str, float | None]
    anything: dict[str, Any] | None = None


WHOLE = {
    "text": "ü ×",
    "number": 3,
    "yes": True,
    "place": "a/\x1b\udc80",
    "sizes": [784, 10],
    "parts": [{"share": 0.5}, {"share": 1}],
    "named": {"a": None, "b": 2.5},
    "anything": {"a": [1, "x", None, {"b": False}]},
}


def test_a_document_becomes_the_dataclass_that_it_was_written_from():
    record = records.build(Outer, records.parse(json.dumps(WHOLE)))
    assert record.parts == [Inner(0.5), Inner(1)]
    assert record.place == Path("a/\x1b\udc80")
    assert record.sizes == (784, 10)
    assert json.loads(json.dumps(asdict(record), default=str)) == WHOLE
    assert records.build(Outer, {k: v for k, v in WHOLE.items() if k != "anything"})


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("text", 1, "text is 1, expected str"),
        ("text", None, "text is None, expected str"),
        ("text", "a\ud800", "expected str"),
        ("text", "a\x1b[2J", "expected str"),
        ("text", "a\x85", "expected str"),
        ("text", "a\u2028", "expected str"),
        ("text", "a" * 10_001, "expected str"),
        ("number", True, "number is True, expected int"),
        ("number", 1.0, "number is 1.0, expected int"),
        ("number", 2**63, "expected int"),
        ("yes", 1, "yes is 1, expected bool"),
        ("place", "a\0", "expected Path"),
        ("sizes", [1, "2"], "sizes is '2', expected int"),
        ("sizes", {"a": 1}, r"sizes is {'a': 1}, expected tuple"),
        ("parts", [{"share": float("inf")}], "share is inf, expected float"),
        ("parts", [{"share": float("nan")}], "share is nan, expected float"),
        ("parts", [{"share": 10**400}], "expected float"),
        ("parts", [{}], "parts lacks share"),
        ("parts", [{"share": 1, "more": 2}], "parts has the unknown field 'more'"),
        ("parts", [[]], "expected Inner"),
        ("named", {"a\x00": 1}, "a key of named is"),
        ("named", {"a": "b"}, "named is 'b', expected float"),
        ("anything", {"a": float("nan")}, "anything is nan"),
        ("anything", {"a": ["\ud800"]}, "expected str"),
        ("anything", 7, r"anything is 7, expected dict"),
    ],
)
def test_a_part_that_is_wrong_is_an_error_that_names_it(field, value, words):
    with pytest.raises(ValueError, match=words):
        records.build(Outer, WHOLE | {field: value})


def test_the_depth_of_a_document_is_bounded():
    deep = 1
    for _ in range(200):
        deep = [deep]
    with pytest.raises(ValueError, match="nested too deep"):
        records.build(Outer, WHOLE | {"anything": {"a": deep}})
    with pytest.raises(ValueError, match="nested too deep"):
        records.parse("[" * 100_000)
    for text in ("NaN", "-Infinity", "[Infinity]"):
        with pytest.raises(ValueError, match="is not JSON"):
            records.parse(text)


def test_only_a_file_of_bounded_size_is_read_and_a_pipe_is_never_waited_for(tmp_path):
    (tmp_path / "file").write_bytes(b"1234")
    assert records.read_bytes(tmp_path / "file", 4) == b"1234"
    with pytest.raises(OSError, match="has more than 3 bytes"):
        records.read_bytes(tmp_path / "file", 3)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    for name in ("pipe", "loop", "socket", "folder", "none", "/dev/zero"):
        with pytest.raises(OSError, match=re.escape(name)) as caught:
            records.read_bytes(tmp_path / name)
        assert caught.value.filename


@pytest.fixture
def run(tmp_path):
    """The folder of a finished run."""
    history = [Epoch(1, 1, 0.1, 0.1, 0.99, 1.0)]
    record = Record("numpy", "sgd", 0, {"lr": 0.1}, "drawn", "0", "2026", None, 1.0, history)
    write_record(tmp_path, record)
    assert read_record(tmp_path) == record
    return tmp_path


@pytest.mark.parametrize("how", DAMAGE)
def test_a_record_that_is_damaged_is_one_sentence(run, how):
    DAMAGE[how](run / RECORD)
    with pytest.raises(TrainingError, match="cannot be understood") as caught:
        read_record(run)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "change",
    [
        {"engine": "jax"},
        {"seed": "0"},
        {"history": []},
        {"history": [{"number": 1}]},
        {"recipe": "\x1b[2J"},
        {"created": 7},
        {"parameters": {"lr": "\ud800"}},
        {"seconds": None},
        {"dataset_checksum": 0},
    ],
)
def test_a_record_with_a_wrong_field_is_one_sentence(run, change):
    fields = json.loads((run / RECORD).read_text()) | change
    (run / RECORD).write_text(json.dumps(fields))
    with pytest.raises(TrainingError, match="cannot be understood") as caught:
        read_record(run)
    assert str(caught.value).isprintable()


def test_only_the_checkpoints_of_nnpipe_are_removed(tmp_path):
    """By name: what else begins with "checkpoint" is the user's, and so is where a link leads."""
    for name in ("checkpoint.pth", "checkpoint-teacher-2.pth", "checkpoint-mine.pth"):
        (tmp_path / name).touch()
    (tmp_path / "checkpoint-teacher-1.pth").symlink_to("checkpoint-mine.pth")
    (tmp_path / "checkpoint-teacher-3.pth").mkdir()
    remove_checkpoints(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"checkpoint-mine.pth", "checkpoint-teacher-3.pth"}
